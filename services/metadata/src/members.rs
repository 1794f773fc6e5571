//! Carries out what `voters` plans: the leader of each shard makes nodes members, voters and leaders, one step at a time.
//!
//! If the process dies in the middle of a step, or loses the lead, whoever leads next finds what came of it and goes on from there.

use crate::Error;
use crate::raft::{Group, Members, Peer, number_of};
use crate::service::Service;
use crate::state::{self, Layout};
use crate::voters::{self, Node, Situation, Step};
use protocol::cluster::{NodeEntry, NodeKey, Roster};
use protocol::health::Placed;
use protocol::peers::{PeersAnswer, PeersCall};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// How often it is looked whether there is a step to take.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A voter that does not answer for this long is replaced, if somebody can take its place: far longer than a restart takes.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(5 * 60);
/// A learner that does not answer for this long is passed over, if another node can take its place.
const EXCUSED: Duration = Duration::from_secs(10);
/// Between two attempts to hand on the lead.
const TRANSFER_EVERY: Duration = Duration::from_secs(30);
/// How often the log is told of steps that do not succeed.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// Where a shard is used is judged by the last minutes.
const DEMAND_HALVED_AFTER: Duration = Duration::from_secs(5 * 60);
/// How long a node may take to store the master keys.
const KEYS_MAX: Duration = Duration::from_secs(10);

/// What is remembered of one shard between two looks.
#[derive(Default)]
struct Memory {
    /// Since when a member has not answered.
    silent: BTreeMap<u64, Instant>,
    /// When the lead was to be handed on last.
    transfer: Option<Instant>,
    /// When the log was told of trouble last.
    told: Option<Instant>,
    /// Calls by the node that they came by, of which half are forgotten in [`DEMAND_HALVED_AFTER`].
    demand: BTreeMap<u64, f64>,
    /// Since when this node leads, as far as is remembered.
    leads_since: Option<Instant>,
    /// It led the shard already when nobody else could.
    founded: bool,
}

impl Memory {
    /// What came since the last look.
    fn count(&mut self, came: BTreeMap<u64, u64>) {
        let kept = 0.5_f64.powf(LOOK_EVERY.as_secs_f64() / DEMAND_HALVED_AFTER.as_secs_f64());
        for calls in self.demand.values_mut() {
            *calls *= kept;
        }
        for (number, calls) in came {
            *self.demand.entry(number).or_default() += calls as f64;
        }
        self.demand.retain(|_, calls| *calls >= 0.5);
    }
}

/// Who keeps blocks in the newest applied layout, and how many copies there are of each.
pub(crate) struct Keepers {
    keys: BTreeSet<NodeKey>,
    copies: usize,
}

impl From<&Layout> for Keepers {
    fn from(layout: &Layout) -> Self {
        let newest = layout.newest();
        let keeping = newest.roles.iter().filter(|role| role.capacity_bytes > 0);
        Self {
            keys: keeping.map(|role| role.key).collect(),
            copies: newest.copies.into(),
        }
    }
}

impl From<&Placed> for Keepers {
    fn from(placed: &Placed) -> Self {
        let keeping = placed.holders.iter().filter(|holder| holder.stays);
        Self {
            keys: keeping.map(|holder| holder.key).collect(),
            copies: placed.copies.into(),
        }
    }
}

/// Who may vote, and how many should.
pub(crate) struct Wanted {
    nodes: Vec<Node>,
    copies: Option<usize>,
}

impl Wanted {
    /// Who keeps blocks votes, as many as there are copies of a block; before there is a layout, everybody with capacity.
    /// Of nodes that shall be removed nothing depends then any more, and they may leave.
    pub(crate) fn of(roster: &Roster, keepers: Option<&Keepers>, copies: Option<usize>) -> Self {
        let node = |node: &NodeEntry| {
            let stores = node.capacity_bytes > 0;
            let keeps = keepers.is_none_or(|keepers| keepers.keys.contains(&node.key));
            Node {
                number: number_of(&node.key),
                zone: node.zone.clone(),
                stores,
                votes: stores && keeps,
            }
        };
        Self {
            nodes: roster.members().map(node).collect(),
            copies: copies.or(keepers.map(|keepers| keepers.copies)),
        }
    }

    /// How many voters each shard is to have.
    pub(crate) fn count(&self) -> usize {
        voters::wanted_count(&self.nodes, self.copies)
    }
}

/// What is the same for all shards at one look.
struct Plan {
    roster: Roster,
    wanted: Wanted,
    /// See [`Situation::away`].
    away: BTreeSet<u64>,
}

/// The one of this node.
pub(crate) struct Executor {
    pub(crate) service: Rc<Service>,
    pub(crate) copies: Option<usize>,
}

