//! DeleteObjects: removes up to 1,000 keys, each on its own: what fails does not stop the others.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html>

use super::object_attributes::{bypass_asked, may_bypass};
use super::version_id;
use crate::access::{Need, delete_action};
use crate::admission::Admission;
use crate::answer::{self, Answer};
use crate::metadata::unexpected;
use crate::request::Request;
use futures_util::StreamExt;
use protocol::metadata::{Change, Precondition, Reply, VersionId};
use s3_wire::checksum::Expected;
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::names::check_key;
use s3_wire::xml::{
    DELETE_BYTES_MAX, DeleteError, DeleteObject, DeleteRequest, DeleteResult, Deleted,
};

/// Deletions under way at a time: metadata commits what arrives together with one write to disk.
const AT_A_TIME: usize = 64;

/// See the module.
pub(super) async fn delete_objects(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let admission = request.admission.clone();
    check_digest(request)?;
    let bypass = bypass_asked(request)?;
    let kib = request.document_kib(DELETE_BYTES_MAX);
    let _share = request.worker.budget.take(kib).await?;
    let document = request.document(DELETE_BYTES_MAX).await?;
    let wanted = DeleteRequest::parse(&document)?;
    drop(document);

    let results: Vec<Result<Gone, S3Error>> = futures_util::stream::iter(&wanted.objects)
        .map(|object| delete_one(&admission, object, bypass))
        .buffered(AT_A_TIME)
        .collect()
        .await;

    let mut answer = DeleteResult::default();
    for (object, result) in wanted.objects.iter().zip(&results) {
        let (key, version_id) = (object.key.as_str(), object.version_id.as_deref());
        match result {
            Ok(_) if wanted.quiet => {}
            Ok(Gone { marker }) => {
                answer.deleted.push(Deleted {
                    key,
                    version_id,
                    delete_marker_version_id: marker.as_deref(),
                });
            }
            Err(error) => answer.errors.push(DeleteError {
                key,
                version_id,
                code: error.code,
                message: &error.message,
            }),
        }
    }
    Ok(answer::xml(answer.to_xml()))
}

/// What became of one of the objects.
struct Gone {
    /// The delete marker that was made or removed.
    marker: Option<String>,
}

/// So many keys are not deleted on the word of a document that may have changed on its way.
fn check_digest(request: &Request<'_>) -> Result<(), S3Error> {
    let expected = Expected::from_headers(&request.head.headers)?;
    if expected.content_md5.is_some() || expected.algorithm().is_some() {
        return Ok(());
    }
    let message = "Missing required header for this request: Content-MD5 OR x-amz-checksum-*";
    Err(S3Error::with(ErrorCode::InvalidRequest, message))
}

async fn delete_one(
    admission: &Admission,
    object: &DeleteObject,
    bypass: bool,
) -> Result<Gone, S3Error> {
    check_key(&object.key)?;
    let version = object.version_id.as_deref().filter(|text| !text.is_empty());
    let version: Option<VersionId> = version.map(version_id::parse).transpose()?;
    let action = delete_action(version.is_some());
    let admission = admission
        .for_object(action, &object.key, version, Need::Write)
        .await?;
    if bypass {
        may_bypass(&admission, &object.key, version).await?;
    }
    // Conditions of directory buckets, which AWS ignores nowhere.
    if object.last_modified.is_some() {
        return Err(S3Error::not_implemented("Element", "LastModifiedTime"));
    }
    if object.size.is_some() {
        return Err(S3Error::not_implemented("Element", "Size"));
    }
    let precondition = match object.etag.as_deref() {
        None => Precondition::None,
        Some("*") => Precondition::Present,
        Some(etag) => Precondition::Etag(etag.to_owned()),
    };
    let bucket = admission.bucket()?.id;
    let change = Change::DeleteObject {
        bucket,
        key: object.key.clone(),
        version,
        precondition,
        bypass,
    };
    match admission.write(change).await? {
        Reply::Deleted { version, marker } => Ok(Gone {
            marker: version.filter(|_| marker).map(version_id::text),
        }),
        other => Err(unexpected(&other)),
    }
}
