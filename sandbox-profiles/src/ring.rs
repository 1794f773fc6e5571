//! Answering `io_uring_setup` with a ring that takes only what the profile names.
//!
//! A ring that a service made itself would void its filter: the kernel does not ask seccomp about
//! operations in a ring. So the supervisor makes it, restricts it, and puts it into the service's
//! descriptor table in place of the call's result. The service needs not to be trusted, nor to
//! know: tokio-uring runs on it unmodified. Of what the service asked for only the number of
//! entries counts; its flags are ignored, SQPOLL above all (its kernel thread would work with the
//! supervisor's descriptors and memory).

use crate::error::Error;
use crate::profile::Ring;
use crate::sys::{
    ring::restricted,
    seccomp::{Notification, give, still_waits},
};
use nix::sys::uio::{RemoteIoVec, process_vm_writev};
use nix::unistd::Pid;
use rustix::io::Errno;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};

/// Makes the ring and completes the call with it. False if the caller has ended meanwhile.
///
/// The caller must be a child that has not been waited for, so that its number stays its own.
pub(crate) fn answer(
    listener: BorrowedFd<'_>,
    call: &Notification,
    profile: &Ring,
) -> Result<bool, Error> {
    let [entries, parameters_at, ..] = call.args;
    let most = profile.entries_max;
    let entries = u32::try_from(entries).unwrap_or(most).clamp(1, most);
    let operations = profile.operations.iter().map(|operation| operation.code);
    let (ring, parameters) =
        restricted(entries, operations).map_err(|error| Error::Ring(error.into()))?;

    if !still_waits(listener, call) {
        return Ok(false);
    }
    let bytes: Vec<u8> = parameters.into_iter().flat_map(u32::to_ne_bytes).collect();
    write_into(call.tid, parameters_at, &bytes)?;
    match give(listener, call, ring.as_fd()) {
        Err(Errno::NOENT) => Ok(false),
        other => other.map(|()| true).map_err(Error::Listener),
    }
}

fn write_into(tid: u32, address: u64, bytes: &[u8]) -> Result<(), Error> {
    let wrong = || Error::RingParameters(Errno::FAULT);
    let pid = i32::try_from(tid).map(Pid::from_raw).map_err(|_| wrong())?;
    let base = usize::try_from(address).map_err(|_| wrong())?;
    let remote = [RemoteIoVec {
        base,
        len: bytes.len(),
    }];
    let written = process_vm_writev(pid, &[IoSlice::new(bytes)], &remote)
        .map_err(|error| Error::RingParameters(Errno::from_raw_os_error(error as i32)))?;
    if written == bytes.len() {
        Ok(())
    } else {
        Err(wrong())
    }
}
