//! The sweep: removes the blocks that no object and no part refers to, and the parts of dead uploads.
//!
//! Where blocks become unreferenced:
//! - An object or part that referred to them was removed or replaced. The command that did so wrote them down as garbage with its time; they are
//!   deleted [`GRACE_MS`] later, or at once when the block-store is nearly full.
//! - Their put never came: the client or the frontend died. A full pass over all blocks of the store finds them once an hour. A block is deleted
//!   when passes have found it unreferenced for [`ORPHAN_GRACE_MS`].
//!
//! Why no block is deleted that an object refers to, however late a message comes. A block is deleted in three steps: (1) the
//! block-store condemns it, unless it is pinned by the connection on which it was written; (2) here, no write under way names it, and
//! writes that come from now on wait ([`Fence`]), and then no shard refers to it; (3) the store deletes it, unless somebody stored, committed or
//! pinned it since (1). Take a put that names it.
//! - It took effect before (2): then (2) found the reference.
//! - It had been read from its connection before (2), but had not taken effect: then it was under way, and (2) found it in the fence.
//! - It is read after (2) has begun and before the store has answered (3): the fence makes it wait for the answer, and then it is as the next.
//! - It is read after (3). Did the store delete the block? If the writer's pin held from (1) on, it did not. If the pin was lost (the
//!   frontend or the block-store died while the put was on its way here), it may have: but the fence remembers what was deleted, for
//!   longer than a call can lie unread, and for such a block the store is asked whether it is there (again). It cannot vanish after that question, since
//!   the put is in the fence by then. If it is gone, the put is refused and nothing becomes visible.
//!
//! All of this is for a node that is alone. Where several share blocks, each still sweeps its own disk, in the same steps, and [`shared`] has the argument.
//!
//! A put of a *copy* names blocks that are referenced at the instant when it takes effect, or it is refused; (2) sees the same counts.
//! If this process dies at any step, the garbage is still written down, and marks and pins of the store do no harm.

mod shared;

use crate::Error;
use crate::block_store;
use crate::fence::Fence;
use crate::proposer::{self, Failure, Found, Proposer, search_until};
use crate::raft::{Group, Shard};
use crate::space::Space;
use crate::state::{self, AnyChange, Outcome};
use protocol::block::{BlockAnswer, BlockCall, BlockError, BlockRef, Blocks, Epoch, LIST_MAX};
use protocol::metadata::{MetadataError, Reply};
use protocol::peers::{PeersAnswer, PeersCall, REFERENCED_MAX};
use runtime::Link;
use shared::Heard;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// How long garbage is left alone, in milliseconds: a rewritten object's blocks may still be on their way to a reader.
const GRACE_MS: u64 = 60 * 1_000;
/// How long a block without a put is left alone by the hourly pass, in milliseconds.
const ORPHAN_GRACE_MS: u64 = 60 * 60 * 1_000;
/// The time between full passes.
const PASS_EVERY: Duration = Duration::from_secs(60 * 60);
/// The time between passes while the store is nearly full: what refused puts and dead clients left is in the way then.
const HURRY_EVERY: Duration = Duration::from_secs(30);
/// How often the shards are looked at for garbage. A look costs some microseconds.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Below this part of its capacity free, the block-store is nearly full.
const NEARLY_FULL_PART: u64 = 20;
/// So many blocks are dealt with at a time: looking each up in each shard takes a millisecond or two, in which nothing else is served.
const STEP: u32 = 128;
/// The most unreferenced blocks that are remembered from pass to pass; further ones begin their time later.
const ORPHANS_MAX: usize = 100_000;
/// The most sweeps that are asked for and wait.
const ORDERS_MAX: usize = 16;

/// When there is something to do next.
struct Times {
    /// The hourly pass.
    pass: Instant,
    /// The question whether the store is nearly full, which calls for a pass that spares only what is pinned.
    hurry: Instant,
    /// What several nodes share.
    shared: Instant,
    /// The first barriers of this life; `None`: they were raised.
    first_barrier: Option<Instant>,
}

/// What came of a full pass.
#[derive(Debug, Clone, Copy, Default)]
struct Swept {
    seen: u64,
    removed: u64,
}

