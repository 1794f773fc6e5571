//! The two steps of `up` that Rust cannot vouch for: dividing the process, and what a fresh PID 1 is born with.
#![allow(unsafe_code, reason = "fork(2)")]

use nix::unistd::{ForkResult, Pid, fork};

/// Divides the process: `None` in the child.
pub(crate) fn divide() -> Result<Option<Pid>, nix::errno::Errno> {
    // SAFETY: the launcher has one thread (it never started another), so the child inherits no lock that somebody
    // else holds, and may go on as an ordinary program.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}
