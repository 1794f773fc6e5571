//! What an upload holds in the block-store until metadata knows its blocks: pins on blocks, and
//! files that are being written.
//!
//! The store keeps blocks that nobody references yet because the connection that made them pins
//! them. [`Placement`] counts one upload's pins and writers and gives them up when it is dropped,
//! whatever the reason: the object is written, its client hung up, a digest was wrong. Calls that
//! make pins run in tasks that hold the placement, so that none is forgotten when the upload ends
//! before their answer.

use super::Failure;
use protocol::block::{
    BlockAnswer, BlockCall, BlockError, BlockId, BlockRef, Blocks, HashKey, LIST_MAX, Place,
};
use runtime::Client;
use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

/// One connection to the block-store.
pub(crate) struct Connection {
    client: Client<Blocks>,
}

impl Connection {
    pub(crate) fn new(client: Client<Blocks>) -> Self {
        Self { client }
    }

    /// Whether the connection has ended, and with it everything that was held on it.
    pub(crate) fn has_ended(&self) -> bool {
        self.client.ended()
    }
}

/// What a dropped placement leaves to be given up.
struct Loose {
    connection: Rc<Connection>,
    blocks: Vec<BlockRef>,
    writers: Vec<u64>,
}

/// The task that gives up pins, in batches: small uploads would otherwise pay for a call each.
#[derive(Clone)]
pub(crate) struct Pins {
    loose: mpsc::UnboundedSender<Loose>,
}

impl Pins {
    /// Starts the task on this thread. It ends when the last handle has gone.
    pub(crate) fn start() -> Self {
        let (loose, mut queue) = mpsc::unbounded_channel::<Loose>();
        tokio::task::spawn_local(async move {
            while let Some(first) = queue.recv().await {
                let Loose {
                    connection,
                    mut blocks,
                    mut writers,
                } = first;
                let mut other = None;
                while blocks.len() + writers.len() < LIST_MAX {
                    match queue.try_recv() {
                        Ok(next) if Rc::ptr_eq(&next.connection, &connection) => {
                            blocks.extend(next.blocks);
                            writers.extend(next.writers);
                        }
                        Ok(next) => {
                            other = Some(next);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                give_up(&connection, blocks, writers).await;
                if let Some(Loose {
                    connection,
                    blocks,
                    writers,
                }) = other
                {
                    give_up(&connection, blocks, writers).await;
                }
            }
        });
        Self { loose }
    }
}

/// Errors mean that the connection has ended, which gives up everything as well.
async fn give_up(connection: &Connection, blocks: Vec<BlockRef>, writers: Vec<u64>) {
    for writer in writers {
        let _ = connection
            .client
            .call(&BlockCall::Abandon { writer }, &[])
            .await;
    }
    for list in blocks.chunks(LIST_MAX) {
        let call = BlockCall::Unpin {
            blocks: list.to_vec(),
        };
        let _ = connection.client.call(&call, &[]).await;
    }
}

/// A block file that is being written.
pub(crate) struct OpenWriter {
    /// Write-only, empty.
    pub(crate) file: OwnedFd,
    number: u64,
    _permit: OwnedSemaphorePermit,
}

/// What one upload holds on one connection.
pub(crate) struct Placement {
    connection: Rc<Connection>,
    pinned: RefCell<Vec<BlockRef>>,
    /// Files that are neither committed nor abandoned.
    writers: RefCell<Vec<u64>>,
    permits: Arc<Semaphore>,
    pins: Pins,
}

impl Placement {
    pub(crate) fn new(connection: Rc<Connection>, permits: Arc<Semaphore>, pins: Pins) -> Rc<Self> {
        Rc::new(Self {
            connection,
            pinned: RefCell::default(),
            writers: RefCell::default(),
            permits,
            pins,
        })
    }

    /// Whether what it held is gone because the connection ended.
    pub(crate) fn is_lost(&self) -> bool {
        self.connection.has_ended()
    }

    /// Asks for a file to fill with `length` bytes; waits while this thread fills too many.
    pub(crate) fn create(self: &Rc<Self>, length: u32) -> JoinHandle<Result<OpenWriter, Failure>> {
        let this = self.clone();
        tokio::task::spawn_local(async move {
            let permit = this.permits.clone().acquire_owned().await;
            let permit = permit.map_err(|_| Failure::Answer("Create"))?;
            let call = BlockCall::Create { length };
            let (answer, mut descriptors) = this
                .connection
                .client
                .call(&call, &[])
                .await
                .map_err(Failure::Call)?;
            match (answer.map_err(Failure::Store)?, descriptors.pop()) {
                (BlockAnswer::Created { writer }, Some(file)) => {
                    this.writers.borrow_mut().push(writer);
                    Ok(OpenWriter {
                        file,
                        number: writer,
                        _permit: permit,
                    })
                }
                _ => Err(Failure::Answer("Create")),
            }
        })
    }

    /// Makes the filled file of `writer` the block `id`. The descriptor is closed first: the store
    /// refuses a file that could still change.
    pub(crate) fn commit(
        self: &Rc<Self>,
        writer: OpenWriter,
        id: BlockId,
        key: HashKey,
        length: u32,
    ) -> JoinHandle<Result<BlockRef, Failure>> {
        let this = self.clone();
        let OpenWriter {
            file,
            number,
            _permit: permit,
        } = writer;
        drop(file);
        tokio::task::spawn_local(async move {
            let call = BlockCall::Commit {
                writer: number,
                id,
                key,
                length,
            };
            let answer = this.connection.client.call(&call, &[]).await;
            drop(permit);
            // Committed, or refused and gone, or lost with its connection: there is nothing left to
            // abandon, unless the store says that the file is still there.
            if !matches!(answer, Ok((Err(BlockError::StillOpen), _))) {
                this.writers.borrow_mut().retain(|open| *open != number);
            }
            match answer.map_err(Failure::Call)?.0.map_err(Failure::Store)? {
                BlockAnswer::Stored(block) => Ok(this.pin(block)),
                BlockAnswer::Done => Ok(this.pin(BlockRef {
                    id,
                    length,
                    place: Place::File,
                })),
                _ => Err(Failure::Answer("Commit")),
            }
        })
    }

    /// Stores a small block.
    pub(crate) fn store(
        self: &Rc<Self>,
        id: BlockId,
        key: HashKey,
        bytes: Vec<u8>,
    ) -> JoinHandle<Result<BlockRef, Failure>> {
        let this = self.clone();
        tokio::task::spawn_local(async move {
            let call = BlockCall::Store { id, key, bytes };
            let (answer, _) = this
                .connection
                .client
                .call(&call, &[])
                .await
                .map_err(Failure::Call)?;
            match answer.map_err(Failure::Store)? {
                BlockAnswer::Stored(block) => Ok(this.pin(block)),
                _ => Err(Failure::Answer("Store")),
            }
        })
    }

    fn pin(&self, block: BlockRef) -> BlockRef {
        self.pinned.borrow_mut().push(block);
        block
    }
}

impl Drop for Placement {
    fn drop(&mut self) {
        let blocks = self.pinned.take();
        let writers = self.writers.take();
        if self.connection.has_ended() || (blocks.is_empty() && writers.is_empty()) {
            return;
        }
        // Fails only when the thread is ending, and its connections with it.
        let _ = self.pins.loose.send(Loose {
            connection: self.connection.clone(),
            blocks,
            writers,
        });
    }
}
