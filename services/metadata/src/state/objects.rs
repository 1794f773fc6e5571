//! Objects: made visible, read, removed. Every change counts along what its bucket holds and who refers to which block.

use super::Outcome;
use super::changes::{self, Changes, references};
use super::registry::{bucket_row, is_open};
use super::rows::{self, CONTENT_HERE_BYTES_MAX, ObjectHead};
use super::store::Rows;
use crate::Error;
use protocol::block::BlockRef;
use protocol::metadata::{
    BucketId, Content, MetadataError, NewObject, Object, Precondition, Reply,
};

pub(super) fn head<R: Rows>(
    rows: &R,
    bucket: BucketId,
    key: &str,
) -> Result<Option<ObjectHead>, Error> {
    changes::get(rows, &rows::object(bucket, key), "object")
}

/// The content of an object whose head is `head`.
fn content<R: Rows>(
    rows: &R,
    bucket: BucketId,
    key: &str,
    head: Option<Content>,
) -> Result<Content, Error> {
    match head {
        Some(content) => Ok(content),
        None => changes::get(rows, &rows::content(bucket, key), "content")?
            .ok_or(Error::Damaged("content, which is missing")),
    }
}

pub(super) fn get<R: Rows>(rows: &R, bucket: BucketId, key: &str) -> Result<Outcome, Error> {
    let Some(head) = head(rows, bucket, key)? else {
        return absent(rows, bucket, MetadataError::NoSuchKey);
    };
    let content = content(rows, bucket, key, head.content)?;
    Ok(Ok(Reply::Object(Object {
        size: head.size,
        etag: head.etag,
        headers: head.headers,
        checksum: head.checksum,
        modified_ms: head.modified_ms,
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
    bucket: BucketId,
    key: &str,
    object: &NewObject,
    precondition: &Precondition,
    copied: bool,
) -> Result<Outcome, Error> {
    if !is_open(changes.rows, bucket)? {
        return Ok(Err(MetadataError::NoSuchBucket));
    }
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
        headers: object.headers.clone(),
        content: Some(object.content.clone()),
    };
    replace(changes, bucket, key, old, Some(new))
}

pub(super) fn delete<R: Rows>(
    changes: &mut Changes<'_, R>,
    bucket: BucketId,
    key: &str,
    precondition: &Precondition,
) -> Result<Outcome, Error> {
    let Some(old) = head(changes.rows, bucket, key)? else {
        return match holds(precondition, None) {
            Ok(()) if is_open(changes.rows, bucket)? => Ok(Ok(Reply::Done)),
            Ok(()) => Ok(Err(MetadataError::NoSuchBucket)),
            Err(error) => absent(changes.rows, bucket, error),
        };
    };
    if let Err(error) = holds(precondition, Some(&old)) {
        return Ok(Err(error));
    }
    replace(changes, bucket, key, Some(old), None)
}

/// Puts `new` (whose content is given) in the place of `old`, with everything that hangs on them.
pub(super) fn replace<R: Rows>(
    changes: &mut Changes<'_, R>,
    bucket: BucketId,
    key: &str,
    old: Option<ObjectHead>,
    new: Option<ObjectHead>,
) -> Result<Outcome, Error> {
    let mut row = bucket_row(changes.rows, bucket)?.ok_or(Error::Damaged("bucket of an object"))?;
    if let Some(old) = old {
        let apart = old.content.is_none();
        release(
            changes,
            bucket,
            content(changes.rows, bucket, key, old.content)?,
        )?;
        if apart {
            changes.delete(rows::content(bucket, key));
        }
        row.usage.objects = row.usage.objects.saturating_sub(1);
        row.usage.bytes = row.usage.bytes.saturating_sub(old.size);
    }
    let reply = match new {
        None => {
            changes.delete(rows::object(bucket, key));
            Reply::Done
        }
        Some(mut new) => {
            if let Some(content) = new.content.take_if(|content| is_long(content)) {
                changes.put(rows::content(bucket, key), &content)?;
            }
            changes.put(rows::object(bucket, key), &new)?;
            row.usage.objects = row.usage.objects.saturating_add(1);
            row.usage.bytes = row.usage.bytes.saturating_add(new.size);
            Reply::Written {
                etag: new.etag,
                modified_ms: new.modified_ms,
                size: new.size,
            }
        }
    };
    changes.put(rows::bucket(bucket), &row)?;
    Ok(Ok(reply))
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
