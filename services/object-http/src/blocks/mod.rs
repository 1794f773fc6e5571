//! Blocks: writing them for an upload, reading them for an answer.

mod pins;
mod reader;
mod remembered;
mod writer;

pub(crate) use pins::Pins;
use pins::{Connection, Placement};
pub use reader::{Extent, ReadFailure, Reader, copy_into};
pub(crate) use reader::{find_part, read_at};
pub use writer::{BlockWriter, Hold, Placed};

use crate::limits::{UNAVAILABLE_WAIT, WRITERS_MAX};
use bytes::Bytes;
use protocol::block::{BlockAnswer, BlockCall, BlockError, BlockRef, Blocks};
use remembered::Remembered;
use runtime::{Bus, CallError, Link};
use s3_wire::error::{ErrorCode, S3Error};
use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// The service's name in its manifest.
const SERVICE: &str = "block-store";
/// Between two attempts while the store restarts.
const PAUSE: Duration = Duration::from_millis(100);

/// One thread's line to the block-store.
pub struct BlockLink {
    link: Link<Blocks>,
    current: RefCell<Option<Rc<Connection>>>,
    /// Block files being written by all uploads of this thread.
    writers: Arc<Semaphore>,
    pins: Pins,
    remembered: Remembered,
}

/// A block that may be read.
#[derive(Clone)]
pub enum OpenBlock {
    /// A file that holds exactly this block, positioned anywhere.
    File(Rc<OwnedFd>),
    /// Its bytes.
    Bytes(Bytes),
}

/// Why a block was not placed or not opened.
#[derive(Debug)]
pub enum Failure {
    /// The store's own refusal.
    Store(BlockError),
    /// No answer.
    Call(CallError),
    /// The store answered something else than was asked.
    Answer(&'static str),
    /// Writing to the block's file failed.
    Write(rustix::io::Errno),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Call(error) => error.fmt(f),
            Self::Answer(call) => write!(f, "{call} was answered with another answer"),
            Self::Write(errno) => write!(f, "writing a block: {errno}"),
        }
    }
}

impl From<Failure> for S3Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Store(BlockError::Full) | Failure::Write(rustix::io::Errno::NOSPC) => {
                ErrorCode::InsufficientStorage.into()
            }
            Failure::Store(BlockError::TooManyWriters) => ErrorCode::SlowDown.into(),
            Failure::Store(BlockError::Disk(_) | BlockError::TooFewCopies(_))
            | Failure::Call(_)
            | Failure::Write(_) => {
                runtime::warn!("block-store: {failure}");
                ErrorCode::ServiceUnavailable.into()
            }
            Failure::Store(_) | Failure::Answer(_) => {
                runtime::error!("block-store: {failure}");
                ErrorCode::InternalError.into()
            }
        }
    }
}

impl BlockLink {
    /// Connects with the first call. Blocks that were opened a moment ago may take so many bytes.
    pub(crate) fn new(bus: Bus, pins: Pins, remembered_bytes_max: usize) -> Self {
        Self {
            link: Link::new(bus, SERVICE),
            current: RefCell::default(),
            writers: Arc::new(Semaphore::new(WRITERS_MAX)),
            pins,
            remembered: Remembered::new(remembered_bytes_max),
        }
    }

    /// It is `now_s`: lets blocks go that were opened a while ago.
    pub(crate) fn tick(&self, now_s: u64) {
        self.remembered.tick(now_s);
    }

    /// The present connection, which an upload holds on to: its writers and pins live and die with
    /// it.
    async fn connection(&self) -> Result<Rc<Connection>, Failure> {
        if let Some(current) = self
            .current
            .borrow()
            .as_ref()
            .filter(|one| !one.has_ended())
        {
            return Ok(current.clone());
        }
        let client = self.link.client().await.map_err(Failure::Call)?;
        let connection = Rc::new(Connection::new(client));
        *self.current.borrow_mut() = Some(connection.clone());
        Ok(connection)
    }

    /// Begins an upload on the present connection.
    async fn placement(&self) -> Result<Rc<Placement>, Failure> {
        let connection = self.connection().await?;
        Ok(Placement::new(
            connection,
            self.writers.clone(),
            self.pins.clone(),
        ))
    }

    /// The right to read `block`, which metadata has named for the request at hand. `next`: the one that is to be opened after it. A store that
    /// restarts meanwhile is waited for.
    pub async fn open(
        &self,
        block: BlockRef,
        next: Option<BlockRef>,
    ) -> Result<OpenBlock, Failure> {
        if let Some(open) = self.remembered.get(&block) {
            return Ok(open);
        }
        let open = self.ask(block, next).await?;
        self.remembered.keep(&block, &open);
        Ok(open)
    }

    async fn ask(&self, block: BlockRef, next: Option<BlockRef>) -> Result<OpenBlock, Failure> {
        let deadline = Instant::now() + UNAVAILABLE_WAIT;
        let call = BlockCall::Open { block, next };
        loop {
            let (answer, mut descriptors) = self.link.repeat(&call).await.map_err(Failure::Call)?;
            let file = descriptors.pop();
            match (answer, file) {
                (Ok(BlockAnswer::File { length }), Some(file)) if length == block.length => {
                    return Ok(OpenBlock::File(Rc::new(file)));
                }
                (Ok(BlockAnswer::Bytes(bytes)), None)
                    if u32::try_from(bytes.len()) == Ok(block.length) =>
                {
                    return Ok(OpenBlock::Bytes(bytes.into()));
                }
                (Ok(_), _) => return Err(Failure::Answer("Open")),
                (Err(BlockError::Disk(_)), _) if Instant::now() < deadline => {
                    tokio::time::sleep(PAUSE).await;
                }
                (Err(error), _) => return Err(Failure::Store(error)),
            }
        }
    }
}
