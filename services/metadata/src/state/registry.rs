//! Access keys, rights and buckets: the registry in shard 0, and a bucket's own row in its shard.

use super::Outcome;
use super::aliases;
use super::changes::{self, Changes, any, each};
use super::rows::{self, BucketRow, Registry};
use super::settings;
use super::store::Rows;
use crate::Error;
use protocol::block::HashKey;
use protocol::metadata::{
    AccessKey, Bucket, BucketId, BucketUsage, MetadataError, ObjectLock, Reply, Rights, Versioning,
};
use std::ops::ControlFlow;

/// What the creator of a bucket and every root key may do.
const ALL: Rights = Rights {
    read: true,
    write: true,
    owner: true,
};

fn registry<R: Rows>(rows: &R) -> Result<Registry, Error> {
    let registry: Option<Registry> = changes::get(rows, &rows::registry(), "registry")?;
    // Buckets are numbered from 1, so that a forgotten number is no bucket's.
    Ok(registry.unwrap_or(Registry {
        next_bucket: 1,
        ..Registry::default()
    }))
}

/// The present revision of keys, rights and buckets.
pub fn revision<R: Rows>(rows: &R) -> Result<u64, Error> {
    Ok(registry(rows)?.revision)
}

/// The number that the next bucket will get.
pub fn next_bucket<R: Rows>(rows: &R) -> Result<BucketId, Error> {
    Ok(BucketId(registry(rows)?.next_bucket))
}

pub(super) fn find_key<R: Rows>(rows: &R, access_key: &str) -> Result<Option<AccessKey>, Error> {
    changes::get(rows, &rows::access_key(access_key), "access key")
}

/// The bucket of that name or alias.
pub fn find_bucket<R: Rows>(rows: &R, name: &str) -> Result<Option<Bucket>, Error> {
    match changes::get(rows, &rows::bucket_name(name), "bucket")? {
        Some(bucket) => Ok(Some(bucket)),
        None => aliases::find(rows, name),
    }
}

/// The bucket's row in its own shard.
pub(super) fn bucket_row<R: Rows>(rows: &R, id: BucketId) -> Result<Option<BucketRow>, Error> {
    changes::get(rows, &rows::bucket(id), "bucket in its shard")
}

/// Whether objects may be in the bucket.
pub(super) fn is_open<R: Rows>(rows: &R, id: BucketId) -> Result<bool, Error> {
    Ok(bucket_row(rows, id)?.is_some_and(|bucket| bucket.open))
}

/// How much a bucket of this shard holds; nothing, if there is no such bucket.
pub fn usage<R: Rows>(rows: &R, id: BucketId) -> Result<BucketUsage, Error> {
    Ok(bucket_row(rows, id)?
        .map(|bucket| bucket.usage)
        .unwrap_or_default())
}

/// Whether a bucket of this shard has or had versioning: deleting from it adds delete markers.
pub fn is_versioned<R: Rows>(rows: &R, id: BucketId) -> Result<bool, Error> {
    Ok(bucket_row(rows, id)?.is_some_and(|bucket| bucket.versioning != Versioning::Off))
}

pub(super) fn authorize<R: Rows>(
    rows: &R,
    access_key: Option<&str>,
    bucket: Option<&str>,
) -> Result<Outcome, Error> {
    let key = match access_key {
        None => None,
        Some(access_key) => match find_key(rows, access_key)? {
            Some(key) => Some(key),
            None => return Ok(Err(MetadataError::NoSuchAccessKey)),
        },
    };
    let bucket = match bucket {
        Some(name) => find_bucket(rows, name)?,
        None => None,
    };
    let rights = match (&key, &bucket) {
        (Some(key), _) if key.root => ALL,
        (Some(key), Some(bucket)) => {
            let row = rows::rights(&key.access_key, &bucket.name);
            changes::get(rows, &row, "rights")?.unwrap_or_default()
        }
        _ => Rights::default(),
    };
    let documents = settings::access_documents(rows, access_key, bucket.as_ref())?;
    Ok(Ok(Reply::Authorized {
        key,
        bucket,
        rights,
        documents,
    }))
}

