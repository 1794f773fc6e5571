//! A shard as a Raft group: commands, reads, and who its members are.

use super::Consensus;
use super::disk::Disk;
use super::log::Log;
use super::machine::Machine;
use super::network::Network;
use super::serving::Receiving;
use super::shard::Shard;
use super::snapshot::{self, Staged, View};
use super::store::{Me, Others};
use super::types::{Peer, Proposal, Types};
use crate::Error;
use crate::state::{Command, Outcome};
use crate::ways::Ways;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::{
    ChangeMembers, Config, Instant as _, LinearizerOption, Raft, RaftMetrics, SnapshotPolicy,
};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

/// Where nobody else needs them, applied entries beyond this are removed from the log, in steps of as many. Few, so that most die in the memtable.
pub(super) const LOG_KEPT: u64 = 64;
/// Where others are, these are kept, so that one that is behind by less does not need the whole state.
const LOG_KEPT_FOR_OTHERS: u64 = if cfg!(test) { 8 } else { 2_048 }; // In tests few, so that they see snapshots.
/// How long a lone voter may take to become the leader at the start.
const ELECTION_MAX: Duration = Duration::from_secs(10);
/// How often a leader is heard at least, in milliseconds.
const HEARTBEAT_MS: u64 = 500;
/// A leader that is not heard for this long may be replaced, in milliseconds: until then it may answer reads alone.
const LEADER_LEASE_MS: u64 = 2_000;
/// Of that, the leader itself uses only this part, in percent: clocks do not run at exactly the same rate.
const LEASE_USED_PERCENT: u64 = 90;
/// How long a read waits for a majority where the lease has run out.
const READ_MAX: Duration = Duration::from_secs(1);
/// How long a command waits for a majority; then nobody knows what becomes of it.
const PROPOSE_MAX: Duration = Duration::from_secs(10);
/// A member that has not answered the leader for this long is out of reach.
const OUT_OF_REACH: Duration = Duration::from_secs(3);
/// A member whose log is behind by no more entries has caught up.
const CAUGHT_UP: u64 = 64;

/// One shard's group on this node.
pub struct Group {
    pub(super) shard: Rc<Shard>,
    pub(super) raft: Raft<Types, Machine>,
    node: u64,
    /// This node is the only member and the leader, and has applied all: nobody else can have written, so reads need no look at the
    /// lease. Ends for good before anybody else becomes a member, and comes back only with a start that finds this node alone: as the only voter of the
    /// newest membership in its log it is the only one who can have changed that.
    alone: Rc<Cell<bool>>,
    others: Rc<Others>,
    ways: Rc<Ways>,
    pub(super) receiving: Mutex<Option<Receiving>>,
    /// Calls since it was looked last, by the node that they came by.
    demand: RefCell<BTreeMap<u64, u64>>,
    trimming: AbortHandle,
}

/// The members of a group, as its leader sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// The voters; while they are being changed, the old ones and then the new ones.
    pub voters: Vec<BTreeSet<u64>>,
    /// Who is sent the log and has no vote.
    pub learners: BTreeSet<u64>,
    /// Who has answered the leader not long ago, itself included.
    pub reachable: BTreeSet<u64>,
    /// Whose log is as good as the leader's.
    pub caught_up: BTreeSet<u64>,
    /// Who has not answered for so long that somebody else should take its place.
    pub given_up: BTreeSet<u64>,
}

