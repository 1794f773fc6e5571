//! How full the file system of the data directory is: a reserve is kept back for deletions, which need space themselves; and what is done to get out again.

use crate::Error;
use crate::proposer::Proposer;
use crate::state;
use protocol::metadata::INLINE_BYTES_MAX;
use rustix::fs::fstatfs;
use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The reserve is this much, in bytes. A deletion takes about 1 KB in the journal, but what it takes in earnest is the work behind: the database writes out
/// its memtables (8 MiB each) and merges tables before it drops the old ones, and if the disk is full in the middle of that, it writes
/// nothing more at all. With 64 MiB and 2 % it was seen to end so, with eight objects of ten still to be deleted.
const RESERVE_BYTES: u64 = 256 << 20;
/// On a small file system only this part of it.
const RESERVE_PART: u64 = 8;
/// The file system is asked again after this time …
const ASKED_EVERY: Duration = Duration::from_millis(250);
/// … or after so many writes: of 8 KiB, in the log and in the state, about 1 MiB.
const WRITES_MAX: u32 = 64;

/// How often it is looked whether the disk is full and something can be done.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Every so many times it is also looked how much of the state is dead.
const LOOKS_FOR_WASTE: u32 = 60;
/// A state that takes less than this is not worth that, in bytes.
const WASTE_BYTES_MIN: u64 = 256 << 20;
/// More than an object's rows take without its bytes, on the average: key, headers, counts.
const OBJECT_BYTES: u64 = 1_024;
/// A merge writes again at most this part of the files that hold the objects' bytes (`raft::disk`).
const CLEANED_PART: u64 = 8;
/// Left free besides a merge, in bytes.
const MERGE_MARGIN_BYTES: u64 = 16 << 20;

/// The file system of one directory.
pub(crate) struct Space {
    root: OwnedFd,
    /// When it was asked last, whether it was full, and how many writes asked since.
    last: Cell<Option<(Instant, bool, u32)>>,
}

impl Space {
    pub(crate) fn of(root: OwnedFd) -> Self {
        Self {
            root,
            last: Cell::new(None),
        }
    }

    /// Whether only the reserve is left; asked before each write. A file system that cannot be asked counts as not full: then the write itself
    /// will tell.
    pub(crate) fn is_full(&self) -> bool {
        if let Some((asked, full, writes)) = self.last.get()
            && asked.elapsed() < ASKED_EVERY
            && writes < WRITES_MAX
        {
            self.last.set(Some((asked, full, writes + 1)));
            return full;
        }
        let full = self
            .ask()
            .is_some_and(|(bytes, free_bytes)| is_full(bytes, free_bytes));
        self.last.set(Some((Instant::now(), full, 0)));
        full
    }

    /// The size of the file system and what is free of it, in bytes.
    fn ask(&self) -> Option<(u64, u64)> {
        let system = fstatfs(&self.root).ok()?;
        let block = u64::try_from(system.f_bsize).ok()?;
        Some((
            system.f_blocks.saturating_mul(block),
            system.f_bavail.saturating_mul(block),
        ))
    }

    /// Frees what deleted rows take, for as long as the service lives: by a merge of what is left, when the disk is full or most of what
    /// it holds is dead.
    pub(crate) async fn tend(self: Rc<Self>, proposer: Rc<Proposer>) {
        // How much the state took when the last merge for each reason began: the next one comes only if that one did something.
        let (mut before_full, mut before_waste) = (u64::MAX, u64::MAX);
        let mut looks = 0_u32;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            looks = (looks + 1) % LOOKS_FOR_WASTE;
            let full = self.is_full();
            if !full {
                before_full = u64::MAX;
            }
            if !full && looks != 0 {
                continue;
            }
            let left = match left_bytes(&proposer) {
                Ok(left) => left,
                Err(error) => {
                    runtime::warn!("looking how much is stored: {error}");
                    continue;
                }
            };
            let now = proposer.store().state_bytes();
            let waste = now > WASTE_BYTES_MIN && left.all() < now / 4;
            if !waste {
                before_waste = u64::MAX;
            }
            let before = if full {
                &mut before_full
            } else {
                &mut before_waste
            };
            let worth = left.all() < now / 10 * 9 && now < *before / 20 * 19;
            let needed = left
                .heads
                .saturating_add(now / CLEANED_PART)
                .min(left.all());
            let free_bytes = self.ask().map_or(0, |(_, free_bytes)| free_bytes);
            let fits = needed.saturating_add(MERGE_MARGIN_BYTES) < free_bytes;
            if (full || waste) && worth && fits {
                *before = now;
                proposer.store().merge();
            }
        }
    }
}

/// Upper bounds of what the rows that are there take, in bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    /// All but the objects' bytes.
    heads: u64,
    /// The objects' bytes.
    inline: u64,
}

impl Left {
    fn all(self) -> u64 {
        self.heads.saturating_add(self.inline)
    }
}

/// By the buckets' counts.
fn left_bytes(proposer: &Proposer) -> Result<Left, Error> {
    let mut left = Left::default();
    for group in proposer.groups() {
        state::rowed(group.rows(), |row| {
            let objects = row.usage.objects;
            let inline = row
                .usage
                .bytes
                .min(objects.saturating_mul(INLINE_BYTES_MAX as u64));
            left.heads = left
                .heads
                .saturating_add(objects.saturating_mul(OBJECT_BYTES));
            left.inline = left.inline.saturating_add(inline);
        })?;
    }
    Ok(left)
}

/// Whether `free_bytes` of a file system of `bytes` are no more than the reserve.
fn is_full(bytes: u64, free_bytes: u64) -> bool {
    free_bytes < RESERVE_BYTES.min(bytes / RESERVE_PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_256_mib_or_an_eighth() {
        let check = |bytes: u64, free: u64, full: bool| assert_eq!(is_full(bytes, free), full);
        check(1 << 40, 256 << 20, false);
        check(1 << 40, (256 << 20) - 1, true);
        check(800 << 20, 100 << 20, false);
        check(800 << 20, (100 << 20) - 1, true);
    }
}
