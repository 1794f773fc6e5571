//! GetBucketEncryption: no bucket encrypts by default.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketEncryption.html>

use crate::answer::Answer;
use crate::request::Request;
use s3_wire::error::ErrorCode;
use s3_wire::error::S3Error;

/// See the module.
pub(crate) async fn get_bucket_encryption(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    request.admission.bucket()?;
    Err(ErrorCode::ServerSideEncryptionConfigurationNotFoundError.into())
}