impl Group {
    /// Starts a group. As the only voter it has become the leader and has applied all that is committed when this comes back.
    pub(super) async fn start(
        disk: &Rc<Disk>,
        number: u16,
        node: u64,
        me: &Me,
        others: Rc<Others>,
    ) -> Result<Rc<Self>, Error> {
        let shard = Rc::new(Shard::open(disk, number)?);
        // What a snapshot left half-way.
        snapshot::remove_others(&shard).await?;
        let (log, machine) = (
            Log {
                shard: shard.clone(),
            },
            Machine {
                shard: shard.clone(),
            },
        );
        let config = Arc::new(config(number)?);
        let network = Network {
            ways: me.ways.clone(),
            shard: number,
            node,
        };
        let raft = Raft::new(node, config, network, log, machine)
            .await
            .map_err(raft_error)?;
        if !raft.is_initialized().await.map_err(raft_error)? && me.founding {
            let peer = Peer {
                name: me.name.clone(),
            };
            raft.initialize(BTreeMap::from([(node, peer)]))
                .await
                .map_err(raft_error)?;
        }
        let members = raft.with_raft_state(|state| state.membership_state.effective().clone());
        let members = members.await.map_err(raft_error)?;
        let lone_voter = members.voter_ids().eq([node]);
        let alone = lone_voter && members.nodes().all(|(id, _)| *id == node);
        if lone_voter {
            lead(&raft).await?;
        }
        if alone {
            // Nobody is there to hear heartbeats or to be elected; the ticks alone would cost 0.3 % of a core.
            raft.runtime_config().tick(false);
        } else {
            others.are_there();
        }
        let alone = Rc::new(Cell::new(alone));
        let trimming = trim(shard.clone(), raft.clone(), alone.clone());
        let trimming = tokio::task::spawn_local(trimming).abort_handle();
        Ok(Rc::new(Self {
            shard,
            raft,
            node,
            alone,
            others,
            ways: me.ways.clone(),
            receiving: Mutex::new(None),
            demand: RefCell::default(),
            trimming,
        }))
    }

    /// All that openraft tells.
    #[cfg(test)]
    pub(crate) fn debug(&self) -> String {
        self.raft.metrics().borrow_watched().to_string()
    }

    /// Which shard it is.
    pub fn number(&self) -> u16 {
        self.shard.number
    }

    /// The present revision of keys, rights and buckets; only shard 0 has one.
    pub fn revision(&self) -> u64 {
        self.shard.revision()
    }

    /// Waits for the next change of the revision.
    pub(crate) async fn revised(&self) {
        self.shard.revised().await;
    }

    /// The rows as they are here, whoever leads: for estimates, and under a lease.
    pub fn rows(&self) -> &Shard {
        &self.shard
    }

    /// Whether this node leads, as far as it knows. [`Consensus::read`] and [`Consensus::propose`] make sure.
    pub fn leads(&self) -> bool {
        self.alone.get() || self.raft.is_leader()
    }

