//! `[cluster]`: whether the node is one of several, and where the others reach it.

use protocol::cluster::address_of;
use protocol::token::Token;
use protocol::verbs::size;
use serde::Deserialize;
use std::net::SocketAddr;

/// The node among others. Absent: it is alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// The invitation to a cluster; it counts at the first start, until the node belongs.
    pub join: Option<Invitation>,
    /// Where the other nodes reach its bus (TCP); `None`: nowhere, the node stays alone.
    pub mesh: Option<Reachable>,
    /// Where they reach its gossip (UDP); `None`: at the same address and port.
    pub gossip: Option<Reachable>,
    /// What it gives to the cluster, in bytes; `None`: all of its disk.
    pub capacity: Option<Capacity>,
    /// How many copies of each block and each shard there are to be in a cluster that the node makes; `None`: one, until `trousseau layout copies` is said.
    pub copies: Option<Copies>,
}

/// What `trousseau invite` printed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Invitation(pub Token);

/// An `ip:port` at which other nodes reach this one: of one host, and with a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Reachable(pub SocketAddr);

/// Bytes, as a person writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Capacity(pub u64);

/// 1, 2, 3 or 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Copies(pub u8);

impl TryFrom<i64> for Copies {
    type Error = String;

    fn try_from(count: i64) -> Result<Self, String> {
        match u8::try_from(count) {
            Ok(count @ (1 | 2 | 3 | 5)) => Ok(Self(count)),
            _ => Err(format!("{count} copies: there can be 1, 2, 3 or 5")),
        }
    }
}

impl TryFrom<String> for Copies {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let count: i64 = text
            .parse()
            .map_err(|_| format!("{text:?} copies: there can be 1, 2, 3 or 5"))?;
        Self::try_from(count)
    }
}

impl Cluster {
    /// Where the other nodes reach the node's gossip, if they reach the node at all.
    pub fn gossip(&self) -> Option<SocketAddr> {
        self.gossip.or(self.mesh).map(|Reachable(at)| at)
    }

    /// The first rule that is broken over several values: the word to find the line by, and the rule.
    pub(super) fn broken_rule(&self) -> Option<(&'static str, String)> {
        let without = |word: &str| {
            format!(
                "{word} says nothing without `mesh`, as \"192.168.1.20:3901\": where the other nodes reach this one"
            )
        };
        if self.join.is_some() && self.copies.is_some() {
            let rule = "copies is said by who makes a cluster, not by who joins one; there `trousseau layout copies N` changes it";
            return Some(("copies", rule.into()));
        }
        match self {
            Self { mesh: Some(_), .. } => None,
            Self { join: Some(_), .. } => Some(("join", without("join"))),
            Self {
                gossip: Some(_), ..
            } => Some(("gossip", without("gossip"))),
            _ => None,
        }
    }
}

impl TryFrom<String> for Invitation {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error| {
            let error: protocol::token::TokenError = error;
            error.to_string()
        })
    }
}

impl TryFrom<String> for Reachable {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        address_of(&text).map(Self).ok_or_else(|| {
            format!(
                "{text:?} is not an address at which other nodes reach this one, as 192.168.1.20:3901 or [2001:db8::20]:3901"
            )
        })
    }
}

impl TryFrom<String> for Capacity {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        size(&text).map(Self)
    }
}
