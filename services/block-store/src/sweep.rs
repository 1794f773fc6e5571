//! The three steps by which unreferenced blocks go: marking, (the caller checks), removing what is still marked.
//!
//! Where several nodes share blocks, each sweeps its own disk, and a mark comes with a new epoch. Every answer that a block is here is given while no mark is on it,
//! and says the epoch. So of whoever relies on a block that is marked still, the epoch is an earlier one, and the caller sees to it that no such write comes after its look.

use crate::disk::Disk;
use crate::packs::Step;
use crate::pins::{Name, SessionId};
use crate::store::Store;
use protocol::block::{
    BLOCK_BYTES_MAX, BlockAnswer, BlockError, BlockId, BlockRef, LIST_MAX, Place,
};
use std::collections::BTreeSet;

/// Directories and record headers that one CondemnNext looks at before it answers with what it has.
const STEPS_MAX: u32 = 4_096;
/// Files that are looked at before other calls get their turn.
const FILES_PER_TURN: usize = 32;

/// One CondemnNext under way.
struct Walk {
    session: SessionId,
    limit: usize,
    budget: u32,
    found: Vec<BlockRef>,
    /// The last thing that was looked at.
    seen: Option<BlockRef>,
}

impl Walk {
    fn is_over(&self) -> bool {
        self.found.len() >= self.limit || self.budget == 0
    }
}

