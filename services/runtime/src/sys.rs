//! The two places where a descriptor is a number: the start channel that the spawner left on 3, and tokio's registration.
#![allow(
    unsafe_code,
    reason = "a number becomes an owned descriptor exactly once, here"
)]

use protocol::Channel;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Descriptor 3, the first time; `None` ever after.
pub(crate) fn start_channel() -> Option<OwnedFd> {
    if TAKEN.swap(true, Ordering::SeqCst) {
        return None;
    }
    // SAFETY: the spawner leaves an open descriptor on 3 (sandbox-profiles), nothing in this process opened or took it
    // before (this is the first statement of every role), and `TAKEN` makes this the only owner.
    Some(unsafe { OwnedFd::from_raw_fd(3) })
}

/// tokio registers what can tell its number; a [`Channel`] on purpose cannot.
pub(crate) struct Watchable(pub(crate) Channel);

impl AsFd for Watchable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Watchable {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Registers `channel` with the current runtime, for reading.
pub(crate) fn watch(channel: Channel) -> std::io::Result<AsyncFd<Watchable>> {
    // SAFETY: the number must stay valid and the same until the registration ends. `Watchable` owns its socket, never
    // replaces it, and is moved into the registration, which drops it only after deregistering.
    unsafe { AsyncFd::register_with_interest(Watchable(channel), Interest::READABLE) }
        .map_err(Into::into)
}
