//! What this node says of itself, and what it shows of all members.

use crate::gossip::Gossip;
use foca::State;
use protocol::cluster::{GossipKey, NodeEntry, NodeKey, Roster, Standing, address_of};
use protocol::membership::{MEMBERS_MAX, Member, MemberState};
use std::net::SocketAddr;

/// This node, as its operator made it.
pub(crate) struct Own {
    pub(crate) key: NodeKey,
    pub(crate) gossip_key: GossipKey,
    pub(crate) name: String,
    pub(crate) zone: String,
    pub(crate) capacity_bytes: u64,
    /// Where others reach its gossip and its bus, if that is not where they are bound.
    pub(crate) reach: (Option<SocketAddr>, Option<SocketAddr>),
}

impl Own {
    /// Where others reach the gossip and the bus whose sockets are bound to these addresses; an empty address is none.
    pub(crate) fn reached(
        &self,
        gossip: SocketAddr,
        mesh: &str,
    ) -> (Option<SocketAddr>, Option<SocketAddr>) {
        let (reach_gossip, reach_mesh) = self.reach;
        let has_mesh = !mesh.is_empty();
        (
            reach_gossip.or(address_of(&gossip.to_string())),
            reach_mesh.filter(|_| has_mesh).or(address_of(mesh)),
        )
    }

    /// This node's entry for the roster; `None` before it knows where it is reached.
    pub(crate) fn entry(&self, gossip: &Gossip) -> Option<NodeEntry> {
        let id = gossip.own();
        let text = |address: Option<SocketAddr>| {
            address.map_or_else(String::new, |address| address.to_string())
        };
        Some(NodeEntry {
            key: self.key,
            gossip_key: self.gossip_key,
            name: self.name.clone(),
            zone: self.zone.clone(),
            capacity_bytes: self.capacity_bytes,
            mesh: text(id.mesh),
            gossip: id.gossip?.to_string(),
            standing: Standing::Member,
        })
    }

    fn member(&self, gossip: &Gossip) -> Member {
        let id = gossip.own();
        let text = |address: Option<SocketAddr>| {
            address.map_or_else(String::new, |address| address.to_string())
        };
        Member {
            key: self.key,
            name: self.name.clone(),
            zone: self.zone.clone(),
            address: text(id.gossip),
            mesh: text(id.mesh),
            capacity_bytes: self.capacity_bytes,
            state: MemberState::Alive,
            incarnation: 0,
            version: id.version.clone(),
            services: id.services.clone(),
        }
    }

    /// Everybody of the roster, this node first, as it says of itself.
    pub(crate) fn members(&self, roster: Option<&Roster>, gossip: &Gossip) -> Vec<Member> {
        let nodes = roster.map_or(&[][..], |roster| &roster.nodes);
        let mut own = self.member(gossip);
        let entry = nodes.iter().find(|node| node.key == self.key);
        if entry.is_some_and(|entry| entry.standing != Standing::Member) {
            own.state = MemberState::Left;
        }
        let others = nodes.iter().filter(|node| node.key != self.key);
        std::iter::once(own)
            .chain(others.map(|node| describe(node, gossip)))
            .take(MEMBERS_MAX)
            .collect()
    }
}

/// The roster with the addresses that the gossip knows better: those of members who are heard.
pub(crate) fn with_addresses(roster: &Roster, gossip: &Gossip) -> Roster {
    let mut roster = roster.clone();
    for node in &mut roster.nodes {
        if let Some((id, State::Alive | State::Suspect, _)) = gossip.heard_of(&node.key) {
            for (entry, heard) in [(&mut node.gossip, id.gossip), (&mut node.mesh, id.mesh)] {
                if let Some(address) = heard {
                    *entry = address.to_string();
                }
            }
        }
    }
    roster
}

fn describe(node: &NodeEntry, gossip: &Gossip) -> Member {
    let heard = gossip.heard_of(&node.key);
    let state = match (node.standing, &heard) {
        (Standing::Left | Standing::Revoked, _) => MemberState::Left,
        (Standing::Member, Some((_, State::Alive, _))) => MemberState::Alive,
        (Standing::Member, Some((_, State::Suspect, _))) => MemberState::Suspect,
        (Standing::Member, Some((_, State::Down, _)) | None) => MemberState::Gone,
    };
    let heard = heard.filter(|_| state != MemberState::Left);
    let id = heard.map(|(id, ..)| id);
    let newer = |address: Option<SocketAddr>, entry: &str| {
        address.map_or_else(|| entry.to_owned(), |address| address.to_string())
    };
    Member {
        key: node.key,
        name: node.name.clone(),
        zone: node.zone.clone(),
        address: newer(id.and_then(|id| id.gossip), &node.gossip),
        mesh: newer(id.and_then(|id| id.mesh), &node.mesh),
        capacity_bytes: node.capacity_bytes,
        state,
        incarnation: heard.map_or(0, |(.., incarnation)| incarnation),
        version: id.map(|id| id.version.clone()).unwrap_or_default(),
        services: id.map(|id| id.services.clone()).unwrap_or_default(),
    }
}
