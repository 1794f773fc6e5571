//! File I/O of the store itself: four calls, by io_uring in service and by plain system calls in tests.
//!
//! Nothing is opened here: a [`Disk`] adopts descriptors that were opened with openat(2) below the data directory, so the ring
//! may be restricted to READ, WRITE, FSYNC and FALLOCATE. (tokio-uring would use ASYNC_CANCEL when it is torn down; here it never is.)

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// Makes files out of descriptors.
pub trait Disk: 'static {
    /// What it makes.
    type File: DiskFile;

    /// Takes the descriptor over. Closed when the file is dropped and its last operation has ended.
    fn adopt(&self, descriptor: OwnedFd) -> Self::File;
}

/// What a sync must cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// The bytes, and what is needed to read them (fdatasync).
    Data,
    /// The names in a directory, or a changed length (fsync).
    All,
}

/// One open file. Offsets are absolute; the descriptor's own offset is never moved.
pub trait DiskFile: AsFd + 'static {
    /// Reads at most `length` bytes from `offset` into `buffer`, whose contents are replaced. Fewer mean the end of the file.
    fn read_at(
        &self,
        buffer: Vec<u8>,
        offset: u64,
        length: usize,
    ) -> impl Future<Output = (Result<(), Errno>, Vec<u8>)>;

    /// Writes all of `buffer` at `offset`, and gives it back.
    fn write_at(
        &self,
        buffer: Vec<u8>,
        offset: u64,
    ) -> impl Future<Output = (Result<(), Errno>, Vec<u8>)>;

    /// Waits until what was written before is on disk. After an error the file's state is unknown: the process must end.
    fn sync(&self, sync: Sync) -> impl Future<Output = Result<(), Errno>>;

    /// fallocate(2).
    fn fallocate(
        &self,
        mode: FallocateFlags,
        offset: u64,
        length: u64,
    ) -> impl Future<Output = Result<(), Errno>>;
}

/// The disk by io_uring. Only inside a tokio-uring runtime.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ring;

/// A file of [`Ring`].
#[derive(Debug)]
pub struct RingFile {
    pub(crate) file: tokio_uring::fs::File,
}

impl Disk for Ring {
    type File = RingFile;

    fn adopt(&self, descriptor: OwnedFd) -> RingFile {
        RingFile {
            file: tokio_uring::fs::File::from_std(descriptor.into()),
        }
    }
}

impl DiskFile for RingFile {
    async fn read_at(
        &self,
        mut buffer: Vec<u8>,
        offset: u64,
        length: usize,
    ) -> (Result<(), Errno>, Vec<u8>) {
        use tokio_uring::buf::BoundedBuf;
        buffer.clear();
        buffer.reserve_exact(length);
        let mut at = 0;
        while at < length {
            let (read, part) = self
                .file
                .read_at(buffer.slice(at..length), offset + at as u64)
                .await;
            buffer = part.into_inner();
            match read {
                Ok(0) => break,
                Ok(count) => at += count,
                Err(error) => match errno(&error) {
                    Errno::INTR | Errno::AGAIN => {}
                    errno => return (Err(errno), buffer),
                },
            }
        }
        (Ok(()), buffer)
    }

    async fn write_at(&self, buffer: Vec<u8>, offset: u64) -> (Result<(), Errno>, Vec<u8>) {
        let (written, buffer) = self.file.write_all_at(buffer, offset).await;
        (written.map_err(|error| errno(&error)), buffer)
    }

    async fn sync(&self, sync: Sync) -> Result<(), Errno> {
        match sync {
            Sync::Data => self.file.sync_data().await,
            Sync::All => self.file.sync_all().await,
        }
        .map_err(|error| errno(&error))
    }

    async fn fallocate(&self, mode: FallocateFlags, offset: u64, length: u64) -> Result<(), Errno> {
        // The flag's bits are the system call's; they are few and small.
        let mode = mode.bits().cast_signed();
        let done = self.file.fallocate(offset, length, mode).await;
        done.map_err(|error| errno(&error))
    }
}

/// The errno of `error`; tokio-uring's own errors (a write of no bytes) count as an I/O error.
fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
pub(crate) mod blocking {
    //! The twin for tests: the same four calls as system calls, recorded, and stopped or failed on request.

