//! How the cluster is: this node's own part, what the others say of theirs, and what follows from comparing them. Facts only; what they mean
//! for people is the console's to say.
//!
//! Nobody is waited for longer than [`ASK_WITHIN`]. What a node said last is remembered, so that one that is out of reach is shown as it was. Where the tallies
//! of blocks differ for long, this node's block-store is told to look: a disk that was replaced is filled again.

use crate::block_store;
use crate::members::{Keepers, Wanted};
use crate::proposer::Proposer;
use crate::raft::{Group, Members, number_of};
use crate::state;
use crate::sweep::Sweep;
use futures_util::future::join_all;
use protocol::block::{BlockAnswer, BlockCall, Blocks, Usage};
use protocol::cluster::{NODE_NAME_BYTES_MAX, NODES_MAX, NodeKey, Roster};
use protocol::copies::PARTITIONS;
use protocol::health::{
    Health, Holder, Inventory, Layout, NodeHealth, NodeReport, Placed, Received, Said, ShardHealth,
    ShardReport, Tally,
};
use protocol::metadata::HEALTH_WITHIN_MS;
use protocol::peers::{PeersAnswer, PeersCall};
use runtime::{Bus, Link};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

#[cfg(test)]
mod tests;

/// How long another node may take.
const ASK_WITHIN: Duration = Duration::from_millis(HEALTH_WITHIN_MS);
/// How long this node's own block-store may take: less, so that an asker hears at least the rest.
const BLOCKS_WITHIN: Duration = Duration::from_millis(HEALTH_WITHIN_MS / 2);
/// Of why a block-store says nothing, in bytes.
const REASON_BYTES_MAX: usize = 1_024;
/// How often the others are asked without anybody wanting to know.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Who looks.
pub(crate) struct Watch {
    proposer: Rc<Proposer>,
    blocks: Link<Blocks>,
    sweep: Rc<Sweep>,
    bus: Bus,
    /// As in [`crate::Company::copies`].
    copies: Option<usize>,
    /// What each node said last, as of then.
    known: RefCell<BTreeMap<NodeKey, (Instant, Said)>>,
    /// Another node lacked blocks of this one at the last look.
    uneven: Cell<bool>,
}

impl Watch {
    pub(crate) fn new(
        proposer: Rc<Proposer>,
        blocks: Link<Blocks>,
        sweep: Rc<Sweep>,
        bus: Bus,
        copies: Option<usize>,
    ) -> Self {
        Self {
            proposer,
            blocks,
            sweep,
            bus,
            copies,
            known: RefCell::default(),
            uneven: Cell::new(false),
        }
    }

    /// Asks the others now and then, for as long as the service lives.
    pub(crate) async fn tend(&self) {
        loop {
            sleep(LOOK_EVERY).await;
            if self.proposer.is_alone() {
                continue;
            }
            let health = self.of_all().await;
            let own = self.proposer.store().number();
            let uneven = health.nodes.iter().any(|node| {
                node.number != own && node.silent.is_none() && node.lacking_blocks > Some(0)
            });
            // Twice, because copies that are being made are no reason.
            if self.uneven.replace(uneven) && uneven {
                let _ = timeout(BLOCKS_WITHIN, self.blocks.repeat(&BlockCall::Audit)).await;
            }
        }
    }

    /// The other nodes whose disk was full when they said last how they are.
    pub(crate) fn full(&self) -> BTreeSet<u64> {
        let own = self.proposer.store().number();
        let known = self.known.borrow();
        let is_full = |said: &Said| matches!(&said.usage, Ok(usage) if usage.free_bytes == 0);
        let full = known.iter().filter(|(_, (_, said))| is_full(said));
        let full = full.map(|(key, _)| number_of(key));
        full.filter(|number| *number != own).collect()
    }

    /// Whether another node could lead a shard in the place of this one, whose disk is full. Also where that is not known for a moment, because the lead or the
    /// members are just changing.
    pub(crate) fn is_room_elsewhere(&self, group: &Group) -> bool {
        let own = self.proposer.store().number();
        group
            .members()
            .is_none_or(|members| has_heir(&members, own, &self.full()))
    }

    /// See [`PeersCall::Health`].
    pub(crate) async fn own(&self, with_layout: bool) -> NodeHealth {
        let blocks = match timeout(BLOCKS_WITHIN, self.ask_blocks()).await {
            Ok(answered) => answered,
            Err(_) => Err("its block-store does not answer".into()),
        };
        let groups = self.proposer.groups().iter();
        NodeHealth {
            blocks,
            shards: groups.map(|group| group.health()).collect(),
            sealing: self.bus.sealing(),
            older_disk: self.sweep.is_on_older_disk(),
            layout: with_layout.then(|| self.placed()).flatten(),
        }
    }

