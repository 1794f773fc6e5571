//! Connections that do nothing or little: what each costs in memory, and whether the others feel them.

use crate::client::Connection;
use crate::error::Error;
use crate::load::worker::plain;
use crate::node::{Node, Target};
use crate::tree;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fmt::Write as _;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a slow connection waits between two bytes.
const SLOW_EVERY: Duration = Duration::from_secs(5);
/// Requests on the one busy connection, each time.
const REQUESTS: usize = 3000;
/// Bytes of the object that it gets.
const BYTES: usize = 4 << 10;
const PATH: &str = "/crowd/object";
/// For descriptors of our own beside those of the crowd.
const SPARE_FILES: usize = 64;

/// Measures alone, then in the crowd.
pub(crate) fn run(node: &Node, idle: usize, slow: usize) -> Result<String, Error> {
    let files = (idle + slow + SPARE_FILES) as u64;
    let hard = getrlimit(Resource::RLIMIT_NOFILE).map_or(files, |(_, hard)| hard.max(files));
    setrlimit(Resource::RLIMIT_NOFILE, files, hard)
        .map_err(|errno| Error::World("the limit of open files".to_owned(), errno.into()))?;
    let target = node.target();
    let mut busy = Connection::open(target)?;
    busy.expect(&plain("PUT", "/crowd", ""), &[200])?;
    let body = [7; BYTES];
    let put = crate::client::Request {
        body: &body,
        ..plain("PUT", PATH, "")
    };
    busy.expect(&put, &[200])?;
    measure(&mut busy)?; // So that what is made once is there before memory is read.
    let alone = measure(&mut busy)?;
    let memory_alone = frontend(node);

    let mut idlers = Vec::with_capacity(idle);
    for _ in 0..idle {
        let mut connection = Connection::open(target)?;
        connection.expect(&plain("HEAD", PATH, ""), &[200])?;
        idlers.push(connection);
    }
    let memory_idle = frontend(node);
    let among_idle = measure(&mut busy)?;
    let mut drips = Vec::with_capacity(slow);
    for _ in 0..slow {
        drips.push(begin_slowly(target)?);
    }
    let memory_slow = frontend(node);
    let over = AtomicBool::new(false);
    let among_slow = std::thread::scope(|scope| {
        scope.spawn(|| drip(&drips, &over));
        let measured = measure(&mut busy);
        over.store(true, Ordering::Relaxed);
        measured
    })?;
    let mut kept = 0;
    for connection in &mut idlers {
        // A connection that the server closed meanwhile is an error here.
        kept += usize::from(connection.send(&plain("HEAD", PATH, "")).is_ok());
    }
    busy.expect(&plain("DELETE", PATH, ""), &[204])?;
    let rows = [
        ("alone".to_owned(), alone, memory_alone, 0),
        (
            format!("{idle} idle"),
            among_idle,
            memory_idle.saturating_sub(memory_alone),
            idle,
        ),
        (
            format!("and {slow} slow"),
            among_slow,
            memory_slow.saturating_sub(memory_idle),
            slow,
        ),
    ];
    Ok(table(&rows, kept, idle))
}

/// The memory of the process that holds the connections; the kernel's own for sockets is not in it.
fn frontend(node: &Node) -> u64 {
    std::thread::sleep(Duration::from_secs(1));
    let memory = tree::memory(node.root_pid().unwrap_or(0));
    let frontend = memory.iter().find(|one| one.name == "s3-frontend");
    frontend.map_or(0, |one| one.pss_bytes)
}

/// p50 and p99 of a small GET, in microseconds.
fn measure(connection: &mut Connection) -> Result<(u64, u64), Error> {
    let mut latencies = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let answer = connection.expect(&plain("GET", PATH, ""), &[200])?;
        latencies.push(answer.elapsed_ns / 1000);
    }
    latencies.sort_unstable();
    let at = |share: usize| latencies.get(REQUESTS * share / 100).copied().unwrap_or(0);
    Ok((at(50), at(99)))
}

fn begin_slowly(target: &Target) -> Result<TcpStream, Error> {
    let tried = "a slow connection";
    let mut stream = TcpStream::connect(&target.address).map_err(Error::world(tried))?;
    stream
        .write_all(b"GET /crowd/object HTTP/1.1\r\nx-slow: ")
        .map_err(Error::world(tried))?;
    Ok(stream)
}

/// Sends a byte on each connection again and again. That the server cuts them off is its right.
fn drip(streams: &[TcpStream], over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        for mut stream in streams {
            let _ = stream.write(b"x");
        }
        let mut waited = Duration::ZERO;
        while waited < SLOW_EVERY && !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
            waited += Duration::from_millis(20);
        }
    }
}

type Row = (String, (u64, u64), u64, usize);

fn table(rows: &[Row], kept: usize, idle: usize) -> String {
    let mut out = "A GET of 4 KiB on one connection, again and again.\n\n\
         | beside | p50 µs | p99 µs | PSS of s3-frontend, KiB: alone, then what was added | for each connection, KiB |\n\
         |---|---:|---:|---:|---:|\n"
        .to_owned();
    for (name, (p50, p99), bytes, connections) in rows {
        #[allow(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
        let each = *bytes as f64 / 1024.0 / (*connections).max(1) as f64;
        let each = match connections {
            0 => "–".to_owned(),
            _ => format!("{each:.1}"),
        };
        let _ = writeln!(
            out,
            "| {name} | {p50} | {p99} | {} | {each} |",
            bytes / 1024
        );
    }
    let _ = writeln!(
        out,
        "\n{kept} of the {idle} idle connections went on at the end."
    );
    out
}
