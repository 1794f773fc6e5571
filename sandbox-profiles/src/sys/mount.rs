//! mount_setattr: the flags of a mount that is not attached yet.

use super::result;
use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Forbids set-user-ID, device files and execution on `tree`, and writing too if `read_only`.
///
/// Source: mount_setattr(2).
pub(crate) fn restrict(tree: BorrowedFd<'_>, read_only: bool) -> Result<(), Errno> {
    let mut set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    if read_only {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the attributes outlive the call, and their size is passed with them.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    result(returned).map(|_| ())
}
