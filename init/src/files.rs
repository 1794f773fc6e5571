//! Small files of the node's owner: read as a whole, written whole or not at all, and copied into memory that nobody can change.

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, openat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Of any of these files, in bytes.
pub(crate) const FILE_BYTES_MAX: usize = 64 * 1024;

/// The whole of a file, at most [`FILE_BYTES_MAX`] (`EFBIG` beyond). A symbolic link is not followed (`ELOOP`).
pub(crate) fn read(directory: BorrowedFd<'_>, name: &str) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = openat(directory, name, flags, Mode::empty())?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 4_096];
    loop {
        match rustix::io::read(&file, &mut chunk)? {
            0 => return Ok(bytes),
            count => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
        }
        if bytes.len() > FILE_BYTES_MAX {
            return Err(Errno::FBIG);
        }
    }
}

/// Puts a file of these bytes, for its owner only, in place of the one before. Written under another name and renamed, so that a power cut
/// leaves the whole new file or the old one.
pub(crate) fn replace(directory: BorrowedFd<'_>, name: &str, bytes: &[u8]) -> Result<(), Errno> {
    let new = format!("{name}.new");
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = openat(directory, &*new, flags, Mode::RUSR | Mode::WUSR)?;
    write_all(file.as_fd(), bytes)?;
    rustix::fs::fsync(&file)?;
    rustix::fs::renameat(directory, &*new, directory, name)?;
    rustix::fs::fsync(directory)
}

/// A memory file with these bytes that nobody can change any more.
pub(crate) fn sealed(name: &str, bytes: &[u8]) -> Result<OwnedFd, Errno> {
    let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    write_all(file.as_fd(), bytes)?;
    let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, all)?;
    Ok(file)
}

fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let count = rustix::io::write(file, bytes)?;
        bytes = bytes.get(count..).unwrap_or_default();
    }
    Ok(())
}
