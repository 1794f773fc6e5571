//! Renaming: an object gets another key in one step, and no byte is moved.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_RenameObject.html>

use super::Outcome;
use super::changes::Changes;
use super::notifications::tell;
use super::objects::{Place, absent, content, drop_version, forget, head, insert};
use super::rows::{self, ObjectHead};
use super::store::Rows;
use crate::Error;
use protocol::metadata::{BucketId, Conditions, EventKind, MetadataError, Reply, Versioning};

/// What is to be renamed, and when.
pub(super) struct Rename<'a> {
    pub(super) source: &'a str,
    pub(super) key: &'a str,
    pub(super) source_conditions: &'a Conditions,
    pub(super) conditions: &'a Conditions,
    pub(super) token: Option<&'a str>,
}

pub(super) fn rename<R: Rows>(
    changes: &mut Changes<'_, R>,
    bucket: BucketId,
    rename: &Rename<'_>,
) -> Result<Outcome, Error> {
    let Some(mut place) = Place::find(changes.rows, bucket, rename.key)? else {
        return Ok(Err(MetadataError::NoSuchBucket));
    };
    if place.row.versioning != Versioning::Off {
        let why = "RenameObject works in buckets that never had versioning: elsewhere the key keeps its versions. \
                   Copy the object and delete the source instead.";
        return Ok(Err(MetadataError::WrongBucketState(why.into())));
    }
    let old = head(changes.rows, bucket, rename.key)?;
    if let Some(repeated) = repeated(rename, old.as_ref()) {
        return Ok(repeated);
    }
    let Some(source) = head(changes.rows, bucket, rename.source)? else {
        return absent(changes.rows, bucket, MetadataError::NoSuchKey);
    };
    let holds =
        hold(rename.source_conditions, Some(&source)) && hold(rename.conditions, old.as_ref());
    if !holds {
        return Ok(Err(MetadataError::PreconditionFailed));
    }
    let (etag, modified_ms, size) = (source.etag.clone(), source.modified_ms, source.size);
    let reply = |etag| Reply::Written {
        etag,
        modified_ms,
        size,
        version: None,
    };
    if rename.source == rename.key {
        return Ok(Ok(reply(etag)));
    }
    if let Some(old) = old
        && let Err(error) = drop_version(changes, &mut place, old, false)?
    {
        return Ok(Err(error));
    }
    let here = source.content.clone();
    let content = content(changes.rows, bucket, rename.source, source.version, here)?;
    place.key = rename.source;
    forget(changes, &mut place, &source);
    changes.delete(rows::object(bucket, rename.source));
    let moved = ObjectHead {
        renamed: rename
            .token
            .map(|token| (token.to_owned(), rename.source.to_owned())),
        content: Some(content),
        ..source
    };
    place.key = rename.key;
    insert(changes, &mut place, moved)?;
    changes.put(rows::bucket(bucket), &place.row)?;
    tell(changes, &place, EventKind::Copy, None, Some((size, &etag)))?;
    place.key = rename.source;
    tell(changes, &place, EventKind::Delete, None, None)?;
    Ok(Ok(reply(etag)))
}

/// The answer to a rename that was done before: the object that has the key came by the same token.
fn repeated(rename: &Rename<'_>, present: Option<&ObjectHead>) -> Option<Outcome> {
    let present = present?;
    let (token, source) = present.renamed.as_ref()?;
    if rename.token != Some(token) {
        return None;
    }
    if source != rename.source {
        return Some(Err(MetadataError::TokenReused));
    }
    Some(Ok(Reply::Written {
        etag: present.etag.clone(),
        modified_ms: present.modified_ms,
        size: present.size,
        version: None,
    }))
}

/// Whether the conditions hold, in the order of RFC 9110 (13.2.2). A date says nothing beside an ETag.
fn hold(conditions: &Conditions, present: Option<&ObjectHead>) -> bool {
    let matches = |wanted: &str| present.is_some_and(|head| wanted == "*" || wanted == head.etag);
    // Clients know only whole seconds, from Last-Modified.
    let modified_s = present.map(|head| head.modified_ms / 1_000);
    let unchanged = match (&conditions.if_match, conditions.if_unmodified_since_s) {
        (Some(etag), _) => matches(etag),
        (None, Some(since)) => modified_s.is_none_or(|modified| modified <= since),
        (None, None) => true,
    };
    let changed = match (&conditions.if_none_match, conditions.if_modified_since_s) {
        (Some(etag), _) => !matches(etag),
        (None, Some(since)) => modified_s.is_some_and(|modified| modified > since),
        (None, None) => true,
    };
    unchanged && changed
}
