//! The whole service over its channels: what its callers are promised.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "tests: a panic is the failure"
)]

#[allow(dead_code, reason = "the harness serves other tests, too")]
mod harness;

use harness::{Client, FakeBlocks, Home, block};
use protocol::block::{BlockRef, HashKey};
use protocol::metadata::{
    AccessKey, Attributes, BucketId, Change, Content, Entry, EventKind, MetadataError, NewObject,
    Operation, Precondition, Reply, Rights, Versioning,
};
use protocol::settings::SettingKind;
use std::sync::Arc;

fn key(id: &str) -> AccessKey {
    AccessKey {
        access_key: id.into(),
        secret_key: "secret".into(),
        name: format!("name of {id}"),
        root: false,
        create_buckets: true,
        created_ms: 0,
    }
}

fn create_bucket(client: &mut Client, name: &str, owner: &str) -> BucketId {
    let hash_key = HashKey([3; 32]);
    let create = Operation::CreateBucket {
        name: name.into(),
        owner: owner.into(),
        hash_key,
        locked: false,
    };
    match client.call(create).unwrap() {
        Reply::Bucket(bucket) => bucket.id,
        other => panic!("{other:?}"),
    }
}

fn put(bucket: BucketId, key: &str, blocks: &[BlockRef]) -> Change {
    let content = match blocks {
        [] => Content::Inline(b"text".to_vec()),
        blocks => Content::Blocks(blocks.to_vec()),
    };
    let held: u64 = blocks.iter().map(|block| u64::from(block.length)).sum();
    let object = NewObject {
        size: if blocks.is_empty() { 4 } else { held },
        etag: "0".repeat(32),
        headers: Vec::new(),
        checksum: None,
        attributes: Attributes::default(),
        encryption: None,
        content,
    };
    let (key, precondition) = (key.into(), Precondition::None);
    Change::PutObject {
        bucket,
        key,
        object,
        precondition,
        copied: false,
        event: EventKind::Put,
    }
}

fn get(bucket: BucketId, key: &str) -> Operation {
    Operation::GetObject {
        bucket,
        key: key.into(),
        version: None,
    }
}

fn delete(bucket: BucketId, key: &str) -> Change {
    let (key, precondition) = (key.into(), Precondition::None);
    Change::DeleteObject {
        bucket,
        key,
        version: None,
        precondition,
        bypass: false,
    }
}

fn keys(client: &mut Client, bucket: BucketId) -> Vec<String> {
    let list = Operation::ListObjects {
        bucket,
        prefix: String::new(),
        delimiter: String::new(),
        after: None,
        limit: 1_000,
    };
    let Reply::Page { entries, .. } = client.call(list).unwrap() else {
        panic!("no page")
    };
    let entries = entries.to_vec().unwrap();
    entries
        .into_iter()
        .map(|entry| match entry {
            Entry::Object { key, .. } => key,
            Entry::Prefix(prefix) => prefix,
        })
        .collect()
}

