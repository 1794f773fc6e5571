//! Small blocks: records in pack files. No index: metadata keeps the place of each record, and the record proves that it is the one.

use crate::check;
use crate::disk::{Disk, DiskFile};
use crate::pins::Name;
use crate::record::{HEAD_PAGES, HEADER_BYTES, Header, PAGE_BYTES, PackKey, decode_head, pages_of};
use crate::shared::Shared;
use protocol::block::{BlockError, BlockId, HashKey};
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

pub(crate) mod append;
pub(crate) mod records;
pub(crate) mod recover;

/// Packs that are kept open. Any other is opened again when it is read.
const OPEN_MAX: usize = 64;

/// The small blocks of a store.
pub(crate) struct Packs<D: Disk> {
    disk: D,
    shared: Rc<Shared>,
    /// Every pack there is; the highest is the one that is written to, and is never removed, so that no number is used twice.
    numbers: RefCell<BTreeSet<u32>>,
    open: RefCell<Open<D::File>>,
    appending: append::Appending<D::File>,
    unpunched: Cell<bool>,
}

/// The open packs, each with the time of its last use.
struct Open<F> {
    packs: BTreeMap<u32, (u64, Rc<Pack<F>>)>,
    clock: u64,
}

/// One open pack.
pub(crate) struct Pack<F> {
    pub(crate) number: u32,
    file: F,
    key: PackKey,
    /// Its size.
    pages: Cell<u32>,
}

/// Where a walk through a pack stands.
pub(crate) enum Step {
    /// A record.
    Found(u32, Header),
    /// No record from here on.
    End,
    /// The walk's budget is used up; go on with this page.
    Paused(u32),
}

/// What stands at a record's place.
enum Found {
    Record(Header),
    /// Nothing, or another record.
    Absent,
    /// This record once, but not any more.
    Damaged,
}

