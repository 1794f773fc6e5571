//! Reads a range of an encrypted object: opens the chunks under it, one after the other, and gives what is wanted of each.

use super::{Stream, impossible};
use crate::admission::Admission;
use crate::blocks::{Extent, OpenBlock, ReadFailure, Reader, find_part, read_at};
use bytes::Bytes;
use object_encryption::{CHUNK_BYTES, Damaged, Opener, PLAIN_BYTES, Secret};
use protocol::metadata::{BucketId, Content, Salt};
use rustix::io::Errno;
use s3_wire::error::{ErrorCode, S3Error};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

/// The bytes of an encrypted object that are still to be read.
pub struct DecryptingReader {
    admission: Rc<Admission>,
    bucket: BucketId,
    secret: Secret,
    /// Runs of bytes that are encrypted each for itself: the object, or its parts.
    pieces: VecDeque<Piece>,
    /// Of multipart objects.
    upload: String,
    current: Option<Chunks>,
}

struct Piece {
    bytes: u64,
    /// What is wanted of it; not empty.
    wanted: Range<u64>,
    place: Place,
}

enum Place {
    Here(Salt, Content),
    Part(u16),
}

/// The chunks of one piece.
struct Chunks {
    opener: Opener,
    sealed: Sealed,
    /// The next one.
    next: u64,
    /// What is still wanted of the piece.
    wanted: Range<u64>,
}

/// Where sealed bytes come from.
enum Sealed {
    /// All of a small object.
    Inline(Bytes),
    Blocks {
        reader: Box<Reader>,
        /// A block that is not used up.
        open: Option<(Extent, OpenBlock)>,
    },
}

impl DecryptingReader {
    /// The bytes `range` of an object of `bytes` bytes in `bucket`.
    pub fn new(
        admission: &Rc<Admission>,
        bucket: BucketId,
        (content, bytes): (&Content, u64),
        range: Range<u64>,
        stream: &Stream,
    ) -> Self {
        let (mut pieces, mut name) = (VecDeque::new(), String::new());
        match content {
            Content::Parts { upload, parts } => {
                name.clone_from(upload);
                let mut start = 0_u64;
                for (number, size) in parts {
                    let end = start.saturating_add(*size);
                    let (first, last) = (range.start.max(start), range.end.min(end));
                    if first < last {
                        pieces.push_back(Piece {
                            bytes: *size,
                            wanted: first - start..last - start,
                            place: Place::Part(*number),
                        });
                    }
                    start = end;
                }
            }
            content if !range.is_empty() => pieces.push_back(Piece {
                bytes,
                wanted: range,
                place: Place::Here(stream.salt, content.clone()),
            }),
            _ => {}
        }
        Self {
            admission: admission.clone(),
            bucket,
            secret: stream.secret.clone(),
            pieces,
            upload: name,
            current: None,
        }
    }

    /// What it and the chunks that it gives hold in memory, in KiB: a packed block, a chunk that is being opened, one that is sent and one that waits.
    pub fn kib(&self) -> u32 {
        let lists = self.pieces.len() * size_of::<Piece>() / 1024;
        (4 * CHUNK_BYTES as u32 / 1024).saturating_add(u32::try_from(lists).unwrap_or(u32::MAX))
    }

