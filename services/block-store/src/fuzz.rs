//! The decoders of what lies on the disk, for the fuzzer: each takes the bytes in front of the check and makes the check right.

use crate::footer::{self, Footer};
use crate::record::{self, Header, PAGE_BYTES, PackKey};
use protocol::block::BlockId;

const ID: BlockId = BlockId([7; 32]);
const KEY: PackKey = PackKey([5; 32]);
const PACK: u32 = 7;
const PAGE: u32 = 40;
/// Of a pack's head, so many bytes of each copy say something.
const HEAD_BYTES: usize = 64;

/// The body of a footer: magic, a length of 4 MiB, four zeros, a key.
pub const FOOTER_SEED: &[u8] =
    b"trsBLK1\n\x00\x00\x40\x00\x00\x00\x00\x00kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk";
/// The body of a pack's head: magic, its number, four zeros, a key.
pub const HEAD_SEED: &[u8] =
    b"trsPCK1\n\x07\x00\x00\x00\x00\x00\x00\x00kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk";
/// The body of a record's header: magic, pack, page, group, a length of 16 KiB, four zeros, name, key.
pub const HEADER_SEED: &[u8] =
    b"trsREC1\n\x07\x00\x00\x00\x28\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\
      iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiikkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk";

/// A block's footer. What is accepted is what would be written.
pub fn footer(body: &[u8]) -> bool {
    let bytes = [body, &footer::check(body, &ID)].concat();
    let found = Footer::decode(&bytes, &ID);
    if let Some(footer) = found {
        assert_eq!(footer.encode(&ID), bytes);
    }
    found.is_some()
}

/// A pack's head. What is accepted is one of its copies as it would be written.
pub fn head(body: &[u8]) -> bool {
    let bytes = [body, &record::check(&[0; 32], body)].concat();
    let found = record::decode_head(&bytes, PACK);
    if let Some(key) = found {
        let head = record::encode_head(PACK, &key);
        // The rest of each page is not looked at.
        let written = head.get(..HEAD_BYTES).unwrap_or_default();
        assert!(
            bytes
                .chunks(PAGE_BYTES)
                .any(|copy| copy.starts_with(written))
        );
    }
    found.is_some()
}

/// A record's header.
pub fn header(body: &[u8]) -> bool {
    let bytes = [body, &record::check(&KEY.0, body)].concat();
    let _ = Header::resembles(&bytes, &ID);
    let found = Header::decode(&bytes, &KEY, PACK, PAGE);
    if let Some(header) = found {
        let mut again = Vec::new();
        header.encode_into(&mut again, &KEY, PACK, PAGE);
        // Behind a header stands its block.
        assert!(bytes.starts_with(&again), "{header:?}");
        assert!(
            (1..=17).contains(&header.pages()),
            "{} pages",
            header.pages()
        );
    }
    found.is_some()
}
