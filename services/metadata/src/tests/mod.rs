//! Several nodes in one process and in virtual time, over a network that delays, loses, doubles and cuts as a seed says.
//!
//! Each node has its real database on the disk and tasks of its own, so it can be killed in the middle of anything and started again. While a
//! disk works, virtual time stands still.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests: a panic is the failure"
)]

mod linear;
mod promises;
mod rights;
mod storm;
mod sweeps;

use crate::cluster::Part;
use crate::peering::{Member, Peering};
use crate::raft::{Me, number_of};
use crate::service::Caller;
use crate::{Company, Error, Parts, Reach, Ways};
use futures_util::future::LocalBoxFuture;
use protocol::Channel;
use protocol::block::HashKey;
use protocol::cluster::{ClusterId, GossipKey, NodeEntry, NodeKey, Roster, Standing};
use protocol::metadata::{
    Answer, Attributes, BucketId, Call, Change, Content, EventKind, MetadataError, NewObject,
    Operation, Precondition, Reply,
};
use protocol::peers::{Peers, PeersAnswer, PeersCall};
use protocol::wire::{self, MESSAGE_BYTES_MAX};
use runtime::{Bus, CallError};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::{Rc, Weak};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::{AbortHandle, LocalSet};
use tokio::time::Instant;

/// A small generator of its own (SplitMix64), so that a seed means the same for ever.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}

/// What lies between the nodes.
pub(crate) struct Net {
    dice: RefCell<Dice>,
    /// One way takes from this many milliseconds …
    from_ms: Cell<u64>,
    /// … up to this many.
    to_ms: Cell<u64>,
    /// Of a thousand calls so many end with their connection, before or after they were heard.
    lost: Cell<u64>,
    /// Of a thousand calls that may be repeated so many are heard twice.
    doubled: Cell<u64>,
    /// Who does not get anything through to whom.
    cut: RefCell<BTreeSet<(String, String)>>,
    nodes: RefCell<BTreeMap<String, Rc<Running>>>,
    /// How many calls went from node to node.
    calls: Cell<u64>,
}

impl Net {
    fn roll(&self, sides: u64) -> u64 {
        self.dice.borrow_mut().roll(sides)
    }

    async fn travel(&self, from: &str, to: &str) {
        let (from_ms, to_ms) = (self.from_ms.get(), self.to_ms.get());
        let ms = from_ms + self.roll(to_ms - from_ms + 1);
        tokio::time::sleep(Duration::from_millis(ms)).await;
        if self.cut.borrow().contains(&(from.into(), to.into())) {
            // Nothing comes and nobody says so.
            std::future::pending::<()>().await;
        }
    }
}

/// One node's way into the network.
struct Port {
    net: Rc<Net>,
    from: String,
}

impl Reach for Port {
    fn ask<'a>(
        &'a self,
        node: &'a str,
        call: &'a PeersCall,
    ) -> LocalBoxFuture<'a, Result<PeersAnswer, CallError>> {
        Box::pin(async move {
            let net = &self.net;
            let bytes = wire::encode::<Peers>(call).map_err(|_| CallError::TooLong)?;
            assert!(bytes.len() <= MESSAGE_BYTES_MAX, "{} bytes", bytes.len());
            net.calls.set(net.calls.get() + 1);
            net.travel(&self.from, node).await;
            let target = net.nodes.borrow().get(node).cloned();
            let target = target.ok_or(CallError::NotSent)?;
            let once = matches!(
                call,
                PeersCall::Ask { .. } | PeersCall::Propose { .. } | PeersCall::Bring { .. }
            );
            let fate = net.roll(1_000);
            if fate < net.lost.get() / 2 {
                return Err(CallError::Lost);
            }
            let answer = target.hear(&self.from, &bytes);
            // Nobody but the network keeps a node alive.
            drop(target);
            if fate < net.lost.get() {
                return Err(CallError::Lost);
            }
            if !once && net.roll(1_000) < net.doubled.get() {
                net.travel(&self.from, node).await;
                let target = net.nodes.borrow().get(node).cloned();
                drop(target.map(|target| target.hear(&self.from, &bytes)));
            }
            let answer = answer.await?;
            net.travel(node, &self.from).await;
            Ok(wire::decode::<Peers, PeersAnswer>(&answer).unwrap())
        })
    }
}

