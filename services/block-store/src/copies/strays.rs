//! Blocks on this disk that belong to other nodes: what clients wrote here, what was read through here, what moved away.
//!
//! A few are kept, since what was just read is often read again. None goes before every node that it belongs to has said that it has it.

use super::Copies;
use crate::disk::Disk;
use crate::pins::Name;
use protocol::block::BlockId;
use protocol::copies::NAMES_MAX;
use std::collections::{HashSet, VecDeque};

/// Bytes of strays that are kept for those who come again.
const KEPT_BYTES_MAX: u64 = 256 << 20;
/// The most that are remembered; the audit finds the others again.
const REMEMBERED_MAX: usize = 1 << 16;

/// The strays that are known, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Strays {
    order: VecDeque<(BlockId, u32)>,
    known: HashSet<BlockId>,
    bytes: u64,
}

impl Strays {
    /// A block of so many bytes that belongs elsewhere.
    pub(crate) fn add(&mut self, id: BlockId, length: u32) {
        if self.known.len() < REMEMBERED_MAX && self.known.insert(id) {
            self.order.push_back((id, length));
            self.bytes += u64::from(length);
        }
    }

    /// Takes the oldest out until what is left may stay, at most [`NAMES_MAX`].
    fn take_surplus(&mut self, bytes_max: u64) -> Vec<(BlockId, u32)> {
        let mut taken = Vec::new();
        while self.bytes > bytes_max && taken.len() < NAMES_MAX {
            let Some((id, length)) = self.order.pop_front() else {
                break;
            };
            self.known.remove(&id);
            self.bytes -= u64::from(length);
            taken.push((id, length));
        }
        taken
    }
}

impl<D: Disk> Copies<D> {
    /// Lets strays go beyond those that are kept. What cannot go now is looked at again the next time.
    pub(super) async fn let_strays_go(&self) {
        self.let_strays_go_beyond(KEPT_BYTES_MAX).await;
    }

    pub(super) async fn let_strays_go_beyond(&self, bytes_max: u64) {
        loop {
            let surplus = self.strays.borrow_mut().take_surplus(bytes_max);
            if surplus.is_empty() {
                return;
            }
            let ids: Vec<BlockId> = surplus.iter().map(|(id, _)| *id).collect();
            let lacking = self.complete(&ids, |id| self.file_here(id)).await;
            let mut stayed = false;
            for (id, length) in surplus {
                let elsewhere = self.homes(&id).is_some_and(|homes| homes.here().is_none());
                let wanted = self.shared.pins.borrow().is_pinned(Name::File(id))
                    || self.owed.contains(&id)
                    || lacking.contains(&id);
                // Judged and removed without a pause in between, so that no commit of it can come in between.
                if elsewhere && (wanted || !self.files.remove(&id)) {
                    self.strays.borrow_mut().add(id, length);
                    stayed = true;
                }
            }
            if stayed {
                return;
            }
        }
    }
}
