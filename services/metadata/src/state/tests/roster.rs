//! Who belongs to the cluster: founded once, joined by an invitation that one key uses up, left for good or for a time.

use super::*;
use proptest::prelude::*;
use protocol::cluster::{
    AdmissionError, ClusterId, GossipKey, NODES_MAX, NodeEntry, NodeKey, Roster, Standing,
};
use std::collections::BTreeMap;

const CLUSTER: ClusterId = ClusterId([7; 16]);
const HOUR_MS: u64 = 3_600_000;

fn node(number: u8) -> NodeEntry {
    NodeEntry {
        key: NodeKey([number; 32]),
        gossip_key: GossipKey([number; 32]),
        name: format!("node-{number}"),
        zone: "home".into(),
        capacity_bytes: 1 << 40,
        mesh: format!("10.0.0.{number}:3901"),
        gossip: format!("10.0.0.{number}:3902"),
        standing: Standing::Member,
    }
}

fn at(store: &mut MemoryStore, at_ms: u64, change: ClusterChange) -> Result<Roster, MetadataError> {
    let change = AnyChange::Cluster(change);
    match apply(store, &Command { at_ms, change }).unwrap()? {
        Reply::Roster(Some(roster)) => Ok(roster),
        other => panic!("{other:?}"),
    }
}

fn founded() -> MemoryStore {
    let mut store = MemoryStore::default();
    let found = ClusterChange::Found {
        cluster: CLUSTER,
        version: 1,
        node: node(1),
    };
    at(&mut store, 0, found).unwrap();
    store
}

fn invite(store: &mut MemoryStore, secret: u8) {
    let invite = ClusterChange::Invite {
        secret_hash: [secret; 32],
        expires_ms: HOUR_MS,
    };
    at(store, 0, invite).unwrap();
}

fn admit(secret: u8, node: NodeEntry) -> ClusterChange {
    ClusterChange::Admit {
        cluster: CLUSTER,
        secret_hash: [secret; 32],
        node,
    }
}

fn put_out(number: u8, standing: Standing) -> ClusterChange {
    let key = NodeKey([number; 32]);
    ClusterChange::SetStanding { key, standing }
}

fn not_admitted<T>(error: AdmissionError) -> Result<T, MetadataError> {
    Err(MetadataError::NotAdmitted(error))
}

fn kept(store: &MemoryStore) -> Roster {
    super::super::roster(store).unwrap().unwrap()
}

#[test]
fn a_cluster_is_made_once() {
    let mut store = MemoryStore::default();
    let early = at(&mut store, 0, admit(1, node(2)));
    assert!(matches!(early, Err(MetadataError::Unavailable(_))));
    assert_eq!(ask(&store, Operation::Roster), Ok(Reply::Roster(None)));
    let mut store = founded();
    let again = ClusterChange::Found {
        cluster: ClusterId([8; 16]),
        version: 9,
        node: node(2),
    };
    let roster = at(&mut store, 0, again).unwrap();
    assert_eq!((roster.cluster, roster.version), (CLUSTER, 1));
    assert_eq!(roster.nodes, [node(1)]);
    assert_eq!(
        ask(&store, Operation::Roster),
        Ok(Reply::Roster(Some(roster)))
    );
}

#[test]
fn an_invitation_admits_one_key_and_that_one_as_often_as_it_asks() {
    let mut store = founded();
    invite(&mut store, 1);
    let admitted = at(&mut store, 5, admit(1, node(2))).unwrap();
    assert_eq!((admitted.version, admitted.nodes.len()), (2, 2));
    assert_eq!(at(&mut store, 6, admit(1, node(2))), Ok(admitted.clone()));
    // Also when its time is over: the answer may have been lost.
    assert_eq!(at(&mut store, 2 * HOUR_MS, admit(1, node(2))), Ok(admitted));
    let before = store.clone();
    for (change, at_ms, error) in [
        (admit(1, node(3)), 5, AdmissionError::UsedToken),
        (admit(2, node(3)), 5, AdmissionError::UnknownToken),
    ] {
        assert_eq!(at(&mut store, at_ms, change), not_admitted(error));
    }
    assert_eq!(store, before, "a refusal leaves no trace");
}

