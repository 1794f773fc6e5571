//! Which nodes have everything, by their tallies; and what is made of several nodes' words about a shard.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

use super::*;
use crate::state::{Arrangement, Moving};
use protocol::metadata::Role;

fn tally(blocks: u64, names: u64) -> Tally {
    Tally { blocks, names }
}

/// One partition on nodes 0 to 2; the others are empty.
fn compared(of: [Option<Tally>; 3]) -> (Vec<u8>, Vec<Option<u64>>) {
    let holder = |number: u8| Holder {
        key: NodeKey([number; 32]),
        zone: format!("z{number}"),
        stays: true,
    };
    let placed = Placed {
        copies: 3,
        holders: [0, 1, 2].map(holder).into(),
        partitions: vec![vec![0, 1, 2]; 1],
        moving_since_ms: None,
        staged: false,
    };
    let tallies = of.map(|tally| tally.map_or(Vec::new(), |tally| vec![tally]));
    let tallies: Vec<&[Tally]> = tallies.iter().map(Vec::as_slice).collect();
    let Compared { complete, lacking } = compare(&placed, &tallies);
    (complete[0].clone(), lacking)
}

#[test]
fn who_has_as_much_as_anybody_is_complete() {
    let same = tally(5, 9);
    let check = |of: [Option<Tally>; 3], complete: &[u8], lacking: [Option<u64>; 3]| {
        assert_eq!(
            compared(of),
            (complete.to_vec(), lacking.to_vec()),
            "{of:?}"
        );
    };
    check([Some(same); 3], &[0, 1, 2], [Some(0); 3]);
    check(
        [Some(same), None, Some(same)],
        &[0, 2],
        [Some(0), None, Some(0)],
    );
    check(
        [Some(tally(3, 1)), Some(same), None],
        &[1],
        [Some(2), Some(0), None],
    );
    check([None; 3], &[], [None; 3]);
    // As many, but others: each has something that the other has not.
    check(
        [Some(tally(5, 1)), Some(same), None],
        &[],
        [Some(0), Some(0), None],
    );
    check(
        [Some(tally(5, 1)), Some(same), Some(tally(6, 3))],
        &[2],
        [Some(1), Some(1), Some(0)],
    );
}

#[test]
fn while_blocks_move_the_old_and_the_new_nodes_of_a_partition_count() {
    let role = |number: u8, zone: &str| Role {
        key: NodeKey([number; 32]),
        zone: zone.into(),
        capacity_bytes: 1,
    };
    let arrangement = |roles: Vec<Role>| Arrangement {
        copies: 2,
        partitions: vec![vec![0, 1]; PARTITIONS],
        roles,
    };
    let layout = state::Layout {
        version: 1,
        placed: 1,
        present: arrangement(vec![role(1, "a"), role(2, "b")]),
        moving: Some(Moving {
            to: arrangement(vec![role(3, "c"), role(1, "moved")]),
            settled: Vec::new(),
            begun_ms: 7,
        }),
        staged_roles: Vec::new(),
        staged_copies: Some(3),
    };
    let placed = placed(&layout);
    let holders: Vec<(u8, &str, bool)> = placed
        .holders
        .iter()
        .map(|holder| (holder.key.0[0], holder.zone.as_str(), holder.stays))
        .collect();
    assert_eq!(
        holders,
        [(1, "moved", true), (2, "b", false), (3, "c", true)]
    );
    assert_eq!(placed.partitions, vec![vec![0, 1, 2]; PARTITIONS]);
    assert_eq!((placed.moving_since_ms, placed.staged), (Some(7), true));
}

