//! Before a write brings blocks: that enough nodes have them, and as of which moments of their stores.
//!
//! What every answer of another node means: at that moment of its store the block was on its disk, and no sweep's mark was on it. So a sweep that has
//! marked the block before that moment does not remove it, and one that marks it later is of a later moment.

use super::{Copies, Holders, Homes, PeerError};
use crate::disk::Disk;
use crate::pins::Name;
use futures_util::stream::{FuturesUnordered, StreamExt};
use protocol::block::{BlockError, BlockId, BlockRef, Epoch, OLDER_DISK, Place};
use protocol::copies::{NAMES_MAX, Placement};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// So long a write waits for enough nodes that say that they have its blocks, or take them.
const CONFIRM_WITHIN: Duration = Duration::from_secs(45);

/// One block, and who has it.
struct Asked {
    block: BlockRef,
    homes: Homes,
    have: Holders,
}

impl<D: Disk> Copies<D> {
    /// See [`protocol::block::BlockCall::Confirm`].
    pub(crate) async fn confirm(
        &self,
        blocks: Vec<BlockRef>,
        again: Option<Vec<Epoch>>,
    ) -> Result<Vec<Epoch>, BlockError> {
        self.are_placed()?;
        let Some(placement) = self.placement() else {
            let why = "this store shares its blocks with nobody";
            return Err(BlockError::Refused(why.into()));
        };
        let mut witness = Vec::new();
        let mut unknown = Vec::new();
        for block in blocks {
            match self.shared.pins.borrow().seen(Name::from(&block)) {
                // What is pinned is here, and unmarked, at this moment, too.
                Some(seen) if again.is_none() => {
                    witness.extend(seen.iter().map(|epoch| self.later(*epoch)));
                }
                _ => unknown.push(block),
            }
        }
        if !unknown.is_empty() {
            let begun = again.unwrap_or_default();
            witness.extend(self.ask_all(&placement, unknown, &begun).await?);
        }
        Ok(Epoch::earliest(witness))
    }

    fn later(&self, epoch: Epoch) -> Epoch {
        let now = self.shared.epochs.now();
        if epoch.store == now.store { now } else { epoch }
    }

    /// Asks the nodes that the blocks belong to, until enough have each of them; those that lack one get it from here.
    ///
    /// One placement for all, whatever comes meanwhile: a node's number means that node in this one only.
    async fn ask_all(
        &self,
        placement: &Rc<Placement>,
        blocks: Vec<BlockRef>,
        begun: &[Epoch],
    ) -> Result<Vec<Epoch>, BlockError> {
        let mut asked: BTreeMap<BlockId, Asked> = BTreeMap::new();
        let put_back = self.put_back("this node", self.shared.epochs.now(), begun);
        for block in blocks {
            let homes = Homes::of(placement.clone(), block.id.partition());
            let mut have = Holders::new();
            if let Some(own) = homes.here()
                && put_back.is_none()
                && self.is_here(&block).await?
            {
                // Without a pause behind the look, so that it is there and unmarked at this moment.
                self.shared.pins.borrow_mut().lift(Name::File(block.id));
                have.insert(own, self.shared.epochs.now());
            }
            asked.insert(block.id, Asked { block, homes, have });
        }
        let asking = self.ask_nodes(&mut asked, begun);
        let refused = tokio::time::timeout(CONFIRM_WITHIN, asking).await;
        let mut refused = refused.unwrap_or_else(|_| {
            let why = format!("nobody else within {} s", CONFIRM_WITHIN.as_secs());
            vec![why]
        });
        refused.extend(put_back);
        for one in asked.values() {
            if !one.homes.suffice(&one.have) {
                return Err(match refused.is_empty() {
                    true => BlockError::NoSuchBlock,
                    false => one.homes.too_few(&one.have, refused),
                });
            }
        }
        for one in asked.values() {
            // What was found of a record is a file, which its pin does not hold.
            if one.block.place == Place::File {
                let mut pins = self.shared.pins.borrow_mut();
                let seen = one.have.values().copied().collect();
                pins.saw(Name::from(&one.block), seen);
            }
        }
        let seen = asked.into_values().flat_map(|one| one.have.into_values());
        Ok(seen.collect())
    }

    /// Answers who could not be asked; comes back early when there are enough.
    async fn ask_nodes(
        &self,
        asked: &mut BTreeMap<BlockId, Asked>,
        begun: &[Epoch],
    ) -> Vec<String> {
        let mut of_nodes: BTreeMap<String, (u8, Vec<BlockRef>)> = BTreeMap::new();
        for one in asked.values() {
            for node in one.homes.others() {
                let name = one.homes.name(node).to_owned();
                let (_, blocks) = of_nodes.entry(name).or_insert((node, Vec::new()));
                blocks.push(one.block);
            }
        }
        let asking = of_nodes.iter().flat_map(|(name, (node, blocks))| {
            let pages = blocks.chunks(NAMES_MAX);
            pages.map(move |page| async move { (name, *node, self.ask_node(name, page).await) })
        });
        let mut answers: FuturesUnordered<_> = asking.collect();
        let mut refused = Vec::new();
        while asked.values().any(|one| !one.homes.suffice(&one.have)) {
            match answers.next().await {
                None => break,
                Some((name, _, Err(error))) => refused.push(format!("{name} {error}")),
                Some((name, node, Ok((there, epoch)))) => {
                    if let Some(why) = self.put_back(name, epoch, begun) {
                        refused.push(why);
                        continue;
                    }
                    for id in there {
                        if let Some(one) = asked.get_mut(&id) {
                            one.have.insert(node, epoch);
                        }
                    }
                }
            }
        }
        refused
    }

    /// Why a store that is now at the moment `now` counts for nothing, if it does not: it has begun a sweep at a later one of the moments `begun`.
    fn put_back(&self, node: &str, now: Epoch, begun: &[Epoch]) -> Option<String> {
        let is_later = |one: &Epoch| one.store == now.store && one.number > now.number;
        begun.iter().any(is_later).then(|| {
            let why = format!("{node}: {OLDER_DISK}");
            if self.known_put_back.borrow_mut().insert(now.store) {
                runtime::error!("{why}. No write counts on its copies until then");
            }
            why
        })
    }

    /// Which of these blocks a node has, and since when that is said; it is brought what it lacks and this node has.
    async fn ask_node(
        &self,
        node: &str,
        blocks: &[BlockRef],
    ) -> Result<(Vec<BlockId>, Epoch), PeerError> {
        let names = blocks.iter().map(|block| block.id).collect();
        let (lacking, epoch) = self.lacking(node, names).await?;
        let mut there = Vec::new();
        for block in blocks {
            if lacking.contains(&block.id) {
                match self.bring(node, block).await {
                    Ok(_) => {}
                    Err(PeerError::Refused(BlockError::NoSuchBlock)) => continue,
                    Err(error) => return Err(error),
                }
            }
            there.push(block.id);
        }
        Ok((there, epoch))
    }

    /// Whether this disk has the file. A record of a time when this node was alone becomes one: then it is looked after as on the other nodes.
    async fn is_here(&self, block: &BlockRef) -> Result<bool, BlockError> {
        let is_file = self.has(&block.id)?;
        if is_file || block.place == Place::File {
            return Ok(is_file);
        }
        match self.whole(block).await {
            Ok((key, bytes)) => self.keep(&block.id, key, bytes).await.map(|_| true),
            Err(BlockError::NoSuchBlock | BlockError::Damaged) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
