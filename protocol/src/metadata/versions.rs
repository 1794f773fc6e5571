//! Versions of objects, and what hangs on each of them: name, tags, protection from deletion.

use serde::{Deserialize, Serialize};

/// The most tags of one object (S3).
pub const TAGS_MAX: usize = 10;
/// The longest name of a tag in bytes: S3's 128 characters of UTF-8.
pub const TAG_NAME_BYTES_MAX: usize = 128 * 4;
/// The longest value of a tag in bytes: S3's 256 characters of UTF-8.
pub const TAG_VALUE_BYTES_MAX: usize = 256 * 4;
/// The longest client token of a rename in bytes (S3).
pub const TOKEN_BYTES_MAX: usize = 64;

/// What a bucket does with the object that was, when another one is written or it is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Versioning {
    /// Never had versions: there is one object of a key, and it is the version `null`.
    #[default]
    Off,
    /// Every write makes a version, and a deletion without a version makes a delete marker.
    Enabled,
    /// Every write takes the place of the version `null`; other versions stay.
    Suspended,
}

/// Which version of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum VersionId {
    /// The one that was written while the bucket had no versioning, or had it suspended. A key has at most one.
    Null,
    /// Rises with each version of the bucket and is never used again. Its upper 48 bits are the milliseconds since 1970 at which it was
    /// made, or later.
    Number(u64),
}

impl std::fmt::Display for VersionId {
    /// As clients of S3 see it: 16 hexadecimal digits that mean nothing to them, or `null`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Number(number) => write!(f, "{number:016x}"),
        }
    }
}

/// How strictly a version is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RetentionMode {
    /// Whoever may bypass it can delete the version and shorten or remove the retention.
    Governance,
    /// Nobody can; it can only be made longer.
    Compliance,
}

/// Until when a version is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// How strictly.
    pub mode: RetentionMode,
    /// Milliseconds since 1970.
    pub until_ms: u64,
}

/// How long a bucket keeps what is written into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RetentionSpan {
    /// At least 1.
    Days(u32),
    /// Of 365 days; at least 1.
    Years(u32),
}

impl RetentionSpan {
    /// Milliseconds.
    pub fn ms(self) -> u64 {
        let days = match self {
            Self::Days(days) => u64::from(days),
            Self::Years(years) => u64::from(years).saturating_mul(365),
        };
        days.saturating_mul(24 * 60 * 60 * 1_000)
    }
}

/// The object lock of a bucket. A bucket that has one keeps it, and its versioning is `Enabled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ObjectLock {
    /// What a version gets that is written without a retention of its own.
    pub default: Option<(RetentionMode, RetentionSpan)>,
}

/// What can be changed of a version without writing it anew.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attributes {
    /// At most [`TAGS_MAX`], names of at most [`TAG_NAME_BYTES_MAX`] and values of at most [`TAG_VALUE_BYTES_MAX`] bytes.
    pub tags: Vec<(String, String)>,
    /// If it has one.
    pub retention: Option<Retention>,
    /// If it was ever said.
    pub legal_hold: Option<bool>,
}

/// One change of [`Attributes`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttributeChange {
    /// In place of all tags before.
    Tags(Vec<(String, String)>),
    /// In place of the one before, if that allows it.
    Retention {
        /// `None` removes it.
        retention: Option<Retention>,
        /// The caller may bypass governance, and says so.
        bypass: bool,
    },
    /// On or off.
    LegalHold(bool),
}

/// What must be true of an object at the instant of a rename: `If-Match` and its relatives, as RFC 9110 (13.2.2) judges them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Conditions {
    /// An ETag without quotes, or `*` for any.
    pub if_match: Option<String>,
    /// An ETag without quotes, or `*` for any.
    pub if_none_match: Option<String>,
    /// Seconds since 1970.
    pub if_modified_since_s: Option<u64>,
    /// Seconds since 1970.
    pub if_unmodified_since_s: Option<u64>,
}

/// Where a listing of versions goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AfterVersion {
    /// Behind all versions of this key.
    Key(String),
    /// Behind this version of this key.
    Version(String, VersionId),
    /// Behind every key that starts so.
    Prefix(String),
}

/// One line of a listing of versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VersionEntry {
    /// An object.
    Object {
        /// Its key.
        key: String,
        /// Which of its versions.
        version: VersionId,
        /// The current one.
        latest: bool,
        /// Bytes.
        size: u64,
        /// Without quotes.
        etag: String,
        /// Milliseconds since 1970.
        modified_ms: u64,
        /// Algorithm of its checksum and whether it is composite.
        checksum: Option<(String, bool)>,
    },
    /// A delete marker.
    Marker {
        /// The deleted key.
        key: String,
        /// Which of its versions.
        version: VersionId,
        /// The key counts as deleted.
        latest: bool,
        /// Milliseconds since 1970.
        modified_ms: u64,
    },
    /// A common prefix, delimiter included.
    Prefix(String),
}
