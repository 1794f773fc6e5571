//! Why metadata refuses.

use super::{ALIASES_MAX, VersionId};
use crate::block::Epoch;
use crate::cluster::AdmissionError;
use serde::{Deserialize, Serialize};

/// Why metadata did not do it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetadataError {
    /// The caller's revision is not the present one: learn keys and buckets again, then ask again.
    Stale,
    /// No such access key.
    NoSuchAccessKey,
    /// The id or the name of the key is taken.
    KeyExists,
    /// No such bucket (any more).
    NoSuchBucket,
    /// The name is taken by `owner`'s bucket.
    BucketExists {
        /// Its owner's access key.
        owner: String,
    },
    /// It holds objects or uploads.
    BucketNotEmpty,
    /// No such object.
    NoSuchKey,
    /// No such upload.
    NoSuchUpload,
    /// This part is missing or not the one that the caller means.
    InvalidPart {
        /// Which; 0 if the whole does not fit.
        number: u16,
    },
    /// This part is too small to be followed by another.
    EntityTooSmall {
        /// Which.
        number: u16,
    },
    /// The object is not as the precondition wants it.
    PreconditionFailed,
    /// A block of the copy's source is gone: read the source again.
    SourceChanged,
    /// The key has no such version.
    NoSuchVersion,
    /// What is there is a delete marker.
    DeleteMarker {
        /// Its version.
        version: VersionId,
        /// When it was made, in milliseconds since 1970.
        modified_ms: u64,
    },
    /// The version is protected by retention or legal hold.
    Locked,
    /// The bucket has no object lock.
    NoObjectLock,
    /// The bucket's versioning or object lock does not allow it; why.
    WrongBucketState(String),
    /// The client's token belongs to another request.
    TokenReused,
    /// No space beside the reserve for deletions. Reading and deleting go on.
    Full,
    /// The bucket would hold more than its quota; in the words of the bound.
    QuotaExceeded(String),
    /// The bucket has no such further name.
    NoSuchAlias,
    /// It has [`ALIASES_MAX`] of them.
    TooManyAliases,
    /// The layout is not the one that was looked at: look again.
    LayoutChanged,
    /// No node of this cluster has this key, or it does not belong any more.
    NoSuchNode,
    /// The node cannot belong.
    NotAdmitted(AdmissionError),
    /// The call breaks a bound of this conversation; which one.
    Refused(String),
    /// The shard has no leader, or the disk failed. Ask again later; a change may have happened.
    Unavailable(String),
    /// Sweeps have begun since the blocks of this write were seen, in these stores at these moments (none: it was not said when they were seen). See to it that they
    /// are there still, then ask again. Never told to clients.
    BlocksStale(Vec<Epoch>),
}

impl std::fmt::Display for MetadataError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stale => write!(f, "keys or buckets have changed"),
            Self::NoSuchAccessKey => write!(f, "no such access key"),
            Self::KeyExists => write!(f, "a key of that name exists"),
            Self::NoSuchBucket => write!(f, "no such bucket"),
            Self::BucketExists { .. } => write!(f, "a bucket of that name exists"),
            Self::BucketNotEmpty => write!(f, "the bucket is not empty"),
            Self::NoSuchKey => write!(f, "no such object"),
            Self::NoSuchUpload => write!(f, "no such upload"),
            Self::InvalidPart { number } => write!(f, "part {number} is missing or another"),
            Self::EntityTooSmall { number } => write!(f, "part {number} is too small"),
            Self::PreconditionFailed => write!(f, "the precondition does not hold"),
            Self::SourceChanged => write!(f, "the source of the copy has changed"),
            Self::NoSuchVersion => write!(f, "no such version"),
            Self::DeleteMarker { .. } => write!(f, "a delete marker"),
            Self::Locked => write!(f, "the version is protected by object lock"),
            Self::NoObjectLock => write!(f, "the bucket has no object lock"),
            Self::WrongBucketState(why) => write!(f, "not with this bucket: {why}"),
            Self::TokenReused => write!(f, "the token belongs to another request"),
            Self::Full => write!(f, "no space left for metadata"),
            Self::QuotaExceeded(why) => write!(f, "quota: {why}"),
            Self::NoSuchAlias => write!(f, "the bucket has no such alias"),
            Self::TooManyAliases => write!(f, "the bucket has {ALIASES_MAX} aliases already"),
            Self::LayoutChanged => write!(f, "the layout has changed meanwhile: look at it again"),
            Self::NoSuchNode => write!(f, "no such node belongs to the cluster"),
            Self::NotAdmitted(error) => error.fmt(f),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Unavailable(why) => write!(f, "not available: {why}"),
            Self::BlocksStale(_) => write!(
                f,
                "the blocks of the object were seen too long ago: try again"
            ),
        }
    }
}

impl std::error::Error for MetadataError {}
