//! GetObject and HeadObject: an object's headers, and all or some of its bytes.
//!
//! The bytes of block files never enter this process: each block is opened as a descriptor and sent
//! by the kernel; the next block is opened while one is being sent. The first is opened before the
//! answer begins, so that what is damaged or gone is an error; later it can only cut the
//! connection.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>

use super::find_object::find_object;
use super::object_data::set_checksum;
use super::{object_attributes, quoted, version_id};
use crate::answer::{self, Answer, AnswerBody, Chunk};
use crate::blocks::{Extent, OpenBlock, ReadFailure, Reader};
use crate::body::file_range::{FileRange, Placeholders};
use crate::encryption::{self, DecryptingReader, Side, Stream};
use crate::limits::CHANGES_MAX;
use crate::request::Request;
use bytes::Bytes;
use http::StatusCode;
use protocol::metadata::{Content, Object, VersionId};
use s3_wire::conditions::{Outcome, ReadConditions};
use s3_wire::dates::http_date;
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::headers::RESPONSE_OVERRIDES;
use s3_wire::range::{ByteRange, RangeSpec};
use std::io;
use std::ops::Range;
use std::rc::Rc;
use tokio::sync::mpsc;

/// What of an object is asked for.
enum Wanted {
    All,
    Range(RangeSpec),
    Part(u16),
}

/// Where the wanted bytes lie.
struct Selection {
    range: Range<u64>,
    /// For a 206 answer.
    content_range: Option<String>,
    parts_count: Option<usize>,
}

/// See the module.
pub(super) async fn get_object(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let wanted = wanted(request)?;
    let version = version_id::of_query(request)?;
    for _ in 0..CHANGES_MAX {
        let object = find(request, version).await?;
        let unlocked = encryption::unlock(&request.head.headers, &object, Side::Object)?;
        let selection = match begin(request, &object, &wanted)? {
            Ok(selection) => selection,
            Err(not_modified) => return Ok(not_modified),
        };
        let range = selection.range.clone();
        let body = match &unlocked.stream {
            Some(stream) => decrypted_body(request, &object, range, stream).await,
            None => body(request, &object.content, range).await,
        };
        match body {
            Ok(body) => {
                let mut answer = describe(request, &object, &selection)?;
                encryption::tell(&mut answer, unlocked.shown.as_ref());
                *answer.body_mut() = body;
                return Ok(answer);
            }
            // Replaced between the two questions: ask for what is there now.
            Err(ReadFailure::Gone) => continue,
            Err(error) => return Err(error.into()),
        }
    }
    Err(ReadFailure::Gone.into())
}

/// The same without the bytes.
pub(super) async fn head_object(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let wanted = wanted(request)?;
    let object = find(request, version_id::of_query(request)?).await?;
    let unlocked = encryption::unlock(&request.head.headers, &object, Side::Object)?;
    let selection = match begin(request, &object, &wanted)? {
        Ok(selection) => selection,
        Err(not_modified) => return Ok(not_modified),
    };
    let mut answer = describe(request, &object, &selection)?;
    encryption::tell(&mut answer, unlocked.shown.as_ref());
    let length = selection.range.end - selection.range.start;
    answer::set(&mut answer, "content-length", &length.to_string());
    Ok(answer)
}

fn wanted(request: &Request<'_>) -> Result<Wanted, S3Error> {
    let range = request.header("range")?.and_then(RangeSpec::parse);
    match (range, request.query.get("partNumber")) {
        (None, None) => Ok(Wanted::All),
        (Some(range), None) => Ok(Wanted::Range(range)),
        (None, Some(_)) => Ok(Wanted::Part(super::upload_part::part_number(request)?)),
        (Some(_), Some(_)) => {
            let message = "Cannot specify both Range header and partNumber query parameter";
            Err(S3Error::with(ErrorCode::InvalidRequest, message))
        }
    }
}

async fn find(request: &Request<'_>, version: Option<VersionId>) -> Result<Object, S3Error> {
    let bucket = request.admission.bucket()?;
    find_object(&request.admission, bucket, request.key(), version).await
}

