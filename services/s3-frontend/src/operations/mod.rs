//! One file per S3 operation. Each reads from top to bottom: what is asked, what must hold, what is
//! done, what is answered. The caller is authenticated and has the right (see [`crate::request`]).

mod abort_multipart_upload;
mod bucket_settings;
mod bucket_state;
mod change_attributes;
mod complete_multipart_upload;
mod copy_object;
mod copy_source;
mod create_bucket;
mod create_multipart_upload;
mod delete_bucket;
mod delete_object;
mod delete_object_tagging;
mod delete_objects;
mod get_bucket_versioning;
mod get_object;
mod get_object_attributes;
mod get_object_legal_hold;
mod get_object_lock_configuration;
mod get_object_retention;
mod get_object_tagging;
mod head_bucket;
mod list_buckets;
mod list_multipart_uploads;
mod list_object_versions;
mod list_objects;
mod list_parts;
mod object_attributes;
mod object_data;
mod post_object;
mod put_bucket_versioning;
mod put_object;
mod put_object_legal_hold;
mod put_object_lock_configuration;
mod put_object_retention;
mod put_object_tagging;
mod rename_object;
mod upload_part;
mod upload_part_copy;
pub(crate) mod version_id;

use crate::answer::Answer;
use crate::request::Request;
use protocol::metadata::Precondition;
use s3_wire::checksum::{Algorithm, ChecksumType};
use s3_wire::conditions::WriteCondition;
use s3_wire::error::S3Error;
use s3_wire::routing::Operation;
use s3_wire::xml::Owner;
use std::pin::Pin;

pub(crate) use post_object::post_object;

use crate::find_object;

/// The only account: whoever holds a key acts for it. Keys' names are nobody else's business.
const OWNER: Owner<'static> = Owner {
    id: "trousseau",
    display_name: "trousseau",
};

