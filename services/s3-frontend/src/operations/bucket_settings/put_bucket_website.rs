//! PutBucketWebsite: says how the bucket answers browsers, who come to the service `web`.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketWebsite.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use http::StatusCode;
use protocol::settings::SettingKind;
use s3_wire::error::S3Error;
use s3_wire::settings::WebsiteConfiguration;

/// See the module.
pub(crate) async fn put_bucket_website(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let document = super::body(request).await?;
    let website = WebsiteConfiguration::parse(&document)?;
    let document = website.to_xml().into_bytes();
    super::write(request, SettingKind::Website, Some(document)).await?;
    Ok(answer::empty(StatusCode::OK))
}
