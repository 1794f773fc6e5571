//! The 64 bytes behind a block in its file: length and key, so that the store can check the block without asking anybody.
//!
//! Whoever may read the block's file can read its bucket's key there. That gives them nothing: the key only serves
//! to name content of that same bucket, and the conversation with the store has no question "is there a block of this name?" that
//! a reader of one descriptor could ask.

use protocol::block::{BLOCK_BYTES_MAX, BlockId, HashKey};

/// Length of the footer in bytes.
pub(crate) const FOOTER_BYTES: usize = 64;

const MAGIC: &[u8; 8] = b"trsBLK1\n";

/// What stands behind a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footer {
    /// Of the block, in bytes.
    pub(crate) length: u32,
    /// Of its name.
    pub(crate) key: HashKey,
}

impl Footer {
    /// Magic, length, four zeros, key, check.
    pub(crate) fn encode(&self, id: &BlockId) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FOOTER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.length.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.key.0);
        bytes.extend_from_slice(&check(&bytes, id));
        bytes
    }

    /// `None` if the bytes are not the footer of block `id`.
    pub(crate) fn decode(bytes: &[u8], id: &BlockId) -> Option<Self> {
        let (body, found) = bytes.split_at_checked(FOOTER_BYTES - CHECK_BYTES)?;
        let rest = body.strip_prefix(MAGIC)?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let rest = rest.strip_prefix(&[0; 4])?;
        let key = HashKey(rest.try_into().ok()?);
        let length = u32::from_le_bytes(*length);
        let sound = found == check(body, id) && (1..=BLOCK_BYTES_MAX).contains(&u64::from(length));
        sound.then_some(Self { length, key })
    }
}

const CHECK_BYTES: usize = 16;

/// Against decay, and against a file under another block's name; not against a forger, who could not write here.
pub(crate) fn check(body: &[u8], id: &BlockId) -> [u8; CHECK_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(body);
    hasher.update(&id.0);
    let mut check = [0; CHECK_BYTES];
    hasher.finalize_xof().fill(&mut check);
    check
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test may fail by panicking"
    )]
    use super::*;

    #[test]
    fn every_flipped_bit_of_a_footer_is_seen() {
        let id = BlockId([7; 32]);
        let footer = Footer {
            length: 4_194_304,
            key: HashKey([9; 32]),
        };
        let bytes = footer.encode(&id);
        assert_eq!(bytes.len(), FOOTER_BYTES);
        assert_eq!(Footer::decode(&bytes, &id), Some(footer));
        for bit in 0..FOOTER_BYTES * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Footer::decode(&flipped, &id), None, "bit {bit}");
        }
        assert_eq!(Footer::decode(&bytes, &BlockId([8; 32])), None);
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_are_no_footer(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            proptest::prop_assert_eq!(Footer::decode(&bytes, &BlockId([0; 32])), None);
        }
    }
}
