//! The descriptor table that a new program finds.

use super::result;
use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The places of a new process's descriptors; everything above is closed.
#[derive(Clone, Copy)]
#[repr(i32)]
pub(crate) enum Slot {
    /// Standard input: nothing.
    Input = 0,
    /// Standard output: nothing.
    Output = 1,
    /// Standard error: the log.
    Error = 2,
    /// The start channel.
    Start = 3,
    /// The program, until exec.
    Program = 4,
    /// The report to the spawner, until exec.
    Report = 5,
}

impl Slot {
    /// The first number that is not a slot.
    pub(crate) const END: i32 = 6;
}

/// Puts a copy of `descriptor` at `slot`, open across exec only where the new program needs it.
///
/// Only for a child before exec: what was at the slot is closed under its owner.
pub(crate) fn place(descriptor: BorrowedFd<'_>, slot: Slot) -> Result<(), Errno> {
    let flags = match slot {
        Slot::Program | Slot::Report => libc::O_CLOEXEC,
        Slot::Input | Slot::Output | Slot::Error | Slot::Start => 0,
    };
    place_at(descriptor, slot as i32, flags)
}

/// Puts a copy of `descriptor` at a number of its own, closed by exec.
#[cfg(feature = "learn")]
pub(crate) fn place_high(descriptor: BorrowedFd<'_>, number: i32) -> Result<(), Errno> {
    place_at(descriptor, number, libc::O_CLOEXEC)
}

fn place_at(descriptor: BorrowedFd<'_>, number: i32, flags: i32) -> Result<(), Errno> {
    // SAFETY: dup3 touches no memory. The descriptor that it replaces belongs to the parent's
    // code, of which this process runs nothing any more.
    let returned = unsafe { libc::dup3(descriptor.as_raw_fd(), number, flags) };
    result(returned.into()).map(|_| ())
}

/// A descriptor at a slot, for calls between `place` and exec.
pub(crate) fn at(slot: Slot) -> BorrowedFd<'static> {
    // SAFETY: used after `place` has filled the slot, by the child alone, which closes none.
    unsafe { BorrowedFd::borrow_raw(slot as i32) }
}

/// The report at its high number.
#[cfg(feature = "learn")]
pub(crate) fn at_high(number: i32) -> BorrowedFd<'static> {
    // SAFETY: as for `at`, after `place_high`.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Closes every descriptor from `first` on.
///
/// Only for a child before exec, which has no further use for what it inherited. Not by marking
/// them for exec: a limit on descriptors counts from the lowest number, and all would be taken.
pub(crate) fn close_from(first: i32) -> Result<(), Errno> {
    // SAFETY: close_range touches no memory. What it closes is owned by the parent's code, of
    // which this process runs nothing any more, destructors included.
    let returned = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    result(returned).map(|_| ())
}
