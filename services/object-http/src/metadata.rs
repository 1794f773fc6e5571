//! Calls to metadata: reads go on until there is an answer, writes are sent once.

use crate::limits::UNAVAILABLE_WAIT;
use protocol::metadata::{Answer, Call, Metadata, MetadataError, Reply};
use runtime::{Bus, CallError, Link};
use s3_wire::error::{ErrorCode, S3Error};
use std::time::{Duration, Instant};

/// The service's name in its manifest.
const SERVICE: &str = "metadata";
/// Between two attempts while there is no leader.
const PAUSE: Duration = Duration::from_millis(100);

/// One thread's line to metadata.
pub struct MetadataLink {
    link: Link<Metadata>,
}

impl MetadataLink {
    /// Connects with the first call.
    pub fn new(bus: Bus) -> Self {
        Self {
            link: Link::new(bus, SERVICE),
        }
    }

    /// Asks what changes nothing. A service that restarts or elects meanwhile is waited for, up to
    /// [`UNAVAILABLE_WAIT`].
    pub async fn read(&self, call: &Call) -> Result<(Reply, u64), MetadataError> {
        let deadline = Instant::now() + UNAVAILABLE_WAIT;
        loop {
            match unpack(self.link.repeat(call).await) {
                Err(MetadataError::Unavailable(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(PAUSE).await;
                }
                other => return other,
            }
        }
    }

    /// Orders a change, once. Where the answer is lost nobody knows whether it happened:
    /// `Unavailable`, and the client decides.
    pub async fn write(&self, call: &Call) -> Result<(Reply, u64), MetadataError> {
        unpack(self.link.call(call).await)
    }
}

/// The reply and the revision at which it was given.
fn unpack<D>(answer: Result<(Answer, D), CallError>) -> Result<(Reply, u64), MetadataError> {
    match answer {
        Ok((Answer { revision, result }, _)) => result.map(|reply| (reply, revision)),
        Err(error @ CallError::TooLong) => Err(MetadataError::Refused(error.to_string())),
        Err(error) => Err(MetadataError::Unavailable(error.to_string())),
    }
}

/// Why a call to metadata came to nothing. Operations answer the cases that are special to them;
/// `?` answers the others.
#[derive(Debug)]
pub enum Failure {
    /// Metadata's own refusal, or no answer.
    Metadata(MetadataError),
    /// The caller's rights have gone meanwhile.
    Denied(S3Error),
}

impl From<MetadataError> for Failure {
    fn from(error: MetadataError) -> Self {
        Self::Metadata(error)
    }
}

impl From<Failure> for S3Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Metadata(error) => refusal(error),
            Failure::Denied(error) => error,
        }
    }
}

fn refusal(error: MetadataError) -> S3Error {
    match error {
        MetadataError::NoSuchAccessKey => ErrorCode::InvalidAccessKeyId.into(),
        MetadataError::NoSuchBucket => ErrorCode::NoSuchBucket.into(),
        MetadataError::BucketExists { .. } => ErrorCode::BucketAlreadyExists.into(),
        MetadataError::BucketNotEmpty => ErrorCode::BucketNotEmpty.into(),
        MetadataError::NoSuchKey => ErrorCode::NoSuchKey.into(),
        MetadataError::NoSuchUpload => ErrorCode::NoSuchUpload.into(),
        MetadataError::InvalidPart { number } => {
            S3Error::new(ErrorCode::InvalidPart).and("PartNumber", number.to_string())
        }
        MetadataError::EntityTooSmall { number } => {
            S3Error::new(ErrorCode::EntityTooSmall).and("PartNumber", number.to_string())
        }
        MetadataError::PreconditionFailed => ErrorCode::PreconditionFailed.into(),
        MetadataError::SourceChanged => ErrorCode::OperationAborted.into(),
        MetadataError::NoSuchVersion => ErrorCode::NoSuchVersion.into(),
        // Operations that look at versions say more.
        MetadataError::DeleteMarker { .. } => ErrorCode::NoSuchKey.into(),
        MetadataError::Locked => {
            let message = "Access Denied because object protected by object lock.";
            S3Error::with(ErrorCode::AccessDenied, message)
        }
        MetadataError::NoObjectLock => {
            let message = "Bucket is missing Object Lock Configuration";
            S3Error::with(ErrorCode::InvalidRequest, message)
        }
        MetadataError::WrongBucketState(why) => S3Error::with(ErrorCode::InvalidBucketState, why),
        MetadataError::TokenReused => ErrorCode::IdempotencyParameterMismatch.into(),
        MetadataError::QuotaExceeded(why) => S3Error::with(ErrorCode::QuotaExceeded, why),
        MetadataError::Full => ErrorCode::InsufficientStorage.into(),
        // Keys or buckets change, or blocks are swept, faster than we can follow; nothing was done.
        MetadataError::Stale | MetadataError::BlocksStale(_) => {
            ErrorCode::ServiceUnavailable.into()
        }
        MetadataError::Unavailable(why) => {
            runtime::warn!("metadata: {why}");
            ErrorCode::ServiceUnavailable.into()
        }
        error @ (MetadataError::Refused(_)
        | MetadataError::KeyExists
        | MetadataError::NoSuchAlias
        | MetadataError::TooManyAliases
        | MetadataError::LayoutChanged
        | MetadataError::NoSuchNode
        | MetadataError::NotAdmitted(_)) => {
            runtime::error!("metadata: {error}");
            ErrorCode::InternalError.into()
        }
    }
}

/// The answer to a call that has only one kind of reply, or our own fault.
pub fn unexpected(reply: &Reply) -> S3Error {
    runtime::error!("metadata answered another call: {reply:?}");
    ErrorCode::InternalError.into()
}
