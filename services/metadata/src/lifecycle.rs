//! The lifecycle's worker: looks through the buckets that have rules and whose shard this node leads, and removes what is due, beside the requests.
//!
//! It never starves them: a look is bounded to [`ROWS_PER_LOOK`] rows, between two looks others are served and [`PAUSE`] passes, and at most
//! [`AT_A_TIME`] removals are under way. Nothing is kept: if the process dies, the next pass begins anew and finds what is left.

use crate::Error;
use crate::proposer::Proposer;
use crate::rights::Rights;
use crate::state::{self, Cursor, Due};
use futures_util::StreamExt;
use protocol::metadata::{BucketId, MetadataError, Reply};
use protocol::settings::Lifecycle;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Mutex;

/// The time between passes. Rules speak of days, at midnight; AWS, too, takes some hours.
const PASS_EVERY: Duration = Duration::from_secs(60 * 60);
/// From the start to the first pass.
const FIRST_PASS: Duration = Duration::from_secs(5 * 60);
/// Rows of one look, which takes less than a millisecond.
const ROWS_PER_LOOK: u64 = 256;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);
/// Removals under way: they are committed together.
const AT_A_TIME: usize = 16;

/// The worker of this node.
pub(crate) struct Worker {
    proposer: Rc<Proposer>,
    rights: Rc<Rights>,
    one_at_a_time: Mutex<()>,
}

/// What a pass came to.
#[derive(Debug, Default, Clone, Copy)]
struct Passed {
    looked: u64,
    removed: u64,
}

impl Worker {
    pub(crate) fn new(proposer: Rc<Proposer>, rights: Rc<Rights>) -> Self {
        Self {
            proposer,
            rights,
            one_at_a_time: Mutex::new(()),
        }
    }

    /// Works for as long as the service lives.
    pub(crate) async fn run(&self) {
        tokio::time::sleep(FIRST_PASS).await;
        loop {
            if let Err(error) = self.pass().await {
                runtime::warn!("lifecycle: {error}");
            }
            tokio::time::sleep(PASS_EVERY).await;
        }
    }

    /// One pass, now: see [`protocol::metadata::Operation::RunLifecycle`].
    ///
    /// # Errors
    /// `Unavailable`: a shard has no leader, or a row is damaged.
    pub(crate) async fn pass(&self) -> Result<Reply, MetadataError> {
        let _one = self.one_at_a_time.lock().await;
        let registry = self.rights.registry().await?;
        let buckets = state::lifecycles(registry).map_err(failed)?;
        let mut passed = Passed::default();
        for (bucket, lifecycle) in buckets {
            if !self.proposer.shard(bucket.id).leads() {
                // The node that does has a worker, too.
                continue;
            }
            let of_bucket = match self.bucket(bucket.id, &lifecycle).await {
                // Another node has begun to lead it.
                Err(_) if !self.proposer.shard(bucket.id).leads() => continue,
                of_bucket => of_bucket?,
            };
            if of_bucket.removed > 0 {
                let Passed { looked, removed } = of_bucket;
                runtime::info!(
                    "lifecycle of {}: {removed} of {looked} removed",
                    bucket.name
                );
            }
            passed.looked += of_bucket.looked;
            passed.removed += of_bucket.removed;
        }
        Ok(Reply::Expired {
            looked: passed.looked,
            removed: passed.removed,
        })
    }

    async fn bucket(
        &self,
        bucket: BucketId,
        lifecycle: &Lifecycle,
    ) -> Result<Passed, MetadataError> {
        let mut passed = Passed::default();
        let mut next = Some(Cursor::start(bucket));
        let shard = self.proposer.shard(bucket);
        while let Some(cursor) = next {
            let now_ms = self.proposer.now_ms();
            let rows = self.proposer.read(shard).await?;
            let look = state::look(rows, bucket, lifecycle, cursor, now_ms, ROWS_PER_LOOK)
                .map_err(failed)?;
            passed.looked += look.rows;
            passed.removed += self.remove(bucket, look.due).await?;
            next = look.next;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(passed)
    }

    /// Removes what is due, and answers how much of it was.
    async fn remove(&self, bucket: BucketId, due: Vec<Due>) -> Result<u64, MetadataError> {
        let shard = self.proposer.shard(bucket);
        let mut removals = futures_util::stream::iter(due)
            .map(|due| self.proposer.propose(shard, due.removal(bucket)))
            .buffer_unordered(AT_A_TIME);
        let mut removed = 0;
        while let Some(outcome) = removals.next().await {
            match outcome {
                Ok(_) => removed += 1,
                Err(error @ MetadataError::Unavailable(_)) => return Err(error),
                // Protected, or gone meanwhile.
                Err(_) => {}
            }
        }
        Ok(removed)
    }
}

fn failed(error: Error) -> MetadataError {
    MetadataError::Unavailable(error.to_string())
}
