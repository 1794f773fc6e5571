//! What outlives the process: the roster, and the number of the latest start. One file, of which only a descriptor is here.
//!
//! The file has two slots of [`SLOT_BYTES`], written in turn and synced. A slot: magic, sequence number, length, BLAKE3 hash of all of it, content. A slot that was
//! torn by a power cut, or damaged, does not count: then the other one does, which is the state of one change before.

use protocol::cluster::Roster;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;

/// Of the file, each of the two. A roster of the most nodes with the longest names takes two thirds of it.
pub(crate) const SLOT_BYTES: usize = 32 * 1024;
const MAGIC: [u8; 8] = *b"trroster";

/// Everything that is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    /// The number of the latest start: higher than that of each before, also where the data directory came back from a copy.
    pub(crate) starts: u64,
    /// The newest that it was told of; `None`: this node belongs to no cluster.
    pub(crate) roster: Option<Roster>,
}

/// The file and what is in it.
pub(crate) struct Kept {
    file: OwnedFd,
    sequence: u64,
    content: Content,
    /// Something stands in the file, but in no form that this program reads.
    pub(crate) damaged: bool,
}

impl Kept {
    /// Reads the newest slot that is whole; a new file has none.
    pub(crate) fn open(file: OwnedFd) -> Result<Self, Errno> {
        let (mut newest, mut empty): (Option<(u64, Content)>, bool) = (None, true);
        for slot in [0, 1] {
            let bytes = read_slot(&file, slot)?;
            empty &= bytes.iter().all(|byte| *byte == 0);
            let found = decode(&bytes);
            if found.as_ref().map(|(sequence, _)| *sequence)
                > newest.as_ref().map(|(sequence, _)| *sequence)
            {
                newest = found;
            }
        }
        let damaged = newest.is_none() && !empty;
        let (sequence, content) = newest.unwrap_or_default();
        Ok(Self {
            file,
            sequence,
            content,
            damaged,
        })
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    /// Keeps `content` in place of what was: on the disk when this comes back. After an error nobody knows what the disk has, and nothing more
    /// may be kept: the process has to end and read it again.
    pub(crate) fn keep(&mut self, content: Content) -> Result<(), Errno> {
        let sequence = self.sequence + 1;
        let bytes = encode(sequence, &content).ok_or(Errno::FBIG)?;
        let mut at = sequence % 2 * SLOT_BYTES as u64;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let written = rustix::io::pwrite(&self.file, rest, at)?;
            if written == 0 {
                return Err(Errno::NOSPC);
            }
            at += written as u64;
            rest = rest.get(written..).unwrap_or_default();
        }
        rustix::fs::fdatasync(&self.file)?;
        (self.sequence, self.content) = (sequence, content);
        Ok(())
    }
}

fn read_slot(file: &OwnedFd, slot: u64) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; SLOT_BYTES];
    let mut filled = 0;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        match rustix::io::pread(file, room, slot * SLOT_BYTES as u64 + filled as u64)? {
            0 => break, // the rest was never written
            count => filled += count,
        }
    }
    Ok(bytes)
}

/// A slot's bytes; `None` if the content does not fit.
pub(crate) fn encode(sequence: u64, content: &Content) -> Option<Vec<u8>> {
    let content = postcard::to_stdvec(content).ok()?;
    let length = u32::try_from(content.len()).ok()?.to_le_bytes();
    let sequence = sequence.to_le_bytes();
    let hash = hash(&sequence, &length, &content);
    let parts: [&[u8]; 5] = [&MAGIC, &sequence, &length, hash.as_bytes(), &content];
    let bytes = parts.concat();
    (bytes.len() <= SLOT_BYTES).then_some(bytes)
}

/// The sequence number and the content of a slot that is whole. Total: the bytes may be anything.
pub(crate) fn decode(bytes: &[u8]) -> Option<(u64, Content)> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (found, rest) = rest.split_first_chunk::<32>()?;
    let content_bytes = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let content = rest.get(..content_bytes)?;
    if *magic != MAGIC || hash(sequence, length, content) != *found {
        return None;
    }
    let (content, []) = postcard::take_from_bytes::<Content>(content).ok()? else {
        return None;
    };
    let broken = content.roster.as_ref().and_then(Roster::broken_rule);
    broken
        .is_none()
        .then_some((u64::from_le_bytes(*sequence), content))
}

