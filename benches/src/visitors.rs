//! A web site and its visitors: each opens a connection, fetches the files of a page one after the other, and closes. The same from
//! nginx in the same run, in alternation.

use crate::client::{Connection, Request};
use crate::error::Error;
use crate::load::difference;
use crate::load::worker::plain;
use crate::nginx::Nginx;
use crate::node::Node;
use crate::options::Options;
use crate::tree;
use nix::sys::socket::{MsgFlags, recv};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The page: name, content type, KiB.
const FILES: [(&str, &str, usize); 8] = [
    ("index.html", "text/html", 12),
    ("style.css", "text/css", 40),
    ("app.js", "text/javascript", 150),
    ("logo.png", "image/png", 30),
    ("first.jpg", "image/jpeg", 90),
    ("second.jpg", "image/jpeg", 180),
    ("third.jpg", "image/jpeg", 300),
    ("font.woff2", "font/woff2", 60),
];
const BUCKET: &str = "visited";
/// Visits of one round.
const VISITS: usize = 1000;
/// Rounds with each server, of which the best counts: on a machine with other work, what a round cost more than the best one is that
/// work's.
const ROUNDS: usize = 5;
/// Longest wait for a piece of an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most bytes that are taken from a socket at once.
const PIECE_BYTES: usize = 256 << 10;

/// A server of the page.
struct Server {
    name: &'static str,
    address: String,
    /// As the `Host` header says it.
    host: String,
    /// Its first process.
    root: i32,
}

/// What one round cost.
struct Round {
    requests_per_s: f64,
    cpu_us: f64,
    by_process: BTreeMap<String, f64>,
    p50_ms: f64,
    p99_ms: f64,
}

/// Publishes the page, sends the visitors, and tells what they saw.
pub(crate) fn run(options: &Options, node: &Node, visitors: usize) -> Result<String, Error> {
    let web = node.web().ok_or_else(|| Error::Node("no web".to_owned()))?;
    publish(node)?;
    let directory = options
        .data
        .join(format!("trousseau-visitors-{}", std::process::id()));
    fs::create_dir_all(&directory).map_err(Error::world(directory.display().to_string()))?;
    let ours = Server {
        name: "web",
        address: web.to_owned(),
        host: format!("{BUCKET}.localhost"),
        root: node.root_pid().unwrap_or(0),
    };
    let measured = beside_nginx(ours, &directory, visitors);
    fs::remove_dir_all(&directory).map_err(Error::world(directory.display().to_string()))?;
    Ok(table(&measured?, visitors))
}

