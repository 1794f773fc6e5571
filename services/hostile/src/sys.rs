//! Any system call with any arguments: what an attacker has who runs code in a service.

#![allow(
    unsafe_code,
    reason = "the program's purpose is to make calls that no library offers"
)]

use io_uring::{IoUring, cqueue, squeue};
use rustix::io::Errno;

/// An argument of a raw call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg {
    /// As it is: a number, a flag, a descriptor.
    Number(i64),
    /// The address of these bytes. Paths end with a NUL.
    Bytes(&'static [u8]),
    /// The address of 4096 zero bytes that the kernel may write.
    Space,
}

/// A buffer for what the kernel writes.
#[repr(C, align(4096))]
struct Space([u8; 4096]);

/// Makes the call.
pub(crate) fn call(number: libc::c_long, args: &[Arg]) -> Result<i64, Errno> {
    let mut spaces = [const { Space([0; 4096]) }; 2];
    let mut free = spaces.iter_mut();
    let mut words = [0_i64; 6];
    for (word, arg) in words.iter_mut().zip(args) {
        *word = match arg {
            Arg::Number(number) => *number,
            Arg::Bytes(bytes) => bytes.as_ptr() as i64,
            Arg::Space => free.next().map_or(0, |space| space.0.as_mut_ptr() as i64),
        };
    }
    let [a, b, c, d, e, f] = words;
    // SAFETY: the addresses among the arguments are of live memory, writable where the kernel may
    // write. Numbers among them may do harm to this process; that is what the call is made for,
    // and every one of them is to be refused.
    let returned = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if returned >= 0 {
        return Ok(returned);
    }
    let error = std::io::Error::last_os_error();
    Err(error
        .raw_os_error()
        .map_or(Errno::IO, Errno::from_raw_os_error))
}

/// Submits one operation and waits for its completion.
pub(crate) fn submit(ring: &mut IoUring, entry: &squeue::Entry) -> Result<i64, Errno> {
    // SAFETY: each caller's entry refers to static memory, and this waits until it is done with.
    unsafe { ring.submission().push(entry) }.map_err(|_| Errno::BUSY)?;
    ring.submit_and_wait(1)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let result = ring
        .completion()
        .next()
        .as_ref()
        .map_or(-libc::EIO, cqueue::Entry::result);
    if result < 0 {
        Err(Errno::from_raw_os_error(-result))
    } else {
        Ok(result.into())
    }
}

/// Reads from an address that is not mapped.
pub(crate) fn crash() -> ! {
    let nowhere = std::ptr::without_provenance::<u8>(8);
    // SAFETY: none: ending here is what is asked for.
    let _ = unsafe { std::ptr::read_volatile(nowhere) };
    std::process::exit(0)
}
