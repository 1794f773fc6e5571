//! What metadata costs: CPU per operation through the whole service over a socket pair, memory, and the time of a restart.
//!
//! `cargo run --release -p metadata --example cost [DIRECTORY]`; the directory (a temporary one if none is given) should be on a real disk.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a measurement"
)]

#[path = "../tests/harness/mod.rs"]
mod harness;

use harness::{Client, Home};
use protocol::block::HashKey;
use protocol::metadata::{
    Attributes, BucketId, Change, Content, EventKind, NewObject, Operation, Precondition, Reply,
};
use std::time::Instant;

/// Microseconds of CPU of every thread but this one (the caller).
fn service_cpu_us() -> f64 {
    let own = std::fs::read_link("/proc/thread-self").unwrap();
    let own = own.file_name().unwrap().to_owned();
    let threads = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|thread| thread.unwrap());
    threads
        .filter(|thread| thread.file_name() != own)
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("schedstat")).ok())
        .map(|text| text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1_000.0)
        .sum()
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let wanted = ["VmRSS", "RssAnon", "Threads"];
    let lines = status
        .lines()
        .filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    lines
        .map(|line| line.replace(['\t', ' '], ""))
        .collect::<Vec<_>>()
        .join(" ")
}

fn put(bucket: BucketId, number: usize, size: usize) -> Change {
    let object = NewObject {
        size: size as u64,
        etag: "d41d8cd98f00b204e9800998ecf8427e".into(),
        headers: vec![("content-type".into(), "application/octet-stream".into())],
        checksum: None,
        attributes: Attributes::default(),
        encryption: None,
        content: Content::Inline(vec![number as u8; size]),
    };
    let (key, precondition) = (key(number), Precondition::None);
    Change::PutObject {
        bucket,
        key,
        object,
        precondition,
        copied: false,
        event: EventKind::Put,
    }
}

fn key(number: usize) -> String {
    format!("folder/{:03}/object-{number:08}", number % 100)
}

/// Runs `count` operations with `depth` under way, and prints what one costs.
fn measure<O: Into<Operation>>(
    client: &mut Client,
    name: &str,
    count: usize,
    depth: usize,
    operation: impl Fn(usize) -> O,
) {
    let (start, cpu) = (Instant::now(), service_cpu_us());
    for number in 0..count + depth {
        if number >= depth {
            client.receive().1.result.unwrap();
        }
        if number < count {
            client.send(0, operation(number));
        }
    }
    let (wall, cpu) = (
        start.elapsed() / count as u32,
        (service_cpu_us() - cpu) / count as f64,
    );
    println!(
        "{name:32} depth {depth:3}: {cpu:7.1} us CPU, {wall:10.1?} each; {}",
        memory()
    );
}

fn main() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = std::env::args()
        .nth(1)
        .map_or(temporary.path().to_owned(), Into::into);
    println!("before: {}", memory());
    let start = Instant::now();
    let home = Home::start(&directory);
    println!("first start {:?}; empty: {}", start.elapsed(), memory());
    let mut client = home.connect();
    let (name, owner, hash_key) = ("home".into(), String::new(), HashKey([0; 32]));
    let create = Operation::CreateBucket {
        name,
        owner,
        hash_key,
        locked: false,
    };
    let Reply::Bucket(bucket) = client.call(create).unwrap() else {
        panic!("no bucket")
    };
    let bucket = bucket.id;
    let get = |number| Operation::GetObject {
        bucket,
        key: key(number),
        version: None,
    };
    let list = |_| Operation::ListObjects {
        bucket,
        prefix: String::new(),
        delimiter: String::new(),
        after: None,
        limit: 1_000,
    };
    for depth in [1, 16] {
        measure(&mut client, "put of 100 B", 5_000, depth, |number| {
            put(bucket, number, 100)
        });
        measure(&mut client, "put of 4 KiB", 5_000, depth, |number| {
            put(bucket, number, 4_096)
        });
        measure(&mut client, "get of 4 KiB", 5_000, depth, get);
        measure(&mut client, "list of 1000", 100, depth, list);
    }
    measure(
        &mut client,
        "put of 100 B to 100,000 objects",
        100_000,
        64,
        |n| put(bucket, n, 100),
    );
    measure(&mut client, "get of 100 B", 20_000, 16, |number| {
        get(number * 4)
    });
    measure(&mut client, "list of 1000", 100, 1, list);
    measure(&mut client, "put of 4 KiB", 20_000, 16, |number| {
        put(bucket, number, 4_096)
    });
    let cpu = service_cpu_us();
    std::thread::sleep(std::time::Duration::from_secs(10));
    println!("idle: {:.3} % of a core", (service_cpu_us() - cpu) / 1e5);
    home.stop();
    let start = Instant::now();
    let home = Home::start(&directory);
    println!(
        "restart with 100,000 objects {:?}; {}",
        start.elapsed(),
        memory()
    );
    let mut client = home.connect();
    measure(&mut client, "get of 4 KiB, cold", 5_000, 1, get);
    home.stop();
}
