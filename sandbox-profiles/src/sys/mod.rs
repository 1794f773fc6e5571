//! The system calls that neither rustix nor nix has, each behind a safe signature.
//!
//! The only unsafe code of this crate. Every function says what makes it sound.

#![allow(
    unsafe_code,
    reason = "this is the one place for it (docs/ARCHITECTURE.md)"
)]

pub(crate) mod clone;
pub(crate) mod descriptors;
pub(crate) mod exec;
pub(crate) mod landlock;
pub(crate) mod mount;
pub(crate) mod namespaces;
pub(crate) mod ring;
pub(crate) mod seccomp;

use rustix::io::Errno;

/// What a raw system call returned: a number, or the error in `errno`.
fn result(returned: libc::c_long) -> Result<libc::c_long, Errno> {
    if returned >= 0 {
        return Ok(returned);
    }
    let error = std::io::Error::last_os_error();
    Err(error
        .raw_os_error()
        .map_or(Errno::IO, Errno::from_raw_os_error))
}