pub(super) fn first_key<R: Rows>(
    changes: &mut Changes<'_, R>,
    key: &AccessKey,
) -> Result<Outcome, Error> {
    let Some(root) = registry(changes.rows)?.root else {
        return create_key(
            changes,
            &AccessKey {
                root: true,
                ..key.clone()
            },
        );
    };
    let key = find_key(changes.rows, &root)?.ok_or(Error::Damaged("root key"))?;
    Ok(Ok(Reply::Key(key)))
}

pub(super) fn create_key<R: Rows>(
    changes: &mut Changes<'_, R>,
    key: &AccessKey,
) -> Result<Outcome, Error> {
    let (by_id, by_name) = (rows::access_key(&key.access_key), rows::key_name(&key.name));
    if changes.has(&by_id)? || changes.has(&by_name)? {
        return Ok(Err(MetadataError::KeyExists));
    }
    let key = AccessKey {
        created_ms: changes.at_ms,
        ..key.clone()
    };
    changes.put(by_id, &key)?;
    changes.put(by_name, &key.access_key)?;
    let mut registry = registry(changes.rows)?;
    if key.root {
        registry.roots += 1;
        registry.root.get_or_insert_with(|| key.access_key.clone());
    }
    revise(changes, registry)?;
    Ok(Ok(Reply::Key(key)))
}

pub(super) fn delete_key<R: Rows>(
    changes: &mut Changes<'_, R>,
    access_key: &str,
) -> Result<Outcome, Error> {
    let Some(key) = find_key(changes.rows, access_key)? else {
        return Ok(Err(MetadataError::NoSuchAccessKey));
    };
    let mut registry = registry(changes.rows)?;
    if key.root {
        if registry.roots <= 1 {
            let why = "this is the last root key: make another one first";
            return Ok(Err(MetadataError::Refused(why.into())));
        }
        registry.roots -= 1;
        if registry.root.as_deref() == Some(access_key) {
            registry.root = another_root(changes.rows, access_key)?;
        }
    }
    for bucket in buckets_of(changes.rows, access_key)? {
        changes.delete(rows::rights(access_key, &bucket));
        changes.delete(rows::rights_back(&bucket, access_key));
    }
    changes.delete(rows::key_policy(access_key));
    changes.delete(rows::access_key(access_key));
    changes.delete(rows::key_name(&key.name));
    revise(changes, registry)?;
    Ok(Ok(Reply::Done))
}

pub(super) fn set_rights<R: Rows>(
    changes: &mut Changes<'_, R>,
    access_key: &str,
    bucket: &str,
    rights: Rights,
) -> Result<Outcome, Error> {
    if !changes.has(&rows::access_key(access_key))? {
        return Ok(Err(MetadataError::NoSuchAccessKey));
    }
    let Some(found) = find_bucket(changes.rows, bucket)? else {
        return Ok(Err(MetadataError::NoSuchBucket));
    };
    let bucket = found.name.as_str();
    if rights == Rights::default() {
        changes.delete(rows::rights(access_key, bucket));
        changes.delete(rows::rights_back(bucket, access_key));
    } else {
        put_rights(changes, access_key, bucket, rights)?;
    }
    raise_revision(changes)?;
    Ok(Ok(Reply::Done))
}

/// What nodes remember of the registry is old from now on.
pub(super) fn raise_revision<R: Rows>(changes: &mut Changes<'_, R>) -> Result<(), Error> {
    let registry = registry(changes.rows)?;
    revise(changes, registry)
}

