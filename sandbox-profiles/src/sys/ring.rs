//! io_uring: making a ring that takes certain operations only.
//!
//! Not through the io-uring crate, which maps the ring into the maker's memory; this ring is for
//! somebody else.
//!
//! Source: io_uring_setup(2), io_uring_register(2).

use super::result;
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `struct io_uring_params`, which is 30 words.
pub(crate) type Parameters = [u32; 30];

const SETUP_R_DISABLED: u32 = 1 << 6;
const REGISTER_RESTRICTIONS: u32 = 11;
const REGISTER_ENABLE_RINGS: u32 = 12;
const RESTRICTION_SQE_OP: u16 = 1;

/// `struct io_uring_restriction`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Restriction {
    opcode: u16,
    operation: u8,
    reserved: u8,
    reserved_words: [u32; 3],
}

/// Makes a ring of `entries` that takes these operations and, as no registration and no flag of a
/// submission is allowed, nothing else ever.
///
/// The parameters are what the ring's user needs to map it. They do not tell that it began
/// disabled, which its user neither asked for nor can do anything about.
pub(crate) fn restricted(
    entries: u32,
    operations: impl Iterator<Item = u8>,
) -> Result<(OwnedFd, Parameters), Errno> {
    let mut parameters: Parameters = [0; 30];
    // Restrictions can only be put on a ring that takes no submissions yet.
    set_flags(&mut parameters, SETUP_R_DISABLED);
    // SAFETY: the kernel reads and writes one io_uring_params, and keeps no reference to it.
    let returned =
        unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, parameters.as_mut_ptr()) };
    let number = RawFd::try_from(result(returned)?).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let ring = unsafe { OwnedFd::from_raw_fd(number) };

    let restrictions: Vec<Restriction> = operations
        .map(|operation| Restriction {
            opcode: RESTRICTION_SQE_OP,
            operation,
            reserved: 0,
            reserved_words: [0; 3],
        })
        .collect();
    register(ring.as_fd(), REGISTER_RESTRICTIONS, &restrictions)?;
    register(ring.as_fd(), REGISTER_ENABLE_RINGS, &[])?;
    set_flags(&mut parameters, 0);
    Ok((ring, parameters))
}

fn set_flags(parameters: &mut Parameters, flags: u32) {
    // The entries of the two queues, and then the flags.
    let [_, _, place, ..] = parameters;
    *place = flags;
}

fn register(ring: BorrowedFd<'_>, operation: u32, list: &[Restriction]) -> Result<(), Errno> {
    let pointer = if list.is_empty() {
        std::ptr::null()
    } else {
        list.as_ptr()
    };
    // SAFETY: the kernel reads `list.len()` restrictions, which outlive the call.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring.as_raw_fd(),
            operation,
            pointer,
            list.len(),
        )
    };
    result(returned).map(|_| ())
}
