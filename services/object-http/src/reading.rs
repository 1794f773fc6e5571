//! The answer to a request for an object: its validators and conditions, the range that is wanted, and the bytes.
//!
//! The bytes of block files never enter this process: each block is opened as a descriptor and sent
//! by the kernel; the next block is opened while one is being sent. The first is opened before the
//! answer begins, so that what is damaged or gone is an error; later it can only cut the
//! connection.

use crate::admission::Admission;
use crate::answer::{self, Answer, AnswerBody, Chunk};
use crate::blocks::{Extent, OpenBlock, ReadFailure, Reader};
use crate::body::file_range::{FileRange, Placeholders};
use crate::encryption::{DecryptingReader, Stream};
use crate::version_id;
use bytes::{Buf, Bytes};
use http::{HeaderMap, StatusCode};
use protocol::metadata::{Bucket, Content, Object};
use s3_wire::conditions::{Outcome, ReadConditions};
use s3_wire::dates::http_date;
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::range::{ByteRange, RangeSpec};
use std::io;
use std::ops::Range;
use std::rc::Rc;
use tokio::sync::mpsc;

/// What of an object is asked for.
pub enum Wanted {
    /// All of it.
    All,
    /// Some bytes.
    Range(RangeSpec),
    /// The part of that number.
    Part(u16),
}

/// Where the wanted bytes lie.
pub struct Selection {
    /// From the first to behind the last.
    pub range: Range<u64>,
    /// For a 206 answer.
    pub content_range: Option<String>,
    /// Of an object that came in parts, where one was asked for.
    pub parts_count: Option<usize>,
}

/// Judges the conditions and finds the range; the inner error is a "304 Not Modified".
///
/// # Errors
/// `PreconditionFailed`, `InvalidRange`, `InvalidPartNumber`, and those of headers that are wrong.
pub fn begin(
    headers: &HeaderMap,
    bucket: &Bucket,
    object: &Object,
    wanted: &Wanted,
) -> Result<Result<Selection, Answer>, S3Error> {
    let conditions = ReadConditions::of_read(headers)?;
    match conditions.evaluate(&object.etag, object.modified_ms / 1000) {
        Outcome::Proceed => {}
        Outcome::PreconditionFailed => return Err(ErrorCode::PreconditionFailed.into()),
        Outcome::NotModified => return Ok(Err(not_modified(bucket, object))),
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

/// `ETag` and `Last-Modified`.
pub fn set_validators(answer: &mut Answer, object: &Object) {
    answer::set(answer, "etag", &format!("\"{}\"", object.etag));
    answer::set(
        answer,
        "last-modified",
        &http_date(object.modified_ms / 1000),
    );
}

/// Sets a header that was kept with the object.
pub fn set_kept(answer: &mut Answer, name: &str, value: &str) {
    let name = http::HeaderName::from_bytes(name.as_bytes());
    let value = http::HeaderValue::from_bytes(value.as_bytes());
    // Both were headers of a request once.
    if let (Ok(name), Ok(value)) = (name, value) {
        answer.headers_mut().insert(name, value);
    }
}

fn not_modified(bucket: &Bucket, object: &Object) -> Answer {
    let mut answer = answer::empty(StatusCode::NOT_MODIFIED);
    set_validators(&mut answer, object);
    version_id::tell(&mut answer, bucket, object.version);
    for (name, value) in &object.headers {
        // RFC 9110 (15.4.5): what a cache needs to go on using what it has.
        if matches!(name.as_str(), "cache-control" | "expires") {
            set_kept(&mut answer, name, value);
        }
    }
    answer
}

/// The wanted bytes as a body; `stream` is the key, if the object is encrypted.
///
/// # Errors
/// [`ReadFailure::Gone`]: the object was replaced meanwhile, ask metadata again.
pub async fn body(
    admission: &Rc<Admission>,
    object: &Object,
    range: Range<u64>,
    stream: Option<&Stream>,
) -> Result<AnswerBody, ReadFailure> {
    if range.is_empty() {
        return Ok(AnswerBody::empty());
    }
    let bucket = admission.bucket().map_err(ReadFailure::Error)?.id;
    let length = range.end - range.start;
    let chunks = match (stream, &object.content) {
        (Some(stream), content) => {
            let whole = (content, object.size);
            let reader = DecryptingReader::new(admission, bucket, whole, range, stream);
            Chunks::Decrypted(Box::new(reader))
        }
        (None, Content::Inline(bytes)) => {
            // At most 8 KiB, so copying the range is cheaper than anything else.
            let bytes = bytes
                .get(range.start as usize..range.end as usize)
                .unwrap_or_default();
            return Ok(AnswerBody::of(Chunk::Bytes(Bytes::copy_from_slice(bytes))));
        }
        (None, content) => Chunks::Stored(
            Reader::new(admission, bucket, content, range),
            admission.worker().placeholders.clone(),
        ),
    };
    stream_of(admission, chunks, length).await
}

/// Where the pieces of a body come from.
enum Chunks {
    /// Blocks as they lie there: from file to socket, where they are files.
    Stored(Reader, Rc<Placeholders>),
    /// Through this process.
    Decrypted(Box<DecryptingReader>),
}

impl Chunks {
    fn kib(&self) -> u32 {
        match self {
            Self::Stored(reader, _) => reader.kib(),
            Self::Decrypted(reader) => reader.kib(),
        }
    }

    async fn next(&mut self) -> Result<Option<Chunk>, ReadFailure> {
        match self {
            Self::Stored(reader, placeholders) => next_chunk(reader, placeholders).await,
            Self::Decrypted(reader) => Ok(reader.next().await?.map(Chunk::Bytes)),
        }
    }
}

/// A body of so many bytes out of `chunks`: the first is there before the answer begins, and each further one is got while the one before is sent.
async fn stream_of(
    admission: &Admission,
    mut chunks: Chunks,
    length: u64,
) -> Result<AnswerBody, ReadFailure> {
    let share = admission.worker().budget.take(chunks.kib()).await;
    let share = share.map_err(ReadFailure::Error)?;
    let first = chunks.next().await?;
    let first = first.ok_or(ReadFailure::Error(ErrorCode::InternalError.into()))?;
    if first.remaining() as u64 == length {
        return Ok(AnswerBody::of(first).holding(share));
    }
    let (sender, rest) = mpsc::channel(1);
    tokio::task::spawn_local(async move {
        // One ahead: a place in the channel is waited for before the next is got.
        while let Ok(place) = sender.reserve().await {
            match chunks.next().await {
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
