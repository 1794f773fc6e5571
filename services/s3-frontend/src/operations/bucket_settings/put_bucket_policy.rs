//! PutBucketPolicy: says who may do what with the bucket. Exact from the instant of the answer on.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketPolicy.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use http::StatusCode;
use protocol::settings::SettingKind;
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::policy::{Policy, Whose};
use s3_wire::settings::PublicAccessBlock;

/// See the module.
pub(crate) async fn put_bucket_policy(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let document = super::body(request).await?;
    let policy = Policy::parse(&document, Whose::Bucket(&request.admission.bucket()?.name))?;
    if policy.is_public() && blocks_public_policy(request).await? {
        let message = "public policies are blocked by the BlockPublicPolicy setting of this bucket";
        return Err(S3Error::with(ErrorCode::AccessDenied, message));
    }
    super::write(request, SettingKind::Policy, Some(document)).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

async fn blocks_public_policy(request: &Request<'_>) -> Result<bool, S3Error> {
    match super::read(request, SettingKind::PublicAccessBlock).await? {
        Some(document) => Ok(PublicAccessBlock::parse(&document)?.block_public_policy),
        None => Ok(false),
    }
}
