//! The audit: for each partition, whether every node that it belongs to has every block that is here.
//!
//! It compares names and reads nothing; whether the bytes are sound is the scrub's business. Each node looks after what it has, so a block that one node still has comes
//! to all, and a disk that was lost is filled by the others.

use super::{Copies, Fetched, file};
use crate::disk::Disk;
use crate::packs::records::Records;
use futures_util::stream::{StreamExt, TryStreamExt};
use protocol::block::{BLOCK_BYTES_MAX, BlockError, BlockId, BlockRef, Place};
use protocol::copies::NAMES_MAX;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

/// After the start: other things are more urgent then.
const BEGIN_AFTER: Duration = Duration::from_secs(10);
/// After a change of the placement: the other nodes hear of it, too.
const CHANGED_AFTER: Duration = Duration::from_secs(2);
/// While something is lacking somewhere, or may be.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// When nothing is.
const ROUND_EVERY: Duration = Duration::from_secs(6 * 3_600);
/// Partitions that are audited at the same time: where nodes are far from each other, all 256 in turn would take a minute of waiting for answers.
const PARTITIONS_AT_A_TIME: usize = 16;

impl<D: Disk> Copies<D> {
    /// Audits for as long as the store lives.
    pub(crate) async fn audits(self: Rc<Self>) {
        let mut again = BEGIN_AFTER;
        loop {
            let due = async {
                tokio::select! {
                    () = tokio::time::sleep(again) => {}
                    () = self.uneven.notified() => tokio::time::sleep(AGAIN_AFTER).await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.changed.notified() => tokio::time::sleep(CHANGED_AFTER).await,
            }
            let Some(placement) = self.placement() else {
                again = ROUND_EVERY;
                continue;
            };
            again = match self.audit().await {
                Ok(0) => {
                    self.settled.set(placement.version);
                    ROUND_EVERY
                }
                Ok(lacking) => {
                    runtime::warn!(
                        "audit: {lacking} blocks lack copies; again in {} s",
                        AGAIN_AFTER.as_secs()
                    );
                    AGAIN_AFTER
                }
                Err(error) => {
                    runtime::warn!("audit: {error}");
                    AGAIN_AFTER
                }
            };
        }
    }

    /// One round. Answers how many blocks of this node lack copies that could not be made.
    pub(super) async fn audit(&self) -> Result<u64, BlockError> {
        let partitions = futures_util::stream::iter(0..=u8::MAX);
        let audited = partitions.map(|partition| self.audit_partition(partition));
        let lacking = audited
            .buffer_unordered(PARTITIONS_AT_A_TIME)
            .try_fold(0, |all, some| std::future::ready(Ok(all + some)))
            .await?;
        Ok(lacking + self.audit_packs().await?)
    }

    async fn audit_partition(&self, partition: u8) -> Result<u64, BlockError> {
        // Whoever is first in line has looked into a directory since.
        tokio::task::yield_now().await;
        let ids = self.shared.layout.blocks(partition);
        let ids = ids.map_err(|errno| self.shared.system("a directory of blocks", errno))?;
        let Some(homes) = self.homes_of(partition).filter(|_| !ids.is_empty()) else {
            return Ok(0);
        };
        if homes.here().is_none() {
            for id in &ids {
                if let Some(length) = self.files.length(id)? {
                    self.strays.borrow_mut().add(*id, length);
                }
            }
        }
        let own = sum(&ids);
        let others = homes.others().into_iter();
        let sums = others.map(|node| self.sum_at(homes.name(node), partition));
        let sums = futures_util::future::join_all(sums).await;
        if sums.iter().all(|sum| *sum == Ok(own)) {
            return Ok(0);
        }
        let mut lacking = BTreeSet::new();
        for page in ids.chunks(NAMES_MAX) {
            lacking.extend(self.complete(page, |id| self.file_here(id)).await);
        }
        Ok(lacking.len() as u64)
    }

    /// Records are blocks of a time when this node was alone: the others keep them as files, and this one by the place that metadata knows.
    async fn audit_packs(&self) -> Result<u64, BlockError> {
        let mut lacking = 0;
        let mut walk = Records::default();
        loop {
            let mut records = BTreeMap::new();
            while records.len() < NAMES_MAX
                && let Some((pack, page, header)) = self.packs.next_record(&mut walk).await?
            {
                let place = Place::Packed { pack, page };
                let (id, length) = (header.id, header.length);
                records.insert(id, BlockRef { id, length, place });
            }
            if records.is_empty() {
                return Ok(lacking);
            }
            let left = self
                .complete(records.keys(), |id| records.get(id).copied())
                .await;
            lacking += left.len() as u64;
        }
    }

    /// A file was found damaged and set aside: a sound one from another node takes its place.
    pub(crate) async fn repair(&self, id: &BlockId) {
        if self.homes(id).is_none_or(|homes| homes.here().is_none()) {
            return;
        }
        let fetched = match self.has_room_for(BLOCK_BYTES_MAX as usize) {
            // Its length is not known any more, and nobody needs it to find a file.
            Ok(true) => self.fetch(&file(*id, 1)).await,
            Ok(false) => Err(BlockError::Full),
            Err(error) => Err(error),
        };
        match fetched {
            Ok(Fetched::Kept) => runtime::info!("block {id:?} was damaged, and is sound again"),
            Ok(Fetched::Passing(_)) | Err(BlockError::Full) => {
                runtime::error!("block {id:?} is damaged, and there is no room for a sound copy");
            }
            Err(error) => {
                runtime::error!("block {id:?} is damaged, and no other node gives it: {error}");
            }
        }
    }
}

/// See `CopyCall::Sum`.
pub(super) fn sum(ids: &[BlockId]) -> (u64, [u8; 32]) {
    let mut names = [0; 32];
    for id in ids {
        for (sum, byte) in names.iter_mut().zip(id.0) {
            *sum ^= byte;
        }
    }
    (ids.len() as u64, names)
}
