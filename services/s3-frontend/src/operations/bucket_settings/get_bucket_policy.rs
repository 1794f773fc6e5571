//! GetBucketPolicy: the policy, as it was put.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketPolicy.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use protocol::settings::SettingKind;
use s3_wire::error::{ErrorCode, S3Error};

/// See the module.
pub(crate) async fn get_bucket_policy(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let document = super::read(request, SettingKind::Policy).await?;
    let document = document.ok_or(ErrorCode::NoSuchBucketPolicy)?;
    let mut answer = answer::xml(super::text(document)?);
    answer::set(&mut answer, "content-type", "application/json");
    Ok(answer)
}
