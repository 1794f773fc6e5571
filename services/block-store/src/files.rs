//! Large blocks: one file each, written by the client through a descriptor that can only write, read through one that can only read.

use crate::check::{Checks, Pace, Verdict, Yielding, matches};
use crate::disk::{Disk, DiskFile, Sync};
use crate::footer::{FOOTER_BYTES, Footer};
use crate::passing::Passages;
use crate::pins::{Name, SessionId};
use crate::publish::Publishing;
use crate::shared::Shared;
use crate::sys;
use protocol::block::{BLOCK_BYTES_MAX, BlockError, BlockId, BlockRef, HashKey, Place};
use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;
use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use tokio::sync::Semaphore;

/// Syncs of files at a time. Each occupies a thread of the kernel's ring, which count against the service's limit of processes.
pub(crate) const SYNCS_MAX: usize = 6;
/// Checks on first touch at a time, each with one buffer.
const CHECKS_MAX: usize = 2;

/// The large blocks of a store.
pub(crate) struct Files<D: Disk> {
    pub(crate) disk: D,
    pub(crate) shared: Rc<Shared>,
    pub(crate) syncs: Semaphore,
    pub(crate) publishing: Publishing,
    pub(crate) passages: Passages,
    checks: Checks,
    next_writer: Cell<u64>,
    unreserved: Cell<bool>,
}

impl<D: Disk> Files<D> {
    pub(crate) fn new(disk: D, shared: Rc<Shared>) -> Self {
        Self {
            disk,
            shared,
            syncs: Semaphore::new(SYNCS_MAX),
            publishing: Publishing::default(),
            passages: Passages::default(),
            checks: Checks::new(CHECKS_MAX),
            next_writer: Cell::new(0),
            unreserved: Cell::new(false),
        }
    }

    /// The name of one more file in `writing/`.
    pub(crate) fn next_number(&self) -> u64 {
        let number = self.next_writer.get();
        self.next_writer.set(number + 1);
        number
    }

    /// A fresh file with room for `length` bytes, and a descriptor that can only write to it.
    pub(crate) async fn create(&self, length: u32) -> Result<(u64, OwnedFd), BlockError> {
        let bytes = u64::from(length) + FOOTER_BYTES as u64;
        if self.shared.room()?.free_bytes < bytes {
            return Err(BlockError::Full);
        }
        let number = self.next_number();
        let file = self
            .shared
            .layout
            .create_writing(number)
            .map_err(|errno| self.shared.system("a new file", errno))?;
        let made = async {
            // Opened once more for the ring, which keeps what it is given. The size stays 0, so that the file's length is
            // what the client really wrote.
            let ours = self.shared.layout.open_writing(number, OFlags::WRONLY)?;
            let ours = self.disk.adopt(ours);
            match ours.fallocate(FallocateFlags::KEEP_SIZE, 0, bytes).await {
                Err(Errno::OPNOTSUPP) => {
                    if !self.unreserved.replace(true) {
                        runtime::warn!("this file system cannot reserve space (fallocate)");
                    }
                    Ok(())
                }
                other => other,
            }
        };
        match made.await {
            Ok(()) => Ok((number, file)),
            Err(errno) => {
                self.abandon(number);
                Err(self.shared.system("space for a new file", errno))
            }
        }
    }

    /// The file will not be a block. One that cannot be removed now is removed at the next start.
    pub(crate) fn abandon(&self, number: u64) {
        if let Err(errno) = self.shared.layout.remove_writing(number) {
            runtime::warn!("unfinished file {number} was not removed: {errno}");
        }
    }

    /// Makes the file the block `id`, on disk, and pins it. With [`BlockError::StillOpen`] the file stays as it is; after any other error it is gone.
    ///
    /// Order: first nobody can write any more, then the length is judged, then the footer is appended, then bytes and footer are
    /// synced, then the file gets its name, then the name is synced (with those of other commits).
    pub(crate) async fn commit(
        self: &Rc<Self>,
        session: SessionId,
        number: u64,
        id: BlockId,
        footer: Footer,
    ) -> Result<BlockRef, BlockError> {
        match self.seal(number, &id, footer).await {
            Ok(()) => {}
            Err(BlockError::StillOpen) => return Err(BlockError::StillOpen),
            Err(error) => {
                self.abandon(number);
                return Err(error);
            }
        }
        // From here on a sweep leaves the block alone, also where it exists already.
        let name = Name::File(id);
        self.shared.pins.borrow_mut().pin(session, name);
        if let Err(error) = self.publish(number, id).await {
            self.shared.pins.borrow_mut().unpin(session, name);
            self.abandon(number);
            return Err(error);
        }
        Ok(BlockRef {
            id,
            length: footer.length,
            place: Place::File,
        })
    }

