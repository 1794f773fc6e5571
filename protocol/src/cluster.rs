//! Who belongs to the cluster: the keys of nodes, the roster, and what a newcomer says at the door.
//!
//! A node is its Ed25519 key (RFC 8032): names, zones and addresses may change, the key does not. The roster says whose keys count. Its
//! truth is shard 0 of metadata; each node's membership keeps the newest copy that it was told of on the disk, because a node must know whom
//! to trust before metadata can speak to anybody.

use crate::wire::Conversation;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most nodes of a cluster, those that have left included.
pub const NODES_MAX: usize = 64;
/// The longest name of a node or a zone, in bytes.
pub const NODE_NAME_BYTES_MAX: usize = 64;
/// How long an invitation holds if nothing else is said, in milliseconds.
pub const INVITATION_MS: u64 = 24 * 60 * 60 * 1_000;

/// The public key of a node's Ed25519 pair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeKey(pub [u8; 32]);

/// The public key of a node's X25519 pair (RFC 7748), by which datagrams between two nodes are encrypted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GossipKey(pub [u8; 32]);

/// A cluster, drawn at random when its first node was made. A token and a roster say which cluster they are of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

fn hexadecimal(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(&self.0, f)
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(&self.0, f)
    }
}

impl fmt::Debug for GossipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(&self.0, f)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(&self.0, f)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(&self.0, f)
    }
}

/// Whether a node belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It does.
    Member,
    /// It did, and went in order.
    Left,
    /// It did, and is not to be spoken with any more: every descriptor that it was given is cut.
    Revoked,
}

/// One node of the roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Who it is.
    pub key: NodeKey,
    /// For datagrams.
    pub gossip_key: GossipKey,
    /// Unique among those that belong. At most [`NODE_NAME_BYTES_MAX`] bytes.
    pub name: String,
    /// Where it stands. At most [`NODE_NAME_BYTES_MAX`] bytes.
    pub zone: String,
    /// What it gives to the cluster, in bytes; 0: a gateway, which stores nothing.
    pub capacity_bytes: u64,
    /// `ip:port` at which its bus answers other buses, as it was last known.
    pub mesh: String,
    /// `ip:port` of its gossip, as it was last known.
    pub gossip: String,
    /// Whether it belongs.
    pub standing: Standing,
}

/// Everybody who was ever admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Raised by one with each change: of two copies the higher counts.
    pub version: u64,
    /// At most [`NODES_MAX`], in the order of their admission.
    pub nodes: Vec<NodeEntry>,
}

impl Roster {
    /// The node with this key, if it belongs.
    pub fn member(&self, key: &NodeKey) -> Option<&NodeEntry> {
        self.members().find(|node| node.key == *key)
    }

    /// The node of this name, if it belongs.
    pub fn named(&self, name: &str) -> Option<&NodeEntry> {
        self.members().find(|node| node.name == name)
    }

    /// All that belong.
    pub fn members(&self) -> impl Iterator<Item = &NodeEntry> {
        self.nodes
            .iter()
            .filter(|node| node.standing == Standing::Member)
    }
}

/// A newcomer to metadata of a node that belongs, over a connection that its own key has authenticated: the only conversation that a stranger
/// may have, and only with an invitation.
pub enum Admission {}

impl Conversation for Admission {
    type Call = AdmissionCall;
    type Answer = Result<Roster, AdmissionError>;
    const NAME: &'static str = "admission";
    const NUMBER: u8 = 20;
    const VERSION: u8 = 1;
}

/// What a newcomer says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdmissionCall {
    /// Admit me. Repeating it with the same key is harmless, also when the answer was lost: a token is used up by one key.
    Join {
        /// Which cluster the token is of.
        cluster: ClusterId,
        /// The token's secret.
        secret: [u8; 32],
        /// Who asks. Its key must be the one of the connection.
        node: NodeEntry,
    },
}

/// Why a newcomer is not admitted. Both nodes log it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdmissionError {
    /// No such invitation.
    UnknownToken,
    /// It was used, by another node.
    UsedToken,
    /// Its time is over.
    ExpiredToken,
    /// The token is of another cluster.
    OtherCluster,
    /// Another node that belongs has this name.
    NameTaken(String),
    /// This key was revoked.
    Revoked,
    /// [`NODES_MAX`].
    Full,
    /// The call breaks a bound; which one.
    Refused(String),
    /// Nobody can decide now. Ask again later.
    Unavailable(String),
}

impl fmt::Display for AdmissionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownToken => write!(
                f,
                "no such invitation: ask for a new one (`trousseau invite`)"
            ),
            Self::UsedToken => write!(
                f,
                "another node has used this token: ask for a new one (`trousseau invite`)"
            ),
            Self::ExpiredToken => write!(
                f,
                "the token has expired: ask for a new one (`trousseau invite`)"
            ),
            Self::OtherCluster => write!(f, "the token is of another cluster"),
            Self::NameTaken(name) => write!(
                f,
                "a node of the name {name} belongs already: choose another name"
            ),
            Self::Revoked => write!(
                f,
                "this node was revoked: it can only come back with a new identity"
            ),
            Self::Full => write!(f, "the cluster has {NODES_MAX} nodes already"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Unavailable(why) => write!(f, "nobody can admit nodes at the moment: {why}"),
        }
    }
}

impl std::error::Error for AdmissionError {}
