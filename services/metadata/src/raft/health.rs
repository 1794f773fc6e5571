//! What this node knows of a group's members, for the operator: also where another node leads, and while the members change.

use super::Group;
use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver;
use protocol::health::ShardHealth;
use std::collections::BTreeSet;
use std::time::Duration;

/// A member that has not answered the leader for this long is out of reach.
const OUT_OF_REACH: Duration = Duration::from_secs(3);
/// A voter whose log is behind by no more entries has what the leader has, but for what is under way.
const CURRENT: u64 = 64;

impl Group {
    /// This node's part in the shard.
    pub(crate) fn health(&self) -> ShardHealth {
        let leads = self.leads();
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership();
        let configurations = members.get_joint_config();
        let voters: BTreeSet<u64> = configurations.last().cloned().unwrap_or_default();
        let last = metrics.last_log_index.unwrap_or_default();
        let is_current = |id: &u64| {
            let heard = metrics.heartbeat.as_ref().and_then(|heard| heard.get(id));
            let heard = heard.copied().flatten();
            let stored = metrics
                .replication
                .as_ref()
                .and_then(|stored| stored.get(id));
            let stored = stored.copied().flatten();
            *id == metrics.id
                || (heard.is_some_and(|heard| heard.elapsed() < OUT_OF_REACH)
                    && stored.is_some_and(|stored| stored.index.saturating_add(CURRENT) >= last))
        };
        ShardHealth {
            shard: self.number(),
            term: metrics.current_term,
            applied: metrics.last_applied.map_or(0, |applied| applied.index),
            current: leads.then(|| {
                let current = voters.iter().copied().filter(is_current);
                current.collect()
            }),
            voters: voters.into_iter().collect(),
        }
    }
}
