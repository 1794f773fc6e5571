//! The lifecycle: what is due when, and that nothing else is removed in its place.

use super::*;
use proptest::prelude::*;
use protocol::metadata::{Retention, RetentionMode, VersionEntry};
use protocol::settings::{
    Expiration, Lifecycle, LifecycleFilter, LifecycleRule, NoncurrentExpiration,
};

const DAY: u64 = 24 * 60 * 60 * 1_000;

fn at(store: &mut MemoryStore, at_ms: u64, change: impl Into<AnyChange>) -> Outcome {
    let change = change.into();
    apply(store, &Command { at_ms, change }).unwrap()
}

fn put_at(store: &mut MemoryStore, at_ms: u64, key: &str, bytes: usize) {
    at(store, at_ms, put(key, Content::Inline(vec![0; bytes]))).unwrap();
}

fn rule(rule: LifecycleRule) -> Lifecycle {
    let enabled = LifecycleRule {
        enabled: true,
        ..rule
    };
    Lifecycle {
        rules: vec![enabled],
    }
}

fn days(days: u32) -> LifecycleRule {
    LifecycleRule {
        expiration: Some(Expiration::Days(days)),
        ..LifecycleRule::default()
    }
}

/// All that is due at a time, found in looks of `limit` rows.
fn due(store: &MemoryStore, lifecycle: &Lifecycle, now_ms: u64, limit: u64) -> Vec<Due> {
    let (mut found, mut next) = (Vec::new(), Some(Cursor::start(BUCKET)));
    while let Some(cursor) = next {
        let look = look(store, BUCKET, lifecycle, cursor, now_ms, limit).unwrap();
        assert!(look.rows <= limit);
        found.extend(look.due);
        next = look.next;
    }
    found
}

fn due_keys(store: &MemoryStore, lifecycle: &Lifecycle, now_ms: u64) -> Vec<String> {
    let key = |due| match due {
        Due::Version { key, .. } | Due::Upload { key, .. } => key,
    };
    due(store, lifecycle, now_ms, 100)
        .into_iter()
        .map(key)
        .collect()
}

/// A whole pass.
fn pass(store: &mut MemoryStore, lifecycle: &Lifecycle, now_ms: u64) {
    for due in due(store, lifecycle, now_ms, 100) {
        // What is protected is refused.
        let _ = at(store, now_ms, due.removal(BUCKET));
    }
}

fn versions(store: &MemoryStore) -> Vec<VersionEntry> {
    let operation = Operation::ListVersions {
        bucket: BUCKET,
        prefix: String::new(),
        delimiter: String::new(),
        after: None,
        limit: 1_000,
    };
    match ask(store, operation) {
        Ok(Reply::Versions { entries, .. }) => entries,
        other => panic!("{other:?}"),
    }
}

#[test]
fn days_count_from_the_writing_to_the_midnight_after() {
    let mut store = opened();
    // At half past ten on the fifteenth day, as in AWS's example.
    put_at(&mut store, 15 * DAY + 10 * DAY / 24, "k", 1);
    let lifecycle = rule(days(3));
    assert!(due_keys(&store, &lifecycle, 19 * DAY - 1).is_empty());
    assert_eq!(due_keys(&store, &lifecycle, 19 * DAY), ["k"]);
    let date = rule(LifecycleRule {
        expiration: Some(Expiration::Date(20 * DAY)),
        ..LifecycleRule::default()
    });
    assert!(due_keys(&store, &date, 20 * DAY - 1).is_empty());
    assert_eq!(due_keys(&store, &date, 20 * DAY), ["k"]);
    pass(&mut store, &date, 20 * DAY);
    assert_eq!(get(&store, "k"), Err(MetadataError::NoSuchKey));
}

