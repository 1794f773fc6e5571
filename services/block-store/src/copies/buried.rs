//! What was removed from this disk as garbage not long ago, so that the other nodes do not bring it back before they have removed it themselves.
//!
//! Nodes sweep at different moments: without this, two of them could give each other the same garbage for ever, each repairing what the other has
//! just removed. A write brings such a block all the same; only a repair is refused, and made a little later if it was one in earnest.

use protocol::block::BlockId;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// Longer than the others take to hear of garbage and look twice.
const FOR: Duration = Duration::from_secs(10 * 60);
/// What is beyond that may come back, and is swept again.
const BLOCKS_MAX: usize = 1 << 16;

/// By name, and since when.
#[derive(Default)]
pub(super) struct Buried(HashMap<BlockId, Instant>);

impl Buried {
    /// It was garbage.
    pub(super) fn add(&mut self, id: BlockId) {
        if self.0.len() >= BLOCKS_MAX {
            self.0.retain(|_, since| since.elapsed() < FOR);
        }
        if self.0.len() < BLOCKS_MAX {
            self.0.insert(id, Instant::now());
        }
    }

    /// Somebody writes it again.
    pub(super) fn remove(&mut self, id: &BlockId) {
        self.0.remove(id);
    }

    /// Whether nobody but a write is to bring it.
    pub(super) fn has(&self, id: &BlockId) -> bool {
        self.0.get(id).is_some_and(|since| since.elapsed() < FOR)
    }
}
