//! PutBucketOwnershipControls: accepts what is.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketOwnershipControls.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use http::StatusCode;
use s3_wire::error::S3Error;
use s3_wire::settings::OwnershipControls;

/// See the module.
pub(crate) async fn put_bucket_ownership_controls(
    request: &mut Request<'_>,
) -> Result<Answer, S3Error> {
    request.admission.bucket()?;
    let document = super::body(request).await?;
    OwnershipControls::parse(&document)?;
    Ok(answer::empty(StatusCode::OK))
}