    use super::{Disk, DiskFile, Sync};
    use rustix::fs::FallocateFlags;
    use rustix::io::Errno;
    use std::cell::{Cell, RefCell};
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::rc::Rc;
    use tokio::sync::Notify;

    /// What was done to which inode, in the order in which it was completed.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Event {
        /// So many bytes were written.
        Wrote { inode: u64, bytes: usize },
        /// A sync ended.
        Synced { inode: u64, sync: Sync },
    }

    /// Shared by the disk and its test.
    #[derive(Default)]
    pub(crate) struct Record {
        pub(crate) events: RefCell<Vec<Event>>,
        /// While true, a sync waits for a permit.
        pub(crate) held: Cell<bool>,
        /// Syncs that may go although they are held.
        pub(crate) permits: Cell<usize>,
        /// Wakes the waiting syncs.
        pub(crate) go_on: Notify,
        /// Syncs that wait now.
        pub(crate) waiting: Cell<usize>,
        /// Every sync fails from now on.
        pub(crate) broken: Cell<bool>,
    }

    /// See [`Record`].
    #[derive(Clone, Default)]
    pub(crate) struct Blocking(pub(crate) Rc<Record>);

    pub(crate) struct BlockingFile {
        descriptor: OwnedFd,
        inode: u64,
        record: Rc<Record>,
    }

    impl Blocking {
        /// Lets the waiting syncs go.
        pub(crate) fn release(&self) {
            self.0.held.set(false);
            self.0.go_on.notify_waiters();
        }
    }

    impl Blocking {
        /// Lets one waiting sync go.
        pub(crate) fn release_one(&self) {
            self.0.permits.set(self.0.permits.get() + 1);
            self.0.go_on.notify_waiters();
        }
    }

    impl Disk for Blocking {
        type File = BlockingFile;
        fn adopt(&self, descriptor: OwnedFd) -> BlockingFile {
            let inode = rustix::fs::fstat(&descriptor).map_or(0, |stat| stat.st_ino);
            BlockingFile {
                descriptor,
                inode,
                record: self.0.clone(),
            }
        }
    }

    impl AsFd for BlockingFile {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.descriptor.as_fd()
        }
    }

    impl DiskFile for BlockingFile {
        async fn read_at(
            &self,
            mut buffer: Vec<u8>,
            offset: u64,
            length: usize,
        ) -> (Result<(), Errno>, Vec<u8>) {
            tokio::task::yield_now().await; // as the ring would: others run in between
            buffer.clear();
            buffer.resize(length, 0);
            let mut at = 0;
            while at < length {
                let part = buffer.get_mut(at..).unwrap_or_default();
                match rustix::io::pread(&self.descriptor, part, offset + at as u64) {
                    Ok(0) => break,
                    Ok(count) => at += count,
                    Err(errno) => return (Err(errno), buffer),
                }
            }
            buffer.truncate(at);
            (Ok(()), buffer)
        }

        async fn write_at(&self, buffer: Vec<u8>, offset: u64) -> (Result<(), Errno>, Vec<u8>) {
            tokio::task::yield_now().await;
            let mut at = 0;
            while let Some(part) = buffer.get(at..).filter(|part| !part.is_empty()) {
                match rustix::io::pwrite(&self.descriptor, part, offset + at as u64) {
                    Ok(count) => at += count,
                    Err(errno) => return (Err(errno), buffer),
                }
            }
            self.record.events.borrow_mut().push(Event::Wrote {
                inode: self.inode,
                bytes: at,
            });
            (Ok(()), buffer)
        }

        async fn sync(&self, sync: Sync) -> Result<(), Errno> {
            self.record.waiting.set(self.record.waiting.get() + 1);
            tokio::task::yield_now().await;
            while self.record.held.get() {
                if let Some(left) = self.record.permits.get().checked_sub(1) {
                    self.record.permits.set(left);
                    break;
                }
                self.record.go_on.notified().await;
            }
            self.record.waiting.set(self.record.waiting.get() - 1);
            if self.record.broken.get() {
                return Err(Errno::IO);
            }
            self.record.events.borrow_mut().push(Event::Synced {
                inode: self.inode,
                sync,
            });
            Ok(())
        }

        async fn fallocate(
            &self,
            mode: FallocateFlags,
            offset: u64,
            length: u64,
        ) -> Result<(), Errno> {
            tokio::task::yield_now().await;
            rustix::fs::fallocate(&self.descriptor, mode, offset, length)
        }
    }
}
