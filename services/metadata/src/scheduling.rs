//! Services that run on some nodes only, and restarts of all nodes: this node reports to the leader of shard 0 each second, and has its orchestrator do what
//! is answered; the leader plans (`scheduler`, `rolling`) and keeps the plan in shard 0.
//!
//! What a node is told to run it may run for a lease ([`protocol::schedule`]). The leader makes sure that it leads after it was asked, and remembers of each node
//! what it may run and until when. A leader knows nothing of the leases that the one before it gave: those were asked for before it led, so it
//! places nothing until they have ended. A node that is alone is its own leader and waits for nobody.

use crate::Error;
use crate::block_store;
use crate::proposer::{Failure, Found, Proposer};
use crate::raft::{Consensus, Group, number_of};
use crate::rolling::{Situation, Step};
use crate::scheduler;
use crate::state::{self, AnyChange, Rolling, STOPPED_BYTES_MAX, ScheduleChange};
use board::Board;
use protocol::block::Blocks;
use protocol::cluster::{NodeKey, Roster};
use protocol::metadata::{MetadataError, Reply};
use protocol::peers::{PeersAnswer, PeersCall};
use protocol::schedule::{
    ASK_EVERY_MS, Here, LEASE_MS, Led, Orders, Report, RollingReport, ScheduleAnswer, ScheduleCall,
    ScheduleReport,
};
use runtime::Link;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

mod board;

/// How often this node reports, and the leader looks whether there is something to do.
const ASK_EVERY: Duration = Duration::from_millis(ASK_EVERY_MS);
/// How long the leader is looked for with one report.
const ASK_MAX: Duration = Duration::from_secs(2);
/// How long this node's own services may take to answer.
const OWN_MAX: Duration = Duration::from_secs(1);
/// How long one step of a rolling restart is waited for before the restart is given up: longer than a node takes to start and to catch up.
const STEP_MAX: Duration = Duration::from_secs(5 * 60);
/// The log is told of so many reports in a row that came to nothing: one may, and so may some of a node that is being admitted.
const FAILURES_TOLD: u32 = 5;
/// How often a change is tried again that somebody else's came before.
const ATTEMPTS_MAX: usize = 8;

type Kept = state::Schedule;

/// The one of this node.
pub(crate) struct Scheduling {
    proposer: Rc<Proposer>,
    orchestrator: Link<protocol::schedule::Schedule>,
    blocks: Link<Blocks>,
    /// Drawn at random at the start.
    life: u64,
    reports: Cell<u64>,
    /// What this node knows as the leader.
    board: RefCell<Board>,
}

impl Scheduling {
    pub(crate) fn new(
        proposer: Rc<Proposer>,
        orchestrator: Link<protocol::schedule::Schedule>,
        blocks: Link<Blocks>,
    ) -> Result<Self, Error> {
        Ok(Self {
            proposer,
            orchestrator,
            blocks,
            life: crate::random_number()?,
            reports: Cell::new(0),
            board: RefCell::default(),
        })
    }

