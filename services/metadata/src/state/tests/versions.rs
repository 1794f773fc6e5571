//! Versions and their protection: one promise each. Random sequences are in `sequences`.

use super::*;
use protocol::metadata::{
    AfterVersion, Object, Retention, RetentionMode, RetentionSpan, VersionEntry,
};

fn inline(text: &str) -> Content {
    Content::Inline(text.as_bytes().to_vec())
}

/// Writes and answers the version that it made.
fn write(store: &mut MemoryStore, key: &str, text: &str) -> Option<VersionId> {
    match run(store, put(key, inline(text))).unwrap() {
        Reply::Written { version, .. } => version,
        other => panic!("{other:?}"),
    }
}

fn text(outcome: Outcome) -> String {
    match outcome {
        Ok(Reply::Object(Object {
            content: Content::Inline(bytes),
            ..
        })) => String::from_utf8(bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn versions_of(store: &MemoryStore) -> Vec<(String, VersionId, bool)> {
    let list = Operation::ListVersions {
        bucket: BUCKET,
        prefix: String::new(),
        delimiter: String::new(),
        after: None,
        limit: 1_000,
    };
    let Ok(Reply::Versions { entries, .. }) = ask(store, list) else {
        panic!("no page")
    };
    entries
        .into_iter()
        .map(|entry| match entry {
            VersionEntry::Object {
                key,
                version,
                latest,
                ..
            }
            | VersionEntry::Marker {
                key,
                version,
                latest,
                ..
            } => (key, version, latest),
            VersionEntry::Prefix(prefix) => panic!("{prefix}"),
        })
        .collect()
}

#[test]
fn what_was_before_versioning_is_the_version_null() {
    let mut store = opened();
    assert_eq!(write(&mut store, "a", "old"), None);
    set_versioning(&mut store, Versioning::Enabled);
    let new = write(&mut store, "a", "new").unwrap();
    assert_eq!(text(get(&store, "a")), "new");
    assert_eq!(text(get_version(&store, "a", Some(VersionId::Null))), "old");
    assert_eq!(
        versions_of(&store),
        [
            ("a".into(), new, true),
            ("a".into(), VersionId::Null, false)
        ]
    );
    // The order of the version `null` is no name.
    let zero = get_version(&store, "a", Some(VersionId::Number(0)));
    assert_eq!(zero, Err(MetadataError::NoSuchVersion));
}

#[test]
fn a_deletion_hides_the_object_until_its_marker_is_deleted() {
    let mut store = opened();
    set_versioning(&mut store, Versioning::Enabled);
    let object = write(&mut store, "a", "text");
    let Ok(Reply::Deleted {
        version: Some(marker),
        marker: true,
    }) = run(&mut store, delete("a"))
    else {
        panic!("no marker")
    };
    let hidden = MetadataError::DeleteMarker {
        version: marker,
        modified_ms: 1_000,
    };
    assert_eq!(get(&store, "a"), Err(hidden.clone()));
    assert_eq!(get_version(&store, "a", Some(marker)), Err(hidden));
    assert_eq!(text(get_version(&store, "a", object)), "text");
    // For a write on a condition the key is free.
    let absent = put_if("a", inline("x"), Precondition::Absent);
    assert!(run(&mut store.clone(), absent).is_ok());
    let gone = Reply::Deleted {
        version: Some(marker),
        marker: true,
    };
    assert_eq!(run(&mut store, delete_version("a", Some(marker))), Ok(gone));
    assert_eq!(text(get(&store, "a")), "text");
}

#[test]
fn suspended_versioning_replaces_only_the_version_null() {
    let mut store = opened();
    write(&mut store, "a", "zero");
    set_versioning(&mut store, Versioning::Enabled);
    let kept = write(&mut store, "a", "one");
    set_versioning(&mut store, Versioning::Suspended);
    assert_eq!(write(&mut store, "a", "two"), Some(VersionId::Null));
    assert_eq!(text(get_version(&store, "a", kept)), "one");
    assert_eq!(text(get_version(&store, "a", Some(VersionId::Null))), "two");
    let marker = Reply::Deleted {
        version: Some(VersionId::Null),
        marker: true,
    };
    assert_eq!(run(&mut store, delete("a")), Ok(marker));
    assert_eq!(
        versions_of(&store),
        [
            ("a".into(), VersionId::Null, true),
            ("a".into(), kept.unwrap(), false)
        ]
    );
    model::check_invariants(&store);
}

#[test]
fn every_version_keeps_its_blocks_from_the_sweep() {
    let mut store = opened();
    set_versioning(&mut store, Versioning::Enabled);
    run(&mut store, put("a", Content::Blocks(blocks(&[1])))).unwrap();
    run(&mut store, put("a", Content::Blocks(blocks(&[2])))).unwrap();
    run(&mut store, delete("a")).unwrap();
    assert_eq!(counts(&store), [(1, 1), (2, 1)]);
    for (_, version, _) in versions_of(&store) {
        run(&mut store, delete_version("a", Some(version))).unwrap();
    }
    assert_eq!(
        (counts(&store), garbage_numbers(&store)),
        (vec![], vec![1, 2])
    );
}

#[test]
fn a_bucket_with_nothing_but_a_delete_marker_is_not_empty() {
    let mut store = opened();
    set_versioning(&mut store, Versioning::Enabled);
    run(&mut store, delete("a")).unwrap();
    let close = AnyChange::CloseBucket { id: BUCKET };
    assert_eq!(run(&mut store, close), Err(MetadataError::BucketNotEmpty));
}

#[test]
fn a_number_is_not_used_again_though_the_clock_stands_still() {
    let mut store = opened();
    set_versioning(&mut store, Versioning::Enabled);
    let first = write(&mut store, "a", "1");
    run(&mut store, delete_version("a", first)).unwrap();
    assert_ne!(write(&mut store, "a", "2"), first);
}

#[test]
fn a_listing_goes_on_where_the_last_version_of_the_page_has_gone() {
    let mut store = opened();
    write(&mut store, "a", "0");
    set_versioning(&mut store, Versioning::Enabled);
    let made: Vec<VersionId> = (0..4)
        .map(|_| write(&mut store, "a", "x").unwrap())
        .collect();
    let behind = |store: &MemoryStore, version| {
        let list = Operation::ListVersions {
            bucket: BUCKET,
            prefix: String::new(),
            delimiter: String::new(),
            after: Some(AfterVersion::Version("a".into(), version)),
            limit: 10,
        };
        let Ok(Reply::Versions { entries, .. }) = ask(store, list) else {
            panic!("no page")
        };
        entries.len()
    };
    assert_eq!(behind(&store, made[2]), 3);
    run(&mut store, delete_version("a", Some(made[2]))).unwrap();
    assert_eq!(behind(&store, made[2]), 3);
    assert_eq!(behind(&store, VersionId::Null), 0);
    // Its place was known only by its row: the key begins anew.
    run(&mut store, delete_version("a", Some(VersionId::Null))).unwrap();
    assert_eq!(behind(&store, VersionId::Null), 3);
}

fn locked() -> MemoryStore {
    let mut store = opened();
    set_versioning(&mut store, Versioning::Enabled);
    let lock = ObjectLock {
        default: Some((RetentionMode::Governance, RetentionSpan::Days(1))),
    };
    let change = Change::PutObjectLock {
        bucket: BUCKET,
        lock,
    };
    run(&mut store, change).unwrap();
    store
}

fn delete_at(store: &mut MemoryStore, version: VersionId, at_ms: u64, bypass: bool) -> Outcome {
    let change = Change::DeleteObject {
        bucket: BUCKET,
        key: "a".into(),
        version: Some(version),
        precondition: Precondition::None,
        bypass,
    };
    let change = change.into();
    apply(store, &Command { at_ms, change }).unwrap()
}

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

#[test]
fn the_default_retention_keeps_a_version_for_its_time_and_governance_can_be_bypassed() {
    let mut store = locked();
    let version = write(&mut store, "a", "x").unwrap();
    let ends = 1_000 + DAY_MS;
    let kept = Err(MetadataError::Locked);
    assert_eq!(delete_at(&mut store, version, ends - 1, false), kept);
    assert!(delete_at(&mut store.clone(), version, ends, false).is_ok());
    assert!(delete_at(&mut store.clone(), version, 1_000, true).is_ok());
    // A deletion without a version only hides it.
    assert!(run(&mut store, delete("a")).is_ok());
    assert_eq!(delete_at(&mut store, version, ends - 1, false), kept);
}

#[test]
fn compliance_is_for_all_and_a_legal_hold_beside_it() {
    let mut store = locked();
    let version = write(&mut store, "a", "x").unwrap();
    let change = |store: &mut MemoryStore, change| {
        let change = Change::ChangeAttributes {
            bucket: BUCKET,
            key: "a".into(),
            version: Some(version),
            change,
        };
        run(store, change)
    };
    let retention = |mode, until_ms, bypass| AttributeChange::Retention {
        retention: Some(Retention { mode, until_ms }),
        bypass,
    };
    let compliance = retention(RetentionMode::Compliance, 5_000 + DAY_MS, true);
    assert!(change(&mut store, compliance).is_ok());
    let shorter = retention(RetentionMode::Compliance, 4_000 + DAY_MS, true);
    assert_eq!(change(&mut store, shorter), Err(MetadataError::Locked));
    let kept = Err(MetadataError::Locked);
    assert_eq!(delete_at(&mut store, version, 4_999 + DAY_MS, true), kept);
    assert!(change(&mut store, AttributeChange::LegalHold(true)).is_ok());
    assert_eq!(delete_at(&mut store, version, 2 * DAY_MS, true), kept);
    assert!(change(&mut store, AttributeChange::LegalHold(false)).is_ok());
    assert!(delete_at(&mut store, version, 2 * DAY_MS, false).is_ok());
}

#[test]
fn a_bucket_without_a_lock_knows_no_protection() {
    let mut store = opened();
    write(&mut store, "a", "x");
    let hold = Change::ChangeAttributes {
        bucket: BUCKET,
        key: "a".into(),
        version: None,
        change: AttributeChange::LegalHold(true),
    };
    assert_eq!(run(&mut store, hold), Err(MetadataError::NoObjectLock));
    let mut object = object(inline("x"));
    object.attributes.legal_hold = Some(true);
    let put = Change::PutObject {
        bucket: BUCKET,
        key: "b".into(),
        object: object.clone(),
        precondition: Precondition::None,
        copied: false,
        event: EventKind::Put,
    };
    assert_eq!(run(&mut store, put), Err(MetadataError::NoObjectLock));
    let Change::CreateUpload { bucket, mut upload } = create_upload("b", "u") else {
        unreachable!("as its name says")
    };
    upload.attributes = object.attributes;
    let upload = Change::CreateUpload { bucket, upload };
    assert_eq!(run(&mut store, upload), Err(MetadataError::NoObjectLock));
}

#[test]
fn an_object_lock_needs_versioning_and_keeps_it() {
    let mut store = opened();
    let lock = Change::PutObjectLock {
        bucket: BUCKET,
        lock: ObjectLock::default(),
    };
    let wrong = |outcome| matches!(outcome, Err(MetadataError::WrongBucketState(_)));
    assert!(wrong(run(&mut store, lock.clone())));
    set_versioning(&mut store, Versioning::Enabled);
    assert!(run(&mut store, lock).is_ok());
    let suspend = AnyChange::PutVersioning {
        bucket: BUCKET,
        versioning: Versioning::Suspended,
    };
    assert!(wrong(run(&mut store, suspend)));
}

#[test]
fn an_upload_gives_its_attributes_to_the_version_that_it_makes() {
    let mut store = locked();
    let Change::CreateUpload { bucket, mut upload } = create_upload("a", "u") else {
        unreachable!("as its name says")
    };
    upload.attributes.tags = vec![("k".into(), "v".into())];
    upload.attributes.legal_hold = Some(true);
    let expected = upload.attributes.clone();
    run(&mut store, Change::CreateUpload { bucket, upload }).unwrap();
    run(&mut store, put_part("a", "u", 1, &[1])).unwrap();
    let etag = whole_etag(&[part_md5(1, &[1])]);
    run(&mut store, complete("a", "u", &[1], &etag)).unwrap();
    let Ok(Reply::Object(object)) = get(&store, "a") else {
        panic!("no object")
    };
    assert_eq!(object.attributes.tags, expected.tags);
    assert_eq!(object.attributes.legal_hold, expected.legal_hold);
    assert_eq!(
        object.attributes.retention.unwrap().until_ms,
        1_000 + DAY_MS
    );
}

#[test]
fn tags_are_of_one_version() {
    let mut store = opened();
    set_versioning(&mut store, Versioning::Enabled);
    let first = write(&mut store, "a", "1");
    let second = write(&mut store, "a", "2");
    let tag = |version, tag: &str| Change::ChangeAttributes {
        bucket: BUCKET,
        key: "a".into(),
        version,
        change: AttributeChange::Tags(vec![("k".into(), tag.into())]),
    };
    run(&mut store, tag(first, "one")).unwrap();
    run(&mut store, tag(None, "two")).unwrap();
    let tags = |version| match get_version(&store, "a", version) {
        Ok(Reply::Object(object)) => object.attributes.tags[0].1.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((tags(first), tags(second)), ("one".into(), "two".into()));
    model::check_invariants(&store);
}