    /// Everything up to the sync of the bytes.
    async fn seal(&self, number: u64, id: &BlockId, footer: Footer) -> Result<(), BlockError> {
        let shared = &self.shared;
        let system = |what: &'static str| move |errno| shared.system(what, errno);
        let reader = shared
            .layout
            .open_writing(number, OFlags::RDONLY)
            .map_err(system("a written file"))?;
        if !sys::nobody_can_write(&reader).map_err(system("read lease (F_SETLEASE)"))? {
            return Err(BlockError::StillOpen);
        }
        let size = rustix::fs::fstat(&reader).map_err(system("fstat"))?.st_size;
        if u64::try_from(size) != Ok(u64::from(footer.length)) {
            return Err(BlockError::Damaged);
        }
        let writer = shared
            .layout
            .open_writing(number, OFlags::WRONLY)
            .map_err(system("a written file"))?;
        let file = self.disk.adopt(writer);
        let (written, _) = file
            .write_at(footer.encode(id), u64::from(footer.length))
            .await;
        written.map_err(system("writing a footer"))?;
        let _turn = self.syncs.acquire().await;
        // Without exception: what a failed sync has lost cannot be told.
        file.sync(Sync::Data)
            .await
            .map_err(|errno| shared.fail("fdatasync of a block", errno))
    }

