//! poll(2) until something happens or a moment has come, for loops that are too small for an async runtime.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// Returns when one of `descriptors` has something to read or has hung up, or at the latest at `until`.
///
/// # Errors
/// Those of poll(2); a signal (`EINTR`) is no error, but something that happened.
pub fn wait<'a>(
    descriptors: impl IntoIterator<Item = BorrowedFd<'a>>,
    until: Instant,
) -> Result<(), Errno> {
    let set = descriptors.into_iter();
    wait_for(
        set.map(|one| PollFd::from_borrowed_fd(one, PollFlags::IN)),
        until,
    )
}

/// The same for whoever waits for other events than something to read.
///
/// # Errors
/// As [`wait`].
pub fn wait_for<'a>(
    set: impl IntoIterator<Item = PollFd<'a>>,
    until: Instant,
) -> Result<(), Errno> {
    let mut set: Vec<PollFd<'a>> = set.into_iter().collect();
    wait_on(&mut set, until)
}

/// The same for whoever asks afterwards what has happened to which.
///
/// # Errors
/// As [`wait`].
pub fn wait_on(set: &mut [PollFd<'_>], until: Instant) -> Result<(), Errno> {
    let left = until.saturating_duration_since(Instant::now());
    // To the nanosecond: a wait that ends a moment early would spin until the deadline.
    let left = Timespec {
        tv_sec: left.as_secs().min(3_600) as i64,
        tv_nsec: i64::from(left.subsec_nanos()),
    };
    match poll(set, Some(&left)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}
