//! Objects: made visible, read, removed. Every change counts along what its bucket holds and who refers to which block.

use super::Outcome;
use super::changes::{self, Changes, references};
use super::locks;
use super::notifications::{self, By};
use super::quotas;
use super::registry::{bucket_row, is_open};
use super::rows::{self, BucketRow, CONTENT_HERE_BYTES_MAX, ObjectHead, Version};
use super::store::Rows;
use super::versions::{self, Removed};
use crate::Error;
use protocol::block::BlockRef;
use protocol::metadata::{
    BucketId, Content, EventKind, MetadataError, NewObject, Object, Precondition, Reply, VersionId,
    Versioning,
};

/// An object's key in its open bucket, whose row is written back with each change.
pub(super) struct Place<'k> {
    pub(super) bucket: BucketId,
    pub(super) key: &'k str,
    pub(super) row: BucketRow,
}

impl<'k> Place<'k> {
    /// `None`: there is no such bucket, or it is being deleted.
    pub(super) fn find<R: Rows>(
        rows: &R,
        bucket: BucketId,
        key: &'k str,
    ) -> Result<Option<Self>, Error> {
        let row = bucket_row(rows, bucket)?.filter(|row| row.open);
        Ok(row.map(|row| Self { bucket, key, row }))
    }

    /// What a version is called in an answer: nothing in a bucket without versions.
    pub(super) fn shown(&self, version: Version) -> Option<VersionId> {
        match self.row.versioning {
            Versioning::Off => None,
            Versioning::Enabled | Versioning::Suspended => Some(version.id()),
        }
    }
}

/// The current version, unless it is a delete marker.
pub(super) fn head<R: Rows>(
    rows: &R,
    bucket: BucketId,
    key: &str,
) -> Result<Option<ObjectHead>, Error> {
    changes::get(rows, &rows::object(bucket, key), "object")
}

/// The content of a version, `here` if it stands in its head.
pub(super) fn content<R: Rows>(
    rows: &R,
    bucket: BucketId,
    key: &str,
    version: Version,
    here: Option<Content>,
) -> Result<Content, Error> {
    match here {
        Some(content) => Ok(content),
        None => changes::get(rows, &rows::content(bucket, key, version), "content")?
            .ok_or(Error::Damaged("content, which is missing")),
    }
}

pub(super) fn get<R: Rows>(
    rows: &R,
    bucket: BucketId,
    key: &str,
    version: Option<VersionId>,
) -> Result<Outcome, Error> {
    let head = match versions::find(rows, bucket, key, version)? {
        Ok(head) => head,
        Err(error) => return Ok(Err(error)),
    };
    let content = content(rows, bucket, key, head.version, head.content)?;
    Ok(Ok(Reply::Object(Object {
        size: head.size,
        etag: head.etag,
        headers: head.headers,
        checksum: head.checksum,
        modified_ms: head.modified_ms,
        version: head.version.id(),
        attributes: head.attributes,
        encryption: head.encryption,
        content,
    })))
}

/// `error`, unless the whole bucket is absent.
pub(super) fn absent<R: Rows>(
    rows: &R,
    bucket: BucketId,
    error: MetadataError,
) -> Result<Outcome, Error> {
    Ok(Err(if is_open(rows, bucket)? {
        error
    } else {
        MetadataError::NoSuchBucket
    }))
}

pub(super) fn put<R: Rows>(
    changes: &mut Changes<'_, R>,
    (bucket, key): (BucketId, &str),
    object: &NewObject,
    precondition: &Precondition,
    copied: bool,
    event: EventKind,
) -> Result<Outcome, Error> {
    let Some(place) = Place::find(changes.rows, bucket, key)? else {
        return Ok(Err(MetadataError::NoSuchBucket));
    };
    let old = head(changes.rows, bucket, key)?;
    if let Err(error) = holds(precondition, old.as_ref()) {
        return Ok(Err(error));
    }
    if let Content::Blocks(blocks) = &object.content {
        if copied && !all_referenced(changes.rows, blocks)? {
            return Ok(Err(MetadataError::SourceChanged));
        }
        changes.refer(blocks);
    }
    let new = ObjectHead {
        size: object.size,
        etag: object.etag.clone(),
        modified_ms: changes.at_ms,
        checksum: object.checksum.clone(),
        version: Version::ONLY,
        headers: object.headers.clone(),
        attributes: object.attributes.clone(),
        encryption: object.encryption.clone(),
        renamed: None,
        content: Some(object.content.clone()),
    };
    write(changes, place, old, new, event)
}

/// What is to be deleted of a key, and for whom.
pub(super) struct Deletion<'a> {
    /// `None`: as the bucket's versioning wants it.
    pub(super) version: Option<VersionId>,
    pub(super) precondition: &'a Precondition,
    pub(super) bypass: bool,
    pub(super) by: By,
}

pub(super) fn delete<R: Rows>(
    changes: &mut Changes<'_, R>,
    bucket: BucketId,
    key: &str,
    deletion: &Deletion<'_>,
) -> Result<Outcome, Error> {
    let Some(mut place) = Place::find(changes.rows, bucket, key)? else {
        return Ok(Err(MetadataError::NoSuchBucket));
    };
    let current = head(changes.rows, bucket, key)?;
    if let Err(error) = holds(deletion.precondition, current.as_ref()) {
        return Ok(Err(error));
    }
    let bypass = deletion.bypass;
    // What is answered, and what is told.
    let deleted = match (deletion.version, place.row.versioning) {
        (Some(version), _) => {
            let removed = versions::remove(changes, &mut place, current, version, bypass)?;
            removed.map(|removed| {
                let told = (removed != Removed::Nothing).then(|| deletion.by.removed());
                (Some(version), removed == Removed::Marker, told)
            })
        }
        (None, Versioning::Off) => match current {
            None => Ok((None, false, None)),
            Some(current) => {
                changes.delete(rows::object(bucket, key));
                drop_version(changes, &mut place, current, bypass)?
                    .map(|()| (None, false, Some(deletion.by.removed())))
            }
        },
        (None, _) => versions::mark_deleted(changes, &mut place, current)?
            .map(|marker| (Some(marker), true, Some(deletion.by.marked()))),
    };
    let (version, marker, told) = match deleted {
        Ok(deleted) => deleted,
        Err(error) => return Ok(Err(error)),
    };
    if let Some(kind) = told {
        let shown = version.filter(|_| place.row.versioning != Versioning::Off);
        notifications::tell(changes, &place, kind, shown, None)?;
        changes.put(rows::bucket(bucket), &place.row)?;
    }
    Ok(Ok(Reply::Deleted { version, marker }))
}

