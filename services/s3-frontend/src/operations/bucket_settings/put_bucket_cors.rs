//! PutBucketCors: says which web pages may ask the bucket.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketCors.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use http::StatusCode;
use protocol::settings::SettingKind;
use s3_wire::error::S3Error;
use s3_wire::settings::CorsConfiguration;

/// See the module.
pub(crate) async fn put_bucket_cors(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let document = super::body(request).await?;
    let document = CorsConfiguration::parse(&document)?.to_xml().into_bytes();
    super::write(request, SettingKind::Cors, Some(document)).await?;
    Ok(answer::empty(StatusCode::OK))
}