    /// For as long as the service lives.
    pub(crate) async fn tend(&self) {
        let mut failures = 0_u32;
        // What may run here does not change while the orchestrator lives, and it does not outlive us.
        let mut offers_nothing = false;
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            if offers_nothing && self.proposer.is_alone() {
                continue;
            }
            if self.proposer.registry().leads()
                && let Err(Failure::Failed(error)) = self.plan().await
            {
                runtime::warn!("which services run where was not looked at: {error}");
            }
            match self.report().await {
                Ok(here) => {
                    offers_nothing = here.offers.is_empty();
                    failures = 0;
                }
                Err(why) => {
                    failures = failures.saturating_add(1);
                    if failures == FAILURES_TOLD {
                        runtime::warn!("it is not known what this node is to run: {why}");
                    }
                }
            }
        }
    }

    /// Reports once, and has the orchestrator do what was answered.
    async fn report(&self) -> Result<Here, String> {
        let asked_ms = runtime::since_boot_ms();
        let here = self.order(&ScheduleCall::Look).await?;
        let report = Report {
            life: self.life,
            number: self.reports.replace(self.reports.get() + 1),
            here: here.clone(),
            leads: self.leads(),
            behind: self.behind().await,
        };
        let orders = self.ask(report).await?;
        let call = ScheduleCall::Run {
            services: orders.services,
            elsewhere: orders.elsewhere,
            until_ms: asked_ms + LEASE_MS,
        };
        self.order(&call).await?;
        if let Some(number) = orders.restart {
            self.order(&ScheduleCall::Restart { number }).await?;
        }
        Ok(here)
    }

    async fn order(&self, call: &ScheduleCall) -> Result<Here, String> {
        match timeout(OWN_MAX, self.orchestrator.repeat(call)).await {
            Ok(Ok((ScheduleAnswer::Here(here), _))) => Ok(here),
            Ok(Err(error)) => Err(format!("the orchestrator: {error}")),
            Err(_) => Err("the orchestrator does not answer".into()),
        }
    }

    async fn ask(&self, report: Report) -> Result<Orders, String> {
        let registry = self.proposer.registry();
        let until = Instant::now() + ASK_MAX;
        let call = PeersCall::Report(report.clone());
        let found = self.proposer.ask_leader(registry, &call, true, until);
        let answer = match timeout(2 * ASK_MAX, found).await {
            Ok(Ok(Found::Here)) => {
                let own = self.proposer.store().number();
                self.heard(own, report).await
            }
            Ok(Ok(Found::Answer(answer))) => answer,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("the leader of shard 0 does not answer".into()),
        };
        match answer {
            PeersAnswer::Orders(orders) => Ok(orders),
            PeersAnswer::Refused(why) => Err(why),
            _ => Err("nobody leads shard 0 at the moment".into()),
        }
    }

    fn leads(&self) -> Vec<Led> {
        let groups = self.proposer.groups().iter();
        groups.filter(|group| group.leads()).map(led).collect()
    }

    /// Blocks that lack copies: asked for only while it matters.
    async fn behind(&self) -> u64 {
        let kept = state::schedule(self.proposer.registry().rows());
        if kept.is_ok_and(|kept| kept.rolling.is_none()) {
            return 0;
        }
        match timeout(OWN_MAX, block_store::usage(&self.blocks)).await {
            Ok(Ok(usage)) => usage.behind,
            _ => u64::MAX,
        }
    }

    /// As the leader: what a node has to say, and what it is to do.
    pub(crate) async fn heard(&self, node: u64, report: Report) -> PeersAnswer {
        let registry = self.proposer.registry();
        // Makes sure that this node leads now, after it was asked.
        let Ok(rows) = registry.read().await else {
            let leader = registry.leader();
            return PeersAnswer::NotLeader { leader };
        };
        let refused = |why: &str| PeersAnswer::Refused(why.into());
        // From the look at the schedule to the note of what the node may run nothing waits: the plan sees both or neither.
        let (kept, roster) = match (state::schedule(rows), state::roster(rows)) {
            (Ok(kept), Ok(Some(roster))) => (kept, roster),
            (Ok(_), Ok(None)) => return refused("the cluster is not made yet"),
            (Err(error), _) | (_, Err(error)) => return refused(&error.to_string()),
        };
        let mut members = roster.members();
        let Some(entry) = members.find(|entry| number_of(&entry.key) == node) else {
            return refused("this node does not belong to the cluster");
        };
        let mut board = self.board.borrow_mut();
        board.observe(registry.term(), self.proposer.is_alone());
        let own = BTreeSet::from([entry.key]);
        let (mut services, mut elsewhere) = (Vec::new(), Vec::new());
        for (service, nodes) in &kept.services {
            let mut offers = report.here.offers.iter();
            let is_offered = offers.any(|offer| offer.service == *service);
            match is_offered && nodes.contains(&entry.key) {
                true => services.push(service.clone()),
                // Also what this node does not offer: its clients may be here.
                false => elsewhere.push((service.clone(), named(&roster, &(nodes - &own)))),
            }
        }
        let restarted = report.here.restarted;
        if !board.hear(entry.key, report, &services) {
            return refused("a later report has come already");
        }
        PeersAnswer::Orders(Orders {
            services,
            elsewhere,
            restart: kept
                .restart_of(&entry.key)
                .filter(|number| *number > restarted),
        })
    }

    /// As the leader: looks whether the schedule is to be another one, and makes it so.
    async fn plan(&self) -> Result<(), Failure> {
        let registry = self.proposer.registry();
        let rows = self.proposer.read(registry).await?;
        let kept = state::schedule(rows)?;
        let Some(roster) = state::roster(rows)? else {
            return Ok(());
        };
        let next = {
            let mut board = self.board.borrow_mut();
            board.observe(registry.term(), self.proposer.is_alone());
            self.planned(&mut board, &kept, &roster)
        };
        if next == kept {
            return Ok(());
        }
        match self.put(&next).await {
            Ok(()) => tell_of(&kept, &next, &roster),
            // Somebody's drain came before: the next look sees it.
            Err(Failure::Failed(MetadataError::Refused(_))) => {}
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    fn planned(&self, board: &mut Board, kept: &Kept, roster: &Roster) -> Kept {
        let mut next = kept.clone();
        next.draining
            .retain(|key| roster.members().any(|node| node.key == *key));
        if let Some(nodes) = board.nodes(roster, &next.draining) {
            next.services = scheduler::next(&kept.services, &nodes);
        }
        let Some(rolling) = &kept.rolling else {
            board.waits(None, "");
            return next;
        };
        let step = self.situation(board, kept, roster).next(rolling);
        match step {
            Step::Go(rolling) => next.rolling = Some(rolling),
            Step::Over => next.rolling = None,
            Step::Wait(why) => {
                if board.waits(Some(rolling), &why) >= STEP_MAX {
                    next.rolling = None;
                    let mut why = format!("the rolling restart has stopped: {why}");
                    why.truncate(why.floor_char_boundary(STOPPED_BYTES_MAX));
                    next.stopped = Some(why);
                }
            }
        }
        next
    }

    fn situation<'a>(&self, board: &'a Board, kept: &'a Kept, roster: &'a Roster) -> Situation<'a> {
        let shards = self.proposer.groups().len();
        Situation {
            schedule: kept,
            members: board.members(roster),
            shards: u16::try_from(shards).unwrap_or(u16::MAX),
        }
    }

    /// Commits a schedule that was made from the present one.
    async fn put(&self, next: &Kept) -> Result<(), Failure> {
        let next = Kept {
            version: next.version.saturating_add(1),
            ..next.clone()
        };
        let change = AnyChange::Schedule(ScheduleChange { next });
        let registry = self.proposer.registry();
        self.proposer.propose_here(registry, change).await?;
        Ok(())
    }

    /// Changes the schedule as `change` says; again, if something else came between.
    async fn change(
        &self,
        change: impl Fn(&mut Kept, &Roster) -> Result<(), MetadataError>,
    ) -> Result<Reply, Failure> {
        let registry = self.proposer.registry();
        let mut attempts = 0;
        loop {
            let rows = self.proposer.read(registry).await?;
            let kept = state::schedule(rows)?;
            let roster = state::roster(rows)?.ok_or(MetadataError::NoSuchNode)?;
            let mut next = kept.clone();
            change(&mut next, &roster)?;
            if next == kept {
                return self.shown().await;
            }
            attempts += 1;
            match self.put(&next).await {
                Err(Failure::Failed(MetadataError::Refused(_))) if attempts < ATTEMPTS_MAX => {}
                done => {
                    done?;
                    return self.shown().await;
                }
            }
        }
    }

    /// See [`protocol::metadata::Operation::Drain`].
    pub(crate) async fn drain(&self, key: NodeKey, draining: bool) -> Result<Reply, Failure> {
        self.change(|kept, roster| {
            roster.member(&key).ok_or(MetadataError::NoSuchNode)?;
            match draining {
                true => kept.draining.insert(key),
                false => kept.draining.remove(&key),
            };
            Ok(())
        })
        .await
    }

    /// See [`protocol::metadata::Operation::RestartRolling`].
    pub(crate) async fn restart(&self) -> Result<Reply, Failure> {
        if self.proposer.is_alone() {
            let why =
                "a node that is alone has nobody to serve while it restarts: use `restart SERVICE`";
            return Err(MetadataError::Refused(why.into()).into());
        }
        self.change(|kept, roster| {
            if kept.rolling.is_some() {
                return Ok(());
            }
            let board = self.board.borrow();
            let situation = self.situation(&board, kept, roster);
            for node in roster.members() {
                situation.can_miss(node).map_err(MetadataError::Refused)?;
            }
            kept.restarts = kept.restarts.saturating_add(1);
            kept.rolling = Some(Rolling::default());
            kept.stopped = None;
            Ok(())
        })
        .await
    }

    /// See [`protocol::metadata::Operation::Schedule`].
    pub(crate) async fn shown(&self) -> Result<Reply, Failure> {
        let rows = self.proposer.read(self.proposer.registry()).await?;
        let kept = state::schedule(rows)?;
        let Some(roster) = state::roster(rows)? else {
            return Ok(Reply::Schedule(ScheduleReport::default()));
        };
        let board = self.board.borrow();
        let situation = self.situation(&board, &kept, &roster);
        let rolling = kept.rolling.as_ref().map(|rolling| RollingReport {
            done: named(&roster, &rolling.done),
            now: rolling
                .now
                .and_then(|key| named(&roster, &BTreeSet::from([key])).pop()),
            next: situation
                .to_come(rolling)
                .iter()
                .map(|node| node.name.clone())
                .collect(),
            waits: board.waited_for().to_owned(),
        });
        let services = kept.services.iter();
        Ok(Reply::Schedule(ScheduleReport {
            services: services
                .map(|(service, nodes)| (service.clone(), named(&roster, nodes)))
                .collect(),
            draining: named(&roster, &kept.draining),
            rolling,
            stopped: kept.stopped,
        }))
    }
}

