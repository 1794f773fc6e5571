//! HeadBucket and GetBucketLocation: what is known once the request is admitted.
//!
//! Admission asked metadata afresh for these, so the answer is as of now.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use http::StatusCode;
use s3_wire::error::S3Error;
use s3_wire::xml::LocationConstraint;

/// That the bucket exists and the caller has a right on it.
pub(super) fn head_bucket(request: &Request<'_>) -> Result<Answer, S3Error> {
    request.admission.bucket()?;
    let mut answer = answer::empty(StatusCode::OK);
    answer::set(&mut answer, "x-amz-bucket-region", &request.worker.region);
    Ok(answer)
}

/// The only region that there is.
pub(super) fn get_bucket_location(request: &Request<'_>) -> Result<Answer, S3Error> {
    request.admission.bucket()?;
    Ok(answer::xml(
        LocationConstraint {
            region: &request.worker.region,
        }
        .to_xml(),
    ))
}
