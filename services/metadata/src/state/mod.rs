//! The state of one shard as a pure machine: rows in, command in, rows and reply out.
//!
//! Free of clock, randomness and I/O of its own: whoever proposes a command stamps the time and everything random into it, so every
//! replica that applies the same commands in the same order holds the same rows, byte for byte. A command that is refused
//! changes nothing (but see [`apply`] on the blocks of a refused write).
//!
//! Shard 0 also holds the registry: access keys, rights and the names of buckets. A bucket's objects live in one shard.

mod aliases;
mod bounds;
mod changes;
mod layout;
mod lifecycle;
mod listing;
mod locks;
mod notifications;
mod objects;
mod quotas;
mod registry;
mod renaming;
mod roster;
mod rows;
mod schedule;
mod settings;
mod store;
mod sweeping;
mod uploads;
mod version_listing;
mod versions;

#[cfg(test)]
pub(crate) mod tests;

pub use bounds::check;
pub use layout::{Arrangement, Layout, LayoutChange, Moving, layout, wished_copies};
pub use lifecycle::{Cursor, Due, Expired, Look, look};
pub(crate) use listing::Room;
pub use notifications::next_events;
pub use registry::{
    Place, find_bucket, is_versioned, next_bucket, registered, revision, rowed, usage,
};
pub use roster::{ClusterChange, is_invited, roster};
pub use schedule::{Rolling, STOPPED_BYTES_MAX, Schedule, ScheduleChange, schedule};
pub use settings::lifecycles;
pub use store::{MemoryStore, Rows, Store};
pub use sweeping::{garbage, has_barrier, is_referenced, reclaimable};

use crate::Error;
use changes::Changes;
use protocol::block::{BlockRef, Epoch, HashKey};
use protocol::metadata::{BucketId, Change, Content, MetadataError, Operation, Reply, Versioning};
use serde::{Deserialize, Serialize};

/// Number of the form of commands and rows on the disk: raised with each change by which one that was written before would be read as another,
/// here or in the types of `protocol::metadata` in them. A further kind behind the others changes none.
pub const FORMAT: u32 = 6;

/// What a command came to: a reply, or why it was refused.
pub type Outcome = Result<Reply, MetadataError>;

/// One change of the state, with everything that a replica must not find out for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// When it was proposed, milliseconds since 1970.
    pub at_ms: u64,
    /// What is to change.
    pub change: AnyChange,
}

/// One change of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of protocol::metadata")]
pub enum AnyChange {
    /// What a client asks for is one command.
    Asked(Change),
    /// The lifecycle removes a version, if it is still what was found.
    Expire {
        bucket: BucketId,
        key: String,
        what: Expired,
    },
    /// Shard 0: the bucket gets its name, after [`AnyChange::OpenBucket`]. Refused if the number was given out meanwhile.
    RegisterBucket {
        id: BucketId,
        name: String,
        owner: String,
        hash_key: HashKey,
        versioned: bool,
    },
    /// Shard 0: the bucket has versions from now on, after [`AnyChange::PutVersioning`]. Harmless to repeat.
    MarkVersioned { id: BucketId, name: String },
    /// Shard 0: the name is free again, after [`AnyChange::CloseBucket`]. Harmless to repeat.
    UnregisterBucket { id: BucketId, name: String },
    /// The bucket's shard: objects may enter. Harmless to repeat before the bucket is registered.
    OpenBucket {
        id: BucketId,
        name: String,
        locked: bool,
    },
    /// The bucket's shard: if it is empty, nothing enters it any more. Harmless to repeat.
    CloseBucket { id: BucketId },
    /// The bucket's shard: removes the row of a closed bucket, after its name. Harmless to repeat.
    ForgetBucket { id: BucketId },
    /// The bucket's shard: what becomes of its objects from now on.
    PutVersioning {
        bucket: BucketId,
        versioning: Versioning,
    },
    /// The sweep is done with these: the blocks are gone, or somebody refers to them again. Harmless to repeat.
    ForgetGarbage { garbage: Vec<(u64, BlockRef)> },
    /// One step of dropping the parts that nobody needs. Harmless to repeat.
    Reclaim,
    /// The events for a webhook up to this number were told. Refused for one that [`next_events`] cannot have shown. Harmless to repeat.
    ForgetEvents { webhook: String, upto: u64 },
    /// Shard 0: which nodes keep blocks.
    Layout(LayoutChange),
    /// Shard 0: who belongs to the cluster.
    Cluster(ClusterChange),
    /// Shard 0: which services run where.
    Schedule(ScheduleChange),
    /// What a client asks for, with blocks that several nodes share: enough of them had each one at these moments. Refused with
    /// [`MetadataError::BlocksStale`], and nothing else changed, behind a barrier that is later than one of them.
    Brought { change: Change, witness: Vec<Epoch> },
    /// A store of blocks has condemned some: from now on no write is taken that saw its blocks there earlier. Refused if a later moment of the store is known: its disk was
    /// put back. Harmless to repeat.
    Barrier { since: Epoch },
}

