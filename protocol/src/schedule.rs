//! Which services run on which nodes: metadata tells the orchestrator of its node what to run, for how long that holds, and learns what runs.
//!
//! Services whose manifest says `[placement]` run on some nodes only; shard 0 of metadata says on which. A node runs one for as long as it holds a
//! *lease*: each second its metadata asks the leader of shard 0, and what is answered holds for [`LEASE_MS`] from when it *asked*. An
//! orchestrator that hears nothing begins to stop such services [`STOP_BEFORE_MS`] before their lease ends, and kills them when it ends. The leader starts one
//! elsewhere when the node has said that it does not run any more, or when the lease is over by its own clock, taken for longer by
//! [`MARGIN_PERCENT`], because clocks run at different rates. So a service with `count = 1` never runs twice, whichever node is cut off.
//! Leases count in the time since boot, suspended time included (CLOCK_BOOTTIME of clock_gettime(2)), which is the same for all processes of a node
//! and which nobody sets. What no lease can help against: a machine that stands still as a whole runs on for an instant when it goes on.

use crate::wire::Conversation;
use serde::{Deserialize, Serialize};

/// How long a node may run what it was told to, from when it asked, in milliseconds.
pub const LEASE_MS: u64 = 10_000;
/// By how much the leader takes a lease for longer than the node does, in percent.
pub const MARGIN_PERCENT: u64 = 10;
/// So long before its lease ends a service is asked to stop, in milliseconds: it has as long to finish what is under way.
pub const STOP_BEFORE_MS: u64 = 4_000;
/// How often a node asks, in milliseconds.
pub const ASK_EVERY_MS: u64 = 1_000;
/// The most services of a cluster that are placed.
pub const PLACED_MAX: usize = 32;
/// The highest count of a service.
pub const COUNT_MAX: u8 = 16;

/// Marker of this conversation.
pub enum Schedule {}

impl Conversation for Schedule {
    type Call = ScheduleCall;
    type Answer = ScheduleAnswer;
    const NAME: &'static str = "schedule";
    const NUMBER: u8 = 24;
    const VERSION: u8 = 1;
}

/// What metadata says to the orchestrator of its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScheduleCall {
    /// What is here → [`ScheduleAnswer::Here`]. No side effect.
    Look,
    /// Run these of the services that are placed, and stop all others of them, unless it is too late for it → [`ScheduleAnswer::Here`]. Harmless to repeat; a
    /// lease is never made shorter by it.
    Run {
        /// By name. One that is not offered is passed over.
        services: Vec<String>,
        /// Where those run that do not run here, for people and for the clients on this node: service and nodes, also of services that are not offered.
        elsewhere: Vec<(String, Vec<String>)>,
        /// In milliseconds since boot.
        until_ms: u64,
    },
    /// End every service and start it afresh, one after the other, metadata last → [`ScheduleAnswer::Here`], at once. Done once for each number: harmless to repeat.
    Restart {
        /// Higher than any before.
        number: u64,
    },
}

/// What the orchestrator answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScheduleAnswer {
    /// As it is when the call has been obeyed.
    Here(Here),
}

/// What a node could run, and what it does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Here {
    /// The services with `[placement]` that this node was started with. At most [`PLACED_MAX`].
    pub offers: Vec<Offer>,
    /// Those of them that have a process, also while it is stopping, and those that are to have one.
    pub running: Vec<String>,
    /// The number of the last [`ScheduleCall::Restart`] after which every service is ready again; 0: none since the orchestrator's start.
    pub restarted: u64,
}

/// A service that may be placed on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its name.
    pub service: String,
    /// On how many nodes it is to run: 1 to [`COUNT_MAX`].
    pub count: u8,
    /// On which.
    pub zones: ZoneRule,
}

/// Which nodes a service runs on, beside how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZoneRule {
    /// Each in a zone of its own, as long as there are enough zones.
    Distinct,
    /// Any.
    Any,
}

/// What a node says of itself to the leader of shard 0, once in [`ASK_EVERY_MS`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Drawn at random when this metadata started.
    pub life: u64,
    /// Rises with each report of one life: what comes late is not believed.
    pub number: u64,
    /// What its orchestrator has said after the answer to the report before had been obeyed.
    pub here: Here,
    /// The shards that it leads.
    pub leads: Vec<Led>,
    /// Blocks that were acknowledged while not all of their copies were made, and still are not.
    pub behind: u64,
}

/// A shard, as its leader sees it. Nodes by their numbers in metadata's groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Led {
    /// Which.
    pub shard: u16,
    /// Of two that say they lead, the one with the higher one does.
    pub term: u64,
    /// Who has a vote; the old and the new ones while they are being changed.
    pub voters: Vec<u64>,
    /// Who of them answers and has all but the last few entries.
    pub caught_up: Vec<u64>,
    /// The voters are not being changed.
    pub settled: bool,
}

/// What the node is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// Run these, for [`LEASE_MS`] from when the report was sent.
    pub services: Vec<String>,
    /// Where the others run, all of them that the schedule has.
    pub elsewhere: Vec<(String, Vec<String>)>,
    /// See [`ScheduleCall::Restart`].
    pub restart: Option<u64>,
}

/// The schedule, for the operator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleReport {
    /// Each service that is placed, and the names of its nodes.
    pub services: Vec<(String, Vec<String>)>,
    /// The names of the nodes that are being drained.
    pub draining: Vec<String>,
    /// The rolling restart that is under way.
    pub rolling: Option<RollingReport>,
    /// Why the last one ended before its time; `None`: it did not.
    pub stopped: Option<String>,
}

/// How far a rolling restart is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollingReport {
    /// The names of the nodes that are back.
    pub done: Vec<String>,
    /// The node whose turn it is.
    pub now: Option<String>,
    /// The names of those to come, in order.
    pub next: Vec<String>,
    /// What is waited for.
    pub waits: String,
}
