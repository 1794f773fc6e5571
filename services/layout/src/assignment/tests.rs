#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails may panic"
)]

use super::*;
use crate::partition_of;
use proptest::prelude::*;
use protocol::block::BlockId;

const TB: u64 = 1_000_000_000_000;

fn key(number: u8) -> NodeKey {
    NodeKey([number; 32])
}

/// Sites `(zone, capacity)` with keys 1, 2, …
fn sites(of: &[(&str, u64)]) -> Vec<Site> {
    let site = |(place, (zone, capacity_bytes)): (usize, &(&str, u64))| Site {
        key: key(place as u8 + 1),
        zone: (*zone).to_owned(),
        capacity_bytes: *capacity_bytes,
    };
    of.iter().enumerate().map(site).collect()
}

fn counts(sites: &[Site], assignment: &Assignment) -> Vec<usize> {
    let count = |site: &Site| assignment.partitions(&site.key).count();
    sites.iter().map(count).collect()
}

/// How many copies of one partition stand in one zone at most. Checks that each partition has its copies on different nodes.
fn most_in_a_zone(sites: &[Site], copies: usize, partitions: usize, found: &Assignment) -> usize {
    let zone_of = |key: &NodeKey| &sites.iter().find(|site| site.key == *key).unwrap().zone;
    let most = |partition: usize| {
        let nodes = found.nodes(partition);
        let different: BTreeSet<_> = nodes.iter().collect();
        assert_eq!((nodes.len(), different.len()), (copies, copies));
        let in_zone = |node: &NodeKey| {
            let same = nodes.iter().filter(|other| zone_of(other) == zone_of(node));
            same.count()
        };
        nodes.iter().map(in_zone).max().unwrap()
    };
    (0..partitions).map(most).max().unwrap()
}

#[test]
fn three_equal_homes_have_a_copy_each_and_hold_what_one_of_them_holds() {
    let sites = sites(&[("Lille", TB), ("Nantes", TB), ("Brest", TB)]);
    let found = assign(&sites, 3, None).unwrap();
    assert_eq!(counts(&sites, &found.assignment), [PARTITIONS; 3]);
    assert_eq!(found.usable_bytes, TB / 256 * 256);
    assert_eq!((found.copies_per_zone, found.moves.len()), (1, 0));
}

#[test]
fn a_zone_of_two_shares_its_copies_by_capacity() {
    let sites = sites(&[("a", TB), ("a", 3 * TB), ("b", TB), ("c", 2 * TB), ("c", 0)]);
    let found = assign(&sites, 3, None).unwrap();
    assert_eq!(counts(&sites, &found.assignment), [64, 192, 256, 256, 0]);
    assert_eq!(found.usable_bytes, TB / 256 * 256);
}

#[test]
fn fewer_zones_than_copies_is_said() {
    let sites = sites(&[("a", TB), ("a", TB), ("b", TB)]);
    let found = assign(&sites, 3, None).unwrap();
    assert_eq!(found.copies_per_zone, 2);
    assert_eq!(counts(&sites, &found.assignment), [PARTITIONS; 3]);
}

#[test]
fn what_cannot_be_placed_is_refused() {
    let check = |of: &[(&str, u64)], copies: usize, expected: Error| {
        assert_eq!(assign(&sites(of), copies, None), Err(expected));
    };
    let too_few = |needed, found| Error::TooFewNodes { needed, found };
    check(&[("a", TB)], 4, Error::Replication(4));
    check(&[("a", TB), ("b", TB), ("c", 0)], 3, too_few(3, 2));
    check(&[], 1, too_few(1, 0));
    check(&[("a", 100)], 1, Error::TooSmall);
    let mut twice = sites(&[("a", TB), ("b", TB)]);
    twice[1].key = key(1);
    assert_eq!(assign(&twice, 1, None), Err(Error::Twice(key(1))));
}

