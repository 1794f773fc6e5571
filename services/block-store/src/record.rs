//! The bytes of a pack: its head, and the header in front of each small block.
//!
//! A pack begins with two copies of its head, a page each, which hold a random key. Each record starts on a page of its own
//! with a header that is authenticated by that key together with its place. So bytes that a client stored can never pass for a
//! header, although they lie in the same file, and neither can a record that ended up elsewhere.

use protocol::block::{BlockId, HashKey, PACKED_BYTES_MAX};

/// The unit of places in a pack, in bytes.
pub(crate) const PAGE_BYTES: usize = 4_096;
/// The pages in front of the first record: the head twice, so that one bad page does not lose a pack.
pub(crate) const HEAD_PAGES: u32 = 2;
/// Length of a record's header in bytes.
pub(crate) const HEADER_BYTES: usize = 112;

const HEAD_MAGIC: &[u8; 8] = b"trsPCK1\n";
const HEADER_MAGIC: &[u8; 8] = b"trsREC1\n";
const CHECK_BYTES: usize = 16;

/// A pack's key; it never leaves the store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackKey(pub(crate) [u8; 32]);

impl std::fmt::Debug for PackKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackKey(hidden)")
    }
}

/// Both copies of the head of pack `number`: [`HEAD_PAGES`] pages.
pub(crate) fn encode_head(number: u32, key: &PackKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_PAGES as usize * PAGE_BYTES);
    for copy in 1..=HEAD_PAGES as usize {
        let start = bytes.len();
        bytes.extend_from_slice(HEAD_MAGIC);
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&key.0);
        let check = check(&[0; 32], bytes.get(start..).unwrap_or_default());
        bytes.extend_from_slice(&check);
        bytes.resize(copy * PAGE_BYTES, 0);
    }
    bytes
}

/// The key of pack `number` from its first [`HEAD_PAGES`] pages, or `None` if neither copy is sound.
pub(crate) fn decode_head(bytes: &[u8], number: u32) -> Option<PackKey> {
    bytes.chunks(PAGE_BYTES).find_map(|copy| {
        let (body, rest) = copy.split_at_checked(48)?;
        let fields = body.strip_prefix(HEAD_MAGIC)?;
        let (found, fields) = fields.split_first_chunk::<4>()?;
        let key = fields.strip_prefix(&[0; 4])?.try_into().ok()?;
        let sound =
            u32::from_le_bytes(*found) == number && rest.starts_with(&check(&[0; 32], body));
        sound.then_some(PackKey(key))
    })
}

/// What stands in front of a small block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The write that it came with. A pack's groups are written one after the other, each only when the one before is on disk: so
    /// only records of the highest number can be torn.
    pub(crate) group: u64,
    /// Of the block, in bytes.
    pub(crate) length: u32,
    /// The block's name.
    pub(crate) id: BlockId,
    /// The key of the name.
    pub(crate) key: HashKey,
}

impl Header {
    /// Pages of the whole record.
    pub(crate) fn pages(&self) -> u32 {
        pages_of(self.length)
    }

    /// Appends the header of a record that will lie on `page` of pack `number`.
    pub(crate) fn encode_into(&self, bytes: &mut Vec<u8>, key: &PackKey, number: u32, page: u32) {
        let start = bytes.len();
        bytes.extend_from_slice(HEADER_MAGIC);
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&page.to_le_bytes());
        bytes.extend_from_slice(&self.group.to_le_bytes());
        bytes.extend_from_slice(&self.length.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.id.0);
        bytes.extend_from_slice(&self.key.0);
        let check = check(&key.0, bytes.get(start..).unwrap_or_default());
        bytes.extend_from_slice(&check);
    }

    /// `None` if no sound header for that place stands at the start of `bytes`.
    pub(crate) fn decode(bytes: &[u8], key: &PackKey, number: u32, page: u32) -> Option<Self> {
        let (body, rest) = bytes.split_at_checked(HEADER_BYTES - CHECK_BYTES)?;
        let fields = body.strip_prefix(HEADER_MAGIC)?;
        let (found_number, fields) = fields.split_first_chunk::<4>()?;
        let (found_page, fields) = fields.split_first_chunk::<4>()?;
        let (group, fields) = fields.split_first_chunk::<8>()?;
        let (length, fields) = fields.split_first_chunk::<4>()?;
        let fields = fields.strip_prefix(&[0; 4])?;
        let (id, hash_key) = fields.split_first_chunk::<32>()?;
        let header = Self {
            group: u64::from_le_bytes(*group),
            length: u32::from_le_bytes(*length),
            id: BlockId(*id),
            key: HashKey(hash_key.try_into().ok()?),
        };
        let sound = rest.starts_with(&check(&key.0, body))
            && u32::from_le_bytes(*found_number) == number
            && u32::from_le_bytes(*found_page) == page
            && (1..=PACKED_BYTES_MAX).contains(&(header.length as usize));
        sound.then_some(header)
    }
}

