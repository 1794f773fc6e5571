//! Parts of block files on their way through hyper to the socket, without their bytes ever being in
//! this process.
//!
//! hyper takes bodies as buffers of bytes and owns the socket. So a part of a file enters hyper as
//! a *placeholder*: a slice of address space that nobody can read. Each file that is being sent has
//! a slot of [`BLOCK_BYTES_MAX`] addresses, and the address says which file and which offset are
//! meant. hyper cuts and advances the slice as it would any other, and hands it to
//! [`super::socket::Socket`], which recognises the address and calls sendfile(2) instead of
//! write(2).
//!
//! Nothing can go wrong silently: were a placeholder copied or written elsewhere, the process or
//! the call would fault.

use crate::sys::Reservation;
use bytes::Buf;
use protocol::block::BLOCK_BYTES_MAX;
use rustix::io::Errno;
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

/// Addresses per slot.
const SLOT_BYTES: usize = BLOCK_BYTES_MAX as usize;

/// The files that one thread is sending.
pub struct Placeholders {
    reservation: Reservation,
    slots: RefCell<Slots>,
}

struct Slots {
    files: Vec<Option<Rc<OwnedFd>>>,
    free: Vec<usize>,
}

impl Placeholders {
    /// Room for `count` files at a time. Maps address space: to be done before the start is over.
    pub fn new(count: usize) -> io::Result<Rc<Self>> {
        let bytes = count.checked_mul(SLOT_BYTES).ok_or(Errno::NOMEM)?;
        let slots = Slots {
            files: (0..count).map(|_| None).collect(),
            free: (0..count).collect(),
        };
        Ok(Rc::new(Self {
            reservation: Reservation::new(bytes)?,
            slots: RefCell::new(slots),
        }))
    }

    /// Sends on `socket` what `slice` stands for, as far as it goes at once; `None` if it is an
    /// ordinary slice.
    ///
    /// The socket must not block. A file that ends before its range does is
    /// [`io::ErrorKind::UnexpectedEof`]: the caller must cut the connection.
    pub fn send(&self, slice: &[u8], socket: impl AsFd) -> Option<io::Result<usize>> {
        let at = self.reservation.locate(slice)?;
        let slots = self.slots.borrow();
        let Some(Some(file)) = slots.files.get(at / SLOT_BYTES) else {
            // A placeholder outlived its range, which the types rule out.
            return Some(Err(io::Error::other("placeholder without a file")));
        };
        let mut offset = (at % SLOT_BYTES) as u64;
        loop {
            return Some(
                match rustix::fs::sendfile(&socket, file.as_ref(), Some(&mut offset), slice.len()) {
                    Err(Errno::INTR) => continue,
                    Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                    other => other.map_err(io::Error::from),
                },
            );
        }
    }

    /// Whether `slice` stands for a part of a file.
    pub fn is_placeholder(&self, slice: &[u8]) -> bool {
        self.reservation.locate(slice).is_some()
    }
}

/// A part of one block file, as a buffer. Its bytes must not be looked at; see the module. Lets go of
/// the file when dropped.
pub struct FileRange {
    placeholders: Rc<Placeholders>,
    slot: usize,
    /// Offsets in the file.
    from: usize,
    to: usize,
}

impl FileRange {
    /// The bytes `from` to `to` (excluded) of `file`, a regular file opened for reading. `None` if
    /// every slot is taken or the range is not within a block.
    pub fn new(
        placeholders: &Rc<Placeholders>,
        file: Rc<OwnedFd>,
        from: u32,
        to: u32,
    ) -> Option<Self> {
        let (from, to) = (usize::try_from(from).ok()?, usize::try_from(to).ok()?);
        if from > to || to > SLOT_BYTES {
            return None;
        }
        let mut slots = placeholders.slots.borrow_mut();
        let slot = slots.free.pop()?;
        let entry = slots.files.get_mut(slot)?;
        *entry = Some(file);
        drop(slots);
        Some(Self {
            placeholders: placeholders.clone(),
            slot,
            from,
            to,
        })
    }
}

impl Drop for FileRange {
    fn drop(&mut self) {
        let mut slots = self.placeholders.slots.borrow_mut();
        if let Some(entry) = slots.files.get_mut(self.slot) {
            *entry = None;
        }
        slots.free.push(self.slot);
    }
}

impl Buf for FileRange {
    fn remaining(&self) -> usize {
        self.to - self.from
    }

    fn chunk(&self) -> &[u8] {
        self.placeholders
            .reservation
            .slice(self.slot * SLOT_BYTES + self.from, self.remaining())
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining(), "advanced beyond the range");
        self.from += count;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn file_of(bytes: &[u8]) -> Rc<OwnedFd> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Rc::new(file.into())
    }

    #[test]
    fn a_range_is_sent_from_the_file_that_it_names() {
        let placeholders = Placeholders::new(2).unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let first = FileRange::new(&placeholders, file_of(b"0123456789"), 0, 10).unwrap();
        let mut second = FileRange::new(&placeholders, file_of(b"abcdefghij"), 2, 8).unwrap();
        assert!(
            FileRange::new(&placeholders, file_of(b""), 0, 0).is_none(),
            "all slots taken"
        );
        second.advance(1);
        assert_eq!(
            placeholders.send(second.chunk(), &ours).unwrap().unwrap(),
            5
        );
        assert_eq!(
            placeholders.send(first.chunk(), &ours).unwrap().unwrap(),
            10
        );
        assert!(placeholders.send(b"ordinary", &ours).is_none());
        drop(ours);
        let mut sent = String::new();
        theirs.read_to_string(&mut sent).unwrap();
        assert_eq!(sent, "defgh0123456789");
    }

    #[test]
    fn a_file_that_is_too_short_is_an_error_and_a_dropped_range_frees_its_slot() {
        let placeholders = Placeholders::new(1).unwrap();
        let (ours, _theirs) = UnixStream::pair().unwrap();
        for _ in 0..3 {
            let range = FileRange::new(&placeholders, file_of(b"short"), 5, 9).unwrap();
            let error = placeholders
                .send(range.chunk(), &ours)
                .unwrap()
                .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
