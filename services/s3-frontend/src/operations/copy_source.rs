//! The source of CopyObject and UploadPartCopy: found, allowed, and as its conditions want it.

use super::check_version;
use crate::admission::Need;
use crate::metadata::unexpected;
use crate::request::Request;
use protocol::metadata::{Bucket, Object, Operation, Reply};
use s3_wire::conditions::ReadConditions;
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::names::{self, CopySource};
use std::rc::Rc;

/// An object to copy from.
pub(super) struct Source {
    pub(super) bucket: Rc<Bucket>,
    pub(super) object: Object,
}

/// Reads `x-amz-copy-source` and admits the caller to it.
///
/// # Errors
/// `InvalidArgument`, `NoSuchBucket`, `AccessDenied`.
pub(super) async fn admit(request: &Request<'_>) -> Result<(Rc<Bucket>, String), S3Error> {
    let header = request.header("x-amz-copy-source")?.unwrap_or_default();
    let CopySource {
        bucket,
        key,
        version_id,
    } = names::copy_source(header)?;
    check_version(version_id.as_deref())?;
    let bucket = request.admission.further(&bucket, Need::Read).await?;
    Ok((bucket, key))
}

/// The source as it is now.
///
/// # Errors
/// `NoSuchKey`, `PreconditionFailed`.
pub(super) async fn find(
    request: &Request<'_>,
    bucket: &Rc<Bucket>,
    key: &str,
) -> Result<Source, S3Error> {
    let operation = Operation::GetObject {
        bucket: bucket.id,
        key: key.to_owned(),
    };
    let object = match request.admission.read(operation).await {
        Ok(Reply::Object(object)) => object,
        Ok(other) => return Err(unexpected(&other)),
        Err(failure) => {
            let error = S3Error::from(failure);
            let is_missing = error.code == ErrorCode::NoSuchKey;
            return Err(if is_missing {
                error.and("Key", key)
            } else {
                error
            });
        }
    };
    let conditions = ReadConditions::of_copy_source(&request.head.headers)?;
    conditions.evaluate_copy(&object.etag, object.modified_ms / 1000)?;
    Ok(Source {
        bucket: bucket.clone(),
        object,
    })
}
