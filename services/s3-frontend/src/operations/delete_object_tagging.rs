//! DeleteObjectTagging: takes all tags from a version.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjectTagging.html>

use super::change_attributes::change_attributes;
use crate::answer::Answer;
use crate::request::Request;
use http::StatusCode;
use protocol::metadata::AttributeChange;
use s3_wire::error::S3Error;

/// See the module.
pub(super) async fn delete_object_tagging(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let change = AttributeChange::Tags(Vec::new());
    change_attributes(request, change, StatusCode::NO_CONTENT).await
}
