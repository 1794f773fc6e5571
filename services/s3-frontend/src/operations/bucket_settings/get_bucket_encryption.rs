//! GetBucketEncryption: whether new objects are encrypted where they do not say how.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketEncryption.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use protocol::settings::SettingKind;
use s3_wire::error::{ErrorCode, S3Error};

/// See the module.
pub(crate) async fn get_bucket_encryption(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let document = super::read(request, SettingKind::Encryption).await?;
    let document = document.ok_or(ErrorCode::ServerSideEncryptionConfigurationNotFoundError)?;
    Ok(answer::xml(super::text(document)?))
}