    /// Whether this node is the only member.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone.get()
    }

    /// The leader's name, as far as this node knows.
    pub fn leader(&self) -> Option<String> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership();
        let number = metrics.current_leader?;
        let leader = members.get_node(&number)?;
        Some(self.ways.name(number, &leader.name))
    }

    /// The present term: a leader of one never leads it again when it has lost it.
    pub(crate) fn term(&self) -> u64 {
        self.raft.metrics().borrow_watched().current_term
    }

    /// A client's call for this shard came by way of the node of this number.
    pub(crate) fn used_by(&self, number: u64) {
        *self.demand.borrow_mut().entry(number).or_default() += 1;
    }

    /// How many calls came by way of each node since this was asked last.
    pub(crate) fn take_demand(&self) -> BTreeMap<u64, u64> {
        self.demand.take()
    }

    /// Waits until another node leads than before, or this one does, or nobody.
    pub(crate) async fn leadership(&self) {
        let mut metrics = self.raft.server_metrics();
        let leader = metrics.borrow_watched().current_leader;
        while metrics.borrow_watched().current_leader == leader {
            if metrics.changed().await.is_err() {
                // The group has ended, and soon the process will.
                return std::future::pending().await;
            }
        }
    }

    /// The members by number, with their names.
    pub fn peers(&self) -> BTreeMap<u64, Peer> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let nodes = metrics.membership_config.nodes();
        nodes.map(|(id, peer)| (*id, peer.clone())).collect()
    }

    /// What the leader knows of the members; `None` where another node leads, and while a change of the members is not committed.
    pub fn members(&self) -> Option<Members> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let knows = metrics.heartbeat.is_some() && metrics.replication.is_some();
        let settled = metrics.membership_config == metrics.committed_membership_config;
        if !(metrics.state.is_leader() && knows && settled) {
            return None;
        }
        let members = metrics.membership_config.membership();
        let mut found = Members {
            voters: members.get_joint_config().clone(),
            learners: members.learner_ids().collect(),
            ..Members::default()
        };
        for (id, _) in members.nodes() {
            if is_reachable(&metrics, *id) {
                found.reachable.insert(*id);
            }
            if is_current(&metrics, *id) {
                found.caught_up.insert(*id);
            }
        }
        Some(found)
    }

    /// Gets the log from now on, without a vote. Harmless to repeat.
    pub(crate) async fn add_learner(&self, id: u64, peer: Peer) -> Result<(), Error> {
        let learner = ChangeMembers::AddNodes(BTreeMap::from([(id, peer)]));
        self.change(learner).await
    }

    /// Is not sent the log any more. Errors if it has a vote.
    pub(crate) async fn remove_learner(&self, id: u64) -> Result<(), Error> {
        self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id])))
            .await
    }

    /// Makes these the voters, by joint consensus; they must be members already. Who is not a voter any more stays as a learner.
    pub(crate) async fn set_voters(&self, voters: BTreeSet<u64>) -> Result<(), Error> {
        self.change(ChangeMembers::ReplaceAllVoters(voters)).await
    }

    async fn change(&self, change: ChangeMembers<u64, Peer>) -> Result<(), Error> {
        // Before anything is proposed: nothing that follows from being alone may outlive this.
        if self.alone.replace(false) {
            self.raft.runtime_config().tick(true);
        }
        self.others.come();
        let changed = self.raft.change_membership(change, true);
        match tokio::time::timeout(PROPOSE_MAX, changed).await {
            Ok(changed) => changed.map(|_| ()).map_err(write_error),
            Err(_) => Err(Error::Raft("no majority agreed in time".into())),
        }
    }

    /// Asks another voter to lead; whether it does shows later.
    pub(crate) async fn transfer(&self, to: u64) -> Result<(), Error> {
        let asked = self.raft.trigger().transfer_leader(to).await;
        asked.map_err(raft_error)
    }

    /// Commits an entry that says nothing: what another leader had begun before takes effect before it, or never.
    pub(crate) async fn settle(&self) -> Result<(), Error> {
        match tokio::time::timeout(PROPOSE_MAX, self.raft.write_blank()).await {
            Ok(written) => written.map(|_| ()).map_err(write_error),
            Err(_) => Err(Error::Raft("no majority answered in time".into())),
        }
    }

    /// Where a snapshot for this shard is gathered.
    pub async fn receive_snapshot(&self) -> Result<Staged, Error> {
        Staged::begin(&self.shard).await
    }

    /// Comes back only when the group has ended.
    pub(super) async fn ended(&self) -> Error {
        let mut metrics = self.raft.server_metrics();
        while metrics.changed().await.is_ok() {}
        let metrics = self.raft.metrics();
        let state = metrics.borrow_watched().running_state.clone();
        match state {
            Err(fatal) => Error::Raft(fatal.to_string()),
            Ok(()) => Error::Raft("a group ended".into()),
        }
    }

    pub(super) async fn close(&self) {
        self.trimming.abort();
        // A group that ended already is as good.
        let _ = self.raft.shutdown().await;
    }
}

/// Whether a member has answered this node, the leader, not long ago; the leader itself always has.
fn is_reachable(metrics: &RaftMetrics<Types>, id: u64) -> bool {
    let heard = metrics.heartbeat.as_ref().and_then(|heard| heard.get(&id));
    let heard = heard.copied().flatten();
    id == metrics.id || heard.is_some_and(|heard| heard.elapsed() < OUT_OF_REACH)
}

/// The same, and its log is as good as the leader's, but for what is under way.
pub(super) fn is_current(metrics: &RaftMetrics<Types>, id: u64) -> bool {
    let last = metrics.last_log_index.unwrap_or_default();
    let stored = metrics.replication.as_ref();
    let stored = stored.and_then(|stored| stored.get(&id));
    let stored = stored.copied().flatten();
    let near = stored.is_some_and(|stored| stored.index.saturating_add(CAUGHT_UP) >= last);
    id == metrics.id || (near && is_reachable(metrics, id))
}

/// Becomes the leader as the only voter, which need not wait for the silence of others, and applies everything.
async fn lead(raft: &Raft<Types, Machine>) -> Result<(), Error> {
    if !raft.is_leader() {
        raft.trigger().elect(true).await.map_err(raft_error)?;
    }
    let wait = raft.wait(Some(ELECTION_MAX));
    let ready = wait.metrics(
        |metrics| {
            let applied = metrics.last_applied.map(|applied| applied.index);
            metrics.state.is_leader() && applied >= metrics.last_log_index
        },
        "this node as the leader, and everything applied",
    );
    ready.await.map_err(raft_error)?;
    Ok(())
}

