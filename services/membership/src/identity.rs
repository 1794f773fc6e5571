//! A node in the gossip: its key is who it is, all else may change with each of its lives.

use foca::Identity;
use protocol::cluster::NodeKey;
use protocol::membership::{SERVICES_BYTES_MAX, VERSION_BYTES_MAX};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Of a life's number, so many low bits count what happens within one start of the process: renewals and changes of address.
const WITHIN_START_BITS: u32 = 20;

/// One life of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeId {
    pub(crate) key: NodeKey,
    /// Where its gossip is reached.
    pub(crate) gossip: Option<SocketAddr>,
    /// Where its bus is reached.
    pub(crate) mesh: Option<SocketAddr>,
    /// Raised at each start, each change of address and each refuted death: of two lives of one node the younger counts.
    pub(crate) life: u64,
    pub(crate) version: String,
    /// Names, separated by spaces.
    pub(crate) services: String,
}

impl NodeId {
    /// The first life of a start with this number, which is younger than every life of an earlier one. What is said of
    /// it is cut to its bounds.
    pub(crate) fn new(key: NodeKey, starts: u64, version: &str, services: &str) -> Self {
        let words = |text: &str, bytes_max: usize| {
            let mut short = String::new();
            for word in text.split_whitespace() {
                if short.len() + 1 + word.len() > bytes_max {
                    break;
                }
                if !short.is_empty() {
                    short.push(' ');
                }
                short.push_str(word);
            }
            short
        };
        Self {
            key,
            gossip: None,
            mesh: None,
            life: starts << WITHIN_START_BITS,
            version: words(version, VERSION_BYTES_MAX),
            services: words(services, SERVICES_BYTES_MAX),
        }
    }

    /// Somebody of whom nothing is known but the key and an address: good enough to say a first word to.
    pub(crate) fn to_announce(key: NodeKey, gossip: SocketAddr) -> Self {
        Self {
            gossip: Some(gossip),
            ..Self::new(key, 0, "", "")
        }
    }

    /// Whether what it says of itself is within its bounds, and can be shown.
    pub(crate) fn is_bounded(&self) -> bool {
        let plain = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        self.version.len() <= VERSION_BYTES_MAX
            && self.services.len() <= SERVICES_BYTES_MAX
            && plain(&self.version)
            && plain(&self.services)
    }
}

impl Identity for NodeId {
    type Addr = NodeKey;

    fn renew(&self) -> Option<Self> {
        Some(Self {
            life: self.life.checked_add(1)?,
            ..self.clone()
        })
    }

    fn addr(&self) -> NodeKey {
        self.key
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.life > adversary.life
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_of_itself_is_cut_between_words() {
        let id = |services: &str| NodeId::new(NodeKey([1; 32]), 1, "0.1.0", services);
        assert_eq!(
            id(" block-store  metadata").services,
            "block-store metadata"
        );
        let many = id(&"service ".repeat(40));
        assert!(many.is_bounded() && many.services.ends_with("service"));
        assert!(many.services.len() > SERVICES_BYTES_MAX - 10);
        let mut odd = id("");
        odd.version = "0.1\u{7}".into();
        assert!(!odd.is_bounded());
    }

    #[test]
    fn a_later_start_is_younger_than_whatever_an_earlier_one_became() {
        let mut first = NodeId::new(NodeKey([1; 32]), 1, "", "");
        for _ in 0..1_000 {
            first = first.renew().unwrap();
        }
        let second = NodeId::new(NodeKey([1; 32]), 2, "", "");
        assert!(second.win_addr_conflict(&first) && !first.win_addr_conflict(&second));
    }
}
