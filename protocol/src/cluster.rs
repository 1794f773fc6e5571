//! Who belongs to the cluster: the keys of nodes, the roster, and what a newcomer says at the door.
//!
//! A node is its Ed25519 key (RFC 8032): names, zones and addresses may change, the key does not. The roster says whose keys count. Its
//! truth is shard 0 of metadata; each node's membership keeps the newest copy that it was told of on the disk, because a node must know whom
//! to trust before metadata can speak to anybody.

use crate::wire::Conversation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

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

impl FromStr for NodeKey {
    type Err = ();

    /// From 64 hexadecimal digits, as it is displayed.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut key = [0; 32];
        hex::decode_to_slice(text, &mut key).map_err(|_| ())?;
        Ok(Self(key))
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

impl NodeEntry {
    /// The first rule that the entry breaks, in words. For entries that come from other nodes or from the disk.
    ///
    /// Names of nodes and zones are a-z, 0-9 and '-'; an address is empty or one that can be sent to.
    pub fn broken_rule(&self) -> Option<String> {
        for (what, name) in [("name", &self.name), ("zone", &self.zone)] {
            let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
            if !(1..=NODE_NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(plain) {
                return Some(format!(
                    "a {what} is 1 to {NODE_NAME_BYTES_MAX} of a-z, 0-9 and '-'"
                ));
            }
        }
        for (what, address) in [("mesh", &self.mesh), ("gossip", &self.gossip)] {
            if !address.is_empty() && address_of(address).is_none() {
                return Some(format!(
                    "the {what} address {address:?} is none that others can reach"
                ));
            }
        }
        None
    }
}

/// An `ip:port` that can be sent to: of one host, and with a port.
pub fn address_of(text: &str) -> Option<SocketAddr> {
    let address: SocketAddr = text.parse().ok()?;
    let ip = address.ip();
    let of_one = !ip.is_unspecified() && !ip.is_multicast();
    (of_one && address.port() != 0).then_some(address)
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

    /// The node with this key, also if it does not belong any more.
    pub fn entry(&self, key: &NodeKey) -> Option<&NodeEntry> {
        self.nodes.iter().find(|node| node.key == *key)
    }

    /// What the node with this key is called; of one that was never heard of the key.
    pub fn name_of(&self, key: &NodeKey) -> String {
        let entry = self.entry(key);
        entry.map_or_else(|| key.to_string(), |entry| entry.name.clone())
    }

    /// The node of this name, if it belongs.
    pub fn named(&self, name: &str) -> Option<&NodeEntry> {
        self.members().find(|node| node.name == name)
    }

    /// The first rule that the roster breaks, in words: its bounds, its entries, and that no key and no name of those that belong stands
    /// twice.
    pub fn broken_rule(&self) -> Option<String> {
        if self.nodes.len() > NODES_MAX {
            return Some(format!("more than {NODES_MAX} nodes"));
        }
        let (mut keys, mut names) = (BTreeSet::new(), BTreeSet::new());
        for node in &self.nodes {
            if let Some(broken) = node.broken_rule() {
                return Some(broken);
            }
            if !keys.insert(node.key) {
                return Some(format!("the key {} stands twice", node.key));
            }
            if node.standing == Standing::Member && !names.insert(&node.name) {
                return Some(format!("two nodes that belong are named {}", node.name));
            }
        }
        None
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

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a panic is how a test fails"
    )]
    use super::*;

    fn node(number: u8) -> NodeEntry {
        NodeEntry {
            key: NodeKey([number; 32]),
            gossip_key: GossipKey([number; 32]),
            name: format!("node-{number}"),
            zone: "home".into(),
            capacity_bytes: 0,
            mesh: "192.168.1.20:3901".into(),
            gossip: "[2001:db8::20]:3902".into(),
            standing: Standing::Member,
        }
    }

    #[test]
    fn a_key_is_read_as_it_is_shown() {
        let key = NodeKey(std::array::from_fn(|at| at as u8));
        assert_eq!(key.to_string().parse(), Ok(key));
        for wrong in ["", "00", &"g".repeat(64), &"0".repeat(63), &"é".repeat(32)] {
            assert_eq!(wrong.parse::<NodeKey>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn only_an_address_of_one_host_with_a_port_can_be_sent_to() {
        for right in ["127.0.0.1:1", "[::1]:65535", "192.168.1.20:3901"] {
            assert!(address_of(right).is_some(), "{right}");
        }
        for wrong in [
            "",
            "127.0.0.1",
            "127.0.0.1:0",
            "0.0.0.0:1",
            "[::]:1",
            "224.0.0.1:1",
            "[ff02::1]:1",
            "localhost:1",
        ] {
            assert!(address_of(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn each_broken_rule_of_a_roster_is_named() {
        let roster = |nodes: Vec<NodeEntry>| Roster {
            cluster: ClusterId([1; 16]),
            version: 1,
            nodes,
        };
        let good = roster(vec![node(1), node(2)]);
        assert_eq!(good.broken_rule(), None);
        assert_eq!(good.named("node-2").unwrap().key, node(2).key);
        let check = |change: &dyn Fn(&mut Roster), expected: &str| {
            let mut roster = good.clone();
            change(&mut roster);
            let broken = roster.broken_rule().unwrap();
            assert!(broken.contains(expected), "{broken}");
        };
        check(&|roster| roster.nodes[1].name = String::new(), "a name is");
        check(&|roster| roster.nodes[1].name = "A b".into(), "a name is");
        check(&|roster| roster.nodes[1].zone = "z".repeat(65), "a zone is");
        check(&|roster| roster.nodes[0].mesh = "[::]:1".into(), "mesh");
        check(&|roster| roster.nodes[0].gossip = "x".into(), "gossip");
        check(&|roster| roster.nodes[1].key = node(1).key, "twice");
        check(
            &|roster| roster.nodes[1].name = "node-1".into(),
            "two nodes",
        );
        check(
            &|roster| roster.nodes = (0..=NODES_MAX as u8).map(node).collect(),
            "more than 64",
        );
        let mut left = good.clone();
        (left.nodes[1].name, left.nodes[1].standing) = ("node-1".into(), Standing::Left);
        assert_eq!(left.broken_rule(), None, "its name is free");
        assert!(left.member(&node(2).key).is_none());
    }
}
