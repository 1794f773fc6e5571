//! GetBucketPolicyStatus: whether the policy opens something to everybody.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketPolicyStatus.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use s3_wire::error::ErrorCode;
use s3_wire::error::S3Error;
use s3_wire::settings::policy_status;

/// See the module.
pub(crate) async fn get_bucket_policy_status(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    request.admission.bucket()?;
    let policy = request
        .admission
        .bucket_policy()
        .ok_or(ErrorCode::NoSuchBucketPolicy)?;
    Ok(answer::xml(policy_status(policy.is_public())))
}
