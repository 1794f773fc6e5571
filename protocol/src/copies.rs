//! Copies of blocks: what one node's block-store says to another's.
//!
//! Whole blocks travel in one frame ([`crate::stream`]). Nothing here removes anything: a node decides by itself what it need not keep, after it
//! has asked who has it. Whoever says that it has a block says at which moment, and lifts the block's mark if a sweep has condemned it.

use crate::block::serde_bytes_vec;
use crate::block::{BlockError, BlockId, BlockRef, Epoch, HashKey};
use crate::stream::FRAME_BYTES_MAX;
use crate::wire::Conversation;
use serde::{Deserialize, Serialize};

/// The most names in one call.
pub const NAMES_MAX: usize = 1_024;
/// Into so many partitions blocks are divided, by the first byte of their name.
pub const PARTITIONS: usize = 256;
/// The most nodes of a [`Placement`].
pub const PLACED_NODES_MAX: usize = 64;
/// The most copies of a block.
pub const COPIES_MAX: usize = 5;

/// Marker of this conversation.
pub enum Copies {}

impl Conversation for Copies {
    type Call = CopyCall;
    type Answer = Result<CopyAnswer, BlockError>;
    const NAME: &'static str = "copies";
    const NUMBER: u8 = 23;
    const VERSION: u8 = 3;
    const BYTES_MAX: usize = FRAME_BYTES_MAX;
    fn kind(call: &CopyCall) -> &dyn std::fmt::Debug {
        match call {
            CopyCall::Put { .. } => &"Put",
            CopyCall::Get { .. } => &"Get",
            CopyCall::Lacking { .. } => &"Lacking",
            CopyCall::Sum { .. } => &"Sum",
        }
    }
}

/// What is asked of another node's block-store. All of it may be repeated without harm.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyCall {
    /// Keep this block: on disk when answered with [`CopyAnswer::Kept`], also where it was there already. Bytes that do not match their name are
    /// [`BlockError::Damaged`]. A repair of what was removed here as garbage not long ago is [`BlockError::Refused`]: the asker is about to find that out, too.
    Put {
        /// The name.
        id: BlockId,
        /// Its key.
        key: HashKey,
        /// The whole block.
        #[serde(with = "serde_bytes_vec")]
        bytes: Vec<u8>,
        /// No write waits for it.
        repair: bool,
    },
    /// The whole block, checked against its name. A packed place is looked at first, then the file of that name.
    Get {
        /// Which; its place is the one at whoever wrote it first.
        block: BlockRef,
    },
    /// Which of these are not there, or are known to be damaged.
    Lacking {
        /// At most [`NAMES_MAX`].
        blocks: Vec<BlockId>,
    },
    /// What the files of a partition add up to: two nodes with the same sum need not compare names.
    Sum {
        /// Which partition.
        partition: u8,
    },
}

impl std::fmt::Debug for CopyCall {
    // Bytes of clients do not belong in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Put { id, bytes, .. } => write!(f, "Put {id:?} of {} bytes", bytes.len()),
            Self::Get { block } => write!(f, "Get {:?}", block.id),
            Self::Lacking { blocks } => write!(f, "Lacking of {}", blocks.len()),
            Self::Sum { partition } => write!(f, "Sum {partition}"),
        }
    }
}

/// What the other block-store answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyAnswer {
    /// The block is on this node's disk, at this moment.
    Kept(Epoch),
    /// The block.
    Block {
        /// Its key.
        key: HashKey,
        /// All of it.
        #[serde(with = "serde_bytes_vec")]
        bytes: Vec<u8>,
    },
    /// To [`CopyCall::Lacking`].
    Lacking {
        /// Those that are not here.
        blocks: Vec<BlockId>,
        /// When the others were.
        epoch: Epoch,
    },
    /// See [`CopyCall::Sum`].
    Sum {
        /// How many files.
        files: u64,
        /// Their names, combined by exclusive or.
        names: [u8; 32],
    },
}

/// Where blocks belong, as metadata tells its local block-store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Of two, the higher counts.
    pub version: u64,
    /// How many copies of each block there are to be, at most [`COPIES_MAX`].
    pub copies: u8,
    /// Whom the numbers below mean: names in the roster. At most [`PLACED_NODES_MAX`].
    pub nodes: Vec<PlacedNode>,
    /// Which of `nodes` this node is; `None`: it stores nothing (a gateway), and keeps what it is given until the others have it.
    pub own: Option<u8>,
    /// The nodes of each of the [`PARTITIONS`].
    pub partitions: Vec<Vec<u8>>,
    /// While blocks move: the nodes of each partition afterwards. Blocks are then written to both, and read from either.
    pub next: Option<Vec<Vec<u8>>>,
}

/// A node of a [`Placement`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedNode {
    /// Its name in the roster.
    pub name: String,
    /// Its zone.
    pub zone: String,
}

impl Placement {
    /// Whether the numbers mean something: every partition has its nodes, none twice, and the bounds are kept.
    pub fn is_sound(&self) -> bool {
        let known = |node: &u8| usize::from(*node) < self.nodes.len();
        let sound = |nodes: &Vec<u8>| {
            let mut seen = nodes.clone();
            seen.sort_unstable();
            seen.dedup();
            !nodes.is_empty()
                && seen.len() == nodes.len()
                && nodes.len() <= COPIES_MAX
                && nodes.iter().all(known)
        };
        let all = |partitions: &Vec<Vec<u8>>| {
            partitions.len() == PARTITIONS && partitions.iter().all(sound)
        };
        self.nodes.len() <= PLACED_NODES_MAX
            && self.own.iter().all(known)
            && all(&self.partitions)
            && self.next.iter().all(all)
    }
}
