//! The sweep where several nodes share blocks: each node removes from its own disk what no shard refers to, and no message is late enough to make that a mistake.
//!
//! The fence of one node cannot hold a write that comes by way of another, so the write itself says what it relies on. Each store counts *epochs*
//! ([`Epoch`]): a further one begins with each start and whenever it condemns. Whoever is told by a store that it has a block is told the epoch, and the block is
//! unmarked at that moment. A write that brings blocks carries such epochs of enough nodes for each block, its *witness*. To remove what store N has condemned,
//! N's metadata (1) lets it condemn, which begins epoch e; (2) commits a *barrier* (N, e) in every shard, behind which a shard takes no write whose
//! witness names N with less than e ([`MetadataError::BlocksStale`]); (3) looks, in rows of each shard that hold the barrier, for references; (4) lets N delete what has none and is marked still.
//!
//! Why no node removes a block on which a write relies there. Take a write that names N in its witness, with epoch w, for a block that N deletes in (4).
//! - It stands before the barrier in its shard's log: the rows in (3) have it. If they do not refer to the block, it has been dropped since.
//! - It stands behind the barrier: w is e or later, so N said "I have it" after it had marked the block, which lifted the mark. If N had deleted it
//!   by then, it had got it again.
//!
//! This needs no clock, no lease, and nobody's memory: late calls, retries, lost answers, restarts of anything and changes of leaders are all only delays of the write, of a step, or
//! the loss of marks. Epochs rise over restarts; a new disk is another store. A copy of an object needs its blocks to be referenced in its own shard at that moment, so it begins with a write that brought them.
//! The nodes in a witness suffice by themselves; another node may remove a copy that came later and that nobody counted on. If the write
//! takes effect all the same, its store owes that node the block, or the audit finds it missing.
//!
//! A write that is refused is confirmed again, which asks the nodes and brings what they lack, and is proposed again, without the client noticing. If any shard has no leader, nothing is removed.
//!
//! A disk that was *put back* to an earlier state breaks the one thing on which all this rests, that epochs rise. (It breaks more: its Raft groups have forgotten votes and entries.) It is found out by the barriers that
//! it has left behind: a shard refuses a barrier below the one that it has, so that such a node removes nothing and says why; and who confirms a write again is told the barriers that the write
//! did not meet, and does not count a store that still answers with less. So the others go on without it, as if it were away, until people have let it go. Nothing is done to cure it: a counter can be raised, a forgotten vote cannot be remembered.
//!
//! Garbage that a shard has written down goes everywhere soon: its leader tells the other nodes what to look at, and each looks for itself. What they are not told, because they were away, or what
//! comes back to a disk by the repair of copies after it was swept there, is found by the full pass. *Strays*, which are referenced and belong to other nodes, go in the same steps; in place
//! of (3) the nodes that they belong to say that they have them.

use super::{Condemned, Sweep, swept_away, unexpected};
use crate::state::AnyChange;
use futures_util::future::try_join_all;
use protocol::block::{
    BlockAnswer, BlockCall, BlockError, BlockRef, Epoch, LIST_MAX, OLDER_DISK, Place,
};
use protocol::metadata::MetadataError;
use protocol::peers::{PeersCall, REFERENCED_MAX};
use std::collections::BTreeSet;
use std::time::Duration;

/// How often there is a look at garbage and strays: each costs a command in every shard where there are some, and writes that are under way a second attempt.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(30);
/// After the start: then every shard has a leader, if it can have one, and whether this disk is as late as the cluster takes it for is asked without waiting for garbage.
pub(super) const FIRST_BARRIER_AFTER: Duration = Duration::from_secs(30);
/// How long a block without a put is left alone while the store is nearly full, in milliseconds: whoever writes an object by way of another node has
/// pinned it there, and would have to send it again.
pub(super) const HURRY_GRACE_MS: u64 = 10 * 60 * 1_000;
/// How long another node may take to hear of garbage.
const TELL_WITHIN: Duration = Duration::from_secs(5);
/// The most blocks that other nodes have named and that wait; the full pass finds the others.
const HEARD_MAX: usize = 1 << 16;

/// Blocks that other nodes have found unreferenced.
#[derive(Default)]
pub(super) struct Heard {
    blocks: BTreeSet<BlockRef>,
}

impl Heard {
    fn take_page(&mut self) -> Vec<BlockRef> {
        let mut page = Vec::new();
        while page.len() < LIST_MAX
            && let Some(block) = self.blocks.pop_first()
        {
            page.push(block);
        }
        page
    }
}

