//! Cuts an upload into blocks and places each while the next is being received. Holds at most one
//! small block in memory.

use super::Failure;
use super::pins::{OpenWriter, Placement};
use crate::limits::COMMITS_MAX;
use crate::worker::Worker;
use protocol::block::{BLOCK_BYTES_MAX, BlockId, BlockRef, HashKey, PACKED_BYTES_MAX};
use protocol::metadata::{Content, INLINE_BYTES_MAX};
use runtime::CallError;
use rustix::io::Errno;
use s3_wire::error::{ErrorCode, S3Error};
use std::collections::VecDeque;
use std::rc::Rc;
use tokio::task::JoinHandle;

/// How often the first block is tried anew because the store was restarting. Nothing is lost by
/// that: nothing was placed yet.
const BEGINNINGS_MAX: u32 = 5;

/// Takes the bytes of one object or part, whose length is known, and places them.
pub struct BlockWriter {
    worker: Rc<Worker>,
    key: HashKey,
    /// Bytes that belong to blocks not yet begun.
    to_come: u64,
    /// There may be fewer bytes than announced.
    open_ended: bool,
    /// Whether an object small enough may lie in its metadata row.
    may_inline: bool,
    placement: Option<Rc<Placement>>,
    current: Current,
    /// On their way to the disk, oldest first.
    placing: VecDeque<JoinHandle<Result<BlockRef, Failure>>>,
    blocks: Vec<BlockRef>,
}

enum Current {
    None,
    /// Too small for a file of its own, or for a block at all.
    Small {
        bytes: Vec<u8>,
        length: usize,
    },
    /// Boxed, since a hasher is 2 KiB and most writers never have one.
    File(Box<BlockFile>),
}

struct BlockFile {
    writer: OpenWriter,
    hasher: blake3::Hasher,
    length: u32,
    left: usize,
}

/// Where the bytes of an upload are now.
pub struct Placed {
    /// Never [`Content::Parts`].
    pub content: Content,
    /// Keeps the blocks from being swept.
    pub hold: Hold,
}

/// Pins on blocks that metadata does not know yet. To be dropped when it has answered.
#[derive(Default)]
pub struct Hold {
    placement: Option<Rc<Placement>>,
}

impl Hold {
    /// Whether the blocks are no longer pinned because the store's connection ended. A sweep may
    /// have taken them, so they must not be written into metadata, and what was written meanwhile
    /// must not be acknowledged.
    pub fn is_lost(&self) -> bool {
        self.placement
            .as_ref()
            .is_some_and(|placement| placement.is_lost())
    }
}

impl BlockWriter {
    /// For exactly `bytes` bytes of a bucket with this key.
    pub fn new(worker: &Rc<Worker>, key: HashKey, bytes: u64, may_inline: bool) -> Self {
        Self {
            worker: worker.clone(),
            key,
            to_come: bytes,
            open_ended: false,
            may_inline: may_inline && bytes <= INLINE_BYTES_MAX as u64,
            placement: None,
            current: Current::None,
            placing: VecDeque::new(),
            blocks: Vec::new(),
        }
    }

