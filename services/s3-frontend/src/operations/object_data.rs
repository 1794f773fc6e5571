//! What PutObject, CopyObject and the multipart operations share: an object's headers and
//! checksums, and the way of a body into blocks.

use super::copy_source::Source;
use super::quoted;
use crate::answer::{self, Answer};
use crate::blocks::{Placed, ReadFailure, Reader, copy_into};
use crate::body::incoming::Upload;
use crate::encryption::{Cipher, DecryptingReader, ObjectWriter};
use crate::limits::{PUT_BYTES_MAX, UPLOAD_KIB};
use crate::request::Request;
use crate::worker::Worker;
use http::HeaderMap;
use protocol::metadata::{Bucket, Checksum as KeptChecksum, Content, HEADERS_BYTES_MAX};
use s3_wire::body::{BodyChecks, BodySummary};
use s3_wire::checksum::{Algorithm, Checksum};
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::headers;
use s3_wire::query::Query;
use s3_wire::settings::{REDIRECT_LOCATION, check_redirect_location};
use std::ops::Range;
use std::rc::Rc;

/// What AWS calls an object without a content type.
const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";
/// The headers of HTTP that are kept with an object and given back.
const KEPT: [&str; 6] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
];

/// The checksum that is computed where the client chose none, as AWS does.
pub(super) const DEFAULT_ALGORITHM: Algorithm = Algorithm::Crc64Nvme;

/// The headers to keep with an object, out of a request's.
///
/// # Errors
/// `MetadataTooLarge`; `InvalidRequest` for repeated headers or values that are not text.
pub(super) fn kept_headers(request: &Request<'_>) -> Result<Vec<(String, String)>, S3Error> {
    kept_of(&request.head.headers, request.query)
}

/// The same out of headers and a query.
///
/// # Errors
/// As [`kept_headers`].
pub(super) fn kept_of(
    sent: &HeaderMap,
    query: &Query<'_>,
) -> Result<Vec<(String, String)>, S3Error> {
    let mut kept = Vec::new();
    for name in KEPT {
        let value = headers::single(sent, name)?.map(str::to_owned);
        let value = match name {
            "content-encoding" => value.and_then(|v| headers::stored_content_encoding(&v)),
            "content-type" => value.or_else(|| Some(DEFAULT_CONTENT_TYPE.to_owned())),
            _ => value,
        };
        kept.extend(value.map(|value| (name.to_owned(), value)));
    }
    kept.extend(redirect_of(sent)?);
    for (name, value) in headers::user_metadata(sent, query)? {
        kept.push((format!("x-amz-meta-{name}"), value));
    }
    let bytes: usize = kept
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > HEADERS_BYTES_MAX {
        return Err(ErrorCode::MetadataTooLarge.into());
    }
    Ok(kept)
}

/// The redirect that a request gives to an object.
///
/// # Errors
/// `InvalidRedirectLocation`.
fn redirect_of(sent: &HeaderMap) -> Result<Option<(String, String)>, S3Error> {
    let Some(location) = headers::single(sent, REDIRECT_LOCATION)? else {
        return Ok(None);
    };
    check_redirect_location(location)?;
    Ok(Some((REDIRECT_LOCATION.to_owned(), location.to_owned())))
}

/// The headers of a copy that takes its source's: all but the redirect, which a copy has only if its own request gives it one.
///
/// # Errors
/// `InvalidRedirectLocation`.
pub(super) fn copied_headers(
    source: &[(String, String)],
    sent: &HeaderMap,
) -> Result<Vec<(String, String)>, S3Error> {
    let kept = source
        .iter()
        .filter(|(name, _)| name != REDIRECT_LOCATION)
        .cloned();
    Ok(kept.chain(redirect_of(sent)?).collect())
}

/// A checksum over the bytes of an object or part, as metadata keeps it.
pub(super) fn kept_checksum(checksum: &Checksum) -> KeptChecksum {
    KeptChecksum {
        algorithm: checksum.algorithm().name().to_owned(),
        composite: false,
        value: checksum.to_base64(),
    }
}