#[test]
fn a_newcomer_gets_its_share_and_nothing_else_moves() {
    let three = sites(&[("a", TB), ("b", TB), ("c", TB)]);
    let before = assign(&three, 3, None).unwrap().assignment;
    let four = sites(&[("a", TB), ("b", TB), ("c", TB), ("d", TB)]);
    let after = assign(&four, 3, Some(&before)).unwrap();
    assert_eq!(counts(&four, &after.assignment), [192; 4]);
    assert_eq!(after.moves.len(), 192);
    assert!(after.moves.iter().all(|one| one.to == key(4)));
    assert_eq!(after.usable_bytes / 1_000_000_000, 1_333);
}

#[test]
fn a_node_that_goes_leaves_only_its_own_copies_to_others() {
    let four = sites(&[("a", TB), ("b", TB), ("c", TB), ("c", TB)]);
    let before = assign(&four, 3, None).unwrap().assignment;
    let gone: Vec<usize> = before.partitions(&key(4)).collect();
    let three = &four[..3];
    let after = assign(three, 3, Some(&before)).unwrap();
    let moved: Vec<usize> = after.moves.iter().map(|one| one.partition).collect();
    assert_eq!(moved, gone);
}

#[test]
fn the_same_again_moves_nothing() {
    let sites = sites(&[
        ("a", 3 * TB),
        ("a", TB),
        ("b", 2 * TB),
        ("c", 7 * TB),
        ("d", TB),
    ]);
    let before = assign(&sites, 3, None).unwrap().assignment;
    let again = assign(&sites, 3, Some(&before)).unwrap();
    assert_eq!((again.moves, again.assignment), (vec![], before));
}

#[test]
fn a_block_stays_in_its_partition() {
    let mut id = BlockId([9; 32]);
    id.0[0] = 255;
    assert_eq!(partition_of(&id), 255);
}

/// Up to eight sites in up to four zones.
fn any_sites() -> impl Strategy<Value = Vec<Site>> {
    let capacity = prop_oneof![1 => Just(0), 6 => 1..20_u64, 3 => Just(10)];
    proptest::collection::vec((0..4_u8, capacity), 1..9).prop_map(|of| {
        let site = |(place, (zone, tenths)): (usize, (u8, u64))| Site {
            key: key(place as u8 + 1),
            zone: zone.to_string(),
            capacity_bytes: tenths * TB / 10,
        };
        of.into_iter().enumerate().map(site).collect()
    })
}