impl Header {
    /// Whether these bytes, which are no sound header, were the header of block `id` once: its magic or its name is still there.
    pub(crate) fn resembles(bytes: &[u8], id: &BlockId) -> bool {
        bytes.starts_with(HEADER_MAGIC) || bytes.get(32..64) == Some(&id.0)
    }
}

/// Pages of the record of a block of `length` bytes.
pub(crate) fn pages_of(length: u32) -> u32 {
    let bytes = u64::from(length) + HEADER_BYTES as u64;
    // At most 17 for a block that a header allows; a length from elsewhere saturates and fits nowhere.
    u32::try_from(bytes.div_ceil(PAGE_BYTES as u64)).unwrap_or(u32::MAX)
}

pub(crate) fn check(key: &[u8; 32], body: &[u8]) -> [u8; CHECK_BYTES] {
    let mut check = [0; CHECK_BYTES];
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(body).finalize_xof().fill(&mut check);
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

    const KEY: PackKey = PackKey([5; 32]);

    fn header() -> Header {
        Header {
            group: 3,
            length: 16_384,
            id: BlockId([1; 32]),
            key: HashKey([2; 32]),
        }
    }

    #[test]
    fn a_header_is_sound_in_its_own_place_only() {
        let mut bytes = Vec::new();
        header().encode_into(&mut bytes, &KEY, 7, 40);
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(Header::decode(&bytes, &KEY, 7, 40), Some(header()));
        assert_eq!(Header::decode(&bytes, &KEY, 7, 41), None);
        assert_eq!(Header::decode(&bytes, &KEY, 8, 40), None);
        assert_eq!(Header::decode(&bytes, &PackKey([6; 32]), 7, 40), None);
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_seen() {
        let mut bytes = Vec::new();
        header().encode_into(&mut bytes, &KEY, 7, 40);
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&flipped, &KEY, 7, 40), None, "bit {bit}");
        }
    }

    #[test]
    fn one_bad_page_does_not_lose_the_head() {
        let mut bytes = encode_head(9, &KEY);
        assert_eq!(bytes.len(), HEAD_PAGES as usize * PAGE_BYTES);
        assert_eq!(decode_head(&bytes, 9), Some(KEY));
        assert_eq!(decode_head(&bytes, 10), None);
        bytes[20] ^= 1;
        assert_eq!(decode_head(&bytes, 9), Some(KEY));
        bytes[PAGE_BYTES + 20] ^= 1;
        assert_eq!(decode_head(&bytes, 9), None);
    }

    #[test]
    fn a_record_takes_as_many_pages_as_it_needs() {
        let cases = [(1, 1), (3_984, 1), (3_985, 2), (16_384, 5), (65_536, 17)];
        for (length, pages) in cases {
            assert_eq!(pages_of(length), pages, "{length}");
        }
        assert_eq!(pages_of(u32::MAX), 1_048_577);
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_are_no_header(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), magic: bool) {
            let mut bytes = bytes;
            if magic && bytes.len() >= 8 {
                bytes[..8].copy_from_slice(HEADER_MAGIC);
            }
            proptest::prop_assert_eq!(Header::decode(&bytes, &KEY, 0, 2), None);
            proptest::prop_assert_eq!(decode_head(&bytes, 0), None);
        }
    }
}
