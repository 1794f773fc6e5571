//! A DHCP client hears any datagrams and stays within its bounds. For qemu-tests/fuzz.

use crate::lease::{Action, Client};
use crate::packet::Terms;
use crate::samples::{MAC, answer};
use std::time::{Duration, Instant};

/// The kinds of answers (RFC 2132, 9.6).
const OFFER: u8 = 2;
const ACK: u8 = 5;
const NAK: u8 = 6;

/// A client hears them, one after the other, each when it has just asked; whether they gave it an address.
pub fn hear(datagrams: &[&[u8]]) -> bool {
    let mut configured = false;
    converse(
        datagrams.iter(),
        |datagram, _| datagram.to_vec(),
        |terms| {
            configured = true;
            assert!((1..=32).contains(&terms.prefix), "{terms:?}");
            assert!(!terms.ip.is_unspecified() && !terms.ip.is_broadcast());
            assert!(terms.renew_seconds <= terms.lease_seconds, "{terms:?}");
            assert!(terms.rebind_seconds <= terms.lease_seconds, "{terms:?}");
        },
    );
    configured
}

/// Conversations that end with an address, as their datagrams.
pub fn seeds() -> Vec<Vec<Vec<u8>>> {
    let kinds: [&[u8]; 3] = [
        &[OFFER, ACK],
        &[OFFER, ACK, ACK],
        &[OFFER, ACK, NAK, OFFER, ACK],
    ];
    let conversation = |kinds: &[u8]| {
        let mut all = Vec::new();
        let answered = |kind: &u8, question: &[u8]| {
            let bytes = answer(question, *kind, 3_600);
            all.push(bytes.clone());
            bytes
        };
        converse(kinds.iter(), answered, |_| {});
        all
    };
    kinds.map(conversation).into()
}

/// The client asks when it is due, and hears what `answered` makes of each word and the question.
fn converse<'a, T: 'a>(
    words: impl Iterator<Item = &'a T>,
    mut answered: impl FnMut(&'a T, &[u8]) -> Vec<u8>,
    mut configured: impl FnMut(&Terms),
) {
    let mut now = Instant::now();
    let mut client = Client::new(MAC, "attic", now, 1);
    let mut question = Vec::new();
    for word in words {
        now = now.max(client.deadline());
        for action in client.turn(now) {
            if let Action::Send(bytes, _) = action {
                question = bytes;
            }
        }
        assert!(client.deadline() > now, "it would ask without end");
        for action in client.hear(&answered(word, &question), now) {
            match action {
                Action::Send(bytes, _) => question = bytes,
                Action::Configure(terms) => configured(&terms),
                Action::Withdraw(_) => {}
            }
        }
        assert!(client.deadline() > now, "it would ask without end");
        assert!(client.deadline() <= now + Duration::from_secs(u32::MAX.into()));
    }
}