/// All ways to place `partitions` partitions, as sets of sites, one by one.
fn every_assignment(
    sites: &[Site],
    copies: usize,
    per_zone: usize,
    partitions: usize,
    visit: &mut dyn FnMut(&[Vec<usize>]),
) {
    fn go(
        sets: &[Vec<usize>],
        left: usize,
        chosen: &mut Vec<Vec<usize>>,
        visit: &mut dyn FnMut(&[Vec<usize>]),
    ) {
        if left == 0 {
            return visit(chosen);
        }
        for set in sets {
            chosen.push(set.clone());
            go(sets, left - 1, chosen, visit);
            chosen.pop();
        }
    }
    let fits = |set: &Vec<usize>| {
        let zones: Vec<&str> = set
            .iter()
            .map(|place| sites[*place].zone.as_str())
            .collect();
        let in_zone = |zone: &str| zones.iter().filter(|other| **other == zone).count();
        set.len() == copies
            && set.iter().all(|place| sites[*place].capacity_bytes > 0)
            && zones.iter().all(|zone| in_zone(zone) <= per_zone)
    };
    let sets: Vec<Vec<usize>> = (0_usize..1 << sites.len())
        .map(|bits| {
            (0..sites.len())
                .filter(|place| bits >> place & 1 == 1)
                .collect()
        })
        .filter(fits)
        .collect();
    go(&sets, partitions, &mut Vec::new(), visit);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_assignment_keeps_its_promises(sites in any_sites(), copies in prop_oneof![Just(1), Just(2), Just(3), Just(5)]) {
        let offering: Vec<&Site> = sites.iter().filter(|site| site.capacity_bytes > 0).collect();
        let found = match assign(&sites, copies, None) {
            Ok(found) => found,
            Err(error) => {
                prop_assert_eq!(error, Error::TooFewNodes { needed: copies, found: offering.len() });
                prop_assert!(offering.len() < copies);
                return Ok(());
            }
        };
        prop_assert!(most_in_a_zone(&sites, copies, PARTITIONS, &found.assignment) <= found.copies_per_zone);
        let zones: BTreeSet<&str> = offering.iter().map(|site| site.zone.as_str()).collect();
        prop_assert!(zones.len() < copies || found.copies_per_zone == 1);
        // Nobody holds more than fits.
        let partition_bytes = found.usable_bytes / PARTITIONS as u64;
        for (site, count) in sites.iter().zip(counts(&sites, &found.assignment)) {
            prop_assert!(count as u64 * partition_bytes <= site.capacity_bytes);
        }
    }

    #[test]
    fn a_change_of_one_site_moves_little(sites in any_sites(), more in 1..20_u64) {
        let copies = 2;
        let Ok(before) = assign(&sites, copies, None) else { return Ok(()) };
        let mut later = sites.clone();
        later.push(Site { key: key(99), zone: "new".into(), capacity_bytes: more * TB / 10 });
        let after = assign(&later, copies, Some(&before.assignment)).unwrap();
        let (old, new) = (counts(&sites, &before.assignment), counts(&later, &after.assignment));
        // What each node gains must move; and nothing else may, unless zones make it.
        let gained: usize = new.iter().zip(old.iter().chain([&0])).map(|(new, old)| new.saturating_sub(*old)).sum();
        prop_assert!(after.moves.len() >= gained);
        if before.copies_per_zone == after.copies_per_zone {
            prop_assert!(after.moves.len() <= gained + gained / 2, "{} moves for a gain of {gained}", after.moves.len());
        }
    }

    #[test]
    fn nothing_holds_more_and_nothing_moves_less(
        zones in proptest::collection::vec(0..3_u8, 3..5),
        capacities in proptest::collection::vec(1..7_u64, 5),
        changed in 1..7_u64,
    ) {
        let (copies, partitions) = (2, 3);
        let site = |place: usize| Site {
            key: key(place as u8 + 1),
            zone: zones[place].to_string(),
            capacity_bytes: capacities[place],
        };
        let mut sites: Vec<Site> = (0..zones.len()).map(site).collect();
        let before = assign_partitions(&sites, partitions, copies, None);
        sites[0].capacity_bytes = changed;
        let before = before.ok().map(|found| found.assignment);
        let Ok(found) = assign_partitions(&sites, partitions, copies, before.as_ref()) else { return Ok(()) };
        let shares = counts(&sites, &found.assignment);
        let (mut best_bytes, mut fewest) = (0, usize::MAX);
        every_assignment(&sites, copies, found.copies_per_zone, partitions, &mut |chosen| {
            let mut count = vec![0_u64; sites.len()];
            chosen.iter().flatten().for_each(|place| count[*place] += 1);
            let fits = count.iter().zip(&sites).filter(|(count, _)| **count > 0);
            let bytes = fits.map(|(count, site)| site.capacity_bytes / count).min().unwrap();
            best_bytes = best_bytes.max(bytes);
            if count.iter().zip(&shares).all(|(a, b)| *a == *b as u64) {
                let is_new = |(partition, place): (usize, usize)| {
                    !before.as_ref().is_some_and(|before| before.nodes(partition).contains(&sites[place].key))
                };
                let pairs = chosen.iter().enumerate().flat_map(|(partition, set)| set.iter().map(move |place| (partition, *place)));
                fewest = fewest.min(pairs.filter(|pair| is_new(*pair)).count());
            }
        });
        prop_assert_eq!(found.usable_bytes / partitions as u64, best_bytes);
        if before.is_some() {
            prop_assert_eq!(found.moves.len(), fewest);
        }
    }
}
