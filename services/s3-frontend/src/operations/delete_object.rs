//! DeleteObject: removes a key. Deleting what is not there succeeds, too.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html>

use super::{check_version, precondition};
use crate::answer::{self, Answer};
use crate::metadata::unexpected;
use crate::request::Request;
use http::StatusCode;
use protocol::metadata::{Operation, Reply};
use s3_wire::conditions::WriteCondition;
use s3_wire::error::S3Error;

/// See the module.
pub(super) async fn delete_object(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    check_version(request.query.get("versionId"))?;
    let operation = Operation::DeleteObject {
        bucket: request.admission.bucket()?.id,
        key: request.key().to_owned(),
        precondition: precondition(WriteCondition::from_headers(&request.head.headers)?),
    };
    match request.admission.write(operation).await? {
        Reply::Done => Ok(answer::empty(StatusCode::NO_CONTENT)),
        other => Err(unexpected(&other)),
    }
}
