//! metadata: keys, buckets, objects and uploads, strongly consistent and on disk.
//!
//! Given: `door`, `bus`, its data directory as its whole file system. Serves: `protocol::metadata`. Calls: block-store, for the sweep only; membership,
//! to say who belongs.
//!
//! A call comes in at [`service`](mod@service), is judged there and becomes a read of a shard's rows or a command for it. A shard is a
//! Raft group ([`raft`]) around a pure state machine ([`state`]). Only `sweep`, `buckets` and `events` know of more than one shard.
//! Absent on purpose: any byte of an object that is longer than 8 KiB, any opinion on who may do what beyond the revision of a call.
#![forbid(unsafe_code)]

mod admission;
mod buckets;
mod cluster;
mod error;
mod events;
mod fence;
mod keyring;
mod lifecycle;
mod proposer;
pub mod raft;
mod service;
mod space;
pub mod state;
mod sweep;

pub use error::Error;
pub use proposer::Clock;

use cluster::{Cluster, Part};
use fence::Fence;
use proposer::Proposer;
use protocol::Channel;
use protocol::cluster::NodeKey;
use protocol::metadata::Metadata;
use runtime::{Bus, Given, Link, Supervisor};
use service::Service;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};
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
        key: key(&mut given)?,
        part: part(&mut given)?,
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

async fn serve(
    setup: Setup,
    supervisor: Supervisor,
    home: &Path,
    clock: Clock,
) -> Result<(), Error> {
    let seed = random_number()?;
    let directory = home.join(DATABASE);
    let opened = match raft::Store::open(&directory, &setup.node, setup.shards, seed).await {
        Ok(store) => keyring::Keyring::open(home).map(|keyring| (Rc::new(store), keyring)),
        Err(error) => Err(error),
    };
    let (store, keyring) = match opened {
        Ok(opened) => opened,
        Err(error @ (Error::Format { .. } | Error::Shards { .. } | Error::Keys(_))) => {
            // The same would happen at each restart.
            supervisor.failed(&error)?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    let proposer = Rc::new(Proposer::new(store.clone(), clock));
    let fence = Rc::new(Fence::default());
    let bus = Bus::new(setup.bus)?;
    let blocks = Link::new(bus.clone(), "block-store");
    let membership = Link::new(bus, "membership");
    let cluster = Cluster::new(proposer.clone(), membership, setup.key, setup.part);
    let cluster = Rc::new(cluster);
    let space = Rc::new(space::Space::of(setup.root));
    let sweep = sweep::Sweep::new(proposer.clone(), fence.clone(), space.clone(), blocks);
    let sweep = Rc::new(sweep);
    let buckets = Rc::new(buckets::Buckets::new(proposer.clone()));
    let (orders, ordered) = sweep::orders();
    let lifecycle = Rc::new(lifecycle::Worker::new(proposer.clone()));
    let service = Rc::new(Service {
        lifecycle: lifecycle.clone(),
        proposer: proposer.clone(),
        buckets: buckets.clone(),
        fence,
        keyring,
        sweep: sweep.clone(),
        orders,
        space: space.clone(),
        cluster: cluster.clone(),
        admitted: tokio::sync::RwLock::new(()),
    });
    supervisor.ready(format!("{} shards", setup.shards))?;
    tokio::task::spawn_local(space.tend(proposer));
    tokio::task::spawn_local(async move { lifecycle.run().await });
    tokio::task::spawn_local(async move { cluster.tend().await });
    tokio::task::spawn_local(async move {
        if let Err(error) = buckets.repair().await {
            runtime::warn!("looking for buckets whose deletion was cut off: {error}");
        }
        sweep.run(ordered).await;
    });
    let served = tokio::select! {
        served = runtime::serve::<Metadata, _>(setup.door, supervisor, service) => served.map_err(Error::Given),
        error = store.failure() => Err(error),
    };
    if served.is_ok() {
        store.close().await;
    }
    served
}

fn random_number() -> Result<u64, Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::System(std::io::Error::other(error.to_string())))?;
    Ok(u64::from_le_bytes(bytes))
}
