//! A block from another node: the nearest first, and the next one, too, when nothing comes from the first.

use super::courier::wrong_answer;
use super::{Copies, Homes, PeerError};
use crate::check::matches;
use crate::disk::Disk;
use crate::passing::Passing;
use futures_util::stream::{FuturesUnordered, StreamExt};
use protocol::block::{BlockError, BlockId, BlockRef, HashKey, Place};
use protocol::copies::{CopyAnswer, CopyCall};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// The whole of one block from one node.
const FETCH_WITHIN: Duration = Duration::from_secs(60);
/// A second node is asked after so many of the first one's usual round trips …
const HEDGE_ROUND_TRIPS: u32 = 3;
/// … but not sooner than this, …
const HEDGE_AFTER_MIN: Duration = Duration::from_millis(100);
/// … nor than the block would take at this pace: what may be sent twice should not delay others for longer than it was waited for, and before a home's line that
/// is busy, answers stand in a queue for some hundred milliseconds …
const HEDGE_BYTES_PER_MS: u32 = 5_000;
/// … and no later than this.
const HEDGE_AFTER_MAX: Duration = Duration::from_secs(3);

/// A node whose bytes keep coming is waited for: a second one would send the same over a line that may be thin. At this pace a block takes so many times the
/// patience.
const PATIENCES_MAX: u32 = 64;

/// Blocks that nobody has asked for yet which are got at a time: each takes up to 4 MiB of memory.
const AHEAD_MAX: usize = 4;

/// What has become of a block that was got from another node.
#[derive(Clone)]
pub(crate) enum Fetched {
    /// It is a file on this disk.
    Kept,
    /// There is no room to keep it: those who waited for it may read it.
    Passing(Rc<Passing>),
}

impl<D: Disk> Copies<D> {
    /// Gets a block that is not on this disk, or is damaged there, from another node, and keeps it if there is room. For reads only: nobody may be told that
    /// what passes through is here.
    ///
    /// Errors with [`BlockError::NoSuchBlock`] only where every node has said that it has none; where somebody could not be asked, with the
    /// reason.
    pub(crate) async fn fetch(&self, block: &BlockRef) -> Result<Fetched, BlockError> {
        let Some(homes) = self.homes(&block.id) else {
            return Err(BlockError::NoSuchBlock);
        };
        let fetched = self.fetching.of(&block.id);
        fetched
            .get_or_init(|| async {
                if !self.has_room_for(block.length as usize)? {
                    let passage = self.files.passage(block.length).await?;
                    let (_, bytes) = self.first_sound(&homes, block).await?;
                    let passing = self.files.pass(passage, bytes).await?;
                    return Ok(Fetched::Passing(Rc::new(passing)));
                }
                let (key, bytes) = self.first_sound(&homes, block).await?;
                let length = self.keep(&block.id, key, bytes).await?;
                if homes.here().is_none() {
                    self.strays.borrow_mut().add(block.id, length);
                }
                Ok(Fetched::Kept)
            })
            .await
            .clone()
    }

    /// Begins to get a block that will be asked for next, if it is not here and can be kept: so that a line to another node is not idle between two blocks of one object. It begins
    /// behind whatever the caller asks for without a pause.
    pub(crate) fn fetch_ahead(self: &Rc<Self>, block: BlockRef) {
        let may_be_elsewhere = self.placement().is_some() && block.place == Place::File;
        if !may_be_elsewhere || self.ahead.get() >= AHEAD_MAX || self.has(&block.id) != Ok(false) {
            return;
        }
        // What only passes through would be gone again before it is asked for.
        if self.has_room_for(block.length as usize) != Ok(true) {
            return;
        }
        self.ahead.set(self.ahead.get() + 1);
        let copies = self.clone();
        tokio::task::spawn_local(async move {
            // Whoever asks for it hears why it did not come.
            let _ = copies.fetch(&block).await;
            copies.ahead.set(copies.ahead.get() - 1);
        });
    }

