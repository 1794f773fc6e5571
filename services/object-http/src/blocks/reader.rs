//! Finds the blocks under a range of an object's bytes and opens them one after the other.

use super::{Failure, OpenBlock};
use crate::admission::Admission;
use crate::encryption::ObjectWriter;
use crate::limits::PACKED_KIB;
use crate::metadata::{Failure as MetadataFailure, unexpected};
use protocol::block::{BlockError, BlockRef, Place};
use protocol::metadata::{BucketId, Content, MetadataError, Operation, Part, Reply};
use rustix::io::Errno;
use s3_wire::body::BodyChecks;
use s3_wire::error::{ErrorCode, S3Error};
use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::AsFd;
use std::rc::Rc;

/// How much of a block is read at a time where its bytes must pass through this process (copies
/// between buckets).
const COPY_BYTES: usize = 128 * 1024;

/// A part of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The block.
    pub block: BlockRef,
    /// Offset of the first byte.
    pub from: u32,
    /// Offset behind the last.
    pub to: u32,
}

/// The bytes of an object that are still to be read.
pub struct Reader {
    admission: Rc<Admission>,
    bucket: BucketId,
    /// Of a multipart object: its upload, and what is wanted of each part.
    upload: String,
    parts: VecDeque<(u16, Range<u64>)>,
    extents: VecDeque<Extent>,
}

/// Why reading stopped.
#[derive(Debug)]
pub enum ReadFailure {
    /// The object has been replaced or deleted since metadata was asked, and its blocks are gone.
    Gone,
    /// Everything else.
    Error(S3Error),
}

impl From<ReadFailure> for S3Error {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            // Who sees this has asked anew several times already.
            ReadFailure::Gone => ErrorCode::ServiceUnavailable.into(),
            ReadFailure::Error(error) => error,
        }
    }
}

/// The parts of `blocks` under the bytes `range` of the whole that they make up.
fn extents_of(blocks: &[BlockRef], range: &Range<u64>) -> VecDeque<Extent> {
    let mut start = 0_u64;
    let mut extents = VecDeque::new();
    for block in blocks {
        let end = start.saturating_add(u64::from(block.length));
        let (first, last) = (range.start.max(start), range.end.min(end));
        if first < last {
            // Both lie within the block, whose length is 32 bits.
            let (from, to) = ((first - start) as u32, (last - start) as u32);
            extents.push_back(Extent {
                block: *block,
                from,
                to,
            });
        }
        start = end;
    }
    extents
}

impl Reader {
    /// The bytes `range` of an object of `bucket`. Inlined content has no blocks: the caller has it
    /// already.
    pub fn new(
        admission: &Rc<Admission>,
        bucket: BucketId,
        content: &Content,
        range: Range<u64>,
    ) -> Self {
        let mut reader = Self {
            admission: admission.clone(),
            bucket,
            upload: String::new(),
            parts: VecDeque::new(),
            extents: VecDeque::new(),
        };
        match content {
            Content::Inline(_) => {}
            Content::Blocks(blocks) => reader.extents = extents_of(blocks, &range),
            Content::Parts { upload, parts } => {
                reader.upload.clone_from(upload);
                let mut start = 0_u64;
                for (number, size) in parts {
                    let end = start.saturating_add(*size);
                    let (first, last) = (range.start.max(start), range.end.min(end));
                    if first < last {
                        reader
                            .parts
                            .push_back((*number, first - start..last - start));
                    }
                    start = end;
                }
            }
        }
        reader
    }

    /// What it and the blocks that it opens hold in memory, in KiB. Bytes of files are not held.
    pub fn kib(&self) -> u32 {
        let bytes = self.extents.len() * size_of::<Extent>()
            + self.parts.len() * size_of::<(u16, Range<u64>)>();
        let lists_kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
        let is_packed = |extent: &&Extent| matches!(extent.block.place, Place::Packed { .. });
        // Whether a part has packed blocks is known only when its turn comes.
        let packed = match self.parts.is_empty() {
            true => self.extents.iter().filter(is_packed).take(2).count(),
            false => 2,
        };
        lists_kib.saturating_add(PACKED_KIB * packed as u32) // at most two
    }