impl From<Change> for AnyChange {
    fn from(change: Change) -> Self {
        Self::Asked(change)
    }
}

/// Applies one command and answers what came of it.
///
/// A refused command changes nothing, with one exception: blocks that came with a refused put and that nobody refers to become
/// garbage at once, so that a stream of refused conditional writes does not fill the disk until the next full sweep.
///
/// Errors only where the store fails or a row is damaged; then nothing was changed.
pub fn apply<S: Store>(store: &mut S, command: &Command) -> Result<Outcome, Error> {
    let mut changes = Changes::new(&*store, command.at_ms);
    let outcome = change(&mut changes, &command.change)?;
    if outcome.is_err() {
        let brought = match &command.change {
            AnyChange::Asked(change) => brought_blocks(change),
            AnyChange::Brought { change, .. }
                if !matches!(outcome, Err(MetadataError::BlocksStale(_))) =>
            {
                brought_blocks(change)
            }
            _ => &[],
        };
        changes.abandon(brought)?;
    }
    // From here on nothing fails, so a command is applied as a whole or not at all.
    for (key, value) in changes.finish()? {
        match value {
            Some(value) => store.put(key, value),
            None => store.delete(key),
        }
    }
    Ok(outcome)
}

/// The blocks that a put brings with it; those of a copy belong to somebody else.
pub fn brought_blocks(change: &Change) -> &[BlockRef] {
    match change {
        Change::PutObject {
            object,
            copied: false,
            ..
        } => match &object.content {
            Content::Blocks(blocks) => blocks,
            _ => &[],
        },
        Change::PutPart {
            part,
            copied: false,
            ..
        } => &part.blocks,
        _ => &[],
    }
}

/// The answer to a read that needs this shard only. `None`: the operation is not such a read.
///
/// [`Operation::ListBuckets`] leaves the usage empty: it stands in the buckets' own shards ([`usage`]).
pub fn read<R: Rows>(rows: &R, operation: &Operation) -> Result<Option<Outcome>, Error> {
    Ok(Some(match operation {
        Operation::Authorize { access_key, bucket } => {
            registry::authorize(rows, access_key.as_deref(), bucket.as_deref())?
        }
        Operation::GetKeyPolicy { access_key } => settings::get_key_policy(rows, access_key)?,
        Operation::GetBucketSetting { bucket, kind } => settings::get(rows, *bucket, *kind)?,
        Operation::ListKeys { after, limit } => listing::keys(rows, after.as_deref(), *limit)?,
        Operation::ListBuckets {
            access_key,
            after,
            limit,
        } => listing::buckets(rows, access_key.as_deref(), after.as_deref(), *limit)?,
        Operation::GetObject {
            bucket,
            key,
            version,
        } => objects::get(rows, *bucket, key, *version)?,
        Operation::Roster => Ok(Reply::Roster(roster(rows)?)),
        Operation::GetUsage { bucket } => Ok(Reply::Usage(usage(rows, *bucket)?)),
        Operation::GetVersioning { bucket } => locks::get_versioning(rows, *bucket)?,
        Operation::GetNotification { bucket } => notifications::get(rows, *bucket)?,
        Operation::ListVersions {
            bucket,
            prefix,
            delimiter,
            after,
            limit,
        } => {
            let which = listing::Which { prefix, delimiter };
            version_listing::versions(rows, *bucket, &which, after.as_ref(), *limit)?
        }
        Operation::ListObjectParts {
            bucket,
            upload,
            after,
            limit,
        } => listing::object_parts(rows, *bucket, upload, *after, *limit)?,
        Operation::GetPart {
            bucket,
            upload,
            number,
        } => uploads::get_part(rows, *bucket, upload, *number)?,
        Operation::ListObjects {
            bucket,
            prefix,
            delimiter,
            after,
            limit,
        } => {
            let which = listing::Which { prefix, delimiter };
            listing::objects(rows, *bucket, &which, after.as_ref(), *limit)?
        }
        Operation::GetUpload {
            bucket,
            key,
            upload,
        } => uploads::get(rows, *bucket, key, upload)?,
        Operation::ListUploads {
            bucket,
            prefix,
            after,
            limit,
        } => {
            let after = after
                .as_ref()
                .map(|(key, upload)| (key.as_str(), upload.as_str()));
            listing::uploads(rows, *bucket, prefix, after, *limit)?
        }
        Operation::ListParts {
            bucket,
            key,
            upload,
            after,
            limit,
        } => listing::parts(rows, *bucket, (key, upload), *after, *limit)?,
        _ => return Ok(None),
    }))
}

