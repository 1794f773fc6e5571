//! GetBucketTagging: the tags of the bucket itself.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketTagging.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use protocol::settings::SettingKind;
use s3_wire::error::{ErrorCode, S3Error};

/// See the module.
pub(crate) async fn get_bucket_tagging(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let document = super::read(request, SettingKind::Tagging).await?;
    let document = document.ok_or(ErrorCode::NoSuchTagSet)?;
    Ok(answer::xml(super::text(document)?))
}
