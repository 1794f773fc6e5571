//! How long a client waits for each operation beside the leader of its bucket's shard, and elsewhere.

use super::homes::{Home, Homes, zone_name};
use super::zones::{Zones, address};
use crate::client::{Connection, Request};
use crate::error::Error;
use crate::load::worker::{plain, signed};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

const BUCKET: &str = "geography";
/// Objects in the bucket all the time, which are listed and read.
const KEPT: usize = 20;
/// A small object: with its metadata.
const SMALL_BYTES: usize = 4 << 10;
/// One that is a block.
const BLOCK_BYTES: usize = 256 << 10;
/// Rounds that count only if the same node led before and after.
const BATCH: usize = 10;
/// Batches that are measured in vain before the run is given up.
const VAIN_MAX: usize = 20;
/// Puts that show by their number which shard a bucket is in.
const TRACERS: u64 = 60;
/// Time for connections and leases to come to rest.
const REST: Duration = Duration::from_secs(5);
/// The port of the echo by which the round trip itself is measured.
const ECHO_PORT: u16 = 4520;

/// What is measured, and the goal in round trips.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) goal_beside: Option<u32>,
    pub(crate) goal_elsewhere: Option<u32>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    ListBuckets,
    ListObjects,
    Put(usize),
    PutIfAbsent,
    Get(usize),
    Delete,
}

const fn operation(name: &'static str, goal: Option<(u32, u32)>, kind: Kind) -> Operation {
    let (goal_beside, goal_elsewhere) = match goal {
        Some((beside, elsewhere)) => (Some(beside), Some(elsewhere)),
        None => (None, None),
    };
    Operation {
        name,
        goal_beside,
        goal_elsewhere,
        kind,
    }
}

/// In this order: each is of what the one before has left.
const OPERATIONS: &[Operation] = &[
    operation("ListBuckets", Some((0, 0)), Kind::ListBuckets),
    operation("ListObjects", Some((0, 2)), Kind::ListObjects),
    operation("PutObject 4 KiB", Some((1, 2)), Kind::Put(SMALL_BYTES)),
    operation("GetObject 4 KiB", Some((0, 2)), Kind::Get(SMALL_BYTES)),
    operation("DeleteObject", Some((1, 2)), Kind::Delete),
    operation(
        "PutObject, If-None-Match: *",
        Some((1, 2)),
        Kind::PutIfAbsent,
    ),
    operation("PutObject 256 KiB", None, Kind::Put(BLOCK_BYTES)),
    operation("GetObject 256 KiB", None, Kind::Get(BLOCK_BYTES)),
];

/// The measurements of one operation, in milliseconds.
pub(crate) struct Series {
    pub(crate) operation: &'static Operation,
    pub(crate) beside: Vec<f64>,
    pub(crate) elsewhere: Vec<f64>,
}

/// All of them, and what they are to be compared with.
pub(crate) struct Trips {
    pub(crate) series: Vec<Series>,
    /// A byte to another zone and back, in milliseconds.
    pub(crate) round_trip: Vec<f64>,
    pub(crate) shard: usize,
    /// Who led the shard and who was asked, in words: each combination that there was.
    pub(crate) scenes: Vec<String>,
}