    /// The next wanted bytes, at most a chunk; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReadFailure> {
        loop {
            if let Some(chunks) = &mut self.current
                && !chunks.wanted.is_empty()
            {
                return chunks.next().await.map(Some);
            }
            let Some(piece) = self.pieces.pop_front() else {
                return Ok(None);
            };
            self.current = Some(self.begin(piece).await?);
        }
    }

    async fn begin(&self, piece: Piece) -> Result<Chunks, ReadFailure> {
        let (salt, content) = match piece.place {
            Place::Here(salt, content) => (salt, content),
            Place::Part(number) => {
                let part = find_part(&self.admission, self.bucket, &self.upload, number).await?;
                let salt = part.salt.ok_or_else(|| damaged("a part without a salt"))?;
                (salt, Content::Blocks(part.blocks))
            }
        };
        let opener = Opener::new(&self.secret, &salt.0, piece.bytes);
        let opener = opener.map_err(|error| ReadFailure::Error(impossible(error)))?;
        let next = piece.wanted.start / PLAIN_BYTES as u64;
        let from = next.saturating_mul(CHUNK_BYTES as u64);
        let sealed = match content {
            Content::Inline(bytes) => Sealed::Inline(bytes.into()),
            content => {
                let last = piece.wanted.end.saturating_sub(1) / PLAIN_BYTES as u64;
                let to =
                    last.saturating_mul(CHUNK_BYTES as u64) + opener.sealed_length(last) as u64;
                let reader = Reader::new(&self.admission, self.bucket, &content, from..to);
                Sealed::Blocks {
                    reader: Box::new(reader),
                    open: None,
                }
            }
        };
        Ok(Chunks {
            opener,
            sealed,
            next,
            wanted: piece.wanted,
        })
    }
}

impl Chunks {
    async fn next(&mut self) -> Result<Bytes, ReadFailure> {
        let chunk = self.next;
        let length = self.opener.sealed_length(chunk);
        let mut bytes = self.sealed.take(length).await?;
        let plain = match self.opener.open(chunk, &mut bytes) {
            Ok(plain) => plain.len(),
            Err(Damaged) => return Err(damaged("a chunk is not what was sealed")),
        };
        bytes.truncate(plain);
        let start = chunk.saturating_mul(PLAIN_BYTES as u64);
        let end = start.saturating_add(plain as u64);
        let (first, last) = (self.wanted.start.max(start), self.wanted.end.min(end));
        self.next = chunk.saturating_add(1);
        self.wanted.start = last;
        if first >= last {
            return Err(damaged("an object shorter than its size"));
        }
        // Both lie in the chunk.
        let range = (first - start) as usize..(last - start) as usize;
        Ok(Bytes::from(bytes).slice(range))
    }
}

impl Sealed {
    /// The next `length` bytes, copied: they are opened in place.
    async fn take(&mut self, length: usize) -> Result<Vec<u8>, ReadFailure> {
        match self {
            Self::Inline(bytes) if bytes.len() == length => Ok(std::mem::take(bytes).into()),
            Self::Inline(_) => Err(damaged("an inlined object of another length")),
            Self::Blocks { reader, open } => {
                let mut taken = vec![0; length];
                let mut filled = 0;
                while let Some(space) = taken.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                    if open
                        .as_ref()
                        .is_none_or(|(extent, _)| extent.from >= extent.to)
                    {
                        *open = reader.next().await?;
                    }
                    let Some((extent, block)) = open else {
                        return Err(damaged("an object shorter than its size"));
                    };
                    filled += copy(extent, block, space).map_err(|errno| {
                        runtime::error!("block {:?}: {errno}", extent.block.id);
                        ReadFailure::Error(ErrorCode::InternalError.into())
                    })?;
                }
                Ok(taken)
            }
        }
    }
}

/// Copies from the front of a part of a block, which gets shorter, and answers how much.
fn copy(extent: &mut Extent, block: &OpenBlock, space: &mut [u8]) -> Result<usize, Errno> {
    let here = space
        .len()
        .min(extent.to.saturating_sub(extent.from) as usize);
    let space = space.get_mut(..here).unwrap_or_default();
    let copied = match block {
        OpenBlock::Bytes(bytes) => {
            let from = extent.from as usize;
            let bytes = bytes.get(from..from + here).ok_or(Errno::IO)?;
            space.copy_from_slice(bytes);
            here
        }
        OpenBlock::File(file) => read_at(file, space, u64::from(extent.from), here as u64)?.len(),
    };
    // At most the length of a block.
    extent.from += copied as u32;
    Ok(copied)
}

fn damaged(what: &str) -> ReadFailure {
    runtime::error!("an encrypted object cannot be read: {what}");
    ReadFailure::Error(S3Error::from(ErrorCode::InternalError))
}
