//! What is here and what came lately, for whoever compares the nodes.

use super::Copies;
use crate::disk::Disk;
use crate::packs::records::Records;
use protocol::block::BlockError;
use protocol::health::{Inventory, Received};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// How far back a rate looks.
const RECENT: Duration = Duration::from_secs(60);
/// What came within so much is remembered as one.
const STEP: Duration = Duration::from_secs(1);
/// Between two looks whether there are other nodes to compare with.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Where there were no descriptors to read a pack with.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Records between two pauses for others.
const RECORDS_AT_ONCE: usize = 256;

/// Copies that other nodes brought.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    blocks: u64,
    bytes: u64,
    /// The oldest first: since when, and how many bytes.
    recent: VecDeque<(Instant, u64)>,
}

impl Arrivals {
    /// A block of so many bytes.
    pub(super) fn add(&mut self, bytes: u32) {
        self.blocks += 1;
        self.bytes += u64::from(bytes);
        let now = Instant::now();
        match self.recent.back_mut() {
            Some((since, sum)) if now.duration_since(*since) < STEP => *sum += u64::from(bytes),
            _ => self.recent.push_back((now, u64::from(bytes))),
        }
        self.forget(now);
    }

    fn forget(&mut self, now: Instant) {
        let old = |(since, _): &(Instant, u64)| now.duration_since(*since) > RECENT;
        while self.recent.front().is_some_and(old) {
            self.recent.pop_front();
        }
    }

    fn received(&mut self) -> Received {
        let now = Instant::now();
        self.forget(now);
        let since = self
            .recent
            .front()
            .map(|(since, _)| now.duration_since(*since));
        // What has just begun is not judged by its first instant.
        let over = since.map_or(RECENT, |since| since.max(STEP));
        Received {
            blocks: self.blocks,
            bytes: self.bytes,
            recent_bytes: self.recent.iter().map(|(_, bytes)| bytes).sum(),
            recent_ms: u64::try_from(over.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl<D: Disk> Copies<D> {
    /// See `BlockCall::Inventory`.
    pub(crate) fn inventory(&self) -> Inventory {
        let tallies = self.shared.census.tallies(self.packs.count() > 0);
        Inventory {
            tallies: tallies.unwrap_or_default(),
            received: self.arrivals.borrow_mut().received(),
            scrubbed_ms: self.shared.scrubbed_ms.get(),
        }
    }

    /// Looks soon whether everything is where it belongs, however often it is asked.
    pub(crate) fn audit_soon(&self) {
        self.uneven.notify_one();
    }

    /// Remembers the names of packed blocks once there are other nodes: those keep the same blocks as files. Nothing is packed any more from then on.
    pub(crate) async fn remembers_packed(self: Rc<Self>) {
        while self.placement().is_none() || !self.shared.census.has_files() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        while let Err(error) = self.remember_packed().await {
            runtime::warn!("packs cannot be compared with other nodes' blocks yet: {error}");
            if !matches!(error, BlockError::Refused(_)) {
                // The disk has failed; the store is about to end.
                return;
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// From the first one; what is told twice counts once.
    async fn remember_packed(&self) -> Result<(), BlockError> {
        let (mut walk, mut records) = (Records::default(), 0);
        while let Some((pack, page, header)) = self.packs.next_record(&mut walk).await? {
            let is_file = self.files.length(&header.id)?.is_some();
            let wanted = self.shared.census.packed(&header.id, pack, page, is_file);
            if !wanted {
                return Ok(());
            }
            records += 1;
            if records % RECORDS_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
        self.shared.census.all_packed();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_that_of_the_last_minute() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.received().rate(), 0);
        for _ in 0..120 {
            arrivals.add(1_000);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let received = arrivals.received();
        assert_eq!((received.blocks, received.bytes), (120, 120_000));
        assert!((1_900..=2_100).contains(&received.rate()), "{received:?}");
        assert!(arrivals.recent.len() <= 61);
        tokio::time::sleep(Duration::from_secs(61)).await;
        let later = arrivals.received();
        assert_eq!((later.rate(), later.bytes), (0, 120_000));
    }
}
