//! GetBucketOwnershipControls: the owner of a bucket owns its objects.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketOwnershipControls.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use s3_wire::error::S3Error;
use s3_wire::settings::OwnershipControls;

/// See the module.
pub(crate) async fn get_bucket_ownership_controls(
    request: &mut Request<'_>,
) -> Result<Answer, S3Error> {
    request.admission.bucket()?;
    Ok(answer::xml(OwnershipControls.to_xml()))
}