fn swept(client: &mut Client, grace_ms: u64) -> (u64, u64) {
    match client.call(Operation::Sweep { grace_ms }).unwrap() {
        Reply::Swept { seen, removed } => (seen, removed),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_answered_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::start(directory.path());
    let mut client = home.connect();
    let first = client.call(Change::FirstKey { key: key("A") }).unwrap();
    let buckets: Vec<BucketId> = (0..12)
        .map(|number| create_bucket(&mut client, &format!("bucket-{number}"), "A"))
        .collect();
    for bucket in &buckets {
        client.call(put(*bucket, "k", &[])).unwrap();
    }
    let revision = client.answer(0, Operation::Shards).revision;
    home.stop();

    let home = Home::start(directory.path());
    let mut client = home.connect();
    assert_eq!(
        client.call(Change::FirstKey { key: key("B") }).unwrap(),
        first
    );
    let list = Operation::ListBuckets {
        access_key: None,
        after: None,
        limit: 100,
    };
    let answer = client.answer(revision, list);
    assert_eq!(answer.revision, revision);
    let Reply::Buckets {
        buckets: listed,
        more,
    } = answer.result.unwrap()
    else {
        panic!("no list")
    };
    assert!(!more && listed.len() == 12);
    assert!(
        listed
            .iter()
            .all(|(_, usage)| usage.objects == 1 && usage.bytes == 4)
    );
    for bucket in buckets {
        let Reply::Object(object) = client.call(get(bucket, "k")).unwrap() else {
            panic!()
        };
        assert_eq!(object.content, Content::Inline(b"text".to_vec()));
    }
    home.stop();
}

#[test]
fn a_caller_with_old_knowledge_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::start(directory.path());
    let mut client = home.connect();
    client.call(Change::FirstKey { key: key("A") }).unwrap();
    let bucket = create_bucket(&mut client, "home", "A");
    let authorize = Operation::Authorize {
        access_key: Some("A".into()),
        bucket: Some("home".into()),
    };
    let known = client.answer(0, authorize).revision;
    assert!(client.answer(known, put(bucket, "k", &[])).result.is_ok());
    client.call(Change::CreateKey { key: key("B") }).unwrap();
    let stale = client.answer(known, put(bucket, "l", &[]));
    assert_eq!(stale.result, Err(MetadataError::Stale));
    assert!(
        client
            .answer(stale.revision, get(bucket, "k"))
            .result
            .is_ok()
    );
    assert_eq!(keys(&mut client, bucket), ["k"]);
    home.stop();
}

#[test]
fn behind_a_withdrawn_right_nothing_is_still_to_come() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::start(directory.path());
    let (mut writer, mut operator) = (home.connect(), home.connect());
    operator.call(Change::FirstKey { key: key("A") }).unwrap();
    let bucket = create_bucket(&mut operator, "home", "A");
    for round in 0..10 {
        let id = format!("K{round}");
        operator.call(Change::CreateKey { key: key(&id) }).unwrap();
        let (access_key, name) = (id.clone(), String::from("home"));
        let rights = Rights {
            write: true,
            ..Rights::default()
        };
        let set = Change::SetRights {
            access_key,
            bucket: name,
            rights,
        };
        let known = operator.answer(0, set).revision;
        let before = keys(&mut operator, bucket).len();
        for number in 0..60 {
            writer.send(known, put(bucket, &format!("{round}-{number}"), &[]));
        }
        operator.call(Change::DeleteKey { access_key: id }).unwrap();
        let behind = keys(&mut operator, bucket).len();
        let written = (0..60)
            .filter(|_| writer.receive().1.result.is_ok())
            .count();
        assert_eq!(behind - before, written, "round {round}");
    }
    home.stop();
}

#[test]
fn of_many_callers_who_want_to_be_first_one_is() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::start(directory.path());
    let mut clients: Vec<Client> = (0..16).map(|_| home.connect()).collect();
    let bucket = create_bucket(&mut clients[0], "home", "");
    for round in 0..20 {
        for client in &mut clients {
            let mut first = put(bucket, &format!("k{round}"), &[]);
            if let Change::PutObject { precondition, .. } = &mut first {
                *precondition = Precondition::Absent;
            }
            client.send(0, first);
        }
        let won = clients
            .iter_mut()
            .filter_map(|client| client.receive().1.result.ok())
            .count();
        assert_eq!(won, 1);
    }
    home.stop();
}

