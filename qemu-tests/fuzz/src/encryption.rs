//! Sealed chunks and wrapped keys, as a disk may give them back.

use object_encryption::{CHUNK_BYTES, Opener, PLAIN_BYTES, Sealer, Secret, unwrap, wrap};

const SECRET: Secret = Secret([1; 32]);
const SALT: [u8; 32] = [2; 32];
/// Of the streams that are read: their last chunk is of this size.
const LAST_BYTES: u64 = 100;

/// A chunk of a stream of two chunks, or a wrapped key. What opens must be what was sealed.
pub(crate) fn run(bytes: &[u8]) -> bool {
    if let Ok(key) = unwrap(&SECRET, &SALT, 5, bytes) {
        assert_eq!(key, Secret([3; 32]), "only one key was ever wrapped");
        return true;
    }
    let Ok(opener) = Opener::new(&SECRET, &SALT, PLAIN_BYTES as u64 + LAST_BYTES) else {
        return false;
    };
    let mut opened = false;
    for chunk in [0, 1, 2, u64::MAX] {
        let mut sealed = bytes.to_vec();
        if let Ok(plain) = opener.open(chunk, &mut sealed) {
            assert!(chunk < 2 && plain.iter().all(|byte| *byte == 7));
            opened = true;
        }
    }
    opened
}

/// The chunks of such a stream, and a key.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let plain = vec![7; PLAIN_BYTES + LAST_BYTES as usize];
    let mut seeds = Vec::new();
    if let Ok(mut sealer) = Sealer::new(&SECRET, &SALT, CHUNK_BYTES as u64) {
        let mut data = plain.as_slice();
        while let Ok(Some(chunk)) = sealer.update(&mut data) {
            seeds.push(chunk);
        }
        seeds.extend(sealer.finish().ok().flatten());
    }
    seeds.extend(wrap(&SECRET, &SALT, 5, &Secret([3; 32])).ok());
    seeds
}
