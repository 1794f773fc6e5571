//! Between a process and its supervisor: what was packed for it, that it is ready, that it is alive, that it shall stop.
//!
//! The supervisor is `init` for the daemons and the orchestrator for the services. The process finds its end on
//! descriptor 3. Order: one [`Packed`] with all descriptors, then [`Say::Ready`] once, then [`Say::Alive`] at least every
//! [`HEARTBEAT_MS`]. Either side may die at any moment; the other sees a hang-up, and a process whose supervisor has gone ends.

use crate::trace::Row;
use crate::wire::Conversation;
use serde::{Deserialize, Serialize};

/// A process says that it is alive at least this often, in milliseconds.
pub const HEARTBEAT_MS: u64 = 1_000;
/// A process that was silent for this long hangs, and is killed and restarted. In milliseconds.
pub const HANG_AFTER_MS: u64 = 15_000;
/// The most settings and the longest value.
pub const SETTINGS_MAX: usize = 64;

/// Marker of this conversation. The supervisor "answers" (packs, attaches, stops); the process "calls".
pub enum Start {}

impl Conversation for Start {
    type Call = Say;
    type Answer = Order;
    const NAME: &'static str = "start";
    const NUMBER: u8 = 1;
    const VERSION: u8 = 2;
}

/// What a supervisor says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// The first message: everything that this process will ever be given. Descriptors in the order of `grants`.
    Packed(Packed),
    /// The other end of one of the process's own channels was restarted: use this descriptor (one comes along) under that name from now on.
    /// Sent by `init` to the daemons only.
    Attach {
        /// The grant's name.
        name: String,
    },
    /// Finish what is under way and end; killed after a delay.
    Stop,
    /// Count calls and descriptors from now on, and say them with each heartbeat ([`Say::Traced`]). A count that is under way begins anew.
    Trace {
        /// For how long, in milliseconds; at most [`crate::trace::TRACE_MS_MAX`] are taken.
        for_ms: u64,
    },
}

/// Everything a process starts with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// The service's name, as in its manifest.
    pub service: String,
    /// The names of the descriptors, in order.
    pub grants: Vec<String>,
    /// Values that are not authority: the region, the node's name, a size. A setting that the process does not read is an error.
    pub settings: Vec<(String, String)>,
}

/// What a process says to its supervisor. Nothing is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Say {
    /// It serves. From here on only the calls of its profile's `allow` list work. Said once.
    Ready {
        /// What the operator should know, for the log; the orchestrator of a node puts the node's state here.
        about: String,
    },
    /// Its event loop turns.
    Alive,
    /// What was counted since the last time. Said with a heartbeat, only while a trace is on.
    Traced {
        /// At most [`crate::trace::ROWS_MAX`].
        rows: Vec<Row>,
        /// The time that they cover, in milliseconds.
        covered_ms: u64,
        /// The trace is over: nothing more is counted.
        over: bool,
    },
    /// It cannot serve, and a restart will not help: the reason, for the operator. The process ends after this.
    Failed {
        /// A sentence: what happened, where, what to do.
        reason: String,
    },
}
