//! UploadPartCopy: a part out of the bytes of an object that is here already.
//!
//! A whole object of the same bucket is referred to where its digests are known; everything else is
//! read and stored anew, since the part's entity tag is the MD5 of just these bytes.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html>

use super::algorithm_of;
use super::copy_source::{self, Source};
use super::object_data::{DEFAULT_ALGORITHM, check_size, copy_bytes, kept_checksum};
use super::upload_part::{blocks_of, find_upload, part_number};
use crate::answer::{self, Answer};
use crate::blocks::{Hold, ReadFailure};
use crate::encryption::{self, Cipher, ObjectWriter};
use crate::limits::{CHANGES_MAX, UPLOAD_KIB};
use crate::metadata::{Failure, unexpected};
use crate::request::Request;
use protocol::metadata::{Change, Content, MetadataError, Part, Reply};
use s3_wire::body::BodyChecks;
use s3_wire::checksum::{Algorithm, Checksum, Expected};
use s3_wire::error::S3Error;
use s3_wire::range::copy_source_range;
use s3_wire::sigv4::PayloadHash;
use s3_wire::xml::CopyPartResult;
use std::ops::Range;

/// See the module.
pub(super) async fn upload_part_copy(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let bucket = request.admission.bucket()?.clone();
    let number = part_number(request)?;
    let upload = find_upload(request).await?;
    let chosen = upload
        .checksum
        .as_ref()
        .and_then(algorithm_of)
        .map(|(one, _)| one);
    let algorithm = chosen.unwrap_or(DEFAULT_ALGORITHM);
    let place = copy_source::admit(request).await?;

    for _ in 0..CHANGES_MAX {
        // Of each attempt: a salt is used once.
        let cipher = encryption::of_part(&request.head.headers, &upload)?;
        let cipher = cipher.as_ref();
        let source = copy_source::find(request, &place).await?;
        let size = source.object.size;
        let range = match request.header("x-amz-copy-source-range")? {
            None => 0..size,
            Some(text) => {
                let range = copy_source_range(text, size)?;
                range.first..range.last.saturating_add(1)
            }
        };
        check_size(range.end - range.start)?;
        let plain = cipher.is_none() && source.stream.is_none();
        let refers = plain && refers(&source, &range, algorithm) && source.bucket.id == bucket.id;
        let made = match refers {
            true => Ok(refer(&source)),
            false => make_part(request, &source, range, algorithm, cipher).await,
        };
        let (part, hold) = match made {
            Ok(made) => made,
            Err(ReadFailure::Gone) => continue,
            Err(ReadFailure::Error(error)) => return Err(error),
        };
        let (etag, kept) = (part.etag.clone(), part.checksum.clone());
        let change = Change::PutPart {
            bucket: bucket.id,
            key: upload.key.clone(),
            upload: upload.upload.clone(),
            number,
            part,
            copied: refers,
        };
        match request.admission.write_held(change, hold).await {
            Ok(reply @ (Reply::Done | Reply::Written { .. })) => {
                let modified_ms = match reply {
                    Reply::Written { modified_ms, .. } => modified_ms,
                    // Metadata's answer does not tell when it was stored.
                    _ => runtime::unix_ms(),
                };
                let checksum = kept.filter(|_| chosen.is_some());
                let result = CopyPartResult {
                    modified_ms,
                    etag: &etag,
                    checksum: checksum
                        .and_then(|kept| Checksum::from_base64(algorithm, &kept.value)),
                };
                let mut answer = answer::xml(result.to_xml());
                source.tell(&mut answer);
                encryption::tell(&mut answer, cipher.map(|one| &one.shown));
                return Ok(answer);
            }
            Ok(other) => return Err(unexpected(&other)),
            Err(Failure::Metadata(MetadataError::SourceChanged)) => continue,
            Err(error) => return Err(error.into()),
        }
    }
    Err(ReadFailure::Gone.into())
}

/// Whether the part can be the source's own blocks: all of them, with the digests that a part must
/// have.
fn refers(source: &Source, range: &Range<u64>, algorithm: Algorithm) -> bool {
    let object = &source.object;
    let in_one_piece = matches!(object.content, Content::Blocks(_)) && !object.etag.contains('-');
    let checksum = object.checksum.as_ref();
    in_one_piece
        && *range == (0..object.size)
        && checksum.is_some_and(|kept| kept.algorithm == algorithm.name() && !kept.composite)
}

/// A part that is the source's own blocks.
fn refer(source: &Source) -> (Part, Hold) {
    let object = &source.object;
    let part = Part {
        size: object.size,
        etag: object.etag.clone(),
        checksum: object.checksum.clone(),
        modified_ms: 0,
        salt: None,
        blocks: blocks_of(object.content.clone()),
    };
    (part, Hold::default())
}

/// A part with bytes of its own, and what keeps its blocks until metadata knows it.
async fn make_part(
    request: &Request<'_>,
    source: &Source,
    range: Range<u64>,
    algorithm: Algorithm,
    cipher: Option<&Cipher>,
) -> Result<(Part, Hold), ReadFailure> {
    let own = request.admission.bucket().map_err(ReadFailure::Error)?;
    let _share = request
        .worker
        .budget
        .take(UPLOAD_KIB)
        .await
        .map_err(ReadFailure::Error)?;
    let mut checks = BodyChecks::new(Expected::default(), PayloadHash::Unsigned, Some(algorithm));
    let length = range.end - range.start;
    let stream = cipher.map(|cipher| &cipher.stream);
    let writer = ObjectWriter::new(request.worker, own.hash_key, length, false, stream);
    let mut writer = writer.map_err(ReadFailure::Error)?;
    copy_bytes(request, source, range, &mut writer, &mut checks).await?;
    let summary = checks.finish(None).map_err(ReadFailure::Error)?;
    let placed = writer.finish().await.map_err(ReadFailure::Error)?;
    let part = Part {
        size: summary.bytes,
        etag: encryption::etag(&summary.md5, cipher).map_err(ReadFailure::Error)?,
        checksum: summary.checksum.as_ref().map(kept_checksum),
        modified_ms: 0,
        salt: cipher.map(|cipher| cipher.stream.salt),
        blocks: blocks_of(placed.content),
    };
    Ok((part, placed.hold))
}
