//! Datagrams from anybody, and what a member may say, for the fuzzer.

use super::*;
use crate::envelope::{DATAGRAM_BYTES_MAX, Envelope};
use crate::kept;
use protocol::cluster::{ClusterId, NodeEntry, Standing};

fn key(number: u8) -> NodeKey {
    NodeKey([number; 32])
}

fn entry(number: u8) -> NodeEntry {
    NodeEntry {
        key: key(number),
        gossip_key: envelope(number).public(),
        name: format!("node{number}"),
        zone: "home".into(),
        capacity_bytes: 1,
        mesh: String::new(),
        gossip: format!("127.0.0.1:{}", 1_000 + u16::from(number)),
        standing: Standing::Member,
    }
}

fn envelope(number: u8) -> Envelope {
    Envelope::new(key(number), [number; 32])
}

fn roster() -> Roster {
    Roster {
        cluster: ClusterId([7; 16]),
        version: 1,
        nodes: [1, 2, 3].map(entry).into(),
    }
}

fn node(number: u8) -> Gossip {
    let life = NodeId::new(key(number), 1, "0.1.0", "metadata");
    let mut gossip = Gossip::new(life, 11, Instant::now());
    gossip.use_addresses(address_of(&entry(number).gossip), None);
    gossip.learn(&roster());
    gossip
}

/// A member hears all of them from another, a second apart, with its timers in between; true if one of them was a message of SWIM's. First it
/// hears each as a datagram from the network.
///
/// Panics if a datagram that nobody sealed is opened, if the member would send more than a path carries, or if it comes to know of somebody
/// who is not in the roster.
pub fn hear(messages: &[&[u8]]) -> bool {
    let mut gossip = node(1);
    let mut own = envelope(1);
    own.learn(&roster());
    let mut heard = false;
    for message in messages {
        assert!(own.open(message).is_none(), "nobody has sealed it");
        heard |= gossip.hear(key(2), message);
        gossip.turn(gossip.now + Duration::from_secs(1));
        while let Some((to, _, sent)) = gossip.take_message() {
            let sealed = own.seal(&to, &sent).ok().flatten();
            let fits = sealed.is_none_or(|datagram| datagram.len() <= DATAGRAM_BYTES_MAX);
            assert!(
                fits && sent.len() <= MESSAGE_BYTES_MAX,
                "{} bytes",
                sent.len()
            );
        }
    }
    let mut known = gossip.foca.iter_membership_state();
    assert!(known.all(|member| roster().member(&member.id().key).is_some()));
    heard
}

/// A slot of the file that keeps the roster; true if it is whole. Panics if it does not encode to the same.
pub fn slot(bytes: &[u8]) -> bool {
    let Some((sequence, content)) = kept::decode(bytes) else {
        return false;
    };
    let again = kept::encode(sequence, &content).unwrap_or_default();
    assert!(!again.is_empty() && bytes.starts_with(&again));
    true
}

/// A slot that is whole.
pub fn slot_seeds() -> Vec<Vec<u8>> {
    let content = kept::Content {
        starts: 3,
        roster: Some(roster()),
    };
    kept::encode(9, &content).into_iter().collect()
}

/// What a real member says to the one that hears in a minute, without repeats.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut nodes = [node(1), node(2)];
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
    let sender = from.own().key;
    while let Some((_, _, message)) = from.take_message() {
        to.hear(sender, &message);
        if !all.contains(&message) {
            all.push(message);
        }
    }
}
