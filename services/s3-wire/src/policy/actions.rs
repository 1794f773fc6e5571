//! The actions that policies name, and which of them each operation is.
//!
//! Source: <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html>

use crate::routing::Operation;

/// What an action is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// No resource: `*`.
    Service,
    Bucket,
    Object,
}

/// Every action that a policy may name.
pub(super) const ACTIONS: &[(&str, On)] = {
    use On::{Bucket, Object, Service};
    &[
        ("s3:AbortMultipartUpload", Object),
        ("s3:BypassGovernanceRetention", Object),
        ("s3:CreateBucket", Bucket),
        ("s3:DeleteBucket", Bucket),
        ("s3:DeleteBucketPolicy", Bucket),
        ("s3:DeleteBucketWebsite", Bucket),
        ("s3:DeleteObject", Object),
        ("s3:DeleteObjectTagging", Object),
        ("s3:DeleteObjectVersion", Object),
        ("s3:DeleteObjectVersionTagging", Object),
        ("s3:GetAccelerateConfiguration", Bucket),
        ("s3:GetBucketAcl", Bucket),
        ("s3:GetBucketCORS", Bucket),
        ("s3:GetBucketLocation", Bucket),
        ("s3:GetBucketLogging", Bucket),
        ("s3:GetBucketNotification", Bucket),
        ("s3:GetBucketObjectLockConfiguration", Bucket),
        ("s3:GetBucketOwnershipControls", Bucket),
        ("s3:GetBucketPolicy", Bucket),
        ("s3:GetBucketPolicyStatus", Bucket),
        ("s3:GetBucketPublicAccessBlock", Bucket),
        ("s3:GetBucketRequestPayment", Bucket),
        ("s3:GetBucketTagging", Bucket),
        ("s3:GetBucketVersioning", Bucket),
        ("s3:GetBucketWebsite", Bucket),
        ("s3:GetEncryptionConfiguration", Bucket),
        ("s3:GetLifecycleConfiguration", Bucket),
        ("s3:GetObject", Object),
        ("s3:GetObjectAcl", Object),
        ("s3:GetObjectAttributes", Object),
        ("s3:GetObjectLegalHold", Object),
        ("s3:GetObjectRetention", Object),
        ("s3:GetObjectTagging", Object),
        ("s3:GetObjectVersion", Object),
        ("s3:GetObjectVersionAcl", Object),
        ("s3:GetObjectVersionAttributes", Object),
        ("s3:GetObjectVersionTagging", Object),
        ("s3:GetReplicationConfiguration", Bucket),
        ("s3:ListAllMyBuckets", Service),
        ("s3:ListBucket", Bucket),
        ("s3:ListBucketMultipartUploads", Bucket),
        ("s3:ListBucketVersions", Bucket),
        ("s3:ListMultipartUploadParts", Object),
        ("s3:PutAccelerateConfiguration", Bucket),
        ("s3:PutBucketAcl", Bucket),
        ("s3:PutBucketCORS", Bucket),
        ("s3:PutBucketLogging", Bucket),
        ("s3:PutBucketNotification", Bucket),
        ("s3:PutBucketObjectLockConfiguration", Bucket),
        ("s3:PutBucketOwnershipControls", Bucket),
        ("s3:PutBucketPolicy", Bucket),
        ("s3:PutBucketPublicAccessBlock", Bucket),
        ("s3:PutBucketRequestPayment", Bucket),
        ("s3:PutBucketTagging", Bucket),
        ("s3:PutBucketVersioning", Bucket),
        ("s3:PutBucketWebsite", Bucket),
        ("s3:PutEncryptionConfiguration", Bucket),
        ("s3:PutLifecycleConfiguration", Bucket),
        ("s3:PutObject", Object),
        ("s3:PutObjectAcl", Object),
        ("s3:PutObjectLegalHold", Object),
        ("s3:PutObjectRetention", Object),
        ("s3:PutObjectTagging", Object),
        ("s3:PutObjectVersionAcl", Object),
        ("s3:PutObjectVersionTagging", Object),
        ("s3:PutReplicationConfiguration", Bucket),
        ("s3:RenameObject", Object),
    ]
};