impl Executor {
    /// For as long as the service lives, and somebody may tell of a roster.
    pub(crate) async fn run(self) {
        let mut roster = self.service.proposer.roster().clone();
        // Nobody to be told of: a node without a cluster.
        if roster.wait_for(Option::is_some).await.is_err() {
            return;
        }
        let groups = self.service.proposer.groups();
        let mut memories: Vec<Memory> = groups.iter().map(|_| Memory::default()).collect();
        loop {
            let known = roster.borrow_and_update().clone();
            if let Some(known) = known.filter(|_| !self.is_alone()) {
                // Under the lease, because then the roster is the newest: an old one would take the vote from a newcomer again.
                if self.service.rights.hold() {
                    self.look(known, &mut memories).await;
                }
            } else if roster.changed().await.is_err() {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self, roster: Roster, memories: &mut [Memory]) {
        let groups = self.service.proposer.groups();
        if !groups.iter().any(|group| group.leads()) {
            memories.fill_with(Memory::default);
            return;
        }
        let plan = Plan {
            wanted: self.wanted(&roster),
            away: self.away(),
            roster,
        };
        let looks = groups.iter().zip(memories);
        let looks = looks.map(|(group, memory)| self.look_at(group, &plan, memory));
        futures_util::future::join_all(looks).await;
    }

    fn wanted(&self, roster: &Roster) -> Wanted {
        let layout = state::layout(self.service.proposer.registry().rows());
        let layout = layout.unwrap_or_else(|error| {
            runtime::error!("reading the layout: {error}");
            None
        });
        let keepers = layout.as_ref().map(Keepers::from);
        Wanted::of(roster, keepers.as_ref(), self.copies)
    }

    /// Whether there is nobody to share anything with.
    fn is_alone(&self) -> bool {
        let proposer = &self.service.proposer;
        proposer.is_alone() && proposer.others().is_empty()
    }

    async fn look_at(&self, group: &Rc<Group>, plan: &Plan, memory: &mut Memory) {
        let Some(mut members) = group.members() else {
            if !group.leads() {
                *memory = Memory::default();
            }
            return;
        };
        excuse(&mut members, memory);
        memory.count(group.take_demand());
        let leads_since = *memory.leads_since.get_or_insert_with(Instant::now);
        memory.founded |= members.voters.iter().map(BTreeSet::len).eq([1]);
        let rounded = |(number, calls): (&u64, &f64)| (*number, calls.round() as u64);
        let demand = memory.demand.iter().map(rounded).collect();
        let situation = Situation {
            shard: group.number(),
            leader: self.service.proposer.store().number(),
            nodes: &plan.wanted.nodes,
            copies: plan.wanted.copies,
            members: &members,
            away: &plan.away,
            demand: &demand,
            // Who has just been given the lead has not heard from where it is used.
            judged: memory.founded || leads_since.elapsed() >= DEMAND_HALVED_AFTER,
        };
        let Some(step) = voters::next(&situation) else {
            return;
        };
        match self.take(group, &plan.roster, &step, memory).await {
            Ok(()) | Err(Error::NotLeader { .. }) => {}
            Err(error) => {
                if memory.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
                    let number = group.number();
                    runtime::warn!("shard {number}: {step:?}: {error}; tried again");
                    memory.told = Some(Instant::now());
                }
            }
        }
    }

    /// Who is not to lead, as far as this node knows: who is being drained or about to restart, and who could take no write, since its disk is full.
    fn away(&self) -> BTreeSet<u64> {
        let proposer = &self.service.proposer;
        let kept = state::schedule(proposer.registry().rows());
        let keys = kept.map_or_else(|_| BTreeSet::new(), |kept| kept.away());
        let mut away = self.service.health.full();
        if self.service.space.is_full() {
            away.insert(proposer.store().number());
        }
        away.extend(keys.iter().map(number_of));
        away
    }

    async fn take(
        &self,
        group: &Group,
        roster: &Roster,
        step: &Step,
        memory: &mut Memory,
    ) -> Result<(), Error> {
        let shard = group.number();
        match step {
            Step::AddLearner(number) => {
                let name = name_of(roster, *number)?;
                self.send_keys(&name).await?;
                if shard == 0 {
                    self.service.rights.reinstate(*number);
                }
                group
                    .add_learner(*number, Peer { name: name.clone() })
                    .await?;
                runtime::info!("shard {shard}: node {name} gets its rows");
            }
            Step::RemoveLearner(number) => {
                if shard == 0 && !self.service.rights.retire(*number) {
                    // Its lease runs for some seconds yet.
                    return Ok(());
                }
                group.remove_learner(*number).await?;
            }
            Step::SetVoters(voters) => {
                group.set_voters(voters.clone()).await?;
                let names = named(group, voters);
                runtime::info!("shard {shard}: the voters are {}", names.join(", "));
            }
            Step::Transfer(number) => {
                let due = memory
                    .transfer
                    .is_none_or(|last| last.elapsed() >= TRANSFER_EVERY);
                if due {
                    memory.transfer = Some(Instant::now());
                    group.transfer(*number).await?;
                }
            }
        }
        Ok(())
    }

    /// Before a node gets rows, it gets the keys by which it will have to read them.
    async fn send_keys(&self, name: &str) -> Result<(), Error> {
        let call = PeersCall::TakeKeys(self.service.keyring.lines());
        match self
            .service
            .proposer
            .ways()
            .call(name, &call, KEYS_MAX)
            .await
        {
            Ok(PeersAnswer::Done) => Ok(()),
            Ok(PeersAnswer::Refused(why)) => Err(Error::Raft(format!("node {name}: {why}"))),
            Ok(_) => Err(Error::Raft(format!(
                "node {name}: another answer than was asked for"
            ))),
            Err(error) => Err(Error::Raft(error.to_string())),
        }
    }
}

/// Judges by how long a member has been silent: a new learner cannot have answered yet, and a voter may be about to come back.
fn excuse(members: &mut Members, memory: &mut Memory) {
    let voters = members.voters.iter().flatten();
    let all: BTreeSet<u64> = voters.chain(&members.learners).copied().collect();
    let silent = |number: &u64| all.contains(number) && !members.reachable.contains(number);
    memory.silent.retain(|number, _| silent(number));
    for number in all.difference(&members.reachable) {
        memory.silent.entry(*number).or_insert_with(Instant::now);
    }
    let new = memory
        .silent
        .iter()
        .filter(|(number, since)| members.learners.contains(number) && since.elapsed() < EXCUSED);
    let new: Vec<u64> = new.map(|(number, _)| *number).collect();
    members.reachable.extend(new);
    members.given_up = memory
        .silent
        .iter()
        .filter(|(_, since)| since.elapsed() >= GIVEN_UP_AFTER)
        .map(|(number, _)| *number)
        .collect();
}

fn name_of(roster: &Roster, number: u64) -> Result<String, Error> {
    let mut members = roster.members();
    let node = members.find(|node| number_of(&node.key) == number);
    node.map(|node| node.name.clone())
        .ok_or(Error::Damaged("roster: a node that is not in it"))
}

fn named(group: &Group, numbers: &BTreeSet<u64>) -> Vec<String> {
    let peers = group.peers();
    let name = |number: &u64| match peers.get(number) {
        Some(peer) => peer.name.clone(),
        None => number.to_string(),
    };
    numbers.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Arrangement;
    use protocol::cluster::{ClusterId, GossipKey, Standing};
    use protocol::metadata::Role;

    #[test]
    fn who_keeps_blocks_votes_and_before_there_is_a_layout_everybody_with_capacity() {
        let entry = |number: u8, capacity_bytes| NodeEntry {
            key: NodeKey([number; 32]),
            gossip_key: GossipKey([number; 32]),
            name: format!("n{number}"),
            zone: "z".into(),
            capacity_bytes,
            mesh: String::new(),
            gossip: String::new(),
            standing: Standing::Member,
        };
        let roster = Roster {
            cluster: ClusterId([1; 16]),
            version: 1,
            nodes: vec![entry(1, 5), entry(2, 5), entry(3, 0)],
        };
        let role = |number: u8| Role {
            key: NodeKey([number; 32]),
            zone: "z".into(),
            capacity_bytes: 5,
        };
        let layout = |numbers: &[u8]| Layout {
            version: 1,
            placed: 1,
            present: Arrangement {
                copies: 2,
                roles: numbers.iter().map(|number| role(*number)).collect(),
                partitions: Vec::new(),
            },
            moving: None,
            staged_roles: Vec::new(),
            staged_copies: None,
        };
        let check = |layout: Option<Layout>, votes: [bool; 3], copies: Option<usize>| {
            let keepers = layout.as_ref().map(Keepers::from);
            let wanted = Wanted::of(&roster, keepers.as_ref(), None);
            let told = layout.as_ref().map(crate::health::placed);
            let told = told.as_ref().map(Keepers::from);
            let told = Wanted::of(&roster, told.as_ref(), None);
            assert_eq!((&told.nodes, told.copies), (&wanted.nodes, wanted.copies));
            let found: Vec<bool> = wanted.nodes.iter().map(|node| node.votes).collect();
            assert_eq!((found, wanted.copies), (votes.to_vec(), copies));
            let stores: Vec<bool> = wanted.nodes.iter().map(|node| node.stores).collect();
            assert_eq!(stores, [true, true, false], "of the registry");
        };
        check(None, [true, true, false], None);
        check(Some(layout(&[2])), [false, true, false], Some(2));
        check(Some(layout(&[1, 2, 3])), [true, true, false], Some(2));
    }
}
