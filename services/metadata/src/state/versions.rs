//! Versions: what becomes of the object that was, and how one of many is found, removed and shown to be the current one.
//!
//! The invariants of the rows stand in [`super::rows`].

use super::changes::{self, Changes, each};
use super::objects::{Place, drop_version, head};
use super::registry::bucket_row;
use super::rows::{self, ObjectHead, Older, Version};
use super::store::Rows;
use crate::Error;
use protocol::metadata::{BucketId, MetadataError, VersionId, Versioning};
use std::ops::ControlFlow;

/// Numbers per millisecond: the order of a version begins with the time, so that it is not used again in a bucket of the same name.
const ORDERS_PER_MS: u64 = 1 << 16;

/// The version that is asked for; `None` is the current one. The inner error says why there is none.
pub(super) fn find<R: Rows>(
    rows: &R,
    bucket: BucketId,
    key: &str,
    version: Option<VersionId>,
) -> Result<Result<ObjectHead, MetadataError>, Error> {
    let current = head(rows, bucket, key)?;
    let Some(version) = version else {
        return match current {
            Some(current) => Ok(Ok(current)),
            None => Ok(Err(why_absent(rows, bucket, key)?)),
        };
    };
    if let Some(current) = current.filter(|current| current.version.id() == version) {
        return Ok(Ok(current));
    }
    Ok(match older(rows, bucket, key, version)? {
        Some(Older::Object(found)) => Ok(found),
        Some(Older::Marker {
            version,
            modified_ms,
        }) => Err(marker(version, modified_ms)),
        None if bucket_row(rows, bucket)?.is_some_and(|row| row.open) => {
            Err(MetadataError::NoSuchVersion)
        }
        None => Err(MetadataError::NoSuchBucket),
    })
}

/// Why a key has no current object.
fn why_absent<R: Rows>(rows: &R, bucket: BucketId, key: &str) -> Result<MetadataError, Error> {
    let Some(place) = Place::find(rows, bucket, key)? else {
        return Ok(MetadataError::NoSuchBucket);
    };
    if place.row.versioning == Versioning::Off {
        return Ok(MetadataError::NoSuchKey);
    }
    Ok(match newest_older(rows, bucket, key, None)? {
        Some(Older::Marker {
            version,
            modified_ms,
        }) => marker(version, modified_ms),
        Some(Older::Object(_)) => return Err(Error::Damaged("version without a current one")),
        None => MetadataError::NoSuchKey,
    })
}

fn marker(version: Version, modified_ms: u64) -> MetadataError {
    MetadataError::DeleteMarker {
        version: version.id(),
        modified_ms,
    }
}

/// A version among the `v` rows.
pub(super) fn older<R: Rows>(
    rows: &R,
    bucket: BucketId,
    key: &str,
    version: VersionId,
) -> Result<Option<Older>, Error> {
    let order = match version {
        VersionId::Number(order) => Some(order),
        VersionId::Null => changes::get(rows, &rows::older_null(bucket, key), "null version")?,
    };
    let Some(order) = order else { return Ok(None) };
    let found: Option<Older> =
        changes::get(rows, &rows::older_version(bucket, key, order), "version")?;
    // The version `null` has an order, too, and is not to be had by it.
    Ok(found.filter(|older| older.version().id() == version))
}

