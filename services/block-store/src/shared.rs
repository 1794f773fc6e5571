//! What files and packs have in common: the directory, the space, the pins, what was checked, and whether the disk still works.

use crate::census::Census;
use crate::epochs::Epochs;
use crate::layout::Layout;
use crate::pins::{Name, Pins};
use crate::touched::{Checked, Damaged};
use protocol::block::BlockError;
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use tokio::sync::Notify;

/// The space that is kept free for deletions and for metadata, which shares the file system: the smaller of this and one
/// [`RESERVE_PART`] of the file system, in bytes. No less than metadata's own reserve, so that blocks never take what it needs.
const RESERVE_BYTES_MAX: u64 = 256 << 20;
/// See [`RESERVE_BYTES_MAX`].
const RESERVE_PART: u64 = 8;
/// One part in so many of the reserve is not for blocks that pass through to a reader: it is metadata's alone, which counts the same reserve and takes nothing but
/// deletions when it has come to it. They need their journal, a few memtables of 8 MiB, and a merge that is begun only where it fits into what is free. Half of the reserve is two to three
/// times what was seen not to suffice for that (services/metadata/src/space.rs), and the other half 32 blocks of 4 MiB at a time, on disks of 2 GiB and more.
const UNTOUCHED_PART: u64 = 2;

/// One per store.
pub(crate) struct Shared {
    pub(crate) layout: Layout,
    pub(crate) epochs: Epochs,
    pub(crate) pins: RefCell<Pins>,
    pub(crate) checked: RefCell<Checked>,
    pub(crate) damaged: RefCell<Damaged>,
    pub(crate) census: Census,
    /// When every block had last been read, in milliseconds since 1970; 0: not yet.
    pub(crate) scrubbed_ms: Cell<u64>,
    failed: RefCell<Option<String>>,
    failing: Notify,
}

/// How much room the file system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Of the file system, in bytes.
    pub(crate) capacity_bytes: u64,
    /// What may still be used, the reserve left out.
    pub(crate) free_bytes: u64,
    /// What may be used for as long as somebody reads it: part of the reserve, too.
    pub(crate) passing_bytes: u64,
}

impl Room {
    fn new(capacity_bytes: u64, available_bytes: u64) -> Self {
        let reserve_bytes = RESERVE_BYTES_MAX.min(capacity_bytes / RESERVE_PART);
        Self {
            capacity_bytes,
            free_bytes: available_bytes.saturating_sub(reserve_bytes),
            passing_bytes: available_bytes.saturating_sub(reserve_bytes / UNTOUCHED_PART),
        }
    }
}

impl Shared {
    pub(crate) fn new(layout: Layout, epochs: Epochs) -> Self {
        Self {
            layout,
            epochs,
            pins: RefCell::default(),
            checked: RefCell::default(),
            damaged: RefCell::default(),
            census: Census::default(),
            scrubbed_ms: Cell::new(0),
            failed: RefCell::default(),
            failing: Notify::new(),
        }
    }

    /// The room that is left now.
    pub(crate) fn room(&self) -> Result<Room, BlockError> {
        let stat = rustix::fs::fstatfs(&self.layout.root)
            .map_err(|errno| self.system("fstatfs of the data directory", errno))?;
        let block_bytes = u64::try_from(stat.f_bsize).unwrap_or(0);
        Ok(Room::new(
            stat.f_blocks.saturating_mul(block_bytes),
            stat.f_bavail.saturating_mul(block_bytes),
        ))
    }

    /// What a failed system call means to the caller. No space and no descriptors pass; anything else ends the store.
    pub(crate) fn system(&self, what: &str, errno: Errno) -> BlockError {
        match errno {
            Errno::NOSPC | Errno::DQUOT => BlockError::Full,
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => {
                BlockError::Refused(format!("{what}: {errno}; ask again later"))
            }
            _ => self.fail(what, errno),
        }
    }

    /// The disk failed: nothing is trusted from here on. Every call is answered with this error, and the process ends.
    pub(crate) fn fail(&self, what: &str, errno: Errno) -> BlockError {
        let why = format!("{what}: {errno}");
        runtime::error!("{why}; the store restarts from the disk");
        self.failed.borrow_mut().get_or_insert_with(|| why.clone());
        self.failing.notify_one();
        BlockError::Disk(why)
    }

    /// Errors with [`BlockError::Disk`] after the disk has failed.
    pub(crate) fn works(&self) -> Result<(), BlockError> {
        match self.failed.borrow().as_ref() {
            Some(why) => Err(BlockError::Disk(why.clone())),
            None => Ok(()),
        }
    }

    /// Waits until the disk has failed, and says how.
    pub(crate) async fn failed(&self) -> String {
        loop {
            if let Some(why) = self.failed.borrow().as_ref() {
                return why.clone();
            }
            self.failing.notified().await;
        }
    }

    /// A block does not match its name: counted and logged once.
    pub(crate) fn found_damaged(&self, name: Name, what: &str) -> BlockError {
        if self.damaged.borrow_mut().insert(name) {
            runtime::error!("damaged block {name:?}: {what}");
        }
        BlockError::Damaged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_a_part_of_a_small_disk_and_bounded_on_a_large_one() {
        const MIB: u64 = 1 << 20;
        let cases = [
            // capacity, available, free, for what passes through
            (96 * MIB, 50 * MIB, 38 * MIB, 44 * MIB),
            (96 * MIB, 12 * MIB, 0, 6 * MIB),
            (96 * MIB, 6 * MIB, 0, 0),
            (100 * MIB, MIB, 0, 0),
            (1 << 40, 1 << 30, 768 * MIB, 896 * MIB),
            (0, 0, 0, 0),
        ];
        for (capacity, available, free, passing) in cases {
            let room = Room::new(capacity, available);
            assert_eq!((room.free_bytes, room.passing_bytes), (free, passing));
        }
    }
}
