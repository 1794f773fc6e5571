//! Between the writes that name blocks and the sweep that deletes blocks: no write takes effect on a block that is being deleted.
//!
//! The sweep's header (`sweep.rs`) has the whole argument. All of this lives on the serving thread, so what one function does
//! happens at one instant.

use protocol::block::BlockRef;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use tokio::sync::Notify;

/// The most deleted blocks that are remembered singly, per span of [`SPAN_MS`].
const REMEMBERED_MAX: usize = 1 << 16;
/// A deleted block is remembered for one to two of these, in milliseconds: far longer than a call waits to be read (the supervisor kills a process whose
/// loop does not turn for 15 s).
const SPAN_MS: u64 = 10 * 60 * 1_000;

/// Which blocks are in the hands of a write, and which in those of the sweep.
#[derive(Default)]
pub(crate) struct Fence {
    state: RefCell<State>,
    round_over: Notify,
}

#[derive(Default)]
struct State {
    /// Blocks of writes under way, and how many of those.
    entering: HashMap<BlockRef, u32>,
    /// Blocks that the block-store was told to delete, until it has answered.
    deleting: HashSet<BlockRef>,
    gone: Gone,
}

/// A write's hold on its blocks: while it lives, the sweep deletes none of them.
pub(crate) struct Entry {
    fence: Rc<Fence>,
    blocks: Vec<BlockRef>,
}

impl Entry {
    /// The write may take effect at any later time: the hold is never given up, until the process ends.
    pub(crate) fn keep(mut self) {
        self.blocks.clear();
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut state = self.fence.state.borrow_mut();
        for block in &self.blocks {
            if let Some(writes) = state.entering.get_mut(block) {
                *writes -= 1;
                if *writes == 0 {
                    state.entering.remove(block);
                }
            }
        }
    }
}

impl Fence {
    /// Takes hold of `blocks` for a write, once none of them is being deleted. Also answers which of them were deleted not long ago: the caller must make
    /// sure that they are there again.
    pub(crate) async fn enter(
        self: &Rc<Self>,
        blocks: &[BlockRef],
        now_ms: u64,
    ) -> (Entry, Vec<BlockRef>) {
        loop {
            let over = self.round_over.notified();
            let busy = {
                let state = self.state.borrow();
                !state.deleting.is_empty()
                    && blocks.iter().any(|block| state.deleting.contains(block))
            };
            if !busy {
                break;
            }
            over.await;
        }
        let mut state = self.state.borrow_mut();
        for block in blocks {
            *state.entering.entry(*block).or_default() += 1;
        }
        state.gone.forget_old(now_ms);
        let doubtful = blocks
            .iter()
            .filter(|block| state.gone.may_be(block))
            .copied()
            .collect();
        (
            Entry {
                fence: self.clone(),
                blocks: blocks.to_vec(),
            },
            doubtful,
        )
    }

    /// Begins to delete those of `blocks` that no write holds, and answers which. Writes that name them wait until [`Fence::end`].
    pub(crate) fn begin(&self, blocks: impl IntoIterator<Item = BlockRef>) -> Vec<BlockRef> {
        let mut state = self.state.borrow_mut();
        let free: Vec<BlockRef> = blocks
            .into_iter()
            .filter(|block| !state.entering.contains_key(block))
            .collect();
        state.deleting.extend(&free);
        free
    }

    /// The block-store has answered, or will not: `gone` may be deleted.
    pub(crate) fn end(&self, gone: &[BlockRef], now_ms: u64) {
        let mut state = self.state.borrow_mut();
        state.deleting.clear();
        state.gone.remember(gone, now_ms);
        drop(state);
        self.round_over.notify_waiters();
    }

    /// Whether a write under way names `block`.
    pub(crate) fn is_entering(&self, block: &BlockRef) -> bool {
        self.state.borrow().entering.contains_key(block)
    }
}

/// Blocks that were deleted not long ago, in two spans of time. Only the first bytes of the names are kept: a block that is taken for a deleted one
/// costs a question to the block-store and nothing else.
#[derive(Default)]
struct Gone {
    young: HashSet<u64>,
    old: HashSet<u64>,
    young_since_ms: u64,
    /// There were too many to remember: until then every block counts as deleted.
    all_until_ms: Option<u64>,
}

