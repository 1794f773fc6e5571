//! Which nodes keep blocks: staged, applied by whoever saw the newest version, and in force when everybody has given away what it should.

use super::*;
use protocol::cluster::NodeKey;
use protocol::copies::PARTITIONS;
use protocol::metadata::{LayoutEdit, Role};

fn role(number: u8) -> Role {
    Role {
        key: NodeKey([number; 32]),
        zone: format!("z{number}"),
        capacity_bytes: 1 << 40,
    }
}

fn edit(store: &mut MemoryStore, edit: LayoutEdit) -> Outcome {
    run(store, AnyChange::Layout(LayoutChange::Stage(edit)))
}

fn apply_to(store: &mut MemoryStore, version: u64, to: Arrangement) -> Outcome {
    run(
        store,
        AnyChange::Layout(LayoutChange::Apply { version, to }),
    )
}

fn settled(store: &mut MemoryStore, number: u8, placed: u64) {
    let key = NodeKey([number; 32]);
    let change = LayoutChange::Settled { key, placed };
    run(store, AnyChange::Layout(change)).unwrap();
}

fn kept(store: &MemoryStore) -> Layout {
    layout(store).unwrap().unwrap()
}

fn begun() -> MemoryStore {
    let mut store = MemoryStore::default();
    for number in [1, 2] {
        let role = role(number);
        run(&mut store, AnyChange::Layout(LayoutChange::Begin { role })).unwrap();
    }
    store
}

/// Each partition on all of these.
fn on(numbers: &[u8]) -> Arrangement {
    Arrangement {
        copies: numbers.len() as u8,
        roles: numbers.iter().map(|number| role(*number)).collect(),
        partitions: vec![(0..numbers.len() as u8).collect(); PARTITIONS],
    }
}

#[test]
fn it_begins_once_with_everything_on_one_node() {
    let layout = kept(&begun());
    assert_eq!((layout.version, layout.placed), (1, 1));
    assert_eq!(layout.present, on(&[1]));
    let mut store = MemoryStore::default();
    let early = edit(&mut store, LayoutEdit::Revert);
    assert_eq!(early, Err(MetadataError::LayoutChanged));
}

#[test]
fn what_is_staged_changes_nothing_and_each_node_is_staged_once() {
    let mut store = begun();
    edit(&mut store, LayoutEdit::Assign(role(2))).unwrap();
    edit(&mut store, LayoutEdit::Assign(role(2))).unwrap();
    edit(&mut store, LayoutEdit::Copies(2)).unwrap();
    let layout = kept(&store);
    assert_eq!(
        (layout.version, layout.placed),
        (3, 1),
        "saying it again is no change"
    );
    assert_eq!(layout.wished(), (vec![role(1), role(2)], 2));
    edit(&mut store, LayoutEdit::Remove(role(2).key)).unwrap();
    assert_eq!(kept(&store).wished(), (vec![role(1)], 2));
    edit(&mut store, LayoutEdit::Revert).unwrap();
    assert!(!kept(&store).has_staged());
    for wrong in [
        LayoutEdit::Copies(4),
        LayoutEdit::Assign(Role {
            zone: String::new(),
            ..role(3)
        }),
        LayoutEdit::Assign(Role {
            zone: "z".repeat(65),
            ..role(3)
        }),
    ] {
        let refused = edit(&mut store, wrong);
        assert!(matches!(refused, Err(MetadataError::Refused(_))));
    }
}

#[test]
fn of_two_who_apply_at_once_one_is_refused() {
    let mut store = begun();
    edit(&mut store, LayoutEdit::Assign(role(2))).unwrap();
    let version = kept(&store).version;
    apply_to(&mut store, version, on(&[1, 2])).unwrap();
    let second = apply_to(&mut store, version, on(&[2]));
    assert_eq!(second, Err(MetadataError::LayoutChanged));
    let layout = kept(&store);
    assert_eq!(layout.present, on(&[1]));
    assert_eq!(layout.moving.unwrap().to, on(&[1, 2]));
}

#[test]
fn an_arrangement_that_means_nothing_is_refused() {
    let mut store = begun();
    let version = kept(&store).version;
    let check = |store: &mut MemoryStore, change: &dyn Fn(&mut Arrangement)| {
        let mut to = on(&[1, 2]);
        change(&mut to);
        let refused = apply_to(store, version, to);
        assert_eq!(refused, Err(MetadataError::LayoutChanged));
    };
    check(&mut store, &|to| to.partitions.truncate(255));
    check(&mut store, &|to| to.partitions[7] = vec![0]);
    check(&mut store, &|to| to.partitions[7] = vec![1, 1]);
    check(&mut store, &|to| to.partitions[7] = vec![0, 2]);
    check(&mut store, &|to| to.roles[1] = role(1));
    check(&mut store, &|to| to.copies = 0);
}

#[test]
fn a_move_is_over_when_every_holder_has_settled_in_this_placement() {
    let mut store = begun();
    let version = kept(&store).version;
    apply_to(&mut store, version, on(&[2, 3])).unwrap();
    let placed = kept(&store).placed;
    for (number, placed) in [
        (1, placed),
        (2, placed),
        (2, placed),
        (3, placed - 1),
        (9, placed),
    ] {
        settled(&mut store, number, placed);
    }
    assert!(kept(&store).moving.is_some());
    assert!(kept(&store).awaits(&role(3).key) && !kept(&store).awaits(&role(1).key));
    assert!(!kept(&store).awaits(&role(8).key), "it has nothing to give");
    settled(&mut store, 3, placed);
    let layout = kept(&store);
    assert_eq!((layout.present, layout.moving), (on(&[2, 3]), None));
    assert_eq!(layout.placed, placed + 1);
}

#[test]
fn a_move_may_be_replaced_by_another_and_late_words_on_the_first_do_not_count() {
    let mut store = begun();
    let version = kept(&store).version;
    apply_to(&mut store, version, on(&[1, 2])).unwrap();
    let first = kept(&store).placed;
    settled(&mut store, 1, first);
    let version = kept(&store).version;
    apply_to(&mut store, version, on(&[1, 3])).unwrap();
    for number in [1, 2, 3] {
        settled(&mut store, number, first);
    }
    let layout = kept(&store);
    assert_eq!(layout.present, on(&[1]));
    assert_eq!(layout.moving.unwrap().settled, []);
}
