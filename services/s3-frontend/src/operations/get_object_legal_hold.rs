//! GetObjectLegalHold: whether a version is held.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectLegalHold.html>

use super::bucket_state::check_lock;
use super::find_object::find_object;
use super::version_id;
use crate::answer::{self, Answer};
use crate::request::Request;
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::xml::LegalHold;

/// See the module.
pub(super) async fn get_object_legal_hold(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let bucket = request.admission.bucket()?;
    let version = version_id::of_query(request)?;
    let object = find_object(&request.admission, bucket, request.key(), version).await?;
    check_lock(request).await?;
    let on = object.attributes.legal_hold;
    let on = on.ok_or(ErrorCode::NoSuchObjectLockConfiguration)?;
    Ok(answer::xml(LegalHold { on }.to_xml()))
}