#[test]
fn a_newcomer_is_refused_for_the_reason_that_it_is_told() {
    let mut store = founded();
    invite(&mut store, 1);
    let mut same_name = node(2);
    same_name.name = "node-1".into();
    let mut same_start = node(2);
    same_start.key.0[..8].copy_from_slice(&[1; 8]);
    let mut nowhere = node(2);
    nowhere.mesh = String::new();
    let mut shouting = node(2);
    shouting.name = "NODE\u{7}".into();
    let mut elsewhere = admit(1, node(2));
    if let ClusterChange::Admit { cluster, .. } = &mut elsewhere {
        *cluster = ClusterId([9; 16]);
    }
    let check = |store: &mut MemoryStore, at_ms, change, expected: &str| {
        let before = store.clone();
        match at(store, at_ms, change) {
            Err(MetadataError::NotAdmitted(error)) => {
                let said = error.to_string();
                assert!(said.contains(expected), "{said}");
            }
            other => panic!("{expected}: {other:?}"),
        }
        assert_eq!(*store, before);
    };
    check(&mut store, 5, elsewhere, "another cluster");
    check(&mut store, 5, admit(1, same_name), "node-1 belongs already");
    check(&mut store, 5, admit(1, same_start), "begins as another");
    check(&mut store, 5, admit(1, nowhere), "no address");
    check(&mut store, 5, admit(1, shouting), "a name is");
    check(&mut store, HOUR_MS, admit(1, node(2)), "expired");
    at(&mut store, HOUR_MS - 1, admit(1, node(2))).unwrap();
}

#[test]
fn who_has_left_comes_back_by_a_new_invitation_and_who_was_revoked_never() {
    let mut store = founded();
    for secret in 1..=4 {
        invite(&mut store, secret);
    }
    at(&mut store, 5, admit(1, node(2))).unwrap();
    at(&mut store, 5, put_out(2, Standing::Left)).unwrap();
    let again = at(&mut store, 5, admit(1, node(2)));
    assert_eq!(again, not_admitted(AdmissionError::UsedToken));
    // Its name is free meanwhile.
    let mut namesake = node(3);
    namesake.name = "node-2".into();
    at(&mut store, 5, admit(2, namesake)).unwrap();
    let taken = at(&mut store, 5, admit(3, node(2)));
    let error = AdmissionError::NameTaken("node-2".into());
    assert_eq!(taken, not_admitted(error));
    let mut moved = node(2);
    (moved.name, moved.zone) = ("back".into(), "lille".into());
    let roster = at(&mut store, 5, admit(3, moved.clone())).unwrap();
    assert_eq!(roster.nodes[1], moved, "at its old place");
    at(&mut store, 5, put_out(2, Standing::Revoked)).unwrap();
    let revoked = at(&mut store, 5, admit(4, moved));
    assert_eq!(revoked, not_admitted(AdmissionError::Revoked));
    let left = at(&mut store, 5, put_out(2, Standing::Left));
    assert!(matches!(left, Err(MetadataError::Refused(_))), "{left:?}");
}

#[test]
fn the_last_node_stays_and_putting_out_can_be_repeated() {
    let mut store = founded();
    for change in [put_out(1, Standing::Left), put_out(1, Standing::Revoked)] {
        let last = at(&mut store, 5, change);
        assert!(matches!(last, Err(MetadataError::Refused(_))), "{last:?}");
    }
    let nobody = at(&mut store, 5, put_out(9, Standing::Revoked));
    assert_eq!(nobody, Err(MetadataError::NoSuchNode));
    invite(&mut store, 1);
    at(&mut store, 5, admit(1, node(2))).unwrap();
    let out = at(&mut store, 5, put_out(1, Standing::Revoked)).unwrap();
    assert_eq!(out.version, 3);
    assert_eq!(at(&mut store, 5, put_out(1, Standing::Revoked)), Ok(out));
    let back = at(&mut store, 5, put_out(1, Standing::Member));
    assert!(matches!(back, Err(MetadataError::Refused(_))), "{back:?}");
}

#[test]
fn a_node_says_what_it_is_and_nothing_changes_if_it_says_the_same() {
    let mut store = founded();
    invite(&mut store, 1);
    at(&mut store, 5, admit(1, node(2))).unwrap();
    let set = |node: &NodeEntry| ClusterChange::SetNode { node: node.clone() };
    assert_eq!(at(&mut store, 5, set(&node(2))).unwrap().version, 2);
    let mut moved = node(2);
    (moved.zone, moved.capacity_bytes, moved.mesh) =
        ("lille".into(), 0, "[2001:db8::2]:3901".into());
    // It cannot say of itself that it does not belong.
    moved.standing = Standing::Left;
    let roster = at(&mut store, 5, set(&moved)).unwrap();
    moved.standing = Standing::Member;
    assert_eq!((roster.version, &roster.nodes[1]), (3, &moved));
    moved.name = "node-1".into();
    let taken = at(&mut store, 5, set(&moved));
    assert_eq!(
        taken,
        not_admitted(AdmissionError::NameTaken("node-1".into()))
    );
    at(&mut store, 5, put_out(2, Standing::Left)).unwrap();
    let gone = at(&mut store, 5, set(&node(2)));
    assert_eq!(gone, Err(MetadataError::NoSuchNode));
    moved.gossip = "nowhere".into();
    let wrong = at(&mut store, 5, set(&moved));
    assert!(matches!(wrong, Err(MetadataError::Refused(_))), "{wrong:?}");
}