/// A node that runs.
pub(crate) struct Running {
    set: LocalSet,
    driver: RefCell<Option<AbortHandle>>,
    parts: Parts,
    peering: Rc<Peering>,
}

impl Running {
    /// The bytes of the answer, in time. The node goes on whether it is waited for or not.
    fn hear(
        &self,
        from: &str,
        bytes: &[u8],
    ) -> impl Future<Output = Result<Vec<u8>, CallError>> + use<> {
        let (peering, bytes) = (self.peering.clone(), bytes.to_vec());
        let member = Member {
            name: from.into(),
            number: number_of(&key_of(from)),
        };
        let heard = self.set.spawn_local(async move {
            let call = wire::decode::<Peers, PeersCall>(&bytes).unwrap();
            let answer = peering.answer_to(&member, call).await;
            wire::encode::<Peers>(&answer).unwrap()
        });
        async move { heard.await.map_err(|_| CallError::Lost) }
    }
}

fn key_of(name: &str) -> NodeKey {
    let mut key = [7; 32];
    let number: u8 = name.trim_start_matches('n').parse().unwrap();
    key[..8].copy_from_slice(&(u64::from(number) << 32).to_be_bytes());
    NodeKey(key)
}

/// Nodes that belong to one cluster.
pub(crate) struct World {
    pub(crate) net: Rc<Net>,
    homes: RefCell<BTreeMap<String, TempDir>>,
    /// Nodes that were killed and may not be gone yet: their tasks are dropped a moment later.
    dying: RefCell<BTreeMap<String, Weak<Running>>>,
    roster: watch::Sender<Option<Roster>>,
    began: Instant,
    shards: u32,
}

