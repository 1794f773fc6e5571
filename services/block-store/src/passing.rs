//! A block from another node that there is no room to keep: it passes through this disk to those who wait for it, as a file that then has no name.

use crate::disk::{Disk, DiskFile};
use crate::files::Files;
use crate::shared::Shared;
use protocol::block::BlockError;
use rustix::fs::OFlags;
use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

/// So long readers are waited for whose files take the room. Longer than frontends hold what was read twice in a moment, and shorter than clients wait.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// How often it is looked whether there is room.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The room for blocks that pass through.
pub(crate) struct Passages {
    /// One looks at a time, so that each sees what was promised to those before.
    turn: Semaphore,
    /// To blocks that are not written yet, in bytes.
    promised: Cell<u64>,
    /// When a block was written last.
    last: Cell<Option<Instant>>,
}

impl Default for Passages {
    fn default() -> Self {
        Self {
            turn: Semaphore::new(1),
            promised: Cell::new(0),
            last: Cell::new(None),
        }
    }
}

impl Passages {
    /// Whether somebody may be about to give room back.
    fn are_used(&self) -> bool {
        let lately = |last: Instant| last.elapsed() < WAIT_MAX;
        self.promised.get() > 0 || self.last.get().is_some_and(lately)
    }
}

/// Room that is promised to one block, as long as this lives.
pub(crate) struct Passage<'a> {
    passages: &'a Passages,
    bytes: u64,
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        let promised = &self.passages.promised;
        promised.set(promised.get() - self.bytes);
    }
}

/// It lies in `writing/` until everybody who waits for it has opened it. When this goes, its name goes, and its space is free as soon as the last of them
/// has closed it.
///
/// It is no block of this store: no census counts it, nobody is told that it is here, nothing is synced, and the next start removes what a crash leaves.
pub(crate) struct Passing {
    shared: Rc<Shared>,
    number: u64,
    length: u32,
}

impl Passing {
    /// A read-only descriptor, by an open file of its own: its offset and read-ahead are one reader's alone. Errors where the block has another `length`.
    pub(crate) fn open(&self, length: u32) -> Result<OwnedFd, BlockError> {
        if length != self.length {
            let why = format!("the block has {} bytes, not {length}", self.length);
            return Err(BlockError::Refused(why));
        }
        let layout = &self.shared.layout;
        let opened = layout.open_writing(self.number, OFlags::RDONLY);
        opened.map_err(|errno| self.shared.system("a block that passes through", errno))
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if let Err(errno) = self.shared.layout.remove_writing(self.number) {
            runtime::warn!("file {} was not removed: {errno}", self.number);
        }
    }
}

impl<D: Disk> Files<D> {
    /// Room for a block of `length` bytes to pass through (see [`Room::passing_bytes`](crate::shared::Room)), before it is asked for: so nothing is in memory that waits.
    ///
    /// Errors with [`BlockError::Full`] at once where no reader's end would make room, else after [`WAIT_MAX`].
    pub(crate) async fn passage(&self, length: u32) -> Result<Passage<'_>, BlockError> {
        let (passages, bytes) = (&self.passages, u64::from(length));
        let promised = async {
            let _turn = passages.turn.acquire().await;
            loop {
                let all = passages.promised.get() + bytes;
                if self.shared.room()?.passing_bytes >= all {
                    passages.promised.set(all);
                    return Ok(Passage { passages, bytes });
                }
                if !passages.are_used() {
                    return Err(BlockError::Full);
                }
                sleep(LOOK_EVERY).await;
            }
        };
        let promised = timeout(WAIT_MAX, promised).await;
        promised.unwrap_or(Err(BlockError::Full))
    }

    /// Writes a whole block that was checked for those who wait for it. If the store dies, it is as if nothing had happened.
    ///
    /// Errors where the block is longer than the room that was promised.
    pub(crate) async fn pass(
        &self,
        passage: Passage<'_>,
        bytes: Vec<u8>,
    ) -> Result<Passing, BlockError> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if u64::from(length) > passage.bytes {
            let why = format!("the block has {length} bytes, not {}", passage.bytes);
            return Err(BlockError::Refused(why));
        }
        let number = self.next_number();
        let file = self.shared.layout.create_writing(number);
        let file = file.map_err(|errno| self.shared.system("a new file", errno))?;
        let passing = Passing {
            shared: self.shared.clone(),
            number,
            length,
        };
        let (written, _) = self.disk.adopt(file).write_at(bytes, 0).await;
        written.map_err(|errno| self.shared.system("writing a block", errno))?;
        self.passages.last.set(Some(Instant::now()));
        // From here on the file system counts it.
        drop(passage);
        Ok(passing)
    }
}
