//! What was removed from this disk as garbage not long ago, so that the other nodes do not bring it back before they have removed it themselves.
//!
//! Nodes sweep at different moments: without this, two of them could give each other the same garbage for ever, each repairing what the other has
//! just removed. A write brings such a block all the same; only a repair is refused, and made a little later if it was one in earnest.

use protocol::block::BlockId;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Longer than the others take to hear of garbage and look twice.
const FOR: Duration = Duration::from_secs(10 * 60);
/// What is beyond that may come back, and is swept again.
const BLOCKS_MAX: usize = 1 << 16;

/// By name, and since when.
#[derive(Default)]
pub(super) struct Buried {
    since: HashMap<BlockId, Instant>,
    /// The oldest first, each with its moment; also of some that were written since, or buried once more.
    order: VecDeque<(Instant, BlockId)>,
}

impl Buried {
    /// It was garbage.
    pub(super) fn add(&mut self, id: BlockId) {
        self.forget_old();
        if self.order.len() < BLOCKS_MAX {
            let now = Instant::now();
            self.since.insert(id, now);
            self.order.push_back((now, id));
        }
    }

    /// Somebody writes it again.
    pub(super) fn remove(&mut self, id: &BlockId) {
        self.since.remove(id);
    }

    /// Whether nobody but a write is to bring it.
    pub(super) fn has(&self, id: &BlockId) -> bool {
        self.since.get(id).is_some_and(|since| is_young(*since))
    }

    fn forget_old(&mut self) {
        while let Some((since, id)) = self.order.front()
            && !is_young(*since)
        {
            // A younger one of the same name has an entry of its own further back.
            if self.since.get(id) == Some(since) {
                self.since.remove(id);
            }
            self.order.pop_front();
        }
    }
}

fn is_young(since: Instant) -> bool {
    since.elapsed() < FOR
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    fn id(number: usize) -> BlockId {
        let mut id = [0; 32];
        let (number_bytes, _) = id.split_at_mut(size_of::<usize>());
        number_bytes.copy_from_slice(&number.to_le_bytes());
        BlockId(id)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_beyond_the_bound_is_not_remembered_until_the_old_have_gone() {
        let mut buried = Buried::default();
        for number in 0..BLOCKS_MAX + 10 {
            buried.add(id(number));
        }
        assert!(buried.has(&id(0)) && buried.has(&id(BLOCKS_MAX - 1)));
        assert!(!buried.has(&id(BLOCKS_MAX)));
        assert_eq!(
            (buried.since.len(), buried.order.len()),
            (BLOCKS_MAX, BLOCKS_MAX)
        );
        sleep(FOR).await;
        buried.add(id(BLOCKS_MAX));
        assert!(buried.has(&id(BLOCKS_MAX)) && !buried.has(&id(0)));
        assert_eq!((buried.since.len(), buried.order.len()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_is_remembered_for_its_time_and_no_longer() {
        let mut buried = Buried::default();
        buried.add(id(1));
        sleep(FOR - Duration::from_secs(1)).await;
        buried.add(id(2));
        assert!(buried.has(&id(1)) && buried.has(&id(2)));
        sleep(Duration::from_secs(1)).await;
        assert!(!buried.has(&id(1)) && buried.has(&id(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_that_is_buried_once_more_counts_from_then_on() {
        let mut buried = Buried::default();
        buried.add(id(1));
        buried.add(id(2));
        sleep(FOR / 2).await;
        buried.remove(&id(1));
        assert!(!buried.has(&id(1)) && buried.has(&id(2)));
        buried.add(id(1));
        buried.add(id(2));
        sleep(FOR / 2).await;
        // Passes over the older entries of both.
        buried.add(id(3));
        assert!(buried.has(&id(1)) && buried.has(&id(2)));
        assert_eq!(buried.order.len(), 3);
        sleep(FOR / 2).await;
        assert!(!buried.has(&id(1)) && !buried.has(&id(2)) && buried.has(&id(3)));
    }
}
