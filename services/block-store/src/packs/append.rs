//! Appending to the newest pack: blocks that arrive while one group is synced form the next, one write and one fdatasync each.

use super::{Open, Pack, Packs, offset};
use crate::disk::{Disk, DiskFile, Sync};
use crate::pins::{Name, SessionId};
use crate::record::{HEAD_PAGES, Header, PAGE_BYTES, PackKey, encode_head, pages_of};
use crate::shared::Shared;
use protocol::block::{BlockError, BlockId, BlockRef, HashKey, Place};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use tokio::sync::oneshot;

/// The largest pack in bytes.
const PACK_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The smallest pack in bytes that is worth making; with less room than that the disk is full.
const PACK_BYTES_MIN: u64 = 512 * 1024;
/// A pack takes at most this share of the file system...
const PACK_SHARE_OF_DISK: u64 = 256;
/// ... and at most this share of what is free.
const PACK_SHARE_OF_FREE: u64 = 4;
/// The largest group in pages (1 MiB).
const GROUP_PAGES_MAX: u32 = 256;
/// A buffer up to this size is kept for the next group, in bytes.
const BUFFER_KEPT_BYTES: usize = 256 * 1024;

/// The blocks that wait to be written, at most as many as there are calls under way; and where the next goes.
pub(crate) struct Appending<F> {
    waiting: RefCell<VecDeque<Waiting>>,
    running: Cell<bool>,
    place: RefCell<Option<Writing<F>>>,
    buffer: RefCell<Vec<u8>>,
}

struct Waiting {
    session: SessionId,
    id: BlockId,
    key: HashKey,
    bytes: Vec<u8>,
    answer: oneshot::Sender<Result<BlockRef, BlockError>>,
}

/// The pack that is written to.
pub(crate) struct Writing<F> {
    pub(crate) pack: Rc<Pack<F>>,
    /// Where the next group begins.
    pub(crate) page: u32,
    /// The number of the next group.
    pub(crate) group: u64,
}

/// One group on its way to the disk.
struct Group<F> {
    pack: Rc<Pack<F>>,
    page: u32,
    bytes: Vec<u8>,
    end: u32,
    answers: Vec<(BlockRef, oneshot::Sender<Result<BlockRef, BlockError>>)>,
}

impl<F> Appending<F> {
    fn new(place: Option<Writing<F>>) -> Self {
        Self {
            waiting: RefCell::default(),
            running: Cell::new(false),
            place: RefCell::new(place),
            buffer: RefCell::default(),
        }
    }

    /// Behind the last synced record, if `number` is the pack that is written to.
    pub(super) fn end_of(&self, number: u32) -> Option<u32> {
        let place = self.place.borrow();
        let writing = place.as_ref().filter(|at| at.pack.number == number)?;
        Some(writing.page)
    }
}

impl<D: Disk> Packs<D> {
    pub(super) fn assemble(
        disk: D,
        shared: Rc<Shared>,
        numbers: impl IntoIterator<Item = u32>,
        place: Option<Writing<D::File>>,
    ) -> Self {
        let mut open = Open {
            packs: BTreeMap::new(),
            clock: 0,
        };
        if let Some(writing) = &place {
            open.insert(writing.pack.clone());
        }
        Self {
            disk,
            shared,
            numbers: RefCell::new(numbers.into_iter().collect()),
            open: RefCell::new(open),
            appending: Appending::new(place),
            unpunched: Cell::new(false),
        }
    }

    /// Appends a block, whose bytes match its name, and pins it. On disk when this returns.
    pub(crate) async fn append(
        self: &Rc<Self>,
        session: SessionId,
        id: BlockId,
        key: HashKey,
        bytes: Vec<u8>,
    ) -> Result<BlockRef, BlockError> {
        let (answer, answered) = oneshot::channel();
        self.appending.waiting.borrow_mut().push_back(Waiting {
            session,
            id,
            key,
            bytes,
            answer,
        });
        if !self.appending.running.replace(true) {
            tokio::task::spawn_local(append_groups(self.clone()));
        }
        let lost = || BlockError::Disk("the write was given up".into());
        answered.await.unwrap_or_else(|_| Err(lost()))
    }

