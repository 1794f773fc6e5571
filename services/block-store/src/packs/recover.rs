//! Finding the place to write to again after a stop, and clearing away what a crash left half-written.
//!
//! Groups are written one after the other, each only when the one before is on disk. So in the newest pack only records of the
//! highest group can be torn, and only they are read here; all other packs were ended, synced and cut to size before the newest was made.

use super::append::Writing;
use super::{Pack, Packs, Step, offset};
use crate::check;
use crate::disk::{Disk, DiskFile, Sync};
use crate::record::{HEAD_PAGES, HEADER_BYTES, Header};
use crate::shared::Shared;
use protocol::block::BlockError;
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;
use std::rc::Rc;

/// One record of the newest pack.
struct Record {
    page: u32,
    header: Header,
}

impl<D: Disk> Packs<D> {
    /// The packs of the directory, ready to be appended to.
    pub(crate) async fn open(disk: D, shared: Rc<Shared>) -> Result<Self, BlockError> {
        let mut numbers = shared
            .layout
            .packs()
            .map_err(|errno| shared.system("the directory of packs", errno))?;
        let Some(newest) = numbers.last().copied() else {
            return Ok(Self::assemble(disk, shared, [], None));
        };
        let file = shared
            .layout
            .open_pack(newest)
            .map_err(|errno| shared.system("the newest pack", errno))?;
        let file = disk.adopt(file);
        let empty = holds_nothing(&file).map_err(|errno| shared.system("lseek", errno))?;
        let packs = Self::assemble(disk, shared, numbers.iter().copied(), None);
        match packs.read_head(newest, file).await? {
            Some(pack) => {
                let writing = packs.recover(Rc::new(pack)).await?;
                let Self { disk, shared, .. } = packs;
                Ok(Self::assemble(disk, shared, numbers, Some(writing)))
            }
            // A crash between making the pack and writing its head.
            None if empty => {
                let Self { disk, shared, .. } = packs;
                shared
                    .layout
                    .remove_pack(newest)
                    .map_err(|errno| shared.system("removing an unfinished pack", errno))?;
                numbers.pop();
                Ok(Self::assemble(disk, shared, numbers, None))
            }
            // Its blocks are answered as damaged; new ones go to a new pack.
            None => {
                runtime::error!("pack {newest:08x}: neither copy of its head is sound");
                Ok(packs)
            }
        }
    }

    /// Where `pack`, the newest, ends; what lies behind and between the last records is cleared.
    async fn recover(&self, pack: Rc<Pack<D::File>>) -> Result<Writing<D::File>, BlockError> {
        let mut records = Vec::new();
        let mut page = HEAD_PAGES;
        let mut budget = u32::MAX;
        while let Step::Found(found, header) = self.next(&pack, page, &mut budget).await? {
            page = found + header.pages();
            records.push(Record {
                page: found,
                header,
            });
        }
        let group = records.iter().map(|record| record.header.group).max();
        let last_group = |record: &Record| Some(record.header.group) == group;
        let mut torn = 0;
        let mut end = HEAD_PAGES;
        let mut clear = Vec::new();
        for record in &records {
            let behind = record.page + record.header.pages();
            if last_group(record) && !self.is_whole(&pack, record).await {
                torn += 1;
                continue; // the gap that it leaves is cleared with the next whole record, or with the tail
            }
            if last_group(record) && record.page > end {
                clear.push((end, record.page));
            }
            end = behind;
        }
        if torn > 0 {
            runtime::warn!(
                "{torn} small blocks that were being written when the store stopped are discarded"
            );
        }
        self.clear(&pack, &clear, end).await?;
        Ok(Writing {
            pack,
            page: end,
            group: group.unwrap_or(0) + 1,
        })
    }

    async fn is_whole(&self, pack: &Pack<D::File>, record: &Record) -> bool {
        let length = record.header.length as usize;
        let (read, mut bytes) = pack
            .file
            .read_at(Vec::new(), offset(record.page), HEADER_BYTES + length)
            .await;
        bytes.drain(..HEADER_BYTES.min(bytes.len()));
        read.is_ok()
            && bytes.len() == length
            && check::matches(&record.header.id, &record.header.key, &bytes)
    }

    /// Empties the gaps and everything from page `end` on, durably, and reserves the tail again.
    async fn clear(
        &self,
        pack: &Pack<D::File>,
        gaps: &[(u32, u32)],
        end: u32,
    ) -> Result<(), BlockError> {
        let failed = |what: &'static str| move |errno| self.shared.system(what, errno);
        for (from, to) in gaps {
            let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let bytes = offset(*to) - offset(*from);
            match pack.file.fallocate(mode, offset(*from), bytes).await {
                // Rubbish in a gap takes space until the pack goes, and is never taken for a record that was acknowledged.
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(self.shared.system("clearing a gap", errno)),
            }
        }
        let pages = pack.pages.get().max(end);
        let tail_bytes = offset(pages) - offset(end);
        rustix::fs::ftruncate(&pack.file, offset(end)).map_err(failed("cutting a pack"))?;
        if tail_bytes > 0 {
            let tail = FallocateFlags::empty();
            let reserved = pack.file.fallocate(tail, offset(end), tail_bytes).await;
            match reserved {
                Err(Errno::OPNOTSUPP) => rustix::fs::ftruncate(&pack.file, offset(pages)),
                other => other,
            }
            .or_else(|errno| match errno {
                // The pack is full where it is; the next block asks for a new one, and hears that the disk is full.
                Errno::NOSPC | Errno::DQUOT => {
                    pack.pages.set(end);
                    rustix::fs::ftruncate(&pack.file, offset(end))
                }
                other => Err(other),
            })
            .map_err(failed("reserving a pack"))?;
        }
        let synced = pack.file.sync(Sync::All).await;
        synced.map_err(|errno| self.shared.fail("fsync of a pack", errno))
    }
}

/// Whether no byte behind the head was ever written.
fn holds_nothing(file: &impl DiskFile) -> Result<bool, Errno> {
    match rustix::fs::seek(file, SeekFrom::Data(offset(HEAD_PAGES))) {
        Ok(_) => Ok(false),
        Err(Errno::NXIO) => Ok(true),
        Err(errno) => Err(errno),
    }
}
