//! DeleteBucketEncryption: new objects are stored as they come, unless they say otherwise.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucketEncryption.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use http::StatusCode;
use protocol::settings::SettingKind;
use s3_wire::error::S3Error;

/// See the module.
pub(crate) async fn delete_bucket_encryption(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    super::write(request, SettingKind::Encryption, None).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}
