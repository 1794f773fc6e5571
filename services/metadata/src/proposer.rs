//! From the service to the shards: which one, when, and its errors in the protocol's words.

use crate::raft::{Consensus, Group, Shard, Store};
use crate::state::{AnyChange, Command, Outcome};
use protocol::metadata::{BucketId, MetadataError};
use std::cell::Cell;
use std::rc::Rc;

/// Milliseconds since 1970. An argument, so that a test can stop it.
pub type Clock = Rc<dyn Fn() -> u64>;

/// Reads from and writes to shards.
pub(crate) struct Proposer {
    store: Rc<Store>,
    clock: Clock,
    last_ms: Cell<u64>,
}

impl Proposer {
    pub(crate) fn new(store: Rc<Store>, clock: Clock) -> Self {
        Self {
            store,
            clock,
            last_ms: Cell::new(0),
        }
    }

    /// The time, which does not go backwards while this process lives.
    pub(crate) fn now_ms(&self) -> u64 {
        self.last_ms.set((self.clock)().max(self.last_ms.get()));
        self.last_ms.get()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn groups(&self) -> &[Rc<Group>] {
        self.store.groups()
    }

    /// Shard 0, which holds keys and the names of buckets.
    pub(crate) fn registry(&self) -> &Rc<Group> {
        self.store.registry()
    }

    /// The shard of a bucket's objects.
    pub(crate) fn shard(&self, bucket: BucketId) -> &Rc<Group> {
        let groups = self.store.groups();
        groups
            .get(shard_of(bucket, groups.len()))
            .unwrap_or_else(|| self.store.registry())
    }

    /// The rows of a shard, up to date.
    pub(crate) async fn read<'a>(&self, group: &'a Rc<Group>) -> Result<&'a Shard, MetadataError> {
        group
            .read()
            .await
            .map_err(|error| MetadataError::Unavailable(error.to_string()))
    }

    /// Commits a change, stamped with the time. [`MetadataError::Unavailable`]: it may have happened.
    pub(crate) async fn propose(&self, group: &Rc<Group>, change: impl Into<AnyChange>) -> Outcome {
        let command = Command {
            at_ms: self.now_ms(),
            change: change.into(),
        };
        match group.propose(command).await {
            Ok(outcome) => outcome,
            Err(error) => Err(MetadataError::Unavailable(error.to_string())),
        }
    }
}

/// Which of `shards` a bucket's objects are in. Never to be changed: it says where the data is. Fibonacci hashing (Knuth, TAOCP 3,
/// 6.4), since the numbers of buckets are counted up.
fn shard_of(bucket: BucketId, shards: usize) -> usize {
    let mixed = bucket.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    // The upper half times the number of shards, of which again the upper half.
    let scaled = (u128::from(mixed) * shards as u128) >> 64;
    usize::try_from(scaled).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_stays_in_its_shard_and_neighbours_spread() {
        let shards: Vec<usize> = (1..=8).map(|id| shard_of(BucketId(id), 8)).collect();
        assert_eq!(shards, [4, 1, 6, 3, 0, 5, 2, 7]);
        assert_eq!(shard_of(BucketId(u64::MAX), 1), 0);
    }
}
