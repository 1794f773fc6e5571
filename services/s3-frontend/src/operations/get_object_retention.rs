//! GetObjectRetention: until when a version is kept.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectRetention.html>

use super::bucket_state::check_lock;
use super::find_object::find_object;
use super::object_attributes::mode_shown;
use super::version_id;
use crate::answer::{self, Answer};
use crate::request::Request;
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::xml::Retention;

/// See the module.
pub(super) async fn get_object_retention(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let bucket = request.admission.bucket()?;
    let version = version_id::of_query(request)?;
    let object = find_object(&request.admission, bucket, request.key(), version).await?;
    check_lock(request).await?;
    let kept = object.attributes.retention;
    let kept = kept.ok_or(ErrorCode::NoSuchObjectLockConfiguration)?;
    let retention = Retention {
        mode: mode_shown(kept.mode),
        until_s: kept.until_ms / 1_000,
    };
    Ok(answer::xml(retention.to_xml()))
}
