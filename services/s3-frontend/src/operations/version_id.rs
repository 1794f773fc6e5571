//! The version that a request names.

pub(crate) use object_http::version_id::*;

use crate::request::Request;
use protocol::metadata::VersionId;
use s3_wire::error::S3Error;

/// The version that the request's query names.
///
/// # Errors
/// `InvalidArgument`.
pub(super) fn of_query(request: &Request<'_>) -> Result<Option<VersionId>, S3Error> {
    match request.query.get("versionId") {
        None => Ok(None),
        Some("") => {
            let message = "Version id cannot be the empty string";
            Err(S3Error::argument(message, "versionId", ""))
        }
        Some(text) => parse(text).map(Some),
    }
}
