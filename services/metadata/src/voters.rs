//! Who is to have a vote in which shard: the next one safe step, from what is to where it should be. Pure.
//!
//! Where it should be: as many voters as copies are wanted, each in a zone of its own as long as there are enough zones, never a gateway; of the present
//! voters as many as may stay; of those in reach rather than of those that are not. How it gets there: whoever is to have a vote is a learner until
//! its log is as good as the leader's, and then all voters are changed at once by joint consensus, if of the old and of the new ones a
//! majority is in reach. Then the lead goes to where
//! the shard is used. The leader of each shard asks for itself; two leaders never decide about the same shard.

use crate::raft::Members;
use std::collections::{BTreeMap, BTreeSet};

/// A node that belongs to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its number in every group.
    pub number: u64,
    /// Where it stands.
    pub zone: String,
    /// It has capacity, and so gets the registry; a gateway has none.
    pub stores: bool,
    /// It may have a vote: of those with capacity, who has a place in the layout.
    pub votes: bool,
}

/// What the leader of a shard knows.
#[derive(Debug, Clone)]
pub struct Situation<'a> {
    /// Which shard.
    pub shard: u16,
    /// The leader.
    pub leader: u64,
    /// All that belong.
    pub nodes: &'a [Node],
    /// How many voters are wanted; `None`: [`copies_by_default`].
    pub copies: Option<usize>,
    /// Of this shard.
    pub members: &'a Members,
    /// Who is not to lead, if somebody else can: it is being drained, or about to restart, or its disk is full.
    pub away: &'a BTreeSet<u64>,
    /// How many calls for this shard came lately by way of each node, by its number.
    pub demand: &'a BTreeMap<u64, u64>,
    /// The leader has led long enough to know of the demand, or always.
    pub judged: bool,
}

/// Fewer calls than this do not move the lead …
const DEMAND_MIN: u64 = 30;
/// … and fewer than this do not hold it.
const HOLDING_MIN: u64 = DEMAND_MIN / 4;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Sends a node the log.
    AddLearner(u64),
    /// Sends it to a node no more.
    RemoveLearner(u64),
    /// Makes these the voters.
    SetVoters(BTreeSet<u64>),
    /// Asks another voter to lead.
    Transfer(u64),
}

/// Three, or one in each zone that has capacity.
pub fn copies_by_default(nodes: &[Node]) -> usize {
    const USUAL: usize = 3;
    let zones: BTreeSet<&str> = voting(nodes).map(|node| node.zone.as_str()).collect();
    zones.len().clamp(1, USUAL)
}

/// How many voters each shard is to have of these nodes.
pub fn wanted_count(nodes: &[Node], copies: Option<usize>) -> usize {
    let copies = copies.unwrap_or_else(|| copies_by_default(nodes));
    copies.min(voting(nodes).count()).max(1)
}

/// The next step; `None` if nothing is to be done, or nothing can be done safely now.
pub fn next(situation: &Situation<'_>) -> Option<Step> {
    let Members {
        voters,
        learners,
        reachable,
        caught_up,
        ..
    } = situation.members;
    let [voters] = voters.as_slice() else {
        // A change was cut off half-way, when its leader lost the lead: it is finished first.
        let last = voters.last()?;
        return Some(Step::SetVoters(last.clone()));
    };
    let wanted = wanted(situation, voters);
    if wanted != *voters {
        let missing = wanted.iter().find(|number| {
            reachable_or_unknown(situation, **number)
                && !voters.contains(number)
                && !learners.contains(number)
        });
        if let Some(number) = missing {
            return Some(Step::AddLearner(*number));
        }
        let ready = |number: &u64| voters.contains(number) || caught_up.contains(number);
        // Those that are not ready yet are left out if the others are better than what is, and else waited for.
        let now: BTreeSet<u64> = wanted.iter().copied().filter(ready).collect();
        if let Some(step) = set(voters, &wanted, &now, reachable) {
            return Some(step);
        }
        if let Some(step) = without_strangers(situation, voters) {
            return Some(step);
        }
    }
    let keeps = |number: u64| {
        // Every node that stores keeps the registry, to answer by it under a lease.
        let everywhere = situation.shard == 0 && storing_number(situation.nodes, number);
        everywhere || wanted.contains(&number)
    };
    if let Some(number) = learners.iter().find(|number| !keeps(**number)) {
        return Some(Step::RemoveLearner(*number));
    }
    let absent = |node: &&Node| {
        keeps(node.number) && !voters.contains(&node.number) && !learners.contains(&node.number)
    };
    if let Some(node) = situation.nodes.iter().find(absent) {
        return Some(Step::AddLearner(node.number));
    }
    if wanted == *voters {
        return transfer(situation, voters);
    }
    None
}

