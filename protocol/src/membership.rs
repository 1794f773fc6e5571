//! Who is in the cluster: the bus gives membership its one UDP descriptor and learns whose keys count, metadata says who belongs, and anyone
//! allowed may ask for the members.
//!
//! Like every server, membership is given a `door`, by which connections come ([`crate::bus::Accept`] tells whose). The bus opens one
//! itself, as client `bus`, and only on that one are [`MembershipCall::Use`] and [`MembershipCall::Join`] taken. `init` may `Attach` a fresh `door`
//! when the bus was restarted.

use crate::cluster::{NODES_MAX, NodeEntry, NodeKey, Roster};
use crate::wire::Conversation;
use serde::{Deserialize, Serialize};

/// The most members that an answer holds.
pub const MEMBERS_MAX: usize = NODES_MAX;
/// The longest version of a program, in bytes.
pub const VERSION_BYTES_MAX: usize = 16;
/// The longest list of a node's services, in bytes; what does not fit is left out.
pub const SERVICES_BYTES_MAX: usize = 96;

/// Marker of this conversation.
pub enum Membership {}

impl Conversation for Membership {
    type Call = MembershipCall;
    type Answer = MembershipAnswer;
    const NAME: &'static str = "members";
    const NUMBER: u8 = 5;
    const VERSION: u8 = 2;
}

/// What is asked of membership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MembershipCall {
    /// Gossip over the UDP descriptor that comes along, bound and non-blocking, instead of the one before. From the bus, after each start of
    /// either. Harmless to repeat.
    Use {
        /// The address that the descriptor is bound to, as the others see it: `ip:port`.
        address: String,
        /// The address that the bus's listener for other buses is bound to; empty: there is none.
        mesh: String,
    },
    /// All members that are known, this node first. No side effect.
    Members,
    /// From the bus: whose keys count, if that is newer than `version`. No side effect.
    Roster {
        /// The version that the asker has; 0: none.
        newer_than: u64,
    },
    /// From the bus, after [`MembershipAnswer::Wanting`]: one descriptor comes along, a byte stream to the node that was wanted, whose key the bus
    /// has checked, for [`crate::cluster::Admission`].
    Join,
    /// From metadata: this node's own entry, for the roster. `Refused` before the bus has brought the addresses: ask again.
    Own,
    /// From metadata: the roster as shard 0 has it. Kept on the disk when answered; an older one is ignored, one of another cluster `Refused`.
    /// Harmless to repeat.
    Learn {
        /// All of it.
        roster: Roster,
    },
}

/// What membership answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MembershipAnswer {
    /// The descriptor is in use.
    Using,
    /// At most [`MEMBERS_MAX`].
    Members(Vec<Member>),
    /// To [`MembershipCall::Roster`]; `None`: nothing that the asker does not know. Addresses are the newest that this node has heard of, so a
    /// roster of the version that was asked about comes once more when one has changed.
    Roster(Option<Roster>),
    /// To [`MembershipCall::Roster`] of a node that belongs to no cluster yet: connect to this bus as a stranger and bring the stream by
    /// [`MembershipCall::Join`].
    Wanting {
        /// Where.
        mesh: String,
        /// Whose key it must prove.
        key: NodeKey,
    },
    /// To [`MembershipCall::Own`].
    Own(NodeEntry),
    /// To [`MembershipCall::Learn`].
    Learned,
    /// The call needs a descriptor which did not come, or came with one that it must not have, or is not this client's.
    Refused,
}

/// One node, as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who it is.
    pub key: NodeKey,
    /// The node's name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// `ip:port` of its gossip; empty if it is not known.
    pub address: String,
    /// `ip:port` at which its bus answers other buses; empty: at none.
    pub mesh: String,
    /// What it gives to the cluster, in bytes.
    pub capacity_bytes: u64,
    /// What the failure detector says.
    pub state: MemberState,
    /// The incarnation by which a node refutes a suspicion.
    pub incarnation: u16,
    /// Of its program; at most [`VERSION_BYTES_MAX`] bytes, empty if it was not heard of.
    pub version: String,
    /// Those that it runs, separated by spaces; at most [`SERVICES_BYTES_MAX`] bytes.
    pub services: String,
}

/// A member's state in SWIM's terms (Das, Gupta, Motivala 2002).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberState {
    /// Answers.
    Alive,
    /// Does not answer; gone unless it refutes.
    Suspect,
    /// Declared dead, or not heard of since this node's start.
    Gone,
    /// It does not belong any more.
    Left,
}
