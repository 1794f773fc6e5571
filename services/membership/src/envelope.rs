//! Datagrams between two members: encrypted for the one receiver and authenticated as of the one sender, by their long-lived keys.
//!
//! Key: BLAKE3's derivation from the X25519 secret of the two (RFC 7748), both public keys in byte order and the cluster. A datagram: the first
//! eight bytes of the sender's node key, a random nonce, the message in XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) with those eight
//! bytes as associated data. There is no key of the cluster: whoever is not in the roster has no key to speak with, and a node is put out
//! by taking it from the roster. A datagram that is sent once more by somebody on the way is heard once more: SWIM orders news by lives and
//! incarnations, so an old one tells nothing.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use curve25519_dalek::montgomery::MontgomeryPoint;
use protocol::cluster::{ClusterId, GossipKey, NodeKey, Roster};
use rustix::io::Errno;
use std::collections::BTreeMap;

/// The largest datagram: it fits every path of the internet that carries IPv6 (RFC 8200: 1,280 bytes), headers left out.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 1_200;
/// What of it is not the message.
const OVERHEAD_BYTES: usize = SENDER_BYTES + NONCE_BYTES + TAG_BYTES;
/// The longest message.
pub(crate) const MESSAGE_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - OVERHEAD_BYTES;
const SENDER_BYTES: usize = 8;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// BLAKE3's context of derivation.
const CONTEXT: &str = "trousseau 2026 gossip datagram";

/// Whom this node can speak with.
pub(crate) struct Envelope {
    own: NodeKey,
    secret: [u8; 32],
    public: GossipKey,
    peers: BTreeMap<[u8; SENDER_BYTES], Peer>,
}

struct Peer {
    key: NodeKey,
    cipher: XChaCha20Poly1305,
}

impl Envelope {
    /// Of the node with this key and this X25519 secret; it can speak with nobody yet.
    pub(crate) fn new(own: NodeKey, secret: [u8; 32]) -> Self {
        Self {
            own,
            secret,
            public: GossipKey(MontgomeryPoint::mul_base_clamped(secret).to_bytes()),
            peers: BTreeMap::new(),
        }
    }

    /// The key that others need.
    pub(crate) fn public(&self) -> GossipKey {
        self.public
    }

    /// From now on these count and no others: the members of the roster, if this node is one of them.
    pub(crate) fn learn(&mut self, roster: &Roster) {
        self.peers.clear();
        if roster.member(&self.own).is_none() {
            return;
        }
        for node in roster.members().filter(|node| node.key != self.own) {
            if let Some(cipher) = self.cipher(roster.cluster, node.gossip_key) {
                let key = node.key;
                self.peers.insert(sender_of(&key), Peer { key, cipher });
            }
        }
    }

    /// `None` for a key of small order, with which the secret would be none.
    fn cipher(&self, cluster: ClusterId, peer: GossipKey) -> Option<XChaCha20Poly1305> {
        let shared = MontgomeryPoint(peer.0).mul_clamped(self.secret).to_bytes();
        if shared == [0; 32] {
            return None;
        }
        let mut keys = [self.public.0, peer.0];
        keys.sort();
        let [first, second] = keys;
        let parts: [&[u8]; 4] = [&shared, &first, &second, &cluster.0];
        let key = blake3::derive_key(CONTEXT, &parts.concat());
        Some(XChaCha20Poly1305::new(&key.into()))
    }

    /// The datagram for `to`; `None` if it is no peer, or the message is too long.
    pub(crate) fn seal(&self, to: &NodeKey, message: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
        let peer = self.peers.get(&sender_of(to));
        let Some(peer) = peer.filter(|peer| peer.key == *to) else {
            return Ok(None);
        };
        if message.len() > MESSAGE_BYTES_MAX {
            return Ok(None);
        }
        let mut nonce = [0; NONCE_BYTES];
        rustix::rand::getrandom(&mut nonce, rustix::rand::GetRandomFlags::empty())?;
        let sender = sender_of(&self.own);
        let payload = Payload {
            msg: message,
            aad: &sender,
        };
        let sealed = peer.cipher.encrypt(&XNonce::from(nonce), payload);
        Ok(sealed
            .ok()
            .map(|sealed| [&sender[..], &nonce, &sealed].concat()))
    }

    /// The message and who sent it; `None` for whatever a peer has not sealed for this node.
    pub(crate) fn open(&self, datagram: &[u8]) -> Option<(NodeKey, Vec<u8>)> {
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return None;
        }
        let (sender, rest) = datagram.split_first_chunk::<SENDER_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let peer = self.peers.get(sender)?;
        let payload = Payload {
            msg: sealed,
            aad: sender,
        };
        let message = peer.cipher.decrypt(&XNonce::from(*nonce), payload).ok()?;
        Some((peer.key, message))
    }
}

