//! The lease under which a node uses its own copy of the registry, so that a right whose withdrawal was confirmed is withdrawn on every node.
//!
//! Every node that keeps the rows of shard 0 may answer from them, and admit calls by them, only while it holds a lease. It asks the leader of shard 0
//! for one each second; the lease counts from when it *sent* that, and ends [`LEASE_MS`] later.
//!
//! - The leader gives a lease only to a node whose copy has the present revision, and only after it has made sure that it leads.
//! - It answers a change of the revision only when each holder has confirmed the new one, or its lease has ended. A holder confirms when its copy has it
//!   and every write that it admitted by an older one is over.
//! - A leader knows nothing of the leases that the one before it gave. All of those were asked for before it led: it waits until they have ended.
//! - Where a lease ended without a confirmation, a write that was admitted under it may still be in the log of a shard that the holder led. So each shard
//!   commits an empty entry before the change is answered: what was in a log before has taken effect by then, or never will. (A write that was still on its way
//!   to its log finds no lease any more: [`Rights::hold`] is asked again at the last moment, and a group that lost its leader takes nothing.)
//!
//! The leader gives itself a lease in the same way. Clocks may run at different rates by [`MARGIN_PERCENT`]. A node without company pays for none of this.

use crate::proposer::{Failure, Found, Proposer, search_until, unexpected};
use crate::raft::{Consensus, Group, Shard};
use protocol::metadata::MetadataError;
use protocol::peers::{LEASE_MS, PeersAnswer, PeersCall, RENEWAL_MS};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Notify, RwLock, RwLockReadGuard};
use tokio::time::{Instant, timeout, timeout_at};

const LEASE: Duration = Duration::from_millis(LEASE_MS);
const RENEWAL: Duration = Duration::from_millis(RENEWAL_MS);
/// By how much the leader takes a lease for longer than its holder does.
const MARGIN_PERCENT: u64 = 10;
const LEASE_FOR_SURE: Duration = Duration::from_millis(LEASE_MS * (100 + MARGIN_PERCENT) / 100);
/// Between two attempts to get a lease.
const RETRY: Duration = Duration::from_millis(200);
/// How long a call waits for the lease, or for a revision that its caller has seen already.
const REACH_MAX: Duration = Duration::from_secs(1);

/// This node's lease, and as the leader of shard 0 those of the others.
pub(crate) struct Rights {
    proposer: Rc<Proposer>,
    /// Held shared by every write in a bucket from the look at the revision to its end. Before a revision is confirmed it is taken once for
    /// itself: so nothing that was admitted by an older one is still to come.
    admitted: RwLock<()>,
    /// When this node's lease ends.
    until: Cell<Option<Instant>>,
    renewed: Notify,
    /// Everything that was admitted by a revision before this one is over.
    clear: Cell<Option<u64>>,
    leases: RefCell<Leases>,
}

/// What the leader of shard 0 knows of leases.
#[derive(Default)]
struct Leases {
    /// In which term it leads.
    term: u64,
    /// Until then there may be leases that another leader gave.
    unknown_until: Option<Instant>,
    /// Whether such a holder may have left writes in the logs.
    unsettled: bool,
    holders: BTreeMap<u64, Holder>,
    /// Who gets none, because it is about to lose its copy.
    retired: BTreeSet<u64>,
}

struct Holder {
    name: String,
    /// Its copy has this revision, and nothing that it admitted by an older one is still to come.
    confirmed: u64,
    until: Instant,
}

impl Rights {
    pub(crate) fn new(proposer: Rc<Proposer>) -> Self {
        Self {
            proposer,
            admitted: RwLock::new(()),
            until: Cell::new(None),
            renewed: Notify::new(),
            clear: Cell::new(None),
            leases: RefCell::default(),
        }
    }

    /// Whether this node's copy of the registry may be used.
    pub(crate) fn hold(&self) -> bool {
        let store = self.proposer.store();
        // The first lease of a node that has just got company counts from the last moment when it was alone.
        let first = || store.alone_until().map(|alone| alone + LEASE);
        let until = || self.until.get().or_else(first);
        store.is_alone() || until().is_some_and(|until| Instant::now() < until)
    }

    /// The rows of shard 0: of the leader, or under the lease.
    pub(crate) async fn registry(&self) -> Result<&Shard, Failure> {
        let registry = self.proposer.registry();
        if !registry.leads() && self.hold() {
            return Ok(registry.rows());
        }
        self.proposer.read(registry).await
    }

