//! A shard as a Raft group, and the store that holds all of them.

use super::Consensus;
use super::disk::Disk;
use super::log::Log;
use super::machine::Machine;
use super::network::NoPeers;
use super::shard::{self, Shard};
use super::snapshot::{self, Staged, View};
use super::types::{Peer, Proposal, Types};
use super::writer::{Space, When, Write};
use crate::Error;
use crate::state::{self, Command, Outcome};
use openraft::async_runtime::WatchReceiver;
use openraft::{Config, Raft, ReadPolicy, SnapshotPolicy};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Applied entries beyond this are removed from the log, in steps of as many. Few, so that most die in the memtable.
const LOG_KEPT: u64 = 64;
/// How long a group may take to find its leader at the start.
const ELECTION_MAX: Duration = Duration::from_secs(10);

/// What a data directory is. One row for all shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    /// The form of everything else.
    format: u32,
    /// How many shards there are; which one a bucket is in follows from it.
    shards: u32,
    /// This node's number in every group, drawn at random when the directory was made.
    node: u64,
}

/// All shards of this node.
pub struct Store {
    disk: Rc<Disk>,
    /// The first is the registry's.
    groups: Vec<Rc<Group>>,
    registry: Rc<Group>,
}

impl Store {
    /// Opens the directory `path`, or makes it; `seed` becomes the node's number then. Every group has a leader and has applied
    /// its whole log when this comes back. Must run where tasks may be spawned locally.
    pub async fn open(path: &Path, node: &str, shards: u32, seed: u64) -> Result<Self, Error> {
        let disk = Disk::open(path)?;
        let opened = async {
            let identity = identify(&disk, shards, seed).await?;
            let starting = (0..identity.shards).map(|number| {
                let number = u16::try_from(number).map_err(|_| Error::Damaged("number of shards"));
                let (disk, peer) = (disk.clone(), Peer { name: node.into() });
                async move { Group::start(&disk, number?, identity.node, peer).await }
            });
            // All at once, so that they share their syncs.
            futures_util::future::try_join_all(starting).await
        };
        let groups = tokio::select! {
            groups = opened => groups?,
            error = disk.failure() => return Err(error),
        };
        let registry = groups
            .first()
            .cloned()
            .ok_or(Error::Damaged("number of shards, which is 0"))?;
        Ok(Self {
            disk,
            groups,
            registry,
        })
    }

    /// The shards in order of their numbers.
    pub fn groups(&self) -> &[Rc<Group>] {
        &self.groups
    }

    /// Shard 0, which holds keys and the names of buckets.
    pub fn registry(&self) -> &Rc<Group> {
        &self.registry
    }

    /// What the state takes on the disk, in bytes.
    pub fn state_bytes(&self) -> u64 {
        self.disk.state_bytes()
    }

    /// Asks for the space of removed rows. It takes as much space besides as is left of the state; if that is not there, the database
    /// fails, so look first.
    pub fn merge(&self) {
        self.disk.merge();
    }

    /// Comes back only when the disk has failed or a group has ended: then the process has to. For one listener.
    pub async fn failure(&self) -> Error {
        let ended = self.groups.iter().map(|group| Box::pin(group.ended()));
        tokio::select! {
            error = self.disk.failure() => error,
            (error, ..) = futures_util::future::select_all(ended) => error,
        }
    }

    /// Ends all groups and closes the database.
    pub async fn close(&self) {
        for group in &self.groups {
            // A group that ended already is as good.
            let _ = group.raft.shutdown().await;
        }
        self.disk.close();
    }
}

/// One shard's group on this node.
pub struct Group {
    shard: Rc<Shard>,
    raft: Raft<Types, Machine>,
    node: u64,
    /// This node is the only voter and the leader, and has applied all: nobody else can have written, so reads need no look at the
    /// lease. Ends for good with the first change of members.
    alone: Cell<bool>,
}

impl Group {
    /// Starts a group and waits until it has a leader and this node has applied all that is committed.
    async fn start(disk: &Rc<Disk>, number: u16, node: u64, peer: Peer) -> Result<Rc<Self>, Error> {
        let shard = Rc::new(Shard::open(disk, number)?);
        // What a snapshot left half-way.
        snapshot::remove_others(&shard).await?;
        let (log, machine) = (
            Log {
                shard: shard.clone(),
            },
            Machine {
                shard: shard.clone(),
            },
        );
        let config = Arc::new(config(number)?);
        let raft = Raft::new(node, config, NoPeers, log, machine)
            .await
            .map_err(raft_error)?;
        if raft.is_initialized().await.map_err(raft_error)? {
            // A lone voter need not wait for the silence of others. With others it just asks early.
            raft.trigger().elect(true).await.map_err(raft_error)?;
        } else {
            raft.initialize(BTreeMap::from([(node, peer)]))
                .await
                .map_err(raft_error)?;
        }
        let wait = raft.wait(Some(ELECTION_MAX));
        let ready = wait.metrics(
            |metrics| {
                let applied = metrics.last_applied.map(|applied| applied.index);
                metrics.current_leader.is_some() && applied >= metrics.last_log_index
            },
            "a leader, and everything applied",
        );
        let metrics = ready.await.map_err(raft_error)?;
        let alone = metrics.membership_config.voter_ids().eq([node]) && metrics.state.is_leader();
        // Nobody is there to hear heartbeats or to be elected; the ticks alone would cost 0.3 % of a core.
        raft.runtime_config().tick(!alone);
        Ok(Rc::new(Self {
            shard,
            raft,
            node,
            alone: Cell::new(alone),
        }))
    }

