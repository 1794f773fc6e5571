//! Where the services run that run on some nodes only: from where they are to where they should be. Pure.
//!
//! A service is kept on as many nodes as its manifest says, each in a zone of its own where that is wanted and possible, on nodes that offer it, are not being
//! drained and have not gone. What may stay stays. A node that may still run a service counts, also where it is not to run it any more: another one gets
//! it only when that is over, so that there are never more than were wanted.

use protocol::cluster::NodeKey;
use protocol::schedule::{Offer, PLACED_MAX, ZoneRule};
use std::collections::{BTreeMap, BTreeSet};

/// Where each service is to run.
pub(crate) type Services = BTreeMap<String, BTreeSet<NodeKey>>;

/// A node that has not gone: whatever it may run, it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) key: NodeKey,
    pub(crate) zone: String,
    /// It was heard just now. Of one that was not, nothing is taken yet, and nothing is given to it.
    pub(crate) alive: bool,
    pub(crate) draining: bool,
    pub(crate) offers: Vec<Offer>,
    /// What it runs, or may run by what it was told before.
    pub(crate) may_run: BTreeSet<String>,
}

impl Node {
    fn offers(&self, service: &str) -> bool {
        self.offers.iter().any(|offer| offer.service == service)
    }
}

/// Where the services are to run, now that they are to run where `present` says and the nodes are as they are. Who is not among `nodes` runs nothing any more.
pub(crate) fn next(present: &Services, nodes: &[Node]) -> Services {
    let wishes = wishes(nodes);
    let mut load: BTreeMap<NodeKey, usize> = BTreeMap::new();
    for key in present.values().flatten() {
        *load.entry(*key).or_default() += 1;
    }
    let nobody = BTreeSet::new();
    let placed = wishes.into_values().take(PLACED_MAX).map(|wish| {
        let present = present.get(&wish.service).unwrap_or(&nobody);
        let choice = Choice {
            wish: &wish,
            nodes,
            load: &load,
        };
        let chosen = choice.next(present);
        for key in present.difference(&chosen) {
            load.entry(*key).and_modify(|load| *load -= 1);
        }
        for key in chosen.difference(present) {
            *load.entry(*key).or_default() += 1;
        }
        (wish.service, chosen)
    });
    placed.collect()
}

/// What the manifests say. While nodes have different ones, the more cautious counts.
fn wishes(nodes: &[Node]) -> BTreeMap<&str, Offer> {
    let mut wishes: BTreeMap<&str, Offer> = BTreeMap::new();
    for offer in nodes.iter().flat_map(|node| &node.offers) {
        let wish = wishes.entry(&offer.service);
        let wish = wish.or_insert_with(|| offer.clone());
        wish.count = wish.count.min(offer.count);
        if offer.zones == ZoneRule::Distinct {
            wish.zones = ZoneRule::Distinct;
        }
    }
    wishes
}

/// The nodes of one service.
struct Choice<'a> {
    wish: &'a Offer,
    nodes: &'a [Node],
    /// How many services each node has.
    load: &'a BTreeMap<NodeKey, usize>,
}

impl<'a> Choice<'a> {
    fn next(&self, present: &BTreeSet<NodeKey>) -> BTreeSet<NodeKey> {
        let count = usize::from(self.wish.count);
        let suits = |node: &&Node| !node.draining && node.offers(&self.wish.service);
        let able: Vec<&Node> = self.nodes.iter().filter(suits).collect();
        let is_present = |node: &&&Node| present.contains(&node.key);
        let mut chosen: Vec<&Node> = able.iter().filter(is_present).copied().collect();
        while chosen.len() > count {
            self.remove_worst(&mut chosen);
        }
        let is_free = |node: &&&Node| node.alive && !present.contains(&node.key);
        let mut free: Vec<&Node> = able.iter().filter(is_free).copied().collect();
        let is_crowded = chosen.iter().any(|node| self.crowd(node, &chosen) > 1);
        let is_full = chosen.len() == count;
        if is_full && is_crowded && free.iter().any(|node| self.crowd(node, &chosen) == 0) {
            // Only where none is missing: its successor comes when it has stopped.
            self.remove_worst(&mut chosen);
        }
        let also_runs = |node: &&Node| {
            let is_chosen = chosen.iter().any(|one| one.key == node.key);
            !is_chosen && node.may_run.contains(&self.wish.service)
        };
        let taken = chosen.len() + self.nodes.iter().filter(also_runs).count();
        for _ in taken..count {
            let best = free.iter().enumerate();
            let runs = |node: &Node| node.may_run.contains(&self.wish.service);
            let best = best
                .min_by_key(|(_, node)| (self.crowd(node, &chosen), !runs(node), self.rest(node)));
            let Some((place, _)) = best else { break };
            chosen.push(free.remove(place));
        }
        chosen.iter().map(|node| node.key).collect()
    }

    fn remove_worst(&self, chosen: &mut Vec<&'a Node>) {
        let worst = chosen.iter().enumerate();
        let worst = worst.max_by_key(|(_, node)| (self.crowd(node, chosen), self.rest(node)));
        if let Some((place, _)) = worst {
            chosen.remove(place);
        }
    }

    /// How many of the chosen stand in its zone, where that counts.
    fn crowd(&self, node: &Node, chosen: &[&Node]) -> usize {
        match self.wish.zones {
            ZoneRule::Distinct => chosen.iter().filter(|one| one.zone == node.zone).count(),
            ZoneRule::Any => 0,
        }
    }

    /// The fewer services it has, the better; and always the same of equals.
    fn rest(&self, node: &Node) -> (usize, NodeKey) {
        (self.load.get(&node.key).copied().unwrap_or(0), node.key)
    }
}

#[cfg(test)]
mod tests;
