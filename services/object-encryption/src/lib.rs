//! How objects are encrypted at rest: chunks of an object's bytes, data keys under a master key, proofs of customers' keys.
//!
//! Every object and every part is a *stream* with a random salt of its own. Its key is derived from a secret and that salt (HKDF, RFC 5869); the
//! secret is a random data key (SSE-S3), which metadata keeps wrapped by a master key, or the key that the client sends along with each request
//! (SSE-C), of which nothing but a salted proof is kept. Pure: bytes in, bytes out; salts and keys come from the caller.
//!
//! What is *not* promised: that an old version of an object, put back with its row, is noticed. Rows are trusted; block files are not.
#![forbid(unsafe_code)]

mod customer;
mod stream;
mod wrap;

pub use customer::{proof, proves};
pub use stream::{CHUNK_BYTES, Opener, PLAIN_BYTES, Sealer, TAG_BYTES, chunks_of, sealed_bytes};
pub use wrap::{WRAPPED_BYTES, unwrap, wrap};

use ring::hkdf::{HKDF_SHA256, KeyType, Salt as HkdfSalt};
use std::fmt;

/// Bytes of a key: AES-256.
pub const KEY_BYTES: usize = 32;
/// Bytes of a salt. Salts are random and never used twice, which 32 bytes make certain.
pub const SALT_BYTES: usize = 32;

/// A secret from which streams' keys are derived.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; KEY_BYTES]);

impl fmt::Debug for Secret {
    // A secret does not belong in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret(hidden)")
    }
}

/// The bytes are not what was sealed with this key: damaged, cut off, in another order, or of another stream. Nothing of them may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "encrypted bytes are not what was sealed")
    }
}

impl std::error::Error for Damaged {}

/// The length of what is derived.
struct Derived;

impl KeyType for Derived {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

/// 32 bytes for one purpose. HKDF gives up to 8,160 bytes, so the error does not occur; it is passed on rather than answered with a key of zeros.
fn derive(secret: &Secret, salt: &[u8; SALT_BYTES], purpose: &str) -> Result<[u8; 32], Damaged> {
    let mut derived = [0; KEY_BYTES];
    let extracted = HkdfSalt::new(HKDF_SHA256, salt).extract(&secret.0);
    let purpose = [purpose.as_bytes()];
    let expanded = extracted.expand(&purpose, Derived);
    let filled = expanded.and_then(|material| material.fill(&mut derived));
    filled.map(|()| derived).map_err(|_| Damaged)
}
