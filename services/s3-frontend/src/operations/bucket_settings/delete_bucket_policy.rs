//! DeleteBucketPolicy: what the policy allowed or forbade is as if it had never been.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucketPolicy.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use http::StatusCode;
use protocol::settings::SettingKind;
use s3_wire::error::S3Error;

/// See the module.
pub(crate) async fn delete_bucket_policy(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    super::write(request, SettingKind::Policy, None).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}
