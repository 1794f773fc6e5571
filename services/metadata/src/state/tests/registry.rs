//! Keys, rights and buckets.

use super::*;
use protocol::metadata::PAGE_MAX;
use protocol::wire::MESSAGE_BYTES_MAX;

#[test]
fn a_bucket_with_objects_or_uploads_is_not_closed() {
    let mut store = opened();
    let close = || AnyChange::CloseBucket { id: BUCKET };
    run(&mut store, put("a", inline("text"))).unwrap();
    assert_eq!(run(&mut store, close()), Err(MetadataError::BucketNotEmpty));
    run(&mut store, delete("a")).unwrap();
    run(&mut store, create_upload("a", "u")).unwrap();
    assert_eq!(run(&mut store, close()), Err(MetadataError::BucketNotEmpty));
    let abort = Change::AbortUpload {
        bucket: BUCKET,
        key: "a".into(),
        upload: "u".into(),
    };
    run(&mut store, abort).unwrap();
    assert!(run(&mut store, close()).is_ok());
}

#[test]
fn nothing_enters_a_closed_bucket() {
    let mut store = opened();
    run(&mut store, AnyChange::CloseBucket { id: BUCKET }).unwrap();
    let refused = Err(MetadataError::NoSuchBucket);
    assert_eq!(run(&mut store, put("a", inline("text"))), refused);
    assert_eq!(run(&mut store, create_upload("a", "u")), refused);
    assert_eq!(run(&mut store, put_part("a", "u", 1, &[1])), refused);
    assert_eq!(run(&mut store, delete("a")), refused);
    assert_eq!(get(&store, "a"), refused);
    run(&mut store, AnyChange::ForgetBucket { id: BUCKET }).unwrap();
    assert_eq!(run(&mut store, put("a", inline("text"))), refused);
    // Repeating every step of the deletion is harmless.
    assert!(run(&mut store, AnyChange::ForgetBucket { id: BUCKET }).is_ok());
}

#[test]
fn the_first_key_stays_the_first() {
    let mut store = MemoryStore::default();
    let first = run(
        &mut store,
        Change::FirstKey {
            key: key("A", false),
        },
    )
    .unwrap();
    let Reply::Key(made) = &first else {
        panic!("not a key")
    };
    assert!(made.root && made.secret_key == "secret of A");
    assert_eq!(
        run(
            &mut store,
            Change::FirstKey {
                key: key("B", false)
            }
        )
        .unwrap(),
        first
    );
    let delete = |id: &str| Change::DeleteKey {
        access_key: id.into(),
    };
    assert!(matches!(
        run(&mut store, delete("A")),
        Err(MetadataError::Refused(_))
    ));
    run(
        &mut store,
        Change::CreateKey {
            key: key("C", true),
        },
    )
    .unwrap();
    run(&mut store, delete("A")).unwrap();
    let Reply::Key(next) = run(
        &mut store,
        Change::FirstKey {
            key: key("D", false),
        },
    )
    .unwrap() else {
        panic!("not a key")
    };
    assert_eq!(next.access_key, "C");
}

#[test]
fn neither_the_id_nor_the_name_of_a_key_is_given_twice() {
    let mut store = MemoryStore::default();
    run(
        &mut store,
        Change::CreateKey {
            key: key("A", false),
        },
    )
    .unwrap();
    let same_name = AccessKey {
        name: "name of A".into(),
        ..key("B", false)
    };
    let same_id = AccessKey {
        name: "other".into(),
        ..key("A", false)
    };
    assert_eq!(
        run(&mut store, Change::CreateKey { key: same_name }),
        Err(MetadataError::KeyExists)
    );
    assert_eq!(
        run(&mut store, Change::CreateKey { key: same_id }),
        Err(MetadataError::KeyExists)
    );
    run(
        &mut store,
        Change::DeleteKey {
            access_key: "A".into(),
        },
    )
    .unwrap();
    assert!(
        run(
            &mut store,
            Change::CreateKey {
                key: key("A", false)
            }
        )
        .is_ok()
    );
}

