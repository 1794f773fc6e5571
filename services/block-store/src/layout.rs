//! The names below the data directory, and every system call that takes one.
//!
//! `files/<2 hex>/<62 hex>` are large blocks, `packs/<8 hex>` hold small ones, `writing/<number>` are not blocks yet and are removed at each start,
//! `damaged/<64 hex>` were blocks, `owed/<64 hex>` say which blocks lack copies on other nodes, `placement` where blocks belong, `scrubbed`
//! when all were read last, `lives/<life>.<store>` how often the store was started, and which it is. All calls are relative to the directory
//! descriptor; none follows a link.

use protocol::block::BlockId;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

/// Directories for large blocks: by the first byte of the id.
const FAN_OUT: usize = 256;
/// Damaged files that are kept for the operator; more are removed at once, so that a liar cannot fill the disk with them.
const DAMAGED_KEPT_MAX: usize = 64;

const FILES: &str = "files";
const PACKS: &str = "packs";
const WRITING: &str = "writing";
const DAMAGED: &str = "damaged";
const OWED: &str = "owed";
const LIVES: &str = "lives";
const PLACEMENT: &str = "placement";
const NEW_PLACEMENT: &str = "placement.new";
const SCRUBBED: &str = "scrubbed";

/// The data directory.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) root: OwnedFd,
}

impl Layout {
    /// Makes the directories that are missing (durably) and removes what an earlier life left half-written.
    pub(crate) fn open(root: OwnedFd) -> Result<Self, Errno> {
        let layout = Self { root };
        let mut made = false;
        for name in [FILES, PACKS, WRITING, DAMAGED, OWED, LIVES] {
            made |= layout.make_directory(name)?;
        }
        // Looked up in one listing: making what exists would be 256 trapped calls at each start.
        let mut there = Vec::new();
        layout.list(FILES, |name| there.push(format!("{FILES}/{name}")))?;
        let missing: Vec<String> = (0..FAN_OUT)
            .map(fan_out_name)
            .filter(|name| !there.contains(name))
            .collect();
        for name in &missing {
            layout.make_directory(name)?;
        }
        if !missing.is_empty() {
            rustix::fs::fsync(layout.open_directory(FILES)?)?;
        }
        if made {
            rustix::fs::fsync(layout.open_directory(".")?)?;
        }
        let mut left = Vec::new();
        layout.list(WRITING, |name| left.push(name.to_owned()))?;
        for name in left {
            layout.remove(&format!("{WRITING}/{name}"))?;
        }
        Ok(layout)
    }

    fn make_directory(&self, name: &str) -> Result<bool, Errno> {
        match rustix::fs::mkdirat(&self.root, name, Mode::RWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn open_directory(&self, name: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.root, name, flags, Mode::empty())
    }

    fn open_file(&self, name: &str, access: OFlags) -> Result<OwnedFd, Errno> {
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.root, name, flags, Mode::RUSR | Mode::WUSR)
    }

