//! clone3: a child process with its pidfd, in a cgroup and a PID namespace of its own.

use super::result;
use rustix::io::Errno;
use rustix::process::Pid;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Where a child starts.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// In a PID namespace of its own, as its first process.
    pub(crate) new_pid_namespace: bool,
    /// In this cgroup of the unified hierarchy.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
}

/// Copies this process as fork does; the copy runs `child` and ends with the status it returns.
///
/// The copy has only the calling thread. When other threads exist, their locks (the allocator's
/// among them) stay as they were, so `child` must not allocate and must take no lock.
///
/// Source: clone(2).
pub(crate) fn process(
    place: Place<'_>,
    child: impl FnOnce() -> i32,
) -> Result<(Pid, OwnedFd), Errno> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: all-zero is a valid clone_args: no flags, no pointers.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if place.new_pid_namespace {
        args.flags |= libc::CLONE_NEWPID as u64;
    }
    if let Some(cgroup) = place.cgroup {
        // Written out because libc types the constant too narrow for its value.
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` and `pidfd` outlive the call. Without CLONE_VM the child has its own copy of
    // this memory and of the stack it returns to, exactly as after fork.
    let pid = result(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const args,
            size_of::<libc::clone_args>(),
        )
    })?;
    if pid == 0 {
        let status = child();
        // SAFETY: _exit has no preconditions; nothing of the parent's is torn down twice.
        unsafe { libc::_exit(status) }
    }
    // SAFETY: the kernel has written a new descriptor, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(Errno::SRCH)?;
    Ok((pid, pidfd))
}