/// Does `operation`.
///
/// # Errors
/// Whatever the operation answers instead; `NotImplemented` for operations that this server lacks.
pub(crate) async fn dispatch(
    operation: Operation,
    request: &mut Request<'_>,
) -> Result<Answer, S3Error> {
    use Operation as O;
    // Each in a box of its own, so that a small request does not move and clear the space of an
    // upload.
    let done: Doing<'_> = match operation {
        O::ListBuckets => Box::pin(list_buckets::list_buckets(request)),
        O::CreateBucket => Box::pin(create_bucket::create_bucket(request)),
        O::DeleteBucket => Box::pin(delete_bucket::delete_bucket(request)),
        O::HeadBucket => return head_bucket::head_bucket(request),
        O::GetBucketLocation => return head_bucket::get_bucket_location(request),
        O::GetBucketVersioning => Box::pin(get_bucket_versioning::get_bucket_versioning(request)),
        O::PutBucketVersioning => Box::pin(put_bucket_versioning::put_bucket_versioning(request)),
        O::GetObjectLockConfiguration => {
            Box::pin(get_object_lock_configuration::get_object_lock_configuration(request))
        }
        O::PutObjectLockConfiguration => {
            Box::pin(put_object_lock_configuration::put_object_lock_configuration(request))
        }
        O::ListObjectVersions => Box::pin(list_object_versions::list_object_versions(request)),
        O::GetObjectRetention => Box::pin(get_object_retention::get_object_retention(request)),
        O::PutObjectRetention => Box::pin(put_object_retention::put_object_retention(request)),
        O::GetObjectLegalHold => Box::pin(get_object_legal_hold::get_object_legal_hold(request)),
        O::PutObjectLegalHold => Box::pin(put_object_legal_hold::put_object_legal_hold(request)),
        O::GetObjectTagging => Box::pin(get_object_tagging::get_object_tagging(request)),
        O::PutObjectTagging => Box::pin(put_object_tagging::put_object_tagging(request)),
        O::DeleteObjectTagging => Box::pin(delete_object_tagging::delete_object_tagging(request)),
        O::GetObjectAttributes => Box::pin(get_object_attributes::get_object_attributes(request)),
        O::RenameObject => Box::pin(rename_object::rename_object(request)),
        O::ListObjects => Box::pin(list_objects::list_objects(request)),
        O::ListObjectsV2 => Box::pin(list_objects::list_objects_v2(request)),
        O::PutObject => Box::pin(put_object::put_object(request)),
        O::GetObject => Box::pin(get_object::get_object(request)),
        O::HeadObject => Box::pin(get_object::head_object(request)),
        O::DeleteObject => Box::pin(delete_object::delete_object(request)),
        O::DeleteObjects => Box::pin(delete_objects::delete_objects(request)),
        O::CopyObject => Box::pin(copy_object::copy_object(request)),
        O::CreateMultipartUpload => Box::pin(create_multipart_upload::create(request)),
        O::UploadPart => Box::pin(upload_part::upload_part(request)),
        O::UploadPartCopy => Box::pin(upload_part_copy::upload_part_copy(request)),
        O::CompleteMultipartUpload => Box::pin(complete_multipart_upload::complete(request)),
        O::AbortMultipartUpload => Box::pin(abort_multipart_upload::abort(request)),
        O::ListMultipartUploads => Box::pin(list_multipart_uploads::list_uploads(request)),
        O::ListParts => Box::pin(list_parts::list_parts(request)),
        O::DeleteBucketCors => Box::pin(bucket_settings::delete_bucket_cors(request)),
        O::DeleteBucketEncryption => Box::pin(bucket_settings::delete_bucket_encryption(request)),
        O::GetBucketLifecycleConfiguration => {
            Box::pin(bucket_settings::get_bucket_lifecycle_configuration(request))
        }
        O::PutBucketLifecycleConfiguration => {
            Box::pin(bucket_settings::put_bucket_lifecycle_configuration(request))
        }
        O::DeleteBucketLifecycle => Box::pin(bucket_settings::delete_bucket_lifecycle(request)),
        O::DeleteBucketPolicy => Box::pin(bucket_settings::delete_bucket_policy(request)),
        O::DeleteBucketReplication => Box::pin(bucket_settings::delete_bucket_replication(request)),
        O::DeleteBucketTagging => Box::pin(bucket_settings::delete_bucket_tagging(request)),
        O::DeleteBucketWebsite => Box::pin(bucket_settings::delete_bucket_website(request)),
        O::DeletePublicAccessBlock => {
            Box::pin(bucket_settings::delete_public_access_block(request))
        }
        O::GetBucketAccelerateConfiguration => Box::pin(
            bucket_settings::get_bucket_accelerate_configuration(request),
        ),
        O::GetBucketAcl => Box::pin(bucket_settings::get_bucket_acl(request)),
        O::GetBucketCors => Box::pin(bucket_settings::get_bucket_cors(request)),
        O::GetBucketEncryption => Box::pin(bucket_settings::get_bucket_encryption(request)),
        O::GetBucketLogging => Box::pin(bucket_settings::get_bucket_logging(request)),
        O::GetBucketNotificationConfiguration => Box::pin(
            bucket_settings::get_bucket_notification_configuration(request),
        ),
        O::GetBucketOwnershipControls => {
            Box::pin(bucket_settings::get_bucket_ownership_controls(request))
        }
        O::GetBucketPolicy => Box::pin(bucket_settings::get_bucket_policy(request)),
        O::GetBucketPolicyStatus => Box::pin(bucket_settings::get_bucket_policy_status(request)),
        O::GetBucketReplication => Box::pin(bucket_settings::get_bucket_replication(request)),
        O::GetBucketRequestPayment => {
            Box::pin(bucket_settings::get_bucket_request_payment(request))
        }
        O::GetBucketTagging => Box::pin(bucket_settings::get_bucket_tagging(request)),
        O::GetBucketWebsite => Box::pin(bucket_settings::get_bucket_website(request)),
        O::GetObjectAcl => Box::pin(bucket_settings::get_object_acl(request)),
        O::GetPublicAccessBlock => Box::pin(bucket_settings::get_public_access_block(request)),
        O::PutBucketAcl => Box::pin(bucket_settings::put_bucket_acl(request)),
        O::PutBucketCors => Box::pin(bucket_settings::put_bucket_cors(request)),
        O::PutBucketEncryption => Box::pin(bucket_settings::put_bucket_encryption(request)),
        O::PutBucketLogging => Box::pin(bucket_settings::put_bucket_logging(request)),
        O::PutBucketNotificationConfiguration => Box::pin(
            bucket_settings::put_bucket_notification_configuration(request),
        ),
        O::PutBucketOwnershipControls => {
            Box::pin(bucket_settings::put_bucket_ownership_controls(request))
        }
        O::PutBucketPolicy => Box::pin(bucket_settings::put_bucket_policy(request)),
        O::PutBucketRequestPayment => {
            Box::pin(bucket_settings::put_bucket_request_payment(request))
        }
        O::PutBucketTagging => Box::pin(bucket_settings::put_bucket_tagging(request)),
        O::PutBucketWebsite => Box::pin(bucket_settings::put_bucket_website(request)),
        O::PutObjectAcl => Box::pin(bucket_settings::put_object_acl(request)),
        O::PutPublicAccessBlock => Box::pin(bucket_settings::put_public_access_block(request)),
        missing => return Err(missing.not_implemented()),
    };
    done.await
}

/// An operation under way.
type Doing<'a> = Pin<Box<dyn Future<Output = Result<Answer, S3Error>> + 'a>>;

/// A write's condition in metadata's words.
fn precondition(condition: WriteCondition) -> Precondition {
    match condition {
        WriteCondition::Always => Precondition::None,
        WriteCondition::Absent => Precondition::Absent,
        WriteCondition::Exists => Precondition::Present,
        WriteCondition::Matches(etag) => Precondition::Etag(etag),
    }
}

/// An algorithm and type as metadata keeps them, in S3's types.
fn algorithm_of<T: AsRef<str>>(kept: &(T, bool)) -> Option<(Algorithm, ChecksumType)> {
    let (name, composite) = kept;
    Some((Algorithm::from_name(name.as_ref())?, type_of(*composite)))
}

fn type_of(composite: bool) -> ChecksumType {
    if composite {
        ChecksumType::Composite
    } else {
        ChecksumType::FullObject
    }
}

/// An entity tag as it stands in a header.
fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}