    /// To be held from the look at the revision to the end of what was admitted by it.
    pub(crate) async fn admit(&self) -> RwLockReadGuard<'_, ()> {
        self.admitted.read().await
    }

    /// Waits a moment for the lease, and for a revision that a caller has seen elsewhere. Whether they are there is for the caller to see.
    pub(crate) async fn reach(&self, revision: u64) {
        let registry = self.proposer.registry();
        let there = async {
            loop {
                let (renewed, revised) = (self.renewed.notified(), registry.revised());
                if self.hold() && registry.revision() >= revision {
                    return;
                }
                tokio::select! {
                    () = renewed => {}
                    () = revised => {}
                }
            }
        };
        if !self.hold() || registry.revision() < revision {
            // If it does not come, the call is refused.
            let _ = timeout(REACH_MAX, there).await;
        }
    }

    /// Keeps this node's lease for as long as the service lives.
    pub(crate) async fn keep(&self) {
        self.proposer.store().company().await;
        let registry = self.proposer.registry();
        loop {
            let sent = Instant::now();
            let renewed = self.renew(registry).await;
            if renewed {
                self.until.set(Some(sent + LEASE));
                self.renewed.notify_waiters();
            }
            let next = sent + if renewed { RENEWAL } else { RETRY };
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = registry.leadership() => {}
            }
        }
    }

    /// Whether a lease was given.
    async fn renew(&self, registry: &Rc<Group>) -> bool {
        let revision = registry.revision();
        if self.clear.get() != Some(revision) {
            self.over().await;
            self.clear.set(Some(revision));
        }
        let answer = if registry.leads() {
            self.lease(self.proposer.store().number(), None, revision)
                .await
        } else {
            let Some(leader) = registry.leader() else {
                return false;
            };
            let call = PeersCall::Renew { revision };
            match self.proposer.ways().call(&leader, &call, RENEWAL).await {
                Ok(answer) => answer,
                Err(_) => return false,
            }
        };
        match answer {
            PeersAnswer::Leased => true,
            PeersAnswer::Behind { revision } => {
                // The rows are on their way: with them the next attempt succeeds.
                let _ = timeout(RETRY, self.has(registry, revision)).await;
                false
            }
            _ => false,
        }
    }

    async fn has(&self, registry: &Group, revision: u64) {
        loop {
            let revised = registry.revised();
            if registry.revision() >= revision {
                return;
            }
            revised.await;
        }
    }

    /// Waits until everything that was admitted before is over.
    async fn over(&self) {
        drop(self.admitted.write().await);
    }

    /// As the leader of shard 0: a lease for `holder`, which has `revision`. `name` is `None` for this node.
    pub(crate) async fn lease(
        &self,
        holder: u64,
        name: Option<String>,
        revision: u64,
    ) -> PeersAnswer {
        let registry = self.proposer.registry();
        // Makes sure that this node leads now, after the lease was asked for.
        if registry.read().await.is_err() {
            let leader = registry.leader();
            return PeersAnswer::NotLeader { leader };
        }
        self.observe(registry.term());
        let present = registry.revision();
        if revision != present {
            return PeersAnswer::Behind { revision: present };
        }
        if self.leases.borrow().retired.contains(&holder) {
            return PeersAnswer::Refused("about to lose its copy".into());
        }
        if let Some(name) = name {
            let holder_now = Holder {
                name,
                confirmed: revision,
                until: Instant::now() + LEASE_FOR_SURE,
            };
            self.leases.borrow_mut().holders.insert(holder, holder_now);
        }
        PeersAnswer::Leased
    }

    /// As the leader in this term.
    fn observe(&self, term: u64) {
        let mut leases = self.leases.borrow_mut();
        if leases.term != term {
            *leases = Leases {
                term,
                unknown_until: Some(Instant::now() + LEASE_FOR_SURE),
                unsettled: true,
                ..Leases::default()
            };
        }
    }

    /// As a holder: answers when this node's copy has `revision` and what it admitted by an older one is over.
    pub(crate) async fn confirm(&self, revision: u64) -> PeersAnswer {
        let has = self.has(self.proposer.registry(), revision);
        if timeout(LEASE_FOR_SURE, has).await.is_err() {
            return PeersAnswer::Refused("the revision has not come".into());
        }
        self.over().await;
        PeersAnswer::Done
    }

    /// After a change of the registry: waits until no node acts by an older revision than the present one.
    ///
    /// # Errors
    /// [`MetadataError::Unavailable`]: the change has happened, but it cannot be said that it counts everywhere.
    pub(crate) async fn revised(&self) -> Result<(), MetadataError> {
        self.over().await;
        if self.proposer.is_alone() {
            return Ok(());
        }
        let registry = self.proposer.registry();
        let revision = registry.revision();
        // Only a leader has done the change; if it is not one any more, the next one's leases are not known here.
        self.proposer
            .read(registry)
            .await
            .map_err(MetadataError::from)?;
        self.observe(registry.term());
        let unknown_until = self.leases.borrow().unknown_until;
        if let Some(until) = unknown_until {
            tokio::time::sleep_until(until).await;
        }
        let silent = self.confirmed(revision).await;
        let unsettled = self.leases.borrow().unsettled;
        if unsettled || !silent.is_empty() {
            self.settle().await?;
            let mut leases = self.leases.borrow_mut();
            leases.unsettled = false;
            let now = Instant::now();
            leases
                .holders
                .retain(|id, holder| !(silent.contains(id) && holder.until < now));
        }
        Ok(())
    }

    /// Asks all holders to confirm, until they have or their leases have ended. Answers who has not.
    async fn confirmed(&self, revision: u64) -> Vec<u64> {
        let old: Vec<(u64, String)> = {
            let leases = self.leases.borrow();
            let old = leases.holders.iter();
            old.filter(|(_, holder)| holder.confirmed < revision)
                .map(|(id, holder)| (*id, holder.name.clone()))
                .collect()
        };
        let asked = old.into_iter().map(|(id, name)| async move {
            let call = PeersCall::Confirm { revision };
            loop {
                // It may have got another lease meanwhile, with the new revision.
                let until = match self.leases.borrow().holders.get(&id) {
                    Some(holder) if holder.confirmed < revision => holder.until,
                    _ => return None,
                };
                if Instant::now() >= until {
                    return Some(id);
                }
                let asked = self.proposer.ways().call(&name, &call, LEASE_FOR_SURE);
                if let Ok(Ok(PeersAnswer::Done)) = timeout_at(until, asked).await {
                    let mut leases = self.leases.borrow_mut();
                    if let Some(holder) = leases.holders.get_mut(&id) {
                        holder.confirmed = holder.confirmed.max(revision);
                    }
                    return None;
                }
                tokio::time::sleep_until(until.min(Instant::now() + RETRY)).await;
            }
        });
        let silent = futures_util::future::join_all(asked).await;
        silent.into_iter().flatten().collect()
    }

    /// Has every shard commit an entry that says nothing.
    async fn settle(&self) -> Result<(), MetadataError> {
        let until = search_until();
        let settled = self.proposer.groups().iter().map(|group| async move {
            let call = PeersCall::Settle {
                shard: group.number(),
            };
            loop {
                match self.proposer.ask_leader(group, &call, true, until).await? {
                    Found::Answer(PeersAnswer::Done) => return Ok(()),
                    Found::Answer(other) => return Err(unexpected(&other)),
                    Found::Here => match group.settle().await {
                        Ok(()) => return Ok(()),
                        Err(_) => self.proposer.again(group, None, until).await?,
                    },
                }
            }
        });
        futures_util::future::try_join_all(settled)
            .await
            .map_err(|error| {
                MetadataError::Unavailable(format!(
                    "the change has happened, but a node that does not answer may still act by what was before: {error}"
                ))
            })?;
        Ok(())
    }

    /// As the leader of shard 0, before a node ceases to be a member of it: gives it no more leases. Answers whether its last one has ended.
    pub(crate) fn retire(&self, node: u64) -> bool {
        let mut leases = self.leases.borrow_mut();
        leases.retired.insert(node);
        let now = Instant::now();
        let unknown = leases.unknown_until.is_some_and(|until| now < until);
        let holds = leases
            .holders
            .get(&node)
            .is_some_and(|holder| now < holder.until);
        !unknown && !holds
    }

    /// It becomes a member again.
    pub(crate) fn reinstate(&self, node: u64) {
        self.leases.borrow_mut().retired.remove(&node);
    }
}
