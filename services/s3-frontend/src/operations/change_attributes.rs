//! What PutObjectTagging, PutObjectRetention, PutObjectLegalHold and DeleteObjectTagging share: one change of one version.

use super::find_object::refusal;
use super::version_id;
use crate::answer::{self, Answer};
use crate::metadata::unexpected;
use crate::request::Request;
use http::StatusCode;
use protocol::metadata::{AttributeChange, Change, Reply};
use s3_wire::error::S3Error;

/// Changes the version that the request names; an empty answer of `status` that names it.
///
/// # Errors
/// `NoSuchKey`, `NoSuchVersion`, `MethodNotAllowed` for a delete marker; `InvalidRequest` and `AccessDenied` of object lock.
pub(super) async fn change_attributes(
    request: &Request<'_>,
    change: AttributeChange,
    status: StatusCode,
) -> Result<Answer, S3Error> {
    let bucket = request.admission.bucket()?;
    let version = version_id::of_query(request)?;
    let change = Change::ChangeAttributes {
        bucket: bucket.id,
        key: request.key().to_owned(),
        version,
        change,
    };
    match request.admission.write(change).await {
        Ok(Reply::Changed { version }) => {
            let mut answer = answer::empty(status);
            version_id::tell(&mut answer, bucket, version);
            Ok(answer)
        }
        Ok(other) => Err(unexpected(&other)),
        Err(failure) => Err(refusal(failure, request.key(), version)),
    }
}
