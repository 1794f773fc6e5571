//! GetBucketVersioning: what a bucket does with versions.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketVersioning.html>

use super::bucket_state::find_versioning;
use crate::answer::{self, Answer};
use crate::request::Request;
use protocol::metadata::Versioning;
use s3_wire::error::S3Error;
use s3_wire::xml::VersioningConfiguration;

/// See the module.
pub(super) async fn get_bucket_versioning(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let (versioning, _) = find_versioning(request).await?;
    let status = match versioning {
        Versioning::Off => None,
        Versioning::Enabled => Some("Enabled"),
        Versioning::Suspended => Some("Suspended"),
    };
    Ok(answer::xml(VersioningConfiguration { status }.to_xml()))
}
