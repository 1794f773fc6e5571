//! What no server could do cheaper, measured beside the node in one run: hashes and a synced write for a PUT, nginx with the same bytes as
//! static files for a GET, and a signed request that asks for nothing.

use crate::client::{Connection, Request};
use crate::error::Error;
use crate::load::worker::plain;
use crate::load::{self, difference};
use crate::nginx::Nginx;
use crate::node::{Node, Target};
use crate::options::Options;
use crate::{report, tree};
use md5::{Digest, Md5};
use nix::time::{ClockId, clock_gettime};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Names, bytes and repetitions; the names are those of the usual report.
const SIZES: [(&str, usize, usize); 4] = [
    ("4KiB", 4 << 10, 4000),
    ("64KiB", 64 << 10, 2000),
    ("1MiB", 1 << 20, 300),
    ("16MiB", 16 << 20, 24),
];
/// Signed requests for nothing.
const EMPTY: usize = 8000;

/// The usual measurements, then the floors.
pub(crate) fn run(options: &Options, node: &Node) -> Result<String, Error> {
    let measured = load::run(options, node.target(), node.root_pid())?;
    let mut out = report::markdown(options, &measured);
    let directory = options
        .data
        .join(format!("trousseau-floors-{}", std::process::id()));
    fs::create_dir_all(&directory).map_err(Error::world(directory.display().to_string()))?;
    let floors = floors(options, node, &directory);
    fs::remove_dir_all(&directory).map_err(Error::world(directory.display().to_string()))?;
    let _ = write!(out, "\n| floor | CPU µs |\n|---|---:|\n");
    for (name, cpu_us) in floors? {
        let _ = writeln!(out, "| {name} | {cpu_us:.0} |");
    }
    Ok(out)
}

fn floors(options: &Options, node: &Node, directory: &Path) -> Result<Vec<(String, f64)>, Error> {
    let mut rows = Vec::new();
    for (name, bytes, count) in SIZES {
        rows.push((
            format!("put {name}: MD5, BLAKE3, one synced write"),
            put(directory, bytes, count / 4)?,
        ));
    }
    for (name, bytes, _) in SIZES {
        fs::write(directory.join(name), vec![0x5a; bytes]).map_err(Error::world(name))?;
    }
    if let Some(nginx) = Nginx::start(directory)? {
        for (name, _, count) in SIZES {
            let path = format!("/{name}");
            let cpu_us = cpu_of(
                nginx.target(),
                nginx.pid(),
                options.connections,
                count,
                &plain("GET", &path, ""),
            )?;
            rows.push((format!("get {name}: nginx"), cpu_us));
        }
    }
    let Some(root) = node.root_pid() else {
        return Ok(rows);
    };
    let mut control = Connection::open(node.target())?;
    control.expect(&plain("PUT", "/floors", ""), &[200])?;
    let empty = plain("HEAD", "/floors", "");
    rows.push((
        "a signed request for nothing (HeadBucket)".to_owned(),
        cpu_of(node.target(), root, options.connections, EMPTY, &empty)?,
    ));
    control.expect(&plain("DELETE", "/floors", ""), &[204])?;
    Ok(rows)
}

/// CPU time of this thread for one PUT's hashes and its way to the disk.
fn put(directory: &Path, bytes: usize, count: usize) -> Result<f64, Error> {
    let mut data = vec![0x5a; bytes];
    let path = directory.join("object");
    let mut used = Duration::ZERO;
    for number in 0..count {
        if let Some(first) = data.first_chunk_mut() {
            *first = number.to_le_bytes();
        }
        let before = thread_cpu();
        black_box(Md5::digest(&data));
        black_box(blake3::keyed_hash(&[1; 32], &data));
        let mut file = File::create(&path).map_err(Error::world("a file"))?;
        file.write_all(&data).map_err(Error::world("a file"))?;
        file.sync_data().map_err(Error::world("a file"))?;
        used += thread_cpu().saturating_sub(before);
        drop(file);
        fs::remove_file(&path).map_err(Error::world("a file"))?;
    }
    Ok(used.as_secs_f64() * 1e6 / float(count))
}

fn thread_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// CPU time of the processes below `root` for one of `count` equal requests on several connections.
fn cpu_of(
    target: &Target,
    root: i32,
    connections: usize,
    count: usize,
    request: &Request<'_>,
) -> Result<f64, Error> {
    let next = AtomicUsize::new(0);
    let before = tree::usage(root);
    std::thread::scope(|scope| {
        let work = || -> Result<(), Error> {
            let mut connection = Connection::open(target)?;
            while next.fetch_add(1, Ordering::Relaxed) < count {
                connection.expect(request, &[200])?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            let ended = thread.join();
            ended.map_err(|_| Error::Answer("a thread of the client panicked".to_owned()))??;
        }
        Ok::<(), Error>(())
    })?;
    let cpu_us: f64 = difference(&before, &tree::usage(root)).1.values().sum();
    Ok(cpu_us / float(count))
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn float(count: usize) -> f64 {
    count as f64
}
