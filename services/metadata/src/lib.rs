//! metadata: keys, buckets, objects and uploads, strongly consistent and on disk.
//!
//! Given: `door`, `bus`, its data directory as its whole file system. Serves: `protocol::metadata`, `protocol::peers` to metadata on other nodes,
//! `protocol::cluster::Admission` to strangers. Calls: block-store, for the sweep and to say where blocks belong; membership, to say who belongs; the
//! orchestrator, to say what runs here; metadata on other nodes.
//!
//! A call comes in at [`service`](mod@service), is judged there and becomes a read of a shard's rows or a command for it. A shard is a
//! Raft group ([`raft`]) around a pure state machine ([`state`]). Only `sweep`, `buckets` and `events` know of more than one shard. Where the cluster has
//! more nodes, `voters` plans who has a vote in which shard, `members` carries it out, `peering` answers the others, and `rights` keeps what each node knows of
//! keys and buckets in step.
//! Absent on purpose: any byte of an object that is longer than 8 KiB, any opinion on who may do what beyond the revision of a call.
#![forbid(unsafe_code)]

mod admission;
mod block_store;
mod buckets;
mod cluster;
mod error;
mod events;
mod fence;
mod health;
mod keyring;
mod lifecycle;
mod members;
mod peering;
mod placing;
mod proposer;
pub mod raft;
mod rights;
mod rolling;
mod routing;
mod scheduler;
mod scheduling;
mod service;
mod space;
pub mod state;
mod sweep;
pub mod voters;
mod ways;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use peering::Peering;
pub use proposer::Clock;
pub use ways::{Connect, Reach, Ways};

use cluster::{Cluster, Part};
use fence::Fence;
use placing::Placing;
use proposer::Proposer;
use protocol::Channel;
use protocol::cluster::{Admission, NodeKey, Roster};
use protocol::metadata::Metadata;
use protocol::peers::Peers;
use protocol::stream::FRAME_BYTES_MAX;
use rights::Rights;
use runtime::{Bus, Conversations, Given, Link, Supervisor};
use scheduling::Scheduling;
use service::Service;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

/// The service's own directory, which is its whole file system.
const HOME: &str = "/";
/// The database's directory in it; beside it lie the keys of [`keyring`].
const DATABASE: &str = "db";

/// Takes the descriptors, opens the database, and serves until the supervisor says stop.
pub fn run(given: Given) -> Result<(), Error> {
    run_in(given, Path::new(HOME), Rc::new(runtime::unix_ms))
}

/// The same with everything in `home`, at the time of `clock`: for tests.
pub fn run_in(mut given: Given, home: &Path, clock: Clock) -> Result<(), Error> {
    let setup = Setup {
        door: given.channel("door")?,
        bus: given.channel("bus")?,
        root: given.root()?,
        node: given.setting("node")?,
        shards: given.parsed("shards")?,
        key: key(&mut given)?,
        part: part(&mut given)?,
        copies: copies(&mut given)?,
    };
    let supervisor = given.finish()?;
    let tokio = runtime::event_loop()?;
    LocalSet::new().block_on(&tokio, serve(setup, supervisor, home, clock))
}

/// What the service is given.
struct Setup {
    door: Channel,
    bus: Channel,
    root: OwnedFd,
    node: String,
    shards: u32,
    key: NodeKey,
    part: Part,
    copies: Option<u8>,
}

/// This node's public key, 64 hexadecimal digits.
fn key(given: &mut Given) -> Result<NodeKey, runtime::Error> {
    let text = given.setting("node_key")?;
    text.parse()
        .map_err(|()| runtime::Error::Setting("node_key".into(), text))
}

/// Whether it makes a cluster.
fn part(given: &mut Given) -> Result<Part, runtime::Error> {
    let text = given.setting("founder")?;
    match text.as_str() {
        "yes" => Ok(Part::Founder),
        "no" => Ok(Part::Joiner),
        _ => Err(runtime::Error::Setting("founder".into(), text)),
    }
}

/// How many copies a founder's cluster is to have; empty: nobody has said.
fn copies(given: &mut Given) -> Result<Option<u8>, runtime::Error> {
    let text = given.setting("copies")?;
    let known = |copies: &u8| ::layout::REPLICATIONS.contains(&usize::from(*copies));
    match text.as_str() {
        "" => Ok(None),
        text => match text.parse().ok().filter(known) {
            Some(copies) => Ok(Some(copies)),
            None => Err(runtime::Error::Setting("copies".into(), text.into())),
        },
    }
}

