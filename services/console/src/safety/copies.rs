//! For every partition: who in reach has all of it, and whose loss would take the last copy.

use protocol::cluster::NodeKey;
use protocol::health::{Layout, NodeReport};
use std::collections::{BTreeMap, BTreeSet};

/// The copies of all partitions, counted.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// Partitions without any node in reach.
    pub(super) unreachable: usize,
    /// Whoever could bring them back.
    pub(super) away: BTreeSet<NodeKey>,
    /// Nodes in reach that do not say what they have.
    pub(super) counting: BTreeSet<NodeKey>,
    /// Partitions of which it is not known who is complete.
    pub(super) undecided: usize,
    /// Partitions that only one node in reach has wholly.
    pub(super) single: usize,
    /// Those nodes.
    pub(super) last: BTreeSet<NodeKey>,
    /// Zones whose loss takes the last complete copy, of so many partitions.
    pub(super) at_stake: BTreeMap<String, usize>,
    /// Zones that have all homes of a partition, so that it is so by the layout.
    pub(super) homes_only_in: BTreeSet<String>,
}

impl Copies {
    /// `report`: what each node says.
    pub(super) fn of<'a>(
        layout: &Layout,
        report: impl Fn(&NodeKey) -> Option<&'a NodeReport>,
    ) -> Self {
        let mut copies = Self::default();
        let partitions = layout.placed.partitions.iter().zip(&layout.complete);
        for (homes, complete) in partitions {
            copies.count(layout, homes, complete, &report);
        }
        copies
    }

    fn count<'a>(
        &mut self,
        layout: &Layout,
        homes: &[u8],
        complete: &[u8],
        report: &impl Fn(&NodeKey) -> Option<&'a NodeReport>,
    ) {
        let holder = |place: &u8| layout.placed.holders.get(usize::from(*place));
        let (mut known, mut counting, mut away) = (Vec::new(), Vec::new(), Vec::new());
        for holder in homes.iter().filter_map(holder) {
            match report(&holder.key) {
                Some(node) if node.silent.is_none() && node.lacking_blocks.is_some() => {
                    known.push(holder);
                }
                Some(NodeReport {
                    silent: None,
                    said: Some(said),
                    ..
                }) if said.usage.is_ok() => counting.push(holder.key),
                _ => away.push(holder.key),
            }
        }
        self.counting.extend(&counting);
        if known.is_empty() {
            match counting.is_empty() {
                true => {
                    self.unreachable += 1;
                    self.away.extend(away);
                }
                false => self.undecided += 1,
            }
            return;
        }
        // Where none is complete, each has something that another has not: the loss of any may be a loss.
        let sure: Vec<_> = complete.iter().filter_map(holder).collect();
        let uneven = sure.is_empty();
        let have = if uneven { known } else { sure };
        let zones: BTreeSet<&str> = have.iter().map(|one| one.zone.as_str()).collect();
        if !counting.is_empty() {
            self.undecided += 1;
        }
        if uneven || have.len() == 1 {
            self.single += 1;
            self.last.extend(have.iter().map(|one| one.key));
        }
        let at_stake = uneven || zones.len() == 1;
        for zone in zones.iter().filter(|_| at_stake) {
            *self.at_stake.entry((*zone).to_owned()).or_default() += 1;
            let elsewhere = |place: &u8| holder(place).is_some_and(|one| one.zone != **zone);
            if !homes.iter().any(elsewhere) {
                self.homes_only_in.insert((*zone).to_owned());
            }
        }
    }
}
