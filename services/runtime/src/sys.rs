//! The two places where a descriptor is a number: the start channel that the spawner left on 3, and tokio's registration. And what the
//! allocator is told.
#![allow(
    unsafe_code,
    reason = "a number becomes an owned descriptor exactly once, here; and the C library has a setting"
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

/// How much free memory at the end of a heap goes back to the kernel only when it is more, and how much is fetched at a time, in bytes.
const HEAP_KEPT_BYTES: libc::c_int = 1 << 20;
const HEAP_STEP_BYTES: libc::c_int = 128 << 10;
/// From this size on an allocation is a mapping of its own, in bytes: above every message and every page of a listing.
const MAPPED_BYTES_MIN: libc::c_int = 1 << 20;

/// Lets the heap keep what it has just freed (mallopt(3)). Left to itself, glibc gives memory back as soon as 128 KiB are free, so that a service that
/// takes and frees a block of 64 KiB for each request maps, clears and unmaps its pages each time, and interrupts its other threads for it.
pub(crate) fn keep_heap() {
    for (parameter, value) in [
        (libc::M_TRIM_THRESHOLD, HEAP_KEPT_BYTES),
        (libc::M_TOP_PAD, HEAP_STEP_BYTES),
        (libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN),
    ] {
        // SAFETY: mallopt takes two numbers and changes the allocator's settings under its own lock; an unknown parameter or value is refused.
        // A refusal costs speed and nothing else.
        unsafe { libc::mallopt(parameter, value) };
    }
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
