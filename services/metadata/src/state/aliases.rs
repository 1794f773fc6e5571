//! Further names of buckets. A name is one bucket's only, be it the bucket's own or an alias; the bucket's row lists its aliases, and a row
//! for each leads from the alias to the bucket.

use super::Outcome;
use super::changes::{self, Changes};
use super::registry::{find_bucket, revised};
use super::rows;
use super::store::Rows;
use crate::Error;
use protocol::metadata::{ALIASES_MAX, Bucket, MetadataError, Reply};

/// The bucket that has this alias.
pub(super) fn find<R: Rows>(rows: &R, alias: &str) -> Result<Option<Bucket>, Error> {
    let Some(name) = changes::get::<R, String>(rows, &rows::alias(alias), "alias")? else {
        return Ok(None);
    };
    let bucket = changes::get(rows, &rows::bucket_name(&name), "bucket")?;
    Ok(Some(bucket.ok_or(Error::Damaged("alias of no bucket"))?))
}

pub(super) fn add<R: Rows>(
    changes: &mut Changes<'_, R>,
    name: &str,
    alias: &str,
) -> Result<Outcome, Error> {
    let Some(mut bucket) = find_bucket(changes.rows, name)? else {
        return Ok(Err(MetadataError::NoSuchBucket));
    };
    if let Some(other) = find_bucket(changes.rows, alias)? {
        let repeated = bucket.id == other.id && other.aliases.iter().any(|one| one == alias);
        return Ok(match repeated {
            true => Ok(Reply::Done),
            false => Err(MetadataError::BucketExists { owner: other.owner }),
        });
    }
    if bucket.aliases.len() >= ALIASES_MAX {
        return Ok(Err(MetadataError::TooManyAliases));
    }
    bucket.aliases.push(alias.to_owned());
    changes.put(rows::alias(alias), &bucket.name)?;
    changes.put(rows::bucket_name(&bucket.name), &bucket)?;
    revised(changes)
}

pub(super) fn remove<R: Rows>(
    changes: &mut Changes<'_, R>,
    name: &str,
    alias: &str,
) -> Result<Outcome, Error> {
    let Some(mut bucket) = find_bucket(changes.rows, name)? else {
        return Ok(Err(MetadataError::NoSuchBucket));
    };
    let Some(at) = bucket.aliases.iter().position(|one| one == alias) else {
        return Ok(Err(MetadataError::NoSuchAlias));
    };
    bucket.aliases.remove(at);
    changes.delete(rows::alias(alias));
    changes.put(rows::bucket_name(&bucket.name), &bucket)?;
    revised(changes)
}

/// The bucket is being deleted.
pub(super) fn forget<R: Rows>(changes: &mut Changes<'_, R>, bucket: &Bucket) {
    for alias in &bucket.aliases {
        changes.delete(rows::alias(alias));
    }
}
