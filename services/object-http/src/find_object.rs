//! Finds an object for the operations that look at one, and tells in S3's words why there is none.

use crate::admission::Admission;
use crate::metadata::{Failure, unexpected};
use crate::version_id;
use protocol::metadata::{Bucket, MetadataError, Object, Operation, Reply, VersionId};
use s3_wire::dates::http_date;
use s3_wire::error::{ErrorCode, S3Error};

/// The object of that key; `version` is `None` for the current one.
///
/// # Errors
/// Those of [`refusal`].
pub async fn find_object(
    admission: &Admission,
    bucket: &Bucket,
    key: &str,
    version: Option<VersionId>,
) -> Result<Object, S3Error> {
    let operation = Operation::GetObject {
        bucket: bucket.id,
        key: key.to_owned(),
        version,
    };
    match admission.read(operation).await {
        Ok(Reply::Object(object)) => Ok(object),
        Ok(other) => Err(unexpected(&other)),
        Err(failure) => Err(refusal(failure, key, version)),
    }
}

/// Why an operation on one version of an object came to nothing.
///
/// `NoSuchKey` with the key; `NoSuchVersion` with both; for a delete marker `MethodNotAllowed` where it was asked for by its version, and else
/// `NoSuchKey`, with the headers that tell of it. Everything else is as with other operations.
pub fn refusal(failure: Failure, key: &str, version: Option<VersionId>) -> S3Error {
    match failure {
        Failure::Metadata(MetadataError::DeleteMarker {
            version: marker,
            modified_ms,
        }) => {
            let error = match version {
                None => S3Error::new(ErrorCode::NoSuchKey).and("Key", key),
                Some(_) => S3Error::new(ErrorCode::MethodNotAllowed)
                    .and("ResourceType", "DeleteMarker")
                    .with_header("allow", "DELETE")
                    .with_header("last-modified", http_date(modified_ms / 1_000)),
            };
            error
                .with_header("x-amz-delete-marker", "true")
                .with_header(version_id::HEADER, version_id::text(marker))
        }
        failure => {
            let error = S3Error::from(failure);
            match (error.code, version) {
                (ErrorCode::NoSuchKey, _) => error.and("Key", key),
                (ErrorCode::NoSuchVersion, Some(version)) => error
                    .and("Key", key)
                    .and("VersionId", version_id::text(version)),
                _ => error,
            }
        }
    }
}
