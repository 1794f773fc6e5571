//! How the cluster is: what each node says of itself, and what one node has put together of all.
//!
//! Facts only. What follows from them (what may be lost, what is to be done) is the reader's to judge.

use crate::block::Usage;
use crate::cluster::{NodeEntry, NodeKey, Roster};
use serde::{Deserialize, Serialize};

/// What a block-store holds and what came to it. See [`crate::block::BlockCall::Inventory`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// One for each of the [`crate::copies::PARTITIONS`]; empty while they are being counted, and where there are too many packed blocks to be
    /// remembered by name.
    pub tallies: Vec<Tally>,
    /// Copies that other nodes brought.
    pub received: Received,
    /// When every block had last been read and checked, in milliseconds since 1970; 0: not yet.
    pub scrubbed_ms: u64,
}

/// The blocks of one partition on one node. Two nodes with the same tally have the same blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many.
    pub blocks: u64,
    /// Bytes 8 to 15 of their names, combined by exclusive or.
    pub names: u64,
}

/// Copies that came from other nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Blocks since the start.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of the last [`Received::recent_ms`].
    pub recent_bytes: u64,
    /// How far back that goes, at most a minute, in milliseconds.
    pub recent_ms: u64,
}

impl Received {
    /// Bytes per second, as of late.
    pub fn rate(&self) -> u64 {
        let ms = u128::from(self.recent_ms.max(1));
        u64::try_from(u128::from(self.recent_bytes) * 1_000 / ms).unwrap_or(u64::MAX)
    }
}

/// How the bytes between this node and others are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sealing {
    /// By the kernel.
    Kernel,
    /// By the relay, because this kernel does no TLS.
    Relay,
}

/// What one node's metadata says of its own node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeHealth {
    /// Of its block-store, or why there is nothing to say.
    pub blocks: Result<(Usage, Inventory), String>,
    /// Its part in each shard.
    pub shards: Vec<ShardHealth>,
    /// `None`: it has not called another node yet.
    pub sealing: Option<Sealing>,
    /// The shards know a later moment of its block-store than the store itself: its disk was put back ([`OLDER_DISK`](crate::block::OLDER_DISK)).
    pub older_disk: bool,
    /// Where blocks belong, for a node that has no rows; only where it was asked for.
    pub layout: Option<Placed>,
}

/// One node's part in a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardHealth {
    /// Which shard.
    pub shard: u16,
    /// Raft's term, by which the newest of several leaders is told.
    pub term: u64,
    /// The last applied entry.
    pub applied: u64,
    /// Numbers of the voters; while they change, the new ones.
    pub voters: Vec<u64>,
    /// If this node leads: those who have answered it not long ago and whose log is as good as its own.
    pub current: Option<Vec<u64>>,
}

/// Where blocks belong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Of each block; while blocks move, of the arrangement that is to be.
    pub copies: u8,
    /// Everybody who keeps blocks, or is to.
    pub holders: Vec<Holder>,
    /// The places in `holders` of each partition's nodes; while blocks move, of the present and of those to be.
    pub partitions: Vec<Vec<u8>>,
    /// When the move under way began, in milliseconds since 1970.
    pub moving_since_ms: Option<u64>,
    /// Changes wait to be applied.
    pub staged: bool,
}

impl Placed {
    /// How many partitions belong to the holder at this place.
    pub fn partitions_of(&self, place: usize) -> usize {
        let here = |nodes: &&Vec<u8>| nodes.iter().any(|node| usize::from(*node) == place);
        self.partitions.iter().filter(here).count()
    }
}

/// A node that keeps blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Who.
    pub key: NodeKey,
    /// Its zone in the layout.
    pub zone: String,
    /// It is to keep blocks when the move under way is over; without one, it does.
    pub stays: bool,
}

/// All that one node knows of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Who belongs; `None`: this node belongs to no cluster yet.
    pub roster: Option<Roster>,
    /// Where blocks belong; `None`: on the one node that there is, or nobody who knows is in reach.
    pub layout: Option<Layout>,
    /// All members, and who else keeps blocks.
    pub nodes: Vec<NodeReport>,
    /// By number.
    pub shards: Vec<ShardReport>,
}

impl Health {
    /// The node with this key.
    pub fn node(&self, key: &NodeKey) -> Option<&NodeReport> {
        self.nodes.iter().find(|node| node.key == *key)
    }

    /// The node of this number.
    pub fn numbered(&self, number: u64) -> Option<&NodeReport> {
        self.nodes.iter().find(|node| node.number == number)
    }

    /// A node's entry in the roster.
    pub fn entry(&self, key: &NodeKey) -> Option<&NodeEntry> {
        self.roster.as_ref()?.entry(key)
    }

    /// What a node is called; of one that no roster has the key.
    pub fn name_of(&self, key: &NodeKey) -> String {
        let entry = self.entry(key);
        entry.map_or_else(|| key.to_string(), |entry| entry.name.clone())
    }
}

/// Where blocks belong and where they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// See [`Placed`].
    pub placed: Placed,
    /// For each partition those of its nodes that are in reach and have all of its blocks that anybody in reach has; places in `holders`.
    pub complete: Vec<Vec<u8>>,
}

/// A node, as another one knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Who.
    pub key: NodeKey,
    /// Its number in every shard.
    pub number: u64,
    /// What it said last, without its tallies and shards.
    pub said: Option<Said>,
    /// Why it said nothing now.
    pub silent: Option<String>,
    /// Blocks that belong to it and that others in reach have. `None`: it cannot be compared.
    pub lacking_blocks: Option<u64>,
    /// About so many bytes; `None`: no copy was made yet whose size tells.
    pub lacking_bytes: Option<u64>,
}

/// What a node said of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// How long ago, in milliseconds; 0: just now.
    pub ago_ms: u64,
    /// Of its block-store, or why not.
    pub usage: Result<Usage, String>,
    /// Copies that came to it.
    pub received: Received,
    /// See [`Inventory::scrubbed_ms`].
    pub scrubbed_ms: u64,
    /// See [`NodeHealth::sealing`].
    pub sealing: Option<Sealing>,
    /// See [`NodeHealth::older_disk`].
    pub older_disk: bool,
}

/// A shard, as far as it could be found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardReport {
    /// Which.
    pub shard: u16,
    /// The number of the node that leads it, if one in reach does.
    pub leader: Option<u64>,
    /// Numbers of its voters.
    pub voters: Vec<u64>,
    /// Those of them that are in reach and have what the leader has.
    pub current: Vec<u64>,
    /// So many voters it should have.
    pub wanted: u8,
}

impl ShardReport {
    /// Whether a majority of the voters is left without those that `is_gone` names.
    pub fn outlives(&self, is_gone: impl Fn(u64) -> bool) -> bool {
        let left = self.current.iter().filter(|number| !is_gone(**number));
        left.count() > self.voters.len() / 2
    }
}
