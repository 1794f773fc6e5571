//! GetBucketWebsite: how the bucket answers browsers.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketWebsite.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use protocol::settings::SettingKind;
use s3_wire::error::{ErrorCode, S3Error};

/// See the module.
pub(crate) async fn get_bucket_website(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let document = super::read(request, SettingKind::Website).await?;
    let document = document.ok_or_else(|| {
        S3Error::new(ErrorCode::NoSuchWebsiteConfiguration).and("BucketName", request.bucket_name())
    })?;
    Ok(answer::xml(super::text(document)?))
}
