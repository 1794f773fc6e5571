//! Blocks on this disk that belong to other nodes: what clients wrote here, what was read through here, what moved away.
//!
//! A few are kept, since what was just read is often read again. None goes before every node that it belongs to has said that it has it, and none while
//! a write may still come that counts on the copy here: so they go in steps as garbage does, which metadata leads. They are condemned; from then on no shard takes a
//! write that saw them here earlier; then those that they belong to are asked, who keep what is referenced by now; then they are removed.

use super::{Copies, file};
use crate::disk::Disk;
use crate::pins::{Name, SessionId};
use protocol::block::{BlockId, BlockRef, LIST_MAX};
use std::collections::{HashMap, VecDeque};

/// Bytes of strays that are kept for those who come again.
const KEPT_BYTES_MAX: u64 = 256 << 20;
/// The most that are remembered; the audit finds the others again.
const REMEMBERED_MAX: usize = 1 << 16;

/// So many that have gone may stand in the order, besides as many as are known.
const FORGOTTEN_MAX: usize = 1_024;

/// The strays that are known, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Strays {
    /// Also of some that are not known any more.
    order: VecDeque<BlockId>,
    known: HashMap<BlockId, u32>,
    bytes: u64,
}

impl Strays {
    /// A block of so many bytes that belongs elsewhere.
    pub(crate) fn add(&mut self, id: BlockId, length: u32) {
        if self.order.len() >= REMEMBERED_MAX || self.known.contains_key(&id) {
            return;
        }
        self.known.insert(id, length);
        self.order.push_back(id);
        self.bytes += u64::from(length);
    }

    /// It is not here any more.
    pub(crate) fn forget(&mut self, id: &BlockId) {
        if let Some(length) = self.known.remove(id) {
            self.bytes -= u64::from(length);
        }
        if self.order.len() > 2 * self.known.len() + FORGOTTEN_MAX {
            let known = &self.known;
            self.order.retain(|id| known.contains_key(id));
        }
    }

    /// Takes the oldest out until what is left may stay, at most [`LIST_MAX`].
    fn take_surplus(&mut self, bytes_max: u64) -> Vec<(BlockId, u32)> {
        let mut taken = Vec::new();
        while self.bytes > bytes_max && taken.len() < LIST_MAX {
            let Some(id) = self.order.pop_front() else {
                break;
            };
            if let Some(length) = self.known.remove(&id) {
                self.bytes -= u64::from(length);
                taken.push((id, length));
            }
        }
        taken
    }
}

impl<D: Disk> Copies<D> {
    /// Marks some strays beyond those that are kept, and answers which.
    pub(crate) fn condemn_strays(&self, session: SessionId) -> Vec<BlockRef> {
        self.condemn_strays_beyond(KEPT_BYTES_MAX, session)
    }

    pub(super) fn condemn_strays_beyond(
        &self,
        bytes_max: u64,
        session: SessionId,
    ) -> Vec<BlockRef> {
        let surplus = self.strays.borrow_mut().take_surplus(bytes_max);
        let mut marked = Vec::new();
        for (id, length) in surplus {
            if !self.is_stray(&id) || self.file_here(&id).is_none() {
                continue;
            }
            // Known until it is gone, and behind the others until its next turn.
            self.strays.borrow_mut().add(id, length);
            let name = Name::File(id);
            if !self.owed.contains(&id) && self.shared.pins.borrow_mut().mark(session, name) {
                marked.push(file(id, length));
            }
        }
        marked
    }

    /// Removes those strays that this connection has condemned, that nobody has touched since, and that every node has that they belong to. Answers which.
    pub(crate) async fn let_go(&self, session: SessionId, blocks: Vec<BlockRef>) -> Vec<BlockRef> {
        let ids: Vec<BlockId> = blocks.iter().map(|block| block.id).collect();
        let lacking = self.complete(&ids, |id| self.file_here(id)).await;
        let mut gone = Vec::new();
        for block in blocks {
            let (id, name) = (block.id, Name::from(&block));
            let wanted = lacking.contains(&id) || self.owed.contains(&id);
            // Judged and removed without a pause in between, so that no commit of it can come in between.
            let condemned = self.shared.pins.borrow().is_condemned(session, name);
            if self.is_stray(&id) && condemned && !wanted && self.files.remove(&id) {
                self.shared.pins.borrow_mut().forget(name);
                self.strays.borrow_mut().forget(&id);
                gone.push(block);
            }
        }
        gone
    }

    /// A block has been swept.
    pub(crate) fn bury(&self, id: &BlockId) {
        self.strays.borrow_mut().forget(id);
        // To a node alone nobody brings anything back.
        if self.placement().is_some() {
            self.buried.borrow_mut().add(*id);
        }
    }
}
