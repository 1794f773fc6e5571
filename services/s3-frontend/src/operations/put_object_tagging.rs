//! PutObjectTagging: gives a version these tags, in place of those before. The version stays the same.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectTagging.html>

use super::change_attributes::change_attributes;
use super::version_id;
use crate::access::{Need, Target};
use crate::answer::Answer;
use crate::request::Request;
use http::StatusCode;
use protocol::metadata::AttributeChange;
use s3_wire::error::S3Error;
use s3_wire::tags::OBJECT_TAGS_MAX;
use s3_wire::xml::{TAGGING_BYTES_MAX, Tagging};

/// See the module.
pub(super) async fn put_object_tagging(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let document = request.document(TAGGING_BYTES_MAX).await?;
    let tagging = Tagging::parse(&document, OBJECT_TAGS_MAX)?;
    // A policy may allow some tags only.
    let target = Target::Tagging {
        key: request.key().to_owned(),
        version: version_id::of_query(request)?,
        tags: tagging.tags.as_slice().into(),
    };
    request.admission.also(target, Need::Write).await?;
    let change = AttributeChange::Tags(tagging.tags);
    change_attributes(request, change, StatusCode::OK).await
}
