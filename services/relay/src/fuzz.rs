//! Records from anybody, for the fuzzer.

use crate::record::{Opened, Opener, PLAIN_BYTES_MAX, Sealer};
use protocol::relay::RecordKeys;

const KEYS: RecordKeys = RecordKeys {
    key: [1; 16],
    iv: [2; 12],
    sequence: 3,
};
/// What the seeds carry.
const SAID: &[u8] = b"what was said";

/// Reads records until one is not whole, is the last or is refused; true if one was read. The bytes may be sealed with the real key or not.
///
/// Panics if anything comes out that was not put in, or more than a record may carry.
pub fn open(bytes: &[u8]) -> bool {
    let mut bytes = bytes.to_vec();
    let Some(mut opener) = Opener::new(&KEYS) else {
        return false;
    };
    let (mut rest, mut read) = (bytes.as_mut_slice(), false);
    while let Ok(Some((opened, count))) = opener.open(rest) {
        read = true;
        match opened {
            Opened::Closed => break,
            Opened::Data(plain) => {
                assert!(plain.len() <= PLAIN_BYTES_MAX && SAID.starts_with(plain));
            }
        }
        rest = rest.get_mut(count..).unwrap_or_default();
    }
    read
}

/// A record, and one with the end behind it.
pub fn seeds() -> Vec<Vec<u8>> {
    let Some(mut sealer) = Sealer::new(&KEYS) else {
        return Vec::new();
    };
    let mut sealed = Vec::new();
    let mut seeds = Vec::new();
    if sealer.seal(SAID, &mut sealed).is_ok() {
        seeds.push(sealed.clone());
    }
    if sealer.close(&mut sealed).is_ok() {
        seeds.push(sealed);
    }
    seeds
}
