//! Whether a caller may do what a request asks: the rights of its key, the key's policy, the bucket's policy, and what they come to.
//!
//! Two sides can allow: the caller's own (its key's policy if it has one, else the key's rights), and the bucket's policy. Either suffices.
//! A policy that forbids wins over both, for the root key too; only reading, replacing and deleting the bucket's policy itself
//! cannot be forbidden by it to the root key and to owners, so that nobody locks the bucket for ever. Somebody without a key has
//! only what the bucket's policy allows. Source for the shape:
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/how-s3-evaluates-access-control.html>

use crate::credentials::Authorized;
use crate::facts::{Asked, Facts};
use protocol::metadata::{BucketId, VersionId};
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::policy::{self, Policy, Principal, Question, Verdict};
use s3_wire::routing::Operation;
use s3_wire::tags::Tag;
use std::rc::Rc;

/// The right that a request must have where no policy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Only to be who it says.
    Identity,
    /// To make buckets; the bucket need not exist.
    CreateBuckets,
    /// Any right on the bucket.
    Any,
    /// To get, head and list.
    Read,
    /// To put and delete.
    Write,
    /// To delete the bucket and to change its settings.
    Owner,
}

/// What is asked for, as policies see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// What the request's own line and headers say.
    Request,
    /// One action on one object: the source of a copy, one key of many.
    Object {
        /// As policies name it.
        action: &'static str,
        /// Which; `None` for the bucket itself.
        key: Option<String>,
        /// Which version; `None` for the current one.
        version: Option<VersionId>,
    },
    /// To give an object these tags, which stand in the request's body.
    Tagging {
        /// Which object.
        key: String,
        /// Which version; `None` for the current one.
        version: Option<VersionId>,
        /// All that it is to have.
        tags: Rc<[Tag]>,
    },
}

/// The right that an operation needs, and whether it must be known as of now because metadata is asked nothing else.
pub fn needs(operation: Operation) -> (Need, bool) {
    use Operation as O;
    match operation {
        O::CreateBucket => (Need::CreateBuckets, false),
        O::DeleteBucket => (Need::Owner, false),
        O::PutBucketVersioning | O::PutObjectLockConfiguration => (Need::Owner, false),
        O::HeadBucket | O::GetBucketLocation => (Need::Any, true),
        O::GetBucketVersioning | O::GetObjectLockConfiguration => (Need::Any, false),
        // What no bucket has is told at once; what one may have is asked for.
        O::GetBucketAccelerateConfiguration
        | O::GetBucketAcl
        | O::GetBucketLogging
        | O::GetBucketOwnershipControls
        | O::GetBucketPolicyStatus
        | O::GetBucketReplication
        | O::GetBucketRequestPayment => (Need::Any, true),
        O::GetBucketCors
        | O::GetBucketEncryption
        | O::GetBucketLifecycleConfiguration
        | O::GetBucketNotificationConfiguration
        | O::GetBucketTagging
        | O::GetBucketWebsite
        | O::GetPublicAccessBlock => (Need::Any, false),
        O::DeleteBucketReplication
        | O::PutBucketAcl
        | O::PutBucketLogging
        | O::PutBucketOwnershipControls
        | O::PutBucketRequestPayment => (Need::Owner, true),
        O::DeleteBucketCors
        | O::DeleteBucketEncryption
        | O::DeleteBucketLifecycle
        | O::DeleteBucketPolicy
        | O::DeleteBucketTagging
        | O::DeleteBucketWebsite
        | O::DeletePublicAccessBlock
        | O::GetBucketPolicy
        | O::PutBucketCors
        | O::PutBucketEncryption
        | O::PutBucketLifecycleConfiguration
        | O::PutBucketNotificationConfiguration
        | O::PutBucketPolicy
        | O::PutBucketTagging
        | O::PutBucketWebsite
        | O::PutPublicAccessBlock => (Need::Owner, false),
        O::GetObject
        | O::GetObjectAcl
        | O::HeadObject
        | O::GetObjectAttributes
        | O::GetObjectTagging
        | O::GetObjectRetention
        | O::GetObjectLegalHold
        | O::ListObjects
        | O::ListObjectsV2
        | O::ListObjectVersions => (Need::Read, false),
        O::PutObject
        | O::PutObjectAcl
        | O::PostObject
        | O::CopyObject
        | O::DeleteObject
        | O::DeleteObjects
        | O::PutObjectTagging
        | O::DeleteObjectTagging
        | O::PutObjectRetention
        | O::PutObjectLegalHold
        | O::RenameObject
        | O::CreateMultipartUpload
        | O::UploadPart
        | O::UploadPartCopy
        | O::CompleteMultipartUpload
        | O::AbortMultipartUpload
        | O::ListMultipartUploads
        | O::ListParts => (Need::Write, false),
        // ListBuckets shows only what the caller may see; everything else is not implemented.
        _ => (Need::Identity, false),
    }
}

