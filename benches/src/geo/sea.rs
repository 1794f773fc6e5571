//! What lies between the zones: a thread that carries packets from shore to shore, late and, where a zone has a thin uplink, one after the other.

use super::zones::{Zones, zone_of};
use crate::error::Error;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a packet takes from zone to zone: half of the round trip …
pub(crate) const DELAY_MS: u64 = 50;
/// … more or less so much, each packet for itself (evenly distributed); no packet overtakes another on its way between the same two zones.
pub(crate) const JITTER_MS: u64 = 10;
/// What waits before a thin uplink at most, in milliseconds, as in a home's router; what comes beyond that is lost.
const QUEUE_MS: u64 = 250;
/// The largest packet.
const PACKET_BYTES_MAX: usize = 2_048;
/// The thread looks at least so often whether it shall end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The thread, and what it counts.
pub(crate) struct Sea {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    ends: AtomicBool,
    uplinks: Vec<Uplink>,
}

/// What leaves one zone.
#[derive(Default)]
struct Uplink {
    /// Bits per second; 0: as many as you like.
    rate: AtomicU64,
    /// Bytes of packets that left, with their IP heads.
    bytes: AtomicU64,
    /// Packets that found the queue full.
    lost: AtomicU64,
}

impl Sea {
    /// Between these zones; `seed` decides the jitter.
    pub(crate) fn between(zones: &Zones, seed: u64) -> Result<Sea, Error> {
        let shores: Result<Vec<File>, Error> =
            (0..zones.count()).map(|zone| zones.shore(zone)).collect();
        let shores = shores?;
        let shared = Arc::new(Shared {
            ends: AtomicBool::new(false),
            uplinks: shores.iter().map(|_| Uplink::default()).collect(),
        });
        let known = shared.clone();
        let thread = std::thread::spawn(move || {
            punctually();
            Carrier::new(shores, known, seed).carry();
        });
        Ok(Sea {
            shared,
            thread: Some(thread),
        })
    }

    /// From now on a zone sends no more bits per second than this.
    pub(crate) fn thin(&self, zone: usize, bits_per_s: u64) {
        if let Some(uplink) = self.shared.uplinks.get(zone) {
            uplink.rate.store(bits_per_s, Ordering::Relaxed);
        }
    }

    /// The bytes that have left each zone so far.
    pub(crate) fn sent(&self) -> Vec<u64> {
        let uplinks = self.shared.uplinks.iter();
        uplinks
            .map(|uplink| uplink.bytes.load(Ordering::Relaxed))
            .collect()
    }

    /// The packets of all zones that found a queue full.
    pub(crate) fn lost(&self) -> u64 {
        let uplinks = self.shared.uplinks.iter();
        uplinks
            .map(|uplink| uplink.lost.load(Ordering::Relaxed))
            .sum()
    }
}

impl Drop for Sea {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Asks for this thread to be run before all others, as far as that is allowed: what it is late adds to every round trip.
fn punctually() {
    let thread = nix::unistd::gettid().to_string();
    let asked = Command::new("chrt")
        .args(["-f", "-p", "20", &thread])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !asked.is_ok_and(|status| status.success()) {
        eprintln!("benches: without chrt(1) as root, packets may come later than they should");
    }
}

/// A packet on its way.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    due: Instant,
    /// Keeps the order of those that are due at the same time.
    number: u64,
    to: usize,
    bytes: Vec<u8>,
}

struct Carrier {
    shores: Vec<File>,
    shared: Arc<Shared>,
    random: u64,
    under_way: BinaryHeap<Reverse<Packet>>,
    count: u64,
    /// When the last packet from one zone to another is due.
    latest: Vec<Vec<Instant>>,
    /// When a zone's uplink has sent what was given to it.
    free: Vec<Instant>,
}

impl Carrier {
    fn new(shores: Vec<File>, shared: Arc<Shared>, seed: u64) -> Carrier {
        let zones = shores.len();
        let now = Instant::now();
        Carrier {
            shores,
            shared,
            random: seed | 1,
            under_way: BinaryHeap::new(),
            count: 0,
            latest: vec![vec![now; zones]; zones],
            free: vec![now; zones],
        }
    }

    fn carry(mut self) {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        while !self.shared.ends.load(Ordering::Relaxed) {
            self.deliver();
            self.wait();
            for from in 0..self.shores.len() {
                while let Some(bytes) = self.take(from, &mut buffer) {
                    self.send(from, bytes);
                }
            }
        }
    }

    /// What is due.
    fn deliver(&mut self) {
        while let Some(Reverse(next)) = self.under_way.peek()
            && next.due <= Instant::now()
        {
            let Some(Reverse(packet)) = self.under_way.pop() else {
                return;
            };
            if let Some(mut shore) = self.shores.get(packet.to) {
                // A full device loses packets, as any does.
                let _ = shore.write(&packet.bytes);
            }
        }
    }

    /// Until a packet leaves a zone, or the next one is due.
    fn wait(&self) {
        let next = self.under_way.peek();
        let due = next.map(|Reverse(packet)| packet.due.saturating_duration_since(Instant::now()));
        let within = due.unwrap_or(LOOK_EVERY).min(LOOK_EVERY);
        let shores = self.shores.iter();
        let mut set: Vec<PollFd<'_>> = shores
            .map(|shore| PollFd::new(shore.as_fd(), PollFlags::POLLIN))
            .collect();
        // A signal only makes it look once more.
        let _ = ppoll(&mut set, Some(TimeSpec::from_duration(within)), None);
    }

    fn take(&self, from: usize, buffer: &mut [u8]) -> Option<Vec<u8>> {
        let mut shore = self.shores.get(from)?;
        let count = shore.read(buffer).ok()?;
        Some(buffer.get(..count)?.to_vec())
    }

    fn send(&mut self, from: usize, bytes: Vec<u8>) {
        let now = Instant::now();
        let Some(to) = zone_of(&bytes).filter(|to| *to < self.shores.len()) else {
            return;
        };
        let (Some(uplink), Some(free)) = (self.shared.uplinks.get(from), self.free.get_mut(from))
        else {
            return;
        };
        let rate = uplink.rate.load(Ordering::Relaxed);
        let begins = (*free).max(now);
        if rate > 0 && begins - now > Duration::from_millis(QUEUE_MS) {
            uplink.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let length = bytes.len() as u64;
        uplink.bytes.fetch_add(length, Ordering::Relaxed);
        let takes = (length * 8 * 1_000_000_000).checked_div(rate).unwrap_or(0);
        *free = begins + Duration::from_nanos(takes);
        let sent = *free;
        let late = self.late();
        let latest = self.latest.get_mut(from).and_then(|from| from.get_mut(to));
        let Some(latest) = latest else { return };
        *latest = (*latest).max(sent + late);
        let due = *latest;
        self.count += 1;
        let number = self.count;
        self.under_way.push(Reverse(Packet {
            due,
            number,
            to,
            bytes,
        }));
    }

    /// The delay of one packet. Xorshift (Marsaglia 2003) is as random as this needs.
    fn late(&mut self) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let jitter_us = self.random % (2 * JITTER_MS * 1_000 + 1);
        Duration::from_micros((DELAY_MS - JITTER_MS) * 1_000 + jitter_us)
    }
}
