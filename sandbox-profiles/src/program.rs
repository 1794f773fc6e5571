//! A program as a sealed memory file: what is executed is what was checked.

use crate::error::Error;
use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create, sendfile,
};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::GROW)
    .union(SealFlags::SHRINK)
    .union(SealFlags::SEAL);

/// Copies a program into a memory file that nobody, this process included, can change any more.
///
/// `name` appears in the target of `/proc/PID/exe`. `source` must be readable and seekable.
pub fn program(name: &str, source: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    copy(name, source).map_err(Error::Program)
}

fn copy(name: &str, source: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = match memfd_create(name, flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 every memory file could be executed, and the flag was unknown.
        Err(Errno::INVAL) => memfd_create(name, flags)?,
        other => other?,
    };
    let length = u64::try_from(fstat(source)?.st_size).map_err(|_| Errno::INVAL)?;
    let mut offset = 0;
    while offset < length {
        let rest = usize::try_from(length - offset).map_err(|_| Errno::FBIG)?;
        if sendfile(memory.as_fd(), source, Some(&mut offset), rest)? == 0 {
            return Err(Errno::IO);
        }
    }
    fcntl_add_seals(&memory, SEALS)?;
    Ok(memory)
}

/// Whether the program is sealed.
pub(crate) fn is_sealed(program: BorrowedFd<'_>) -> bool {
    fcntl_get_seals(program).is_ok_and(|seals| seals.contains(SEALS))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]
    use super::*;
    use std::fs::File;

    #[test]
    fn a_sealed_program_cannot_be_written() {
        let source = File::open("/proc/self/exe").unwrap();
        let program = program("test", source.as_fd()).unwrap();
        assert!(is_sealed(program.as_fd()));
        assert!(!is_sealed(source.as_fd()));
        assert_eq!(
            fstat(&program).unwrap().st_size,
            fstat(&source).unwrap().st_size
        );
        assert_eq!(rustix::io::pwrite(&program, b"x", 0), Err(Errno::PERM));
    }
}
