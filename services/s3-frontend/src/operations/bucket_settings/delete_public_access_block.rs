//! DeletePublicAccessBlock: leaves it to the policy what is open.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeletePublicAccessBlock.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use http::StatusCode;
use protocol::settings::SettingKind;
use s3_wire::error::S3Error;

/// See the module.
pub(crate) async fn delete_public_access_block(
    request: &mut Request<'_>,
) -> Result<Answer, S3Error> {
    super::write(request, SettingKind::PublicAccessBlock, None).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}
