//! The schedule of services: a change replaces exactly what its proposer saw.

use super::*;
use protocol::cluster::NodeKey;
use protocol::schedule::PLACED_MAX;
use std::collections::BTreeSet;

fn put(store: &mut MemoryStore, next: Schedule) -> Outcome {
    run(store, AnyChange::Schedule(ScheduleChange { next }))
}

#[test]
fn of_two_who_change_the_same_schedule_one_is_refused() {
    let mut store = MemoryStore::default();
    assert_eq!(schedule(&store).unwrap(), Schedule::default());
    let next = Schedule {
        version: 1,
        draining: BTreeSet::from([NodeKey([1; 32])]),
        ..Schedule::default()
    };
    put(&mut store, next.clone()).unwrap();
    let late = Schedule {
        version: 1,
        ..Schedule::default()
    };
    assert!(matches!(
        put(&mut store, late),
        Err(MetadataError::Refused(_))
    ));
    assert_eq!(schedule(&store).unwrap(), next);
}

#[test]
fn a_schedule_beyond_its_bounds_is_refused() {
    let mut store = MemoryStore::default();
    let services = |count: usize| (0..count).map(|one| (format!("s{one}"), BTreeSet::new()));
    let of = |count| Schedule {
        version: 1,
        services: services(count).collect(),
        ..Schedule::default()
    };
    let stopped = Schedule {
        version: 1,
        stopped: Some("x".repeat(STOPPED_BYTES_MAX + 1)),
        ..Schedule::default()
    };
    for wrong in [of(PLACED_MAX + 1), stopped] {
        assert!(matches!(
            put(&mut store, wrong),
            Err(MetadataError::Refused(_))
        ));
    }
    put(&mut store, of(PLACED_MAX)).unwrap();
}

#[test]
fn a_node_is_told_to_restart_in_its_turn_only() {
    let [first, second] = [1, 2].map(|number| NodeKey([number; 32]));
    let mut schedule = Schedule {
        restarts: 7,
        draining: BTreeSet::from([second]),
        rolling: Some(Rolling {
            now: Some(first),
            ..Rolling::default()
        }),
        ..Schedule::default()
    };
    assert_eq!(schedule.restart_of(&first), None, "it may still lead");
    assert_eq!(schedule.away(), BTreeSet::from([first, second]));
    schedule.rolling.as_mut().unwrap().told = true;
    assert_eq!(schedule.restart_of(&first), Some(7));
    assert_eq!(schedule.restart_of(&second), None);
}
