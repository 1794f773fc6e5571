//! metadata: keys, buckets, objects and uploads, strongly consistent and on disk.
//!
//! Given: `door`, `bus`, its data directory as its whole file system. Serves: `protocol::metadata`, and `protocol::peers` to metadata on other nodes. Calls:
//! block-store, for the sweep only, and metadata on other nodes.
//!
//! A call comes in at [`service`](mod@service), is judged there and becomes a read of a shard's rows or a command for it. A shard is a
//! Raft group ([`raft`]) around a pure state machine ([`state`]). Only `sweep`, `buckets` and `events` know of more than one shard. Where the cluster has
//! more nodes, `voters` plans who has a vote in which shard, `members` carries it out, `peering` answers the others, and `rights` keeps what each node knows of
//! keys and buckets in step.
//! Absent on purpose: any byte of an object that is longer than 8 KiB, any opinion on who may do what beyond the revision of a call.
#![forbid(unsafe_code)]

mod buckets;
mod error;
mod events;
mod fence;
mod keyring;
mod lifecycle;
mod members;
mod peering;
mod proposer;
pub mod raft;
mod rights;
mod routing;
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

use fence::Fence;
use proposer::Proposer;
use protocol::Channel;
use rights::Rights;
use runtime::{Bus, Given, Link, Supervisor};
use service::Service;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// The service's own directory, which is its whole file system.
const HOME: &str = "/";
/// The database's directory in it; beside it lie the keys of [`keyring`].
const DATABASE: &str = "db";

/// Takes the descriptors, opens the database, and serves until the supervisor says stop.
pub fn run(given: Given) -> Result<(), Error> {
    let clock: Clock = Rc::new(|| {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    });
    run_in(given, Path::new(HOME), clock)
}

/// The same with everything in `home`, at the time of `clock`: for tests.
pub fn run_in(mut given: Given, home: &Path, clock: Clock) -> Result<(), Error> {
    let setup = Setup {
        door: given.channel("door")?,
        bus: given.channel("bus")?,
        root: given.root()?,
        node: given.setting("node")?,
        shards: given.parsed("shards")?,
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
}

async fn serve(
    setup: Setup,
    supervisor: Supervisor,
    home: &Path,
    clock: Clock,
) -> Result<(), Error> {
    let cluster = Cluster::none(&setup.node);
    let opened = Parts::open(setup.shards, cluster, home, clock, setup.root, setup.bus).await;
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
    let store = parts.store.clone();
    let served = tokio::select! {
        served = runtime::serve(setup.door, supervisor, parts.service) => served.map_err(Error::Given),
        error = store.failure() => Err(error),
    };
    if served.is_ok() {
        store.close().await;
    }
    served
}

/// What this node knows of the cluster that it belongs to.
pub struct Cluster {
    /// This node, as its groups know it.
    pub me: raft::Me,
    /// In how many copies a shard is kept at most: 1, 2, 3 or 5. `None`: in three, or in as many as there are zones with capacity.
    pub copies: Option<usize>,
}

impl Cluster {
    /// A node that will never have company.
    fn none(node: &str) -> Self {
        Self {
            me: raft::Me::alone(node),
            copies: None,
        }
    }
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
        cluster: Cluster,
        home: &Path,
        clock: Clock,
        root: OwnedFd,
        bus: Channel,
    ) -> Result<(Self, mpsc::Receiver<sweep::Order>), Error> {
        let Cluster { me, copies } = cluster;
        let ways = me.ways.clone();
        let store = raft::Store::open(&home.join(DATABASE), shards, me).await?;
        let keyring = keyring::Keyring::open(home)?;
        let store = Rc::new(store);
        let proposer = Rc::new(Proposer::new(store.clone(), clock, ways));
        let rights = Rc::new(Rights::new(proposer.clone()));
        let fence = Rc::new(Fence::default());
        let blocks = Link::new(Bus::new(bus)?, "block-store");
        let space = Rc::new(space::Space::of(root));
        let sweep = sweep::Sweep::new(proposer.clone(), fence.clone(), space.clone(), blocks);
        let sweep = Rc::new(sweep);
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