#[test]
fn a_key_sees_the_buckets_it_has_a_right_on() {
    let mut store = MemoryStore::default();
    for id in ["A", "B", "R"] {
        run(
            &mut store,
            Change::CreateKey {
                key: key(id, id == "R"),
            },
        )
        .unwrap();
    }
    for (id, name, owner) in [(1, "one", "A"), (2, "two", "B"), (3, "three", "")] {
        register(&mut store, id, name, owner).unwrap();
    }
    let read_only = Rights {
        read: true,
        ..Rights::default()
    };
    let set = |rights| Change::SetRights {
        access_key: "A".into(),
        bucket: "two".into(),
        rights,
    };
    run(&mut store, set(read_only)).unwrap();
    let seen = |store: &MemoryStore, access_key: Option<&str>, after: Option<&str>, limit| {
        let (access_key, after) = (access_key.map(str::to_owned), after.map(str::to_owned));
        let list = Operation::ListBuckets {
            access_key,
            after,
            limit,
        };
        let Reply::Buckets { buckets, more } = ask(store, list).unwrap() else {
            panic!("no list")
        };
        (
            buckets
                .into_iter()
                .map(|(bucket, _)| bucket.name)
                .collect::<Vec<_>>(),
            more,
        )
    };
    assert_eq!(
        seen(&store, Some("A"), None, 9),
        (vec!["one".into(), "two".into()], false)
    );
    assert_eq!(seen(&store, Some("A"), None, 1), (vec!["one".into()], true));
    assert_eq!(
        seen(&store, Some("A"), Some("one"), 9),
        (vec!["two".into()], false)
    );
    assert_eq!(seen(&store, Some("R"), None, 9).0, ["one", "three", "two"]);
    assert_eq!(seen(&store, None, Some("one"), 9).0, ["three", "two"]);
    run(&mut store, set(Rights::default())).unwrap();
    assert_eq!(seen(&store, Some("A"), None, 9).0, ["one"]);
    let id = BucketId(1);
    run(
        &mut store,
        AnyChange::UnregisterBucket {
            id,
            name: "one".into(),
        },
    )
    .unwrap();
    assert!(seen(&store, Some("A"), None, 9).0.is_empty());
    // A later bucket of the same name does not inherit the rights.
    register(&mut store, 4, "one", "B").unwrap();
    assert!(seen(&store, Some("A"), None, 9).0.is_empty());
}

#[test]
fn each_change_of_a_key_a_right_or_a_bucket_raises_the_revision() {
    let mut store = MemoryStore::default();
    let mut last = 0;
    let mut raised = |store: &MemoryStore| {
        let now = revision(store).unwrap();
        assert!(now > last);
        last = now;
    };
    run(
        &mut store,
        Change::FirstKey {
            key: key("A", false),
        },
    )
    .unwrap();
    raised(&store);
    run(
        &mut store,
        Change::CreateKey {
            key: key("B", false),
        },
    )
    .unwrap();
    raised(&store);
    register(&mut store, 1, "one", "A").unwrap();
    raised(&store);
    let (access_key, bucket) = ("B".into(), "one".into());
    run(
        &mut store,
        Change::SetRights {
            access_key,
            bucket,
            rights: Rights::default(),
        },
    )
    .unwrap();
    raised(&store);
    run(
        &mut store,
        Change::DeleteKey {
            access_key: "B".into(),
        },
    )
    .unwrap();
    raised(&store);
    let id = BucketId(1);
    run(
        &mut store,
        AnyChange::UnregisterBucket {
            id,
            name: "one".into(),
        },
    )
    .unwrap();
    raised(&store);
    // And nothing else does.
    run(&mut store, put("a", inline("text"))).unwrap();
    let again = AnyChange::UnregisterBucket {
        id,
        name: "one".into(),
    };
    run(&mut store, again).unwrap();
    assert_eq!(revision(&store).unwrap(), last);
}

#[test]
fn a_number_is_never_given_to_two_buckets() {
    let mut store = MemoryStore::default();
    register(&mut store, 1, "one", "").unwrap();
    let again = register(&mut store, 1, "two", "");
    assert!(matches!(again, Err(MetadataError::Unavailable(_))));
    let taken = register(&mut store, 2, "one", "");
    assert_eq!(
        taken,
        Err(MetadataError::BucketExists {
            owner: String::new()
        })
    );
    assert_eq!(next_bucket(&store).unwrap(), BucketId(2));
}

#[test]
fn secrets_are_not_listed() {
    let mut store = MemoryStore::default();
    run(
        &mut store,
        Change::CreateKey {
            key: key("A", false),
        },
    )
    .unwrap();
    let list = Operation::ListKeys {
        after: None,
        limit: PAGE_MAX,
    };
    let Reply::Keys { keys, .. } = ask(&store, list).unwrap() else {
        panic!("no list")
    };
    assert_eq!((keys.len(), keys[0].0.secret_key.as_str()), (1, ""));
}

#[test]
fn a_shard_divides_its_rights_and_keys_over_pages() {
    let mut store = MemoryStore::default();
    for number in 0..40 {
        run(
            &mut store,
            Change::CreateKey {
                key: key(&format!("K{number:03}"), false),
            },
        )
        .unwrap();
    }
    for number in 1..=300_u64 {
        register(&mut store, number, &format!("bucket-{number:056}"), "").unwrap();
        for key in 0..40 {
            let (access_key, bucket) = (format!("K{key:03}"), format!("bucket-{number:056}"));
            let rights = Rights {
                read: true,
                ..Rights::default()
            };
            run(
                &mut store,
                Change::SetRights {
                    access_key,
                    bucket,
                    rights,
                },
            )
            .unwrap();
        }
    }
    let (mut listed, mut after) = (0, None);
    loop {
        let reply = ask(
            &store,
            Operation::ListKeys {
                after,
                limit: PAGE_MAX,
            },
        )
        .unwrap();
        assert!(postcard::to_allocvec(&reply).unwrap().len() < MESSAGE_BYTES_MAX - 64);
        let Reply::Keys { keys, more } = reply else {
            panic!("no list")
        };
        assert!(keys.iter().all(|(_, rights)| rights.len() == 300));
        listed += keys.len();
        after = keys.last().map(|(key, _)| key.access_key.clone());
        if !more {
            break;
        }
    }
    assert_eq!(listed, 40);
}
