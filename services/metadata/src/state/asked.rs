//! From an operation, as a client asks for it, to the one change that it is. Those that take more than one command (buckets, the
//! sweep) and those that only read are put together elsewhere.

use super::Change;
use protocol::metadata::{BucketId, Operation};

/// The change that an operation asks for, and the bucket whose shard it is for (`None`: the registry). No change: it is not one command.
pub fn change_of(operation: Operation) -> (Option<BucketId>, Option<Change>) {
    match operation {
        Operation::FirstKey { key } => (None, Some(Change::FirstKey { key })),
        Operation::CreateKey { key } => (None, Some(Change::CreateKey { key })),
        Operation::DeleteKey { access_key } => (None, Some(Change::DeleteKey { access_key })),
        Operation::SetRights {
            access_key,
            bucket,
            rights,
        } => (
            None,
            Some(Change::SetRights {
                access_key,
                bucket,
                rights,
            }),
        ),
        Operation::SetKeyPolicy { access_key, policy } => {
            (None, Some(Change::SetKeyPolicy { access_key, policy }))
        }
        Operation::SetBucketSetting {
            name,
            bucket,
            kind,
            document,
        } => (
            None,
            Some(Change::SetBucketSetting {
                name,
                bucket,
                kind,
                document,
            }),
        ),
        Operation::PutObject {
            bucket,
            key,
            object,
            precondition,
            copied,
        } => {
            let change = Change::PutObject {
                bucket,
                key,
                object,
                precondition,
                copied,
            };
            (Some(bucket), Some(change))
        }
        Operation::DeleteObject {
            bucket,
            key,
            version,
            precondition,
            bypass,
        } => (
            Some(bucket),
            Some(Change::DeleteObject {
                bucket,
                key,
                version,
                precondition,
                bypass,
            }),
        ),
        Operation::PutObjectLock { bucket, lock } => {
            (Some(bucket), Some(Change::PutObjectLock { bucket, lock }))
        }
        Operation::ChangeAttributes {
            bucket,
            key,
            version,
            change,
        } => {
            let change = Change::ChangeAttributes {
                bucket,
                key,
                version,
                change,
            };
            (Some(bucket), Some(change))
        }
        Operation::RenameObject {
            bucket,
            source,
            key,
            source_conditions,
            conditions,
            token,
        } => {
            let change = Change::RenameObject {
                bucket,
                source,
                key,
                source_conditions,
                conditions,
                token,
            };
            (Some(bucket), Some(change))
        }
        Operation::CreateUpload { bucket, upload } => {
            (Some(bucket), Some(Change::CreateUpload { bucket, upload }))
        }
        Operation::PutPart {
            bucket,
            key,
            upload,
            number,
            part,
            copied,
        } => {
            let change = Change::PutPart {
                bucket,
                key,
                upload,
                number,
                part,
                copied,
            };
            (Some(bucket), Some(change))
        }
        Operation::CompleteUpload {
            bucket,
            key,
            upload,
            parts,
            etag,
            checksum,
            precondition,
        } => {
            let change = Change::CompleteUpload {
                bucket,
                key,
                upload,
                parts,
                etag,
                checksum,
                precondition,
            };
            (Some(bucket), Some(change))
        }
        Operation::AbortUpload {
            bucket,
            key,
            upload,
        } => (
            Some(bucket),
            Some(Change::AbortUpload {
                bucket,
                key,
                upload,
            }),
        ),
        Operation::AddAlias { name, alias } => (None, Some(Change::AddAlias { name, alias })),
        Operation::RemoveAlias { name, alias } => (None, Some(Change::RemoveAlias { name, alias })),
        Operation::SetQuota { bucket, quota } => {
            (Some(bucket), Some(Change::SetQuota { bucket, quota }))
        }
        _ => (None, None),
    }
}
