//! Why an image cannot be made.

use machine::node_toml::NodeTomlError;
use std::fmt;
use std::path::{Path, PathBuf};

/// One variant per step that can fail.
#[derive(Debug)]
pub enum Error {
    /// Reading or writing a file.
    File(PathBuf, std::io::Error),
    /// The configuration of the node is wrong.
    NodeToml(PathBuf, NodeTomlError),
    /// The kernel cannot be built; the builder has said why.
    Kernel(String),
    /// The program to embed is not an x86-64 ELF file that needs no interpreter.
    Program(&'static str),
    /// The programs cannot be compressed.
    Initramfs(std::io::Error),
    /// The stub is not a PE file that sections can be added to.
    Stub(&'static str),
    /// The partition table or the EFI partition cannot be made.
    Disk(&'static str, String),
    /// The wished size of the disk, in bytes, is out of bounds.
    Size(u64),
}

impl Error {
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::File(path.to_owned(), error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::NodeToml(path, NodeTomlError { line: 0, what }) => {
                write!(f, "{}: {what}", path.display())
            }
            Self::NodeToml(path, NodeTomlError { line, what }) => {
                write!(f, "{}:{line}: {what}", path.display())
            }
            Self::Kernel(why) => write!(f, "the kernel: {why}"),
            Self::Initramfs(error) => write!(f, "the programs cannot be compressed: {error}"),
            Self::Program(why) => write!(f, "the program to put into the image: {why}"),
            Self::Stub(why) => write!(f, "the EFI stub: {why}"),
            Self::Disk(what, why) => write!(f, "{what}: {why}"),
            Self::Size(bytes) => write!(
                f,
                "a disk of {} MiB: from {} MiB to {} TiB is possible",
                bytes >> 20,
                crate::SIZE_BYTES_MIN >> 20,
                crate::SIZE_BYTES_MAX >> 40
            ),
        }
    }
}

impl std::error::Error for Error {}