fn hash(sequence: &[u8; 8], length: &[u8; 4], content: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for part in [&MAGIC[..], sequence, length, content] {
        hasher.update(part);
    }
    hasher.finalize()
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
    use protocol::cluster::{NODE_NAME_BYTES_MAX, NODES_MAX, NodeKey};

    fn content(starts: u64, nodes: usize) -> Content {
        let nodes = (0..nodes).map(|number| entry(number as u8 + 1));
        let mut roster = roster(nodes);
        roster.version = starts;
        Content {
            starts,
            roster: Some(roster),
        }
    }

    fn file() -> OwnedFd {
        tempfile::tempfile().unwrap().into()
    }

    fn overwrite(file: &OwnedFd, at: u64, bytes: &[u8]) {
        assert_eq!(rustix::io::pwrite(file, bytes, at), Ok(bytes.len()));
    }

    #[test]
    fn what_was_kept_last_is_there_after_a_restart() {
        let file = file();
        for starts in 1..6 {
            let mut kept = Kept::open(file.try_clone().unwrap()).unwrap();
            assert_eq!((kept.content().starts, kept.damaged), (starts - 1, false));
            kept.keep(content(starts, 3)).unwrap();
        }
        let kept = Kept::open(file).unwrap();
        assert_eq!(*kept.content(), content(5, 3));
    }

    #[test]
    fn the_largest_roster_fits() {
        let long = "x".repeat(NODE_NAME_BYTES_MAX);
        let mut content = content(u64::MAX, NODES_MAX);
        let roster = content.roster.as_mut().unwrap();
        for (number, node) in roster.nodes.iter_mut().enumerate() {
            node.name = format!("{number:03}{}", &long[3..]);
            node.zone = long.clone();
            node.capacity_bytes = u64::MAX;
            let address = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535";
            (node.mesh, node.gossip) = (address.into(), address.into());
        }
        assert!(encode(u64::MAX, &content).is_some());
    }

    #[test]
    fn a_roster_that_breaks_a_rule_does_not_count() {
        let mut content = content(1, 2);
        content.roster.as_mut().unwrap().nodes[1].key = NodeKey([1; 32]);
        assert_eq!(decode(&encode(1, &content).unwrap()), None);
    }

    #[test]
    fn a_file_of_something_else_is_told_from_a_new_one() {
        let file = file();
        overwrite(&file, 0, b"something else");
        let kept = Kept::open(file).unwrap();
        assert!(kept.damaged && kept.content().roster.is_none());
    }

    proptest! {
        #[test]
        fn a_torn_or_damaged_slot_leaves_the_change_before(
            at in 0..SLOT_BYTES, cut: bool, flip in 1_u8..,
        ) {
            let file = file();
            let mut kept = Kept::open(file.try_clone().unwrap()).unwrap();
            kept.keep(content(1, 3)).unwrap();
            kept.keep(content(2, 3)).unwrap();
            // The third stands where the first did, and to its end has another byte in each place.
            let mut newest = content(3, 5);
            for node in &mut newest.roster.as_mut().unwrap().nodes {
                node.standing = protocol::cluster::Standing::Revoked;
            }
            let third = encode(3, &newest).unwrap();
            let at = at % third.len();
            if cut {
                overwrite(&file, SLOT_BYTES as u64, &third[..at]);
            } else {
                let mut damaged = third.clone();
                damaged[at] ^= flip;
                overwrite(&file, SLOT_BYTES as u64, &damaged);
            }
            let kept = Kept::open(file).unwrap();
            prop_assert_eq!(kept.content(), &content(2, 3));
            prop_assert!(!kept.damaged);
        }

        #[test]
        fn any_bytes_are_a_slot_that_encodes_to_the_same_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Some((sequence, content)) = decode(&bytes) {
                let again = encode(sequence, &content).unwrap();
                prop_assert_eq!(&bytes[..again.len()], &again[..]);
            }
        }
    }
}
