//! What one call costs the store: CPU and latency, over a socket pair, on the disk under the given directory.
//!
//! `cargo run --release -p block-store --example cost -- DIRECTORY [SECONDS]`, as root: the store's process is given the
//! directory as its root.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measuring program prints, and may fail by panicking"
)]

use protocol::Channel;
use protocol::block::{BlockAnswer, BlockCall, BlockId, BlockRef, Blocks, HashKey};
use protocol::bus::{Accept, Door, Origin};
use protocol::start::{Order, Packed, Start};
use protocol::wire::Conversation;
use runtime::{Client, Given};
use rustix::net::SendFlags;
use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::time::Instant;

const KEY: HashKey = HashKey([1; 32]);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().unwrap_or_else(|| ".".into());
    if directory == "--serve" {
        return serve(&arguments.next().unwrap());
    }
    let seconds: f64 = arguments.next().map_or(3.0, |text| text.parse().unwrap());
    let home = tempfile::tempdir_in(directory).unwrap();
    let (door, door_of_store) = Channel::pair().unwrap();
    let (supervisor, start) = Channel::pair().unwrap();
    let packed = Order::Packed(Packed {
        service: "block-store".into(),
        grants: vec!["door".into()],
        settings: vec![],
    });
    supervisor
        .send_message::<Start>(&packed, &[door_of_store.as_fd()], SendFlags::empty())
        .unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("--serve")
        .arg(home.path())
        .stdin(start.into_socket())
        .spawn()
        .unwrap();
    let store = Process(child.id());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        call(&connect(&door), BlockCall::Usage).await;
        println!("idle: {}", store.resident());
        measure(&door, &store, seconds).await;
        println!("afterwards: {}", store.resident());
    });
    supervisor
        .send_message::<Start>(&Order::Stop, &[], SendFlags::empty())
        .unwrap();
    assert!(child.wait().unwrap().success());
}

/// The store as a process of its own, with the directory as its root; its start channel is descriptor 0.
fn serve(directory: &str) {
    let start = rustix::stdio::stdin().try_clone_to_owned().unwrap();
    std::os::unix::fs::chroot(directory).unwrap();
    block_store::run(Given::over(Channel::from(start)).unwrap()).unwrap();
}

/// The store's process, as proc(5) shows it.
struct Process(u32);

impl Process {
    /// User and system time of all its threads.
    fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    fn resident(&self) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap();
        let wanted = |line: &&str| line.starts_with("VmRSS") || line.starts_with("RssAnon");
        status.lines().filter(wanted).collect::<Vec<_>>().join(", ")
    }
}

async fn measure(door: &Channel, process: &Process, seconds: f64) {
    let client = connect(door);
    for concurrency in [1, 16, 64] {
        let work = async |n: u64| {
            store(&client, n, 16 * 1024).await;
        };
        report(process, "Store of 16 KiB", concurrency, seconds, work).await;
    }
    let block = store(&client, 0, 16 * 1024).await;
    for concurrency in [1, 16] {
        let work = async |_| drop(call(&client, BlockCall::Open { block, next: None }).await);
        report(process, "Open of 16 KiB", concurrency, seconds, work).await;
    }
    for concurrency in [1, 4, 16] {
        let work = async |n: u64| {
            file(&client, n, 1 << 20).await;
        };
        report(
            process,
            "Create + Commit of 1 MiB",
            concurrency,
            seconds,
            work,
        )
        .await;
    }
    let block = file(&client, 0, 1 << 20).await;
    for concurrency in [1, 16] {
        let work = async |_| drop(call(&client, BlockCall::Open { block, next: None }).await);
        report(process, "Open of 1 MiB, again", concurrency, seconds, work).await;
    }
    let mut fresh = Vec::new();
    for n in 0..100 {
        fresh.push(file(&client, 1 << 40 | n, 1 << 20).await);
    }
    let next = Cell::new(0);
    let work = async |_| {
        let block = fresh[next.replace((next.get() + 1) % fresh.len())];
        call(&client, BlockCall::Open { block, next: None }).await;
    };
    report(
        process,
        "Open of 1 MiB, first touch (as long as there are fresh ones)",
        1,
        0.05,
        work,
    )
    .await;
}

/// Runs `work` with so many at a time; prints what one costs the store.
async fn report(
    process: &Process,
    what: &str,
    concurrency: u32,
    seconds: f64,
    work: impl AsyncFn(u64),
) {
    let (began, cpu_before) = (Instant::now(), process.cpu_seconds());
    let count = Cell::new(0_u64);
    let workers = (0..concurrency).map(|_| async {
        while began.elapsed().as_secs_f64() < seconds {
            count.set(count.get() + 1);
            work(count.get()).await;
        }
    });
    futures_util::future::join_all(workers).await;
    let micros = |seconds: f64| seconds * 1e6 / count.get() as f64;
    println!(
        "{what}, {concurrency} at a time: {:.0}/s, {:.1} µs CPU each, {:.0} µs from call to answer",
        count.get() as f64 / began.elapsed().as_secs_f64(),
        micros(process.cpu_seconds() - cpu_before),
        micros(began.elapsed().as_secs_f64()) * f64::from(concurrency),
    );
}

fn connect(door: &Channel) -> Client<Blocks> {
    let (ours, theirs) = Channel::pair().unwrap();
    let accept = Accept {
        client: "cost".into(),
        conversation: Blocks::NAME.into(),
        origin: Origin::Here,
    };
    door.send_message::<Door>(&accept, &[theirs.as_fd()], SendFlags::empty())
        .unwrap();
    Client::new(ours).unwrap()
}

async fn call(client: &Client<Blocks>, call: BlockCall) -> (BlockAnswer, Vec<OwnedFd>) {
    let (answer, descriptors) = client.call(&call, &[]).await.unwrap();
    (answer.unwrap(), descriptors)
}

fn bytes_of(n: u64, length: usize) -> (Vec<u8>, BlockId) {
    let mut bytes = vec![0; length];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    let id = BlockId(*blake3::keyed_hash(&KEY.0, &bytes).as_bytes());
    (bytes, id)
}

async fn unpin(client: &Client<Blocks>, block: BlockRef) -> BlockRef {
    let blocks = vec![block];
    call(client, BlockCall::Unpin { blocks }).await;
    block
}

async fn store(client: &Client<Blocks>, n: u64, length: usize) -> BlockRef {
    let (bytes, id) = bytes_of(n, length);
    let store = BlockCall::Store {
        id,
        key: KEY,
        bytes,
    };
    let (BlockAnswer::Stored(block), _) = call(client, store).await else {
        unreachable!()
    };
    unpin(client, block).await
}

async fn file(client: &Client<Blocks>, n: u64, length: u32) -> BlockRef {
    let (bytes, id) = bytes_of(n, length as usize);
    let (BlockAnswer::Created { writer }, files) = call(client, BlockCall::Create { length }).await
    else {
        unreachable!()
    };
    let written = rustix::io::pwrite(&files[0], &bytes, 0).unwrap();
    assert_eq!(written, bytes.len());
    drop(files);
    let commit = BlockCall::Commit {
        writer,
        id,
        key: KEY,
        length,
    };
    let (BlockAnswer::Stored(block), _) = call(client, commit).await else {
        unreachable!()
    };
    unpin(client, block).await
}
