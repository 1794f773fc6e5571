//! DeleteBucketWebsite: the bucket is no web site any more.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucketWebsite.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use http::StatusCode;
use protocol::settings::SettingKind;
use s3_wire::error::S3Error;

/// See the module.
pub(crate) async fn delete_bucket_website(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    super::write(request, SettingKind::Website, None).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}
