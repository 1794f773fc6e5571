//! GetBucketAccelerateConfiguration: there is nothing to accelerate.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketAccelerateConfiguration.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use s3_wire::error::S3Error;
use s3_wire::settings::accelerate_none;

/// See the module.
pub(crate) async fn get_bucket_accelerate_configuration(
    request: &mut Request<'_>,
) -> Result<Answer, S3Error> {
    request.admission.bucket()?;
    Ok(answer::xml(accelerate_none()))
}