/// The sweep of this node's block-store.
pub(crate) struct Sweep {
    proposer: Rc<Proposer>,
    fence: Rc<Fence>,
    space: Rc<Space>,
    blocks: Link<Blocks>,
    /// What other nodes have said.
    heard: RefCell<Heard>,
    /// A shard has a later barrier than this node's store can have raised.
    on_older_disk: Cell<bool>,
}

/// What the block-store has marked.
struct Condemned {
    blocks: Vec<BlockRef>,
    /// Where several nodes share blocks.
    since: Option<Epoch>,
}

/// Where full passes are asked for.
pub(crate) struct Orders {
    sender: mpsc::Sender<Order>,
}

/// A pass that somebody waits for.
pub(crate) struct Order {
    grace_ms: u64,
    done: oneshot::Sender<Outcome>,
}

/// Orders and the end at which they are carried out.
pub(crate) fn orders() -> (Orders, mpsc::Receiver<Order>) {
    let (sender, receiver) = mpsc::channel(ORDERS_MAX);
    (Orders { sender }, receiver)
}

impl Orders {
    /// A full pass, now; answers when it is over.
    pub(crate) async fn order(&self, grace_ms: u64) -> Outcome {
        let (done, outcome) = oneshot::channel();
        let gone = || MetadataError::Unavailable("the sweep has ended".into());
        self.sender
            .send(Order { grace_ms, done })
            .await
            .map_err(|_| gone())?;
        outcome.await.map_err(|_| gone())?
    }
}

impl Sweep {
    pub(crate) fn new(
        proposer: Rc<Proposer>,
        fence: Rc<Fence>,
        space: Rc<Space>,
        blocks: Link<Blocks>,
    ) -> Self {
        Self {
            proposer,
            fence,
            space,
            blocks,
            heard: RefCell::default(),
            on_older_disk: Cell::new(false),
        }
    }

