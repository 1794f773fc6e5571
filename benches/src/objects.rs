//! Many small objects in one bucket: what each costs, how fast they are listed, and what grows with their number.

use crate::client::Connection;
use crate::error::Error;
use crate::load::difference;
use crate::load::worker::plain;
use crate::node::{Node, Target};
use crate::options::Options;
use crate::tree;
use std::fmt::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Bytes of one object.
const BYTES: usize = 128;
/// Keys in a page of a listing.
const PAGE: usize = 1000;
/// Time for what the puts left to do before memory is read.
const REST: Duration = Duration::from_secs(3);
const BUCKET: &str = "many-objects";

/// What was found at one number of objects.
struct Row {
    objects: usize,
    put_per_s: f64,
    put_cpu_us: f64,
    list_keys_per_s: f64,
    list_cpu_us: f64,
    metadata_pss: u64,
    node_pss: u64,
    disk_bytes: u64,
    start: Duration,
    idle_pss: u64,
}

/// Puts a tenth of `count` objects, measures, puts the others, measures again.
pub(crate) fn run(options: &Options, node: &mut Node, count: usize) -> Result<String, Error> {
    let mut control = Connection::open(node.target())?;
    control.expect(&plain("PUT", &format!("/{BUCKET}"), ""), &[200])?;
    drop(control);
    let mut rows = Vec::new();
    let mut there = 0;
    for objects in [count / 10, count] {
        rows.push(step(options, node, there, objects)?);
        there = objects;
    }
    Ok(table(options, &rows))
}

fn step(options: &Options, node: &mut Node, from: usize, to: usize) -> Result<Row, Error> {
    let root = node.root_pid().unwrap_or(0);
    let target = node.target().clone();
    let cpu_us = |before: &_| -> f64 { difference(before, &tree::usage(root)).1.values().sum() };
    let before = tree::usage(root);
    let begin = Instant::now();
    put(&target, options.connections, from, to)?;
    let elapsed = begin.elapsed();
    std::thread::sleep(REST);
    // The merges that the puts caused are theirs.
    let put_cpu_us = cpu_us(&before) / float(to - from);
    let put_per_s = float(to - from) / elapsed.as_secs_f64();
    let memory = tree::memory(root);
    let pss = |name: &str| {
        let of_name = memory
            .iter()
            .filter(|one| name.is_empty() || one.name == name);
        of_name.map(|one| one.pss_bytes).sum()
    };
    let before = tree::usage(root);
    let begin = Instant::now();
    list(&target, to)?;
    let elapsed = begin.elapsed();
    let list_cpu_us = cpu_us(&before) / float(to) * float(PAGE);
    let start = node.restart()?;
    std::thread::sleep(REST);
    let again = tree::memory(node.root_pid().unwrap_or(0));
    Ok(Row {
        objects: to,
        put_per_s,
        put_cpu_us,
        list_keys_per_s: float(to) / elapsed.as_secs_f64(),
        list_cpu_us,
        metadata_pss: pss("metadata"),
        node_pss: pss(""),
        disk_bytes: node.data().map_or(0, |data| bytes_below(&data)),
        start,
        idle_pss: again.iter().map(|one| one.pss_bytes).sum(),
    })
}

/// Puts the objects `from` to `to`, in no order of their keys.
fn put(target: &Target, connections: usize, from: usize, to: usize) -> Result<(), Error> {
    let next = AtomicUsize::new(from);
    std::thread::scope(|scope| {
        let work = || -> Result<(), Error> {
            let mut connection = Connection::open(target)?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= to {
                    return Ok(());
                }
                let name = scattered(number);
                let path = format!("/{BUCKET}/{name:016x}");
                let body = name.to_le_bytes().repeat(BYTES / 8);
                let request = crate::client::Request {
                    body: &body,
                    ..plain("PUT", &path, "")
                };
                connection.expect(&request, &[200])?;
            }
        };
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            let ended = thread.join();
            ended.map_err(|_| Error::Answer("a thread of the client panicked".to_owned()))??;
        }
        Ok(())
    })
}

/// Lists the whole bucket on one connection, page after page, and counts the keys.
fn list(target: &Target, expected: usize) -> Result<(), Error> {
    let mut connection = Connection::open(target)?;
    let path = format!("/{BUCKET}");
    let (mut keys, mut token) = (0, None::<String>);
    loop {
        let mut query = format!("list-type=2&max-keys={PAGE}");
        if let Some(token) = &token {
            let _ = write!(
                query,
                "&continuation-token={}",
                s3_wire::query::encode(token)
            );
        }
        connection.expect(&plain("GET", &path, &query), &[200])?;
        let text = String::from_utf8_lossy(connection.body());
        keys += text.matches("<Contents>").count();
        token = between(&text, "<NextContinuationToken>", "</NextContinuationToken>");
        if token.is_none() {
            break;
        }
    }
    match keys == expected {
        true => Ok(()),
        false => Err(Error::Answer(format!("{keys} keys listed of {expected}"))),
    }
}

fn between(text: &str, begin: &str, end: &str) -> Option<String> {
    let (_, rest) = text.split_once(begin)?;
    Some(rest.split_once(end)?.0.to_owned())
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a permutation, so that no key comes twice.
fn scattered(number: usize) -> u64 {
    let mut mixed = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What the files below a directory take on the disk.
fn bytes_below(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => bytes_below(&entry.path()),
            Ok(found) => found.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn float(count: usize) -> f64 {
    count as f64
}

#[allow(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

fn table(options: &Options, rows: &[Row]) -> String {
    let mut out = format!(
        "Objects of {BYTES} bytes in one bucket, put in no order on {} connections, listed in pages of {PAGE} on one.\n\n\
         | objects | puts per s | CPU µs per put | keys listed per s | CPU µs per {PAGE} keys | PSS of metadata, MiB | PSS of the node | disk, MiB | start, ms | PSS after the start |\n\
         |---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        options.connections
    );
    for row in rows {
        let _ = writeln!(
            out,
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} | {:.0} | {} | {:.1} |",
            row.objects,
            row.put_per_s,
            row.put_cpu_us,
            row.list_keys_per_s,
            row.list_cpu_us,
            mib(row.metadata_pss),
            mib(row.node_pss),
            mib(row.disk_bytes),
            row.start.as_millis(),
            mib(row.idle_pss),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_scattered_and_none_comes_twice() {
        let mut keys: Vec<u64> = (0..10_000).map(scattered).collect();
        assert!(!keys.is_sorted());
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 10_000);
    }

    #[test]
    fn a_token_is_found_between_its_tags() {
        assert_eq!(between("a<T>kx</T>b", "<T>", "</T>"), Some("kx".to_owned()));
        assert_eq!(between("a<T>kx", "<T>", "</T>"), None);
    }
}