#[test]
fn a_bucket_is_deleted_only_when_empty_and_its_name_is_free_again() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::start(directory.path());
    let mut client = home.connect();
    let bucket = create_bucket(&mut client, "home", "");
    let again = Operation::CreateBucket {
        name: "home".into(),
        owner: String::new(),
        hash_key: HashKey([0; 32]),
        locked: false,
    };
    let exists = MetadataError::BucketExists {
        owner: String::new(),
    };
    assert_eq!(client.call(again), Err(exists));
    client.call(put(bucket, "k", &[])).unwrap();
    let delete_bucket = || Operation::DeleteBucket {
        name: "home".into(),
    };
    assert_eq!(
        client.call(delete_bucket()),
        Err(MetadataError::BucketNotEmpty)
    );
    client.call(delete(bucket, "k")).unwrap();
    client.call(delete_bucket()).unwrap();
    assert_eq!(
        client.call(delete_bucket()),
        Err(MetadataError::NoSuchBucket)
    );
    assert_eq!(
        client.call(put(bucket, "k", &[])),
        Err(MetadataError::NoSuchBucket)
    );
    assert_ne!(create_bucket(&mut client, "home", ""), bucket);
    // An owner that is no key leaves nothing behind.
    let (name, owner, hash_key) = ("other".into(), "nobody".into(), HashKey([0; 32]));
    let refused = client.call(Operation::CreateBucket {
        name,
        owner,
        hash_key,
        locked: false,
    });
    assert_eq!(refused, Err(MetadataError::NoSuchAccessKey));
    create_bucket(&mut client, "other", "");
    home.stop();
}

#[test]
fn a_deletion_that_was_cut_off_is_finished_at_the_next_start() {
    use metadata::raft::{Consensus, Me, Store};
    use metadata::state::{AnyChange, Command};
    let directory = tempfile::tempdir().unwrap();
    let home = Home::start(directory.path());
    let mut client = home.connect();
    let kept = create_bucket(&mut client, "kept", "");
    let closed = create_bucket(&mut client, "closed", "");
    home.stop();
    // The crash: one bucket closed and still named, and a place whose bucket never got its name.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let store = Store::open(&directory.path().join("db"), 4, Me::alone("n1"))
            .await
            .unwrap();
        for group in store.groups() {
            // Only in its own shard there is something to close.
            let change = AnyChange::CloseBucket { id: closed };
            let _ = group.propose(Command { at_ms: 1, change }).await.unwrap();
        }
        let change = AnyChange::OpenBucket {
            id: BucketId(closed.0 + 1),
            name: "half".into(),
            locked: false,
        };
        let _ = store.groups()[0]
            .propose(Command { at_ms: 1, change })
            .await
            .unwrap();
        store.close().await;
    });
    let home = Home::start(directory.path());
    let mut client = home.connect();
    // Made behind the repair, since both take the same lock.
    let next = create_bucket(&mut client, "closed", "");
    assert!(next > closed);
    client.call(put(next, "k", &[])).unwrap();
    client.call(put(kept, "k", &[])).unwrap();
    create_bucket(&mut client, "half", "");
    home.stop();
}

#[test]
fn a_full_sweep_removes_what_nobody_refers_to_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::start(directory.path());
    let mut client = home.connect();
    let bucket = create_bucket(&mut client, "home", "");
    let referenced: Vec<BlockRef> = (0..200).map(|number| home.blocks.commit(number)).collect();
    client.call(put(bucket, "k", &referenced)).unwrap();
    let pinned = home.blocks.commit(201);
    home.blocks
        .change(|state| assert!(state.pinned.insert(pinned)));
    for orphan in 210..220 {
        home.blocks.commit(orphan);
    }
    // Left alone for its time, counted from the first pass that found it.
    assert_eq!(swept(&mut client, 60_000), (210, 0));
    home.pass_time(59_000);
    assert_eq!(swept(&mut client, 60_000).1, 0);
    home.pass_time(1_000);
    home.blocks.commit(230);
    assert_eq!(swept(&mut client, 60_000).1, 10);
    assert_eq!(swept(&mut client, 0).1, 1);
    assert_eq!(home.blocks.numbers().len(), 201);
    home.stop();
}

