//! One node's metadata to another's: Raft's messages, calls for whoever leads, and the lease on the registry.
//!
//! Only members of the cluster speak it, over connections that the buses have authenticated. Who asks is the connection's to say, never the
//! message's. Raft's own messages travel as bytes, because only metadata knows their form.

use crate::block::{BlockRef, Epoch};
use crate::health::NodeHealth;
use crate::metadata::{Answer, BucketId, Call, MetadataError, Reply};
use crate::schedule::{Orders, Report};
use crate::stream::FRAME_BYTES_MAX;
use crate::wire::Conversation;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How long a lease on the registry lasts, in milliseconds, from when its holder asked for it.
pub const LEASE_MS: u64 = 3_000;
/// How often a holder asks for the next one, in milliseconds.
pub const RENEWAL_MS: u64 = 1_000;
/// The most blocks of one [`PeersCall::Referenced`] and one [`PeersCall::Garbage`].
pub const REFERENCED_MAX: usize = 1_024;
/// The most moments of one [`PeersCall::Bring`]: one for each store.
pub const WITNESS_MAX: usize = 128;

/// The most buckets of one [`PeersAnswer::Places`]. A name has at most 63 bytes.
pub const PLACES_MAX: usize = 1_000;

/// Marker of this conversation.
pub enum Peers {}

impl Conversation for Peers {
    type Call = PeersCall;
    type Answer = PeersAnswer;
    const NAME: &'static str = "peers";
    const NUMBER: u8 = 22;
    const VERSION: u8 = 3;
    const BYTES_MAX: usize = FRAME_BYTES_MAX;
}

/// What one node's metadata says to another's.
#[derive(Debug, Serialize, Deserialize)]
pub enum PeersCall {
    /// A message of a shard's Raft group → [`PeersAnswer::Raft`]. Harmless to repeat.
    Raft {
        /// Which shard.
        shard: u16,
        /// What.
        message: RaftMessage,
    },
    /// A part of a snapshot of a shard → [`PeersAnswer::Done`], or [`PeersAnswer::Raft`] to the last. If either side ends half-way, what came is dropped, and the next
    /// snapshot begins anew.
    Snapshot {
        /// Which shard.
        shard: u16,
        /// Drawn at random by the sender: parts of another are refused once a newer one has begun.
        transfer: u64,
        /// Which part.
        part: SnapshotPart,
    },
    /// A client's call for the node that leads → [`PeersAnswer::Asked`] or [`PeersAnswer::NotLeader`], after which nothing has happened. A write must not be sent again
    /// if its answer is lost.
    Ask {
        /// The service on the asking node that asks, by its manifest's name.
        client: String,
        /// What it asks.
        call: Call,
    },
    /// A change of a shard that another node's metadata works on (a bucket being made) → [`PeersAnswer::Proposed`] or [`PeersAnswer::NotLeader`].
    Propose {
        /// Which shard.
        shard: u16,
        /// In metadata's own form.
        #[serde(with = "crate::block::serde_bytes_vec")]
        change: Vec<u8>,
    },
    /// Which of these blocks the shard refers to, as of now or as of a moment at which it refused earlier writes already → [`PeersAnswer::Referenced`] or
    /// [`PeersAnswer::NotLeader`]. A read.
    Referenced {
        /// Which shard.
        shard: u16,
        /// At most [`REFERENCED_MAX`].
        blocks: Vec<BlockRef>,
        /// The shard must have been told of this sweep ([`PeersAnswer::NotLeader`] without a name otherwise).
        since: Option<Epoch>,
    },
    /// The buckets whose objects are in the shard, as of now, behind the number `after` → [`PeersAnswer::Places`] or [`PeersAnswer::NotLeader`]. A read.
    Places {
        /// Which shard.
        shard: u16,
        /// The last number of the page before; 0 to start.
        after: u64,
    },
    /// Commits an empty entry: when it is answered, every write that another leader had begun before has either taken effect or never will →
    /// [`PeersAnswer::Done`] or [`PeersAnswer::NotLeader`]. Harmless to repeat.
    Settle {
        /// Which shard.
        shard: u16,
    },
    /// To the leader of shard 0: let me answer by my copy of the registry for [`LEASE_MS`] from when I sent this → [`PeersAnswer::Leased`],
    /// [`PeersAnswer::Behind`] or [`PeersAnswer::NotLeader`].
    Renew {
        /// The revision of the asker's copy; everything that it admitted by an older one is over.
        revision: u64,
    },
    /// From the leader of shard 0 to a holder of a lease: answer when your copy has this revision and everything that you admitted by
    /// an older one is over → [`PeersAnswer::Done`]. Harmless to repeat.
    Confirm {
        /// The revision.
        revision: u64,
    },
    /// The keys under which the data keys of encrypted objects lie in rows, before a node gets rows → [`PeersAnswer::Done`] when they
    /// are on its disk. Harmless to repeat.
    TakeKeys(MasterKeys),
    /// To the leader of shard 0: how this node is, and what is it to run? → [`PeersAnswer::Orders`] or [`PeersAnswer::NotLeader`]. Harmless to repeat.
    Report(Report),
    /// As [`PeersCall::Ask`], for a write that brings blocks.
    Bring {
        /// The service on the asking node that asks, by its manifest's name.
        client: String,
        /// What it asks.
        call: Call,
        /// Where and when its blocks were seen; at most [`WITNESS_MAX`].
        witness: Vec<Epoch>,
    },
    /// Nobody referred to these blocks when the asker looked: look for yourself soon, and remove them → [`PeersAnswer::Done`]. Nothing is lost if it does not come.
    Garbage {
        /// At most [`REFERENCED_MAX`].
        blocks: Vec<BlockRef>,
    },
    /// How the other node is → [`PeersAnswer::Health`]. A read; what it asks its own block-store is bounded in time.
    Health {
        /// Also where blocks belong.
        layout: bool,
    },
}