/// The newest of a key's `v` rows, but for the one of order `but`.
fn newest_older<R: Rows>(
    rows: &R,
    bucket: BucketId,
    key: &str,
    but: Option<u64>,
) -> Result<Option<Older>, Error> {
    let from = rows::older_of(bucket, key);
    let mut newest = None;
    each(rows, &from, &rows::behind(from.clone()), |_, value| {
        let older: Older = rows::decode(value, "version")?;
        if Some(older.version().order) == but {
            return Ok(ControlFlow::Continue(()));
        }
        newest = Some(older);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(newest)
}

/// Prepares a key for a new version, and answers which one it is. `current` goes the way that the bucket's versioning wants.
pub(super) fn make_room<R: Rows>(
    changes: &mut Changes<'_, R>,
    place: &mut Place<'_>,
    current: Option<ObjectHead>,
) -> Result<Result<Version, MetadataError>, Error> {
    let versioning = place.row.versioning;
    match (versioning, current) {
        (Versioning::Off, None) => return Ok(Ok(Version::ONLY)),
        (Versioning::Off, Some(current)) => {
            return Ok(drop_version(changes, place, current, false)?.map(|()| Version::ONLY));
        }
        (Versioning::Suspended, Some(current)) if current.version.null => {
            changes.delete(rows::object(place.bucket, place.key));
            if let Err(error) = drop_version(changes, place, current, false)? {
                return Ok(Err(error));
            }
        }
        (_, Some(current)) => {
            changes.delete(rows::object(place.bucket, place.key));
            put_older(changes, place, Older::Object(current))?;
        }
        (_, None) => {}
    }
    let null = versioning == Versioning::Suspended;
    if null {
        let older = older(changes.rows, place.bucket, place.key, VersionId::Null)?;
        if let Some(older) = older
            && let Err(error) = remove_older(changes, place, older, false)?
        {
            return Ok(Err(error));
        }
    }
    let now = changes.at_ms.saturating_mul(ORDERS_PER_MS);
    let next = place.row.last_version.checked_add(1);
    let order = next.ok_or(Error::Damaged("number of a version"))?.max(now);
    place.row.last_version = order;
    Ok(Ok(Version { order, null }))
}

/// A delete marker becomes the newest version of a key; answers which one it is.
pub(super) fn mark_deleted<R: Rows>(
    changes: &mut Changes<'_, R>,
    place: &mut Place<'_>,
    current: Option<ObjectHead>,
) -> Result<Result<VersionId, MetadataError>, Error> {
    let version = match make_room(changes, place, current)? {
        Ok(version) => version,
        Err(error) => return Ok(Err(error)),
    };
    let modified_ms = changes.at_ms;
    put_older(
        changes,
        place,
        Older::Marker {
            version,
            modified_ms,
        },
    )?;
    Ok(Ok(version.id()))
}

/// What a removal found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removed {
    /// No such version, so nothing was removed.
    Nothing,
    /// An object.
    Object,
    /// A delete marker.
    Marker,
}

/// Removes exactly one version. If it was the newest, the one before is current again.
pub(super) fn remove<R: Rows>(
    changes: &mut Changes<'_, R>,
    place: &mut Place<'_>,
    current: Option<ObjectHead>,
    version: VersionId,
    bypass: bool,
) -> Result<Result<Removed, MetadataError>, Error> {
    let is_deleted = current.is_none();
    if let Some(current) = current.filter(|current| current.version.id() == version) {
        changes.delete(rows::object(place.bucket, place.key));
        if let Err(error) = drop_version(changes, place, current, bypass)? {
            return Ok(Err(error));
        }
        promote(changes, place, None)?;
        return Ok(Ok(Removed::Object));
    }
    let Some(older) = older(changes.rows, place.bucket, place.key, version)? else {
        return Ok(Ok(Removed::Nothing));
    };
    let (order, removed) = match &older {
        Older::Object(head) => (head.version.order, Removed::Object),
        Older::Marker { version, .. } => (version.order, Removed::Marker),
    };
    if let Err(error) = remove_older(changes, place, older, bypass)? {
        return Ok(Err(error));
    }
    if is_deleted {
        promote(changes, place, Some(order))?;
    }
    Ok(Ok(removed))
}

/// Makes the newest of the `v` rows the current version, unless it is a delete marker. The row of order `but` is being removed.
fn promote<R: Rows>(
    changes: &mut Changes<'_, R>,
    place: &Place<'_>,
    but: Option<u64>,
) -> Result<(), Error> {
    // Without versions there are none, which need not be looked for.
    if place.row.versioning == Versioning::Off {
        return Ok(());
    }
    let newest = newest_older(changes.rows, place.bucket, place.key, but)?;
    if let Some(Older::Object(newest)) = newest {
        delete_older(changes, place, newest.version);
        changes.put(rows::object(place.bucket, place.key), &newest)?;
    }
    Ok(())
}

fn put_older<R: Rows>(
    changes: &mut Changes<'_, R>,
    place: &Place<'_>,
    older: Older,
) -> Result<(), Error> {
    let Version { order, null } = older.version();
    if null {
        changes.put(rows::older_null(place.bucket, place.key), &order)?;
    }
    changes.put(rows::older_version(place.bucket, place.key, order), &older)
}

/// Removes the rows that make a version one of the older ones.
fn delete_older<R: Rows>(changes: &mut Changes<'_, R>, place: &Place<'_>, version: Version) {
    if version.null {
        changes.delete(rows::older_null(place.bucket, place.key));
    }
    changes.delete(rows::older_version(place.bucket, place.key, version.order));
}

fn remove_older<R: Rows>(
    changes: &mut Changes<'_, R>,
    place: &mut Place<'_>,
    older: Older,
    bypass: bool,
) -> Result<Result<(), MetadataError>, Error> {
    delete_older(changes, place, older.version());
    match older {
        Older::Object(head) => drop_version(changes, place, head, bypass),
        Older::Marker { .. } => Ok(Ok(())),
    }
}

/// Puts back the head of a version after a change of its attributes, where it is.
pub(super) fn put_back<R: Rows>(
    changes: &mut Changes<'_, R>,
    bucket: BucketId,
    key: &str,
    head: ObjectHead,
) -> Result<(), Error> {
    let version = head.version;
    let current = super::objects::head(changes.rows, bucket, key)?;
    match current.is_some_and(|current| current.version == version) {
        true => changes.put(rows::object(bucket, key), &head),
        false => changes.put(
            rows::older_version(bucket, key, version.order),
            &Older::Object(head),
        ),
    }
}
