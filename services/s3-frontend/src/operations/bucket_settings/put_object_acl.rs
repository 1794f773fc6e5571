//! PutObjectAcl: accepts what is.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectAcl.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use http::StatusCode;
use s3_wire::error::S3Error;

/// See the module.
pub(crate) async fn put_object_acl(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    request.admission.bucket()?;
    super::find_object(request).await?;
    super::check_acl(request).await?;
    Ok(answer::empty(StatusCode::OK))
}
