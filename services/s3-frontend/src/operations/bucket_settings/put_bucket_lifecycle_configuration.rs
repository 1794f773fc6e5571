//! PutBucketLifecycleConfiguration: says what is removed when. Metadata acts on it, once an hour.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLifecycleConfiguration.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use http::StatusCode;
use protocol::settings::SettingKind;
use s3_wire::error::S3Error;
use s3_wire::settings::parse_lifecycle;

/// See the module.
pub(crate) async fn put_bucket_lifecycle_configuration(
    request: &mut Request<'_>,
) -> Result<Answer, S3Error> {
    let document = super::body(request).await?;
    let lifecycle = parse_lifecycle(&document)?;
    super::write(request, SettingKind::Lifecycle, Some(lifecycle.to_bytes())).await?;
    Ok(answer::empty(StatusCode::OK))
}
