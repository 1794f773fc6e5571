//! From facts to sentences: each case is a small cluster and what is said of it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

use super::*;
use protocol::block::Usage;
use protocol::cluster::{ClusterId, GossipKey, NodeEntry, Roster};
use protocol::copies::PARTITIONS;
use protocol::health::{Holder, Layout, Placed, Received, Said};

/// Nodes 1 to `zones.len()`, called `n1` …; each partition on all of them, each of them complete, and each a voter of all 4 shards, led by the first.
pub(crate) fn cluster(zones: &[&str]) -> Health {
    let numbers = 1..=u8::try_from(zones.len()).unwrap();
    let key = |number: u8| NodeKey([number; 32]);
    let entry = |(number, zone): (u8, &&str)| NodeEntry {
        key: key(number),
        gossip_key: GossipKey([number; 32]),
        name: format!("n{number}"),
        zone: (*zone).into(),
        capacity_bytes: 1 << 40,
        mesh: "192.0.2.1:3900".into(),
        gossip: "192.0.2.1:3900".into(),
        standing: Standing::Member,
    };
    let holder = |(number, zone): (u8, &&str)| Holder {
        key: key(number),
        zone: (*zone).into(),
        stays: true,
    };
    let voters: Vec<u64> = numbers.clone().map(u64::from).collect();
    let places: Vec<u8> = (0..u8::try_from(zones.len()).unwrap()).collect();
    Health {
        roster: Some(Roster {
            cluster: ClusterId([1; 16]),
            version: 1,
            nodes: numbers.clone().zip(zones).map(entry).collect(),
        }),
        layout: Some(Layout {
            placed: Placed {
                copies: u8::try_from(zones.len()).unwrap(),
                holders: numbers.clone().zip(zones).map(holder).collect(),
                partitions: vec![places.clone(); PARTITIONS],
                moving_since_ms: None,
                staged: false,
            },
            complete: vec![places; PARTITIONS],
        }),
        nodes: numbers.map(node).collect(),
        shards: (0..4)
            .map(|shard| ShardReport {
                shard,
                leader: Some(1),
                voters: voters.clone(),
                current: voters.clone(),
                wanted: u8::try_from(zones.len()).unwrap(),
            })
            .collect(),
    }
}

fn node(number: u8) -> NodeReport {
    NodeReport {
        key: NodeKey([number; 32]),
        number: number.into(),
        said: Some(Said {
            ago_ms: 0,
            usage: Ok(Usage {
                capacity_bytes: 1 << 40,
                free_bytes: 1 << 39,
                files: 5,
                packs: 0,
                damaged: 0,
                behind: 0,
                settled: 1,
            }),
            received: Received::default(),
            scrubbed_ms: 0,
            sealing: None,
            older_disk: false,
        }),
        silent: None,
        lacking_blocks: Some(0),
        lacking_bytes: None,
    }
}

/// Node `number` does not answer any more.
fn lose(health: &mut Health, number: u8) {
    let index = usize::from(number) - 1;
    health.nodes[index].silent = Some("no answer within 1500 ms".into());
    health.nodes[index].lacking_blocks = None;
    health.nodes[index].said.as_mut().unwrap().ago_ms = 90_000;
    let layout = health.layout.as_mut().unwrap();
    for complete in &mut layout.complete {
        complete.retain(|place| *place != number - 1);
    }
    for shard in &mut health.shards {
        shard.current.retain(|one| *one != u64::from(number));
        let has_majority = shard.current.len() > shard.voters.len() / 2;
        shard.leader = shard.current.first().copied().filter(|_| has_majority);
    }
}