    /// `None`: there is no file of that name.
    fn open_if_there(&self, name: &str, access: OFlags) -> Result<Option<OwnedFd>, Errno> {
        match self.open_file(name, access) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Whether it was there.
    fn remove(&self, name: &str) -> Result<bool, Errno> {
        match rustix::fs::unlinkat(&self.root, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Calls `with` for each name in `directory`, in no order, but `.` and `..`. Nobody but this store makes names here.
    fn list(&self, directory: &str, mut with: impl FnMut(&str)) -> Result<(), Errno> {
        let mut entries = Dir::new(self.open_directory(directory)?)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => with(name),
            }
        }
        Ok(())
    }

    /// A fresh file that is no block yet, open for writing only.
    pub(crate) fn create_writing(&self, number: u64) -> Result<OwnedFd, Errno> {
        let access = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        self.open_file(&writing_name(number), access)
    }

    /// The same file again, for reading or for writing.
    pub(crate) fn open_writing(&self, number: u64, access: OFlags) -> Result<OwnedFd, Errno> {
        self.open_file(&writing_name(number), access)
    }

    /// Removes a file that will not be a block.
    pub(crate) fn remove_writing(&self, number: u64) -> Result<bool, Errno> {
        self.remove(&writing_name(number))
    }

    /// Gives the file its final name. `EEXIST` if the block is there already.
    pub(crate) fn publish(&self, number: u64, id: &BlockId) -> Result<(), Errno> {
        rustix::fs::renameat_with(
            &self.root,
            writing_name(number),
            &self.root,
            block_name(id),
            RenameFlags::NOREPLACE,
        )
    }

    /// The directory in which `id` lies, for fsync.
    pub(crate) fn open_block_directory(&self, first: u8) -> Result<OwnedFd, Errno> {
        self.open_directory(&fan_out_name(first.into()))
    }

    /// A block's file, read-only.
    pub(crate) fn open_block(&self, id: &BlockId) -> Result<OwnedFd, Errno> {
        self.open_file(&block_name(id), OFlags::RDONLY)
    }

    /// The size of a block's file, footer included; `None` if there is none.
    pub(crate) fn block_file_bytes(&self, id: &BlockId) -> Result<Option<u64>, Errno> {
        let stat = self.stat_block(id)?;
        Ok(stat.map(|stat| u64::try_from(stat.st_size).unwrap_or(0)))
    }

    /// By a descriptor that reads nothing, so that no further system call has to be allowed.
    fn stat_block(&self, id: &BlockId) -> Result<Option<Stat>, Errno> {
        let file = self.open_if_there(&block_name(id), OFlags::PATH)?;
        file.map(rustix::fs::fstat).transpose()
    }

    /// Removes a block's file; whether it was there.
    pub(crate) fn remove_block(&self, id: &BlockId) -> Result<bool, Errno> {
        self.remove(&block_name(id))
    }

    /// Takes the damaged `file` of block `id` out of the way; false if another file has that name by now, or none.
    pub(crate) fn set_aside(&self, id: &BlockId, file: impl AsFd) -> Result<bool, Errno> {
        let found = self.stat_block(id)?.map(|found| found.st_ino);
        if found != Some(rustix::fs::fstat(file)?.st_ino) {
            return Ok(false);
        }
        let mut kept = 0;
        self.list(DAMAGED, |_| kept += 1)?;
        if kept >= DAMAGED_KEPT_MAX {
            return self.remove_block(id);
        }
        let aside = format!("{DAMAGED}/{id:?}");
        let flags = RenameFlags::empty();
        match rustix::fs::renameat_with(&self.root, block_name(id), &self.root, aside, flags) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// The blocks whose ids start with `first`, in order. Names that are no block's are left out.
    pub(crate) fn blocks(&self, first: u8) -> Result<Vec<BlockId>, Errno> {
        let mut ids = Vec::new();
        self.list(&fan_out_name(first.into()), |name| {
            ids.extend(parse_block_name(first, name));
        })?;
        ids.sort_unstable();
        Ok(ids)
    }

    /// The blocks that lack copies.
    pub(crate) fn owed(&self) -> Result<BTreeSet<BlockId>, Errno> {
        let mut ids = BTreeSet::new();
        self.list(OWED, |name| ids.extend(parse_id(name)))?;
        Ok(ids)
    }

    /// A mark that a block lacks copies. Whoever needs it on the disk syncs the directory.
    pub(crate) fn mark_owed(&self, id: &BlockId) -> Result<(), Errno> {
        let access = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        match self.open_file(&format!("{OWED}/{id:?}"), access) {
            Ok(_) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// It lacks none. If the mark is back after a power cut, it is looked at once more.
    pub(crate) fn unmark_owed(&self, id: &BlockId) -> Result<bool, Errno> {
        self.remove(&format!("{OWED}/{id:?}"))
    }

    /// The directory of the marks, for fsync.
    pub(crate) fn open_owed_directory(&self) -> Result<OwnedFd, Errno> {
        self.open_directory(OWED)
    }

    /// Begins a life of the store: its number, above those of all lives before, and which store this is, `new` in the first. On the disk when this comes back.
    pub(crate) fn begin_life(&self, new: u64) -> Result<(u32, u64), Errno> {
        let mut before = Vec::new();
        self.list(LIVES, |name| before.extend(parse_life_name(name)))?;
        let (last, store) = before.iter().max().copied().unwrap_or((0, new));
        let life = last.checked_add(1).ok_or(Errno::OVERFLOW)?;
        let access = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        self.open_file(&life_name(life, store), access)?;
        rustix::fs::fsync(self.open_directory(LIVES)?)?;
        for (life, store) in before {
            self.remove(&life_name(life, store))?;
        }
        Ok((life, store))
    }

    /// The file that says where blocks belong; `None`: there is none.
    pub(crate) fn open_placement(&self) -> Result<Option<OwnedFd>, Errno> {
        self.open_if_there(PLACEMENT, OFlags::RDONLY)
    }

    /// A fresh file to write a placement into.
    pub(crate) fn create_placement(&self) -> Result<OwnedFd, Errno> {
        self.remove(NEW_PLACEMENT)?;
        let access = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        self.open_file(NEW_PLACEMENT, access)
    }

    /// The written file is the placement now. The root directory has yet to be synced.
    pub(crate) fn use_placement(&self) -> Result<(), Errno> {
        let flags = RenameFlags::empty();
        rustix::fs::renameat_with(&self.root, NEW_PLACEMENT, &self.root, PLACEMENT, flags)
    }

    /// The file that says when all blocks were read last; `None`: there is none.
    pub(crate) fn open_scrubbed(&self) -> Result<Option<OwnedFd>, Errno> {
        self.open_if_there(SCRUBBED, OFlags::RDONLY)
    }

    /// The same, to write it in place. It is worth no sync: at worst a scrub is forgotten.
    pub(crate) fn write_scrubbed(&self) -> Result<OwnedFd, Errno> {
        self.open_file(SCRUBBED, OFlags::WRONLY | OFlags::CREATE)
    }

    /// The root directory, for fsync.
    pub(crate) fn open_root(&self) -> Result<OwnedFd, Errno> {
        self.open_directory(".")
    }

    /// The numbers of all packs, in order.
    pub(crate) fn packs(&self) -> Result<Vec<u32>, Errno> {
        let mut numbers = Vec::new();
        self.list(PACKS, |name| numbers.extend(parse_pack_name(name)))?;
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A fresh, empty pack, for reading and writing.
    pub(crate) fn create_pack(&self, number: u32) -> Result<OwnedFd, Errno> {
        let access = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        self.open_file(&pack_name(number), access)
    }

    /// A pack, for reading and writing.
    pub(crate) fn open_pack(&self, number: u32) -> Result<OwnedFd, Errno> {
        self.open_file(&pack_name(number), OFlags::RDWR)
    }

    /// Removes a pack; whether it was there.
    pub(crate) fn remove_pack(&self, number: u32) -> Result<bool, Errno> {
        self.remove(&pack_name(number))
    }

    /// The directory of the packs, for fsync.
    pub(crate) fn open_packs_directory(&self) -> Result<OwnedFd, Errno> {
        self.open_directory(PACKS)
    }
}

fn fan_out_name(first: usize) -> String {
    format!("{FILES}/{first:02x}")
}

fn block_name(id: &BlockId) -> String {
    let hex = format!("{id:?}");
    let (first, rest) = hex.split_at(2);
    format!("{FILES}/{first}/{rest}")
}

fn writing_name(number: u64) -> String {
    format!("{WRITING}/{number}")
}

fn pack_name(number: u32) -> String {
    format!("{PACKS}/{number:08x}")
}

fn life_name(life: u32, store: u64) -> String {
    format!("{LIVES}/{life:08x}.{store:016x}")
}

fn parse_life_name(name: &str) -> Option<(u32, u64)> {
    let (life, store) = name.split_once('.')?;
    let life = u32::from_str_radix(life, 16).ok()?;
    Some((life, u64::from_str_radix(store, 16).ok()?))
}

/// The id whose file in directory `first` has this name.
fn parse_block_name(first: u8, name: &str) -> Option<BlockId> {
    let mut id = [first; 32];
    if name.len() != 62 {
        return None;
    }
    for (byte, digits) in id.iter_mut().skip(1).zip(name.as_bytes().chunks(2)) {
        *byte = parse_hex(digits)?;
    }
    Some(BlockId(id))
}

/// The id of 64 digits.
fn parse_id(name: &str) -> Option<BlockId> {
    let (first, rest) = name.split_at_checked(2)?;
    parse_block_name(parse_hex(first.as_bytes())?, rest)
}

fn parse_hex(digits: &[u8]) -> Option<u8> {
    digits.iter().try_fold(0, |value: u8, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | digit)
    })
}

fn parse_pack_name(name: &str) -> Option<u32> {
    let number = u32::from_str_radix(name, 16).ok()?;
    // Only the one spelling that this store writes.
    (format!("{number:08x}") == name).then_some(number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;

    #[test]
    fn a_block_has_one_name_and_a_name_one_block() {
        let id = BlockId(std::array::from_fn(|at| (at as u8).wrapping_mul(37)));
        let name = block_name(&id);
        let rest = name.strip_prefix("files/00/").unwrap();
        assert_eq!(parse_block_name(0, rest), Some(id));
        assert_eq!(parse_id(&format!("{id:?}")), Some(id));
        for wrong in [
            "",
            "ab",
            &rest.to_uppercase(),
            &rest.replace("25", "2G"),
            &format!("{rest}00"),
        ] {
            assert_eq!(parse_block_name(0, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_the_stores_own_spelling_is_a_pack() {
        assert_eq!(parse_pack_name("0000002a"), Some(42));
        for wrong in ["2a", "0000002A", "+000002a", "0000002a.old", ""] {
            assert_eq!(parse_pack_name(wrong), None, "{wrong}");
        }
    }
}
