//! GetBucketAcl: the owner has full control, and lists say nothing else.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketAcl.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use s3_wire::error::S3Error;

/// See the module.
pub(crate) async fn get_bucket_acl(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    request.admission.bucket()?;
    Ok(answer::xml(super::ACL.to_xml()))
}