#[test]
fn a_leader_counts_only_with_a_majority_and_the_newest_of_two() {
    let said = |term: u64, current: Option<&[u64]>| ShardHealth {
        shard: 4,
        term,
        applied: term,
        voters: vec![1, 2, 3],
        current: current.map(<[u64]>::to_vec),
    };
    let check = |parts: &[(u64, ShardHealth)], leader: Option<u64>, current: &[u64]| {
        let parts: Vec<(u64, &[ShardHealth])> = parts
            .iter()
            .map(|(node, one)| (*node, std::slice::from_ref(one)))
            .collect();
        let found = shards(&parts, 3);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].leader, found[0].current.as_slice()),
            (leader, current)
        );
        assert_eq!(found[0].voters, [1, 2, 3]);
    };
    check(
        &[(1, said(5, Some(&[1, 2, 3]))), (2, said(5, None))],
        Some(1),
        &[1, 2, 3],
    );
    check(
        &[(1, said(5, Some(&[1, 2]))), (2, said(6, Some(&[2, 3])))],
        Some(2),
        &[2, 3],
    );
    check(&[(1, said(5, Some(&[1])))], None, &[1]);
    check(&[(2, said(5, None)), (4, said(5, None))], None, &[2]);
}

#[test]
fn only_another_voter_that_has_caught_up_and_has_room_takes_the_lead_of_a_full_node() {
    let set = |numbers: &[u64]| numbers.iter().copied().collect::<BTreeSet<u64>>();
    let check = |voters: &[&[u64]], caught_up: &[u64], full: &[u64], expected: bool| {
        let members = Members {
            voters: voters.iter().map(|voters| set(voters)).collect(),
            learners: set(&[4]),
            reachable: set(&[1, 2, 3, 4]),
            caught_up: set(caught_up),
            ..Members::default()
        };
        let found = has_heir(&members, 1, &set(full));
        assert_eq!(found, expected, "{voters:?} {caught_up:?} {full:?}");
    };
    check(&[&[1]], &[1, 4], &[], false);
    check(&[&[1, 2, 3]], &[1, 2, 3], &[], true);
    check(&[&[1, 2, 3]], &[1, 2, 3], &[2], true);
    check(&[&[1, 2, 3]], &[1, 2, 3], &[2, 3], false);
    check(&[&[1, 2, 3]], &[1, 3], &[3], false);
    check(&[&[1, 2, 3]], &[1, 4], &[], false);
    check(&[&[1], &[1, 2]], &[1, 2], &[], true);
}

#[test]
fn bytes_are_judged_by_the_copies_that_were_made() {
    let received = |blocks, bytes| Received {
        blocks,
        bytes,
        ..Received::default()
    };
    assert_eq!(
        bytes_of(10, &[received(1, 100), received(3, 300)]),
        Some(1_000)
    );
    assert_eq!(bytes_of(10, &[received(0, 0)]), None);
    assert_eq!(bytes_of(10, &[]), None);
}

#[test]
fn what_another_node_says_is_bounded() {
    let good = NodeHealth {
        blocks: Err("none".into()),
        shards: vec![ShardHealth {
            shard: 0,
            term: 1,
            applied: 1,
            voters: vec![1],
            current: None,
        }],
        sealing: None,
        older_disk: false,
        layout: None,
    };
    assert!(is_bounded(&good, 1));
    assert!(!is_bounded(&good, 0), "more shards than there are");
    let check = |change: &dyn Fn(&mut NodeHealth)| {
        let mut health = good.clone();
        change(&mut health);
        assert!(!is_bounded(&health, 1), "{health:?}");
    };
    check(&|health| health.blocks = Err("x".repeat(REASON_BYTES_MAX + 1)));
    check(&|health| health.shards[0].voters = vec![1; NODES_MAX + 1]);
    check(&|health| health.shards[0].current = Some(vec![1; NODES_MAX + 1]));
    let placed = |holders, node| Placed {
        copies: 1,
        holders,
        partitions: vec![vec![node]; PARTITIONS],
        moving_since_ms: None,
        staged: false,
    };
    check(&|health| health.layout = Some(placed(Vec::new(), 0)));
    let holder = Holder {
        key: NodeKey([1; 32]),
        zone: "z".into(),
        stays: true,
    };
    check(&|health| health.layout = Some(placed(vec![holder.clone()], 1)));
    let mut whole = good.clone();
    whole.layout = Some(placed(vec![holder.clone()], 0));
    assert!(is_bounded(&whole, 1));
}