/// Judges the conditions and finds the range; the inner error is a "304 Not Modified".
fn begin(
    request: &Request<'_>,
    object: &Object,
    wanted: &Wanted,
) -> Result<Result<Selection, Answer>, S3Error> {
    let conditions = ReadConditions::of_read(&request.head.headers)?;
    match conditions.evaluate(&object.etag, object.modified_ms / 1000) {
        Outcome::Proceed => {}
        Outcome::PreconditionFailed => return Err(ErrorCode::PreconditionFailed.into()),
        Outcome::NotModified => return Ok(Err(not_modified(request, object)?)),
    }
    let selection = match wanted {
        Wanted::All => Selection {
            range: 0..object.size,
            content_range: None,
            parts_count: None,
        },
        Wanted::Range(range) => {
            let range = range.resolve(object.size)?;
            Selection {
                range: range.first..range.last.saturating_add(1),
                content_range: Some(range.content_range(object.size)),
                parts_count: None,
            }
        }
        Wanted::Part(number) => part(object, *number)?,
    };
    Ok(Ok(selection))
}

/// The bytes of one part. An object that came in one piece is its own first part.
fn part(object: &Object, number: u16) -> Result<Selection, S3Error> {
    let whole = [(1, object.size)];
    let (parts, parts_count) = match &object.content {
        Content::Parts { parts, .. } => (parts.as_slice(), Some(parts.len())),
        Content::Inline(_) | Content::Blocks(_) => (whole.as_slice(), None),
    };
    let mut start = 0_u64;
    for (one, size) in parts {
        let range = start..start.saturating_add(*size);
        if *one == number {
            let content_range = range.end.checked_sub(1).filter(|last| *last >= range.start);
            let content_range = content_range.map(|last| {
                ByteRange {
                    first: range.start,
                    last,
                }
                .content_range(object.size)
            });
            return Ok(Selection {
                range,
                content_range,
                parts_count,
            });
        }
        start = range.end;
    }
    Err(S3Error::new(ErrorCode::InvalidPartNumber)
        .and("PartNumberRequested", number.to_string())
        .and("ActualPartCount", parts.len().to_string()))
}

/// The headers of the answer.
fn describe(
    request: &Request<'_>,
    object: &Object,
    selection: &Selection,
) -> Result<Answer, S3Error> {
    let partial = selection.content_range.is_some();
    let mut answer = answer::empty(if partial {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    });
    for (name, value) in &object.headers {
        set_kept(&mut answer, name, value);
    }
    for (parameter, header) in RESPONSE_OVERRIDES {
        if let Some(value) = request.query.get(parameter) {
            answer::set(&mut answer, header, value);
        }
    }
    set_validators(&mut answer, object);
    version_id::tell(&mut answer, request.admission.bucket()?, object.version);
    object_attributes::tell(&mut answer, &object.attributes);
    answer::set(&mut answer, "accept-ranges", "bytes");
    if let Some(content_range) = &selection.content_range {
        answer::set(&mut answer, "content-range", content_range);
    }
    if let Some(count) = selection.parts_count {
        answer::set(&mut answer, "x-amz-mp-parts-count", &count.to_string());
    }
    // The kept checksum is of the whole object; a client would compare it with the part that it
    // gets.
    let asked = request.header("x-amz-checksum-mode")?;
    if !partial && asked.is_some_and(|mode| mode.eq_ignore_ascii_case("ENABLED")) {
        set_checksum(&mut answer, object.checksum.as_ref());
    }
    Ok(answer)
}

fn set_validators(answer: &mut Answer, object: &Object) {
    answer::set(answer, "etag", &quoted(&object.etag));
    answer::set(
        answer,
        "last-modified",
        &http_date(object.modified_ms / 1000),
    );
}

fn set_kept(answer: &mut Answer, name: &str, value: &str) {
    let name = http::HeaderName::from_bytes(name.as_bytes());
    let value = http::HeaderValue::from_bytes(value.as_bytes());
    // Both were headers of a request once.
    if let (Ok(name), Ok(value)) = (name, value) {
        answer.headers_mut().insert(name, value);
    }
}

fn not_modified(request: &Request<'_>, object: &Object) -> Result<Answer, S3Error> {
    let mut answer = answer::empty(StatusCode::NOT_MODIFIED);
    set_validators(&mut answer, object);
    version_id::tell(&mut answer, request.admission.bucket()?, object.version);
    for (name, value) in &object.headers {
        // RFC 9110 (15.4.5): what a cache needs to go on using what it has.
        if matches!(name.as_str(), "cache-control" | "expires") {
            set_kept(&mut answer, name, value);
        }
    }
    Ok(answer)
}