/// Makes `new`, whose content is given and referred to, the current version: in place of `old`, which is the current one, or on top of it.
pub(super) fn write<R: Rows>(
    changes: &mut Changes<'_, R>,
    mut place: Place<'_>,
    old: Option<ObjectHead>,
    mut new: ObjectHead,
    event: EventKind,
) -> Result<Outcome, Error> {
    if let Err(error) = locks::begin(&mut new.attributes, place.row.lock, changes.at_ms) {
        return Ok(Err(error));
    }
    let before = place.row.usage;
    new.version = match versions::make_room(changes, &mut place, old)? {
        Ok(version) => version,
        Err(error) => return Ok(Err(error)),
    };
    let (etag, modified_ms, size) = (new.etag.clone(), new.modified_ms, new.size);
    let version = place.shown(new.version);
    insert(changes, &mut place, new)?;
    if let Err(error) = quotas::holds(&before, &place.row.usage) {
        return Ok(Err(error));
    }
    changes.put(rows::bucket(place.bucket), &place.row)?;
    notifications::tell(changes, &place, event, version, Some((size, &etag)))?;
    Ok(Ok(Reply::Written {
        etag,
        modified_ms,
        size,
        version,
    }))
}

/// Writes the rows of a new current version, whose content is given.
pub(super) fn insert<R: Rows>(
    changes: &mut Changes<'_, R>,
    place: &mut Place<'_>,
    mut new: ObjectHead,
) -> Result<(), Error> {
    if let Some(content) = new.content.take_if(|content| is_long(content)) {
        changes.put(
            rows::content(place.bucket, place.key, new.version),
            &content,
        )?;
    }
    changes.put(rows::object(place.bucket, place.key), &new)?;
    let usage = &mut place.row.usage;
    usage.objects = usage.objects.saturating_add(1);
    usage.bytes = usage.bytes.saturating_add(new.size);
    Ok(())
}

/// Lets go of a version, with everything that hangs on it but the row of its head. The one way in which a version ends, and so where its
/// protection is judged.
pub(super) fn drop_version<R: Rows>(
    changes: &mut Changes<'_, R>,
    place: &mut Place<'_>,
    old: ObjectHead,
    bypass: bool,
) -> Result<Result<(), MetadataError>, Error> {
    if locks::protect(&old.attributes, changes.at_ms, bypass) {
        return Ok(Err(MetadataError::Locked));
    }
    forget(changes, place, &old);
    let (bucket, key) = (place.bucket, place.key);
    let content = content(changes.rows, bucket, key, old.version, old.content)?;
    release(changes, bucket, content)?;
    Ok(Ok(()))
}

/// Removes the content row of a version, if it has one, and what it counts for. What it refers to is the caller's affair.
pub(super) fn forget<R: Rows>(
    changes: &mut Changes<'_, R>,
    place: &mut Place<'_>,
    old: &ObjectHead,
) {
    if old.content.is_none() {
        changes.delete(rows::content(place.bucket, place.key, old.version));
    }
    let usage = &mut place.row.usage;
    usage.objects = usage.objects.saturating_sub(1);
    usage.bytes = usage.bytes.saturating_sub(old.size);
}

/// Lets go of what an object's content refers to.
fn release<R: Rows>(
    changes: &mut Changes<'_, R>,
    bucket: BucketId,
    content: Content,
) -> Result<(), Error> {
    match content {
        Content::Inline(_) => Ok(()),
        Content::Blocks(blocks) => {
            changes.release(&blocks);
            Ok(())
        }
        Content::Parts { upload, .. } => changes.drop_parts(bucket, &upload, &[]),
    }
}

/// Judged at the instant of the write, on the object as it is then.
pub(super) fn holds(
    precondition: &Precondition,
    present: Option<&ObjectHead>,
) -> Result<(), MetadataError> {
    match (precondition, present) {
        (Precondition::None, _)
        | (Precondition::Absent, None)
        | (Precondition::Present, Some(_)) => Ok(()),
        (Precondition::Etag(etag), Some(head)) if *etag == head.etag => Ok(()),
        (Precondition::Etag(_), None) => Err(MetadataError::NoSuchKey),
        _ => Err(MetadataError::PreconditionFailed),
    }
}

/// Whether somebody refers to each of `blocks` already.
pub(super) fn all_referenced<R: Rows>(rows: &R, blocks: &[BlockRef]) -> Result<bool, Error> {
    for block in blocks {
        if references(rows, block)? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether content is too long to stand in the head. A listing reads the heads, so they are kept short.
fn is_long(content: &Content) -> bool {
    let bytes = match content {
        Content::Inline(bytes) => bytes.len(),
        Content::Blocks(blocks) => blocks.len() * 48,
        Content::Parts { parts, .. } => parts.len() * 8,
    };
    bytes > CONTENT_HERE_BYTES_MAX
}
