//! Who is in the cluster: the bus gives membership its one UDP descriptor, and anyone allowed may ask for the members.
//!
//! Like every server, membership is given a `door`, by which connections come ([`crate::bus::Accept`] tells whose). The bus opens one
//! itself, as client `bus`, and only on that one is [`MembershipCall::Use`] taken. `init` may `Attach` a fresh `door` when the bus was restarted.

use crate::cluster::{NodeEntry, NodeKey, Roster};
use crate::wire::Conversation;
use serde::{Deserialize, Serialize};

/// The most members that an answer holds.
pub const MEMBERS_MAX: usize = 256;

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
        /// The address that the bus answers other buses at; empty: it does not.
        mesh: String,
    },
    /// All members that are known, this node first. No side effect.
    Members,
    /// From the bus: whose keys count, if that is newer than `version`. No side effect.
    Roster {
        /// The version that the bus knows; 0: none.
        newer_than: u64,
    },
    /// From the bus, after [`MembershipAnswer::Wanting`]: one descriptor comes along, a byte stream to the node that was wanted, whose key the bus has
    /// checked, for [`crate::cluster::Admission`].
    Join,
    /// From metadata: this node's own entry, for the roster.
    Own,
    /// From metadata: the roster as shard 0 has it. Kept on the disk when answered; an older one is ignored.
    Learn {
        /// Whole.
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
    /// `None`: nothing newer.
    Roster(Option<Roster>),
    /// This node belongs to no cluster yet, and wants to be connected to the one whose token it has.
    Wanting {
        /// `ip:port` of that node's bus.
        mesh: String,
        /// Its key.
        key: NodeKey,
    },
    /// This node, as it knows itself.
    Own(NodeEntry),
    /// The roster is kept.
    Learned,
    /// The call needs a descriptor which did not come, or came with one that it must not have.
    Refused,
}

/// One node, as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node's name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// `ip:port` of its gossip.
    pub address: String,
    /// What the failure detector says.
    pub state: MemberState,
    /// The incarnation by which a node refutes a suspicion.
    pub incarnation: u16,
}

/// A member's state in SWIM's terms (Das, Gupta, Motivala 2002).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberState {
    /// Answers.
    Alive,
    /// Does not answer; gone unless it refutes.
    Suspect,
    /// Declared dead, or left.
    Gone,
}