async fn serve(
    setup: Setup,
    supervisor: Supervisor,
    home: &Path,
    clock: Clock,
) -> Result<(), Error> {
    let bus = Bus::new(setup.bus)?;
    let (told, roster) = watch::channel(None);
    let company = Company {
        me: raft::Me {
            name: setup.node,
            number: Some(raft::number_of(&setup.key)),
            founding: setup.part == Part::Founder,
            ways: Rc::new(Ways::new(
                FRAME_BYTES_MAX,
                roster,
                ways::Links::new(bus.clone()),
            )),
        },
        key: setup.key,
        part: setup.part,
        copies: None,
        wished_copies: setup.copies,
    };
    let opened = Parts::open(setup.shards, company, home, clock, setup.root, bus).await;
    let (parts, ordered) = match opened {
        Ok(opened) => opened,
        Err(
            error @ (Error::Format { .. } | Error::Shards { .. } | Error::Keys(_) | Error::Node),
        ) => {
            // The same would happen at each restart.
            supervisor.failed(&error)?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    supervisor.ready(format!("{} shards", setup.shards))?;
    parts.begin(ordered);
    parts.meet(told);
    let store = parts.store.clone();
    let conversations = parts.conversations();
    let served = tokio::select! {
        served = runtime::serve_all(setup.door, supervisor, conversations) => served.map_err(Error::Given),
        error = store.failure() => Err(error),
    };
    if served.is_ok() {
        store.close().await;
    }
    served
}

/// What this node knows of others.
pub(crate) struct Company {
    /// This node, as its groups know it.
    pub(crate) me: raft::Me,
    /// Its key.
    pub(crate) key: NodeKey,
    /// Whether it makes the cluster.
    pub(crate) part: Part,
    /// In how many copies a shard is kept at most. `None`: in as many as blocks, as the applied layout says.
    pub(crate) copies: Option<usize>,
    /// How many copies of blocks and shards the cluster is to have from its first applied layout on, if this node founds it.
    pub(crate) wished_copies: Option<u8>,
}

/// The parts of the service.
struct Parts {
    store: Rc<raft::Store>,
    service: Rc<Service>,
    buckets: Rc<buckets::Buckets>,
    sweep: Rc<sweep::Sweep>,
    copies: Option<usize>,
}

impl Parts {
    /// Opens the database in `home` and puts the service together.
    async fn open(
        shards: u32,
        company: Company,
        home: &Path,
        clock: Clock,
        root: OwnedFd,
        bus: Bus,
    ) -> Result<(Self, mpsc::Receiver<sweep::Order>), Error> {
        let Company {
            me,
            key,
            part,
            copies,
            wished_copies,
        } = company;
        let ways = me.ways.clone();
        let store = raft::Store::open(&home.join(DATABASE), shards, me).await?;
        let keyring = keyring::Keyring::open(home)?;
        let store = Rc::new(store);
        let proposer = Rc::new(Proposer::new(store.clone(), clock, ways));
        let rights = Rc::new(Rights::new(proposer.clone()));
        let fence = Rc::new(Fence::default());
        let blocks = || Link::new(bus.clone(), "block-store");
        let membership = Link::new(bus.clone(), "membership");
        let cluster = Cluster::new(proposer.clone(), membership, key, part);
        let orchestrator = Link::new(bus.clone(), "orchestrator");
        let scheduling = Scheduling::new(proposer.clone(), orchestrator, blocks())?;
        let wished = wished_copies.filter(|_| part == Part::Founder);
        let placing = Placing::new(proposer.clone(), blocks(), key, wished);
        let space = Rc::new(space::Space::of(root));
        let sweep = sweep::Sweep::new(proposer.clone(), fence.clone(), space.clone(), blocks());
        let sweep = Rc::new(sweep);
        let health = health::Watch::new(
            proposer.clone(),
            blocks(),
            sweep.clone(),
            bus.clone(),
            copies,
        );
        let buckets = Rc::new(buckets::Buckets::new(proposer.clone()));
        let (orders, ordered) = sweep::orders();
        let lifecycle = lifecycle::Worker::new(proposer.clone(), rights.clone());
        let service = Rc::new(Service {
            lifecycle: Rc::new(lifecycle),
            proposer,
            buckets: buckets.clone(),
            fence,
            keyring,
            sweep: sweep.clone(),
            orders,
            space,
            rights,
            cluster: Rc::new(cluster),
            placing: Rc::new(placing),
            scheduling: Rc::new(scheduling),
            health: Rc::new(health),
        });
        let parts = Self {
            store,
            service,
            buckets,
            sweep,
            copies,
        };
        Ok((parts, ordered))
    }

    /// What is answered at the door.
    fn conversations(&self) -> Conversations {
        let service = self.service.clone();
        Conversations::of::<Metadata, _>(service.clone())
            .and::<Admission, _>(service.clone())
            .and::<Peers, _>(Rc::new(Peering { service }))
    }

    /// Begins what makes this node one of several: `told` is told of the newest roster.
    fn meet(&self, told: watch::Sender<Option<Roster>>) {
        let (cluster, placing) = (self.service.cluster.clone(), self.service.placing.clone());
        tokio::task::spawn_local(async move { cluster.tend(told).await });
        tokio::task::spawn_local(async move { placing.tend().await });
        let scheduling = self.service.scheduling.clone();
        tokio::task::spawn_local(async move { scheduling.tend().await });
        let health = self.service.health.clone();
        tokio::task::spawn_local(async move { health.tend().await });
    }

    /// Begins what is done beside the calls.
    fn begin(&self, ordered: mpsc::Receiver<sweep::Order>) {
        let service = &self.service;
        let (space, proposer) = (service.space.clone(), service.proposer.clone());
        tokio::task::spawn_local(space.tend(proposer));
        let lifecycle = service.lifecycle.clone();
        tokio::task::spawn_local(async move { lifecycle.run().await });
        let buckets = self.buckets.clone();
        tokio::task::spawn_local(async move { buckets.look_after().await });
        let sweep = self.sweep.clone();
        tokio::task::spawn_local(async move { sweep.run(ordered).await });
        let rights = service.rights.clone();
        tokio::task::spawn_local(async move { rights.keep().await });
        let members = members::Executor {
            service: service.clone(),
            copies: self.copies,
        };
        tokio::task::spawn_local(members.run());
    }
}

pub(crate) fn random_number() -> Result<u64, Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::System(std::io::Error::other(error.to_string())))?;
    Ok(u64::from_le_bytes(bytes))
}
