//! Which nodes keep blocks: staged, applied by whoever saw the newest version, and in force when everybody has given away what it should.

use super::*;
use protocol::cluster::{ClusterId, GossipKey, NodeEntry, NodeKey, Standing};
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

#[test]
fn a_founder_s_wish_waits_until_the_layout_begins_and_has_no_effect_later() {
    let wish = |store: &mut MemoryStore, copies| {
        run(store, AnyChange::Layout(LayoutChange::Wish { copies }))
    };
    let mut store = MemoryStore::default();
    assert!(wish(&mut store, 4).is_err());
    wish(&mut store, 3).unwrap();
    wish(&mut store, 2).unwrap();
    let role = role(1);
    run(&mut store, AnyChange::Layout(LayoutChange::Begin { role })).unwrap();
    assert_eq!(kept(&store).staged_copies, Some(2));
    assert_eq!(kept(&store).present.copies, 1, "there is one node");
    wish(&mut store, 5).unwrap();
    assert_eq!(
        (kept(&store).staged_copies, kept(&store).version),
        (Some(2), 1)
    );
    let mut one = MemoryStore::default();
    wish(&mut one, 1).unwrap();
    let role = super::layout::role(1);
    run(&mut one, AnyChange::Layout(LayoutChange::Begin { role })).unwrap();
    assert!(!kept(&one).has_staged());
}

#[test]
fn a_move_does_not_wait_for_who_does_not_belong_any_more() {
    let entry = |number: u8| NodeEntry {
        key: NodeKey([number; 32]),
        gossip_key: GossipKey([number; 32]),
        name: format!("n{number}"),
        zone: "z".into(),
        capacity_bytes: 1,
        mesh: "127.0.0.1:1".into(),
        gossip: "127.0.0.1:1".into(),
        standing: Standing::Member,
    };
    let cluster = ClusterId([1; 16]);
    let world = || {
        let mut store = begun();
        let found = ClusterChange::Found {
            cluster,
            version: 1,
            node: entry(1),
        };
        run(&mut store, AnyChange::Cluster(found)).unwrap();
        for number in [2, 3] {
            let (secret_hash, expires_ms) = ([number; 32], u64::MAX);
            let invite = ClusterChange::Invite {
                secret_hash,
                expires_ms,
            };
            run(&mut store, AnyChange::Cluster(invite)).unwrap();
            let node = entry(number);
            let admit = ClusterChange::Admit {
                cluster,
                secret_hash,
                node,
            };
            run(&mut store, AnyChange::Cluster(admit)).unwrap();
        }
        let version = kept(&store).version;
        apply_to(&mut store, version, on(&[1, 2, 3])).unwrap();
        store
    };
    let revoke = |store: &mut MemoryStore| {
        let (key, standing) = (NodeKey([3; 32]), Standing::Revoked);
        let change = ClusterChange::SetStanding { key, standing };
        run(store, AnyChange::Cluster(change)).unwrap();
    };
    // Before the last of the others has said so, and after.
    let mut store = world();
    let placed = kept(&store).placed;
    settled(&mut store, 1, placed);
    revoke(&mut store);
    assert!(kept(&store).moving.is_some());
    settled(&mut store, 2, placed);
    assert_eq!(
        (kept(&store).moving, kept(&store).present),
        (None, on(&[1, 2, 3]))
    );
    let mut store = world();
    settled(&mut store, 1, placed);
    settled(&mut store, 2, placed);
    assert!(kept(&store).moving.is_some());
    revoke(&mut store);
    assert_eq!(kept(&store).moving, None);
    assert_eq!(kept(&store).placed, placed + 1);
}