fn led(group: &Rc<Group>) -> Led {
    let members = group.members();
    let mut led = Led {
        shard: group.number(),
        term: group.term(),
        voters: Vec::new(),
        caught_up: Vec::new(),
        settled: false,
    };
    if let Some(members) = members {
        let voters: BTreeSet<u64> = members.voters.iter().flatten().copied().collect();
        led.settled = members.voters.len() == 1;
        led.caught_up = members.caught_up.intersection(&voters).copied().collect();
        led.voters = voters.into_iter().collect();
    }
    led
}

/// The names of nodes; of somebody who has gone the key.
fn named(roster: &Roster, keys: &BTreeSet<NodeKey>) -> Vec<String> {
    keys.iter().map(|key| roster.name_of(key)).collect()
}

/// The log's lines about a change of the schedule.
fn tell_of(kept: &Kept, next: &Kept, roster: &Roster) {
    for (service, nodes) in &next.services {
        if kept.services.get(service) != Some(nodes) {
            match named(roster, nodes).as_slice() {
                [] => runtime::info!("{service} runs nowhere: no node can take it now"),
                names => runtime::info!("{service} is to run on {}", names.join(", ")),
            }
        }
    }
    match (&kept.rolling, &next.rolling, &next.stopped) {
        (Some(before), Some(after), _) if before.now != after.now => {
            let now = after.now.iter().copied().collect();
            if let [name] = named(roster, &now).as_slice() {
                runtime::info!("rolling restart: it is {name}'s turn");
            }
        }
        (Some(_), None, Some(why)) => runtime::error!("{why}"),
        (Some(_), None, None) => runtime::info!("rolling restart: all nodes are back"),
        _ => {}
    }
}
