//! The source of CopyObject and UploadPartCopy: found, allowed, and as its conditions want it.

use super::find_object::find_object;
use super::version_id;
use crate::access::{Need, Target, get_action};
use crate::answer::{self, Answer};
use crate::encryption::{self, Side, Stream};
use crate::request::Request;
use protocol::metadata::{Bucket, Object, VersionId};
use s3_wire::conditions::ReadConditions;
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::names::{self, CopySource};
use std::rc::Rc;

/// An object to copy from.
pub(super) struct Source {
    pub(super) bucket: Rc<Bucket>,
    pub(super) object: Object,
    /// The key, if it is encrypted.
    pub(super) stream: Option<Stream>,
}

/// Where the source is.
pub(super) struct Place {
    pub(super) bucket: Rc<Bucket>,
    pub(super) key: String,
    /// `None`: the current version.
    pub(super) version: Option<VersionId>,
}

/// Reads `x-amz-copy-source` and admits the caller to it.
///
/// # Errors
/// `InvalidArgument`, `NoSuchBucket`, `AccessDenied`.
pub(super) async fn admit(request: &Request<'_>) -> Result<Place, S3Error> {
    let header = request.header("x-amz-copy-source")?.unwrap_or_default();
    let CopySource {
        bucket,
        key,
        version_id,
    } = names::copy_source(header)?;
    let version = version_id.as_deref().map(version_id::parse).transpose()?;
    let target = Target::Object {
        action: get_action(version.is_some()),
        key: Some(key.clone()),
        version,
    };
    let bucket = request
        .admission
        .further(&bucket, Need::Read, target)
        .await?;
    Ok(Place {
        bucket,
        key,
        version,
    })
}

/// The source as it is now.
///
/// # Errors
/// `NoSuchKey`, `NoSuchVersion`, `PreconditionFailed`, those of [`encryption::unlock`]; `InvalidRequest` for a delete marker that is named by its version.
pub(super) async fn find(request: &Request<'_>, place: &Place) -> Result<Source, S3Error> {
    let found = find_object(&request.admission, &place.bucket, &place.key, place.version).await;
    let object = found.map_err(|error| match error.code {
        ErrorCode::MethodNotAllowed => {
            let message = "The source of a copy request may not specifically refer to a delete marker \
                           by version id.";
            S3Error::with(ErrorCode::InvalidRequest, message)
        }
        _ => error,
    })?;
    let conditions = ReadConditions::of_copy_source(&request.head.headers)?;
    conditions.evaluate_copy(&object.etag, object.modified_ms / 1000)?;
    let unlocked = encryption::unlock(&request.head.headers, &object, Side::CopySource)?;
    Ok(Source {
        bucket: place.bucket.clone(),
        object,
        stream: unlocked.stream,
    })
}

impl Source {
    /// Names the version that was copied in an answer.
    pub(super) fn tell(&self, answer: &mut Answer) {
        let version = self.object.version;
        if self.bucket.versioned || version != VersionId::Null {
            let text = version_id::text(version);
            answer::set(answer, "x-amz-copy-source-version-id", &text);
        }
    }
}
