//! Carries out what `voters` plans: the leader of each shard makes nodes members, voters and leaders, one step at a time.
//!
//! If the process dies in the middle of a step, or loses the lead, whoever leads next finds what came of it and goes on from there.

use crate::Error;
use crate::raft::{Group, Members, Peer, number_of};
use crate::service::Service;
use crate::state;
use crate::voters::{self, Node, Situation, Step};
use protocol::cluster::Roster;
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
            if let Some(known) = known.filter(|known| !self.is_alone_in(known)) {
                // Under the lease, because then the roster is the newest: an old one would take the vote from a newcomer again.
                if self.service.rights.hold() {
                    let groups = self.service.proposer.groups().iter();
                    let looks = groups.zip(&mut memories);
                    let looks = looks.map(|(group, memory)| self.look(group, &known, memory));
                    futures_util::future::join_all(looks).await;
                }
            } else if roster.changed().await.is_err() {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether there is nobody to share anything with.
    fn is_alone_in(&self, roster: &Roster) -> bool {
        let own = self.service.proposer.store().number();
        self.service.proposer.is_alone() && roster.members().all(|node| number_of(&node.key) == own)
    }

    async fn look(&self, group: &Rc<Group>, roster: &Roster, memory: &mut Memory) {
        let Some(mut members) = group.members() else {
            if !group.leads() {
                *memory = Memory::default();
            }
            return;
        };
        excuse(&mut members, memory);
        let nodes: Vec<Node> = roster
            .members()
            .map(|node| Node {
                number: number_of(&node.key),
                zone: node.zone.clone(),
                stores: node.capacity_bytes > 0,
            })
            .collect();
        let situation = Situation {
            shard: group.number(),
            leader: self.service.proposer.store().number(),
            nodes: &nodes,
            copies: self.copies,
            members: &members,
            away: &self.away(),
        };
        let Some(step) = voters::next(&situation) else {
            return;
        };
        match self.take(group, roster, &step, memory).await {
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

    /// Who is not to lead, as far as this node knows.
    fn away(&self) -> BTreeSet<u64> {
        let kept = state::schedule(self.service.proposer.registry().rows());
        let keys = kept.map_or_else(|_| BTreeSet::new(), |kept| kept.away());
        keys.iter().map(number_of).collect()
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
