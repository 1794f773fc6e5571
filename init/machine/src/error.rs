//! Why a machine cannot go on booting: each is shown on the console, with what to do.

use crate::layout::{DATA_BYTES_MIN, DATA_NAME, EFI_NAME};
use rustix::io::Errno;
use std::fmt;

/// One variant per step that can fail.
#[derive(Debug)]
pub enum Error {
    /// A file system of the kernel's, or one of the disk's, cannot be mounted.
    Mount(String, Errno),
    /// Leaving the initial root.
    Root(Errno),
    /// The program cannot be copied, sealed or executed.
    Program(String),
    /// No disk with our partitions came up in time.
    NoDisk,
    /// The disk has no data partition.
    NoDataPartition(String),
    /// The partition table cannot be read or written.
    Table(String),
    /// The disk is too small.
    TooSmall(u64),
    /// The data partition is neither blank nor ours.
    Foreign(String),
    /// Reading or writing the disk.
    Disk(String, std::io::Error),
    /// Growing the data file system.
    Grow(Errno),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount(what, errno) => write!(f, "mounting {what}: {errno}"),
            Self::Root(errno) => write!(f, "leaving the initial root: {errno}"),
            Self::Program(why) => write!(f, "the program: {why}"),
            Self::NoDisk => write!(
                f,
                "no disk has a partition named {EFI_NAME}: is it connected, and written by `trousseau image`?"
            ),
            Self::NoDataPartition(disk) => write!(
                f,
                "{disk} has no partition named {DATA_NAME}: write it anew with `trousseau image`"
            ),
            Self::Table(why) => write!(f, "partition table: {why}"),
            Self::TooSmall(bytes) => write!(
                f,
                "the data partition has room for {} MiB only; {} MiB are needed: use a larger disk",
                bytes >> 20,
                DATA_BYTES_MIN >> 20
            ),
            Self::Foreign(device) => write!(
                f,
                "{device} holds something that is not Trousseau's, and is left alone; to lose it and begin anew, write zeros over its first MiB"
            ),
            Self::Disk(what, error) => write!(f, "{what}: {error}"),
            Self::Grow(errno) => write!(f, "growing the data file system: {errno}"),
        }
    }
}

impl std::error::Error for Error {}
