//! Connections that do nothing or little: what each costs in memory, and whether the others feel them.

use crate::client::Connection;
use crate::error::Error;
use crate::load::difference;
use crate::load::worker::plain;
use crate::node::{Node, Target};
use crate::tree;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fmt::Write as _;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a slow connection waits between two bytes.
const SLOW_EVERY: Duration = Duration::from_secs(5);
/// Requests on the one busy connection, in each of the series of which the best counts: on a machine with other work, what a series took
/// longer than the best one is that work's.
const REQUESTS: usize = 2000;
const SERIES: usize = 3;
/// After this time a server that gives something back for connections that are idle has done so.
const SETTLED: Duration = Duration::from_secs(15);
/// The slow ones are measured sooner: a server may cut them off.
const BEGUN: Duration = Duration::from_secs(3);
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
    let mut rows = Vec::new();
    measure(node, &mut busy)?; // So that what is made once is there before memory is read.
    rows.push(Row::of("alone".to_owned(), 0, BEGUN, node, &mut busy)?);
    let mut idlers = Vec::with_capacity(idle);
    for _ in 0..idle {
        let mut connection = Connection::open(target)?;
        connection.expect(&plain("HEAD", PATH, ""), &[200])?;
        idlers.push(connection);
    }
    rows.push(Row::of(
        format!("{idle} idle"),
        idle,
        SETTLED,
        node,
        &mut busy,
    )?);
    let mut drips = Vec::with_capacity(slow);
    for _ in 0..slow {
        drips.push(begin_slowly(target)?);
    }
    let over = AtomicBool::new(false);
    let among_slow = std::thread::scope(|scope| {
        scope.spawn(|| drip(&drips, &over));
        let row = Row::of(format!("and {slow} slow"), slow, BEGUN, node, &mut busy);
        over.store(true, Ordering::Relaxed);
        row
    });
    rows.push(among_slow?);
    let dripping = drips.iter().filter(|stream| is_open(stream)).count();
    let mut kept = 0;
    for connection in &mut idlers {
        // A connection that the server closed meanwhile is an error here.
        kept += usize::from(connection.send(&plain("HEAD", PATH, "")).is_ok());
    }
    busy.expect(&plain("DELETE", PATH, ""), &[204])?;
    let mut out = table(&rows);
    let _ = writeln!(
        out,
        "\n{kept} of the {idle} idle connections went on at the end; {dripping} of the {slow} slow ones were still there."
    );
    Ok(out)
}

/// Whether the server has kept a connection on which it has nothing to say.
fn is_open(stream: &TcpStream) -> bool {
    let waits = |error: std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
    stream.set_nonblocking(true).is_ok() && stream.peek(&mut [0]).is_err_and(waits)
}

/// One measurement.
struct Row {
    beside: String,
    /// What was added since the row before.
    connections: usize,
    frontend_bytes: u64,
    /// CPU of the whole node while nobody asked for anything, in milliseconds a second.
    resting_cpu: f64,
    p50_us: u64,
    p99_us: u64,
    /// Of the whole node for one GET.
    cpu_us: f64,
}

impl Row {
    fn of(
        beside: String,
        connections: usize,
        pause: Duration,
        node: &Node,
        busy: &mut Connection,
    ) -> Result<Self, Error> {
        std::thread::sleep(pause);
        let (before, begin) = (cpu_us(node), Instant::now());
        let frontend_bytes = frontend(node);
        std::thread::sleep(Duration::from_secs(1));
        let resting_cpu = (cpu_us(node) - before) / 1000.0 / begin.elapsed().as_secs_f64();
        let ((p50_us, p99_us), cpu_us) = measure(node, busy)?;
        Ok(Self {
            beside,
            connections,
            frontend_bytes,
            resting_cpu,
            p50_us,
            p99_us,
            cpu_us,
        })
    }
}

/// CPU time that the node has used, in microseconds.
fn cpu_us(node: &Node) -> f64 {
    let used = tree::usage(node.root_pid().unwrap_or(0));
    difference(&Default::default(), &used).1.values().sum()
}

/// The memory of the process that holds the connections; the kernel's own for sockets is not in it.
fn frontend(node: &Node) -> u64 {
    let memory = tree::memory(node.root_pid().unwrap_or(0));
    let frontend = memory.iter().find(|one| one.name == "s3-frontend");
    frontend.map_or(0, |one| one.pss_bytes)
}

/// p50 and p99 of a small GET and the node's CPU time for it, in microseconds; each the best of several series.
fn measure(node: &Node, connection: &mut Connection) -> Result<((u64, u64), f64), Error> {
    let mut best = ((u64::MAX, u64::MAX), f64::INFINITY);
    for _ in 0..SERIES {
        let mut latencies = Vec::with_capacity(REQUESTS);
        let before = cpu_us(node);
        for _ in 0..REQUESTS {
            let answer = connection.expect(&plain("GET", PATH, ""), &[200])?;
            latencies.push(answer.elapsed_ns / 1000);
        }
        #[allow(clippy::cast_precision_loss, reason = "a count far below 2^52")]
        let cpu_us = (cpu_us(node) - before) / REQUESTS as f64;
        latencies.sort_unstable();
        let at = |share: usize| latencies.get(REQUESTS * share / 100).copied().unwrap_or(0);
        best.0.0 = best.0.0.min(at(50));
        best.0.1 = best.0.1.min(at(99));
        best.1 = best.1.min(cpu_us);
    }
    Ok(best)
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

fn table(rows: &[Row]) -> String {
    let mut out = format!(
        "A GET of 4 KiB on one connection, {REQUESTS} times, the best of {SERIES} series.\n\n\
         | beside | p50 µs | p99 µs | CPU µs | the node's CPU while nobody asks, ms/s | s3-frontend (PSS), KiB | for each connection added, KiB |\n\
         |---|---:|---:|---:|---:|---:|---:|\n"
    );
    let mut last_bytes = 0;
    for row in rows {
        let added = row.frontend_bytes.saturating_sub(last_bytes);
        last_bytes = row.frontend_bytes;
        #[allow(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
        let each = added as f64 / 1024.0 / row.connections.max(1) as f64;
        let each = match row.connections {
            0 => "–".to_owned(),
            _ => format!("{each:.2}"),
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {:.0} | {:.1} | {} | {each} |",
            row.beside,
            row.p50_us,
            row.p99_us,
            row.cpu_us,
            row.resting_cpu,
            row.frontend_bytes / 1024
        );
    }
    out
}