/// All at once, if all are ready; one less at least, if a majority is not lost by it.
fn set(
    voters: &BTreeSet<u64>,
    wanted: &BTreeSet<u64>,
    now: &BTreeSet<u64>,
    reachable: &BTreeSet<u64>,
) -> Option<Step> {
    let complete = now == wanted;
    let grows = now.is_superset(voters) && now.len() > voters.len() && now.len() % 2 == 1;
    let changed = now != voters && (complete || grows);
    (changed && has_majority(voters, reachable) && has_majority(now, reachable))
        .then(|| Step::SetVoters(now.clone()))
}

/// Takes the vote from nodes that do not belong any more, before others are ready to take their place: they do not answer, so they are only
/// counted against the rest.
fn without_strangers(situation: &Situation<'_>, voters: &BTreeSet<u64>) -> Option<Step> {
    let belongs = |number: &&u64| situation.nodes.iter().any(|node| node.number == **number);
    let rest: BTreeSet<u64> = voters.iter().filter(belongs).copied().collect();
    let reachable = &situation.members.reachable;
    let safe =
        !rest.is_empty() && has_majority(voters, reachable) && has_majority(&rest, reachable);
    (rest != *voters && safe).then_some(Step::SetVoters(rest))
}

/// Whether of `voters` a majority is in reach.
fn has_majority(voters: &BTreeSet<u64>, reachable: &BTreeSet<u64>) -> bool {
    voters.intersection(reachable).count() > voters.len() / 2
}

/// Who should have a vote.
fn wanted(situation: &Situation<'_>, voters: &BTreeSet<u64>) -> BTreeSet<u64> {
    let Situation { shard, nodes, .. } = situation;
    let copies = situation.copies.unwrap_or_else(|| copies_by_default(nodes));
    let mut zones: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for node in voting(nodes) {
        zones.entry(&node.zone).or_default().push(node.number);
    }
    if zones.is_empty() {
        // Nobody can take over: who has the rows keeps them.
        return voters.clone();
    }
    for numbers in zones.values_mut() {
        numbers.sort_unstable();
        let turn = usize::from(*shard) % numbers.len();
        numbers.rotate_left(turn);
        // Stable: of equals, the one whose turn it is in this shard.
        numbers.sort_by_key(|number| worth(situation, voters, *number));
    }
    let mut by_worth: Vec<Vec<u64>> = zones.into_values().collect();
    let turn = usize::from(*shard) % by_worth.len();
    by_worth.rotate_left(turn);
    let mut chosen = BTreeSet::new();
    // In rounds: a second one in a zone only where every zone has one.
    while chosen.len() < copies {
        by_worth.retain(|zone| !zone.is_empty());
        if by_worth.is_empty() {
            break;
        }
        by_worth.sort_by_key(|zone| zone.first().map(|number| worth(situation, voters, *number)));
        for zone in &mut by_worth {
            if chosen.len() < copies {
                chosen.insert(zone.remove(0));
            }
        }
    }
    chosen
}

