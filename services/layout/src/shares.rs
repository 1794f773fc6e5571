//! How many partitions each node is to hold: arithmetic, without looking at any partition.
//!
//! With `k` copies of a partition allowed in a zone, partitions of `s` bytes fit exactly if the sum over the zones of
//! min(k · P, sum over the zone's nodes of min(P, capacity / s)) reaches P · copies. Necessary: a zone holds at most `k` copies of each of the P partitions,
//! a node at most one. Sufficient by the wrap-around rule (McNaughton 1959): lay the nodes' shares one behind the other on a circle of P places, zone by zone; no share is
//! longer than the circle, so no node meets a partition twice, and no zone's is longer than `k` circles. So the best `s` is found by bisection, and no flow is needed for it.

use crate::{Error, Site};
use std::collections::BTreeMap;

/// What the nodes are to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Partitions of each node, in the order of the sites. Their sum is partitions · copies.
    pub(crate) of_nodes: Vec<usize>,
    /// The most copies of one partition in one zone.
    pub(crate) per_zone: usize,
    /// How large a partition may become, in bytes.
    pub(crate) partition_bytes: u64,
}

/// The places of the sites that offer something, by zone.
pub(crate) fn zones(sites: &[Site]) -> BTreeMap<&str, Vec<usize>> {
    let mut zones: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, site) in sites.iter().enumerate() {
        if site.capacity_bytes > 0 {
            zones.entry(&site.zone).or_default().push(place);
        }
    }
    zones
}

/// The shares that hold most, each in proportion to its node's capacity. `held`: how many partitions each node has now, by which ties are decided.
pub(crate) fn shares(
    sites: &[Site],
    partitions: usize,
    copies: usize,
    held: &[usize],
) -> Result<Shares, Error> {
    let zones = zones(sites);
    let found = zones.values().map(Vec::len).sum();
    let enough = |per_zone: &usize| {
        let spread: usize = zones.values().map(|nodes| nodes.len().min(*per_zone)).sum();
        spread >= copies
    };
    // As few of a partition's copies as possible stand in one zone, whatever that costs in capacity: this is what copies are for.
    let per_zone = (1..=copies).find(enough).ok_or(Error::TooFewNodes {
        needed: copies,
        found,
    })?;
    let offer = |place: &usize| sites.get(*place).map_or(0, |site| site.capacity_bytes);
    let limit = |place: &usize, bytes: u64| {
        usize::try_from(offer(place) / bytes)
            .unwrap_or(usize::MAX)
            .min(partitions)
    };
    let fits = |bytes: u64| {
        let zone = |nodes: &Vec<usize>| {
            let offered: usize = nodes.iter().map(|place| limit(place, bytes)).sum();
            offered.min(per_zone * partitions)
        };
        zones.values().map(zone).sum::<usize>() >= partitions * copies
    };
    let partition_bytes = largest(fits).ok_or(Error::TooSmall)?;

    let mut of_nodes = vec![0; sites.len()];
    let has = |place: &usize| held.get(*place).copied().unwrap_or(0);
    for nodes in zones.values() {
        let offered: usize = nodes
            .iter()
            .map(|place| limit(place, partition_bytes))
            .sum();
        for _ in 0..offered.min(per_zone * partitions) {
            // The next one goes to the node that is then filled least; of equals, to one that holds it already.
            let next = nodes
                .iter()
                .filter(|place| share(&of_nodes, place) < limit(place, partition_bytes))
                .min_by(|a, b| {
                    filled(
                        share(&of_nodes, a) + 1,
                        offer(a),
                        share(&of_nodes, b) + 1,
                        offer(b),
                    )
                    .then_with(|| {
                        (share(&of_nodes, a) >= has(a)).cmp(&(share(&of_nodes, b) >= has(b)))
                    })
                });
            if let Some(share) = next.and_then(|place| of_nodes.get_mut(*place)) {
                *share += 1;
            }
        }
    }
    // The last size that fits may fit with some room: it is taken from the fullest.
    for _ in partitions * copies..of_nodes.iter().sum() {
        let all = zones
            .values()
            .flatten()
            .filter(|place| share(&of_nodes, place) > 0);
        let fullest = all.max_by(|a, b| {
            filled(share(&of_nodes, a), offer(a), share(&of_nodes, b), offer(b))
                .then_with(|| (share(&of_nodes, a) > has(a)).cmp(&(share(&of_nodes, b) > has(b))))
        });
        if let Some(share) = fullest.and_then(|place| of_nodes.get_mut(*place)) {
            *share -= 1;
        }
    }
    Ok(Shares {
        of_nodes,
        per_zone,
        partition_bytes,
    })
}

fn share(shares: &[usize], place: &usize) -> usize {
    shares.get(*place).copied().unwrap_or(0)
}

/// Which of two nodes is filled more: `share / capacity`, without rounding.
fn filled(a: usize, a_offers: u64, b: usize, b_offers: u64) -> std::cmp::Ordering {
    (a as u128 * u128::from(b_offers)).cmp(&(b as u128 * u128::from(a_offers)))
}

/// The largest number for which `fits`, which holds for every smaller one, too. `None`: not even 1.
fn largest(fits: impl Fn(u64) -> bool) -> Option<u64> {
    let (mut good, mut bad) = (0, u64::MAX);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle) {
            good = middle
        } else {
            bad = middle
        }
    }
    (good > 0).then_some(good)
}
