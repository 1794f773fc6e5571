//! GetObjectLockConfiguration: the object lock of a bucket, with its default retention.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectLockConfiguration.html>

use super::bucket_state::find_versioning;
use super::object_attributes::mode_shown;
use crate::answer::{self, Answer};
use crate::request::Request;
use protocol::metadata::RetentionSpan;
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::xml::{LockSpan, ObjectLockConfiguration};

/// See the module.
pub(super) async fn get_object_lock_configuration(
    request: &mut Request<'_>,
) -> Result<Answer, S3Error> {
    let (_, lock) = find_versioning(request).await?;
    let lock = lock.ok_or_else(|| {
        S3Error::new(ErrorCode::ObjectLockConfigurationNotFoundError)
            .and("BucketName", request.bucket_name())
    })?;
    let default = lock.default.map(|(mode, span)| {
        let span = match span {
            RetentionSpan::Days(days) => LockSpan::Days(days),
            RetentionSpan::Years(years) => LockSpan::Years(years),
        };
        (mode_shown(mode), span)
    });
    Ok(answer::xml(ObjectLockConfiguration { default }.to_xml()))
}
