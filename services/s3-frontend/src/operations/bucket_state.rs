//! What a bucket does with versions, for the operations that look at it.

use crate::metadata::{Failure, unexpected};
use crate::request::Request;
use protocol::metadata::{MetadataError, ObjectLock, Operation, Reply, Versioning};
use s3_wire::error::S3Error;

/// Versioning and object lock of the request's bucket.
///
/// # Errors
/// `NoSuchBucket`.
pub(super) async fn find_versioning(
    request: &Request<'_>,
) -> Result<(Versioning, Option<ObjectLock>), S3Error> {
    let bucket = request.admission.bucket()?.id;
    let operation = Operation::GetVersioning { bucket };
    match request.admission.read(operation).await? {
        Reply::Versioning { versioning, lock } => Ok((versioning, lock)),
        other => Err(unexpected(&other)),
    }
}

/// Refuses a question about protection in a bucket that knows none.
///
/// # Errors
/// `InvalidRequest`, `NoSuchBucket`.
pub(super) async fn check_lock(request: &Request<'_>) -> Result<(), S3Error> {
    match find_versioning(request).await? {
        (_, Some(_)) => Ok(()),
        (_, None) => Err(Failure::Metadata(MetadataError::NoObjectLock).into()),
    }
}
