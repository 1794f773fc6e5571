//! Takes the bytes of one object or part, seals them where they are to be encrypted, and hands them to the blocks.

use super::{Stream, impossible};
use crate::blocks::{BlockWriter, Placed};
use crate::worker::Worker;
use object_encryption::{Sealer, sealed_bytes};
use protocol::block::HashKey;
use s3_wire::error::S3Error;
use std::rc::Rc;

/// A [`BlockWriter`], with a chunk in hand where it encrypts.
pub struct ObjectWriter {
    blocks: BlockWriter,
    sealer: Option<Sealer>,
}

impl ObjectWriter {
    /// For exactly `bytes` bytes, which are encrypted if there is a `stream`. See [`BlockWriter::new`].
    ///
    /// # Errors
    /// None in practice: keys and salts have the right length.
    pub fn new(
        worker: &Rc<Worker>,
        key: HashKey,
        bytes: u64,
        may_inline: bool,
        stream: Option<&Stream>,
    ) -> Result<Self, S3Error> {
        Ok(Self {
            blocks: BlockWriter::new(worker, key, stored(bytes, stream), may_inline),
            sealer: sealer(stream, bytes)?,
        })
    }

    /// For at most `bytes_max` bytes. See [`BlockWriter::open_ended`].
    ///
    /// # Errors
    /// As [`ObjectWriter::new`].
    pub fn open_ended(
        worker: &Rc<Worker>,
        key: HashKey,
        bytes_max: u64,
        stream: Option<&Stream>,
    ) -> Result<Self, S3Error> {
        Ok(Self {
            blocks: BlockWriter::open_ended(worker, key, stored(bytes_max, stream)),
            sealer: sealer(stream, bytes_max)?,
        })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// Those of [`BlockWriter::write`].
    pub async fn write(&mut self, mut data: &[u8]) -> Result<(), S3Error> {
        let Some(sealer) = &mut self.sealer else {
            return self.blocks.write(data).await;
        };
        while let Some(chunk) = sealer.update(&mut data).map_err(impossible)? {
            self.blocks.write(&chunk).await?;
        }
        Ok(())
    }

    /// Waits until every block is on disk.
    ///
    /// # Errors
    /// Those of [`BlockWriter::finish`].
    pub async fn finish(mut self) -> Result<Placed, S3Error> {
        if let Some(sealer) = self.sealer.take()
            && let Some(chunk) = sealer.finish().map_err(impossible)?
        {
            self.blocks.write(&chunk).await?;
        }
        self.blocks.finish().await
    }
}

fn stored(bytes: u64, stream: Option<&Stream>) -> u64 {
    match stream {
        Some(_) => sealed_bytes(bytes),
        None => bytes,
    }
}

fn sealer(stream: Option<&Stream>, bytes: u64) -> Result<Option<Sealer>, S3Error> {
    let sealer = |stream: &Stream| Sealer::new(&stream.secret, &stream.salt.0, bytes);
    stream.map(sealer).transpose().map_err(impossible)
}
