//! What an operation costs the front end itself: processor time of its own threads, around honest
//! fakes. Run by hand, released: `cargo test --release -p s3-frontend --test measure -- --ignored
//! --nocapture`; `ONLY="get 4 KiB"` picks some.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that fails may panic, and prints its result"
)]

mod house;

use house::House;
use house::client::noise;
use std::fs;
use std::time::Instant;

const CLIENTS: usize = 2;

/// Nanoseconds on a processor of all threads of the front end so far.
fn own_cpu_ns() -> u64 {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        // A client's thread may end while we look.
        let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
        if name.starts_with("serve-") || name.starts_with("frontend") {
            let times = fs::read_to_string(task.join("schedstat")).unwrap();
            sum += times.split(' ').next().unwrap().parse::<u64>().unwrap();
        }
    }
    sum
}

fn measure(house: &House, what: &str, count: usize, method: &str, key: &str, body: &[u8]) {
    if !what.contains(&std::env::var("ONLY").unwrap_or_default()) {
        return;
    }
    let (cpu, began) = (own_cpu_ns(), Instant::now());
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let mut client = house.client();
            scope.spawn(move || {
                let target = match method {
                    "PUT" => format!("/bucket/{key}-{number}"),
                    _ => format!("/bucket/{key}"),
                };
                // Signed once: the client's own work is not what is measured.
                let request = client.request(method, &target, &[], body);
                for _ in 0..count / CLIENTS {
                    client.send(&request);
                    client.receive(method == "HEAD").expect(200);
                }
            });
        }
    });
    let cpu_us = (own_cpu_ns() - cpu) as f64 / 1000.0 / count as f64;
    let wall_us = began.elapsed().as_secs_f64() * 1e6 / count as f64;
    println!("{what:<16} {cpu_us:>9.1} us CPU, {wall_us:>9.1} us wall per operation");
}

#[test]
#[ignore = "a measurement, not a test"]
fn cost_per_operation() {
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    for (key, size) in [
        ("4k", 4096),
        ("64k", 65_536),
        ("1m", 1 << 20),
        ("16m", 16 << 20),
    ] {
        client
            .put(&format!("/bucket/{key}"), &noise(size, 1))
            .expect(200);
    }
    for round in 1..=3 {
        println!("round {round}");
        measure(&house, "get 4 KiB", 20_000, "GET", "4k", b"");
        measure(&house, "head", 20_000, "HEAD", "4k", b"");
        measure(&house, "get 64 KiB", 4_000, "GET", "64k", b"");
        measure(&house, "get 1 MiB", 1_000, "GET", "1m", b"");
        measure(&house, "get 16 MiB", 60, "GET", "16m", b"");
        measure(&house, "put 4 KiB", 10_000, "PUT", "new", &noise(4096, 2));
        measure(&house, "put 64 KiB", 2_000, "PUT", "new", &noise(65_536, 2));
        measure(&house, "put 1 MiB", 200, "PUT", "new", &noise(1 << 20, 2));
        measure(&house, "put 16 MiB", 16, "PUT", "new", &noise(16 << 20, 2));
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let resident = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    println!("{resident} (with the fakes)");
}