/// Keeps the log of a lone member short: openraft's own bound is made for others who are behind.
async fn trim(shard: Rc<Shard>, raft: Raft<Types, Machine>, alone: Rc<Cell<bool>>) {
    loop {
        shard.grown().await;
        let applied = shard.facts().applied.map_or(0, |applied| applied.index);
        let upto = applied.saturating_sub(LOG_KEPT);
        if alone.get() && raft.trigger().purge_log(upto).await.is_err() {
            // The group has ended.
            return;
        }
    }
}

impl Consensus for Group {
    type State = Shard;

    async fn propose(&self, command: Command) -> Result<Outcome, Error> {
        let written = self.raft.client_write(Proposal(Arc::new(command)));
        if self.alone.get() {
            return Ok(written.await.map_err(write_error)?.data);
        }
        match tokio::time::timeout(PROPOSE_MAX, written).await {
            Ok(written) => Ok(written.map_err(write_error)?.data),
            Err(_) => Err(Error::Raft(
                "no majority answered in time: it may happen or not".into(),
            )),
        }
    }

    async fn read(&self) -> Result<&Shard, Error> {
        if !self.alone.get() {
            let lease = Duration::from_millis(LEADER_LEASE_MS * LEASE_USED_PERCENT / 100);
            let option = LinearizerOption::new(Some(lease), true).with_wait_timeout(READ_MAX);
            self.raft
                .ensure_linearizable(option)
                .await
                .map_err(read_error)?;
        }
        Ok(&self.shard)
    }

    async fn change_members(&self, members: Vec<(u64, Peer)>) -> Result<(), Error> {
        let voters: BTreeSet<u64> = members.iter().map(|(id, _)| *id).collect();
        for (id, peer) in members {
            if id != self.node {
                self.add_learner(id, peer).await?;
            }
        }
        self.set_voters(voters).await
    }

    async fn snapshot(&self) -> Result<View, Error> {
        View::of(&self.shard).await
    }

    fn status(&self) -> protocol::metadata::Shard {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership();
        let voters = members.voter_ids().map(|id| match members.get_node(&id) {
            Some(peer) => self.ways.name(id, &peer.name),
            None => id.to_string(),
        });
        protocol::metadata::Shard {
            number: u32::from(self.shard.number),
            leader: metrics.state.is_leader(),
            term: metrics.current_term,
            applied: metrics.last_applied.map_or(0, |applied| applied.index),
            voters: voters.collect(),
        }
    }
}

/// For nodes at home with 100 ms between them, and service again within five seconds of a leader's end: two seconds of silence, one to two
/// more by chance, two round trips. A lone voter needs none of it.
fn config(number: u16) -> Result<Config, Error> {
    let config = Config {
        cluster_name: format!("metadata-{number}"),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: LEADER_LEASE_MS / 2,
        // openraft takes it for the leader's lease, too.
        election_timeout_max: LEADER_LEASE_MS,
        install_snapshot_timeout: 5 * 60 * 1_000,
        max_payload_entries: 256,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(if cfg!(test) { 16 } else { LOG_KEPT }),
        max_in_snapshot_log_to_keep: LOG_KEPT_FOR_OTHERS,
        purge_batch_size: LOG_KEPT.min(LOG_KEPT_FOR_OTHERS),
        enable_pre_vote: Some(true),
        // A restarted leader asks the others first (databendlabs/openraft#1511).
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().map_err(raft_error)
}

pub(super) fn raft_error(error: impl std::fmt::Display) -> Error {
    Error::Raft(error.to_string())
}

/// [`Error::NotLeader`] only where the entry was not appended.
fn write_error(error: RaftError<Types, ClientWriteError<Types>>) -> Error {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => Error::NotLeader {
            leader: forward.leader_node.map(|peer| peer.name),
        },
        error => raft_error(error),
    }
}

fn read_error(error: RaftError<Types, LinearizableReadError<Types>>) -> Error {
    match error {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)) => Error::NotLeader {
            leader: forward.leader_node.map(|peer| peer.name),
        },
        RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)) => {
            Error::Raft("no majority of the shard's voters answers".into())
        }
        error => raft_error(error),
    }
}
