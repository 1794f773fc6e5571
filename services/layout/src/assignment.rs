//! The assignment of partitions to nodes, and what it moves.

use crate::flow::Network;
use crate::shares::{Shares, shares, zones};
use crate::{Error, PARTITIONS, REPLICATIONS, Site};
use protocol::cluster::NodeKey;
use std::collections::{BTreeMap, BTreeSet};

/// Which nodes keep each partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// One list for each partition, ordered by key: as many nodes as there are copies.
    partitions: Vec<Vec<NodeKey>>,
}

impl Assignment {
    /// The nodes of each partition, as they were once assigned.
    pub fn new(mut partitions: Vec<Vec<NodeKey>>) -> Self {
        for nodes in &mut partitions {
            nodes.sort_unstable();
        }
        Self { partitions }
    }

    /// The nodes of a partition; none where there is no such partition.
    pub fn nodes(&self, partition: usize) -> &[NodeKey] {
        self.partitions.get(partition).map_or(&[], Vec::as_slice)
    }

    /// The partitions of a node.
    pub fn partitions(&self, node: &NodeKey) -> impl Iterator<Item = usize> {
        let all = self.partitions.iter().enumerate();
        all.filter(move |(_, nodes)| nodes.contains(node))
            .map(|(partition, _)| partition)
    }
}

/// A copy of a partition that a node does not have yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    /// Which.
    pub partition: usize,
    /// Who gets it.
    pub to: NodeKey,
}

/// What would be, before anything moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Who would keep what.
    pub assignment: Assignment,
    /// What clients could store, all copies counted once, in bytes.
    pub usable_bytes: u64,
    /// The most copies of one partition that would stand in one zone: 1 unless there are fewer zones than copies.
    pub copies_per_zone: usize,
    /// Copies to be made. Empty where there was no assignment before: then there is nothing to copy.
    pub moves: Vec<Move>,
}

/// The best assignment of all partitions to `sites` with so many copies, `before` being the present one.
///
/// Errors where the sites are too few or too small, or the number of copies is none of [`REPLICATIONS`]; then nothing changes.
pub fn assign(
    sites: &[Site],
    copies: usize,
    before: Option<&Assignment>,
) -> Result<Proposal, Error> {
    if !REPLICATIONS.contains(&copies) {
        return Err(Error::Replication(copies));
    }
    assign_partitions(sites, PARTITIONS, copies, before)
}

fn assign_partitions(
    sites: &[Site],
    partitions: usize,
    copies: usize,
    before: Option<&Assignment>,
) -> Result<Proposal, Error> {
    let mut known = BTreeSet::new();
    if let Some(twice) = sites.iter().find(|site| !known.insert(site.key)) {
        return Err(Error::Twice(twice.key));
    }
    let held = |site: &Site| before.map_or(0, |before| before.partitions(&site.key).count());
    let held: Vec<usize> = sites.iter().map(held).collect();
    let shares = shares(sites, partitions, copies, &held)?;
    let assignment = place(sites, partitions, copies, &shares, before);
    let moves = before.map_or_else(Vec::new, |before| moves(before, &assignment));
    Ok(Proposal {
        assignment,
        usable_bytes: shares.partition_bytes.saturating_mul(partitions as u64),
        copies_per_zone: shares.per_zone,
        moves,
    })
}

/// Source → each partition (its copies) → the partition in each zone (what a zone may have of it) → each node (one copy) → sink (the node's share). A copy that
/// is not there already costs one. That all shares can be filled is what [`crate::shares`] has made sure of.
fn place(
    sites: &[Site],
    partitions: usize,
    copies: usize,
    shares: &Shares,
    before: Option<&Assignment>,
) -> Assignment {
    let zones = zones(sites);
    let (source, sink) = (0, 1);
    let first_node = 2;
    let first_partition = first_node + sites.len();
    let first_corner = first_partition + partitions;
    let mut network = Network::new(first_corner + partitions * zones.len());
    for (place, share) in shares.of_nodes.iter().enumerate() {
        network.edge(first_node + place, sink, *share, 0);
    }
    let mut copies_of = BTreeMap::new();
    for partition in 0..partitions {
        network.edge(source, first_partition + partition, copies, 0);
        let has = before.map_or(&[][..], |before| before.nodes(partition));
        for (zone, nodes) in zones.values().enumerate() {
            let corner = first_corner + partition * zones.len() + zone;
            network.edge(first_partition + partition, corner, shares.per_zone, 0);
            for place in nodes {
                let Some(site) = sites.get(*place) else {
                    continue;
                };
                let cost = i64::from(!has.contains(&site.key));
                let edge = network.edge(corner, first_node + place, 1, cost);
                copies_of.insert((partition, site.key), edge);
            }
        }
    }
    let placed = network.fill(source, sink);
    debug_assert_eq!(placed, partitions * copies);
    let mut lists = vec![Vec::new(); partitions];
    for ((partition, key), edge) in copies_of {
        if network.is_used(edge)
            && let Some(list) = lists.get_mut(partition)
        {
            list.push(key);
        }
    }
    Assignment { partitions: lists }
}

fn moves(before: &Assignment, after: &Assignment) -> Vec<Move> {
    let all = after.partitions.iter().enumerate();
    all.flat_map(|(partition, nodes)| {
        let has = before.nodes(partition);
        let new = nodes.iter().filter(|node| !has.contains(node));
        new.map(move |to| Move { partition, to: *to })
    })
    .collect()
}

#[cfg(test)]
mod tests;
