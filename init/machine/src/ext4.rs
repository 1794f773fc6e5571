//! The data partition's file system: an empty ext4 written from a template at the first boot, grown to its partition at every boot.
//!
//! There is no mkfs and no fsck in the machine. The journal brings the file system back after a power cut. When the kernel meets damage it goes
//! read-only (`errors=remount-ro`) rather than panicking: a reboot mends no disk, and a node that still answers by ssh can say what is wrong.

use crate::error::Error;
use crate::sys;
use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, open};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// As `ext4/make-template.py` wrote it: a count, and numbered pieces of [`PIECE_BYTES`].
const TEMPLATE: &[u8] = include_bytes!("../ext4/data.template");
/// How much of the partition the template describes.
pub(crate) const TEMPLATE_BYTES: u64 = 128 << 20;
const PIECE_BYTES: usize = 64;
const BLOCK_BYTES: u64 = 4_096;
/// The first block holds the superblock at 1,024, and nothing before it.
const SUPERBLOCK: usize = 1_024;
const MAGIC: (usize, [u8; 2]) = (SUPERBLOCK + 0x38, [0x53, 0xEF]);
const LABEL: (usize, &[u8]) = (SUPERBLOCK + 0x78, b"trousseau-data\0\0");
/// Stands at the beginning while the template is being written, so that a power cut then does not leave a disk nobody dares to touch.
const UNDER_WAY: &[u8] = b"trousseau: this file system is being made";

/// What a partition holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing: it was never used, or making its file system was interrupted.
    Blank,
    /// Our file system.
    Ours,
    /// Something else.
    Foreign,
}

/// Looks at the first bytes of a partition (at least [`crate::layout::BLANK_BYTES`] of them).
pub(crate) fn content(first: &[u8]) -> Content {
    let holds = |(at, bytes): (usize, &[u8])| first.get(at..at + bytes.len()) == Some(bytes);
    if holds((MAGIC.0, &MAGIC.1)) && holds(LABEL) {
        Content::Ours
    } else if holds((0, UNDER_WAY)) || first.iter().all(|byte| *byte == 0) {
        Content::Blank
    } else {
        Content::Foreign
    }
}

/// Writes the empty file system. The superblock comes last, so that an interrupted writing is begun again at the next boot.
pub(crate) fn make(partition: &File) -> Result<(), std::io::Error> {
    partition.write_all_at(UNDER_WAY, 0)?;
    partition.sync_all()?;
    // What an earlier system left in the place of the journal could be taken for entries of ours.
    zero(partition, BLOCK_BYTES, TEMPLATE_BYTES)?;
    let mut first = vec![0; BLOCK_BYTES as usize];
    for (offset, piece) in pieces() {
        match first.get_mut(offset as usize..offset as usize + PIECE_BYTES) {
            Some(place) => place.copy_from_slice(piece),
            None => partition.write_all_at(piece, offset)?,
        }
    }
    partition.sync_all()?;
    partition.write_all_at(&first, 0)?;
    partition.sync_all()
}

fn pieces() -> impl Iterator<Item = (u64, &'static [u8])> {
    let entries = TEMPLATE.get(4..).unwrap_or_default();
    entries.chunks_exact(4 + PIECE_BYTES).map(|entry| {
        let (number, piece) = entry.split_at(4);
        let number = number.try_into().map_or(0, u32::from_le_bytes);
        (u64::from(number) * PIECE_BYTES as u64, piece)
    })
}

/// By the disk's own means where it has any.
fn zero(partition: &File, from: u64, to: u64) -> Result<(), std::io::Error> {
    if fallocate(partition, FallocateFlags::ZERO_RANGE, from, to - from).is_ok() {
        return Ok(());
    }
    let zeros = vec![0; 1 << 20];
    let mut at = from;
    while at < to {
        let length = (to - at).min(zeros.len() as u64) as usize;
        partition.write_all_at(zeros.get(..length).unwrap_or_default(), at)?;
        at += length as u64;
    }
    Ok(())
}

/// Mounts the file system of `device` at `target`, without set-user-ID, devices or execution, and grows it to `bytes`.
pub(crate) fn mount_and_grow(device: &Path, target: &Path, bytes: u64) -> Result<(), Error> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME;
    let fails = |errno| Error::Mount(device.display().to_string(), errno);
    mount(device, target, "ext4", flags, c"errors=remount-ro").map_err(fails)?;
    let root = open(target, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(fails)?;
    match sys::resize_ext4(&root, bytes / BLOCK_BYTES) {
        Ok(()) => Ok(()),
        // A file system that stays small serves; one that is read-only was found damaged, and is shown as it is.
        Err(errno @ (Errno::ROFS | Errno::NOSPC)) => {
            eprintln!("trousseau: the data file system was not grown: {errno}");
            Ok(())
        }
        Err(errno) => Err(Error::Grow(errno)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;
    use crate::layout::BLANK_BYTES;
    use std::os::unix::fs::FileExt;
    use std::process::Command;

    fn first_bytes(file: &File) -> Vec<u8> {
        let mut first = vec![0; BLANK_BYTES];
        file.read_exact_at(&mut first, 0).unwrap();
        first
    }

    #[test]
    fn a_made_file_system_is_ours_and_without_errors() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(TEMPLATE_BYTES).unwrap();
        // What was there before must not shine through.
        for at in (0..TEMPLATE_BYTES).step_by(512 * 1024) {
            file.as_file().write_all_at(&[0xA5; 4_096], at).unwrap();
        }
        file.as_file().write_all_at(UNDER_WAY, 0).unwrap();
        assert_eq!(content(&first_bytes(file.as_file())), Content::Blank);
        make(file.as_file()).unwrap();
        assert_eq!(content(&first_bytes(file.as_file())), Content::Ours);
        // Where the judge is installed. (The machine itself has none.)
        if let Ok(judged) = Command::new("/sbin/e2fsck")
            .arg("-fn")
            .arg(file.path())
            .output()
        {
            assert!(
                judged.status.success(),
                "{}",
                String::from_utf8_lossy(&judged.stdout)
            );
        }
    }

    #[test]
    fn only_a_partition_of_zeros_is_blank() {
        let mut first = vec![0; BLANK_BYTES];
        assert_eq!(content(&first), Content::Blank);
        if let Some(byte) = first.last_mut() {
            *byte = 1;
        }
        assert_eq!(content(&first), Content::Foreign);
        assert_eq!(content(&[]), Content::Blank);
    }
}