/// A message of openraft's, in postcard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RaftMessage {
    /// Entries behind one that both have, or none: a heartbeat.
    Append(#[serde(with = "crate::block::serde_bytes_vec")] Vec<u8>),
    /// Elect me.
    Vote(#[serde(with = "crate::block::serde_bytes_vec")] Vec<u8>),
    /// Would you elect me?
    PreVote(#[serde(with = "crate::block::serde_bytes_vec")] Vec<u8>),
    /// Lead in my place.
    Transfer(#[serde(with = "crate::block::serde_bytes_vec")] Vec<u8>),
}

/// A part of a snapshot. Each is answered before the next is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotPart {
    /// The first; what came of another is dropped.
    Begin,
    /// Rows, in metadata's own form.
    Rows {
        /// Counted from 0: a part that comes twice is taken once.
        number: u32,
        /// Chunks, in order.
        chunks: Vec<Chunk>,
    },
    /// The last: put it in the place of the state.
    Install {
        /// How many [`SnapshotPart::Rows`] there were.
        parts: u32,
        /// The sender's vote, in postcard.
        #[serde(with = "crate::block::serde_bytes_vec")]
        vote: Vec<u8>,
        /// What the snapshot is of, in postcard.
        #[serde(with = "crate::block::serde_bytes_vec")]
        meta: Vec<u8>,
    },
}

/// Some rows of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk(#[serde(with = "crate::block::serde_bytes_vec")] pub Vec<u8>);

/// The lines of a file of master keys. Its `Debug` form shows nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterKeys(#[serde(with = "crate::block::serde_bytes_vec")] pub Vec<u8>);

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKeys")
    }
}

/// A bucket in the shard of its objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Which bucket.
    pub bucket: BucketId,
    /// Its name, if it got one.
    pub name: String,
    /// Not being deleted.
    pub open: bool,
    /// It makes versions, or has made some.
    pub versioned: bool,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
pub enum PeersAnswer {
    /// openraft's answer, in postcard.
    Raft(#[serde(with = "crate::block::serde_bytes_vec")] Vec<u8>),
    /// Done; nothing to say.
    Done,
    /// To [`PeersCall::Ask`].
    Asked(Answer),
    /// To [`PeersCall::Propose`].
    Proposed(Result<Reply, MetadataError>),
    /// To [`PeersCall::Referenced`], in the same order.
    Referenced(Vec<bool>),
    /// To [`PeersCall::Places`].
    Places {
        /// At most [`PLACES_MAX`], by number.
        places: Vec<Place>,
        /// More follow.
        more: bool,
    },
    /// To [`PeersCall::Renew`]: granted.
    Leased,
    /// To [`PeersCall::Renew`]: not granted, the present revision is this one.
    Behind {
        /// At the leader.
        revision: u64,
    },
    /// To [`PeersCall::Health`].
    Health(NodeHealth),
    /// Nothing was done, because another node leads the shard.
    NotLeader {
        /// Its name, if it is known.
        leader: Option<String>,
    },
    /// Nothing was done; why.
    Refused(String),
    /// To [`PeersCall::Report`].
    Orders(Orders),
}
