//! unshare, for a child before exec.

use rustix::io::Errno;
use rustix::thread::UnshareFlags;

/// Moves this process into new namespaces of these kinds.
///
/// `kinds` must name namespaces only.
pub(crate) fn unshare(kinds: UnshareFlags) -> Result<(), Errno> {
    debug_assert!(!kinds.intersects(UnshareFlags::FILES | UnshareFlags::FS));
    // SAFETY: only UnshareFlags::FILES can break the ownership of descriptors.
    unsafe { rustix::thread::unshare_unsafe(kinds) }
}
