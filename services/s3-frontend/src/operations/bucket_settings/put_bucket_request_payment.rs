//! PutBucketRequestPayment: lets the owner pay, who pays.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketRequestPayment.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use http::StatusCode;
use s3_wire::error::S3Error;
use s3_wire::settings::parse_request_payment;

/// See the module.
pub(crate) async fn put_bucket_request_payment(
    request: &mut Request<'_>,
) -> Result<Answer, S3Error> {
    request.admission.bucket()?;
    let document = super::body(request).await?;
    parse_request_payment(&document)?;
    Ok(answer::empty(StatusCode::OK))
}