impl Sweep {
    /// Another node has found that nobody refers to these.
    pub(crate) fn hear(&self, blocks: Vec<BlockRef>) {
        let mut heard = self.heard.borrow_mut();
        for block in blocks {
            if heard.blocks.len() < HEARD_MAX {
                heard.blocks.insert(block);
            }
        }
    }

    /// Where and when enough nodes had these blocks; `begun`: what was answered before is too old, since sweeps have begun at these moments.
    ///
    /// # Errors
    /// [`MetadataError::Unavailable`]: nobody has one of them any more, or too few nodes answer.
    pub(crate) async fn witness(
        &self,
        blocks: &[BlockRef],
        begun: Option<&[Epoch]>,
    ) -> Result<Vec<Epoch>, MetadataError> {
        let mut epochs = Vec::new();
        for page in blocks.chunks(LIST_MAX) {
            let (blocks, again) = (page.to_vec(), begun.map(<[Epoch]>::to_vec));
            match self.call(&BlockCall::Confirm { blocks, again }).await? {
                Ok(BlockAnswer::Confirmed(confirmed)) => epochs.extend(confirmed),
                Err(BlockError::NoSuchBlock) => return Err(swept_away()),
                other => return Err(unexpected(other)),
            }
        }
        Ok(Epoch::earliest(epochs))
    }

    /// From now on no shard takes a write that saw its blocks in this node's store before `since`.
    pub(crate) async fn raise_barriers(&self, since: Epoch) -> Result<(), MetadataError> {
        let raising = self.proposer.groups().iter().map(|group| async move {
            let raised = self
                .proposer
                .propose(group, AnyChange::Barrier { since })
                .await;
            raised.map_err(|error| {
                let number = group.number();
                let is_older = matches!(&error, MetadataError::Refused(why) if why == OLDER_DISK);
                if is_older && !self.on_older_disk.replace(true) {
                    runtime::error!("this node: {OLDER_DISK}");
                }
                MetadataError::Unavailable(format!(
                    "no block is removed now, because shard {number} did not take the barrier: {error}"
                ))
            })
        });
        try_join_all(raising).await?;
        Ok(())
    }

    /// Whether this node's disk was found to be older than what the shards have seen of its block-store.
    pub(crate) fn is_on_older_disk(&self) -> bool {
        self.on_older_disk.get()
    }

    /// Before a full pass: a moment of the store that every shard knows, where blocks are shared.
    pub(super) async fn begin_pass(&self) -> Result<Option<Epoch>, MetadataError> {
        let Condemned { since, .. } = self.condemn(Vec::new()).await?;
        if let Some(since) = since {
            self.raise_barriers(since).await?;
        }
        Ok(since)
    }

    /// Looks at what other nodes have named, and lets strays go. Answers how many blocks were deleted as garbage.
    pub(super) async fn tidy_shared(&self) -> Result<u64, MetadataError> {
        if self.proposer.is_alone() {
            return Ok(0);
        }
        let mut removed = 0;
        loop {
            let page = self.heard.borrow_mut().take_page();
            if page.is_empty() {
                break;
            }
            let (gone, _) = self.remove(page).await?;
            removed += gone;
        }
        while self.let_strays_go().await? == LIST_MAX {}
        Ok(removed)
    }

    /// Answers how many went.
    async fn let_strays_go(&self) -> Result<usize, MetadataError> {
        let (blocks, since) = match self.call(&BlockCall::CondemnStrays).await? {
            Ok(BlockAnswer::Condemned {
                blocks,
                since: Some(since),
                ..
            }) => (blocks, since),
            Ok(BlockAnswer::Condemned { .. }) => return Ok(0),
            other => return Err(unexpected(other)),
        };
        self.raise_barriers(since).await?;
        match self.call(&BlockCall::LetGo { blocks }).await? {
            Ok(BlockAnswer::Deleted(gone)) => Ok(gone.len()),
            other => Err(unexpected(other)),
        }
    }

    /// Tells every other node that these are worth a look. What does not arrive is found by that node's own pass.
    pub(super) fn tell_others(&self, blocks: &[BlockRef]) {
        for name in self.proposer.others() {
            let proposer = self.proposer.clone();
            let blocks: Vec<BlockRef> = blocks.iter().map(elsewhere).collect();
            tokio::task::spawn_local(async move {
                for page in blocks.chunks(REFERENCED_MAX) {
                    let blocks = page.to_vec();
                    let garbage = PeersCall::Garbage { blocks };
                    if proposer
                        .ways()
                        .call(&name, &garbage, TELL_WITHIN)
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            });
        }
    }
}

/// A block as other nodes have it: what is a record on one is a file there.
fn elsewhere(block: &BlockRef) -> BlockRef {
    BlockRef {
        place: Place::File,
        ..*block
    }
}
