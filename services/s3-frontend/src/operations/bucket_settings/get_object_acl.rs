//! GetObjectAcl: the owner of the bucket has full control of each object.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAcl.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use s3_wire::error::S3Error;

/// See the module.
pub(crate) async fn get_object_acl(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    request.admission.bucket()?;
    super::find_object(request).await?;
    Ok(answer::xml(super::ACL.to_xml()))
}
