//! The changes that clients ask for: each is one command of one shard, and stands so in its log.

use super::{
    AccessKey, AttributeChange, BucketId, Checksum, Conditions, EventKind, NewObject, Notification,
    ObjectLock, Operation, Part, Precondition, Quota, Rights, Upload, VersionId,
};
use crate::settings::SettingKind;
use serde::{Deserialize, Serialize};

/// A change of keys, rights and buckets' settings (the registry), or of what is in a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Makes the given key the root key unless one exists; answers the root key that is. Harmless to repeat.
    FirstKey {
        /// A fresh key.
        key: AccessKey,
    },
    /// A new key. `KeyExists` if the name of the key or its id is taken.
    CreateKey {
        /// A fresh key.
        key: AccessKey,
    },
    /// Removes a key and its rights. Its buckets stay. The last root key stays (`Refused`).
    DeleteKey {
        /// Which.
        access_key: String,
    },
    /// Sets the rights of a key on a bucket, in place of those before. Harmless to repeat.
    SetRights {
        /// Whose.
        access_key: String,
        /// Where.
        bucket: String,
        /// All false removes the entry.
        rights: Rights,
    },
    /// Sets the policy of a key, in place of the one before. Harmless to repeat. A root key has none (`Refused`).
    SetKeyPolicy {
        /// Whose.
        access_key: String,
        /// At most [`POLICY_BYTES_MAX`](crate::settings::POLICY_BYTES_MAX); `None` removes it.
        policy: Option<String>,
    },
    /// Sets a setting of a bucket, in place of the one before. `NoSuchBucket` if the name is not `bucket`'s any more. Harmless to repeat.
    SetBucketSetting {
        /// The bucket's name.
        name: String,
        /// The bucket.
        bucket: BucketId,
        /// Which setting.
        kind: SettingKind,
        /// At most [`SETTING_BYTES_MAX`](crate::settings::SETTING_BYTES_MAX); `None` removes it.
        #[serde(with = "crate::settings::optional_bytes")]
        document: Option<Vec<u8>>,
    },
    /// Makes the object visible, in place of the one before or on top of it → [`Reply::Written`](super::Reply::Written). `NoObjectLock` if it comes with a
    /// protection that the bucket does not know.
    PutObject {
        /// Where.
        bucket: BucketId,
        /// At most [`KEY_BYTES_MAX`](super::KEY_BYTES_MAX) bytes.
        key: String,
        /// What.
        object: NewObject,
        /// When.
        precondition: Precondition,
        /// The blocks belong to an object of this bucket already (a copy): if one of them no longer does, `SourceChanged`.
        copied: bool,
        /// What the client did: it is told so.
        event: EventKind,
    },
    /// Without a version: removes the object or puts a delete marker on it, as the bucket's versioning wants it. With one: removes exactly that →
    /// [`Reply::Deleted`](super::Reply::Deleted), also when there is none. `Locked` if the version is protected.
    DeleteObject {
        /// Where.
        bucket: BucketId,
        /// Which.
        key: String,
        /// Which of its versions.
        version: Option<VersionId>,
        /// When; judged on the current version.
        precondition: Precondition,
        /// The caller may bypass governance retention, and says so.
        bypass: bool,
    },
    /// Starts an upload. `upload` is the caller's choice, fresh.
    CreateUpload {
        /// Where.
        bucket: BucketId,
        /// `initiated_ms` is set by the service.
        upload: Upload,
    },
    /// Adds a part, in place of one with the same number. Harmless to repeat.
    PutPart {
        /// Where.
        bucket: BucketId,
        /// The object's key.
        key: String,
        /// Which.
        upload: String,
        /// 1 to [`PARTS_MAX`](super::PARTS_MAX).
        number: u16,
        /// What.
        part: Part,
        /// The blocks belong to an object of this bucket already (UploadPartCopy): if one of them no longer does, `SourceChanged`.
        copied: bool,
    },
    /// Makes the object of the upload visible out of the listed parts, drops the others → [`Reply::Written`](super::Reply::Written). `InvalidPart` if a part is missing or the parts'
    /// ETags no longer give `etag`; `EntityTooSmall` if a part but the last is below [`PART_BYTES_MIN`](super::PART_BYTES_MIN). Repeating it after success
    /// succeeds while the object is still the one that it made.
    CompleteUpload {
        /// Where.
        bucket: BucketId,
        /// The object's key.
        key: String,
        /// Which.
        upload: String,
        /// Rising numbers.
        parts: Vec<u16>,
        /// Of the whole, as the caller computed it from the parts' ETags: `hex-N`.
        etag: String,
        /// Of the whole.
        checksum: Option<Checksum>,
        /// When.
        precondition: Precondition,
    },
    /// Drops the upload and its parts; `NoSuchUpload` if there is none.
    AbortUpload {
        /// Where.
        bucket: BucketId,
        /// The object's key.
        key: String,
        /// Which.
        upload: String,
    },
    /// Gives a bucket an object lock, or changes it. `WrongBucketState` if its versioning is not `Enabled`. Harmless to repeat.
    PutObjectLock {
        /// Which.
        bucket: BucketId,
        /// What from now on; versions that are there already keep what they have.
        lock: ObjectLock,
    },
    /// Changes tags or protection of a version → [`Reply::Changed`](super::Reply::Changed). `NoSuchKey`, `NoSuchVersion`, `DeleteMarker`; `Locked` if the retention does not
    /// allow it; `NoObjectLock` if the bucket has none. Harmless to repeat.
    ChangeAttributes {
        /// Where.
        bucket: BucketId,
        /// Which.
        key: String,
        /// `None`: the current version.
        version: Option<VersionId>,
        /// What.
        change: AttributeChange,
    },
    /// Gives an object another key, in place of the object that has it → [`Reply::Written`](super::Reply::Written). `WrongBucketState` in a bucket with versions. With a
    /// token, repeating it succeeds while the object is still where it was moved; `TokenReused` if it was moved from another key then.
    RenameObject {
        /// Where.
        bucket: BucketId,
        /// Which.
        source: String,
        /// Its new key.
        key: String,
        /// Of the source.
        source_conditions: Conditions,
        /// Of the object that has the new key.
        conditions: Conditions,
        /// The client's, at most [`TOKEN_BYTES_MAX`](super::TOKEN_BYTES_MAX) bytes.
        token: Option<String>,
    },
    /// Sets who is told of a bucket's changes, in place of what was set before. Harmless to repeat.
    PutNotification {
        /// Which.
        bucket: BucketId,
        /// No rules: nobody.
        notification: Notification,
    },
    /// Gives a bucket a further name. `BucketExists` if it is a bucket's name or alias already, `TooManyAliases`. Harmless to repeat.
    AddAlias {
        /// The bucket's name.
        name: String,
        /// Valid by S3's rules of bucket names.
        alias: String,
    },
    /// Takes a further name away; `NoSuchAlias` if it is not the bucket's.
    RemoveAlias {
        /// The bucket's name.
        name: String,
        /// Which.
        alias: String,
    },
    /// Sets how much a bucket may hold, in place of what was set before. Harmless to repeat.
    SetQuota {
        /// Which.
        bucket: BucketId,
        /// How much.
        quota: Quota,
    },
}

impl Change {
    /// The bucket in whose shard it happens; `None`: in the registry.
    pub fn bucket(&self) -> Option<BucketId> {
        match self {
            Self::FirstKey { .. }
            | Self::CreateKey { .. }
            | Self::DeleteKey { .. }
            | Self::SetRights { .. }
            | Self::SetKeyPolicy { .. }
            | Self::SetBucketSetting { .. }
            | Self::AddAlias { .. }
            | Self::RemoveAlias { .. } => None,
            Self::PutObject { bucket, .. }
            | Self::DeleteObject { bucket, .. }
            | Self::PutObjectLock { bucket, .. }
            | Self::ChangeAttributes { bucket, .. }
            | Self::RenameObject { bucket, .. }
            | Self::CreateUpload { bucket, .. }
            | Self::PutPart { bucket, .. }
            | Self::CompleteUpload { bucket, .. }
            | Self::AbortUpload { bucket, .. }
            | Self::PutNotification { bucket, .. }
            | Self::SetQuota { bucket, .. } => Some(*bucket),
        }
    }
}

impl From<Change> for Operation {
    fn from(change: Change) -> Self {
        Self::Change(change)
    }
}
