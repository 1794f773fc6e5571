//! GetBucketRequestPayment: the owner pays.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketRequestPayment.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use s3_wire::error::S3Error;
use s3_wire::settings::request_payment;

/// See the module.
pub(crate) async fn get_bucket_request_payment(
    request: &mut Request<'_>,
) -> Result<Answer, S3Error> {
    request.admission.bucket()?;
    Ok(answer::xml(request_payment()))
}
