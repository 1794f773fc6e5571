//! DeleteObject: removes a key, or hides it behind a delete marker where the bucket has versions; or removes exactly one version. Deleting what is not
//! there succeeds, too.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html>

use super::object_attributes::bypass;
use super::{precondition, version_id};
use crate::answer::{self, Answer};
use crate::metadata::unexpected;
use crate::request::Request;
use http::StatusCode;
use protocol::metadata::{Change, Reply};
use s3_wire::conditions::WriteCondition;
use s3_wire::error::S3Error;

/// See the module.
pub(super) async fn delete_object(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let change = Change::DeleteObject {
        bucket: request.admission.bucket()?.id,
        key: request.key().to_owned(),
        version: version_id::of_query(request)?,
        precondition: precondition(WriteCondition::from_headers(&request.head.headers)?),
        bypass: bypass(request).await?,
    };
    match request.admission.write(change).await? {
        Reply::Deleted { version, marker } => {
            let mut answer = answer::empty(StatusCode::NO_CONTENT);
            version_id::tell_made(&mut answer, version);
            if marker {
                answer::set(&mut answer, "x-amz-delete-marker", "true");
            }
            Ok(answer)
        }
        other => Err(unexpected(&other)),
    }
}