pub(super) fn register_bucket<R: Rows>(
    changes: &mut Changes<'_, R>,
    id: BucketId,
    name: &str,
    owner: &str,
    hash_key: HashKey,
    versioned: bool,
) -> Result<Outcome, Error> {
    if let Some(bucket) = find_bucket(changes.rows, name)? {
        return Ok(Err(MetadataError::BucketExists {
            owner: bucket.owner,
        }));
    }
    let mut registry = registry(changes.rows)?;
    if id.0 < registry.next_bucket {
        let why = "the number was given to another bucket meanwhile: ask again";
        return Ok(Err(MetadataError::Unavailable(why.into())));
    }
    if !owner.is_empty() {
        if !changes.has(&rows::access_key(owner))? {
            return Ok(Err(MetadataError::NoSuchAccessKey));
        }
        put_rights(changes, owner, name, ALL)?;
    }
    let bucket = Bucket {
        id,
        name: name.into(),
        owner: owner.into(),
        created_ms: changes.at_ms,
        hash_key,
        versioned,
        aliases: Vec::new(),
    };
    changes.put(rows::bucket_name(name), &bucket)?;
    registry.next_bucket = id.0 + 1;
    revise(changes, registry)?;
    Ok(Ok(Reply::Bucket(bucket)))
}

pub(super) fn unregister_bucket<R: Rows>(
    changes: &mut Changes<'_, R>,
    id: BucketId,
    name: &str,
) -> Result<Outcome, Error> {
    // Repeated, the name may be another bucket's by now.
    let Some(bucket) = find_bucket(changes.rows, name)?.filter(|bucket| bucket.id == id) else {
        return Ok(Ok(Reply::Done));
    };
    for access_key in keys_of(changes.rows, name)? {
        changes.delete(rows::rights(&access_key, name));
        changes.delete(rows::rights_back(name, &access_key));
    }
    settings::forget(changes, id)?;
    aliases::forget(changes, &bucket);
    changes.delete(rows::bucket_name(name));
    revised(changes)
}

/// The bucket of that number and name has versions from now on, which its users must know.
pub(super) fn mark_versioned<R: Rows>(
    changes: &mut Changes<'_, R>,
    id: BucketId,
    name: &str,
) -> Result<Outcome, Error> {
    let Some(bucket) = find_bucket(changes.rows, name)?.filter(|bucket| bucket.id == id) else {
        return Ok(Err(MetadataError::NoSuchBucket));
    };
    if !bucket.versioned {
        let bucket = Bucket {
            versioned: true,
            ..bucket
        };
        changes.put(rows::bucket_name(name), &bucket)?;
        let registry = registry(changes.rows)?;
        revise(changes, registry)?;
    }
    Ok(Ok(Reply::Done))
}

pub(super) fn open_bucket<R: Rows>(
    changes: &mut Changes<'_, R>,
    id: BucketId,
    name: &str,
    locked: bool,
) -> Result<Outcome, Error> {
    // A row may be left of a creation that was cut off before its bucket got a name; nothing can have entered it.
    let left = bucket_row(changes.rows, id)?;
    if left.as_ref().is_some_and(|row| row.usage.objects > 0) {
        let why = "a bucket of this number is in use";
        return Ok(Err(MetadataError::Refused(why.into())));
    }
    if left.is_some_and(|row| row.notifies) {
        changes.delete(rows::notification(id));
    }
    let bucket = BucketRow {
        name: name.into(),
        open: true,
        usage: BucketUsage::default(),
        versioning: match locked {
            true => Versioning::Enabled,
            false => Versioning::Off,
        },
        lock: locked.then(ObjectLock::default),
        last_version: 0,
        notifies: false,
    };
    changes.put(rows::bucket(id), &bucket)?;
    Ok(Ok(Reply::Done))
}

pub(super) fn close_bucket<R: Rows>(
    changes: &mut Changes<'_, R>,
    id: BucketId,
) -> Result<Outcome, Error> {
    let Some(bucket) = bucket_row(changes.rows, id)? else {
        return Ok(Err(MetadataError::NoSuchBucket));
    };
    let uploads = any(changes.rows, rows::listed_uploads(id, ""))?;
    // Delete markers are not counted.
    let versions = any(changes.rows, rows::older(id, ""))?;
    if bucket.usage.objects > 0 || uploads || versions {
        return Ok(Err(MetadataError::BucketNotEmpty));
    }
    changes.put(
        rows::bucket(id),
        &BucketRow {
            open: false,
            ..bucket
        },
    )?;
    Ok(Ok(Reply::Done))
}

