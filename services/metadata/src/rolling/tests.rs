//! The order of a rolling restart, and what it waits for.
#![allow(clippy::unwrap_used, reason = "tests: a panic is the failure")]

use super::*;
use protocol::cluster::{GossipKey, Standing};
use protocol::schedule::Here;

/// Three nodes in three zones, of which the first leads all.
struct World {
    entries: Vec<NodeEntry>,
    reports: Vec<Option<Report>>,
    schedule: Schedule,
}

fn world() -> World {
    let entry = |number: u8| NodeEntry {
        key: NodeKey([number; 32]),
        gossip_key: GossipKey([number; 32]),
        name: format!("n{number}"),
        // The other way round than the names.
        zone: format!("z{}", 9 - number),
        capacity_bytes: 1,
        mesh: String::new(),
        gossip: String::new(),
        standing: Standing::Member,
    };
    let entries: Vec<NodeEntry> = (1..=3).map(entry).collect();
    let voters: Vec<u64> = entries.iter().map(|one| number_of(&one.key)).collect();
    let led = |shard| Led {
        shard,
        term: 1,
        voters: voters.clone(),
        caught_up: voters.clone(),
        settled: true,
    };
    let report = |leads: Vec<Led>| Report {
        life: 1,
        number: 1,
        here: Here::default(),
        leads,
        behind: 0,
    };
    let reports = [
        report((0..2).map(led).collect()),
        report(vec![]),
        report(vec![]),
    ];
    World {
        entries,
        reports: reports.map(Some).to_vec(),
        schedule: Schedule {
            restarts: 5,
            ..Schedule::default()
        },
    }
}

impl World {
    fn situation(&self) -> Situation<'_> {
        let members = self.entries.iter().zip(&self.reports);
        Situation {
            schedule: &self.schedule,
            members: members
                .map(|(entry, report)| Member {
                    entry,
                    report: report.as_ref(),
                })
                .collect(),
            shards: 2,
        }
    }

    fn next(&self, rolling: &Rolling) -> Step {
        self.situation().next(rolling)
    }

    /// What is waited for.
    fn waits(&self, rolling: &Rolling, expected: &str) {
        match self.next(rolling) {
            Step::Wait(why) => assert!(why.contains(expected), "{why}"),
            other => panic!("{other:?} instead of waiting because {expected}"),
        }
    }

    fn report(&mut self, number: usize) -> &mut Report {
        self.reports.get_mut(number - 1).unwrap().as_mut().unwrap()
    }

    fn leave_behind(&mut self, number: usize) {
        let behind = number_of(&self.entries.get(number - 1).unwrap().key);
        for led in self
            .reports
            .iter_mut()
            .flatten()
            .flat_map(|one| &mut one.leads)
        {
            led.caught_up.retain(|one| *one != behind);
        }
    }
}

fn turn(number: u8, told: bool, done: &[u8]) -> Rolling {
    Rolling {
        done: done.iter().map(|one| NodeKey([*one; 32])).collect(),
        now: Some(NodeKey([number; 32])),
        told,
    }
}

#[test]
fn all_nodes_have_their_turn_by_zone_and_each_comes_back_before_the_next() {
    let mut world = world();
    let Step::Go(first) = world.next(&Rolling::default()) else {
        panic!("it does not begin");
    };
    assert_eq!(first, turn(3, false, &[]), "by zone, not by name");
    assert_eq!(world.next(&first), Step::Go(turn(3, true, &[])));
    world.waits(&turn(3, true, &[]), "n3 are being restarted");
    world.report(3).here.restarted = 5;
    let between = Rolling {
        now: None,
        ..turn(3, false, &[3])
    };
    assert_eq!(world.next(&turn(3, true, &[])), Step::Go(between.clone()));
    assert_eq!(world.next(&between), Step::Go(turn(2, false, &[3])));
    let all = Rolling {
        now: None,
        ..turn(1, false, &[1, 2, 3])
    };
    assert_eq!(world.next(&all), Step::Over);
}

#[test]
fn a_node_hands_on_its_leads_before_it_is_told_to_restart() {
    let mut world = world();
    world.waits(&turn(1, false, &[2, 3]), "n1 hands on the lead of 2 shards");
    let leads = std::mem::take(&mut world.report(1).leads);
    world.report(2).leads = leads;
    assert_eq!(
        world.next(&turn(1, false, &[2, 3])),
        Step::Go(turn(1, true, &[2, 3]))
    );
}

#[test]
fn nobody_has_a_turn_without_whom_a_shard_had_no_majority() {
    let mut world = world();
    world.leave_behind(2);
    world.waits(&Rolling::default(), "no majority without n3");
    world.waits(&turn(3, false, &[]), "no majority without n3");
    world.report(1).leads.pop();
    world.waits(&Rolling::default(), "no majority without n3");
    world.report(1).leads.clear();
    world.waits(&Rolling::default(), "nobody leads shard 0");
}

#[test]
fn a_node_is_back_when_it_has_caught_up_and_its_blocks_have_their_copies() {
    let mut world = world();
    world.report(3).here.restarted = 5;
    world.report(2).behind = 65;
    world.waits(&turn(3, true, &[]), "65 blocks of n2");
    world.report(2).behind = 64;
    assert!(matches!(world.next(&turn(3, true, &[])), Step::Go(_)));
    world.report(3).behind = u64::MAX;
    world.waits(&turn(3, true, &[]), "block-store of n3 does not answer");
    world.leave_behind(3);
    world.waits(&turn(3, true, &[]), "n3 has not caught up in shard 0");
    world.reports.pop();
    world.reports.push(None);
    world.waits(&turn(3, true, &[]), "n3 is not heard");
    // It has left for good.
    world.entries.pop();
    assert!(matches!(
        world.next(&turn(3, true, &[])),
        Step::Go(Rolling { now: None, .. })
    ));
}

#[test]
fn a_shard_whose_voters_are_being_changed_is_waited_for_and_the_newest_leader_is_believed() {
    let mut world = world();
    let mut newer = world.report(1).leads.clone();
    newer.iter_mut().for_each(|led| {
        led.term = 2;
        led.settled = false;
    });
    world.report(2).leads = newer;
    world.waits(&Rolling::default(), "voters of shard 0 are being changed");
}
