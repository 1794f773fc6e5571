//! GetBucketCors: which web pages may ask the bucket.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketCors.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use protocol::settings::SettingKind;
use s3_wire::error::{ErrorCode, S3Error};

/// See the module.
pub(crate) async fn get_bucket_cors(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let document = super::read(request, SettingKind::Cors).await?;
    let document = document.ok_or(ErrorCode::NoSuchCORSConfiguration)?;
    Ok(answer::xml(super::text(document)?))
}