/// Whether what metadata said suffices. `tags` are those of the object, where a policy asks for them ([`object_of_tags`]).
///
/// # Errors
/// `NoSuchBucket`, `AccessDenied`.
pub fn check(
    authorized: &Authorized,
    bucket_name: Option<&str>,
    need: Need,
    target: &Target,
    facts: &Facts,
    tags: &[Tag],
) -> Result<(), S3Error> {
    let must_exist = !matches!(need, Need::Identity | Need::CreateBuckets);
    if must_exist && authorized.bucket.is_none() {
        let name = bucket_name.unwrap_or_default();
        return Err(S3Error::new(ErrorCode::NoSuchBucket).and("BucketName", name));
    }
    // A policy speaks of what exists; one of a bucket that somebody wants to make is another's.
    let bucket_policy = authorized.bucket_policy.as_deref().filter(|_| must_exist);
    let key_policy = authorized.key_policy.as_deref();
    let by_rights = has_right(authorized, need);
    let allowed = if bucket_policy.is_none() && key_policy.is_none() {
        by_rights
    } else {
        let judge = Judge {
            authorized,
            facts,
            tags,
            given: match target {
                Target::Tagging { tags, .. } => Some(tags),
                Target::Request | Target::Object { .. } => None,
            },
            // Policies speak of the bucket by its own name, whichever of its names was said.
            bucket_name: authorized
                .bucket
                .as_ref()
                .map_or(bucket_name.unwrap_or_default(), |bucket| &bucket.name),
            bucket_policy,
            key_policy,
            by_rights,
        };
        judge.allows(need, target)
    };
    if allowed {
        Ok(())
    } else {
        Err(ErrorCode::AccessDenied.into())
    }
}

/// Whether the key's rights suffice, policies aside.
fn has_right(authorized: &Authorized, need: Need) -> bool {
    let (Some(key), rights) = (&authorized.key, authorized.rights) else {
        return false;
    };
    key.root
        || match need {
            Need::Identity => true,
            Need::CreateBuckets => key.create_buckets,
            Need::Any => rights.read || rights.write || rights.owner,
            Need::Read => rights.read,
            Need::Write => rights.write,
            Need::Owner => rights.owner,
        }
}

/// One decision in which a policy has a say.
struct Judge<'a> {
    authorized: &'a Authorized,
    facts: &'a Facts,
    /// Of the object.
    tags: &'a [Tag],
    /// What it is to have, where the request's body says that.
    given: Option<&'a [Tag]>,
    bucket_name: &'a str,
    bucket_policy: Option<&'a Policy>,
    key_policy: Option<&'a Policy>,
    by_rights: bool,
}