    /// The next group, or `None` if nothing waits or if the pack has no room for the first that does.
    fn next_group(&self) -> Option<Group<D::File>> {
        let mut waiting = self.appending.waiting.borrow_mut();
        let place = self.appending.place.borrow();
        let writing = place.as_ref()?;
        let room = writing.pack.pages.get().saturating_sub(writing.page);
        let mut group = Group {
            pack: writing.pack.clone(),
            page: writing.page,
            bytes: self.appending.buffer.take(),
            end: writing.page,
            answers: Vec::new(),
        };
        while let Some(first) = waiting.front() {
            let length = u32::try_from(first.bytes.len()).unwrap_or(u32::MAX);
            let pages = group.end - group.page + pages_of(length);
            if pages > room || (pages > GROUP_PAGES_MAX && !group.answers.is_empty()) {
                break;
            }
            let Some(next) = waiting.pop_front() else {
                break;
            };
            let header = Header {
                group: writing.group,
                length,
                id: next.id,
                key: next.key,
            };
            let (pack, page) = (writing.pack.number, group.end);
            header.encode_into(&mut group.bytes, &writing.pack.key, pack, page);
            group.bytes.extend_from_slice(&next.bytes);
            group.end = group.page + pages;
            group.bytes.resize(pages as usize * PAGE_BYTES, 0);
            // Pinned before it is on disk: a sweep that comes by must not take it for garbage.
            let mut pins = self.shared.pins.borrow_mut();
            pins.pin(next.session, Name::Record { pack, page });
            let block = BlockRef {
                id: next.id,
                length,
                place: Place::Packed { pack, page },
            };
            group.answers.push((block, next.answer));
        }
        if group.answers.is_empty() {
            self.appending.buffer.replace(group.bytes);
            return None;
        }
        Some(group)
    }

    /// Writes and syncs one group, then answers.
    async fn write(&self, group: Group<D::File>) {
        let (written, mut bytes) = group
            .pack
            .file
            .write_at(group.bytes, offset(group.page))
            .await;
        let result = match written {
            // Only where space cannot be reserved. Nothing of this group counts; the next overwrites it.
            Err(errno @ (Errno::NOSPC | Errno::DQUOT)) => {
                Err(self.shared.system("writing to a pack", errno))
            }
            Err(errno) => Err(self.shared.fail("writing to a pack", errno)),
            Ok(()) => group
                .pack
                .file
                .sync(Sync::Data)
                .await
                .map_err(|errno| self.shared.fail("fdatasync of a pack", errno)),
        };
        if let Some(writing) = self.appending.place.borrow_mut().as_mut() {
            writing.group += 1;
            if result.is_ok() {
                writing.page = group.end;
            }
        }
        for (block, answer) in group.answers {
            let _ = answer.send(result.clone().map(|()| block)); // a caller that has gone needs none
        }
        bytes.clear();
        bytes.shrink_to(BUFFER_KEPT_BYTES);
        self.appending.buffer.replace(bytes);
    }

    /// Ends the present pack, gives its unused space back, and begins a new one.
    async fn begin_pack(&self) -> Result<(), BlockError> {
        let failed = |what: &'static str| move |errno| self.shared.system(what, errno);
        if let Some(old) = self.appending.place.take() {
            old.pack.pages.set(old.page);
            rustix::fs::ftruncate(&old.pack.file, offset(old.page))
                .map_err(failed("ending a pack"))?;
            let synced = old.pack.file.sync(Sync::All).await;
            synced.map_err(|errno| self.shared.fail("fsync of a pack", errno))?;
        }
        let bytes = pack_bytes(self.shared.room()?).ok_or(BlockError::Full)?;
        let highest = self.numbers.borrow().last().copied();
        let number = match highest {
            None => 0,
            Some(number) => number
                .checked_add(1)
                .ok_or_else(|| BlockError::Refused("all numbers of packs are used".into()))?,
        };
        let pack = match self.make_pack(number, bytes).await {
            Ok(pack) => Rc::new(pack),
            Err(error) => {
                // Not one record was in it.
                let _ = self.shared.layout.remove_pack(number);
                return Err(error);
            }
        };
        self.numbers.borrow_mut().insert(number);
        self.open.borrow_mut().insert(pack.clone());
        self.appending.place.replace(Some(Writing {
            pack,
            page: HEAD_PAGES,
            group: 1,
        }));
        Ok(())
    }

