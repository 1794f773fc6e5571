//! Datagrams from anybody, for the fuzzer.

use super::*;
use protocol::membership::{Membership, MembershipAnswer};
use protocol::wire::{self, Numbered};
use std::time::Duration;

fn node(name: &str, port: u16) -> Gossip {
    let id = NodeId::new(name.into(), "home".into());
    let mut gossip = Gossip::new(id, 11, Instant::now());
    gossip.use_address(SocketAddr::from(([127, 0, 0, 1], port)));
    gossip
}

/// A member hears all of them, a second apart, with its timers in between; true if one of them was gossip.
///
/// Panics if it would answer more members than an answer may have, or longer datagrams than a path carries.
pub fn hear(datagrams: &[&[u8]]) -> bool {
    let mut gossip = node("node0", 1_000);
    for datagram in datagrams {
        gossip.hear(datagram);
        gossip.turn(gossip.now + Duration::from_secs(1));
        while let Some((_, sent)) = gossip.take_datagram() {
            assert!(sent.len() <= DATAGRAM_BYTES_MAX, "{} bytes", sent.len());
        }
    }
    let members = gossip.members();
    assert!(members.len() <= MEMBERS_MAX, "{} members", members.len());
    let body = MembershipAnswer::Members(members);
    assert!(wire::encode::<Membership>(&Numbered { id: 1, body }).is_ok());
    usize::try_from(gossip.refused).is_ok_and(|refused| refused < datagrams.len())
}

/// What a real member says to the one that hears in a minute, without repeats.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut nodes = [node("node0", 1_000), node("node1", 1_001)];
    let first = {
        let [first, _] = &nodes;
        first.foca.identity().clone()
    };
    let [_, second] = &mut nodes;
    // Refused only to itself.
    let _ = second.foca.announce(first, &mut second.runtime);
    let mut all = Vec::new();
    for _ in 0..60 {
        for node in &mut nodes {
            node.turn(node.now + Duration::from_secs(1));
            let _ = node.foca.gossip(&mut node.runtime);
        }
        let [one, other] = &mut nodes;
        deliver(one, other, &mut Vec::new());
        deliver(other, one, &mut all);
    }
    all
}

fn deliver(from: &mut Gossip, to: &mut Gossip, all: &mut Vec<Vec<u8>>) {
    while let Some((_, datagram)) = from.take_datagram() {
        to.hear(&datagram);
        if !all.contains(&datagram) {
            all.push(datagram);
        }
    }
}