#[test]
fn there_are_only_so_many_nodes_and_invitations() {
    let mut store = founded();
    for number in 2..=NODES_MAX as u8 {
        invite(&mut store, number);
        at(&mut store, 5, admit(number, node(number))).unwrap();
    }
    let one_more = NODES_MAX as u8 + 1;
    invite(&mut store, one_more);
    let full = at(&mut store, 5, admit(one_more, node(one_more)));
    assert_eq!(full, not_admitted(AdmissionError::Full));

    let mut store = founded();
    let invitation = |number: u16| {
        let mut secret_hash = [0; 32];
        secret_hash[..2].copy_from_slice(&number.to_be_bytes());
        ClusterChange::Invite {
            secret_hash,
            expires_ms: HOUR_MS,
        }
    };
    for number in 0..256 {
        at(&mut store, 0, invitation(number)).unwrap();
    }
    let much = at(&mut store, 0, invitation(256));
    assert!(matches!(much, Err(MetadataError::Refused(_))), "{much:?}");
    at(&mut store, 0, invitation(0)).unwrap();
    // Those whose time has long been over make room.
    let rows = store.rows.len();
    let later = HOUR_MS + 7 * 24 * HOUR_MS;
    at(&mut store, later, invitation(256)).unwrap();
    assert_eq!(store.rows.len(), rows - 255);
}

fn any_change() -> impl Strategy<Value = (u64, ClusterChange)> {
    let number = 1_u8..8;
    let entry = (number.clone(), 1_u8..8, any::<bool>()).prop_map(|(number, name, bare)| {
        let mut entry = node(number);
        entry.name = format!("node-{name}");
        if bare {
            entry.gossip = String::new();
        }
        entry
    });
    let standing = prop_oneof![
        Just(Standing::Member),
        Just(Standing::Left),
        Just(Standing::Revoked)
    ];
    let change = prop_oneof![
        entry.clone().prop_map(|node| ClusterChange::Found {
            cluster: CLUSTER,
            version: 1,
            node
        }),
        (number.clone(), 0..3 * HOUR_MS).prop_map(|(secret, expires_ms)| ClusterChange::Invite {
            secret_hash: [secret; 32],
            expires_ms
        }),
        (number.clone(), entry.clone()).prop_map(|(secret, node)| admit(secret, node)),
        (number.clone(), entry.clone()).prop_map(|(secret, node)| admit(secret, node)),
        entry.prop_map(|node| ClusterChange::SetNode { node }),
        (number, standing).prop_map(|(number, standing)| put_out(number, standing)),
    ];
    (0..3 * HOUR_MS, change)
}

proptest! {
    #[test]
    fn whatever_is_asked_the_roster_keeps_its_rules(
        changes in proptest::collection::vec(any_change(), 0..60),
    ) {
        let mut store = MemoryStore::default();
        let mut used: BTreeMap<[u8; 32], NodeKey> = BTreeMap::new();
        for (at_ms, change) in changes {
            let before = store.clone();
            let old = super::super::roster(&store).unwrap();
            let outcome = at(&mut store, at_ms, change.clone());
            let Ok(now) = outcome else {
                prop_assert_eq!(&store, &before);
                continue;
            };
            prop_assert_eq!(&kept(&store), &now);
            prop_assert_eq!(now.broken_rule(), None);
            prop_assert!(now.members().count() > 0, "somebody belongs");
            // The same once more is the same.
            let same = store.clone();
            prop_assert_eq!(at(&mut store, at_ms, change.clone()), Ok(now.clone()));
            prop_assert_eq!(&store, &same);
            if let ClusterChange::Admit { secret_hash, node, .. } = &change {
                let user = used.entry(*secret_hash).or_insert(node.key);
                prop_assert_eq!(*user, node.key, "one key for one invitation");
            }
            let Some(old) = old else { continue };
            prop_assert_eq!(now.version, old.version + u64::from(now != old));
            for (old, now) in old.nodes.iter().zip(&now.nodes) {
                prop_assert_eq!(old.key, now.key, "nobody is forgotten");
                prop_assert!(old.standing != Standing::Revoked || now == old);
            }
        }
    }
}