impl<D: Disk> Packs<D> {
    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.numbers.borrow().len() as u64
    }

    /// The first pack whose number is at least `number`.
    pub(crate) fn number_from(&self, number: u32) -> Option<u32> {
        self.numbers.borrow().range(number..).next().copied()
    }

    /// The pack, opened if need be.
    pub(crate) async fn pack(&self, number: u32) -> Result<Rc<Pack<D::File>>, BlockError> {
        if let Some(pack) = self.open.borrow_mut().get(number) {
            return Ok(pack);
        }
        if !self.numbers.borrow().contains(&number) {
            return Err(BlockError::NoSuchBlock);
        }
        let file = self
            .shared
            .layout
            .open_pack(number)
            .map_err(|errno| self.shared.system("a pack", errno))?;
        let name = Name::Record {
            pack: number,
            page: 0,
        };
        match self.read_head(number, self.disk.adopt(file)).await? {
            Some(pack) => {
                let pack = Rc::new(pack);
                self.open.borrow_mut().insert(pack.clone());
                Ok(pack)
            }
            None => Err(self
                .shared
                .found_damaged(name, "the pack's head is not sound")),
        }
    }

    /// `None` if neither copy of the head is sound.
    async fn read_head(
        &self,
        number: u32,
        file: D::File,
    ) -> Result<Option<Pack<D::File>>, BlockError> {
        let size = rustix::fs::fstat(&file)
            .map_err(|errno| self.shared.system("fstat of a pack", errno))?
            .st_size;
        let head_bytes = HEAD_PAGES as usize * PAGE_BYTES;
        let (read, bytes) = file.read_at(Vec::new(), 0, head_bytes).await;
        if let Err(errno) = read {
            runtime::error!("head of pack {number:08x}: {errno}");
            return Ok(None);
        }
        let pages = u32::try_from(size / PAGE_BYTES as i64).unwrap_or(0);
        Ok(decode_head(&bytes, number).map(|key| Pack {
            number,
            file,
            key,
            pages: Cell::new(pages),
        }))
    }

    /// The bytes of a record with the key of its name, checked against that.
    pub(crate) async fn read(
        &self,
        id: &BlockId,
        length: u32,
        number: u32,
        page: u32,
    ) -> Result<(HashKey, Vec<u8>), BlockError> {
        let pack = self.pack(number).await?;
        if !pack.holds(page, pages_of(length)) {
            return Err(BlockError::NoSuchBlock);
        }
        let record_bytes = HEADER_BYTES + length as usize;
        let (read, mut bytes) = pack
            .file
            .read_at(Vec::new(), offset(page), record_bytes)
            .await;
        let name = Name::Record { pack: number, page };
        if let Err(errno) = read {
            let what = format!("not readable: {errno}");
            return Err(self.shared.found_damaged(name, &what));
        }
        let header = match pack.judge(&bytes, page, id, length) {
            Found::Record(header) => header,
            Found::Absent => return Err(BlockError::NoSuchBlock),
            Found::Damaged => {
                return Err(self.shared.found_damaged(name, "its header is not sound"));
            }
        };
        bytes.drain(..HEADER_BYTES.min(bytes.len()));
        if bytes.len() == length as usize && check::matches(id, &header.key, &bytes) {
            return Ok((header.key, bytes));
        }
        // A record that was removed while it was read is not a damaged one.
        match self.find(&pack, page, id, length).await? {
            Found::Absent => Err(BlockError::NoSuchBlock),
            _ => Err(self
                .shared
                .found_damaged(name, "its bytes do not match its name")),
        }
    }

    /// Whether the record is there, by its header alone.
    pub(crate) async fn exists(
        &self,
        id: &BlockId,
        length: u32,
        number: u32,
        page: u32,
    ) -> Result<bool, BlockError> {
        let pack = match self.pack(number).await {
            Ok(pack) => pack,
            Err(BlockError::NoSuchBlock | BlockError::Damaged) => return Ok(false),
            Err(error) => return Err(error),
        };
        let found = self.find(&pack, page, id, length).await?;
        Ok(matches!(found, Found::Record(_)))
    }

    async fn find(
        &self,
        pack: &Pack<D::File>,
        page: u32,
        id: &BlockId,
        length: u32,
    ) -> Result<Found, BlockError> {
        if !pack.holds(page, pages_of(length)) {
            return Ok(Found::Absent);
        }
        let (read, bytes) = pack
            .file
            .read_at(Vec::new(), offset(page), HEADER_BYTES)
            .await;
        match read {
            Ok(()) => Ok(pack.judge(&bytes, page, id, length)),
            Err(_) => Ok(Found::Damaged),
        }
    }

    /// Removes a record and gives its space back; whether it is gone now. A record that is not the given one is left alone.
    ///
    /// Not synced: if the machine stops, the record may be there again, unreferenced, for the next sweep.
    pub(crate) async fn remove(
        &self,
        id: &BlockId,
        length: u32,
        number: u32,
        page: u32,
    ) -> Result<bool, BlockError> {
        let pack = match self.pack(number).await {
            Ok(pack) => pack,
            Err(BlockError::NoSuchBlock) => return Ok(true),
            Err(BlockError::Damaged) => return Ok(false),
            Err(error) => return Err(error),
        };
        match self.find(&pack, page, id, length).await? {
            Found::Record(_) => {}
            Found::Absent => return Ok(true),
            Found::Damaged => return Ok(false),
        }
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let bytes = u64::from(pages_of(length)) * PAGE_BYTES as u64;
        let punched = pack.file.fallocate(mode, offset(page), bytes).await;
        match punched {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP) => {
                if !self.unpunched.replace(true) {
                    runtime::warn!(
                        "this file system cannot punch holes: the space of a small block comes back with that of its whole pack"
                    );
                }
                let (written, _) = pack.file.write_at(vec![0; PAGE_BYTES], offset(page)).await;
                written.map_err(|errno| self.shared.fail("clearing a record", errno))?;
            }
            Err(errno) => {
                runtime::warn!("record {number:08x}/{page} was not removed: {errno}");
                return Ok(false);
            }
        }
        let name = Name::Record { pack: number, page };
        self.shared.damaged.borrow_mut().remove(&name);
        Ok(true)
    }

    /// Removes the pack if no record is left in it. The highest one stays.
    pub(crate) async fn remove_if_empty(&self, number: u32) -> Result<(), BlockError> {
        if self.numbers.borrow().last() == Some(&number) {
            return Ok(());
        }
        let Ok(pack) = self.pack(number).await else {
            return Ok(());
        };
        let mut budget = EMPTY_STEPS_MAX;
        if let Step::End = self.next(&pack, HEAD_PAGES, &mut budget).await? {
            self.numbers.borrow_mut().remove(&number);
            self.open.borrow_mut().packs.remove(&number);
            self.shared
                .layout
                .remove_pack(number)
                .map_err(|errno| self.shared.system("removing a pack", errno))?;
        }
        Ok(())
    }

    /// The first record at or behind `page`. Each header that is looked at costs one of `budget`.
    pub(crate) async fn next(
        &self,
        pack: &Pack<D::File>,
        page: u32,
        budget: &mut u32,
    ) -> Result<Step, BlockError> {
        let mut page = page.max(HEAD_PAGES);
        let end = self.end_of(pack);
        while page < end {
            if *budget == 0 {
                return Ok(Step::Paused(page));
            }
            *budget -= 1;
            let (read, bytes) = pack
                .file
                .read_at(Vec::new(), offset(page), HEADER_BYTES)
                .await;
            if read.is_ok()
                && let Some(header) = Header::decode(&bytes, &pack.key, pack.number, page)
            {
                return Ok(Step::Found(page, header));
            }
            // Over the hole that a removed record left; lseek moves an offset that nobody else uses.
            let behind = SeekFrom::Data(offset(page + 1));
            page = match rustix::fs::seek(&pack.file, behind) {
                Ok(data) => u32::try_from(data / PAGE_BYTES as u64).unwrap_or(end),
                Err(Errno::NXIO) => end,
                Err(errno) => return Err(self.shared.system("lseek in a pack", errno)),
            };
        }
        Ok(Step::End)
    }

    /// Behind the last page that may hold a record on disk.
    fn end_of(&self, pack: &Pack<D::File>) -> u32 {
        self.appending
            .end_of(pack.number)
            .unwrap_or(pack.pages.get())
    }
}

