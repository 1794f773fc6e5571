//! AbortMultipartUpload: drops an upload and its parts.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html>

use super::upload_part::upload_id;
use crate::answer::{self, Answer};
use crate::metadata::unexpected;
use crate::request::Request;
use http::StatusCode;
use protocol::metadata::{Change, Reply};
use s3_wire::error::S3Error;

/// See the module.
pub(super) async fn abort(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    for name in ["x-amz-if-match-initiated-time", "if-match"] {
        if request.header(name)?.is_some() {
            return Err(S3Error::not_implemented("Header", name));
        }
    }
    let change = Change::AbortUpload {
        bucket: request.admission.bucket()?.id,
        key: request.key().to_owned(),
        upload: upload_id(request).to_owned(),
    };
    match request.admission.write(change).await? {
        Reply::Done => Ok(answer::empty(StatusCode::NO_CONTENT)),
        other => Err(unexpected(&other)),
    }
}