/// Measures everything `rounds` times from a node in the leader's zone and from one in another.
pub(crate) fn measure(zones: &Zones, homes: &Homes<'_>, rounds: usize) -> Result<Trips, Error> {
    let round_trip = echo(zones, rounds)?;
    let first = homes
        .all()
        .first()
        .ok_or_else(|| Error::Node("no node".to_owned()))?;
    let mut client = connect(zones, first)?;
    client.expect(&plain("PUT", &format!("/{BUCKET}"), ""), &[200])?;
    for number in 0..KEPT {
        let body = body_of(SMALL_BYTES, number);
        client.expect(&signed(&format!("/{BUCKET}/kept-{number}"), &body), &[200])?;
    }
    let shard = shard_of_bucket(homes, &mut client)?;
    let mut trips = Trips {
        series: Vec::new(),
        round_trip,
        shard,
        scenes: Vec::new(),
    };
    for operation in OPERATIONS {
        let (beside, elsewhere) = (Vec::new(), Vec::new());
        trips.series.push(Series {
            operation,
            beside,
            elsewhere,
        });
    }
    let (mut done, mut vain) = (0, 0);
    while done < rounds {
        let leader = homes.leader(shard)?;
        let (beside, elsewhere) = scene(homes, leader)?;
        let count = BATCH.min(rounds - done);
        let measured = batch(zones, [beside, elsewhere], done..done + count)?;
        if homes.leader(shard)? != leader {
            vain += 1;
            if vain > VAIN_MAX {
                let why = "another node leads the bucket's shard again and again";
                return Err(Error::Node(why.to_owned()));
            }
            continue;
        }
        done += count;
        for (series, [beside, elsewhere]) in trips.series.iter_mut().zip(measured) {
            series.beside.extend(beside);
            series.elsewhere.extend(elsewhere);
        }
        let scene = said(homes, leader, beside, elsewhere);
        if !trips.scenes.contains(&scene) {
            trips.scenes.push(scene);
        }
    }
    Ok(trips)
}

/// A node of the leader's zone, rather not the leader itself; and one of another zone.
fn scene<'a>(homes: &'a Homes<'_>, leader: usize) -> Result<(&'a Home, &'a Home), Error> {
    let all = || homes.all().iter().enumerate();
    let zone = homes.all().get(leader).map(|home| home.zone);
    let near = || all().filter(|(_, home)| Some(home.zone) == zone);
    let beside = near()
        .find(|(at, _)| *at != leader)
        .or_else(|| near().next());
    let elsewhere = all().find(|(_, home)| Some(home.zone) != zone);
    match (beside, elsewhere) {
        (Some((_, beside)), Some((_, elsewhere))) => Ok((beside, elsewhere)),
        _ => Err(Error::Node("all nodes are in one zone".to_owned())),
    }
}

fn said(homes: &Homes<'_>, leader: usize, beside: &Home, elsewhere: &Home) -> String {
    let place = |home: &Home| format!("{} ({})", home.name, zone_name(home.zone));
    let leader = homes.all().get(leader).map(place).unwrap_or_default();
    format!(
        "{leader} led; beside it {} was asked, elsewhere {}",
        place(beside),
        place(elsewhere)
    )
}

/// Each operation so many times in turn from both places.
fn batch(
    zones: &Zones,
    homes: [&Home; 2],
    rounds: std::ops::Range<usize>,
) -> Result<Vec<[Vec<f64>; 2]>, Error> {
    let [beside, elsewhere] = homes;
    let mut clients = [connect(zones, beside)?, connect(zones, elsewhere)?];
    // What is made once and kept is not what an operation costs.
    std::thread::sleep(REST);
    for (place, client) in clients.iter_mut().enumerate() {
        for operation in OPERATIONS {
            ask(client, operation.kind, &format!("warm-{place}"))?;
        }
    }
    let mut measured: Vec<[Vec<f64>; 2]> = OPERATIONS.iter().map(|_| [vec![], vec![]]).collect();
    for round in rounds {
        for (operation, found) in OPERATIONS.iter().zip(&mut measured) {
            for (place, (client, found)) in clients.iter_mut().zip(found).enumerate() {
                found.push(ask(client, operation.kind, &format!("{place}-{round}"))?);
            }
        }
    }
    Ok(measured)
}

