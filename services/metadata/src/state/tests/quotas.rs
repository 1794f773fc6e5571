//! Quotas: never exceeded by any way of adding, and in nobody's way who adds nothing.

use super::*;
use proptest::prelude::*;
use protocol::metadata::{BucketUsage, Quota};

fn set(store: &mut MemoryStore, objects_max: Option<u64>, bytes_max: Option<u64>) {
    let quota = Quota {
        objects_max,
        bytes_max,
    };
    run(
        store,
        Change::SetQuota {
            bucket: BUCKET,
            quota,
        },
    )
    .unwrap();
}

fn bytes(length: usize) -> Content {
    Content::Inline(vec![7; length])
}

fn held(store: &MemoryStore) -> BucketUsage {
    usage(store, BUCKET).unwrap()
}

fn is_refused(outcome: &Outcome) -> bool {
    matches!(outcome, Err(MetadataError::QuotaExceeded(_)))
}

#[test]
fn a_put_beyond_the_quota_changes_nothing_and_one_that_adds_nothing_happens() {
    let mut store = opened();
    set(&mut store, Some(2), Some(100));
    run(&mut store, put("a", bytes(60))).unwrap();
    let before = store.clone();
    assert!(is_refused(&run(&mut store, put("b", bytes(41)))));
    assert_eq!(store, before);
    run(&mut store, put("b", bytes(40))).unwrap();
    assert!(
        is_refused(&run(&mut store, put("c", bytes(0)))),
        "a third object"
    );
    assert!(
        is_refused(&run(&mut store, put("a", bytes(61)))),
        "one byte more"
    );
    // Lowered below what is there: replacing by less and deleting go on.
    set(&mut store, Some(1), Some(10));
    run(&mut store, put("a", bytes(50))).unwrap();
    assert!(is_refused(&run(&mut store, put("a", bytes(51)))));
    run(&mut store, delete("b")).unwrap();
    assert_eq!((held(&store).objects, held(&store).bytes), (1, 50));
    set(&mut store, None, None);
    run(&mut store, put("c", bytes(500))).unwrap();
}

#[test]
fn older_versions_count_and_a_rename_does_not() {
    let mut store = opened();
    set(&mut store, Some(2), None);
    run(&mut store, put("a", bytes(1))).unwrap();
    run(&mut store, put("b", bytes(1))).unwrap();
    let rename = Change::RenameObject {
        bucket: BUCKET,
        source: "a".into(),
        key: "c".into(),
        source_conditions: Conditions::default(),
        conditions: Conditions::default(),
        token: None,
    };
    run(&mut store, rename).unwrap();
    set_versioning(&mut store, Versioning::Enabled);
    assert!(
        is_refused(&run(&mut store, put("b", bytes(1)))),
        "the one before stays"
    );
    // A delete marker is no object.
    run(&mut store, delete("b")).unwrap();
    assert!(is_refused(&run(&mut store, put("b", bytes(1)))));
    run(&mut store, delete_version("b", Some(VersionId::Null))).unwrap();
    run(&mut store, put("b", bytes(1))).unwrap();
}

#[test]
fn a_refused_put_leaves_its_blocks_to_the_sweep() {
    let mut store = opened();
    set(&mut store, None, Some(5 << 20));
    run(&mut store, put("a", Content::Blocks(blocks(&[1])))).unwrap();
    assert!(is_refused(&run(
        &mut store,
        put("b", Content::Blocks(blocks(&[2])))
    )));
    assert_eq!(held(&store).bytes, 4 << 20);
    let mut copy = put("b", Content::Blocks(blocks(&[1])));
    if let Change::PutObject { copied, .. } = &mut copy {
        *copied = true;
    }
    assert!(
        is_refused(&run(&mut store, copy)),
        "a copy counts although it shares its blocks"
    );
}

proptest! {
    #[test]
    fn no_sequence_of_changes_exceeds_a_quota(
        objects_max in 0_u64..6,
        bytes_max in 0_u64..200,
        versioned in any::<bool>(),
        steps in prop::collection::vec((0_u8..4, 0_usize..90, 0_u8..5), 1..60),
    ) {
        let mut store = opened();
        if versioned {
            set_versioning(&mut store, Versioning::Enabled);
        }
        set(&mut store, Some(objects_max), Some(bytes_max));
        for (key, length, kind) in steps {
            let key = format!("k{key}");
            let change = match kind {
                0 => delete(&key),
                1 => delete_version(&key, Some(VersionId::Null)),
                2 => Change::RenameObject {
                    bucket: BUCKET,
                    source: key,
                    key: "k0".into(),
                    source_conditions: Conditions::default(),
                    conditions: Conditions::default(),
                    token: None,
                },
                _ => put(&key, bytes(length)),
            };
            let _ = run(&mut store, change);
            let held = held(&store);
            prop_assert!(held.objects <= objects_max && held.bytes <= bytes_max, "{held:?}");
        }
    }
}
