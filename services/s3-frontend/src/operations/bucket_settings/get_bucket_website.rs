//! GetBucketWebsite: no bucket is a web site.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketWebsite.html>

use crate::answer::Answer;
use crate::request::Request;
use s3_wire::error::ErrorCode;
use s3_wire::error::S3Error;

/// See the module.
pub(crate) async fn get_bucket_website(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    request.admission.bucket()?;
    Err(ErrorCode::NoSuchWebsiteConfiguration.into())
}