/// One operation on the object of this name; milliseconds.
fn ask(client: &mut Connection, kind: Kind, name: &str) -> Result<f64, Error> {
    let bucket = format!("/{BUCKET}");
    let path = |bytes: usize| format!("{bucket}/new-{bytes}-{name}");
    let answer = match kind {
        Kind::ListBuckets => client.expect(&plain("GET", "/", ""), &[200])?,
        Kind::ListObjects => {
            let request = plain("GET", &bucket, "list-type=2&prefix=kept-");
            let answer = client.expect(&request, &[200])?;
            let listed = String::from_utf8_lossy(client.body())
                .matches("<Contents>")
                .count();
            if listed != KEPT {
                return Err(Error::Answer(format!("a listing of {listed} keys")));
            }
            answer
        }
        Kind::Put(bytes) => client.expect(&signed(&path(bytes), &body_of(bytes, bytes)), &[200])?,
        Kind::PutIfAbsent => {
            let absent = [("if-none-match", "*".to_owned())];
            let (path, body) = (path(SMALL_BYTES), body_of(SMALL_BYTES, SMALL_BYTES));
            let request = Request {
                headers: &absent,
                ..signed(&path, &body)
            };
            let answer = client.expect(&request, &[200])?;
            client.expect(&plain("DELETE", &path, ""), &[204])?;
            answer
        }
        Kind::Get(bytes) => {
            let answer = client.expect(&plain("GET", &path(bytes), ""), &[200])?;
            if client.body() != body_of(bytes, bytes) {
                return Err(Error::Answer("other bytes than were put".to_owned()));
            }
            answer
        }
        Kind::Delete => client.expect(&plain("DELETE", &path(SMALL_BYTES), ""), &[204])?,
    };
    Ok(milliseconds(Duration::from_nanos(answer.elapsed_ns)))
}

/// Bytes that differ for each number.
pub(super) fn body_of(bytes: usize, number: usize) -> Vec<u8> {
    let mut body = vec![0; bytes];
    blake3::Hasher::new()
        .update(&number.to_le_bytes())
        .finalize_xof()
        .fill(&mut body);
    body
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// Which shard the bucket is in: the only one that takes as many commands as are given.
fn shard_of_bucket(homes: &Homes<'_>, client: &mut Connection) -> Result<usize, Error> {
    // Whoever is ahead knows what is applied.
    let applied = || -> Result<Vec<u64>, Error> {
        let shards = homes.shards()?;
        let count = shards.first().map_or(0, Vec::len);
        let of = |shard: usize| {
            let seen = shards.iter().filter_map(|node| node.get(shard));
            seen.map(|one| one.applied).max().unwrap_or(0)
        };
        Ok((0..count).map(of).collect())
    };
    let before = applied()?;
    for _ in 0..TRACERS {
        client.expect(&signed(&format!("/{BUCKET}/tracer"), b"."), &[200])?;
    }
    let rose: Vec<u64> = applied()?
        .iter()
        .zip(&before)
        .map(|(after, before)| after - before)
        .collect();
    client.expect(&plain("DELETE", &format!("/{BUCKET}/tracer"), ""), &[204])?;
    let mut which =
        (0..rose.len()).filter(|shard| rose.get(*shard).is_some_and(|rose| *rose >= TRACERS));
    match (which.next(), which.next()) {
        (Some(shard), None) => Ok(shard),
        _ => Err(Error::Node(format!(
            "the bucket's shard is not to be told: {rose:?}"
        ))),
    }
}

/// A client beside a node: its socket stays in the zone in which it was made.
pub(super) fn connect(zones: &Zones, home: &Home) -> Result<Connection, Error> {
    zones.within(home.zone, || Connection::open(&home.target))
}

/// A byte to another zone and back, over a connection that is there already.
fn echo(zones: &Zones, times: usize) -> Result<Vec<f64>, Error> {
    let there = format!("{}:{ECHO_PORT}", address(1, 1));
    let tried = || "an echo between zones".to_owned();
    let listener = zones.within(1, || {
        TcpListener::bind(&there).map_err(Error::world(tried()))
    })?;
    let answering = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut byte = [0];
        while stream.read(&mut byte)? > 0 {
            stream.write_all(&byte)?;
        }
        Ok(())
    });
    let mut stream = zones.within(0, || {
        TcpStream::connect(&there).map_err(Error::world(tried()))
    })?;
    stream.set_nodelay(true).map_err(Error::world(tried()))?;
    let mut round_trip = || {
        let begin = Instant::now();
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0])?;
        Ok(milliseconds(begin.elapsed()))
    };
    let measured: std::io::Result<Vec<f64>> = (0..times).map(|_| round_trip()).collect();
    drop(stream);
    let ended = answering.join();
    ended
        .map_err(|_| Error::Node(tried()))?
        .and(measured)
        .map_err(Error::world(tried()))
}
