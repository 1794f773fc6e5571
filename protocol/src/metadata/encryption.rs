//! How an object's bytes are encrypted at rest, as far as its rows tell. The encryption itself is the crate `object-encryption`.

use serde::{Deserialize, Serialize};

/// The salt of a stream of encrypted bytes: random, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Salt(pub [u8; 32]);

/// That an object is encrypted, and with what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    /// Of the object's bytes, unless they lie in parts, which have salts of their own; and of the wrap or the proof.
    pub salt: Salt,
    /// Where the secret comes from.
    pub source: KeySource,
}

/// Where the secret of an object's encryption comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeySource {
    /// SSE-S3, as callers of metadata give and get it.
    Managed(DataKey),
    /// SSE-S3, as it lies in rows and logs: the data key under a master key, which never leaves metadata. Refused in a call.
    Wrapped {
        /// Which master key.
        master: u32,
        /// The wrapped data key and its tag.
        key: ([u8; 32], [u8; 16]),
    },
    /// SSE-C: the client brings its key each time.
    Customer {
        /// By which its key is known again.
        proof: [u8; 32],
    },
}

/// The random secret of one object.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataKey(pub [u8; 32]);

impl std::fmt::Debug for DataKey {
    // A key does not belong in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DataKey(hidden)")
    }
}