    /// A pack on disk, with its head and its name, before the first record is written to it.
    async fn make_pack(&self, number: u32, bytes: u64) -> Result<Pack<D::File>, BlockError> {
        let shared = &self.shared;
        let layout = &shared.layout;
        let file = layout
            .create_pack(number)
            .map_err(|errno| shared.system("a new pack", errno))?;
        let file = self.disk.adopt(file);
        match file.fallocate(FallocateFlags::empty(), 0, bytes).await {
            Err(Errno::OPNOTSUPP) => rustix::fs::ftruncate(&file, bytes),
            other => other,
        }
        .map_err(|errno| shared.system("space for a pack", errno))?;
        let key = new_key().map_err(|errno| shared.system("getrandom", errno))?;
        let (written, _) = file.write_at(encode_head(number, &key), 0).await;
        written.map_err(|errno| shared.system("writing a pack's head", errno))?;
        let synced = file.sync(Sync::All).await;
        synced.map_err(|errno| shared.fail("fsync of a pack", errno))?;
        let directory = layout
            .open_packs_directory()
            .map_err(|errno| shared.system("the directory of packs", errno))?;
        let synced = self.disk.adopt(directory).sync(Sync::All).await;
        synced.map_err(|errno| shared.fail("fsync of the packs' directory", errno))?;
        Ok(Pack {
            number,
            file,
            key,
            pages: Cell::new(u32::try_from(bytes / PAGE_BYTES as u64).unwrap_or(0)),
        })
    }

    /// Everything that waits gets this answer.
    fn answer_all(&self, error: &BlockError) {
        let waiting = std::mem::take(&mut *self.appending.waiting.borrow_mut());
        for Waiting { answer, .. } in waiting {
            let _ = answer.send(Err(error.clone()));
        }
    }
}

async fn append_groups<D: Disk>(packs: Rc<Packs<D>>) {
    loop {
        if packs.appending.waiting.borrow().is_empty() {
            packs.appending.running.set(false);
            return;
        }
        let ready = match packs.next_group() {
            Some(group) if packs.shared.works().is_ok() => {
                packs.write(group).await;
                Ok(())
            }
            Some(group) => {
                drop(group); // its callers see that it was given up
                packs.shared.works()
            }
            None => packs.begin_pack().await,
        };
        if let Err(error) = ready {
            packs.answer_all(&error);
        }
    }
}

/// How large a new pack may be, or `None` if the disk is full.
fn pack_bytes(room: crate::shared::Room) -> Option<u64> {
    let bytes = PACK_BYTES_MAX
        .min(room.capacity_bytes / PACK_SHARE_OF_DISK)
        .max(PACK_BYTES_MIN)
        .min((room.free_bytes / PACK_SHARE_OF_FREE).max(PACK_BYTES_MIN));
    let bytes = bytes / PAGE_BYTES as u64 * PAGE_BYTES as u64;
    (bytes <= room.free_bytes).then_some(bytes)
}

fn new_key() -> Result<PackKey, Errno> {
    let mut key = [0; 32];
    let mut filled = 0;
    while let Some(rest) = key.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(PackKey(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::Room;

    #[test]
    fn a_pack_is_small_on_a_small_disk_and_none_on_a_full_one() {
        const MIB: u64 = 1 << 20;
        let cases = [
            // capacity, free, pack
            (1 << 40, 1 << 39, Some(64 * MIB)),
            (1 << 30, 1 << 29, Some(4 * MIB)),
            (1 << 30, 8 * MIB, Some(2 * MIB)),
            (64 * MIB, 32 * MIB, Some(MIB / 2)),
            (64 * MIB, MIB / 2, Some(MIB / 2)),
            (64 * MIB, MIB / 2 - 1, None),
        ];
        for (capacity_bytes, free_bytes, expected) in cases {
            let room = Room {
                capacity_bytes,
                free_bytes,
                passing_bytes: free_bytes,
            };
            assert_eq!(pack_bytes(room), expected, "{room:?}");
        }
    }
}