/// The action that an operation is, where it is on one resource; `versioned` where it names a version. `None`: no policy can allow or forbid
/// it, because it does not exist here, or is decided otherwise (`DeleteObjects` key by key, `PostObject` as `PutObject`).
pub fn action(operation: Operation, versioned: bool) -> Option<&'static str> {
    use Operation as O;
    let of_version = |plain, of_version| if versioned { of_version } else { plain };
    Some(match operation {
        O::AbortMultipartUpload => "s3:AbortMultipartUpload",
        O::CompleteMultipartUpload
        | O::CopyObject
        | O::CreateMultipartUpload
        | O::PostObject
        | O::PutObject
        | O::UploadPart
        | O::UploadPartCopy => "s3:PutObject",
        O::CreateBucket => "s3:CreateBucket",
        O::DeleteBucket => "s3:DeleteBucket",
        O::DeleteBucketCors | O::PutBucketCors => "s3:PutBucketCORS",
        O::DeleteBucketEncryption | O::PutBucketEncryption => "s3:PutEncryptionConfiguration",
        O::DeleteBucketLifecycle | O::PutBucketLifecycleConfiguration => {
            "s3:PutLifecycleConfiguration"
        }
        O::DeleteBucketOwnershipControls | O::PutBucketOwnershipControls => {
            "s3:PutBucketOwnershipControls"
        }
        O::DeleteBucketPolicy => "s3:DeleteBucketPolicy",
        O::DeleteBucketReplication | O::PutBucketReplication => "s3:PutReplicationConfiguration",
        O::DeleteBucketTagging | O::PutBucketTagging => "s3:PutBucketTagging",
        O::DeleteBucketWebsite => "s3:DeleteBucketWebsite",
        O::DeleteObject => of_version("s3:DeleteObject", "s3:DeleteObjectVersion"),
        O::DeleteObjectTagging => {
            of_version("s3:DeleteObjectTagging", "s3:DeleteObjectVersionTagging")
        }
        O::DeletePublicAccessBlock | O::PutPublicAccessBlock => "s3:PutBucketPublicAccessBlock",
        O::GetBucketAccelerateConfiguration => "s3:GetAccelerateConfiguration",
        O::GetBucketAcl => "s3:GetBucketAcl",
        O::GetBucketCors => "s3:GetBucketCORS",
        O::GetBucketEncryption => "s3:GetEncryptionConfiguration",
        O::GetBucketLifecycleConfiguration => "s3:GetLifecycleConfiguration",
        O::GetBucketLocation => "s3:GetBucketLocation",
        O::GetBucketLogging => "s3:GetBucketLogging",
        O::GetBucketNotificationConfiguration => "s3:GetBucketNotification",
        O::GetBucketOwnershipControls => "s3:GetBucketOwnershipControls",
        O::GetBucketPolicy => "s3:GetBucketPolicy",
        O::GetBucketPolicyStatus => "s3:GetBucketPolicyStatus",
        O::GetBucketReplication => "s3:GetReplicationConfiguration",
        O::GetBucketRequestPayment => "s3:GetBucketRequestPayment",
        O::GetBucketTagging => "s3:GetBucketTagging",
        O::GetBucketVersioning => "s3:GetBucketVersioning",
        O::GetBucketWebsite => "s3:GetBucketWebsite",
        O::GetObject | O::HeadObject => of_version("s3:GetObject", "s3:GetObjectVersion"),
        O::GetObjectAcl => of_version("s3:GetObjectAcl", "s3:GetObjectVersionAcl"),
        O::GetObjectAttributes => {
            of_version("s3:GetObjectAttributes", "s3:GetObjectVersionAttributes")
        }
        O::GetObjectLegalHold => "s3:GetObjectLegalHold",
        O::GetObjectLockConfiguration => "s3:GetBucketObjectLockConfiguration",
        O::GetObjectRetention => "s3:GetObjectRetention",
        O::GetObjectTagging => of_version("s3:GetObjectTagging", "s3:GetObjectVersionTagging"),
        O::GetPublicAccessBlock => "s3:GetBucketPublicAccessBlock",
        O::HeadBucket | O::ListObjects | O::ListObjectsV2 => "s3:ListBucket",
        O::ListBuckets => "s3:ListAllMyBuckets",
        O::ListMultipartUploads => "s3:ListBucketMultipartUploads",
        O::ListObjectVersions => "s3:ListBucketVersions",
        O::ListParts => "s3:ListMultipartUploadParts",
        O::PutBucketAccelerateConfiguration => "s3:PutAccelerateConfiguration",
        O::PutBucketAcl => "s3:PutBucketAcl",
        O::PutBucketLogging => "s3:PutBucketLogging",
        O::PutBucketNotificationConfiguration => "s3:PutBucketNotification",
        O::PutBucketPolicy => "s3:PutBucketPolicy",
        O::PutBucketRequestPayment => "s3:PutBucketRequestPayment",
        O::PutBucketVersioning => "s3:PutBucketVersioning",
        O::PutBucketWebsite => "s3:PutBucketWebsite",
        O::PutObjectAcl => of_version("s3:PutObjectAcl", "s3:PutObjectVersionAcl"),
        O::PutObjectLegalHold => "s3:PutObjectLegalHold",
        O::PutObjectLockConfiguration => "s3:PutBucketObjectLockConfiguration",
        O::PutObjectRetention => "s3:PutObjectRetention",
        O::PutObjectTagging => of_version("s3:PutObjectTagging", "s3:PutObjectVersionTagging"),
        O::RenameObject => "s3:RenameObject",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_of_an_operation_can_stand_in_a_policy() {
        for operation in Operation::ALL {
            for versioned in [false, true] {
                if let Some(action) = action(*operation, versioned) {
                    assert!(
                        ACTIONS.iter().any(|(known, _)| *known == action),
                        "{action}"
                    );
                }
            }
        }
        assert!(ACTIONS.is_sorted_by_key(|(name, _)| *name));
    }
}
