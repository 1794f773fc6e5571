//! Multipart uploads: parts come in any order, and one command makes an object of them.

use super::Outcome;
use super::changes::{self, Changes, any, each};
use super::objects::{self, Place, absent, all_referenced, holds};
use super::registry::bucket_row;
use super::rows::{self, BLOCKS_HERE_MAX, ObjectHead, PartHead, UploadRow, Version};
use super::store::Rows;
use crate::Error;
use md5::{Digest, Md5};
use protocol::block::BlockRef;
use protocol::metadata::{
    BucketId, Checksum, Content, EventKind, MetadataError, PART_BYTES_MIN, Part, Precondition,
    Reply, Upload,
};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// What completes an upload.
pub(super) struct Whole<'a> {
    /// Rising.
    pub(super) parts: &'a [u16],
    pub(super) etag: &'a str,
    pub(super) checksum: &'a Option<Checksum>,
    pub(super) precondition: &'a Precondition,
}

/// The upload under way of that name, if it is one of that object key.
pub(super) fn find<R: Rows>(
    rows: &R,
    bucket: BucketId,
    key: &str,
    upload: &str,
) -> Result<Option<UploadRow>, Error> {
    let row: Option<UploadRow> = changes::get(rows, &rows::upload(bucket, upload), "upload")?;
    Ok(row.filter(|row| row.key == key))
}

pub(super) fn show(row: UploadRow, upload: &str) -> Upload {
    Upload {
        upload: upload.into(),
        key: row.key,
        headers: row.headers,
        checksum: row.checksum,
        attributes: row.attributes,
        encryption: row.encryption,
        initiated_ms: row.initiated_ms,
    }
}

pub(super) fn get<R: Rows>(
    rows: &R,
    bucket: BucketId,
    key: &str,
    upload: &str,
) -> Result<Outcome, Error> {
    match find(rows, bucket, key, upload)? {
        Some(row) => Ok(Ok(Reply::Upload(show(row, upload)))),
        None => absent(rows, bucket, MetadataError::NoSuchUpload),
    }
}

pub(super) fn get_part<R: Rows>(
    rows: &R,
    bucket: BucketId,
    upload: &str,
    number: u16,
) -> Result<Outcome, Error> {
    let key = rows::part(bucket, upload, number);
    let Some(head) = changes::get::<_, PartHead>(rows, &key, "part")? else {
        return absent(rows, bucket, MetadataError::InvalidPart { number });
    };
    let blocks = part_blocks(rows, bucket, upload, number, head.blocks)?;
    Ok(Ok(Reply::Part(Part {
        size: head.size,
        etag: head.etag,
        checksum: head.checksum,
        modified_ms: head.modified_ms,
        salt: head.salt,
        blocks,
    })))
}

/// The blocks of a part in whose head they may stand.
pub(super) fn part_blocks<R: Rows>(
    rows: &R,
    bucket: BucketId,
    upload: &str,
    number: u16,
    here: Option<Vec<BlockRef>>,
) -> Result<Vec<BlockRef>, Error> {
    match here {
        Some(blocks) => Ok(blocks),
        None => changes::get(
            rows,
            &rows::part_blocks(bucket, upload, number),
            "blocks of a part",
        )?
        .ok_or(Error::Damaged("blocks of a part, which are missing")),
    }
}

