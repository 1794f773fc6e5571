//! Which services run on which nodes, which nodes are being drained, and how far a rolling restart is: one row of shard 0.
//!
//! What is to be is computed by whoever proposes (`scheduler`, `rolling`) and stands in the command as a whole, so that replicas of two versions of the
//! program agree. It replaces what the proposer saw, and nothing else.

use super::Outcome;
use super::changes::{self, Changes};
use super::rows;
use super::store::Rows;
use crate::Error;
use protocol::bus::NAME_BYTES_MAX;
use protocol::cluster::{NODES_MAX, NodeKey};
use protocol::metadata::{MetadataError, Reply};
use protocol::schedule::PLACED_MAX;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The longest reason for which a rolling restart stopped, in bytes.
pub const STOPPED_BYTES_MAX: usize = 512;

/// The row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Raised by each change; 0 before the first.
    pub version: u64,
    /// Where each service that is placed is to run. At most [`PLACED_MAX`].
    pub services: BTreeMap<String, BTreeSet<NodeKey>>,
    /// No service is placed on them, and they lead no shard where others can.
    pub draining: BTreeSet<NodeKey>,
    /// The number of the last rolling restart.
    pub restarts: u64,
    /// It is under way.
    pub rolling: Option<Rolling>,
    /// Why it ended before its time.
    pub stopped: Option<String>,
}

/// A rolling restart that is under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rolling {
    /// Who is back.
    pub done: BTreeSet<NodeKey>,
    /// Whose turn it is.
    pub now: Option<NodeKey>,
    /// It leads nothing any more and is told to restart; before, it hands on its leads.
    pub told: bool,
}

/// Puts `next` in the place of the schedule; `Refused` unless its version is one above the present one's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleChange {
    /// All of it.
    pub next: Schedule,
}

impl Schedule {
    /// Nodes that lead no shard where others can.
    pub fn away(&self) -> BTreeSet<NodeKey> {
        let turn = self.rolling.iter().filter_map(|rolling| rolling.now);
        self.draining.iter().copied().chain(turn).collect()
    }

    /// The number of the rolling restart that `node` is told to do.
    pub fn restart_of(&self, node: &NodeKey) -> Option<u64> {
        let rolling = self.rolling.as_ref()?;
        (rolling.told && rolling.now == Some(*node)).then_some(self.restarts)
    }

    fn is_sound(&self) -> bool {
        let short = |nodes: &BTreeSet<NodeKey>| nodes.len() <= NODES_MAX;
        self.services.len() <= PLACED_MAX
            && self
                .services
                .keys()
                .all(|name| name.len() <= NAME_BYTES_MAX)
            && self.services.values().all(short)
            && short(&self.draining)
            && self.rolling.iter().all(|rolling| short(&rolling.done))
            && self
                .stopped
                .iter()
                .all(|why| why.len() <= STOPPED_BYTES_MAX)
    }
}

/// The schedule; an empty one before the first change.
pub fn schedule<R: Rows>(rows: &R) -> Result<Schedule, Error> {
    Ok(changes::get(rows, &rows::schedule(), "schedule")?.unwrap_or_default())
}

pub(super) fn change<R: Rows>(
    changes: &mut Changes<'_, R>,
    change: &ScheduleChange,
) -> Result<Outcome, Error> {
    let present = schedule(changes.rows)?;
    let next = &change.next;
    if present.version.checked_add(1) != Some(next.version) || !next.is_sound() {
        let why = "the schedule of services has changed meanwhile: try again";
        return Ok(Err(MetadataError::Refused(why.into())));
    }
    changes.put(rows::schedule(), next)?;
    Ok(Ok(Reply::Done))
}
