//! The operations on the settings of buckets, one file each, and what they share.

mod delete_bucket_cors;
mod delete_bucket_encryption;
mod delete_bucket_lifecycle;
mod delete_bucket_policy;
mod delete_bucket_replication;
mod delete_bucket_tagging;
mod delete_bucket_website;
mod delete_public_access_block;
mod get_bucket_accelerate_configuration;
mod get_bucket_acl;
mod get_bucket_cors;
mod get_bucket_encryption;
mod get_bucket_lifecycle_configuration;
mod get_bucket_logging;
mod get_bucket_notification_configuration;
mod get_bucket_ownership_controls;
mod get_bucket_policy;
mod get_bucket_policy_status;
mod get_bucket_replication;
mod get_bucket_request_payment;
mod get_bucket_tagging;
mod get_bucket_website;
mod get_object_acl;
mod get_public_access_block;
mod put_bucket_acl;
mod put_bucket_cors;
mod put_bucket_encryption;
mod put_bucket_lifecycle_configuration;
mod put_bucket_logging;
mod put_bucket_notification_configuration;
mod put_bucket_ownership_controls;
mod put_bucket_policy;
mod put_bucket_request_payment;
mod put_bucket_tagging;
mod put_bucket_website;
mod put_object_acl;
mod put_public_access_block;

pub(super) use delete_bucket_cors::delete_bucket_cors;
pub(super) use delete_bucket_encryption::delete_bucket_encryption;
pub(super) use delete_bucket_lifecycle::delete_bucket_lifecycle;
pub(super) use delete_bucket_policy::delete_bucket_policy;
pub(super) use delete_bucket_replication::delete_bucket_replication;
pub(super) use delete_bucket_tagging::delete_bucket_tagging;
pub(super) use delete_bucket_website::delete_bucket_website;
pub(super) use delete_public_access_block::delete_public_access_block;
pub(super) use get_bucket_accelerate_configuration::get_bucket_accelerate_configuration;
pub(super) use get_bucket_acl::get_bucket_acl;
pub(super) use get_bucket_cors::get_bucket_cors;
pub(super) use get_bucket_encryption::get_bucket_encryption;
pub(super) use get_bucket_lifecycle_configuration::get_bucket_lifecycle_configuration;
pub(super) use get_bucket_logging::get_bucket_logging;
pub(super) use get_bucket_notification_configuration::get_bucket_notification_configuration;
pub(super) use get_bucket_ownership_controls::get_bucket_ownership_controls;
pub(super) use get_bucket_policy::get_bucket_policy;
pub(super) use get_bucket_policy_status::get_bucket_policy_status;
pub(super) use get_bucket_replication::get_bucket_replication;
pub(super) use get_bucket_request_payment::get_bucket_request_payment;
pub(super) use get_bucket_tagging::get_bucket_tagging;
pub(super) use get_bucket_website::get_bucket_website;
pub(super) use get_object_acl::get_object_acl;
pub(super) use get_public_access_block::get_public_access_block;
pub(super) use put_bucket_acl::put_bucket_acl;
pub(super) use put_bucket_cors::put_bucket_cors;
pub(super) use put_bucket_encryption::put_bucket_encryption;
pub(super) use put_bucket_lifecycle_configuration::put_bucket_lifecycle_configuration;
pub(super) use put_bucket_logging::put_bucket_logging;
pub(super) use put_bucket_notification_configuration::put_bucket_notification_configuration;
pub(super) use put_bucket_ownership_controls::put_bucket_ownership_controls;
pub(super) use put_bucket_policy::put_bucket_policy;
pub(super) use put_bucket_request_payment::put_bucket_request_payment;
pub(super) use put_bucket_tagging::put_bucket_tagging;
pub(super) use put_bucket_website::put_bucket_website;
pub(super) use put_object_acl::put_object_acl;
pub(super) use put_public_access_block::put_public_access_block;

use super::version_id;
use crate::metadata::unexpected;
use crate::request::Request;
use protocol::metadata::{Change, Operation, Reply};
use protocol::settings::SettingKind;
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::settings::{AccessControlPolicy, SETTING_BYTES_MAX};

/// The only list of grants that there is.
const ACL: AccessControlPolicy<'static> = AccessControlPolicy {
    owner: super::OWNER,
};

/// The body of a request as a document.
///
/// # Errors
/// `MissingRequestBodyError`, and as [`Request::document`].
async fn body(request: &mut Request<'_>) -> Result<Vec<u8>, S3Error> {
    let kib = request.document_kib(SETTING_BYTES_MAX);
    let _share = request.worker.budget.take(kib).await?;
    let document = request.document(SETTING_BYTES_MAX).await?;
    match document.is_empty() {
        true => Err(ErrorCode::MissingRequestBodyError.into()),
        false => Ok(document),
    }
}

/// A setting of the request's bucket as it is now; `None` if it was never set.
async fn read(request: &Request<'_>, kind: SettingKind) -> Result<Option<Vec<u8>>, S3Error> {
    let operation = Operation::GetBucketSetting {
        bucket: request.admission.bucket()?.id,
        kind,
    };
    match request.admission.read(operation).await? {
        Reply::Setting(document) => Ok(document),
        other => Err(unexpected(&other)),
    }
}

/// Sets or removes a setting of the request's bucket.
async fn write(
    request: &Request<'_>,
    kind: SettingKind,
    document: Option<Vec<u8>>,
) -> Result<(), S3Error> {
    let bucket = request.admission.bucket()?;
    let change = Change::SetBucketSetting {
        name: bucket.name.clone(),
        bucket: bucket.id,
        kind,
        document,
    };
    match request.admission.write(change).await? {
        Reply::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// That the object of the request exists.
///
/// # Errors
/// Those of `find_object`.
async fn find_object(request: &Request<'_>) -> Result<(), S3Error> {
    let bucket = request.admission.bucket()?;
    let version = version_id::of_query(request)?;
    super::find_object::find_object(&request.admission, bucket, request.key(), version).await?;
    Ok(())
}

/// A stored document that is text.
fn text(document: Vec<u8>) -> Result<String, S3Error> {
    String::from_utf8(document).map_err(|_| ErrorCode::InternalError.into())
}

/// Accepts a list of grants that grants nothing new: by header (which the request's headers were judged for), or as a document.
async fn check_acl(request: &mut Request<'_>) -> Result<(), S3Error> {
    let by_header = request.header("x-amz-acl")?.is_some();
    let document = request.document(SETTING_BYTES_MAX).await?;
    match (by_header, document.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(S3Error::with(
            ErrorCode::UnexpectedContent,
            ErrorCode::UnexpectedContent.default_message(),
        )),
        (false, true) => Err(ErrorCode::MissingSecurityHeader.into()),
        (false, false) => ACL.check(&document),
    }
}