impl World {
    /// Runs `test` in virtual time.
    pub(crate) fn run<F: Future>(seed: u64, shards: u32, test: impl FnOnce(Rc<Self>) -> F) {
        crate::raft::stop_time_while_a_disk_works();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, async {
            let cluster = ClusterId([1; 16]);
            let roster = Roster {
                cluster,
                version: 0,
                nodes: Vec::new(),
            };
            let world = Rc::new(Self {
                net: Rc::new(Net {
                    dice: RefCell::new(Dice(seed)),
                    from_ms: Cell::new(1),
                    to_ms: Cell::new(3),
                    lost: Cell::new(0),
                    doubled: Cell::new(0),
                    cut: RefCell::default(),
                    nodes: RefCell::default(),
                    calls: Cell::new(0),
                }),
                homes: RefCell::default(),
                dying: RefCell::default(),
                roster: watch::channel(Some(roster)).0,
                began: Instant::now(),
                shards,
            });
            test(world.clone()).await;
            let names: Vec<String> = world.net.nodes.borrow().keys().cloned().collect();
            for name in names {
                world.kill(&name);
            }
        });
    }

    /// A cluster of nodes in zones of their own, with all voters in place.
    pub(crate) async fn of(&self, nodes: u8) {
        for number in 1..=nodes {
            self.join(&format!("n{number}"), &format!("zone-{number}"), 1)
                .await;
        }
        let voters = usize::from(nodes.min(3));
        self.until("every shard has its voters", || self.voters_are(voters))
            .await;
    }

    /// One way takes as long as between homes from now on.
    pub(crate) fn between_homes(&self) {
        self.net.from_ms.set(40);
        self.net.to_ms.set(60);
    }

    /// Admits a node and starts it.
    pub(crate) async fn join(&self, name: &str, zone: &str, capacity_bytes: u64) {
        self.roster.send_modify(|roster| {
            let roster = roster.as_mut().unwrap();
            roster.version += 1;
            roster.nodes.push(NodeEntry {
                key: key_of(name),
                gossip_key: GossipKey([0; 32]),
                name: name.into(),
                zone: zone.into(),
                capacity_bytes,
                mesh: String::new(),
                gossip: String::new(),
                standing: Standing::Member,
            });
        });
        self.start(name).await;
    }

    /// Changes what the roster says of a node.
    pub(crate) fn edit(&self, name: &str, edit: impl FnOnce(&mut NodeEntry)) {
        self.roster.send_modify(|roster| {
            let roster = roster.as_mut().unwrap();
            roster.version += 1;
            edit(
                roster
                    .nodes
                    .iter_mut()
                    .find(|node| node.name == name)
                    .unwrap(),
            );
        });
    }

    pub(crate) async fn start(&self, name: &str) {
        let home = {
            let mut homes = self.homes.borrow_mut();
            let home = homes.entry(name.into());
            home.or_insert_with(|| tempfile::tempdir().unwrap())
                .path()
                .to_owned()
        };
        let dying = self.dying.borrow_mut().remove(name);
        while dying.as_ref().is_some_and(|dying| dying.strong_count() > 0) {
            // Not by time, which may stand still for it.
            tokio::task::yield_now().await;
        }
        let set = LocalSet::new();
        let mut attempts = 0;
        let (parts, ordered) = loop {
            let (bus, _other) = Channel::pair().unwrap();
            let root = std::fs::File::open(&home).unwrap().into();
            let bus = set.run_until(async { Bus::new(bus).unwrap() }).await;
            let company = Company {
                wished_copies: None,
                key: key_of(name),
                part: match name {
                    "n1" => Part::Founder,
                    _ => Part::Joiner,
                },
                me: Me {
                    name: name.into(),
                    number: Some(number_of(&key_of(name))),
                    founding: name == "n1",
                    ways: Rc::new(Ways::new(
                        MESSAGE_BYTES_MAX,
                        self.roster.subscribe(),
                        Port {
                            net: self.net.clone(),
                            from: name.into(),
                        },
                    )),
                },
                copies: None,
            };
            let began = self.began;
            let clock = move || 1_800_000_000_000 + began.elapsed().as_millis() as u64;
            let opening = Parts::open(self.shards, company, &home, Rc::new(clock), root, bus);
            match set.run_until(opening).await {
                Ok(opened) => break opened,
                // The threads of the one that was killed let go of the directory a moment later.
                Err(Error::Database(fjall::Error::Locked)) if attempts < 1_000 => {
                    attempts += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("{name}: {error}"),
            }
        };
        set.run_until(async { parts.begin(ordered) }).await;
        let peering = Rc::new(Peering {
            service: parts.service.clone(),
        });
        let running = Rc::new(Running {
            set,
            driver: RefCell::new(None),
            parts,
            peering,
        });
        let driven = running.clone();
        let driver = tokio::task::spawn_local(async move {
            driven.set.run_until(std::future::pending::<()>()).await;
        });
        *running.driver.borrow_mut() = Some(driver.abort_handle());
        self.net.nodes.borrow_mut().insert(name.into(), running);
    }

    /// Ends a node at once; what it had not written is lost.
    pub(crate) fn kill(&self, name: &str) {
        let running = self.net.nodes.borrow_mut().remove(name).unwrap();
        running.parts.store.kill();
        let driver = running.driver.take().unwrap();
        driver.abort();
        let dying = Rc::downgrade(&running);
        self.dying.borrow_mut().insert(name.into(), dying);
    }

    pub(crate) fn node(&self, name: &str) -> Rc<Running> {
        self.net.nodes.borrow().get(name).cloned().expect(name)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.net.nodes.borrow().keys().cloned().collect()
    }

    /// Asks a node as its frontend does; `None` if it is killed meanwhile.
    pub(crate) async fn ask(
        &self,
        name: &str,
        revision: u64,
        operation: Operation,
    ) -> Option<Answer> {
        let asked = {
            let node = self.net.nodes.borrow().get(name).cloned()?;
            let service = node.parts.service.clone();
            let call = Call {
                revision,
                operation,
            };
            node.set
                .spawn_local(async move { service.answer_to(Caller::Frontend, call).await })
        };
        asked.await.ok()
    }

    pub(crate) async fn call(
        &self,
        name: &str,
        operation: impl Into<Operation>,
    ) -> Result<Reply, MetadataError> {
        let answer = self.ask(name, 0, operation.into()).await;
        answer.map_or(Err(MetadataError::Unavailable("killed".into())), |answer| {
            answer.result
        })
    }

    /// Cuts what `from` sends to `to`.
    pub(crate) fn cut(&self, from: &str, to: &str) {
        self.net.cut.borrow_mut().insert((from.into(), to.into()));
    }

    /// Cuts a node off from all others, both ways.
    pub(crate) fn isolate(&self, name: &str) {
        for number in 1..=9 {
            let other = format!("n{number}");
            if other != name {
                self.cut(name, &other);
                self.cut(&other, name);
            }
        }
    }

    pub(crate) fn heal(&self) {
        self.net.cut.borrow_mut().clear();
    }

    /// The names of a shard's voters as its leader has them, if it has one.
    pub(crate) fn voters(&self, shard: usize) -> Option<(String, Vec<String>)> {
        let nodes = self.net.nodes.borrow().clone();
        nodes.iter().find_map(|(name, node)| {
            let group = &node.parts.store.groups()[shard];
            let members = group
                .members()
                .filter(|members| members.voters.len() == 1)?;
            let peers = group.peers();
            let voters = members.voters[0].iter();
            Some((
                name.clone(),
                voters.map(|id| peers[id].name.clone()).collect(),
            ))
        })
    }

    fn voters_are(&self, count: usize) -> bool {
        (0..self.shards as usize).all(|shard| {
            self.voters(shard)
                .is_some_and(|(_, voters)| voters.len() == count)
        })
    }

    pub(crate) fn leader(&self, shard: usize) -> Option<String> {
        self.voters(shard).map(|(leader, _)| leader)
    }

    /// Waits until something is so, for up to two minutes of virtual time. Answers how long it took.
    pub(crate) async fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
        let began = Instant::now();
        while !is_so() {
            assert!(
                began.elapsed() < Duration::from_secs(120),
                "not in time: {what}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        began.elapsed()
    }

    /// Makes a bucket.
    pub(crate) async fn bucket(&self, node: &str, name: &str) -> BucketId {
        let create = Operation::CreateBucket {
            name: name.into(),
            owner: String::new(),
            hash_key: HashKey([3; 32]),
            locked: false,
        };
        match self.call(node, create).await {
            Ok(Reply::Bucket(bucket)) => bucket.id,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn put(
    bucket: BucketId,
    key: &str,
    value: u64,
    precondition: Precondition,
) -> Operation {
    let object = NewObject {
        size: 8,
        etag: format!("{value}"),
        headers: Vec::new(),
        checksum: None,
        attributes: Attributes::default(),
        encryption: None,
        content: Content::Inline(value.to_le_bytes().to_vec()),
    };
    Operation::Change(Change::PutObject {
        bucket,
        key: key.into(),
        object,
        precondition,
        copied: false,
        event: EventKind::Put,
    })
}

pub(crate) fn get(bucket: BucketId, key: &str) -> Operation {
    Operation::GetObject {
        bucket,
        key: key.into(),
        version: None,
    }
}

/// The value that an object holds.
pub(crate) fn value_of(reply: &Reply) -> u64 {
    match reply {
        Reply::Object(object) => object.etag.parse().unwrap(),
        other => panic!("{other:?}"),
    }
}