    async fn ask_blocks(&self) -> Result<(Usage, Inventory), String> {
        let usage = block_store::usage(&self.blocks).await?;
        match block_store::ask(&self.blocks, &BlockCall::Inventory).await? {
            BlockAnswer::Inventory(inventory) => Ok((usage, inventory)),
            _ => Err(block_store::OTHER.into()),
        }
    }

    /// Where blocks belong, as this node has applied it.
    fn placed(&self) -> Option<Placed> {
        let layout = state::layout(self.proposer.registry().rows());
        layout.ok().flatten().map(|layout| placed(&layout))
    }

    /// See [`protocol::metadata::Operation::Health`].
    pub(crate) async fn of_all(&self) -> Health {
        let rows = self.proposer.registry().rows();
        let applied = state::roster(rows).ok().flatten();
        let roster = applied.or_else(|| self.proposer.roster().borrow().clone());
        let own = self.proposer.store().number();
        let mut keys: BTreeMap<NodeKey, Option<String>> = BTreeMap::new();
        for node in roster.iter().flat_map(Roster::members) {
            keys.insert(node.key, Some(node.name.clone()));
        }
        let layout = self.placed();
        let with_layout = layout.is_none();
        let asked = keys.iter().filter_map(|(key, name)| {
            let name = name.clone().filter(|_| number_of(key) != own)?;
            Some(async move { (*key, self.ask(&name, with_layout).await) })
        });
        let (mine, others) = tokio::join!(self.own(false), join_all(asked));
        let mut answers: BTreeMap<NodeKey, Result<NodeHealth, String>> =
            others.into_iter().collect();
        if let Some(key) = keys.keys().find(|key| number_of(key) == own) {
            answers.insert(*key, Ok(mine));
        }
        let layout = layout.or_else(|| {
            let mut said = answers.values().flatten();
            said.find_map(|health| health.layout.clone())
        });
        for holder in layout.iter().flat_map(|layout| &layout.holders) {
            keys.entry(holder.key).or_insert(None);
        }
        self.remember(&answers, &keys);
        let wanted = wanted_voters(roster.as_ref(), layout.as_ref(), self.copies);
        self.put_together(roster, layout, &keys, &answers, wanted)
    }

