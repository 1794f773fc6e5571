//! How full the file system of the data directory is: a reserve is kept back for deletions, which need space themselves.

use rustix::fs::fstatfs;
use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// The reserve is this much, in bytes, …
const RESERVE_BYTES: u64 = 64 << 20;
/// … but on a small file system only this part of it.
const RESERVE_PART: u64 = 50;
/// The file system is asked at most this often.
const ASKED_EVERY: Duration = Duration::from_millis(250);

/// The file system of one directory.
pub(crate) struct Space {
    root: OwnedFd,
    /// When it was asked last, and whether it was full.
    last: Cell<Option<(Instant, bool)>>,
}

impl Space {
    pub(crate) fn of(root: OwnedFd) -> Self {
        Self { root, last: Cell::new(None) }
    }

    /// Whether only the reserve is left. A file system that cannot be asked counts as not full: then the write itself will tell.
    pub(crate) fn is_full(&self) -> bool {
        if let Some((asked, full)) = self.last.get()
            && asked.elapsed() < ASKED_EVERY
        {
            return full;
        }
        let full = fstatfs(&self.root).is_ok_and(|system| {
            let block = u64::try_from(system.f_bsize).unwrap_or(0);
            is_full(system.f_blocks.saturating_mul(block), system.f_bavail.saturating_mul(block))
        });
        self.last.set(Some((Instant::now(), full)));
        full
    }
}

/// Whether `free_bytes` of a file system of `bytes` are no more than the reserve.
fn is_full(bytes: u64, free_bytes: u64) -> bool {
    free_bytes < RESERVE_BYTES.min(bytes / RESERVE_PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_64_mib_or_a_fiftieth() {
        let check = |bytes: u64, free: u64, full: bool| assert_eq!(is_full(bytes, free), full);
        check(1 << 40, 64 << 20, false);
        check(1 << 40, (64 << 20) - 1, true);
        check(100 << 20, 2 << 20, false);
        check(100 << 20, (2 << 20) - 1, true);
    }
}
