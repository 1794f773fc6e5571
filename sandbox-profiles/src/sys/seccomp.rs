//! seccomp: installing a filter, and the listener's ioctls.
//!
//! Source: seccomp(2), seccomp_unotify(2).

use super::result;
use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A call that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notification {
    /// Names the call while it waits.
    pub(crate) id: u64,
    /// The calling thread, as this process's PID namespace numbers it.
    pub(crate) tid: u32,
    /// The system call's number.
    pub(crate) number: u32,
    /// Its registers. Pointers are the caller's, and what they point to may change.
    pub(crate) args: [u64; 6],
}

/// Installs a filter. Needs no_new_privs.
#[cfg_attr(feature = "learn", allow(dead_code, reason = "a learner only listens"))]
pub(crate) fn install(filter: &[libc::sock_filter]) -> Result<(), Errno> {
    set_mode_filter(filter, 0).map(|_| ())
}

/// Installs a filter and returns its listener, which is closed by exec.
///
/// A call that has been received waits on through every signal but a fatal one
/// (WAIT_KILLABLE_RECV): otherwise a signal would repeat it, and a ring would be made twice.
pub(crate) fn install_with_listener(filter: &[libc::sock_filter]) -> Result<OwnedFd, Errno> {
    let flags =
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let number = set_mode_filter(filter, flags)?;
    let number = RawFd::try_from(number).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn set_mode_filter(
    filter: &[libc::sock_filter],
    flags: libc::c_ulong,
) -> Result<libc::c_long, Errno> {
    let len = u16::try_from(filter.len()).map_err(|_| Errno::TOOBIG)?;
    // The kernel only reads the filter; its C type has no const.
    let program = libc::sock_fprog {
        len,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the program points to `len` instructions that outlive the call.
    result(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    })
}

/// Takes one waiting call. ENOENT when it was killed in the meantime.
///
/// Blocks when none waits: poll first.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> Result<Notification, Errno> {
    // SAFETY: all-zero is a valid seccomp_notif, and the kernel insists on it.
    let mut raw: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one seccomp_notif into the place for one.
    let returned = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_RECV,
            &raw mut raw,
        )
    };
    result(returned.into())?;
    // A number of the x32 ABI has bit 30 set and is no number of ours.
    let number = u32::try_from(raw.data.nr).unwrap_or(u32::MAX);
    Ok(Notification {
        id: raw.id,
        tid: raw.pid,
        number,
        args: raw.data.args,
    })
}

/// Whether the call still waits: if not, its thread's number may be someone else's by now.
pub(crate) fn still_waits(listener: BorrowedFd<'_>, call: &Notification) -> bool {
    let id = call.id;
    // SAFETY: the kernel reads one u64.
    let returned = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_ID_VALID,
            &raw const id,
        )
    };
    returned == 0
}

/// Lets the call go on into the kernel.
pub(crate) fn carry_on(listener: BorrowedFd<'_>, call: &Notification) -> Result<(), Errno> {
    respond(
        listener,
        call,
        0,
        libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
    )
}

/// Makes the call fail with `error`.
#[cfg(feature = "learn")]
pub(crate) fn fail(
    listener: BorrowedFd<'_>,
    call: &Notification,
    error: Errno,
) -> Result<(), Errno> {
    respond(listener, call, -error.raw_os_error(), 0)
}

fn respond(
    listener: BorrowedFd<'_>,
    call: &Notification,
    error: i32,
    flags: u32,
) -> Result<(), Errno> {
    let response = libc::seccomp_notif_resp {
        id: call.id,
        val: 0,
        error,
        flags,
    };
    // SAFETY: the kernel reads one seccomp_notif_resp.
    let returned = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            &raw const response,
        )
    };
    result(returned.into()).map(|_| ())
}

/// Puts `descriptor` into the caller's table, closed by exec, and makes the call return its number.
pub(crate) fn give(
    listener: BorrowedFd<'_>,
    call: &Notification,
    descriptor: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let request = libc::seccomp_notif_addfd {
        id: call.id,
        flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
        srcfd: descriptor.as_raw_fd() as u32,
        newfd: 0,
        newfd_flags: libc::O_CLOEXEC as u32,
    };
    // SAFETY: the kernel reads one seccomp_notif_addfd.
    let returned = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_ADDFD,
            &raw const request,
        )
    };
    result(returned.into()).map(|_| ())
}
