//! The layout: which nodes keep blocks, how many copies there are, and what moves. Rows of shard 0.

use crate::cluster::NodeKey;
use serde::{Deserialize, Serialize};

/// What a node is to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Who.
    pub key: NodeKey,
    /// Where it stands: copies of a block are in different zones.
    pub zone: String,
    /// What it gives to the cluster, in bytes; 0: nothing, it is a gateway.
    pub capacity_bytes: u64,
}

/// A change that waits to be applied, or is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayoutEdit {
    /// The node gets this role.
    Assign(Role),
    /// The node keeps nothing any more.
    Remove(NodeKey),
    /// So many copies of each block: 1, 2, 3 or 5.
    Copies(u8),
    /// What waits is forgotten.
    Revert,
}

/// The layout, for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutReport {
    /// Raised by each change. Who applies says which one was looked at.
    pub version: u64,
    /// Where blocks are.
    pub present: ArrangementReport,
    /// Where they move.
    pub moving: Option<MovingReport>,
    /// What waits to be applied.
    pub staged: Option<StagedReport>,
}

impl LayoutReport {
    /// Where blocks will be when nothing moves any more.
    pub fn newest(&self) -> &ArrangementReport {
        let moving = self.moving.as_ref();
        moving.map_or(&self.present, |moving| &moving.to)
    }
}

/// Who keeps how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrangementReport {
    /// Of each block.
    pub copies: u8,
    /// The most copies of a block in one zone.
    pub copies_per_zone: u8,
    /// What clients can store, all copies counted once, in bytes.
    pub usable_bytes: u64,
    /// By key.
    pub nodes: Vec<NodeShare>,
}

/// A node's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeShare {
    /// What it is to keep.
    pub role: Role,
    /// Of the 256 partitions.
    pub partitions: u16,
}

/// A move under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovingReport {
    /// Where blocks will be.
    pub to: ArrangementReport,
    /// Nodes that have given everything to whom it belongs.
    pub settled: Vec<NodeKey>,
    /// When it began, in milliseconds since 1970.
    pub begun_ms: u64,
}

/// What would be if it were applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedReport {
    /// So many edits wait.
    pub edits: u16,
    /// Where blocks would be; or why that cannot be.
    pub to: Result<ArrangementReport, String>,
    /// Copies of partitions that each node would get.
    pub moves: Vec<(NodeKey, u16)>,
}
