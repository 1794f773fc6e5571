//! Who the node is: a seed that is made at its first start and kept, and what is derived from it for those who have to prove it.
//!
//! The seed itself leaves this module only in a hash. The bus alone is given the Ed25519 seed, by which it proves the node's key to other
//! buses; membership alone the X25519 secret, by which datagrams are encrypted. Neither tells anything of the other.

use crate::Error;
use crate::files;
use ed25519_dalek::SigningKey;
use protocol::cluster::NodeKey;
use rustix::io::Errno;
use std::os::fd::{BorrowedFd, OwnedFd};

/// The file in the data directory: the seed in hexadecimal digits.
const FILE: &str = "seed";
const SEED_BYTES: usize = 32;
/// BLAKE3's contexts of derivation. Never to be changed: they say who every node is.
const OF_IDENTITY: &str = "trousseau 2026 node identity ed25519";
const OF_GOSSIP: &str = "trousseau 2026 gossip x25519";

/// What follows from the seed.
pub(crate) struct Keys {
    /// The public key by which the node is known.
    pub(crate) node_key: NodeKey,
    identity: [u8; 32],
    gossip: [u8; 32],
}

impl Keys {
    /// Of the seed that the data directory keeps; the first time makes one.
    pub(crate) fn of(data: BorrowedFd<'_>) -> Result<Self, Error> {
        let fails = |errno| Error::Data(FILE.into(), errno);
        let text = match files::read(data, FILE) {
            Err(Errno::NOENT) => return make(data).map_err(fails),
            other => other.map_err(fails)?,
        };
        // A damaged seed is not replaced: the node would be another one, and nobody would know it.
        let seed = parse(&text).ok_or_else(|| {
            Error::Failed(format!(
                "data directory: {FILE}: not {SEED_BYTES} bytes in hexadecimal digits; put a copy of the right file there (without it this node is unknown to its cluster)"
            ))
        })?;
        Ok(Self::derive(&seed))
    }

    fn derive(seed: &[u8; SEED_BYTES]) -> Self {
        let identity = blake3::derive_key(OF_IDENTITY, seed);
        let public = SigningKey::from_bytes(&identity).verifying_key();
        Self {
            node_key: NodeKey(public.to_bytes()),
            identity,
            gossip: blake3::derive_key(OF_GOSSIP, seed),
        }
    }

    /// The secrets that a daemon starts with, by name, each in a sealed memory file of 32 bytes.
    pub(crate) fn files_of(&self, daemon: &str) -> Result<Vec<(&'static str, OwnedFd)>, Errno> {
        let (grant, secret) = match daemon {
            "bus" => ("identity", &self.identity),
            "membership" => ("gossip-key", &self.gossip),
            _ => return Ok(Vec::new()),
        };
        Ok(vec![(grant, files::sealed(grant, secret)?)])
    }
}

fn make(data: BorrowedFd<'_>) -> Result<Keys, Errno> {
    let mut seed = [0; SEED_BYTES];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
    files::replace(data, FILE, format!("{}\n", hex::encode(seed)).as_bytes())?;
    Ok(Keys::derive(&seed))
}

fn parse(text: &[u8]) -> Option<[u8; SEED_BYTES]> {
    let mut seed = [0; SEED_BYTES];
    hex::decode_to_slice(text.trim_ascii_end(), &mut seed).ok()?;
    Some(seed)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a panic is how a test fails"
    )]
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;

    fn content(file: &OwnedFd) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        let count = rustix::io::pread(file, &mut bytes, 0).unwrap();
        bytes.truncate(count);
        bytes
    }

    #[test]
    fn the_seed_is_made_once_for_its_owner_only_and_gives_the_same_keys_ever_after() {
        let directory = tempfile::tempdir().unwrap();
        let data = crate::DataDir::open(directory.path()).unwrap();
        let keys = Keys::of(data.as_fd()).unwrap();
        let mode = std::fs::metadata(directory.path().join(FILE)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        let again = Keys::of(data.as_fd()).unwrap();
        assert_eq!(again.node_key, keys.node_key);
        for daemon in ["bus", "membership"] {
            let [(name, file)] = &keys.files_of(daemon).unwrap()[..] else {
                panic!("one secret for {daemon}");
            };
            let [(_, same)] = &again.files_of(daemon).unwrap()[..] else {
                panic!("one secret for {daemon}");
            };
            assert_eq!(
                (content(file).len(), content(file)),
                (32, content(same)),
                "{name}"
            );
            assert_eq!(rustix::io::write(file, b"x"), Err(Errno::PERM));
        }
        assert!(keys.files_of("orchestrator").unwrap().is_empty());
        let other = tempfile::tempdir().unwrap();
        let other = crate::DataDir::open(other.path()).unwrap();
        assert_ne!(Keys::of(other.as_fd()).unwrap().node_key, keys.node_key);
    }

    /// A change of this test's values would make every node another one.
    #[test]
    fn what_follows_from_a_seed_never_changes() {
        let keys = Keys::derive(&[7; 32]);
        assert_eq!(keys.identity, blake3::derive_key(OF_IDENTITY, &[7; 32]));
        let signing = SigningKey::from_bytes(&keys.identity);
        assert_eq!(keys.node_key.0, signing.verifying_key().to_bytes());
        assert_ne!(keys.gossip, keys.identity);
        assert_eq!(
            (keys.node_key.to_string(), keys.gossip[..4].to_vec()),
            (
                "fd139e7efc052b7884f3bce217895fea7fd0141eba2a4d2e75f9594e272a2cc3".to_owned(),
                vec![9, 218, 100, 172]
            )
        );
    }

    #[test]
    fn a_damaged_seed_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let data = crate::DataDir::open(directory.path()).unwrap();
        for text in [
            "",
            "abc",
            &"g".repeat(64),
            &"+1".repeat(32),
            &"é".repeat(32),
        ] {
            std::fs::write(directory.path().join(FILE), text).unwrap();
            assert!(Keys::of(data.as_fd()).is_err(), "{text}");
            let kept = std::fs::read_to_string(directory.path().join(FILE)).unwrap();
            assert_eq!(kept, text);
        }
    }
}
