//! poll(2) over borrowed descriptors, until something happens or a deadline passes.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// Returns when one of `descriptors` has something to read or has hung up, or at the latest at `deadline`.
pub fn wait<'a>(
    descriptors: impl IntoIterator<Item = BorrowedFd<'a>>,
    deadline: Option<Instant>,
) -> Result<(), Errno> {
    let mut set: Vec<PollFd<'a>> = descriptors
        .into_iter()
        .map(|one| PollFd::from_borrowed_fd(one, PollFlags::IN))
        .collect();
    let timeout = deadline.map(|at| {
        let left = at.saturating_duration_since(Instant::now());
        // Rounded up: a wait that ends a moment early would spin until the deadline.
        Timespec {
            tv_sec: left.as_secs().min(3_600) as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        }
    });
    match poll(&mut set, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

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
