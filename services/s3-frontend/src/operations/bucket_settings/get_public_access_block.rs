//! GetPublicAccessBlock: what stays closed whatever a policy says.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetPublicAccessBlock.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use protocol::settings::SettingKind;
use s3_wire::error::{ErrorCode, S3Error};

/// See the module.
pub(crate) async fn get_public_access_block(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let document = super::read(request, SettingKind::PublicAccessBlock).await?;
    let document = document.ok_or(ErrorCode::NoSuchPublicAccessBlockConfiguration)?;
    Ok(answer::xml(super::text(document)?))
}
