//! Landlock: which version the kernel has, and putting a finished ruleset into force.
//!
//! The `landlock` crate makes the ruleset in the parent; its own `restrict_self` may allocate,
//! which a child before exec must not.

use super::result;
use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The kernel's Landlock ABI, 0 where there is none. Source: landlock_create_ruleset(2).
pub(crate) fn version() -> u32 {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag the call takes no attributes and touches no memory.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    result(returned)
        .ok()
        .and_then(|version| u32::try_from(version).ok())
        .unwrap_or(0)
}

/// Puts the ruleset into force for this thread and its descendants. Needs no_new_privs.
pub(crate) fn restrict_self(ruleset: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the call takes a descriptor and a number.
    let returned =
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    result(returned).map(|_| ())
}
