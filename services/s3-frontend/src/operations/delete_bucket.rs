//! DeleteBucket: removes an empty bucket.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucket.html>

use crate::answer::{self, Answer};
use crate::metadata::unexpected;
use crate::request::Request;
use http::StatusCode;
use protocol::metadata::{Operation, Reply};
use s3_wire::error::S3Error;

/// See the module. Uploads under way count as content.
pub(super) async fn delete_bucket(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let name = request.admission.bucket()?.name.clone();
    match request
        .admission
        .write(Operation::DeleteBucket { name })
        .await?
    {
        Reply::Done => Ok(answer::empty(StatusCode::NO_CONTENT)),
        other => Err(unexpected(&other)),
    }
}
