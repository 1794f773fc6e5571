//! Blocks that one thread opened a moment ago, so that what many ask for at once is not opened for each: the files of a page, the newest
//! backup. Kept is what is asked for a second time; of all else there is a note, so that reading many objects once each holds nothing.
//!
//! Nothing stale can come of it. A block's name is the hash of its bytes, so what is remembered of it never changes; and a block is
//! asked for only because metadata has just said, to this very request, that it belongs to the object. What it costs is that a block
//! that was deleted keeps its place on the disk, and one that was damaged is still sent, for [`REMEMBERED_S`] at most.

use super::OpenBlock;
use crate::limits::{REMEMBERED_FILES_MAX, REMEMBERED_NOTES_MAX, REMEMBERED_S};
use protocol::block::{BlockId, BlockRef};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};

/// What a thread remembers.
pub(super) struct Remembered {
    now_s: Cell<u64>,
    bytes_max: usize,
    list: RefCell<List>,
}

#[derive(Default)]
struct List {
    /// `None` for what was asked for once.
    known: HashMap<BlockId, Option<OpenBlock>>,
    /// In the order in which they were asked for first: when, and what.
    opened: VecDeque<(u64, BlockId)>,
    files: usize,
    bytes: usize,
}

impl List {
    fn forget_oldest(&mut self) {
        let oldest = self.opened.pop_front();
        match oldest.and_then(|(_, id)| self.known.remove(&id)).flatten() {
            Some(OpenBlock::File(_)) => self.files = self.files.saturating_sub(1),
            Some(OpenBlock::Bytes(bytes)) => self.bytes = self.bytes.saturating_sub(bytes.len()),
            None => {}
        }
    }
}

impl Remembered {
    /// Nothing yet; blocks in memory up to `bytes_max` together.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            now_s: Cell::new(0),
            bytes_max,
            list: RefCell::default(),
        }
    }

    /// The block, if it was opened a moment ago.
    pub(super) fn get(&self, block: &BlockRef) -> Option<OpenBlock> {
        self.list.borrow().known.get(&block.id).cloned().flatten()
    }

    /// Remembers that a block has just been opened, and the block if that is not the first time; the oldest make room.
    pub(super) fn keep(&self, block: &BlockRef, open: &OpenBlock) {
        let mut list = self.list.borrow_mut();
        let list = &mut *list;
        match list.known.get_mut(&block.id) {
            None => {
                list.known.insert(block.id, None);
                list.opened.push_back((self.now_s.get(), block.id));
            }
            Some(Some(_)) => return, // several asked at the same time, and the same came back
            Some(kept) => {
                *kept = Some(open.clone());
                match open {
                    OpenBlock::File(_) => list.files += 1,
                    OpenBlock::Bytes(bytes) => list.bytes += bytes.len(),
                }
            }
        }
        while list.files > REMEMBERED_FILES_MAX
            || list.bytes > self.bytes_max
            || list.opened.len() > REMEMBERED_NOTES_MAX
        {
            list.forget_oldest();
        }
    }

    /// It is `now_s`: forgets what was opened too long ago.
    pub(super) fn tick(&self, now_s: u64) {
        self.now_s.set(now_s);
        let mut list = self.list.borrow_mut();
        let is_old = |since_s: u64| now_s.saturating_sub(since_s) >= REMEMBERED_S;
        while list
            .opened
            .front()
            .is_some_and(|(since_s, _)| is_old(*since_s))
        {
            list.forget_oldest();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use protocol::block::Place;
    use std::rc::Rc;

    fn block(number: u8) -> BlockRef {
        BlockRef {
            id: BlockId([number; 32]),
            length: 10,
            place: Place::File,
        }
    }

    fn file() -> OpenBlock {
        OpenBlock::File(Rc::new(tempfile::tempfile().unwrap().into()))
    }

    fn keep_twice(remembered: &Remembered, number: u8, open: &OpenBlock) {
        remembered.keep(&block(number), open);
        remembered.keep(&block(number), open);
    }

    #[test]
    fn a_block_is_forgotten_in_time_however_often_it_is_asked_for() {
        let remembered = Remembered::new(100);
        remembered.tick(7);
        remembered.keep(&block(1), &file());
        assert!(remembered.get(&block(1)).is_none(), "asked for once");
        for now_s in 8..7 + REMEMBERED_S {
            remembered.tick(now_s);
            remembered.keep(&block(1), &file());
            assert!(remembered.get(&block(1)).is_some());
        }
        remembered.tick(7 + REMEMBERED_S);
        assert!(remembered.get(&block(1)).is_none());
        let list = remembered.list.borrow();
        assert_eq!((list.files, list.bytes, list.opened.len()), (0, 0, 0));
    }

    #[test]
    fn what_is_held_is_bounded_and_the_oldest_makes_room() {
        let remembered = Remembered::new(25);
        for number in 0..3 {
            let bytes = OpenBlock::Bytes(vec![number; 10].into());
            keep_twice(&remembered, number, &bytes);
        }
        assert!(remembered.get(&block(0)).is_none());
        assert!(remembered.get(&block(1)).is_some() && remembered.get(&block(2)).is_some());
        for number in 0..=REMEMBERED_FILES_MAX {
            keep_twice(&remembered, 100 + number as u8, &file());
        }
        assert!(remembered.get(&block(100)).is_none());
        assert_eq!(remembered.list.borrow().files, REMEMBERED_FILES_MAX);
        for number in 0..2 * REMEMBERED_NOTES_MAX {
            let mut once = block(0);
            once.id.0[..8].copy_from_slice(&number.to_ne_bytes());
            remembered.keep(&once, &file());
        }
        let list = remembered.list.borrow();
        assert_eq!((list.files, list.bytes), (0, 0));
        assert_eq!(list.known.len(), REMEMBERED_NOTES_MAX);
    }
}