#[test]
fn the_sweep_spares_the_blocks_of_every_version() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::start(directory.path());
    let mut client = home.connect();
    let bucket = create_bucket(&mut client, "home", "");
    let versioning = Operation::PutVersioning {
        name: "home".into(),
        versioning: Versioning::Enabled,
    };
    client
        .call(put(bucket, "k", &[home.blocks.commit(1)]))
        .unwrap();
    client.call(versioning).unwrap();
    let second = client.call(put(bucket, "k", &[home.blocks.commit(2)]));
    let Ok(Reply::Written {
        version: Some(second),
        ..
    }) = second
    else {
        panic!("{second:?}")
    };
    client
        .call(put(bucket, "k", &[home.blocks.commit(3)]))
        .unwrap();
    client.call(delete(bucket, "k")).unwrap();
    home.pass_time(3 * 60 * 60 * 1_000);
    assert_eq!(swept(&mut client, 0), (3, 0));
    // A version by itself is deleted for good.
    let remove = Change::DeleteObject {
        bucket,
        key: "k".into(),
        version: Some(second),
        precondition: Precondition::None,
        bypass: false,
    };
    client.call(remove).unwrap();
    home.pass_time(61_000);
    home.blocks.wait(|state| state.blocks.len() == 2);
    assert_eq!(home.blocks.numbers(), [1, 3]);
    home.stop();
}

#[test]
fn users_learn_at_once_that_a_bucket_has_versions() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::start(directory.path());
    let mut client = home.connect();
    client.call(Change::FirstKey { key: key("A") }).unwrap();
    let bucket = create_bucket(&mut client, "home", "A");
    let authorize = || Operation::Authorize {
        access_key: Some("A".into()),
        bucket: Some("home".into()),
    };
    let known = client.answer(0, authorize()).revision;
    let versioning = |versioning| Operation::PutVersioning {
        name: "home".into(),
        versioning,
    };
    client.call(versioning(Versioning::Enabled)).unwrap();
    let stale = client.answer(known, get(bucket, "k")).result;
    assert_eq!(stale, Err(MetadataError::Stale));
    let answer = client.answer(0, authorize());
    let Ok(Reply::Authorized {
        bucket: Some(found),
        ..
    }) = answer.result
    else {
        panic!("no bucket")
    };
    assert!(found.versioned);
    // Suspended and enabled again, there is nothing more to learn.
    client.call(versioning(Versioning::Suspended)).unwrap();
    assert!(
        client
            .answer(answer.revision, put(bucket, "k", &[]))
            .result
            .is_ok()
    );
    home.stop();
}

#[test]
fn blocks_of_removed_objects_go_after_their_grace() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::start(directory.path());
    let mut client = home.connect();
    let bucket = create_bucket(&mut client, "home", "");
    let (one, two) = (home.blocks.commit(1), home.blocks.commit(2));
    client.call(put(bucket, "k", &[one, two])).unwrap();
    client.call(put(bucket, "l", &[two])).unwrap();
    client.call(delete(bucket, "k")).unwrap();
    assert_eq!(swept(&mut client, u64::MAX / 4).1, 0);
    home.pass_time(61_000);
    // By itself, without being asked.
    home.blocks.wait(|state| state.blocks.len() == 1);
    assert_eq!(home.blocks.numbers(), [2]);
    // At once when the store is nearly full.
    client.call(delete(bucket, "l")).unwrap();
    home.blocks.change(|state| state.nearly_full = true);
    home.blocks.wait(|state| state.blocks.is_empty());
    home.stop();
}

#[test]
fn a_put_that_meets_a_deletion_waits_and_never_shows_a_lost_block() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::start(directory.path());
    let (mut client, mut operator) = (home.connect(), home.connect());
    let bucket = create_bucket(&mut client, "home", "");
    let (lost, kept) = (home.blocks.commit(1), home.blocks.commit(2));
    home.blocks.change(|state| state.hold_deletes = true);
    operator.send(0, Operation::Sweep { grace_ms: 0 });
    home.blocks.wait(|state| state.deletes_held > 0);
    // Both are being deleted. The writer of one is there still and commits it again, the other's is gone.
    client.send(0, put(bucket, "lost", &[lost]));
    client.send(0, put(bucket, "kept", &[kept]));
    let other = client.send(0, put(bucket, "other", &[block(3)]));
    home.blocks.commit(2);
    assert_eq!(client.receive().0, other, "only the third did not wait");
    home.blocks.change(|state| state.hold_deletes = false);
    let mut outcomes = [client.receive(), client.receive()];
    outcomes.sort_by_key(|(id, _)| *id);
    assert!(matches!(
        outcomes[0].1.result,
        Err(MetadataError::Unavailable(_))
    ));
    assert!(outcomes[1].1.result.is_ok());
    assert_eq!(keys(&mut client, bucket), ["kept", "other"]);
    // Later, too: it was deleted a moment ago, so it is looked for; and found once it is there again.
    let late = client.call(put(bucket, "lost", &[lost]));
    assert!(matches!(late, Err(MetadataError::Unavailable(_))));
    home.blocks.commit(1);
    client.call(put(bucket, "lost", &[lost])).unwrap();
    home.stop();
}