    async fn ask(&self, name: &str, layout: bool) -> Result<NodeHealth, String> {
        let call = PeersCall::Health { layout };
        match self.proposer.ways().call(name, &call, ASK_WITHIN).await {
            Ok(PeersAnswer::Health(health)) => {
                match is_bounded(&health, self.proposer.groups().len()) {
                    true => Ok(health),
                    false => Err("its answer breaks its bounds".into()),
                }
            }
            Ok(PeersAnswer::Refused(why)) => Err(why),
            Ok(_) => Err("another answer than was asked for".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn remember(
        &self,
        answers: &BTreeMap<NodeKey, Result<NodeHealth, String>>,
        keys: &BTreeMap<NodeKey, Option<String>>,
    ) {
        let mut known = self.known.borrow_mut();
        known.retain(|key, _| keys.contains_key(key));
        for (key, answer) in answers {
            if let Ok(health) = answer {
                known.insert(*key, (Instant::now(), said_now(health)));
            }
        }
    }

    fn put_together(
        &self,
        roster: Option<Roster>,
        layout: Option<Placed>,
        keys: &BTreeMap<NodeKey, Option<String>>,
        answers: &BTreeMap<NodeKey, Result<NodeHealth, String>>,
        wanted_voters: u8,
    ) -> Health {
        let inventory = |key: &NodeKey| match answers.get(key) {
            Some(Ok(health)) => health.blocks.as_ref().ok().map(|(_, inventory)| inventory),
            _ => None,
        };
        let compared = layout.map(|placed| {
            let tallies = placed.holders.iter();
            let tallies: Vec<&[Tally]> = tallies
                .map(|holder| inventory(&holder.key).map_or(&[][..], |one| &one.tallies))
                .collect();
            let compared = compare(&placed, &tallies);
            (placed, compared)
        });
        let received: Vec<Received> = keys
            .keys()
            .filter_map(inventory)
            .map(|one| one.received)
            .collect();
        let nodes = keys.keys().map(|key| {
            let place = compared.as_ref().and_then(|(placed, compared)| {
                let mut holders = placed.holders.iter();
                let place = holders.position(|holder| holder.key == *key)?;
                compared.lacking.get(place).copied()
            });
            let lacking_blocks = place.flatten();
            NodeReport {
                key: *key,
                number: number_of(key),
                said: self.said(key),
                silent: match answers.get(key) {
                    Some(Ok(_)) => None,
                    Some(Err(why)) => Some(why.clone()),
                    None => Some("it does not belong any more".into()),
                },
                lacking_blocks,
                lacking_bytes: lacking_blocks.and_then(|blocks| bytes_of(blocks, &received)),
            }
        });
        let nodes = nodes.collect();
        let parts = answers.iter().filter_map(|(key, answer)| {
            let health = answer.as_ref().ok()?;
            Some((number_of(key), health.shards.as_slice()))
        });
        Health {
            roster,
            nodes,
            shards: shards(&parts.collect::<Vec<_>>(), wanted_voters),
            layout: compared.map(|(placed, compared)| Layout {
                placed,
                complete: compared.complete,
            }),
        }
    }

    fn said(&self, key: &NodeKey) -> Option<Said> {
        let known = self.known.borrow();
        let (at, said) = known.get(key)?;
        Some(Said {
            ago_ms: u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX),
            ..said.clone()
        })
    }
}

/// What is shown of what a node says now.
fn said_now(health: &NodeHealth) -> Said {
    let inventory = health.blocks.as_ref().map(|(_, inventory)| inventory);
    Said {
        ago_ms: 0,
        usage: match &health.blocks {
            Ok((usage, _)) => Ok(*usage),
            Err(why) => Err(why.clone()),
        },
        received: inventory.map_or_else(|_| Received::default(), |one| one.received),
        scrubbed_ms: inventory.map_or(0, |one| one.scrubbed_ms),
        sealing: health.sealing,
        older_disk: health.older_disk,
    }
}

/// Whether a voter besides `own` can take the lead at once, and has room on its disk.
fn has_heir(members: &Members, own: u64, full: &BTreeSet<u64>) -> bool {
    let mut voters = members.voters.iter().flatten();
    voters.any(|number| {
        *number != own && members.caught_up.contains(number) && !full.contains(number)
    })
}

/// How many voters each shard should have, as [`crate::members`] sees it, also on a node that has no rows.
fn wanted_voters(roster: Option<&Roster>, layout: Option<&Placed>, copies: Option<usize>) -> u8 {
    let keepers = layout.map(Keepers::from);
    let wanted = roster.map(|roster| Wanted::of(roster, keepers.as_ref(), copies));
    let count = wanted.map_or(1, |wanted| wanted.count());
    u8::try_from(count).unwrap_or(u8::MAX)
}

/// About how many bytes so many blocks have, by those that were copied.
fn bytes_of(blocks: u64, received: &[Received]) -> Option<u64> {
    let sum = |of: fn(&Received) -> u64| received.iter().map(of).fold(0, u64::saturating_add);
    let (count, bytes) = (sum(|one| one.blocks), sum(|one| one.bytes));
    let all = u128::from(blocks) * u128::from(bytes);
    let about = all.checked_div(u128::from(count))?;
    Some(u64::try_from(about).unwrap_or(u64::MAX))
}

/// Whether another node keeps to what can be: what it says is kept, and shown to people.
fn is_bounded(health: &NodeHealth, shards: usize) -> bool {
    let of_nodes = |numbers: &Vec<u64>| numbers.len() <= NODES_MAX;
    let blocks = match &health.blocks {
        Ok((_, inventory)) => [0, PARTITIONS].contains(&inventory.tallies.len()),
        Err(why) => why.len() <= REASON_BYTES_MAX,
    };
    let layout = health.layout.iter().all(|layout| {
        let known = |nodes: &Vec<u8>| {
            let node = |node: &u8| usize::from(*node) < layout.holders.len();
            nodes.len() <= NODES_MAX && nodes.iter().all(node)
        };
        layout.partitions.len() == PARTITIONS
            && layout.partitions.iter().all(known)
            && layout.holders.len() <= NODES_MAX
            && layout
                .holders
                .iter()
                .all(|holder| holder.zone.len() <= NODE_NAME_BYTES_MAX)
    });
    blocks
        && layout
        && health.shards.len() <= shards
        && health
            .shards
            .iter()
            .all(|one| of_nodes(&one.voters) && one.current.iter().all(of_nodes))
}

/// The applied layout with the nodes of each partition, present and to be.
pub(crate) fn placed(layout: &state::Layout) -> Placed {
    let newest = layout.newest();
    let mut holders: Vec<Holder> = Vec::new();
    for role in layout.arrangements().flat_map(|one| &one.roles) {
        if !holders.iter().any(|holder| holder.key == role.key) {
            let newer = newest.roles.iter().find(|one| one.key == role.key);
            let zone = newer.map_or(&role.zone, |newer| &newer.zone).clone();
            let stays = newer.is_some_and(|role| role.capacity_bytes > 0);
            holders.push(Holder {
                key: role.key,
                zone,
                stays,
            });
        }
    }
    let place_of = |key: &NodeKey| {
        let place = holders.iter().position(|holder| holder.key == *key)?;
        u8::try_from(place).ok()
    };
    let partitions = (0..PARTITIONS).map(|partition| {
        let nodes = layout.arrangements().flat_map(|one| {
            let nodes = one.partitions.get(partition).into_iter().flatten();
            nodes.filter_map(|place| place_of(&one.roles.get(usize::from(*place))?.key))
        });
        nodes.collect::<BTreeSet<u8>>().into_iter().collect()
    });
    Placed {
        copies: newest.copies,
        partitions: partitions.collect(),
        holders,
        moving_since_ms: layout.moving.as_ref().map(|moving| moving.begun_ms),
        staged: layout.has_staged(),
    }
}

/// What comes of comparing the holders' tallies.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Compared {
    /// See [`Layout::complete`].
    complete: Vec<Vec<u8>>,
    /// For each holder how many blocks of its partitions others have and it has not; `None`: it said nothing.
    lacking: Vec<Option<u64>>,
}

/// `tallies`: of each holder, empty where it is not known.
fn compare(placed: &Placed, tallies: &[&[Tally]]) -> Compared {
    let mut lacking: Vec<Option<u64>> = tallies
        .iter()
        .map(|tallies| (!tallies.is_empty()).then_some(0))
        .collect();
    let complete = placed.partitions.iter().enumerate();
    let complete = complete.map(|(partition, nodes)| {
        let known = nodes.iter().filter_map(|node| {
            let tally = tallies.get(usize::from(*node))?.get(partition)?;
            Some((*node, *tally))
        });
        let known: Vec<(u8, Tally)> = known.collect();
        let most = known.iter().map(|(_, tally)| tally.blocks).max();
        let most = most.unwrap_or(0);
        for (node, tally) in &known {
            if let Some(Some(lacking)) = lacking.get_mut(usize::from(*node)) {
                *lacking = lacking.saturating_add(most - tally.blocks);
            }
        }
        let fullest: Vec<&(u8, Tally)> = known
            .iter()
            .filter(|(_, tally)| tally.blocks == most)
            .collect();
        let names: BTreeSet<u64> = fullest.iter().map(|(_, tally)| tally.names).collect();
        match names.len() {
            // Each has something that another has not.
            2.. => Vec::new(),
            _ => fullest.iter().map(|(node, _)| *node).collect(),
        }
    });
    Compared {
        complete: complete.collect(),
        lacking,
    }
}

/// What the nodes in reach, by their numbers, say of the shards.
fn shards(parts: &[(u64, &[ShardHealth])], wanted: u8) -> Vec<ShardReport> {
    let numbers = parts.iter().flat_map(|(_, shards)| shards.iter());
    let numbers: BTreeSet<u16> = numbers.map(|one| one.shard).collect();
    let report = |shard: u16| {
        let said = parts.iter().flat_map(|(node, shards)| {
            let mine = shards.iter().filter(move |one| one.shard == shard);
            mine.map(|one| (*node, one))
        });
        let said: Vec<(u64, &ShardHealth)> = said.collect();
        // A leader that has lost its majority may not know it yet.
        let leads = |one: &ShardHealth| {
            let current = one.current.as_ref().map_or(0, Vec::len);
            current > one.voters.len() / 2
        };
        let leader = said.iter().filter(|(_, one)| leads(one));
        let leader = leader.max_by_key(|(_, one)| one.term).copied();
        let newest = said.iter().max_by_key(|(_, one)| (one.term, one.applied));
        let voters = leader
            .or(newest.copied())
            .map(|(_, one)| one.voters.clone());
        let voters = voters.unwrap_or_default();
        let in_reach = |number: &u64| said.iter().any(|(node, _)| node == number);
        let current = match leader {
            Some((_, one)) => one.current.clone().unwrap_or_default(),
            None => voters.iter().copied().filter(in_reach).collect(),
        };
        ShardReport {
            shard,
            leader: leader.map(|(node, _)| node),
            voters,
            current,
            wanted,
        }
    };
    numbers.into_iter().map(report).collect()
}
