//! What this node knows of a group's members, for the operator: also where another node leads, and while the members change.

use super::Group;
use super::group::is_current;
use openraft::async_runtime::WatchReceiver;
use protocol::health::ShardHealth;
use std::collections::BTreeSet;

impl Group {
    /// This node's part in the shard.
    pub(crate) fn health(&self) -> ShardHealth {
        let leads = self.leads();
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership();
        let configurations = members.get_joint_config();
        let voters: BTreeSet<u64> = configurations.last().cloned().unwrap_or_default();
        ShardHealth {
            shard: self.number(),
            term: metrics.current_term,
            applied: metrics.last_applied.map_or(0, |applied| applied.index),
            current: leads.then(|| {
                let current = voters.iter().copied();
                current.filter(|id| is_current(&metrics, *id)).collect()
            }),
            voters: voters.into_iter().collect(),
        }
    }
}