    /// Sweeps for as long as the service lives.
    pub(crate) async fn run(&self, mut orders: mpsc::Receiver<Order>) {
        let mut orphans = HashMap::new();
        let now = Instant::now();
        let mut times = Times {
            pass: now + PASS_EVERY,
            hurry: now + HURRY_EVERY,
            shared: now,
            first_barrier: Some(now + shared::FIRST_BARRIER_AFTER),
        };
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                order = orders.recv() => {
                    let Some(Order { grace_ms, done }) = order else { return };
                    let outcome = self.carry_out(grace_ms, &mut orphans).await;
                    // Whoever asked may have gone.
                    let _ = done.send(outcome);
                }
                _ = look.tick() => {
                    // Nothing is lost by an error: the next look begins where this one ended.
                    if let Err(error) = self.look(&mut times, &mut orphans).await {
                        runtime::warn!("sweep: {error}");
                    }
                }
            }
        }
    }

    /// What there is to do now.
    async fn look(
        &self,
        times: &mut Times,
        orphans: &mut HashMap<BlockRef, u64>,
    ) -> Result<(), MetadataError> {
        let now = Instant::now();
        if !self.proposer.is_alone() && now < times.shared {
            return Ok(());
        }
        times.shared = now + shared::LOOK_EVERY;
        self.tidy(GRACE_MS).await?;
        self.tidy_shared().await?;
        if times.pass <= now {
            times.pass = now + PASS_EVERY;
            self.pass(ORPHAN_GRACE_MS, orphans).await?;
        }
        if times.hurry <= now {
            times.hurry = now + HURRY_EVERY;
            if self.is_nearly_full().await? {
                let grace_ms = match self.proposer.is_alone() {
                    true => 0,
                    false => shared::HURRY_GRACE_MS,
                };
                self.pass(grace_ms, orphans).await?;
            }
        }
        if !self.proposer.is_alone() && times.first_barrier.is_some_and(|at| at <= now) {
            self.begin_pass().await?;
            times.first_barrier = None;
        }
        Ok(())
    }

    async fn carry_out(&self, grace_ms: u64, orphans: &mut HashMap<BlockRef, u64>) -> Outcome {
        let tidied = self.tidy(GRACE_MS.min(grace_ms)).await? + self.tidy_shared().await?;
        let swept = self.pass(grace_ms, orphans).await?;
        Ok(Reply::Swept {
            seen: swept.seen,
            removed: tidied + swept.removed,
        })
    }

    /// Whether the store has the block. An error: it could not be asked, or cannot vouch for it.
    pub(crate) async fn exists(&self, block: &BlockRef) -> Result<bool, MetadataError> {
        match self
            .call(&BlockCall::Open {
                block: *block,
                next: None,
            })
            .await?
        {
            Ok(_) => Ok(true),
            Err(BlockError::NoSuchBlock) => Ok(false),
            Err(error) => Err(MetadataError::Unavailable(error.to_string())),
        }
    }

    /// Drops parts that nobody needs, and deletes garbage that is old enough, in the shards that this node leads: the sweeps of the other nodes look after the others,
    /// and tell this one what to look at. Answers how many blocks were deleted.
    async fn tidy(&self, grace_ms: u64) -> Result<u64, MetadataError> {
        let mut removed = 0;
        let mut full = None;
        for group in self.proposer.groups() {
            if !group.leads() {
                continue;
            }
            match self.tidy_shard(group, grace_ms, &mut full).await {
                Ok(deleted) => removed += deleted,
                // It did when this began.
                Err(Failure::NotHere(_)) => {}
                Err(Failure::Failed(error)) => return Err(error),
            }
        }
        Ok(removed)
    }

    /// The same of one shard. `full`: whether the store is nearly full, if that is known already.
    async fn tidy_shard(
        &self,
        group: &Rc<Group>,
        grace_ms: u64,
        full: &mut Option<bool>,
    ) -> Result<u64, Failure> {
        let mut removed = 0;
        while state::reclaimable(self.proposer.read(group).await?).map_err(failed)? {
            self.proposer
                .propose_here(group, AnyChange::Reclaim)
                .await?;
        }
        loop {
            let now_ms = self.proposer.now_ms();
            let rows = self.proposer.read(group).await?;
            let garbage = state::garbage(rows, now_ms, STEP as usize).map_err(failed)?;
            if garbage.is_empty() {
                return Ok(removed);
            }
            // Asked only where there is something to decide.
            let full = match *full {
                Some(full) => full,
                None => *full.insert(self.is_nearly_full().await?),
            };
            let grace_ms = if full { 0 } else { grace_ms };
            let due = garbage
                .into_iter()
                .filter(|(at_ms, _)| at_ms + grace_ms <= now_ms);
            let due: Vec<(u64, BlockRef)> = due.collect();
            if due.is_empty() {
                return Ok(removed);
            }
            let (deleted, held) = self.dispose(group, due).await?;
            removed += deleted;
            if held {
                return Ok(removed);
            }
        }
    }

    /// Deletes what nobody refers to of some garbage, and forgets it. Answers how many blocks were deleted, and whether some were
    /// left for the next time.
    async fn dispose(
        &self,
        group: &Rc<Group>,
        mut garbage: Vec<(u64, BlockRef)>,
    ) -> Result<(u64, bool), MetadataError> {
        let before = garbage.len();
        // What a write under way names is judged when that has ended.
        garbage.retain(|(_, block)| !self.fence.is_entering(block));
        let held = garbage.len() < before;
        // The same block may have become garbage twice.
        let unique: HashSet<BlockRef> = garbage.iter().map(|(_, block)| *block).collect();
        let unique = unique.into_iter().collect();
        let unreferenced = self.unreferenced(unique, None).await?;
        let deleted = self.remove_garbage(&unreferenced).await?;
        // Also those that were not deleted: somebody refers to them again, or holds a pin on them, or they are gone already. If a pinned one is
        // never referred to, the full pass finds it.
        garbage.retain(|(_, block)| !self.fence.is_entering(block));
        if !garbage.is_empty() {
            self.proposer
                .propose(group, AnyChange::ForgetGarbage { garbage })
                .await?;
        }
        Ok((deleted, held))
    }

    /// Looks at every block of the store, and deletes those that have been unreferenced since `grace_ms` ago.
    async fn pass(
        &self,
        grace_ms: u64,
        orphans: &mut HashMap<BlockRef, u64>,
    ) -> Result<Swept, MetadataError> {
        let mut swept = Swept::default();
        let mut found = HashMap::new();
        let mut gathered = Vec::new();
        let mut after = None;
        // Where blocks are shared: from when on the shards tell by their copies here what is worth a closer look.
        let since = self.begin_pass().await?;
        let limit = since.map_or(STEP, |_| LIST_MAX as u32);
        loop {
            let call = BlockCall::CondemnNext { after, limit };
            let (blocks, next) = match self.call(&call).await? {
                Ok(BlockAnswer::Condemned { blocks, next, .. }) => (blocks, next),
                other => return Err(unexpected(other)),
            };
            swept.seen += blocks.len() as u64;
            let now_ms = self.proposer.now_ms();
            let mut due = Vec::new();
            for block in self.unreferenced(blocks, since).await? {
                let since_ms = orphans.get(&block).copied().unwrap_or(now_ms);
                if since_ms + grace_ms <= now_ms {
                    due.push(block);
                } else if found.len() < ORPHANS_MAX {
                    found.insert(block, since_ms);
                }
            }
            if since.is_some() {
                gathered.extend(due);
                if gathered.len() >= LIST_MAX || next.is_none() {
                    let garbage = std::mem::take(&mut gathered);
                    swept.removed += self.remove_garbage(&garbage).await?;
                }
            } else {
                // Marked while they were found.
                let (blocks, since) = (due, None);
                swept.removed += self.delete(Condemned { blocks, since }).await?;
            }
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        *orphans = found;
        Ok(swept)
    }

    /// Has blocks marked.
    async fn condemn(&self, blocks: Vec<BlockRef>) -> Result<Condemned, MetadataError> {
        match self.call(&BlockCall::Condemn { blocks }).await? {
            Ok(BlockAnswer::Condemned { blocks, since, .. }) => Ok(Condemned { blocks, since }),
            other => Err(unexpected(other)),
        }
    }

    /// Removes those of some blocks that nobody refers to, and soon elsewhere, too, where several nodes share blocks. Answers how many are gone here.
    async fn remove_garbage(&self, blocks: &[BlockRef]) -> Result<u64, MetadataError> {
        let mut removed = 0;
        for page in blocks.chunks(LIST_MAX) {
            let (gone, since) = self.remove(page.to_vec()).await?;
            removed += gone;
            if since.is_some() {
                self.tell_others(page);
            }
        }
        Ok(removed)
    }

    /// The same of at most [`LIST_MAX`], and only here. Also answers since when, where several nodes share blocks.
    async fn remove(&self, page: Vec<BlockRef>) -> Result<(u64, Option<Epoch>), MetadataError> {
        let condemned = self.condemn(page).await?;
        let since = condemned.since;
        Ok((self.delete(condemned).await?, since))
    }

    /// Deletes those of the condemned blocks that nobody refers to and no write holds. Answers how many are gone.
    async fn delete(&self, condemned: Condemned) -> Result<u64, MetadataError> {
        let Condemned { blocks, since } = condemned;
        // First the fence, then the look: a write that the fence did not find under way has taken effect, and the look sees it.
        let fenced = self.fence.begin(blocks);
        if fenced.is_empty() {
            return Ok(0);
        }
        let deleted = self.delete_fenced(fenced.clone(), since).await;
        // Without an answer all of them may be gone.
        self.fence
            .end(deleted.as_ref().unwrap_or(&fenced), self.proposer.now_ms());
        deleted.map(|deleted| deleted.len() as u64)
    }

    async fn delete_fenced(
        &self,
        fenced: Vec<BlockRef>,
        since: Option<Epoch>,
    ) -> Result<Vec<BlockRef>, MetadataError> {
        if let Some(since) = since {
            self.raise_barriers(since).await?;
        }
        let blocks = self.unreferenced(fenced, since).await?;
        if blocks.is_empty() {
            return Ok(blocks);
        }
        match self.call(&BlockCall::Delete { blocks }).await? {
            Ok(BlockAnswer::Deleted(deleted)) => Ok(deleted),
            other => Err(unexpected(other)),
        }
    }

    /// Those of `blocks` that no shard refers to. Blocks are named by the bucket's key, but the name does not tell the bucket. Every shard has to say so,
    /// whoever leads it: if one does not, nothing is known and nothing is deleted. `since`: as of this barrier or later, instead of now.
    pub(crate) async fn unreferenced(
        &self,
        mut blocks: Vec<BlockRef>,
        since: Option<Epoch>,
    ) -> Result<Vec<BlockRef>, MetadataError> {
        for group in self.proposer.groups() {
            if blocks.is_empty() {
                break;
            }
            let referenced = self.referenced(group, &blocks, since).await?;
            let mut referenced = referenced.into_iter();
            // An answer that is too short speaks for keeping.
            blocks.retain(|_| !referenced.next().unwrap_or(true));
        }
        Ok(blocks)
    }

    /// Which of `blocks` a shard refers to.
    async fn referenced(
        &self,
        group: &Rc<Group>,
        blocks: &[BlockRef],
        since: Option<Epoch>,
    ) -> Result<Vec<bool>, MetadataError> {
        if let Some(since) = since
            && state::has_barrier(group.rows(), &since).map_err(failed)?
        {
            let mut found = Vec::new();
            for part in blocks.chunks(STEP as usize) {
                found.extend(referenced_by(group.rows(), part)?);
                tokio::task::yield_now().await;
            }
            return Ok(found);
        }
        let until = search_until();
        loop {
            if group.leads() {
                match referenced(&self.proposer, group, blocks, since).await {
                    Err(Failure::NotHere(leader)) => {
                        self.proposer.again(group, leader, until).await?;
                        continue;
                    }
                    found => return Ok(found?),
                }
            }
            let mut found = Vec::new();
            for part in blocks.chunks(REFERENCED_MAX) {
                let call = PeersCall::Referenced {
                    shard: group.number(),
                    blocks: part.to_vec(),
                    since,
                };
                match self.proposer.ask_leader(group, &call, true, until).await? {
                    Found::Here => break,
                    Found::Answer(PeersAnswer::Referenced(answer))
                        if answer.len() == part.len() =>
                    {
                        found.extend(answer);
                    }
                    Found::Answer(other) => return Err(proposer::unexpected(&other)),
                }
            }
            if found.len() == blocks.len() {
                return Ok(found);
            }
        }
    }

    async fn is_nearly_full(&self) -> Result<bool, MetadataError> {
        if self.space.is_full() {
            return Ok(true);
        }
        let usage = block_store::usage(&self.blocks).await;
        let usage = usage.map_err(MetadataError::Unavailable)?;
        Ok(usage.free_bytes < usage.capacity_bytes / NEARLY_FULL_PART)
    }

    async fn call(
        &self,
        call: &BlockCall,
    ) -> Result<Result<BlockAnswer, BlockError>, MetadataError> {
        // A Delete whose answer was lost is not sent again: the store that comes back has forgotten every mark.
        match self.blocks.call(call).await {
            Ok((answer, _descriptors)) => Ok(answer),
            Err(error) => Err(MetadataError::Unavailable(format!("block-store: {error}"))),
        }
    }
}