/// Headers that are looked at to see whether a pack is empty; with more rubbish than that it waits for the next removal.
const EMPTY_STEPS_MAX: u32 = 1_024;

impl<F: DiskFile> Pack<F> {
    /// Lets the page cache go, so that the next reads come from the disk. Advice only.
    pub(crate) fn forget_cache(&self) {
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }
}

impl<F> Pack<F> {
    /// Whether a record of so many pages can lie there.
    fn holds(&self, page: u32, pages: u32) -> bool {
        page >= HEAD_PAGES
            && page
                .checked_add(pages)
                .is_some_and(|end| end <= self.pages.get())
    }

    /// What the bytes at `page` are, to somebody who looks for block `id` there.
    fn judge(&self, bytes: &[u8], page: u32, id: &BlockId, length: u32) -> Found {
        match Header::decode(bytes, &self.key, self.number, page) {
            Some(header) if header.id == *id && header.length == length => Found::Record(header),
            Some(_) => Found::Absent,
            None if Header::resembles(bytes, id) => Found::Damaged,
            None => Found::Absent,
        }
    }
}

impl<F> Open<F> {
    fn get(&mut self, number: u32) -> Option<Rc<Pack<F>>> {
        self.clock += 1;
        let (used, pack) = self.packs.get_mut(&number)?;
        *used = self.clock;
        Some(pack.clone())
    }

    fn insert(&mut self, pack: Rc<Pack<F>>) {
        if self.packs.len() >= OPEN_MAX {
            let oldest = self.packs.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(number) = oldest.map(|(number, _)| *number) {
                self.packs.remove(&number);
            }
        }
        self.clock += 1;
        self.packs.insert(pack.number, (self.clock, pack));
    }
}

/// Where a page begins.
fn offset(page: u32) -> u64 {
    u64::from(page) * PAGE_BYTES as u64
}