/// The wanted bytes as a body.
async fn body(
    request: &Request<'_>,
    content: &Content,
    range: Range<u64>,
) -> Result<AnswerBody, ReadFailure> {
    if range.is_empty() {
        return Ok(AnswerBody::empty());
    }
    let length = range.end - range.start;
    if let Content::Inline(bytes) = content {
        // At most 8 KiB, so copying the range is cheaper than anything else.
        let bytes = bytes
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default();
        return Ok(AnswerBody::of(Chunk::Bytes(Bytes::copy_from_slice(bytes))));
    }
    let bucket = request.admission.bucket().map_err(ReadFailure::Error)?.id;
    let mut reader = Reader::new(&request.admission, bucket, content, range);
    let share = request.worker.budget.take(reader.kib()).await;
    let share = share.map_err(ReadFailure::Error)?;
    let placeholders = &request.worker.placeholders;
    let first = next_chunk(&mut reader, placeholders).await?;
    let first = first.ok_or(ReadFailure::Error(ErrorCode::InternalError.into()))?;
    if reader.is_at_end() {
        return Ok(AnswerBody::of(first).holding(share));
    }
    let (sender, rest) = mpsc::channel(1);
    let placeholders = placeholders.clone();
    tokio::task::spawn_local(async move {
        // One block ahead: a place in the channel is waited for before the next block is opened.
        while let Ok(place) = sender.reserve().await {
            match next_chunk(&mut reader, &placeholders).await {
                Ok(None) => break,
                Ok(Some(chunk)) => place.send(Ok(chunk)),
                Err(failure) => {
                    runtime::warn!("an answer breaks off: {}", S3Error::from(failure));
                    place.send(Err(io::ErrorKind::Other.into()));
                    break;
                }
            }
        }
    });
    Ok(AnswerBody::stream(first, rest, length).holding(share))
}

async fn next_chunk(
    reader: &mut Reader,
    placeholders: &Rc<Placeholders>,
) -> Result<Option<Chunk>, ReadFailure> {
    let Some((Extent { from, to, .. }, open)) = reader.next().await? else {
        return Ok(None);
    };
    match open {
        OpenBlock::Bytes(bytes) if to as usize <= bytes.len() => {
            Ok(Some(Chunk::Bytes(bytes.slice(from as usize..to as usize))))
        }
        OpenBlock::Bytes(_) => Err(ReadFailure::Error(ErrorCode::InternalError.into())),
        // There is a slot for each connection's files, so this fails only if we count wrongly.
        OpenBlock::File(file) => FileRange::new(placeholders, file, from, to)
            .map(|range| Some(Chunk::File(range)))
            .ok_or(ReadFailure::Error(ErrorCode::SlowDown.into())),
    }
}

/// The wanted bytes of an encrypted object as a body: chunk by chunk through this process, one ahead.
async fn decrypted_body(
    request: &Request<'_>,
    object: &Object,
    range: Range<u64>,
    stream: &Stream,
) -> Result<AnswerBody, ReadFailure> {
    if range.is_empty() {
        return Ok(AnswerBody::empty());
    }
    let length = range.end - range.start;
    let bucket = request.admission.bucket().map_err(ReadFailure::Error)?.id;
    let whole = (&object.content, object.size);
    let mut reader = DecryptingReader::new(&request.admission, bucket, whole, range, stream);
    let share = request.worker.budget.take(reader.kib()).await;
    let share = share.map_err(ReadFailure::Error)?;
    let first = reader.next().await?;
    let first = first.ok_or(ReadFailure::Error(ErrorCode::InternalError.into()))?;
    if first.len() as u64 == length {
        return Ok(AnswerBody::of(Chunk::Bytes(first)).holding(share));
    }
    let (sender, rest) = mpsc::channel(1);
    tokio::task::spawn_local(async move {
        while let Ok(place) = sender.reserve().await {
            match reader.next().await {
                Ok(None) => break,
                Ok(Some(bytes)) => place.send(Ok(Chunk::Bytes(bytes))),
                Err(failure) => {
                    runtime::warn!("an answer breaks off: {}", S3Error::from(failure));
                    place.send(Err(io::ErrorKind::Other.into()));
                    break;
                }
            }
        }
    });
    Ok(AnswerBody::stream(Chunk::Bytes(first), rest, length).holding(share))
}
