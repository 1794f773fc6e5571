//! PutBucketEncryption: new objects are encrypted where they do not say how.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketEncryption.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use http::StatusCode;
use protocol::settings::SettingKind;
use s3_wire::error::S3Error;
use s3_wire::settings::BucketEncryption;

/// See the module.
pub(crate) async fn put_bucket_encryption(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let document = super::body(request).await?;
    let document = BucketEncryption::parse(&document)?.to_xml().into_bytes();
    super::write(request, SettingKind::Encryption, Some(document)).await?;
    Ok(answer::empty(StatusCode::OK))
}