pub(super) fn forget_bucket<R: Rows>(
    changes: &mut Changes<'_, R>,
    id: BucketId,
) -> Result<Outcome, Error> {
    if let Some(row) = bucket_row(changes.rows, id)?.filter(|row| !row.open) {
        if row.notifies {
            changes.delete(rows::notification(id));
        }
        changes.delete(rows::bucket(id));
    }
    Ok(Ok(Reply::Done))
}

/// Every bucket that has a name, in order of the names.
pub fn registered<R: Rows>(rows: &R, mut show: impl FnMut(Bucket)) -> Result<(), Error> {
    let from = rows::bucket_name("");
    each(rows, &from, &rows::behind(from.clone()), |_, value| {
        show(rows::decode(value, "bucket")?);
        Ok(ControlFlow::Continue(()))
    })
}

/// A bucket in its own shard, for those who look after shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its number.
    pub id: BucketId,
    /// Its name, if it got one.
    pub name: String,
    /// Not being deleted.
    pub open: bool,
    /// What it holds.
    pub usage: BucketUsage,
    /// Has or had versioning.
    pub versioned: bool,
}

/// Every bucket that has a row in this shard.
pub fn rowed<R: Rows>(rows: &R, mut show: impl FnMut(Place)) -> Result<(), Error> {
    let from = rows::buckets();
    each(rows, &from, &rows::behind(from.clone()), |key, value| {
        let row: BucketRow = rows::decode(value, "bucket in its shard")?;
        let id = rows::bucket_of(key)?;
        show(Place {
            id,
            name: row.name,
            open: row.open,
            usage: row.usage,
            versioned: row.versioning != Versioning::Off,
        });
        Ok(ControlFlow::Continue(()))
    })
}

fn put_rights<R: Rows>(
    changes: &mut Changes<'_, R>,
    access_key: &str,
    bucket: &str,
    rights: Rights,
) -> Result<(), Error> {
    changes.put(rows::rights(access_key, bucket), &rights)?;
    changes.put_mark(rows::rights_back(bucket, access_key));
    Ok(())
}

/// The registry has changed, and that was all.
pub(super) fn revised<R: Rows>(changes: &mut Changes<'_, R>) -> Result<Outcome, Error> {
    let registry = registry(changes.rows)?;
    revise(changes, registry)?;
    Ok(Ok(Reply::Done))
}

fn revise<R: Rows>(changes: &mut Changes<'_, R>, registry: Registry) -> Result<(), Error> {
    let revision = registry.revision + 1;
    changes.put(
        rows::registry(),
        &Registry {
            revision,
            ..registry
        },
    )
}

fn another_root<R: Rows>(rows: &R, than: &str) -> Result<Option<String>, Error> {
    let from = rows::access_key("");
    let mut root = None;
    each(rows, &from, &rows::behind(from.clone()), |_, value| {
        let key: AccessKey = rows::decode(value, "access key")?;
        if key.root && key.access_key != than {
            root = Some(key.access_key);
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(root)
}

/// The names of the buckets that a key has rights on.
fn buckets_of<R: Rows>(rows: &R, access_key: &str) -> Result<Vec<String>, Error> {
    rests(rows, rows::rights(access_key, ""))
}

/// The keys that have rights on a bucket.
fn keys_of<R: Rows>(rows: &R, bucket: &str) -> Result<Vec<String>, Error> {
    rests(rows, rows::rights_back(bucket, ""))
}

/// What stands behind `prefix` in the keys that start so.
fn rests<R: Rows>(rows: &R, prefix: Vec<u8>) -> Result<Vec<String>, Error> {
    let mut rests = Vec::new();
    each(rows, &prefix, &rows::behind(prefix.clone()), |key, _| {
        let rest = key.get(prefix.len()..).unwrap_or_default();
        rests.push(String::from_utf8(rest.to_vec()).map_err(|_| Error::Damaged("rights"))?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(rests)
}
