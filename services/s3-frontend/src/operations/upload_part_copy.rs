//! UploadPartCopy: a part out of the bytes of an object that is here already.
//!
//! A whole object of the same bucket is referred to where its digests are known; everything else is
//! read and stored anew, since the part's entity tag is the MD5 of just these bytes.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html>

use super::algorithm_of;
use super::copy_source::{self, Source};
use super::object_data::{DEFAULT_ALGORITHM, check_size, kept_checksum};
use super::upload_part::{blocks_of, find_upload, part_number};
use crate::answer::{self, Answer};
use crate::blocks::{BlockWriter, Hold, ReadFailure, Reader, copy_into};
use crate::limits::{CHANGES_MAX, UPLOAD_KIB};
use crate::metadata::{Failure, unexpected};
use crate::request::Request;
use protocol::metadata::{Content, MetadataError, Operation, Part, Reply};
use s3_wire::body::BodyChecks;
use s3_wire::checksum::{self, Algorithm, Checksum, Expected};
use s3_wire::error::S3Error;
use s3_wire::range::copy_source_range;
use s3_wire::sigv4::PayloadHash;
use s3_wire::xml::CopyPartResult;
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

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
        let refers = refers(&source, &range, algorithm) && source.bucket.id == bucket.id;
        let (part, hold) = match make_part(request, &source, range, refers, algorithm).await {
            Ok(made) => made,
            Err(ReadFailure::Gone) => continue,
            Err(ReadFailure::Error(error)) => return Err(error),
        };
        let (etag, kept) = (part.etag.clone(), part.checksum.clone());
        let operation = Operation::PutPart {
            bucket: bucket.id,
            key: upload.key.clone(),
            upload: upload.upload.clone(),
            number,
            part,
            copied: refers,
        };
        match request.admission.write_held(operation, hold).await {
            Ok(reply @ (Reply::Done | Reply::Written { .. })) => {
                let modified_ms = match reply {
                    Reply::Written { modified_ms, .. } => modified_ms,
                    _ => now_ms(),
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

/// The part, and what keeps its blocks until metadata knows it.
async fn make_part(
    request: &Request<'_>,
    source: &Source,
    range: Range<u64>,
    refers: bool,
    algorithm: Algorithm,
) -> Result<(Part, Hold), ReadFailure> {
    let Source { bucket, object, .. } = source;
    if refers {
        let part = Part {
            size: object.size,
            etag: object.etag.clone(),
            checksum: object.checksum.clone(),
            modified_ms: 0,
            blocks: blocks_of(object.content.clone()),
        };
        return Ok((part, Hold::default()));
    }
    let own = request.admission.bucket().map_err(ReadFailure::Error)?;
    let _share = request
        .worker
        .budget
        .take(UPLOAD_KIB)
        .await
        .map_err(ReadFailure::Error)?;
    let mut checks = BodyChecks::new(Expected::default(), PayloadHash::Unsigned, Some(algorithm));
    let length = range.end - range.start;
    let mut writer = BlockWriter::new(request.worker, own.hash_key, length, false);
    if let Content::Inline(bytes) = &object.content {
        let bytes = bytes
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default();
        checks.update(bytes);
        writer.write(bytes).await.map_err(ReadFailure::Error)?;
    } else {
        let reader = Reader::new(&request.admission, bucket.id, &object.content, range);
        copy_into(reader, &mut writer, &mut checks).await?;
    }
    let summary = checks.finish(None).map_err(ReadFailure::Error)?;
    let placed = writer.finish().await.map_err(ReadFailure::Error)?;
    let part = Part {
        size: summary.bytes,
        etag: checksum::etag(&summary.md5),
        checksum: summary.checksum.as_ref().map(kept_checksum),
        modified_ms: 0,
        blocks: blocks_of(placed.content),
    };
    Ok((part, placed.hold))
}

/// When the part was stored, by our clock: metadata's answer does not tell.
fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