    async fn first_sound(
        &self,
        homes: &Homes,
        block: &BlockRef,
    ) -> Result<(HashKey, Vec<u8>), BlockError> {
        let mut asked = FuturesUnordered::new();
        let mut unanswered = None;
        let ask = |node: u8| {
            let name = homes.name(node).to_owned();
            async move { (node, self.fetch_from(&name, block).await) }
        };
        // So much has to come at least, that a node is worth waiting for.
        let least = u64::from(block.length.div_ceil(PATIENCES_MAX)).max(1);
        for node in self.nearest_first(homes, &block.id) {
            let name = homes.name(node);
            let patience = self.patience(name, block.length);
            let mut heard = self.peers.heard(name);
            asked.push(ask(node));
            let look = tokio::time::sleep(patience);
            tokio::pin!(look);
            // The next node is asked when this one is silent, or when nobody who was asked is left to wait for.
            while !asked.is_empty() {
                tokio::select! {
                    Some((node, found)) = asked.next() => match found {
                        Ok(found) => return Ok(found),
                        Err(error) => note(&mut unanswered, homes.name(node), error),
                    },
                    () = &mut look => {
                        let now = self.peers.heard(name);
                        // Less than before: on another connection, which was made meanwhile.
                        if now.checked_sub(heard).is_some_and(|came| came < least) {
                            break;
                        }
                        heard = now;
                        look.as_mut().reset(Instant::now() + patience);
                    }
                }
            }
        }
        while let Some((node, found)) = asked.next().await {
            match found {
                Ok(found) => return Ok(found),
                Err(error) => note(&mut unanswered, homes.name(node), error),
            }
        }
        Err(unanswered.map_or(BlockError::NoSuchBlock, BlockError::TooFewCopies))
    }

    /// Those that it belongs to by their round trips, those of this zone first where none is known; then the rest. Those that are about equally near take turns, block by
    /// block: their lines out are what is scarce.
    pub(super) fn nearest_first(&self, homes: &Homes, id: &BlockId) -> Vec<u8> {
        let mut nodes = homes.others();
        let round_trip = |node: u8| self.courier(homes.name(node)).round_trip();
        let nearest = nodes.iter().filter_map(|node| round_trip(*node)).min();
        nodes.sort_by_cached_key(|node| {
            let known = round_trip(*node);
            let farther = known.filter(|known| nearest.is_some_and(|near| *known > near * 3 / 2));
            // The bytes of a name are as good as random.
            let turn = id.0.get(usize::from(*node) % id.0.len());
            (known.is_none() && !homes.is_near(*node), farther, turn)
        });
        let rest = homes.everybody().into_iter().skip(nodes.len());
        nodes.extend(rest);
        nodes
    }

    fn patience(&self, node: &str, length: u32) -> Duration {
        let usual = self.courier(node).round_trip().unwrap_or(HEDGE_AFTER_MIN);
        let bytes_take = Duration::from_millis((length / HEDGE_BYTES_PER_MS).into());
        (usual * HEDGE_ROUND_TRIPS)
            .max(bytes_take)
            .clamp(HEDGE_AFTER_MIN, HEDGE_AFTER_MAX)
    }

    async fn fetch_from(
        &self,
        node: &str,
        block: &BlockRef,
    ) -> Result<(HashKey, Vec<u8>), PeerError> {
        let answer = self
            .ask(node, CopyCall::Get { block: *block }, FETCH_WITHIN)
            .await?;
        let CopyAnswer::Block { key, bytes } = answer else {
            return Err(wrong_answer());
        };
        if matches(&block.id, &key, &bytes) {
            return Ok((key, bytes));
        }
        Err(PeerError::Refused(BlockError::Damaged))
    }
}

/// Remembers who may still have it.
fn note(unanswered: &mut Option<String>, node: &str, error: PeerError) {
    if error != PeerError::Refused(BlockError::NoSuchBlock) {
        let all = unanswered.get_or_insert_default();
        if !all.is_empty() {
            all.push_str("; ");
        }
        all.push_str(&format!("{node} {error}"));
    }
}