/// The smaller, the rather it has a vote: it has one, and is not given up; it is in reach; it has one.
fn worth(situation: &Situation<'_>, voters: &BTreeSet<u64>, number: u64) -> u8 {
    let is_voter = voters.contains(&number);
    let answers = match is_voter {
        true => !situation.members.given_up.contains(&number),
        false => reachable_or_unknown(situation, number),
    };
    match (is_voter, answers) {
        (true, true) => 0,
        (false, true) => 1,
        (true, false) => 2,
        (false, false) => 3,
    }
}

/// A node that is not a member yet is only found out to be out of reach when it is one.
fn reachable_or_unknown(situation: &Situation<'_>, number: u64) -> bool {
    let members = situation.members;
    let is_member = members.learners.contains(&number)
        || members.voters.iter().any(|voters| voters.contains(&number));
    !is_member || members.reachable.contains(&number)
}

/// Where most calls come from, if that is clear, and else the lead goes round: each voter leads as many shards as the others that have the same voters.
fn transfer(situation: &Situation<'_>, voters: &BTreeSet<u64>) -> Option<Step> {
    let Members {
        reachable,
        caught_up,
        ..
    } = situation.members;
    let turn = usize::from(situation.shard).checked_rem(voters.len())?;
    let in_turn = voters.iter().cycle().skip(turn).take(voters.len());
    let able: Vec<u64> = in_turn
        .filter(|number| reachable.contains(number) && caught_up.contains(number))
        .copied()
        .collect();
    // Those that are away only if all are.
    let (away, present): (Vec<u64>, Vec<u64>) = able
        .into_iter()
        .partition(|number| situation.away.contains(number));
    let able = if present.is_empty() { away } else { present };
    let leader = match pull(situation, &able) {
        Pull::Towards(number) => number,
        Pull::Stay if able.contains(&situation.leader) => return None,
        Pull::None if !situation.judged && able.contains(&situation.leader) => return None,
        Pull::Stay | Pull::None => *able.first()?,
    };
    (leader != situation.leader).then_some(Step::Transfer(leader))
}

/// What the calls of late say about where the leader should be.
enum Pull {
    /// Nothing.
    None,
    /// Where it is.
    Stay,
    /// There.
    Towards(u64),
}

/// Two thirds of the calls pull the lead into their zone, and a third holds it there: between the two nothing moves, so that it does not go to and fro.
fn pull(situation: &Situation<'_>, able: &[u64]) -> Pull {
    let zone_of = |number: u64| {
        let node = situation.nodes.iter().find(|node| node.number == number);
        node.map(|node| node.zone.as_str())
    };
    let mut zones: BTreeMap<&str, u64> = BTreeMap::new();
    for (number, calls) in situation.demand {
        if let Some(zone) = zone_of(*number) {
            *zones.entry(zone).or_default() += calls;
        }
    }
    let all: u64 = zones.values().sum();
    if all < HOLDING_MIN {
        return Pull::None;
    }
    let here = zone_of(situation.leader);
    let clear = zones
        .iter()
        .find(|(zone, calls)| *calls * 3 >= all * 2 && Some(**zone) != here)
        .filter(|_| all >= DEMAND_MIN);
    if let Some((zone, _)) = clear
        && let Some(number) = able.iter().find(|number| zone_of(**number) == Some(zone))
    {
        return Pull::Towards(*number);
    }
    let calls_here = here.and_then(|here| zones.get(here)).copied();
    match calls_here.unwrap_or(0) * 3 >= all {
        true => Pull::Stay,
        false => Pull::None,
    }
}

fn voting(nodes: &[Node]) -> impl Iterator<Item = &Node> {
    nodes.iter().filter(|node| node.stores && node.votes)
}

fn storing_number(nodes: &[Node], number: u64) -> bool {
    nodes
        .iter()
        .any(|node| node.stores && node.number == number)
}

#[cfg(test)]
mod tests;
