//! PutBucketLogging: turns off what is off.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLogging.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use http::StatusCode;
use s3_wire::error::S3Error;
use s3_wire::settings::parse_logging;

/// See the module.
pub(crate) async fn put_bucket_logging(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    request.admission.bucket()?;
    let document = super::body(request).await?;
    parse_logging(&document)?;
    Ok(answer::empty(StatusCode::OK))
}
