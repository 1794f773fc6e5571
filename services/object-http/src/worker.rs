//! One serving thread: everything that its connections share. Threads share the number of the newest
//! revision, and nothing else.

use crate::blocks::{BlockLink, Pins};
use crate::body::file_range::Placeholders;
use crate::budget::Budget;
use crate::connections::Connections;
use crate::credentials::Credentials;
use crate::metadata::MetadataLink;
use runtime::Bus;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What the manifest says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The region that requests must be signed for.
    pub region: String,
    /// Host names below which a bucket may be named; in lower case, without port.
    pub hosts: Vec<String>,
}

/// A thread's share of what the process may hold.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// For requests.
    pub budget_kib: u32,
    /// For blocks that were opened a moment ago.
    pub remembered_kib: usize,
}

/// The names in the setting `host`: separated by commas, ports and case are ignored.
pub fn hosts(setting: &str) -> Vec<String> {
    let names = setting
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase());
    names
        .map(|name| name.split(':').next().unwrap_or_default().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

/// The state of one thread.
pub struct Worker {
    /// The region that requests must be signed for.
    pub region: String,
    /// Host names below which a bucket may be named.
    pub hosts: Vec<String>,
    /// The line to metadata.
    pub metadata: MetadataLink,
    /// The line to the block-store.
    pub blocks: BlockLink,
    /// What metadata said of callers and buckets.
    pub credentials: Credentials,
    /// Who is connected.
    pub connections: Rc<Connections>,
    /// The files that are being sent.
    pub placeholders: Rc<Placeholders>,
    /// The memory that requests may hold.
    pub budget: Budget,
    /// Makes request ids: a secret start, so that they cannot be guessed, and a count.
    seed: u64,
    requests: Cell<u64>,
}

impl Worker {
    /// A thread that reaches other services over `bus`; `newest_revision` is shared with the others. Needs a tokio context in which tasks may be
    /// spawned locally.
    pub fn new(
        settings: Settings,
        newest_revision: Arc<AtomicU64>,
        bus: Bus,
        memory: Memory,
        placeholders: Rc<Placeholders>,
        connections: Rc<Connections>,
        seed: u64,
    ) -> Rc<Self> {
        Rc::new(Self {
            region: settings.region,
            hosts: settings.hosts,
            metadata: MetadataLink::new(bus.clone()),
            blocks: BlockLink::new(bus, Pins::start(), memory.remembered_kib * 1024),
            credentials: Credentials::new(newest_revision),
            connections,
            placeholders,
            budget: Budget::new(memory.budget_kib),
            seed,
            requests: Cell::new(0),
        })
    }

    /// Our clock, in seconds since 1970.
    pub fn now_s(&self) -> u64 {
        runtime::unix_ms() / 1_000
    }

    /// A name for a request, unique in the life of this process: 16 digits, as AWS's.
    pub fn request_id(&self) -> String {
        let count = self.requests.get();
        self.requests.set(count.wrapping_add(1));
        // The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a permutation, so that no id comes
        // twice.
        let mut id = self
            .seed
            .wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        format!("{:016X}", id ^ (id >> 31))
    }
}