pub(super) fn create<R: Rows>(
    changes: &mut Changes<'_, R>,
    bucket: BucketId,
    upload: &Upload,
) -> Result<Outcome, Error> {
    let Some(row) = bucket_row(changes.rows, bucket)?.filter(|row| row.open) else {
        return Ok(Err(MetadataError::NoSuchBucket));
    };
    let attributes = &upload.attributes;
    if row.lock.is_none() && (attributes.retention.is_some() || attributes.legal_hold.is_some()) {
        return Ok(Err(MetadataError::NoObjectLock));
    }
    // Also the parts of a completed or a dead upload carry its name.
    let name = &upload.upload;
    let taken = changes.has(&rows::upload(bucket, name))?
        || changes.has(&rows::dead_upload(bucket, name))?
        || any(changes.rows, rows::parts(bucket, name))?;
    if taken {
        return Ok(Err(MetadataError::Refused(
            "an upload of this name exists".into(),
        )));
    }
    let row = UploadRow {
        key: upload.key.clone(),
        headers: upload.headers.clone(),
        checksum: upload.checksum.clone(),
        attributes: upload.attributes.clone(),
        encryption: upload.encryption.clone(),
        initiated_ms: changes.at_ms,
    };
    changes.put(rows::upload(bucket, name), &row)?;
    changes.put_mark(rows::listed_upload(
        bucket,
        &row.key,
        row.initiated_ms,
        name,
    ));
    Ok(Ok(Reply::Done))
}

pub(super) fn put_part<R: Rows>(
    changes: &mut Changes<'_, R>,
    bucket: BucketId,
    (key, upload): (&str, &str),
    number: u16,
    part: &Part,
    copied: bool,
) -> Result<Outcome, Error> {
    let Some(row) = find(changes.rows, bucket, key, upload)? else {
        return absent(changes.rows, bucket, MetadataError::NoSuchUpload);
    };
    if row.encryption.is_some() != part.salt.is_some() {
        let why = "a part is encrypted exactly if its upload is";
        return Ok(Err(MetadataError::Refused(why.into())));
    }
    if copied && !all_referenced(changes.rows, &part.blocks)? {
        return Ok(Err(MetadataError::SourceChanged));
    }
    remove_part(changes, bucket, upload, number)?;
    changes.refer(&part.blocks);
    let here = part.blocks.len() <= BLOCKS_HERE_MAX;
    if !here {
        changes.put(rows::part_blocks(bucket, upload, number), &part.blocks)?;
    }
    let head = PartHead {
        size: part.size,
        etag: part.etag.clone(),
        checksum: part.checksum.clone(),
        modified_ms: changes.at_ms,
        salt: part.salt,
        blocks: here.then(|| part.blocks.clone()),
    };
    changes.put(rows::part(bucket, upload, number), &head)?;
    Ok(Ok(Reply::Done))
}

/// Removes a part if there is one, and answers to how many blocks it referred.
pub(super) fn remove_part<R: Rows>(
    changes: &mut Changes<'_, R>,
    bucket: BucketId,
    upload: &str,
    number: u16,
) -> Result<usize, Error> {
    let key = rows::part(bucket, upload, number);
    let Some(old) = changes.get::<PartHead>(&key, "part")? else {
        return Ok(0);
    };
    if old.blocks.is_none() {
        changes.delete(rows::part_blocks(bucket, upload, number));
    }
    let blocks = part_blocks(changes.rows, bucket, upload, number, old.blocks)?;
    changes.release(&blocks);
    changes.delete(key);
    Ok(blocks.len())
}

pub(super) fn complete<R: Rows>(
    changes: &mut Changes<'_, R>,
    bucket: BucketId,
    (key, upload): (&str, &str),
    whole: &Whole<'_>,
) -> Result<Outcome, Error> {
    let Some(place) = Place::find(changes.rows, bucket, key)? else {
        return Ok(Err(MetadataError::NoSuchBucket));
    };
    let old = objects::head(changes.rows, bucket, key)?;
    let Some(row) = find(changes.rows, bucket, key, upload)? else {
        return repeated(changes.rows, &place, upload, old, whole.etag);
    };
    if let Err(error) = holds(whole.precondition, old.as_ref()) {
        return Ok(Err(error));
    }
    let stored = stored_parts(changes.rows, bucket, upload)?;
    let (parts, etag) = match assemble(&stored, whole.parts) {
        Ok(assembled) => assembled,
        Err(error) => return Ok(Err(error)),
    };
    if etag != whole.etag {
        return Ok(Err(MetadataError::InvalidPart { number: 0 }));
    }
    if stored.len() > parts.len() {
        changes.drop_parts(bucket, upload, whole.parts)?;
    }
    changes.delete(rows::upload(bucket, upload));
    changes.delete(rows::listed_upload(bucket, key, row.initiated_ms, upload));
    let new = ObjectHead {
        size: parts
            .iter()
            .fold(0, |size, (_, bytes)| size.saturating_add(*bytes)),
        etag,
        modified_ms: changes.at_ms,
        checksum: whole.checksum.clone(),
        version: Version::ONLY,
        headers: row.headers,
        attributes: row.attributes,
        encryption: row.encryption,
        renamed: None,
        content: Some(Content::Parts {
            upload: upload.into(),
            parts,
        }),
    };
    let told = EventKind::CompleteMultipartUpload;
    objects::write(changes, place, old, new, told)
}