#[test]
fn a_rule_is_about_what_meets_its_whole_filter() {
    let mut store = opened();
    put_at(&mut store, 0, "a/small", 1);
    put_at(&mut store, 0, "a/large", 100);
    put_at(&mut store, 0, "b", 100);
    let mut tagged = object(Content::Inline(vec![0; 100]));
    tagged.attributes.tags = vec![("team".into(), "red".into()), ("x".into(), "y".into())];
    let put = Change::PutObject {
        bucket: BUCKET,
        key: "a/tagged".into(),
        object: tagged,
        precondition: Precondition::None,
        copied: false,
        event: EventKind::Put,
    };
    at(&mut store, 0, put).unwrap();
    let with = |filter| {
        let filtered = LifecycleRule { filter, ..days(1) };
        due_keys(&store, &rule(filtered), 9 * DAY)
    };
    let none = LifecycleFilter::default;
    assert_eq!(with(none()), ["a/large", "a/small", "a/tagged", "b"]);
    let prefix = |prefix: &str| LifecycleFilter {
        prefix: prefix.into(),
        ..none()
    };
    assert_eq!(with(prefix("a/")), ["a/large", "a/small", "a/tagged"]);
    let sized = LifecycleFilter {
        larger_than: Some(1),
        smaller_than: Some(101),
        ..prefix("a/")
    };
    assert_eq!(with(sized), ["a/large", "a/tagged"]);
    let tags = |tags: &[(&str, &str)]| LifecycleFilter {
        tags: tags
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect(),
        ..none()
    };
    assert_eq!(with(tags(&[("team", "red")])), ["a/tagged"]);
    assert!(with(tags(&[("team", "red"), ("z", "z")])).is_empty());
    let disabled = Lifecycle {
        rules: vec![days(1)],
    };
    assert!(due_keys(&store, &disabled, 9 * DAY).is_empty());
}

#[test]
fn an_object_that_was_written_anew_meanwhile_stays() {
    let mut store = opened();
    put_at(&mut store, 0, "k", 1);
    let found = due(&store, &rule(days(1)), 9 * DAY, 10);
    put_at(&mut store, 9 * DAY, "k", 2);
    let [Due::Version { key, what }] = found.as_slice() else {
        panic!("{found:?}");
    };
    let (bucket, key, what) = (BUCKET, key.clone(), *what);
    at(&mut store, 9 * DAY, AnyChange::Expire { bucket, key, what }).unwrap();
    assert!(get(&store, "k").is_ok());
}

#[test]
fn in_a_bucket_with_versions_an_expired_object_is_marked_and_its_versions_go_later() {
    let mut store = opened();
    set_versioning(&mut store, Versioning::Enabled);
    put_at(&mut store, 0, "k", 1);
    put_at(&mut store, DAY, "k", 2);
    let lifecycle = rule(LifecycleRule {
        noncurrent: Some(NoncurrentExpiration {
            days: 2,
            keep: None,
        }),
        ..days(5)
    });
    pass(&mut store, &lifecycle, 3 * DAY - 1);
    assert_eq!(versions(&store).len(), 2);
    // The older has been noncurrent since the younger came.
    pass(&mut store, &lifecycle, 3 * DAY);
    assert_eq!(versions(&store).len(), 1);
    pass(&mut store, &lifecycle, 6 * DAY);
    assert!(matches!(
        get(&store, "k"),
        Err(MetadataError::DeleteMarker { .. })
    ));
    assert_eq!(versions(&store).len(), 2);
    pass(&mut store, &lifecycle, 8 * DAY);
    assert_eq!(versions(&store).len(), 1, "the marker is alone");
    pass(&mut store, &lifecycle, 11 * DAY);
    assert_eq!(versions(&store).len(), 0);
    assert_eq!(usage(&store, BUCKET).unwrap().objects, 0);
}