/// Makes the bucket a web site that everybody may see.
fn publish(node: &Node) -> Result<(), Error> {
    let mut connection = Connection::open(node.target())?;
    let bucket = format!("/{BUCKET}");
    connection.expect(&plain("PUT", &bucket, ""), &[200])?;
    for (number, (name, content_type, kib)) in FILES.iter().enumerate() {
        let path = format!("{bucket}/{name}");
        let put = Request {
            body: &content(number, *kib),
            headers: &[("content-type", (*content_type).to_owned())],
            ..plain("PUT", &path, "")
        };
        connection.expect(&put, &[200])?;
    }
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::{BUCKET}/*"}}]}}"#
    );
    let website = "<WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix></IndexDocument></WebsiteConfiguration>";
    for (query, body) in [("policy", policy.as_str()), ("website", website)] {
        let put = Request {
            body: body.as_bytes(),
            ..plain("PUT", &bucket, query)
        };
        connection.expect(&put, &[200, 204])?;
    }
    Ok(())
}

/// Bytes that differ from file to file.
fn content(number: usize, kib: usize) -> Vec<u8> {
    let text = format!("file {number} of the page; ");
    text.bytes().cycle().take(kib << 10).collect()
}

fn beside_nginx(
    ours: Server,
    directory: &Path,
    visitors: usize,
) -> Result<Vec<(&'static str, Vec<Round>)>, Error> {
    for (number, (name, _, kib)) in FILES.iter().enumerate() {
        fs::write(directory.join(name), content(number, *kib)).map_err(Error::world(*name))?;
    }
    let nginx = Nginx::start(directory)?;
    let theirs = nginx.as_ref().map(|nginx| Server {
        name: "nginx",
        address: nginx.target().address.clone(),
        host: nginx.target().address.clone(),
        root: nginx.pid(),
    });
    let mut measured = Vec::new();
    for server in std::iter::once(ours).chain(theirs) {
        check(&server)?;
        measured.push((server, Vec::new()));
    }
    for _ in 0..ROUNDS {
        for (server, rounds) in &mut measured {
            rounds.push(round(server, visitors)?);
        }
    }
    Ok(measured
        .into_iter()
        .map(|(server, rounds)| (server.name, rounds))
        .collect())
}

/// One visit whose bytes are compared.
fn check(server: &Server) -> Result<(), Error> {
    let mut buffer = vec![0; PIECE_BYTES];
    let mut visitor = Visitor::new(server, &mut buffer)?;
    for (number, (name, _, kib)) in FILES.iter().enumerate() {
        let mut body = Vec::new();
        visitor.fetch(number, Some(&mut body))?;
        if body != content(number, *kib) {
            let what = format!("{name} of {} has other bytes than were put", server.name);
            return Err(Error::Answer(what));
        }
    }
    Ok(())
}

/// So many visitors at a time until all visits of a round are made.
fn round(server: &Server, visitors: usize) -> Result<Round, Error> {
    let next = AtomicUsize::new(0);
    let before = tree::usage(server.root);
    let begin = Instant::now();
    let mut visits = std::thread::scope(|scope| {
        let work = || -> Result<Vec<Duration>, Error> {
            let mut lasted = Vec::new();
            let mut buffer = vec![0; PIECE_BYTES];
            while next.fetch_add(1, Ordering::Relaxed) < VISITS {
                let begin = Instant::now();
                let mut visitor = Visitor::new(server, &mut buffer)?;
                for number in 0..FILES.len() {
                    visitor.fetch(number, None)?;
                }
                drop(visitor);
                lasted.push(begin.elapsed());
            }
            Ok(lasted)
        };
        let threads: Vec<_> = (0..visitors).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::with_capacity(VISITS);
        for thread in threads {
            let ended = thread.join();
            all.extend(ended.map_err(|_| Error::Answer("a visitor panicked".to_owned()))??);
        }
        Ok::<_, Error>(all)
    })?;
    let elapsed = begin.elapsed();
    let requests = float(VISITS * FILES.len());
    let mut by_process = difference(&before, &tree::usage(server.root)).1;
    by_process.values_mut().for_each(|us| *us /= requests);
    visits.sort_unstable();
    let at = |share: usize| {
        let visit = visits.get(visits.len() * share / 100);
        visit.map_or(0.0, |lasted| lasted.as_secs_f64() * 1000.0)
    };
    Ok(Round {
        requests_per_s: requests / elapsed.as_secs_f64(),
        cpu_us: by_process.values().sum(),
        by_process,
        p50_ms: at(50),
        p99_ms: at(99),
    })
}

/// One visitor's connection, which asks as a browser does.
struct Visitor<'a> {
    server: &'a Server,
    stream: TcpStream,
    buffer: &'a mut [u8],
}

impl<'a> Visitor<'a> {
    /// Connects; `buffer` is of [`PIECE_BYTES`].
    fn new(server: &'a Server, buffer: &'a mut [u8]) -> Result<Self, Error> {
        let tried = || format!("connecting to {}", server.name);
        let stream = TcpStream::connect(&server.address).map_err(Error::world(tried()))?;
        let set = stream.set_nodelay(true);
        set.and_then(|()| stream.set_read_timeout(Some(PATIENCE)))
            .map_err(Error::world(tried()))?;
        Ok(Self {
            server,
            stream,
            buffer,
        })
    }

    /// Fetches one file; its bytes are thrown away by the kernel unless they are wanted.
    fn fetch(&mut self, number: usize, wanted: Option<&mut Vec<u8>>) -> Result<(), Error> {
        let (name, _, kib) = FILES.get(number).copied().unwrap_or_default();
        let path = if number == 0 { "" } else { name };
        let request = format!(
            "GET /{path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
             Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n\
             Accept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\n\r\n",
            self.server.host
        );
        let sent = self.stream.write_all(request.as_bytes());
        sent.map_err(Error::world("sending a request"))?;
        let mut here = 0;
        let head_bytes = loop {
            let head = self.buffer.get(..here).unwrap_or_default();
            if let Some(at) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            // Not more than a head can be: what comes with it is copied, all else need not be.
            let room = self.buffer.get_mut(here..here + 1024).unwrap_or_default();
            let read = self.stream.read(room);
            let read = read.map_err(Error::world("receiving an answer"))?;
            if read == 0 {
                let what = format!("{} ended a connection in a head", self.server.name);
                return Err(Error::Answer(what));
            }
            here += read;
        };
        let head = String::from_utf8_lossy(self.buffer.get(..head_bytes).unwrap_or_default());
        let length = format!("\r\ncontent-length: {}\r\n", kib << 10);
        if !head.starts_with("HTTP/1.1 200 ") || !head.to_ascii_lowercase().contains(&length) {
            let what = format!("{} answered {path:?} with {head}", self.server.name);
            return Err(Error::Answer(what));
        }
        let begun = self.buffer.get(head_bytes..here).unwrap_or_default();
        let left = (kib << 10).saturating_sub(begun.len());
        match wanted {
            None => self.throw_away(left),
            Some(body) => {
                body.extend_from_slice(begun);
                let rest = (&mut self.stream).take(left as u64).read_to_end(body);
                rest.map(drop).map_err(Error::world("receiving a body"))
            }
        }
    }

    /// tcp(7): with `MSG_TRUNC` received bytes are discarded instead of copied.
    fn throw_away(&mut self, mut left: usize) -> Result<(), Error> {
        while left > 0 {
            let room = self.buffer.get_mut(..left.min(PIECE_BYTES));
            let room = room.unwrap_or_default();
            let read = recv(self.stream.as_raw_fd(), room, MsgFlags::MSG_TRUNC);
            let read = read.map_err(|errno| Error::World("a body".to_owned(), errno.into()))?;
            if read == 0 {
                let what = format!("{} ended a connection in a body", self.server.name);
                return Err(Error::Answer(what));
            }
            left = left.saturating_sub(read);
        }
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn float(count: usize) -> f64 {
    count as f64
}

fn table(measured: &[(&str, Vec<Round>)], visitors: usize) -> String {
    let kib: usize = FILES.iter().map(|(_, _, kib)| kib).sum();
    let mut out = format!(
        "{visitors} visitors at a time, {VISITS} visits a round, {} files with {kib} KiB each visit; of {ROUNDS} rounds the best of each.\n\n\
         | | requests per s | CPU µs per request | a visit, p50 ms | p99 ms |\n|---|---:|---:|---:|---:|\n",
        FILES.len()
    );
    let best = |rounds: &[Round], of: fn(&Round) -> f64| {
        let all = rounds.iter().map(of);
        all.fold(f64::INFINITY, f64::min)
    };
    let mut cpu = Vec::new();
    for (name, rounds) in measured {
        let (cpu_us, rate) = (
            best(rounds, |one| one.cpu_us),
            -best(rounds, |one| -one.requests_per_s),
        );
        cpu.push((cpu_us, rate));
        let (p50, p99) = (
            best(rounds, |one| one.p50_ms),
            best(rounds, |one| one.p99_ms),
        );
        let _ = writeln!(
            out,
            "| {name} | {rate:.0} | {cpu_us:.1} | {p50:.1} | {p99:.1} |"
        );
    }
    if let [(ours, our_rate), (theirs, their_rate)] = cpu.as_slice() {
        let _ = writeln!(
            out,
            "| ratio | {:.2} | {:.2} | | |",
            our_rate / their_rate,
            ours / theirs
        );
    }
    let cheapest = |rounds: &'_ [Round]| {
        let by_cost = rounds.iter().min_by(|a, b| a.cpu_us.total_cmp(&b.cpu_us));
        by_cost.map(|round| round.by_process.clone())
    };
    for (name, rounds) in measured {
        let _ = write!(out, "\n{name}, the cheapest round by process:");
        for (process, us) in cheapest(rounds).unwrap_or_default() {
            if us >= 0.1 {
                let _ = write!(out, " {process} {us:.1};");
            }
        }
    }
    out.push('\n');
    out
}
