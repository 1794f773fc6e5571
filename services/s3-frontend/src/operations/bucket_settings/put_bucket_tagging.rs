//! PutBucketTagging: gives the bucket tags, in place of those before.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketTagging.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use http::StatusCode;
use protocol::settings::SettingKind;
use s3_wire::error::S3Error;
use s3_wire::tags::BUCKET_TAGS_MAX;
use s3_wire::xml::Tagging;

/// See the module.
pub(crate) async fn put_bucket_tagging(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let document = super::body(request).await?;
    let document = Tagging::parse(&document, BUCKET_TAGS_MAX)?
        .to_xml()
        .into_bytes();
    super::write(request, SettingKind::Tagging, Some(document)).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}
