//! PutBucketAcl: accepts what is.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketAcl.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use http::StatusCode;
use s3_wire::error::S3Error;

/// See the module.
pub(crate) async fn put_bucket_acl(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    request.admission.bucket()?;
    super::check_acl(request).await?;
    Ok(answer::empty(StatusCode::OK))
}