fn change<R: Rows>(changes: &mut Changes<'_, R>, change: &AnyChange) -> Result<Outcome, Error> {
    match change {
        AnyChange::Asked(change) => asked(changes, change),
        AnyChange::Expire { bucket, key, what } => lifecycle::expire(changes, *bucket, key, *what),
        AnyChange::RegisterBucket {
            id,
            name,
            owner,
            hash_key,
            versioned,
        } => registry::register_bucket(changes, *id, name, owner, *hash_key, *versioned),
        AnyChange::MarkVersioned { id, name } => registry::mark_versioned(changes, *id, name),
        AnyChange::UnregisterBucket { id, name } => registry::unregister_bucket(changes, *id, name),
        AnyChange::OpenBucket { id, name, locked } => {
            registry::open_bucket(changes, *id, name, *locked)
        }
        AnyChange::CloseBucket { id } => registry::close_bucket(changes, *id),
        AnyChange::ForgetBucket { id } => registry::forget_bucket(changes, *id),
        AnyChange::PutVersioning { bucket, versioning } => {
            locks::put_versioning(changes, *bucket, *versioning)
        }
        AnyChange::ForgetGarbage { garbage } => sweeping::forget(changes, garbage),
        AnyChange::Reclaim => sweeping::reclaim(changes),
        AnyChange::ForgetEvents { webhook, upto } => notifications::forget(changes, webhook, *upto),
        AnyChange::Layout(change) => layout::change(changes, change),
        AnyChange::Cluster(change) => roster::change(changes, change),
        AnyChange::Schedule(change) => schedule::change(changes, change),
        AnyChange::Brought { change, witness } => {
            let begun = sweeping::begun_since(changes.rows, witness)?;
            match begun.is_empty() {
                true => asked(changes, change),
                false => Ok(Err(MetadataError::BlocksStale(begun))),
            }
        }
        AnyChange::Barrier { since } => sweeping::raise(changes, *since),
    }
}

fn asked<R: Rows>(changes: &mut Changes<'_, R>, change: &Change) -> Result<Outcome, Error> {
    match change {
        Change::FirstKey { key } => registry::first_key(changes, key),
        Change::CreateKey { key } => registry::create_key(changes, key),
        Change::DeleteKey { access_key } => registry::delete_key(changes, access_key),
        Change::SetRights {
            access_key,
            bucket,
            rights,
        } => registry::set_rights(changes, access_key, bucket, *rights),
        Change::SetKeyPolicy { access_key, policy } => {
            settings::set_key_policy(changes, access_key, policy.as_deref())
        }
        Change::SetBucketSetting {
            name,
            bucket,
            kind,
            document,
        } => settings::set(changes, (name, *bucket), *kind, document.as_deref()),
        Change::PutObject {
            bucket,
            key,
            object,
            precondition,
            copied,
            event,
        } => objects::put(
            changes,
            (*bucket, key),
            object,
            precondition,
            *copied,
            *event,
        ),
        Change::DeleteObject {
            bucket,
            key,
            version,
            precondition,
            bypass,
        } => {
            let deletion = objects::Deletion {
                version: *version,
                precondition,
                bypass: *bypass,
                by: notifications::By::Request,
            };
            objects::delete(changes, *bucket, key, &deletion)
        }
        Change::PutObjectLock { bucket, lock } => locks::put_lock(changes, *bucket, *lock),
        Change::ChangeAttributes {
            bucket,
            key,
            version,
            change,
        } => locks::change_attributes(changes, *bucket, key, *version, change),
        Change::RenameObject {
            bucket,
            source,
            key,
            source_conditions,
            conditions,
            token,
        } => {
            let rename = renaming::Rename {
                source,
                key,
                source_conditions,
                conditions,
                token: token.as_deref(),
            };
            renaming::rename(changes, *bucket, &rename)
        }
        Change::CreateUpload { bucket, upload } => uploads::create(changes, *bucket, upload),
        Change::PutPart {
            bucket,
            key,
            upload,
            number,
            part,
            copied,
        } => uploads::put_part(changes, *bucket, (key, upload), *number, part, *copied),
        Change::CompleteUpload {
            bucket,
            key,
            upload,
            parts,
            etag,
            checksum,
            precondition,
        } => {
            let whole = uploads::Whole {
                parts,
                etag,
                checksum,
                precondition,
            };
            uploads::complete(changes, *bucket, (key, upload), &whole)
        }
        Change::AbortUpload {
            bucket,
            key,
            upload,
        } => uploads::abort(changes, *bucket, key, upload),
        Change::AddAlias { name, alias } => aliases::add(changes, name, alias),
        Change::RemoveAlias { name, alias } => aliases::remove(changes, name, alias),
        Change::SetQuota { bucket, quota } => quotas::set(changes, *bucket, *quota),
        Change::PutNotification {
            bucket,
            notification,
        } => notifications::put(changes, *bucket, notification),
    }
}
