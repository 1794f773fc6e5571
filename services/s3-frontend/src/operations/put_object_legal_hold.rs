//! PutObjectLegalHold: holds a version, without an end, until it is released.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectLegalHold.html>

use super::change_attributes::change_attributes;
use crate::answer::Answer;
use crate::request::Request;
use http::StatusCode;
use protocol::metadata::AttributeChange;
use s3_wire::error::S3Error;
use s3_wire::xml::{LOCK_BYTES_MAX, LegalHold};

/// See the module.
pub(super) async fn put_object_legal_hold(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let document = request.document(LOCK_BYTES_MAX).await?;
    let hold = LegalHold::parse(&document)?;
    let change = AttributeChange::LegalHold(hold.on);
    change_attributes(request, change, StatusCode::OK).await
}