    /// Opens the next block; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<(Extent, OpenBlock)>, ReadFailure> {
        let Some(extent) = self.next_extent().await? else {
            return Ok(None);
        };
        let admission = self.admission.clone();
        let next = self.extents.front().map(|next| next.block);
        let opening = admission.worker().blocks.open(extent.block, next);
        let (opened, ()) = tokio::join!(opening, self.look_ahead());
        match opened {
            Ok(open) => Ok(Some((extent, open))),
            Err(Failure::Store(BlockError::NoSuchBlock)) => Err(ReadFailure::Gone),
            // Who reads needs room for a moment only, where the block comes from another node: it is not for them that something has to be deleted, and they may try again.
            Err(Failure::Store(BlockError::Full)) => {
                runtime::warn!(
                    "this node's disk is so full that no block of another passes through it to a reader"
                );
                Err(ReadFailure::Error(ErrorCode::ServiceUnavailable.into()))
            }
            Err(error) => {
                if matches!(error, Failure::Store(BlockError::Damaged)) {
                    runtime::error!("block {:?} is damaged", extent.block.id);
                }
                Err(ReadFailure::Error(error.into()))
            }
        }
    }

    /// Finds the blocks of the next part before the last one of this part is opened, so that what comes after it can be said then.
    async fn look_ahead(&mut self) {
        if self.extents.len() <= 1 {
            // What goes wrong is found again, and said, when it is the part's turn.
            let _ = self.find_next_part().await;
        }
    }

    /// Adds the blocks of the next part to those that are still to be read; whether there was one.
    async fn find_next_part(&mut self) -> Result<bool, ReadFailure> {
        let Some((number, range)) = self.parts.front().cloned() else {
            return Ok(false);
        };
        let part = find_part(&self.admission, self.bucket, &self.upload, number).await?;
        self.parts.pop_front();
        self.extents.extend(extents_of(&part.blocks, &range));
        Ok(true)
    }

    /// The next part of a block, without opening it.
    async fn next_extent(&mut self) -> Result<Option<Extent>, ReadFailure> {
        while self.extents.is_empty() && self.find_next_part().await? {}
        Ok(self.extents.pop_front())
    }

    /// All blocks that are still to be read, where whole blocks are wanted: for a copy that refers
    /// to them.
    pub async fn all_blocks(mut self) -> Result<Vec<BlockRef>, ReadFailure> {
        let mut blocks = Vec::new();
        while let Some(extent) = self.next_extent().await? {
            blocks.push(extent.block);
        }
        Ok(blocks)
    }
}

/// A part of a multipart object.
///
/// # Errors
/// [`ReadFailure::Gone`] if the object is no longer there.
pub(crate) async fn find_part(
    admission: &Admission,
    bucket: BucketId,
    upload: &str,
    number: u16,
) -> Result<Part, ReadFailure> {
    let operation = Operation::GetPart {
        bucket,
        upload: upload.to_owned(),
        number,
    };
    match admission.read(operation).await {
        Ok(Reply::Part(part)) => Ok(part),
        Ok(other) => Err(ReadFailure::Error(unexpected(&other))),
        Err(MetadataFailure::Metadata(
            MetadataError::NoSuchUpload
            | MetadataError::NoSuchKey
            | MetadataError::InvalidPart { .. },
        )) => Err(ReadFailure::Gone),
        Err(error) => Err(ReadFailure::Error(error.into())),
    }
}

/// Reads what is left of `reader` and writes it to `writer`, with its digests.
pub async fn copy_into(
    mut reader: Reader,
    writer: &mut ObjectWriter,
    checks: &mut BodyChecks,
) -> Result<(), ReadFailure> {
    while let Some((extent, open)) = reader.next().await? {
        match open {
            OpenBlock::Bytes(bytes) => {
                let range = extent.from as usize..extent.to as usize;
                let data = bytes.get(range).unwrap_or_default();
                checks.update(data);
                writer.write(data).await.map_err(ReadFailure::Error)?;
            }
            OpenBlock::File(file) => {
                let mut buffer = vec![0; COPY_BYTES];
                let mut at = u64::from(extent.from);
                while at < u64::from(extent.to) {
                    let data = read_at(&file, &mut buffer, at, u64::from(extent.to) - at)
                        .map_err(|errno| ReadFailure::Error(damaged(&extent, errno)))?;
                    checks.update(data);
                    writer.write(data).await.map_err(ReadFailure::Error)?;
                    at += data.len() as u64;
                    // Nothing here waits, so other connections must be let in on purpose.
                    tokio::task::yield_now().await;
                }
            }
        }
    }
    Ok(())
}

/// At most `length` bytes at `offset`, at least one.
pub(crate) fn read_at(
    file: impl AsFd,
    buffer: &mut [u8],
    offset: u64,
    length: u64,
) -> Result<&[u8], Errno> {
    let length = usize::try_from(length)
        .unwrap_or(usize::MAX)
        .min(buffer.len());
    let space = buffer.get_mut(..length).unwrap_or_default();
    loop {
        match rustix::io::pread(&file, &mut *space, offset) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok(0) => return Err(Errno::IO),
            Ok(read) => return Ok(space.get(..read).unwrap_or_default()),
        }
    }
}

fn damaged(extent: &Extent, errno: Errno) -> S3Error {
    runtime::error!("block {:?} cannot be read: {errno}", extent.block.id);
    ErrorCode::InternalError.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::block::BlockId;

    #[test]
    fn a_range_finds_the_parts_of_its_blocks() {
        let block = |length| BlockRef {
            id: BlockId([0; 32]),
            length,
            place: Place::File,
        };
        let blocks = [block(10), block(10), block(5)];
        let check = |range: Range<u64>, expected: &[(u32, u32)]| {
            let found: Vec<_> = extents_of(&blocks, &range)
                .iter()
                .map(|one| (one.from, one.to))
                .collect();
            assert_eq!(found, expected, "{range:?}");
        };
        check(0..25, &[(0, 10), (0, 10), (0, 5)]);
        check(0..10, &[(0, 10)]);
        check(9..11, &[(9, 10), (0, 1)]);
        check(24..25, &[(4, 5)]);
        check(25..30, &[]);
        check(3..3, &[]);
    }
}