    /// The present revision of keys, rights and buckets; only shard 0 has one.
    pub fn revision(&self) -> u64 {
        self.shard.revision()
    }

    /// The rows as they are here, whoever leads: for estimates.
    pub fn rows(&self) -> &Shard {
        &self.shard
    }

    /// Where a snapshot for this shard is gathered.
    pub async fn receive_snapshot(&self) -> Result<Staged, Error> {
        Staged::begin(&self.shard).await
    }

    /// Comes back only when the group has ended.
    async fn ended(&self) -> Error {
        let mut metrics = self.raft.server_metrics();
        while metrics.changed().await.is_ok() {}
        let metrics = self.raft.metrics();
        let state = metrics.borrow_watched().running_state.clone();
        match state {
            Err(fatal) => Error::Raft(fatal.to_string()),
            Ok(()) => Error::Raft("a group ended".into()),
        }
    }
}

impl Consensus for Group {
    type State = Shard;

    async fn propose(&self, command: Command) -> Result<Outcome, Error> {
        let written = self.raft.client_write(Proposal(Arc::new(command))).await;
        Ok(written.map_err(raft_error)?.data)
    }

    async fn read(&self) -> Result<&Shard, Error> {
        if !self.alone.get() {
            self.raft
                .ensure_linearizable(ReadPolicy::LeaseRead)
                .await
                .map_err(raft_error)?;
        }
        Ok(&self.shard)
    }

    async fn change_members(&self, members: Vec<(u64, Peer)>) -> Result<(), Error> {
        self.alone.set(false);
        self.raft.runtime_config().tick(true);
        let voters: BTreeSet<u64> = members.iter().map(|(id, _)| *id).collect();
        for (id, peer) in members {
            if id != self.node {
                self.raft
                    .add_learner(id, peer, true)
                    .await
                    .map_err(raft_error)?;
            }
        }
        self.raft
            .change_membership(voters, false)
            .await
            .map_err(raft_error)?;
        Ok(())
    }

    async fn snapshot(&self) -> Result<View, Error> {
        View::of(&self.shard).await
    }

    fn status(&self) -> protocol::metadata::Shard {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership();
        let voters = members.voter_ids().map(|id| match members.get_node(&id) {
            Some(peer) => peer.name.clone(),
            None => id.to_string(),
        });
        protocol::metadata::Shard {
            number: u32::from(self.shard.number),
            leader: metrics.state.is_leader(),
            term: metrics.current_term,
            applied: metrics.last_applied.map_or(0, |applied| applied.index),
            voters: voters.collect(),
        }
    }
}

/// For nodes at home with 100 ms between them (facts.md); a lone voter needs none of it.
fn config(number: u16) -> Result<Config, Error> {
    let config = Config {
        cluster_name: format!("metadata-{number}"),
        heartbeat_interval: 1_500,
        election_timeout_min: 6_000,
        election_timeout_max: 9_000,
        install_snapshot_timeout: 5 * 60 * 1_000,
        max_payload_entries: 64,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(LOG_KEPT),
        max_in_snapshot_log_to_keep: LOG_KEPT,
        purge_batch_size: LOG_KEPT,
        enable_pre_vote: Some(true),
        // A restarted leader asks the others first (databendlabs/openraft#1511).
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().map_err(raft_error)
}

/// Reads what the directory is, or makes it so.
async fn identify(disk: &Rc<Disk>, shards: u32, seed: u64) -> Result<Identity, Error> {
    // Behind all shards' numbers.
    const KEY: [u8; 3] = [u8::MAX, u8::MAX, b'i'];
    if let Some(identity) = shard::read::<Identity>(&disk.spaces().meta, &KEY, "identity")? {
        return match identity {
            Identity { format, .. } if format != state::FORMAT => {
                Err(Error::Format { found: format })
            }
            Identity { shards: found, .. } if found != shards => {
                Err(Error::Shards { set: shards, found })
            }
            identity => Ok(identity),
        };
    }
    let identity = Identity {
        format: state::FORMAT,
        shards,
        node: seed,
    };
    let value = Some(shard::encode(&identity)?);
    let row = Write {
        space: Space::Meta,
        key: KEY.into(),
        value,
    };
    disk.written(vec![row], When::Synced).await?;
    Ok(identity)
}

fn raft_error(error: impl std::fmt::Display) -> Error {
    Error::Raft(error.to_string())
}
