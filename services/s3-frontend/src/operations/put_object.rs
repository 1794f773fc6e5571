//! PutObject: stores a body under a key.
//!
//! Order: the condition (where the body is long, to spare the client a futile upload), the body into blocks on
//! disk, its digests, then *one* metadata command that judges the condition again and makes the
//! object visible. An interrupted upload leaves nothing visible; its blocks are given up with their
//! pins.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>

use super::object_attributes::{attributes, check_digest};
use super::object_data::{
    DEFAULT_ALGORITHM, check_size, kept_checksum, kept_headers, receive, stored_answer,
};
use super::{precondition, version_id};
use crate::admission::Admission;
use crate::answer::Answer;
use crate::encryption::{self, Cipher};
use crate::metadata::{Failure, unexpected};
use crate::request::Request;
use protocol::metadata::{
    BucketId, Change, EventKind, INLINE_BYTES_MAX, MetadataError, NewObject, Operation,
    Precondition, Reply,
};
use s3_wire::conditions::WriteCondition;
use s3_wire::error::{ErrorCode, S3Error};

/// See the module.
pub(super) async fn put_object(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let admission = request.admission.clone();
    let worker = request.worker.clone();
    let bucket = admission.bucket()?.clone();
    let key = request.key().to_owned();
    let headers = kept_headers(request)?;
    let attributes = attributes(request)?;
    check_digest(request, &attributes)?;
    let cipher = encryption::of_new_object(&request.head.headers, &admission)?;
    let precondition = precondition(WriteCondition::from_headers(&request.head.headers)?);

    let upload = request.upload(Some(DEFAULT_ALGORITHM))?;
    check_size(upload.length())?;
    // A small body costs the client less than the question, which goes to the node that leads the bucket's shard.
    if upload.length() > INLINE_BYTES_MAX as u64 {
        check_early(&admission, bucket.id, &key, &precondition).await?;
    }

    let (placed, summary) = receive(&worker, &bucket, upload, true, cipher.as_ref()).await?;

    let etag = encryption::etag(&summary.md5, cipher.as_ref())?;
    let checksum = summary.checksum.as_ref().map(kept_checksum);
    let object = NewObject {
        size: summary.bytes,
        etag: etag.clone(),
        headers,
        checksum: checksum.clone(),
        attributes,
        encryption: cipher.as_ref().map(Cipher::row),
        content: placed.content,
    };
    let change = Change::PutObject {
        bucket: bucket.id,
        key,
        object,
        precondition,
        copied: false,
        event: EventKind::Put,
    };
    match admission.write_held(change, placed.hold).await? {
        Reply::Written { version, .. } => {
            let mut answer = stored_answer(&etag, checksum.as_ref());
            version_id::tell_made(&mut answer, version);
            encryption::tell(&mut answer, cipher.as_ref().map(|one| &one.shown));
            Ok(answer)
        }
        other => Err(unexpected(&other)),
    }
}

/// Refuses an upload whose condition does not hold now. Only a courtesy: metadata decides at the
/// end.
pub(super) async fn check_early(
    admission: &Admission,
    bucket: BucketId,
    key: &str,
    precondition: &Precondition,
) -> Result<(), S3Error> {
    if *precondition == Precondition::None {
        return Ok(());
    }
    let found = match admission
        .read(Operation::GetObject {
            bucket,
            key: key.to_owned(),
            version: None,
        })
        .await
    {
        Ok(Reply::Object(object)) => Some(object.etag),
        Err(Failure::Metadata(MetadataError::NoSuchKey | MetadataError::DeleteMarker { .. })) => {
            None
        }
        Ok(other) => return Err(unexpected(&other)),
        Err(error) => return Err(error.into()),
    };
    match (precondition, found) {
        (Precondition::None, _)
        | (Precondition::Absent, None)
        | (Precondition::Present, Some(_)) => Ok(()),
        (Precondition::Etag(wanted), Some(etag)) if *wanted == etag => Ok(()),
        (Precondition::Etag(_), None) => Err(ErrorCode::NoSuchKey.into()),
        _ => Err(ErrorCode::PreconditionFailed.into()),
    }
}
