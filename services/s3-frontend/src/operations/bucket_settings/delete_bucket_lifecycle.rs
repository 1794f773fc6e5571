//! DeleteBucketLifecycle: nothing is removed by itself any more.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucketLifecycle.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use http::StatusCode;
use protocol::settings::SettingKind;
use s3_wire::error::S3Error;

/// See the module.
pub(crate) async fn delete_bucket_lifecycle(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    super::write(request, SettingKind::Lifecycle, None).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}