#[test]
fn the_newest_noncurrent_versions_can_be_kept() {
    let mut store = opened();
    set_versioning(&mut store, Versioning::Enabled);
    for day in 0..6 {
        put_at(&mut store, day * DAY, "k", 1);
    }
    let lifecycle = rule(LifecycleRule {
        noncurrent: Some(NoncurrentExpiration {
            days: 1,
            keep: Some(2),
        }),
        ..LifecycleRule::default()
    });
    pass(&mut store, &lifecycle, 50 * DAY);
    let times: Vec<u64> = versions(&store)
        .iter()
        .map(|entry| match entry {
            VersionEntry::Object { modified_ms, .. } => *modified_ms / DAY,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(times, [5, 4, 3]);
}

#[test]
fn a_marker_goes_only_when_it_is_alone() {
    let mut store = opened();
    set_versioning(&mut store, Versioning::Enabled);
    put_at(&mut store, 0, "k", 1);
    at(&mut store, DAY, delete("k")).unwrap();
    at(&mut store, DAY, delete("alone")).unwrap();
    let lifecycle = rule(LifecycleRule {
        expiration: Some(Expiration::DeleteMarker),
        ..LifecycleRule::default()
    });
    assert_eq!(due_keys(&store, &lifecycle, DAY), ["alone"]);
    // Between look and removal somebody wrote: the marker is not alone any more.
    let found = due(&store, &lifecycle, DAY, 10);
    put_at(&mut store, DAY, "alone", 1);
    let before = versions(&store).len();
    for due in found {
        let Due::Version { key, what } = due else {
            panic!()
        };
        let bucket = BUCKET;
        at(&mut store, DAY, AnyChange::Expire { bucket, key, what }).unwrap();
    }
    assert_eq!(versions(&store).len(), before);
}

#[test]
fn what_is_protected_outlives_every_rule() {
    let mut store = opened();
    set_versioning(&mut store, Versioning::Enabled);
    let lock = Change::PutObjectLock {
        bucket: BUCKET,
        lock: Default::default(),
    };
    run(&mut store, lock).unwrap();
    let mut kept = object(Content::Inline(vec![1]));
    kept.attributes.retention = Some(Retention {
        mode: RetentionMode::Compliance,
        until_ms: 100 * DAY,
    });
    let put = Change::PutObject {
        bucket: BUCKET,
        key: "k".into(),
        object: kept,
        precondition: Precondition::None,
        copied: false,
        event: EventKind::Put,
    };
    at(&mut store, 0, put).unwrap();
    let lifecycle = rule(LifecycleRule {
        noncurrent: Some(NoncurrentExpiration {
            days: 1,
            keep: None,
        }),
        ..days(1)
    });
    for day in 1..99 {
        pass(&mut store, &lifecycle, day * DAY);
    }
    assert_eq!(versions(&store).len(), 2, "the version and its marker");
    pass(&mut store, &lifecycle, 101 * DAY);
    assert_eq!(versions(&store).len(), 1);
}

#[test]
fn uploads_are_dropped_so_many_days_after_their_start() {
    let mut store = opened();
    at(&mut store, 0, create_upload("a/k", "u1")).unwrap();
    at(&mut store, 0, create_upload("b/k", "u2")).unwrap();
    at(&mut store, 5 * DAY, create_upload("a/k", "u3")).unwrap();
    let lifecycle = rule(LifecycleRule {
        filter: LifecycleFilter {
            prefix: "a/".into(),
            ..LifecycleFilter::default()
        },
        abort_uploads_days: Some(2),
        ..LifecycleRule::default()
    });
    assert!(due(&store, &lifecycle, 2 * DAY - 1, 1).is_empty());
    let found = due(&store, &lifecycle, 6 * DAY, 1);
    let (key, upload) = ("a/k".to_owned(), "u1".to_owned());
    assert_eq!(found, [Due::Upload { key, upload }]);
}

proptest! {
    /// However the rows are cut into looks, the same is due; and what is not due is never removed.
    #[test]
    fn looks_of_every_size_find_the_same(
        writes in proptest::collection::vec((0u64..12, "[abc]{1,2}", 0u8..4), 1..40),
        versioned: bool, limit in 1u64..6, keep in proptest::option::of(1u32..3), age in 1u32..6,
    ) {
        let mut store = opened();
        if versioned {
            set_versioning(&mut store, Versioning::Enabled);
        }
        let mut writes = writes;
        writes.sort();
        for (day, key, what) in &writes {
            match what {
                0 => drop(at(&mut store, day * DAY, delete(key))),
                _ => put_at(&mut store, day * DAY, key, usize::from(*what)),
            }
        }
        let lifecycle = rule(LifecycleRule {
            filter: LifecycleFilter { prefix: "a".into(), ..LifecycleFilter::default() },
            noncurrent: Some(NoncurrentExpiration { days: age, keep }),
            ..days(age)
        });
        let now = 12 * DAY;
        prop_assert_eq!(due(&store, &lifecycle, now, limit), due(&store, &lifecycle, now, 1_000));
        let others = |store: &MemoryStore| {
            let other = |entry: &VersionEntry| !format!("{entry:?}").contains("key: \"a");
            versions(store).into_iter().filter(other).collect::<Vec<_>>()
        };
        let before = others(&store);
        pass(&mut store, &lifecycle, now);
        prop_assert_eq!(others(&store), before);
        pass(&mut store, &lifecycle, 100 * DAY);
        pass(&mut store, &lifecycle, 200 * DAY);
        pass(&mut store, &lifecycle, 300 * DAY);
        let left = versions(&store).iter().filter(|entry| format!("{entry:?}").contains("key: \"a")).count();
        prop_assert!(keep.is_some() && versioned || left == 0, "{left} left");
    }
}