impl Judge<'_> {
    fn allows(&self, need: Need, target: &Target) -> bool {
        match target {
            Target::Object { action, key, .. } => self.may(action, key.as_deref()),
            Target::Tagging { key, version, .. } => {
                let action = policy::action(Operation::PutObjectTagging, version.is_some());
                self.may(action.unwrap_or_default(), Some(key))
            }
            Target::Request => match self.facts.operation() {
                // Whoever is somebody to this bucket is told when the body has been read: key by key, or by the tags in it.
                Some(Operation::DeleteObjects | Operation::PutObjectTagging) => {
                    self.by_rights || self.authorized.key.is_some() || self.bucket_policy.is_some()
                }
                Some(operation) => match self.facts.actions(operation) {
                    actions if actions.is_empty() => self.by_rights,
                    actions => actions.into_iter().all(|action| match need {
                        Need::Identity => self.may_in("", action, None),
                        _ => self.may(action, self.facts.resource.key.as_deref()),
                    }),
                },
                None => self.by_rights,
            },
        }
    }

    fn may(&self, action: &str, key: Option<&str>) -> bool {
        self.may_in(self.bucket_name, action, key)
    }

    fn may_in(&self, bucket: &str, action: &str, key: Option<&str>) -> bool {
        let principal = self.authorized.key.as_ref().map(|key| Principal {
            access_key: &key.access_key,
            name: &key.name,
        });
        let question = Question {
            principal,
            action,
            resource: (bucket, key),
            context: &Asked {
                facts: self.facts,
                tags: self.tags,
                given: self.given,
                principal,
            },
        };
        let ask = |policy: &Policy| policy.judge(&question);
        let by_key = self.key_policy.map(ask);
        let mut by_bucket = self.bucket_policy.map_or(Verdict::Silent, ask);
        let root = self.authorized.key.as_ref().is_some_and(|key| key.root);
        let of_policy = matches!(
            action,
            "s3:GetBucketPolicy" | "s3:PutBucketPolicy" | "s3:DeleteBucketPolicy"
        );
        if by_bucket == Verdict::Deny && of_policy && (root || self.authorized.rights.owner) {
            by_bucket = Verdict::Silent;
        }
        if by_bucket == Verdict::Allow && principal.is_none() && self.is_restricted() {
            by_bucket = Verdict::Silent;
        }
        if by_bucket == Verdict::Deny || by_key == Some(Verdict::Deny) {
            return false;
        }
        let by_caller = match by_key {
            Some(verdict) => verdict == Verdict::Allow,
            None => self.by_rights,
        };
        by_caller || by_bucket == Verdict::Allow
    }

    /// Whether the bucket is closed to everybody without a key (`RestrictPublicBuckets`).
    fn is_restricted(&self) -> bool {
        self.authorized.restrict_public && self.bucket_policy.is_some_and(Policy::is_public)
    }
}

/// The object whose tags must be known to judge; `None` where no policy asks for them, or there is no object yet.
pub fn object_of_tags(
    authorized: &Authorized,
    target: &Target,
    facts: &Facts,
) -> Option<(BucketId, String, Option<VersionId>)> {
    let policies = [&authorized.bucket_policy, &authorized.key_policy];
    let mut policies = policies.into_iter().flatten();
    if !policies.any(|policy| policy.asks_for_tags()) {
        return None;
    }
    let bucket = authorized.bucket.as_ref()?.id;
    match target {
        Target::Object { key, version, .. } => Some((bucket, key.clone()?, *version)),
        Target::Tagging { key, version, .. } => Some((bucket, key.clone(), *version)),
        Target::Request => {
            let makes_one = facts.actions(facts.operation()?).contains(&"s3:PutObject");
            let key = facts.resource.key.clone().filter(|_| !makes_one)?;
            Some((bucket, key, facts.version()))
        }
    }
}

/// The action of removing an object or one of its versions.
pub fn delete_action(versioned: bool) -> &'static str {
    policy::action(Operation::DeleteObject, versioned).unwrap_or("s3:DeleteObject")
}

/// The action of reading one.
pub fn get_action(versioned: bool) -> &'static str {
    policy::action(Operation::GetObject, versioned).unwrap_or("s3:GetObject")
}
