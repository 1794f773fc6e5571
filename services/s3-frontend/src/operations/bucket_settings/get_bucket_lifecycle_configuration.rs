//! GetBucketLifecycleConfiguration: what is removed when.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLifecycleConfiguration.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use protocol::settings::{Lifecycle, SettingKind};
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::settings::lifecycle_to_xml;

/// See the module.
pub(crate) async fn get_bucket_lifecycle_configuration(
    request: &mut Request<'_>,
) -> Result<Answer, S3Error> {
    let document = super::read(request, SettingKind::Lifecycle).await?;
    let document = document.ok_or(ErrorCode::NoSuchLifecycleConfiguration)?;
    let lifecycle = Lifecycle::from_bytes(&document).ok_or(ErrorCode::InternalError)?;
    Ok(answer::xml(lifecycle_to_xml(&lifecycle)))
}