/// An upload that is not under way: if the object is the one that it made, this call is a repetition.
fn repeated<R: Rows>(
    rows: &R,
    place: &Place<'_>,
    upload: &str,
    object: Option<ObjectHead>,
    etag: &str,
) -> Result<Outcome, Error> {
    let Some(object) = object.filter(|object| object.etag == etag) else {
        return Ok(Err(MetadataError::NoSuchUpload));
    };
    let (bucket, key, version) = (place.bucket, place.key, object.version);
    let content = objects::content(rows, bucket, key, version, object.content)?;
    match content {
        Content::Parts {
            upload: made_by, ..
        } if made_by == upload => Ok(Ok(Reply::Written {
            etag: object.etag,
            modified_ms: object.modified_ms,
            size: object.size,
            version: place.shown(version),
        })),
        _ => Ok(Err(MetadataError::NoSuchUpload)),
    }
}

/// Size and ETag of each part that an upload has.
fn stored_parts<R: Rows>(
    rows: &R,
    bucket: BucketId,
    upload: &str,
) -> Result<BTreeMap<u16, (u64, String)>, Error> {
    let mut stored = BTreeMap::new();
    let from = rows::parts(bucket, upload);
    each(rows, &from, &rows::behind(from.clone()), |key, value| {
        let head: PartHead = rows::decode(value, "part")?;
        stored.insert(rows::part_number(key)?, (head.size, head.etag));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(stored)
}

/// Number and bytes of the listed parts, and the ETag of the whole: MD5 over the parts' MD5s, and how many they are (S3 API, multipart upload overview).
fn assemble(
    stored: &BTreeMap<u16, (u64, String)>,
    listed: &[u16],
) -> Result<(Vec<(u16, u64)>, String), MetadataError> {
    let mut parts = Vec::with_capacity(listed.len());
    let mut digest = Md5::new();
    for number in listed.iter().copied() {
        let invalid = MetadataError::InvalidPart { number };
        let Some((size, etag)) = stored.get(&number) else {
            return Err(invalid);
        };
        if listed.last() != Some(&number) && *size < PART_BYTES_MIN {
            return Err(MetadataError::EntityTooSmall { number });
        }
        digest.update(hex::decode(etag).map_err(|_| invalid)?);
        parts.push((number, *size));
    }
    let etag = format!("{}-{}", hex::encode(digest.finalize()), parts.len());
    Ok((parts, etag))
}

pub(super) fn abort<R: Rows>(
    changes: &mut Changes<'_, R>,
    bucket: BucketId,
    key: &str,
    upload: &str,
) -> Result<Outcome, Error> {
    let Some(row) = find(changes.rows, bucket, key, upload)? else {
        return absent(changes.rows, bucket, MetadataError::NoSuchUpload);
    };
    changes.delete(rows::upload(bucket, upload));
    changes.delete(rows::listed_upload(bucket, key, row.initiated_ms, upload));
    if any(changes.rows, rows::parts(bucket, upload))? {
        changes.drop_parts(bucket, upload, &[])?;
    }
    Ok(Ok(Reply::Done))
}