/// Adds the headers of an object's checksum to an answer.
pub(super) fn set_checksum(answer: &mut Answer, checksum: Option<&KeptChecksum>) {
    let Some(checksum) = checksum else { return };
    if let Some(algorithm) = Algorithm::from_name(&checksum.algorithm) {
        answer::set(answer, algorithm.header(), &checksum.value);
        let kind = super::type_of(checksum.composite);
        answer::set(answer, "x-amz-checksum-type", kind.name());
    }
}

/// The answer to an upload: what the server computed.
pub(super) fn stored_answer(etag: &str, checksum: Option<&KeptChecksum>) -> Answer {
    let mut answer = answer::empty(http::StatusCode::OK);
    answer::set(&mut answer, "etag", &quoted(etag));
    set_checksum(&mut answer, checksum);
    answer
}

/// Refuses an object or part that is too large for one request.
///
/// # Errors
/// `EntityTooLarge` with both sizes.
pub(super) fn check_size(bytes: u64) -> Result<(), S3Error> {
    if bytes <= PUT_BYTES_MAX {
        return Ok(());
    }
    Err(S3Error::new(ErrorCode::EntityTooLarge)
        .and("ProposedSize", bytes.to_string())
        .and("MaxSizeAllowed", PUT_BYTES_MAX.to_string()))
}

/// Receives a body and places it, block by block while it arrives. When this returns, every byte is
/// on disk and as its sender said, and nothing is visible yet. Dropped half-way it leaves nothing.
///
/// # Errors
/// Those of [`Upload`] and [`ObjectWriter`].
pub(super) async fn receive(
    worker: &Rc<Worker>,
    bucket: &Bucket,
    mut upload: Upload<'_>,
    may_inline: bool,
    cipher: Option<&Cipher>,
) -> Result<(Placed, BodySummary), S3Error> {
    let _share = worker.budget.take(UPLOAD_KIB).await?;
    let stream = cipher.map(|cipher| &cipher.stream);
    let length = upload.length();
    let mut writer = ObjectWriter::new(worker, bucket.hash_key, length, may_inline, stream)?;
    while let Some(data) = upload.next().await? {
        writer.write(&data).await?;
    }
    // First the digests, which cost nothing, then the disk.
    let summary = upload.finish()?;
    let placed = writer.finish().await?;
    Ok((placed, summary))
}

/// Reads the bytes `range` of a copy's source, decrypted where they must be, into `writer`, with their digests.
///
/// # Errors
/// [`ReadFailure`]: the source may have gone.
pub(super) async fn copy_bytes(
    request: &Request<'_>,
    source: &Source,
    range: Range<u64>,
    writer: &mut ObjectWriter,
    checks: &mut BodyChecks,
) -> Result<(), ReadFailure> {
    let (admission, object) = (&request.admission, &source.object);
    let bucket = source.bucket.id;
    if let Some(stream) = &source.stream {
        let whole = (&object.content, object.size);
        let mut reader = DecryptingReader::new(admission, bucket, whole, range, stream);
        let share = request.worker.budget.take(reader.kib()).await;
        let _share = share.map_err(ReadFailure::Error)?;
        while let Some(data) = reader.next().await? {
            checks.update(&data);
            writer.write(&data).await.map_err(ReadFailure::Error)?;
            // Nothing here need wait, so other connections must be let in on purpose.
            tokio::task::yield_now().await;
        }
        return Ok(());
    }
    if let Content::Inline(bytes) = &object.content {
        let wanted = range.start as usize..range.end as usize; // of 8 KiB
        let bytes = bytes.get(wanted).unwrap_or_default();
        checks.update(bytes);
        return writer.write(bytes).await.map_err(ReadFailure::Error);
    }
    let reader = Reader::new(admission, bucket, &object.content, range);
    copy_into(reader, writer, checks).await
}
