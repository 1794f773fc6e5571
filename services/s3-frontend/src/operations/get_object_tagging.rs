//! GetObjectTagging: the tags of a version.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectTagging.html>

use super::find_object::find_object;
use super::version_id;
use crate::answer::{self, Answer};
use crate::request::Request;
use s3_wire::error::S3Error;
use s3_wire::xml::Tagging;

/// See the module.
pub(super) async fn get_object_tagging(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let bucket = request.admission.bucket()?;
    let version = version_id::of_query(request)?;
    let object = find_object(&request.admission, bucket, request.key(), version).await?;
    let tags = object.attributes.tags;
    let mut answer = answer::xml(Tagging { tags }.to_xml());
    version_id::tell(&mut answer, bucket, object.version);
    Ok(answer)
}