/// Which of `blocks` a shard refers to that this node leads.
pub(crate) async fn referenced(
    proposer: &Proposer,
    group: &Rc<Group>,
    blocks: &[BlockRef],
    since: Option<Epoch>,
) -> Result<Vec<bool>, Failure> {
    let rows = proposer.read(group).await?;
    // Whoever raised it has been answered. A leader that does not know of it does not lead any more, however sure its clock is.
    if let Some(since) = since
        && !state::has_barrier(rows, &since).map_err(failed)?
    {
        return Err(Failure::NotHere(None));
    }
    Ok(referenced_by(rows, blocks)?)
}

fn referenced_by(rows: &Shard, blocks: &[BlockRef]) -> Result<Vec<bool>, MetadataError> {
    let referenced = blocks
        .iter()
        .map(|block| state::is_referenced(rows, block).map_err(failed));
    referenced.collect()
}

/// Of a write whose blocks nobody has any more.
pub(crate) fn swept_away() -> MetadataError {
    let why = "a block was swept away before its object came: send the object again";
    MetadataError::Unavailable(why.into())
}

fn failed(error: Error) -> MetadataError {
    runtime::error!("sweep: {error}");
    MetadataError::Unavailable(error.to_string())
}

fn unexpected(answer: Result<BlockAnswer, BlockError>) -> MetadataError {
    MetadataError::Unavailable(match answer {
        Ok(_) => "block-store: another answer than was asked for".into(),
        Err(error) => format!("block-store: {error}"),
    })
}
