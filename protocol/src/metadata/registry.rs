//! Access keys, rights and buckets: what the registry holds.

use crate::block::HashKey;
use serde::{Deserialize, Serialize};

/// The most further names of a bucket.
pub const ALIASES_MAX: usize = 16;

/// A bucket's number, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BucketId(pub u64);

/// What a key may do with a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rights {
    /// Get, head and list.
    pub read: bool,
    /// Put, delete and multipart.
    pub write: bool,
    /// Delete the bucket and change its settings.
    pub owner: bool,
}

/// An access key. Its secret is kept in clear: SigV4 needs it to verify a signature.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    /// As in `AWS_ACCESS_KEY_ID`: 20 characters.
    pub access_key: String,
    /// As in `AWS_SECRET_ACCESS_KEY`: 40 characters.
    pub secret_key: String,
    /// The operator's name for it.
    pub name: String,
    /// May do everything: the key of the node's operator.
    pub root: bool,
    /// May create buckets (and then owns them).
    pub create_buckets: bool,
    /// Milliseconds since 1970.
    pub created_ms: u64,
}

impl std::fmt::Debug for AccessKey {
    // A secret does not belong in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccessKey({} {:?})", self.access_key, self.name)
    }
}

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Its number.
    pub id: BucketId,
    /// Its name, valid by S3's rules.
    pub name: String,
    /// The access key that created it; empty for the command line.
    pub owner: String,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Names its blocks.
    pub hash_key: HashKey,
    /// Has or had versioning: answers name versions, also the version `null`.
    pub versioned: bool,
    /// Its further names, at most [`ALIASES_MAX`]; each is one bucket's only.
    pub aliases: Vec<String>,
}

/// How much a bucket holds, and how much it may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BucketUsage {
    /// Objects, noncurrent versions included, delete markers not.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Judged by each write that adds.
    pub quota: Quota,
}

/// How much a bucket may hold. A bucket that holds more already keeps it, and takes nothing that adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Quota {
    /// Objects, as they are counted; `None`: any number.
    pub objects_max: Option<u64>,
    /// Bytes; `None`: any number.
    pub bytes_max: Option<u64>,
}
