//! PutBucketVersioning: enables or suspends versions. What was there before is the version `null`.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketVersioning.html>

use crate::answer::{self, Answer};
use crate::metadata::unexpected;
use crate::request::Request;
use http::StatusCode;
use protocol::metadata::{Operation, Reply, Versioning};
use s3_wire::error::S3Error;
use s3_wire::xml::{LOCK_BYTES_MAX, VersioningConfiguration};

/// See the module.
pub(super) async fn put_bucket_versioning(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let document = request.document(LOCK_BYTES_MAX).await?;
    let versioning = match VersioningConfiguration::parse(&document)? {
        true => Versioning::Enabled,
        false => Versioning::Suspended,
    };
    let name = request.admission.bucket()?.name.clone();
    let operation = Operation::PutVersioning { name, versioning };
    match request.admission.write(operation).await? {
        Reply::Done => Ok(answer::empty(StatusCode::OK)),
        other => Err(unexpected(&other)),
    }
}
