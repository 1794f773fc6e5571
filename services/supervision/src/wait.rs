//! poll(2) without waiting.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::BorrowedFd;

/// Whether `descriptor` has something to read right now.
pub(crate) fn readable(descriptor: BorrowedFd<'_>) -> bool {
    let mut set = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut set, Some(&now)).is_ok()
        && set.iter().any(|one| one.revents().contains(PollFlags::IN))
}