    /// Keeps a whole block that has come from elsewhere and was checked: on disk when this returns.
    pub(crate) async fn keep(
        self: &Rc<Self>,
        id: &BlockId,
        key: HashKey,
        bytes: Vec<u8>,
    ) -> Result<(), BlockError> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let number = self.next_number();
        let shared = &self.shared;
        let file = shared.layout.create_writing(number);
        let file = self
            .disk
            .adopt(file.map_err(|errno| shared.system("a new file", errno))?);
        let written = async {
            let system = |errno| shared.system("writing a block", errno);
            let (written, mut bytes) = file.write_at(bytes, 0).await;
            written.map_err(system)?;
            bytes.clear();
            let footer = Footer { length, key }.encode(id);
            let (written, _) = file.write_at(footer, u64::from(length)).await;
            written.map_err(system)?;
            let _turn = self.syncs.acquire().await;
            let synced = file.sync(Sync::Data).await;
            synced.map_err(|errno| shared.fail("fdatasync of a block", errno))
        };
        let published = match written.await {
            Ok(()) => self.publish(number, *id).await,
            Err(error) => Err(error),
        };
        if published.is_err() {
            self.abandon(number);
        }
        published
    }

    /// A whole block and its key, checked against its name. A damaged one is taken out of the way.
    pub(crate) async fn whole(&self, id: &BlockId) -> Result<(HashKey, Vec<u8>), BlockError> {
        let file = match self.shared.layout.open_block(id) {
            Ok(file) => self.disk.adopt(file),
            Err(Errno::NOENT) => return Err(self.absent(id)),
            Err(errno) => return Err(self.shared.system("a block's file", errno)),
        };
        let bytes_max = BLOCK_BYTES_MAX as usize + FOOTER_BYTES;
        let (read, mut bytes) = file.read_at(Vec::new(), 0, bytes_max).await;
        let damaged = |what| Some(Verdict::Damaged(what));
        let verdict = match read {
            Err(errno) => Some(Verdict::Unreadable(errno)),
            Ok(()) => {
                let length = bytes.len().saturating_sub(FOOTER_BYTES);
                let footer = Footer::decode(bytes.get(length..).unwrap_or_default(), id);
                bytes.truncate(length);
                match footer {
                    Some(footer) if footer.length as usize != length => {
                        damaged("its length is wrong")
                    }
                    Some(footer) if matches(id, &footer.key, &bytes) => {
                        self.shared.checked.borrow_mut().insert(id);
                        return Ok((footer.key, bytes));
                    }
                    Some(_) => damaged("its bytes do not match its name"),
                    None => damaged("its footer is not sound"),
                }
            }
        };
        let judged = self.judge(id, &file, verdict);
        Err(judged.err().unwrap_or(BlockError::NoSuchBlock))
    }

    /// A read-only descriptor to exactly this block, whose bytes matched its name when they were first touched.
    pub(crate) async fn open(&self, block: &BlockRef) -> Result<(u32, OwnedFd), BlockError> {
        let file = match self.shared.layout.open_block(&block.id) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Err(self.absent(&block.id)),
            Err(errno) => return Err(self.shared.system("a block's file", errno)),
        };
        let length = if self.shared.checked.borrow().contains(&block.id) {
            let stat = rustix::fs::fstat(&file).map_err(|e| self.shared.system("fstat", e))?;
            stat.st_size - FOOTER_BYTES as i64
        } else {
            // By an open file of its own, so that the descriptor's offset and read-ahead are the reader's alone.
            self.check(&block.id, &Yielding).await?.into()
        };
        if length != i64::from(block.length) {
            return Err(BlockError::Refused(format!(
                "the block has {length} bytes, not {}",
                block.length
            )));
        }
        Ok((block.length, file))
    }

    fn absent(&self, id: &BlockId) -> BlockError {
        if self.shared.damaged.borrow().contains(&Name::File(*id)) {
            BlockError::Damaged
        } else {
            BlockError::NoSuchBlock
        }
    }

    /// Checks a block unless it was checked in this life, and answers its length. A damaged one is taken out of the way.
    pub(crate) async fn check(&self, id: &BlockId, pace: &impl Pace) -> Result<u32, BlockError> {
        let file = match self.shared.layout.open_block(id) {
            Ok(file) => self.disk.adopt(file),
            Err(Errno::NOENT) => return Err(self.absent(id)),
            Err(errno) => return Err(self.shared.system("a block's file", errno)),
        };
        let needless = || self.shared.checked.borrow().contains(id);
        match self.checks.file(id, &file, pace, needless).await {
            None => {
                let stat = rustix::fs::fstat(&file).map_err(|e| self.shared.system("fstat", e))?;
                Ok(u32::try_from(stat.st_size - FOOTER_BYTES as i64).unwrap_or(0))
            }
            verdict => self.judge(id, &file, verdict),
        }
    }

    /// The scrub's check: reads the disk and not the page cache, and also blocks that were checked before.
    pub(crate) async fn check_again(
        &self,
        id: &BlockId,
        checks: &Checks,
        pace: &impl Pace,
    ) -> Result<u32, BlockError> {
        let file = match self.shared.layout.open_block(id) {
            Ok(file) => self.disk.adopt(file),
            Err(Errno::NOENT) => return Err(BlockError::NoSuchBlock),
            Err(errno) => return Err(self.shared.system("a block's file", errno)),
        };
        // Advice only: where it does not help, the cache is read.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        let verdict = checks.file(id, &file, pace, || false).await;
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        self.judge(id, &file, verdict)
    }

    fn judge(
        &self,
        id: &BlockId,
        file: &D::File,
        verdict: Option<Verdict>,
    ) -> Result<u32, BlockError> {
        match verdict {
            Some(Verdict::Sound(length)) => {
                self.shared.checked.borrow_mut().insert(id);
                Ok(length)
            }
            Some(Verdict::Damaged(what)) => {
                self.set_aside(id, file);
                Err(self.shared.found_damaged(Name::File(*id), what))
            }
            Some(Verdict::Unreadable(errno)) => {
                // It stays where it is: the next attempt may succeed.
                let what = format!("not readable: {errno}");
                Err(self.shared.found_damaged(Name::File(*id), &what))
            }
            None => Err(BlockError::NoSuchBlock),
        }
    }

    /// Takes the damaged `file` of block `id` out of the way, unless another file has that name by now.
    fn set_aside(&self, id: &BlockId, file: impl AsFd) {
        self.shared.checked.borrow_mut().remove(id);
        match self.shared.layout.set_aside(id, file) {
            Ok(true) => self.shared.census.file(id, -1),
            Ok(false) => {}
            Err(errno) => runtime::warn!("damaged block {id:?} stays in its place: {errno}"),
        }
    }

    /// Removes a block; whether it is gone now.
    pub(crate) fn remove(&self, id: &BlockId) -> bool {
        match self.shared.layout.remove_block(id) {
            Ok(was_there) => {
                self.shared.checked.borrow_mut().remove(id);
                self.shared.damaged.borrow_mut().remove(&Name::File(*id));
                if was_there {
                    self.shared.census.file(id, -1);
                }
                true
            }
            Err(errno) => {
                runtime::warn!("block {id:?} was not removed: {errno}");
                false
            }
        }
    }

    /// The length of a block without touching its bytes, or `None` if there is none.
    pub(crate) fn length(&self, id: &BlockId) -> Result<Option<u32>, BlockError> {
        let bytes = self
            .shared
            .layout
            .block_file_bytes(id)
            .map_err(|errno| self.shared.system("a block's file", errno))?;
        Ok(bytes
            .and_then(|bytes| bytes.checked_sub(FOOTER_BYTES as u64))
            .and_then(|bytes| u32::try_from(bytes).ok())
            .filter(|bytes| *bytes > 0))
    }

    /// Counts the files of one directory, for [`Census`](crate::census::Census). No call runs in between, so no change is missed.
    pub(crate) fn take_census(&self, first: u8) {
        match self.shared.layout.blocks(first) {
            Ok(found) => self.shared.census.counted(first, &found),
            Err(errno) => runtime::warn!("directory {first:02x} was not counted: {errno}"),
        }
    }
}