/// How a datagram names its sender. Metadata admits no node whose key begins as another's.
fn sender_of(key: &NodeKey) -> [u8; SENDER_BYTES] {
    let first = key.0.first_chunk();
    first.copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a panic is how a test fails"
    )]
    use super::*;
    use crate::tests::{entry, roster};
    use proptest::prelude::*;
    use protocol::cluster::Standing;

    fn node(number: u8) -> Envelope {
        let mut envelope = Envelope::new(entry(number).key, [number; 32]);
        envelope.learn(&roster([entry(1), entry(2), entry(3)]));
        envelope
    }

    fn sealed(from: u8, to: u8, message: &[u8]) -> Vec<u8> {
        node(from).seal(&entry(to).key, message).unwrap().unwrap()
    }

    #[test]
    fn a_datagram_is_heard_by_the_one_it_is_for_as_of_the_one_who_sent_it() {
        for length in [0, 1, MESSAGE_BYTES_MAX] {
            let message = vec![7; length];
            let datagram = sealed(1, 2, &message);
            assert_eq!(datagram.len(), length + OVERHEAD_BYTES);
            assert_eq!(node(2).open(&datagram), Some((entry(1).key, message)));
            assert_eq!(node(3).open(&datagram), None, "overheard");
            assert_eq!(node(1).open(&datagram), None, "sent back to its sender");
        }
        let long = node(1).seal(&entry(2).key, &[0; MESSAGE_BYTES_MAX + 1]);
        assert_eq!(long.unwrap(), None);
        assert_ne!(sealed(1, 2, b"x"), sealed(1, 2, b"x"), "the nonce is fresh");
    }

    #[test]
    fn who_is_not_in_the_roster_is_neither_heard_nor_told() {
        let outsider = {
            let mut outsider = Envelope::new(entry(9).key, [9; 32]);
            outsider.learn(&roster([entry(9), entry(2)]));
            outsider
        };
        let datagram = outsider.seal(&entry(2).key, b"let me in").unwrap().unwrap();
        assert_eq!(node(2).open(&datagram), None);
        assert_eq!(node(2).seal(&entry(9).key, b"no").unwrap(), None);
        // Under the name of somebody who is.
        let mut forged = datagram;
        forged[..SENDER_BYTES].copy_from_slice(&entry(1).key.0[..SENDER_BYTES]);
        assert_eq!(node(2).open(&forged), None);
    }

    #[test]
    fn who_was_put_out_is_not_heard_any_more_and_hears_nobody() {
        for standing in [Standing::Left, Standing::Revoked] {
            let mut gone = entry(1);
            gone.standing = standing;
            let now = roster([gone, entry(2), entry(3)]);
            let (mut one, mut two) = (node(1), node(2));
            two.learn(&now);
            assert_eq!(two.open(&sealed(1, 2, b"still here")), None);
            assert_eq!(two.seal(&entry(1).key, b"x").unwrap(), None);
            one.learn(&now);
            assert_eq!(one.open(&sealed(2, 1, b"x")), None);
            assert_eq!(one.seal(&entry(2).key, b"x").unwrap(), None);
        }
    }

    #[test]
    fn another_cluster_of_the_same_nodes_is_another_conversation() {
        let mut other = roster([entry(1), entry(2)]);
        other.cluster.0[0] ^= 1;
        let mut two = node(2);
        two.learn(&other);
        assert_eq!(two.open(&sealed(1, 2, b"x")), None);
    }

    #[test]
    fn a_key_of_small_order_is_no_peer() {
        let mut weak = entry(2);
        weak.gossip_key = GossipKey([0; 32]);
        let mut one = node(1);
        one.learn(&roster([entry(1), weak]));
        assert_eq!(one.seal(&entry(2).key, b"x").unwrap(), None);
    }

    /// The values of RFC 7748, 6.1.
    #[test]
    fn the_shared_secret_is_that_of_x25519() {
        let hex = |text: &str| -> [u8; 32] {
            let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
            std::array::from_fn(byte)
        };
        let alice = hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
        let bob = hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
        let public = hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
        let shared = hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
        let bob_envelope = Envelope::new(NodeKey([2; 32]), bob);
        assert_eq!(bob_envelope.public(), GossipKey(public));
        let found = MontgomeryPoint(alice).mul_clamped(bob).to_bytes();
        assert_eq!(found, shared);
    }

    proptest! {
        #[test]
        fn a_changed_or_shortened_datagram_is_refused(at: prop::sample::Index, flip in 1_u8.., cut: bool) {
            let mut datagram = sealed(1, 2, b"a message of some length");
            let at = at.index(datagram.len());
            if cut {
                datagram.truncate(at);
            } else {
                datagram[at] ^= flip;
            }
            prop_assert_eq!(node(2).open(&datagram), None);
        }

        #[test]
        fn any_bytes_are_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..1_300), named: bool) {
            if named && bytes.len() >= SENDER_BYTES {
                bytes[..SENDER_BYTES].copy_from_slice(&entry(1).key.0[..SENDER_BYTES]);
            }
            prop_assert_eq!(node(2).open(&bytes), None);
        }
    }
}
