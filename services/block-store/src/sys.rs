//! What rustix and tokio-uring lack: a read lease as the question "can anybody still write?", and lending a ring file's descriptor.
#![allow(
    unsafe_code,
    reason = "fcntl(F_SETLEASE) is in neither rustix nor nix; tokio-uring gives a number only"
)]

use crate::disk::RingFile;
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Whether nobody, in any process and not even in a message under way, holds a descriptor that can write to the file.
///
/// `file` must be a read-only descriptor of a file of this process's own uid. The kernel grants a read lease only while the inode
/// has no writer (fcntl(2), `EAGAIN` otherwise); the lease is given back at once. A writer that maps
/// the file counts as long as its mapping; a write-only descriptor cannot be mapped.
pub(crate) fn nobody_can_write(file: impl AsFd) -> Result<bool, Errno> {
    match set_lease(file.as_fd(), libc::F_RDLCK) {
        Ok(()) => set_lease(file.as_fd(), libc::F_UNLCK).map(|()| true),
        Err(Errno::AGAIN) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn set_lease(file: BorrowedFd<'_>, kind: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the descriptor is borrowed, so it is open for the call; F_SETLEASE takes an int and touches no memory of ours.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
    if result == -1 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(())
}

impl AsFd for RingFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the tokio-uring file owns the descriptor and closes it only when it is dropped (RingFile never calls
        // `close`), and the borrow keeps `self`, and so the file, alive.
        unsafe { BorrowedFd::borrow_raw(self.file.as_raw_fd()) }
    }
}
