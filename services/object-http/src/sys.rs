//! Address space that is reserved and never backed by memory, and memory that is given back. The one
//! place with `unsafe` in this crate.
#![allow(unsafe_code, reason = "mmap and malloc_trim have no safe form")]

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use std::ptr::NonNull;

/// A range of addresses for naming things, in which every access faults. It lasts as long as the
/// process.
///
/// Slices of it are made to be compared by address, never to be read: reading one is a segmentation
/// fault in this process, and `EFAULT` where it is given to the kernel. So a slice that takes a
/// wrong way ends in an error instead of in wrong bytes.
pub(crate) struct Reservation {
    start: NonNull<u8>,
    bytes: usize,
}

impl Reservation {
    /// Reserves `bytes` of address space. Costs no memory: nothing is accounted for a private
    /// mapping without access (mmap(2)).
    pub(crate) fn new(bytes: usize) -> Result<Self, Errno> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel picks the place (no hint, not FIXED), so no existing mapping is
        // touched.
        let start =
            unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, ProtFlags::empty(), flags)? };
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { start, bytes })
    }

    /// The name of the `length` addresses behind `from`; empty where they are not inside.
    pub(crate) fn slice(&self, from: usize, length: usize) -> &'static [u8] {
        if from.checked_add(length).is_none_or(|end| end > self.bytes) {
            return &[];
        }
        // SAFETY: `from` lies within the mapping (just checked), which is one allocation and is
        // never unmapped.
        let start = unsafe { self.start.add(from) };
        // SAFETY: the range is mapped for the rest of the process, belongs to nobody else and is
        // never written. It is not readable, on purpose: a slice is only a pointer and a length
        // until somebody reads through it, the compiler may not read through a slice on its own
        // account (its length could be 0), and no code of ours does. Whoever does by mistake
        // faults, which is what we want.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), length) }
    }

    /// Where in the range `slice` begins, if it is one of ours. Looks at the address only.
    pub(crate) fn locate(&self, slice: &[u8]) -> Option<usize> {
        let from = slice.as_ptr().addr().checked_sub(self.start.addr().get())?;
        (from < self.bytes && !slice.is_empty()).then_some(from)
    }
}

/// Gives the free pages between what is allocated back to the kernel, by madvise(2). The allocator by
/// itself gives back only what lies at the end of a heap, where after a rush some connection always
/// has a few bytes. Takes about a millisecond for 10 MB; other threads that allocate wait for it.
///
/// Source: malloc_trim(3).
pub(crate) fn give_back_free_memory() {
    // SAFETY: it takes the allocator's own locks and touches only what is free; whether it found
    // anything does not matter.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;

    #[test]
    fn a_reserved_slice_is_recognised_and_cannot_leak() {
        let reservation = Reservation::new(1 << 40).unwrap();
        let slice = reservation.slice(5 << 20, 4096);
        assert_eq!(reservation.locate(slice), Some(5 << 20));
        assert_eq!(
            reservation.locate(slice.get(100..).unwrap()),
            Some((5 << 20) + 100)
        );
        assert_eq!(reservation.locate(b"ordinary"), None);
        assert!(reservation.slice(1 << 40, 1).is_empty());
        // What would happen if hyper wrote it somewhere else than to our socket.
        let (_reader, writer) = rustix::pipe::pipe().unwrap();
        assert_eq!(rustix::io::write(&writer, slice), Err(Errno::FAULT));
    }
}