    /// For an object of at most `bytes_max` bytes, whose end is known when it comes. Its last blocks are small ones.
    pub fn open_ended(worker: &Rc<Worker>, key: HashKey, bytes_max: u64) -> Self {
        Self {
            open_ended: true,
            may_inline: true,
            ..Self::new(worker, key, bytes_max, false)
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// `InsufficientStorage`, `ServiceUnavailable`, `IncompleteBody` for more bytes than announced.
    pub async fn write(&mut self, mut data: &[u8]) -> Result<(), S3Error> {
        while !data.is_empty() {
            if matches!(self.current, Current::None) {
                self.begin_block().await?;
            }
            let (taken, is_full) = match &mut self.current {
                Current::None => return Err(ErrorCode::IncompleteBody.into()),
                Current::Small { bytes, length } => {
                    let here = data.len().min(length.saturating_sub(bytes.len()));
                    bytes.extend_from_slice(data.get(..here).unwrap_or_default());
                    (here, bytes.len() == *length)
                }
                Current::File(block) => {
                    let here = data.len().min(block.left);
                    block.append(data.get(..here).unwrap_or_default())?;
                    (here, block.left == 0)
                }
            };
            if taken == 0 {
                return Err(ErrorCode::IncompleteBody.into());
            }
            data = data.get(taken..).unwrap_or_default();
            if is_full {
                self.end_block().await?;
            }
        }
        Ok(())
    }

    /// Waits until every block is on disk.
    ///
    /// # Errors
    /// As [`BlockWriter::write`]; `IncompleteBody` for fewer bytes than announced.
    pub async fn finish(mut self) -> Result<Placed, S3Error> {
        if self.open_ended {
            self.close().await?;
        }
        if self.may_inline {
            let bytes = match std::mem::replace(&mut self.current, Current::None) {
                Current::Small { bytes, .. } => bytes,
                Current::None | Current::File(_) => Vec::new(),
            };
            return Ok(Placed {
                content: Content::Inline(bytes),
                hold: Hold::default(),
            });
        }
        if self.to_come > 0 || !matches!(self.current, Current::None) {
            return Err(ErrorCode::IncompleteBody.into());
        }
        while !self.placing.is_empty() {
            self.oldest_placed().await?;
        }
        let hold = Hold {
            placement: self.placement,
        };
        Ok(Placed {
            content: Content::Blocks(self.blocks),
            hold,
        })
    }

    /// The end of what was open.
    async fn close(&mut self) -> Result<(), S3Error> {
        self.to_come = 0;
        let inline = self.placement.is_none() && self.placing.is_empty() && self.blocks.is_empty();
        match std::mem::replace(&mut self.current, Current::None) {
            Current::Small { bytes, length } if inline && bytes.len() <= INLINE_BYTES_MAX => {
                self.current = Current::Small { bytes, length };
                return Ok(());
            }
            Current::Small { bytes, .. } => self.store(bytes).await?,
            // It was begun because all of it had to come.
            Current::File(_) => return Err(ErrorCode::MalformedPOSTRequest.into()),
            Current::None if inline => return Ok(()),
            Current::None => {}
        }
        self.may_inline = false;
        Ok(())
    }

    async fn begin_block(&mut self) -> Result<(), S3Error> {
        // Where the end is not known, only what is far from it goes into a file.
        let is_near = self.open_ended && self.to_come < 2 * BLOCK_BYTES_MAX;
        let length = match is_near {
            true => self.to_come.min(PACKED_BYTES_MAX as u64),
            false => self.to_come.min(BLOCK_BYTES_MAX),
        };
        self.to_come -= length;
        if length == 0 {
            return Ok(());
        }
        // Both fit: a block has at most 4 MiB.
        let (left, length) = (length as usize, length as u32);
        if left <= PACKED_BYTES_MAX {
            self.current = Current::Small {
                bytes: Vec::with_capacity(left),
                length: left,
            };
            return Ok(());
        }
        let writer = self.create(length).await?;
        let hasher = blake3::Hasher::new_keyed(&self.key.0);
        self.current = Current::File(Box::new(BlockFile {
            writer,
            hasher,
            length,
            left,
        }));
        Ok(())
    }

    async fn end_block(&mut self) -> Result<(), S3Error> {
        match std::mem::replace(&mut self.current, Current::None) {
            Current::None => Ok(()),
            // The bytes wait for `finish`.
            small @ Current::Small { .. }
                if self.may_inline && (!self.open_ended || self.to_come == 0) =>
            {
                self.current = small;
                Ok(())
            }
            Current::Small { bytes, .. } => self.store(bytes).await,
            Current::File(block) => {
                let BlockFile {
                    writer,
                    hasher,
                    length,
                    ..
                } = *block;
                let id = BlockId(*hasher.finalize().as_bytes());
                let placement = self.placement.clone().ok_or(ErrorCode::InternalError)?;
                self.placing
                    .push_back(placement.commit(writer, id, self.key, length));
                // Bounds what is dirty in the page cache on this upload's account.
                while self.placing.len() > COMMITS_MAX {
                    self.oldest_placed().await?;
                }
                Ok(())
            }
        }
    }

    async fn oldest_placed(&mut self) -> Result<(), S3Error> {
        if let Some(task) = self.placing.front_mut() {
            let placed = task.await.map_err(|_| ErrorCode::InternalError)?;
            self.placing.pop_front();
            self.blocks.push(placed?);
        }
        Ok(())
    }

    /// Whether nothing is held in the store yet, so that the upload may begin anew on another
    /// connection.
    fn has_placed_nothing(&self) -> bool {
        self.blocks.is_empty() && self.placing.is_empty()
    }

    async fn create(&mut self, length: u32) -> Result<OpenWriter, S3Error> {
        let mut beginnings = 0;
        loop {
            let placement = self.placement().await?;
            let created = placement
                .create(length)
                .await
                .map_err(|_| ErrorCode::InternalError)?;
            beginnings += 1;
            match created {
                Err(Failure::Call(CallError::NotSent | CallError::Lost))
                    if self.has_placed_nothing() && beginnings < BEGINNINGS_MAX =>
                {
                    self.placement = None;
                }
                other => return other.map_err(S3Error::from),
            }
        }
    }

    async fn store(&mut self, bytes: Vec<u8>) -> Result<(), S3Error> {
        let id = BlockId(*blake3::keyed_hash(&self.key.0, &bytes).as_bytes());
        if !self.has_placed_nothing() {
            // The tail of a larger object: on its way together with the block before it.
            let placement = self.placement().await?;
            self.placing.push_back(placement.store(id, self.key, bytes));
            return Ok(());
        }
        let mut beginnings = 0;
        loop {
            let placement = self.placement().await?;
            let stored = placement.store(id, self.key, bytes.clone());
            beginnings += 1;
            match stored.await.map_err(|_| ErrorCode::InternalError)? {
                // Storing the same bytes again is harmless: the copy that nobody references is
                // swept.
                Err(Failure::Call(CallError::NotSent | CallError::Lost))
                    if beginnings < BEGINNINGS_MAX =>
                {
                    self.placement = None;
                }
                other => {
                    self.blocks.push(other?);
                    return Ok(());
                }
            }
        }
    }

    async fn placement(&mut self) -> Result<Rc<Placement>, S3Error> {
        if let Some(placement) = &self.placement {
            return Ok(placement.clone());
        }
        let placement = self.worker.blocks.placement().await?;
        self.placement = Some(placement.clone());
        Ok(placement)
    }
}

impl BlockFile {
    /// Adds bytes, at most as many as are left. Writes into the page cache: it waits only when the
    /// kernel throttles the writer.
    fn append(&mut self, data: &[u8]) -> Result<(), Failure> {
        self.hasher.update(data);
        let mut rest = data;
        while !rest.is_empty() {
            match rustix::io::write(&self.writer.file, rest) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Failure::Write(errno)),
                Ok(0) => return Err(Failure::Write(Errno::IO)),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            }
        }
        self.left = self.left.saturating_sub(data.len());
        Ok(())
    }
}