#[test]
fn a_sweep_without_block_store_says_so_and_the_next_one_works() {
    let directory = tempfile::tempdir().unwrap();
    let blocks = Arc::new(FakeBlocks::default());
    let home = Home::start_with(directory.path(), blocks.clone());
    let mut client = home.connect();
    blocks.commit(1);
    assert_eq!(swept(&mut client, u64::MAX / 4), (1, 0));
    blocks.change(|state| state.away = true);
    let away = client.call(Operation::Sweep { grace_ms: 0 });
    assert!(
        matches!(away, Err(MetadataError::Unavailable(_))),
        "{away:?}"
    );
    blocks.change(|state| state.away = false);
    assert_eq!(swept(&mut client, 0), (1, 1));
    home.stop();
}

#[test]
fn a_caller_that_breaks_a_bound_is_refused_and_others_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::start(directory.path());
    let mut client = home.connect();
    let bucket = create_bucket(&mut client, "home", "");
    let long = client.call(put(bucket, &"k".repeat(1_025), &[]));
    assert!(matches!(long, Err(MetadataError::Refused(_))));
    let nobody = client.call(put(BucketId(99), "k", &[]));
    assert_eq!(nobody, Err(MetadataError::NoSuchBucket));
    client.call(put(bucket, "k", &[])).unwrap();
    home.stop();
}

#[test]
fn the_operator_sees_every_shard() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::start(directory.path());
    let mut client = home.connect();
    let Reply::Shards(shards) = client.call(Operation::Shards).unwrap() else {
        panic!("no shards")
    };
    assert_eq!(
        shards.iter().map(|shard| shard.number).collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    assert!(
        shards
            .iter()
            .all(|shard| shard.leader && shard.voters == ["n1"] && shard.applied > 0)
    );
    home.stop();
}

#[test]
fn the_web_service_reads_what_anybody_may_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::start(directory.path());
    let mut operator = home.connect();
    operator.call(Change::FirstKey { key: key("A") }).unwrap();
    let bucket = create_bucket(&mut operator, "home", "A");
    operator.call(put(bucket, "k", &[])).unwrap();
    let mut web = home.connect_as("web");
    let authorize = |access_key: Option<&str>| Operation::Authorize {
        access_key: access_key.map(str::to_owned),
        bucket: Some("home".into()),
    };
    let setting = |kind| Operation::GetBucketSetting { bucket, kind };
    for may in [
        get(bucket, "k"),
        authorize(None),
        setting(SettingKind::Website),
    ] {
        assert!(web.call(may.clone()).is_ok(), "{may:?}");
    }
    let delete = Operation::DeleteBucket {
        name: "home".into(),
    };
    let keys = Operation::ListKeys {
        after: None,
        limit: 1,
    };
    let first = Change::FirstKey { key: key("B") };
    for may_not in [
        authorize(Some("A")),
        setting(SettingKind::Policy),
        keys,
        first.into(),
        delete,
        put(bucket, "l", &[]).into(),
    ] {
        let refused = web.call(may_not.clone());
        assert!(
            matches!(refused, Err(MetadataError::Refused(_))),
            "{may_not:?}: {refused:?}"
        );
    }
}
