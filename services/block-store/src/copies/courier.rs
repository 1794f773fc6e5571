//! Bringing blocks to one node: a few megabytes at a time, so that a slow line holds up nothing but itself.

use super::under_way::UnderWay;
use super::{Copies, PeerError};
use crate::disk::Disk;
use protocol::block::{BLOCK_BYTES_MAX, BlockError, BlockId, BlockRef, Epoch};
use protocol::copies::{CopyAnswer, CopyCall};
use std::cell::Cell;
use std::time::Duration;
use tokio::sync::{OnceCell, Semaphore};

/// What is on its way to one node at a time, in KiB: two large blocks, each of which is in memory twice, or many small ones.
const UNDER_WAY_KIB: u32 = 2 * (BLOCK_BYTES_MAX >> 10) as u32;
/// Blocks that wait for their turn with one node. What is beyond that is owed and comes later.
const WAITING_MAX: usize = 1_024;
/// A block of 4 MiB takes this long at 0.5 Mbit/s.
const BRING_WITHIN: Duration = Duration::from_secs(70);
/// A question without bytes.
pub(super) const ASK_WITHIN: Duration = Duration::from_secs(10);

/// One node, as this store sees it.
pub(crate) struct Courier {
    turns: Semaphore,
    waiting: Cell<usize>,
    /// The blocks that are being brought to it.
    pub(super) errands: UnderWay<Result<Epoch, PeerError>>,
    /// How long its answers take, smoothed as TCP does (RFC 6298, 2.3); `None`: never heard of.
    round_trip: Cell<Option<Duration>>,
}

impl Default for Courier {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(UNDER_WAY_KIB as usize),
            waiting: Cell::new(0),
            errands: UnderWay::default(),
            round_trip: Cell::new(None),
        }
    }
}

impl Courier {
    /// See the field.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip.get()
    }

    pub(super) fn answered_after(&self, time: Duration) {
        let smoothed = self
            .round_trip
            .get()
            .map_or(time, |known| known * 7 / 8 + time / 8);
        self.round_trip.set(Some(smoothed));
    }
}

/// One block that waits, until it does not, or nobody waits with it any more.
struct Waiting<'a>(&'a Courier);

impl<'a> Waiting<'a> {
    fn begin(courier: &'a Courier) -> Self {
        courier.waiting.set(courier.waiting.get() + 1);
        Self(courier)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

impl<D: Disk> Copies<D> {
    /// One call, bounded in time.
    pub(super) async fn ask(
        &self,
        node: &str,
        call: CopyCall,
        within: Duration,
    ) -> Result<CopyAnswer, PeerError> {
        match tokio::time::timeout(within, self.peers.call(node, call)).await {
            Ok(answer) => answer,
            Err(_) => Err(PeerError::Unreachable(format!(
                "no answer within {} s",
                within.as_secs()
            ))),
        }
    }

    /// Brings a block from this disk to a node, and waits for its turn. Answers when it was there.
    pub(super) async fn bring(&self, node: &str, block: &BlockRef) -> Result<Epoch, PeerError> {
        let errand = self.courier(node).errands.of(&block.id);
        self.run(&errand, node, block).await
    }

    /// Waits for what comes of an errand; does it where whoever began it was dropped.
    pub(super) async fn run(
        &self,
        errand: &OnceCell<Result<Epoch, PeerError>>,
        node: &str,
        block: &BlockRef,
    ) -> Result<Epoch, PeerError> {
        let brought = errand.get_or_init(|| self.carry(node, block, false));
        brought.await.clone()
    }

    /// Brings a block without regard to who brings it meanwhile. `repair`: the node may refuse what it has removed not long ago.
    pub(super) async fn carry(
        &self,
        node: &str,
        block: &BlockRef,
        repair: bool,
    ) -> Result<Epoch, PeerError> {
        let courier = self.courier(node);
        if courier.waiting.get() >= WAITING_MAX {
            return Err(PeerError::Unreachable("too many blocks wait for it".into()));
        }
        let waiting = Waiting::begin(&courier);
        let kib = block.length.div_ceil(1 << 10).clamp(1, UNDER_WAY_KIB);
        let turn = courier.turns.acquire_many(kib).await;
        drop(waiting);
        let (key, bytes) = self.whole(block).await.map_err(PeerError::Refused)?;
        let id = block.id;
        let put = CopyCall::Put {
            id,
            key,
            bytes,
            repair,
        };
        let answer = self.ask(node, put, BRING_WITHIN).await;
        drop(turn);
        match answer? {
            CopyAnswer::Kept(epoch) => Ok(epoch),
            _ => Err(wrong_answer()),
        }
    }

    /// Which of these blocks a node has not, and when it had the others.
    pub(super) async fn lacking(
        &self,
        node: &str,
        blocks: Vec<BlockId>,
    ) -> Result<(Vec<BlockId>, Epoch), PeerError> {
        let begun = tokio::time::Instant::now();
        match self
            .ask(node, CopyCall::Lacking { blocks }, ASK_WITHIN)
            .await?
        {
            CopyAnswer::Lacking { blocks, epoch } => {
                self.courier(node).answered_after(begun.elapsed());
                Ok((blocks, epoch))
            }
            _ => Err(wrong_answer()),
        }
    }

    /// What a partition's files add up to on a node.
    pub(super) async fn sum_at(
        &self,
        node: &str,
        partition: u8,
    ) -> Result<(u64, [u8; 32]), PeerError> {
        match self
            .ask(node, CopyCall::Sum { partition }, ASK_WITHIN)
            .await?
        {
            CopyAnswer::Sum { files, names } => Ok((files, names)),
            _ => Err(wrong_answer()),
        }
    }
}

pub(super) fn wrong_answer() -> PeerError {
    PeerError::Refused(BlockError::Refused(
        "another answer than was asked for".into(),
    ))
}