/// The level, the summary, and a part of each finding, in order.
fn check(health: &Health, level: Level, summary: &str, findings: &[&str]) {
    let verdict = judge(health);
    assert_eq!(verdict.level, level, "{verdict:#?}");
    assert!(verdict.summary.contains(summary), "{verdict:#?}");
    let said: Vec<&str> = verdict
        .findings
        .iter()
        .map(|one| one.what.as_str())
        .collect();
    assert_eq!(said.len(), findings.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(findings) {
        assert!(said.contains(expected), "{said:?} lacks {expected:?}");
    }
}

#[test]
fn three_homes_in_three_zones_are_safe() {
    let health = cluster(&["lille", "nantes", "brest"]);
    check(&health, Level::Note, "Any one zone may be lost", &[]);
    assert!(judge(&health).done);
}

#[test]
fn of_three_copies_one_is_away_and_one_more_loss_stops_the_store_but_loses_nothing() {
    let mut health = cluster(&["lille", "nantes", "brest"]);
    lose(&mut health, 2);
    check(
        &health,
        Level::Degraded,
        "No single loss loses data. The loss of brest or lille stops the store",
        &[
            "Metadata of 4 of 4 shards is on 2 of 3 voters: without n2",
            "n2 in zone nantes does not answer, heard of 90 s ago",
        ],
    );
    let todo = &judge(&health).findings[1].todo;
    assert!(todo.contains("trousseau layout remove n2"), "{todo}");
    assert!(!judge(&health).done);
}

#[test]
fn of_three_copies_two_are_away_and_one_more_loss_loses_data() {
    let mut health = cluster(&["lille", "nantes", "brest"]);
    lose(&mut health, 2);
    lose(&mut health, 3);
    check(
        &health,
        Level::OutOfReach,
        "Not everything can be reached",
        &[
            "Shards 0, 1, 2, 3 have no leader",
            "256 of 256 partitions have only one copy in reach: on n1",
            "One more loss in lille loses data: 256 of 256 partitions are complete nowhere else",
            "n2 in zone nantes does not answer",
            "n3 in zone brest does not answer",
        ],
    );
    let todo = &judge(&health).findings[0].todo;
    assert!(todo.starts_with("Bring back n2, n3"), "{todo}");
}

#[test]
fn a_node_in_reach_that_lacks_blocks_does_not_count_as_a_copy() {
    let mut health = cluster(&["lille", "nantes", "brest"]);
    lose(&mut health, 2);
    // n3 was away before and has not got what was written meanwhile.
    let layout = health.layout.as_mut().unwrap();
    for complete in &mut layout.complete[..3] {
        *complete = vec![0];
    }
    health.nodes[2].lacking_blocks = Some(7);
    health.nodes[2].lacking_bytes = Some(7 << 20);
    check(
        &health,
        Level::AtRisk,
        "One more loss in lille loses data",
        &[
            "3 of 256 partitions have only one copy in reach: on n1",
            "One more loss in lille loses data: 3 of 256",
            "Metadata of 4 of 4 shards is on 2 of 3",
            "n2 in zone nantes does not answer",
            "n3 lacks 7 blocks, about 7.0 MiB",
        ],
    );
}

#[test]
fn where_none_has_everything_the_loss_of_any_may_be_a_loss() {
    let mut health = cluster(&["lille", "nantes", "brest"]);
    health.layout.as_mut().unwrap().complete[9].clear();
    check(
        &health,
        Level::AtRisk,
        "One more loss in brest or lille or nantes loses data",
        &[
            "1 of 256 partitions have only one copy in reach: on n1, n2, n3",
            "One more loss in brest",
            "One more loss in lille",
            "One more loss in nantes",
        ],
    );
}

#[test]
fn copies_in_one_zone_are_lost_together() {
    let health = cluster(&["lille", "lille", "lille"]);
    check(
        &health,
        Level::AtRisk,
        "One more loss in lille loses data",
        &["all copies of 256 of 256 partitions stand there"],
    );
    let todo = &judge(&health).findings[0].todo;
    assert!(todo.contains("in another zone"), "{todo}");
}

#[test]
fn two_copies_keep_the_data_and_not_the_service() {
    let mut health = cluster(&["lille", "nantes"]);
    check(
        &health,
        Level::Note,
        "No single loss loses data. The loss of lille or nantes stops the store",
        &[],
    );
    lose(&mut health, 1);
    check(
        &health,
        Level::OutOfReach,
        "what was acknowledged is on the disks that are away",
        &[
            "no leader",
            "256 of 256 partitions have only one copy in reach: on n2",
            "One more loss in nantes",
            "n1 in zone lille does not answer",
        ],
    );
}

#[test]
fn one_copy_is_said_to_be_one() {
    let mut health = cluster(&["lille", "nantes"]);
    let layout = health.layout.as_mut().unwrap();
    layout.placed.copies = 1;
    for partition in 0..PARTITIONS {
        let node = u8::from(partition % 2 == 1);
        layout.placed.partitions[partition] = vec![node];
        layout.complete[partition] = vec![node];
    }
    for shard in &mut health.shards {
        (shard.voters, shard.current, shard.wanted) = (vec![1], vec![1], 1);
    }
    check(
        &health,
        Level::AtRisk,
        "One more loss in lille or nantes loses data",
        &["There is one copy of each block"],
    );
    assert!(judge(&health).done, "it is as it should be");
    lose(&mut health, 2);
    check(
        &health,
        Level::OutOfReach,
        "Not everything",
        &[
            "128 of 256 partitions have no copy in reach",
            "There is one copy",
            "n2 in zone nantes",
        ],
    );
}

#[test]
fn what_is_not_known_is_said_to_be_not_known() {
    let mut health = cluster(&["lille", "nantes", "brest"]);
    health.nodes[1].lacking_blocks = None;
    for complete in &mut health.layout.as_mut().unwrap().complete {
        *complete = vec![0, 2];
    }
    check(
        &health,
        Level::Note,
        "is not known",
        &["What n2 has is not known yet"],
    );
    health.layout = None;
    check(
        &health,
        Level::Degraded,
        "is not known",
        &["Where blocks belong is not known here"],
    );
}

#[test]
fn a_revoked_node_is_to_be_taken_out_of_the_layout() {
    let mut health = cluster(&["lille", "nantes", "brest"]);
    lose(&mut health, 2);
    health.roster.as_mut().unwrap().nodes[1].standing = Standing::Revoked;
    for shard in &mut health.shards {
        (shard.voters, shard.wanted) = (vec![1, 3], 2);
    }
    let verdict = judge(&health);
    assert_eq!(verdict.level, Level::Degraded);
    let finding = &verdict.findings[0];
    assert!(
        finding
            .what
            .contains("n2 was revoked, and 256 partitions still count on it"),
        "{finding:?}"
    );
    assert!(
        finding
            .todo
            .contains("`trousseau layout remove n2`, then `trousseau layout apply`")
    );
}

#[test]
fn a_node_by_itself_says_what_is_wrong_with_it() {
    let mut health = cluster(&["lille", "nantes", "brest"]);
    let said = health.nodes[0].said.as_mut().unwrap();
    let usage = said.usage.as_mut().unwrap();
    (usage.damaged, usage.free_bytes, usage.behind) = (2, 0, 4);
    health.nodes[1].said.as_mut().unwrap().usage = Err("block-store: the disk".into());
    health.nodes[2].said.as_mut().unwrap().older_disk = true;
    let verdict = judge(&health);
    for expected in [
        "2 blocks on n1 are damaged",
        "The disk of n1 has 0 left of 1.0 TiB",
        "n2 answers, but not its disk (block-store: the disk)",
        "The disk of n3 is older than what the cluster has seen of it",
        "4 blocks do not have all of their copies yet",
    ] {
        let mut findings = verdict.findings.iter();
        assert!(
            findings.any(|finding| finding.what.contains(expected)),
            "{verdict:#?}"
        );
    }
}

#[test]
fn a_node_without_a_part_in_the_layout_and_changes_that_wait_are_told_of() {
    let mut health = cluster(&["lille", "nantes", "brest"]);
    let layout = health.layout.as_mut().unwrap();
    layout.placed.holders.pop();
    for nodes in layout
        .placed
        .partitions
        .iter_mut()
        .chain(&mut layout.complete)
    {
        nodes.pop();
    }
    layout.placed.copies = 2;
    let idle = |health: &Health| {
        let verdict = judge(health);
        let mut findings = verdict.findings.into_iter();
        findings.find(|one| one.what.contains("n3 could keep blocks and keeps none"))
    };
    let todo = idle(&health).unwrap().todo;
    assert!(todo.contains("trousseau layout assign n3"), "{todo}");
    health.layout.as_mut().unwrap().placed.staged = true;
    let todo = idle(&health).unwrap().todo;
    assert!(todo.contains("trousseau layout preview"), "{todo}");
}

#[test]
fn spans_are_said_roughly() {
    for (ms, expected) in [
        (0, "0 s"),
        (119_999, "119 s"),
        (120_000, "2 min"),
        (7_200_000, "2 h"),
        (172_800_000, "2 d"),
    ] {
        assert_eq!(span(ms), expected);
    }
}

mod leaving {
    use super::*;
    use crate::leaving::reason_to_stay;

    fn reason(health: &Health) -> Option<String> {
        reason_to_stay(health, &NodeKey([3; 32]), "n3")
    }

    #[test]
    fn a_node_may_leave_when_nothing_depends_on_it() {
        let mut health = cluster(&["a", "b", "c"]);
        let why = reason(&health).unwrap();
        assert!(
            why.contains("keeps copies of 256 of 256 partitions"),
            "{why}"
        );
        assert!(why.contains("trousseau layout remove n3"), "{why}");
        let layout = health.layout.as_mut().unwrap();
        (
            layout.placed.holders[2].stays,
            layout.placed.moving_since_ms,
        ) = (false, Some(1));
        let why = reason(&health).unwrap();
        assert!(why.contains("still gives its blocks"), "{why}");
        let layout = health.layout.as_mut().unwrap();
        layout.placed.partitions = vec![vec![0, 1]; PARTITIONS];
        assert_eq!(reason(&health), None, "two of three voters stay");
        lose(&mut health, 1);
        let why = reason(&health).unwrap();
        assert!(why.contains("voters of shard 0, 1, 2, 3"), "{why}");
        assert!(why.contains("--force"), "{why}");
    }

    #[test]
    fn nobody_leaves_by_the_word_of_who_knows_nothing() {
        let mut health = cluster(&["a", "b", "c"]);
        health.layout = None;
        assert!(reason(&health).unwrap().contains("not known here"));
    }
}