impl Gone {
    fn remember(&mut self, blocks: &[BlockRef], now_ms: u64) {
        self.forget_old(now_ms);
        for block in blocks {
            if self.young.len() == REMEMBERED_MAX {
                self.all_until_ms = Some(now_ms + 2 * SPAN_MS);
                return;
            }
            if self.young.is_empty() {
                self.young_since_ms = now_ms;
            }
            self.young.insert(Self::mark(block));
        }
    }

    fn forget_old(&mut self, now_ms: u64) {
        if self.all_until_ms.is_some_and(|until| until <= now_ms) {
            self.all_until_ms = None;
        }
        if (self.young.is_empty() && self.old.is_empty()) || now_ms < self.young_since_ms + SPAN_MS
        {
            return;
        }
        self.old = std::mem::take(&mut self.young);
        self.young_since_ms = now_ms;
    }

    fn may_be(&self, block: &BlockRef) -> bool {
        let mark = Self::mark(block);
        self.all_until_ms.is_some() || self.young.contains(&mark) || self.old.contains(&mark)
    }

    fn mark(block: &BlockRef) -> u64 {
        // A block's name is a hash already.
        block
            .id
            .0
            .first_chunk::<8>()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use protocol::block::{BlockId, Place};

    fn block(number: u32) -> BlockRef {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        BlockRef {
            id: BlockId(id),
            length: 1,
            place: Place::File,
        }
    }

    fn now<F: Future>(future: F) -> Option<F::Output> {
        use futures_util::FutureExt;
        future.now_or_never()
    }

    #[test]
    fn a_block_that_a_write_holds_is_not_deleted() {
        let fence = Rc::new(Fence::default());
        let (entry, doubtful) = now(fence.enter(&[block(1), block(2)], 0)).unwrap();
        assert!(doubtful.is_empty());
        assert_eq!(fence.begin([block(1), block(3)]), [block(3)]);
        fence.end(&[block(3)], 0);
        drop(entry);
        assert_eq!(fence.begin([block(1)]), [block(1)]);
    }

    #[test]
    fn a_write_waits_for_the_answer_and_is_told_what_was_deleted() {
        let fence = Rc::new(Fence::default());
        fence.begin([block(1)]);
        let blocks = [block(1)];
        let mut entering = Box::pin(fence.enter(&blocks, 0));
        assert!(now(&mut entering).is_none());
        fence.end(&[block(1)], 0);
        let (_entry, doubtful) = now(entering).unwrap();
        assert_eq!(doubtful, [block(1)]);
        // Another block of the same time is none of its business.
        assert!(now(fence.enter(&[block(2)], 0)).unwrap().1.is_empty());
    }

    #[test]
    fn deleted_blocks_are_remembered_for_a_span_and_forgotten_after_two() {
        let fence = Rc::new(Fence::default());
        fence.begin([block(1)]);
        fence.end(&[block(1)], 1_000);
        assert_eq!(
            now(fence.enter(&[block(1)], 1_000 + SPAN_MS)).unwrap().1,
            [block(1)]
        );
        assert_eq!(
            now(fence.enter(&[block(1)], 1_000 + 2 * SPAN_MS))
                .unwrap()
                .1,
            []
        );
    }

    #[test]
    fn more_deletions_than_can_be_remembered_make_every_block_doubtful() {
        let fence = Rc::new(Fence::default());
        let many: Vec<BlockRef> = (0..=REMEMBERED_MAX as u32).map(block).collect();
        fence.begin(many.iter().copied());
        fence.end(&many, 0);
        let stranger = block(u32::MAX);
        assert_eq!(now(fence.enter(&[stranger], 1)).unwrap().1, [stranger]);
        assert_eq!(now(fence.enter(&[stranger], 3 * SPAN_MS)).unwrap().1, []);
    }

    #[test]
    fn a_hold_that_is_kept_outlives_its_write() {
        let fence = Rc::new(Fence::default());
        now(fence.enter(&[block(1)], 0)).unwrap().0.keep();
        assert!(fence.is_entering(&block(1)));
        assert!(fence.begin([block(1)]).is_empty());
    }
}