impl<D: Disk> Store<D> {
    /// Shows the next blocks in the store's order, and marks them where this node is alone: files by id, then records by pack and page.
    pub(crate) async fn condemn_next(
        &self,
        session: SessionId,
        after: Option<BlockRef>,
        limit: u32,
    ) -> Result<BlockAnswer, BlockError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if !(1..=LIST_MAX).contains(&limit) {
            return Err(BlockError::Refused(format!("limit is 1 to {LIST_MAX}")));
        }
        let mut walk = Walk {
            session,
            limit,
            budget: STEPS_MAX,
            found: Vec::new(),
            seen: after,
        };
        let mut ended = true;
        if !matches!(after, Some(block) if block.place != Place::File) {
            ended = self
                .condemn_files(&mut walk, after.map(|block| block.id))
                .await?;
        }
        if ended {
            let from = match after.map(|block| block.place) {
                Some(Place::Packed { pack, page }) => (pack, page.saturating_add(1)),
                _ => (0, 0),
            };
            ended = self.condemn_records(&mut walk, from).await?;
        }
        Ok(BlockAnswer::Condemned {
            blocks: walk.found,
            next: if ended { None } else { walk.seen },
            since: self.copies.are_placed()?.then(|| self.shared.epochs.now()),
        })
    }

    /// Whether the last file was reached.
    async fn condemn_files(
        &self,
        walk: &mut Walk,
        after: Option<BlockId>,
    ) -> Result<bool, BlockError> {
        let start = after.map_or(0, |id| id.partition());
        for first in start..=u8::MAX {
            if walk.is_over() {
                return Ok(false);
            }
            walk.budget -= 1;
            let ids = self
                .shared
                .layout
                .blocks(first)
                .map_err(|errno| self.shared.system("a directory of blocks", errno))?;
            tokio::task::yield_now().await;
            let behind = ids.into_iter().filter(|id| Some(*id) > after);
            for (at, id) in behind.enumerate() {
                if walk.is_over() {
                    return Ok(false);
                }
                if at % FILES_PER_TURN == FILES_PER_TURN - 1 {
                    tokio::task::yield_now().await;
                }
                // Looked at and marked without a pause in between, so that a commit is either seen as a pin or lifts the mark.
                let length = self.files.length(&id)?;
                let block = BlockRef {
                    id,
                    length: length.unwrap_or(1),
                    place: Place::File,
                };
                walk.seen = Some(block);
                if length.is_some_and(|bytes| u64::from(bytes) <= BLOCK_BYTES_MAX) {
                    self.show(walk, block);
                }
            }
            walk.seen = Some(end_of_directory(first));
        }
        Ok(true)
    }

    /// Whether the last record was reached.
    async fn condemn_records(
        &self,
        walk: &mut Walk,
        (number, page): (u32, u32),
    ) -> Result<bool, BlockError> {
        let mut next = self.packs.number_from(number);
        while let Some(at) = next {
            let mut page = if at == number { page } else { 0 };
            match self.packs.pack(at).await {
                Ok(pack) => loop {
                    if walk.is_over() {
                        return Ok(false);
                    }
                    match self.packs.next(&pack, page, &mut walk.budget).await? {
                        Step::End => break,
                        Step::Paused(from) => {
                            walk.seen = Some(cursor(at, from.saturating_sub(1)));
                            return Ok(false);
                        }
                        Step::Found(found, header) => {
                            let block = BlockRef {
                                id: header.id,
                                length: header.length,
                                place: Place::Packed {
                                    pack: at,
                                    page: found,
                                },
                            };
                            walk.seen = Some(block);
                            page = found + header.pages();
                            self.show(walk, block);
                        }
                    }
                },
                // Removed meanwhile, or its head is damaged: nothing in it can be named.
                Err(BlockError::NoSuchBlock | BlockError::Damaged) => {}
                Err(error) => return Err(error),
            }
            walk.seen = Some(cursor(at, u32::MAX));
            next = at.checked_add(1).and_then(|at| self.packs.number_from(at));
        }
        Ok(true)
    }

    /// One block of the walk, if it is not pinned. Marked only where this node is alone: asked each time, because that may end during the walk.
    fn show(&self, walk: &mut Walk, block: BlockRef) {
        let (mut pins, name) = (self.shared.pins.borrow_mut(), Name::from(&block));
        let free = match self.copies.are_placed() {
            Ok(false) => pins.mark(walk.session, name),
            Ok(true) | Err(_) => !pins.is_pinned(name),
        };
        if free {
            walk.found.push(block);
        }
    }

    /// Marks the given blocks, and answers which were there and not pinned.
    pub(crate) async fn condemn(
        &self,
        session: SessionId,
        blocks: Vec<BlockRef>,
    ) -> Result<BlockAnswer, BlockError> {
        bounded(&blocks)?;
        let mut marked = Vec::new();
        for block in blocks {
            let there = match block.place {
                Place::File => self.files.length(&block.id)? == Some(block.length),
                Place::Packed { pack, page } => {
                    self.packs
                        .exists(&block.id, block.length, pack, page)
                        .await?
                }
            };
            if there
                && self
                    .shared
                    .pins
                    .borrow_mut()
                    .mark(session, Name::from(&block))
            {
                marked.push(block);
            }
        }
        Ok(BlockAnswer::Condemned {
            blocks: marked,
            next: None,
            // Behind the last mark: whoever saw a block before it was marked has an earlier one.
            since: self
                .copies
                .are_placed()?
                .then(|| self.shared.epochs.raise()),
        })
    }

    /// Marks strays, where there are any to let go.
    pub(crate) fn condemn_strays(&self, session: SessionId) -> Result<BlockAnswer, BlockError> {
        let blocks = match self.copies.are_placed()? {
            true => self.copies.condemn_strays(session),
            false => Vec::new(),
        };
        let since = (!blocks.is_empty()).then(|| self.shared.epochs.raise());
        let next = None;
        Ok(BlockAnswer::Condemned {
            blocks,
            next,
            since,
        })
    }

    /// Removes those of the blocks that carry this connection's mark still, and answers which are gone.
    pub(crate) async fn delete(
        &self,
        session: SessionId,
        blocks: Vec<BlockRef>,
    ) -> Result<BlockAnswer, BlockError> {
        bounded(&blocks)?;
        let mut gone = Vec::new();
        let mut packs = BTreeSet::new();
        for block in blocks {
            let name = Name::from(&block);
            if !self.shared.pins.borrow().is_condemned(session, name) {
                continue;
            }
            let removed = match block.place {
                // No pause between the question and the removal: a commit of the same block comes before or after both.
                Place::File => self.files.remove(&block.id),
                Place::Packed { pack, page } => {
                    packs.insert(pack);
                    let removed = self
                        .packs
                        .remove(&block.id, block.length, pack, page)
                        .await?;
                    if removed {
                        self.shared.census.unpacked(&block.id, pack, page);
                    }
                    removed
                }
            };
            if removed {
                self.shared.pins.borrow_mut().forget(name);
                self.copies.bury(&block.id);
                gone.push(block);
            }
        }
        for pack in packs {
            self.packs.remove_if_empty(pack).await?;
        }
        Ok(BlockAnswer::Deleted(gone))
    }
}

/// Refuses lists that are too long.
pub(crate) fn bounded<T>(list: &[T]) -> Result<(), BlockError> {
    if list.len() > LIST_MAX {
        return Err(BlockError::Refused(format!("at most {LIST_MAX} at a time")));
    }
    Ok(())
}

/// A cursor behind every block of a directory.
fn end_of_directory(first: u8) -> BlockRef {
    let mut id = [u8::MAX; 32];
    if let Some(byte) = id.first_mut() {
        *byte = first;
    }
    BlockRef {
        id: BlockId(id),
        length: 1,
        place: Place::File,
    }
}

/// A cursor in a pack; only its place counts.
fn cursor(pack: u32, page: u32) -> BlockRef {
    BlockRef {
        id: BlockId([0; 32]),
        length: 1,
        place: Place::Packed { pack, page },
    }
}
