//! GetBucketLogging: no bucket has a log of its own.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLogging.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use s3_wire::error::S3Error;
use s3_wire::settings::logging_none;

/// See the module.
pub(crate) async fn get_bucket_logging(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    request.admission.bucket()?;
    Ok(answer::xml(logging_none()))
}
