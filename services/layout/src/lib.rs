//! Which nodes keep each block: zones and capacities in, an assignment of partitions out.
//!
//! A block belongs to one of [`PARTITIONS`] by its name, and a partition to as many nodes as there are copies. [`assign`] gives every
//! partition its nodes so that (in this order) copies are in distinct zones, the cluster holds as much as these nodes can hold, each node is
//! filled in proportion to what it offers, and as little as possible moves. Pure: no clock, no randomness, no I/O; the same input gives the same assignment on every node.
#![forbid(unsafe_code)]

mod assignment;
mod flow;
mod shares;

pub use assignment::{Assignment, Move, Proposal, assign};

use protocol::block::BlockId;
use protocol::cluster::NodeKey;
use std::fmt;

/// Into so many parts the blocks are divided. Enough that shares of 64 nodes are even within a few percent, and few enough that an assignment
/// is some kilobytes.
pub const PARTITIONS: usize = 256;
/// How many copies there may be.
pub const REPLICATIONS: [usize; 4] = [1, 2, 3, 5];

/// A node as the layout sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Who.
    pub key: NodeKey,
    /// Where.
    pub zone: String,
    /// How much it offers, in bytes; 0: a gateway, which gets nothing.
    pub capacity_bytes: u64,
}

/// Why there is no assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Not one of [`REPLICATIONS`].
    Replication(usize),
    /// Each copy needs a node of its own.
    TooFewNodes {
        /// Copies.
        needed: usize,
        /// Nodes that offer anything.
        found: usize,
    },
    /// The nodes together offer less than a byte for each copy of each partition.
    TooSmall,
    /// Two entries of one node.
    Twice(NodeKey),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replication(found) => write!(f, "{found} copies: choose 1, 2, 3 or 5"),
            Self::TooFewNodes { needed, found } => write!(
                f,
                "{needed} copies need {needed} nodes with a capacity, and there are {found}: add nodes, or choose fewer copies"
            ),
            Self::TooSmall => write!(
                f,
                "the nodes offer no capacity to speak of: assign them some"
            ),
            Self::Twice(key) => write!(f, "node {key} is listed twice"),
        }
    }
}

impl std::error::Error for Error {}

/// The partition of a block. Never to be changed: it says where the data is.
pub fn partition_of(block: &BlockId) -> usize {
    // A hash is as good as random in each of its bytes.
    usize::from(block.0[0])
}
