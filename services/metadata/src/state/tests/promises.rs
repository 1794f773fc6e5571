//! One promise of the protocol each.

use super::*;
use protocol::metadata::{After, Entry, PAGE_MAX};
use protocol::wire::MESSAGE_BYTES_MAX;
use std::cell::Cell;
use std::ops::ControlFlow;

fn inline(text: &str) -> Content {
    Content::Inline(text.as_bytes().to_vec())
}

fn key(id: &str, root: bool) -> AccessKey {
    AccessKey {
        access_key: id.into(),
        secret_key: format!("secret of {id}"),
        name: format!("name of {id}"),
        root,
        create_buckets: false,
        created_ms: 0,
    }
}

fn register(store: &mut MemoryStore, id: u64, name: &str, owner: &str) -> Outcome {
    run(
        store,
        AnyChange::OpenBucket {
            id: BucketId(id),
            name: name.into(),
            locked: false,
        },
    )?;
    run(
        store,
        AnyChange::RegisterBucket {
            id: BucketId(id),
            name: name.into(),
            owner: owner.into(),
            hash_key: HashKey([7; 32]),
            versioned: false,
        },
    )
}

#[test]
fn an_object_comes_back_as_it_was_put() {
    let check = |content: Content| {
        let mut store = opened();
        let written = run(&mut store, put("a", content.clone())).unwrap();
        let new = object(content);
        let (etag, size) = (new.etag.clone(), new.size);
        assert_eq!(
            written,
            Reply::Written {
                etag,
                modified_ms: 1_000,
                size,
                version: None,
            }
        );
        let Reply::Object(object) = get(&store, "a").unwrap() else {
            panic!("not an object")
        };
        assert_eq!(object.content, new.content);
        assert_eq!((object.size, object.headers), (new.size, new.headers));
    };
    check(inline("short"));
    check(Content::Inline(vec![1; 8 * 1024]));
    check(Content::Blocks(blocks(&[1])));
    check(Content::Blocks((0..200).map(block).collect()));
}

#[test]
fn of_writers_with_if_none_match_exactly_one_wins() {
    let mut store = opened();
    let put = |text| put_if("a", inline(text), Precondition::Absent);
    assert!(run(&mut store, put("first")).is_ok());
    assert_eq!(
        run(&mut store, put("second")),
        Err(MetadataError::PreconditionFailed)
    );
    let Reply::Object(object) = get(&store, "a").unwrap() else {
        panic!("not an object")
    };
    assert_eq!(object.content, inline("first"));
}

#[test]
fn a_precondition_is_judged_on_the_present_object() {
    let check = |present: bool, precondition: Precondition, expected: Result<(), MetadataError>| {
        let mut store = opened();
        if present {
            run(&mut store, put("a", inline("four"))).unwrap(); // its ETag is "etag-4"
        }
        let outcome = run(&mut store, put_if("a", inline("new"), precondition.clone()));
        assert_eq!(outcome.map(|_| ()), expected, "{present} {precondition:?}");
        let mut store = opened();
        if present {
            run(&mut store, put("a", inline("four"))).unwrap();
        }
        let delete = Change::DeleteObject {
            bucket: BUCKET,
            key: "a".into(),
            version: None,
            precondition,
            bypass: false,
        };
        assert_eq!(run(&mut store, delete).map(|_| ()), expected);
    };
    let etag = |text: &str| Precondition::Etag(text.into());
    check(true, Precondition::None, Ok(()));
    check(
        true,
        Precondition::Absent,
        Err(MetadataError::PreconditionFailed),
    );
    check(true, Precondition::Present, Ok(()));
    check(true, etag("etag-4"), Ok(()));
    check(true, etag("other"), Err(MetadataError::PreconditionFailed));
    check(false, Precondition::None, Ok(()));
    check(false, Precondition::Absent, Ok(()));
    check(
        false,
        Precondition::Present,
        Err(MetadataError::PreconditionFailed),
    );
    check(false, etag("etag-4"), Err(MetadataError::NoSuchKey));
}

#[test]
fn a_refused_put_leaves_nothing_but_its_blocks_as_garbage() {
    let mut store = opened();
    run(&mut store, put("a", Content::Blocks(blocks(&[1])))).unwrap();
    let before = store.clone();
    let refused = put_if("a", Content::Blocks(blocks(&[1, 2])), Precondition::Absent);
    assert_eq!(
        run(&mut store, refused),
        Err(MetadataError::PreconditionFailed)
    );
    assert_eq!(garbage_numbers(&store), [2]);
    store.rows.retain(|key, _| key.first() != Some(&b'g'));
    assert_eq!(store, before);
}

#[test]
fn a_block_is_garbage_only_behind_its_last_reference() {
    let mut store = opened();
    run(&mut store, put("a", Content::Blocks(blocks(&[1, 2])))).unwrap();
    run(&mut store, put("b", Content::Blocks(blocks(&[2, 2])))).unwrap();
    assert_eq!(counts(&store), [(1, 1), (2, 3)]);
    run(&mut store, delete("a")).unwrap();
    assert_eq!(
        (counts(&store), garbage_numbers(&store)),
        (vec![(2, 2)], vec![1])
    );
    run(&mut store, delete("b")).unwrap();
    assert_eq!(
        (counts(&store), garbage_numbers(&store)),
        (vec![], vec![1, 2])
    );
}

#[test]
fn the_same_bytes_put_again_never_become_garbage() {
    let mut store = opened();
    run(&mut store, put("a", Content::Blocks(blocks(&[1])))).unwrap();
    run(&mut store, put("a", Content::Blocks(blocks(&[1])))).unwrap();
    assert_eq!(
        (counts(&store), garbage_numbers(&store)),
        (vec![(1, 1)], vec![])
    );
}

#[test]
fn a_copy_is_refused_when_a_block_of_its_source_is_gone() {
    let mut store = opened();
    run(&mut store, put("a", Content::Blocks(blocks(&[1])))).unwrap();
    let copy = |store: &mut MemoryStore| {
        let object = object(Content::Blocks(blocks(&[1])));
        let (key, precondition) = ("copy".into(), Precondition::None);
        run(
            store,
            Change::PutObject {
                bucket: BUCKET,
                key,
                object,
                precondition,
                copied: true,
                event: EventKind::Put,
            },
        )
    };
    assert!(copy(&mut store.clone()).is_ok());
    run(&mut store, delete("a")).unwrap();
    assert_eq!(copy(&mut store), Err(MetadataError::SourceChanged));
    // The blocks are another object's affair: one garbage row, from the deletion.
    assert_eq!(garbage_numbers(&store), [1]);
}

#[test]
fn a_completed_upload_is_its_parts_and_drops_the_others() {
    let mut store = opened();
    run(&mut store, create_upload("a", "u")).unwrap();
    run(&mut store, put_part("a", "u", 1, &[1, 2])).unwrap();
    run(&mut store, put_part("a", "u", 2, &[3, 4])).unwrap();
    run(&mut store, put_part("a", "u", 7, &[5])).unwrap();
    let etag = whole_etag(&[part_md5(1, &[1, 2]), part_md5(7, &[5])]);
    let written = run(&mut store, complete("a", "u", &[1, 7], &etag)).unwrap();
    let size = 3 * (4 << 20);
    assert_eq!(
        written,
        Reply::Written {
            etag: etag.clone(),
            modified_ms: 1_000,
            size,
            version: None,
        }
    );
    let Reply::Object(object) = get(&store, "a").unwrap() else {
        panic!("not an object")
    };
    let parts = vec![(1, 8 << 20), (7, 4 << 20)];
    assert_eq!(
        object.content,
        Content::Parts {
            upload: "u".into(),
            parts
        }
    );
    reclaim_all(&mut store);
    assert_eq!(counts(&store), [(1, 1), (2, 1), (5, 1)]);
    let part = |number| Operation::GetPart {
        bucket: BUCKET,
        upload: "u".into(),
        number,
    };
    let Reply::Part(seven) = ask(&store, part(7)).unwrap() else {
        panic!("not a part")
    };
    assert_eq!(seven.blocks, blocks(&[5]));
    assert_eq!(
        ask(&store, part(2)),
        Err(MetadataError::InvalidPart { number: 2 })
    );
    run(&mut store, delete("a")).unwrap();
    reclaim_all(&mut store);
    assert_eq!(
        (counts(&store), garbage_numbers(&store)),
        (vec![], vec![1, 2, 3, 4, 5])
    );
}

#[test]
fn completing_is_refused_for_missing_small_and_other_parts() {
    let mut store = opened();
    run(&mut store, create_upload("a", "u")).unwrap();
    run(&mut store, put_part("a", "u", 1, &[1])).unwrap(); // 4 MiB: below the least size
    run(&mut store, put_part("a", "u", 2, &[2, 3])).unwrap();
    let etag = whole_etag(&[part_md5(2, &[2, 3]), part_md5(1, &[1])]);
    let check = |parts: &[u16], etag: &str, error: MetadataError| {
        let mut store = store.clone();
        assert_eq!(run(&mut store, complete("a", "u", parts, etag)), Err(error));
    };
    check(&[2, 3], &etag, MetadataError::InvalidPart { number: 3 });
    check(&[1, 2], &etag, MetadataError::EntityTooSmall { number: 1 });
    check(&[2], "0-1", MetadataError::InvalidPart { number: 0 });
    // The upload lives on.
    let etag = whole_etag(&[part_md5(2, &[2, 3])]);
    assert!(run(&mut store, complete("a", "u", &[2], &etag)).is_ok());
}

#[test]
fn completing_again_succeeds_while_the_object_is_the_one_it_made() {
    let mut store = opened();
    run(&mut store, create_upload("a", "u")).unwrap();
    run(&mut store, put_part("a", "u", 1, &[1])).unwrap();
    let etag = whole_etag(&[part_md5(1, &[1])]);
    let once = run(&mut store, complete("a", "u", &[1], &etag)).unwrap();
    assert_eq!(run(&mut store, complete("a", "u", &[1], &etag)), Ok(once));
    let other = run(&mut store, complete("a", "u", &[1], "0-1"));
    assert_eq!(other, Err(MetadataError::NoSuchUpload));
    run(&mut store, put("a", inline("newer"))).unwrap();
    let late = run(&mut store, complete("a", "u", &[1], &etag));
    assert_eq!(late, Err(MetadataError::NoSuchUpload));
}

#[test]
fn a_part_put_again_replaces_the_first() {
    let mut store = opened();
    run(&mut store, create_upload("a", "u")).unwrap();
    run(
        &mut store,
        put_part("a", "u", 1, &(1..=20).collect::<Vec<u8>>()),
    )
    .unwrap();
    run(&mut store, put_part("a", "u", 1, &[1])).unwrap();
    assert_eq!(counts(&store), [(1, 1)]);
    assert_eq!(garbage_numbers(&store), (2..=20).collect::<Vec<u8>>());
}

#[test]
fn an_aborted_upload_is_gone_at_once_and_its_parts_in_steps() {
    let mut store = opened();
    run(&mut store, create_upload("a", "u")).unwrap();
    for number in 1..=600 {
        run(
            &mut store,
            put_part("a", "u", number, &[(number % 250) as u8]),
        )
        .unwrap();
    }
    let abort = || Change::AbortUpload {
        bucket: BUCKET,
        key: "a".into(),
        upload: "u".into(),
    };
    run(&mut store, abort()).unwrap();
    assert_eq!(run(&mut store, abort()), Err(MetadataError::NoSuchUpload));
    let late = run(&mut store, put_part("a", "u", 1, &[1]));
    assert_eq!(late, Err(MetadataError::NoSuchUpload));
    let taken = run(&mut store, create_upload("b", "u"));
    assert!(
        matches!(taken, Err(MetadataError::Refused(_))),
        "its parts are not gone yet"
    );
    let mut steps = 0;
    while reclaimable(&store).unwrap() {
        run(&mut store, AnyChange::Reclaim).unwrap();
        steps += 1;
    }
    assert_eq!((steps, counts(&store)), (3, vec![]));
    assert!(run(&mut store, create_upload("b", "u")).is_ok());
}

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
fn uploads_are_listed_by_key_and_then_by_time() {
    let mut store = opened();
    // 0 in a key must not disturb the order.
    let uploads = [
        ("b", "2"),
        ("a\0b", "9"),
        ("a", "z"),
        ("a", "y"),
        ("a\u{1}", "1"),
    ];
    for (at_ms, (key, upload)) in (11..).zip(uploads) {
        apply(
            &mut store,
            &Command {
                at_ms,
                change: create_upload(key, upload).into(),
            },
        )
        .unwrap()
        .unwrap();
    }
    let page = |after: Option<(&str, &str)>, prefix: &str, limit| {
        let after = after.map(|(key, upload)| (key.into(), upload.into()));
        let list = Operation::ListUploads {
            bucket: BUCKET,
            prefix: prefix.into(),
            after,
            limit,
        };
        let Reply::Uploads { uploads, more } = ask(&store, list).unwrap() else {
            panic!("no list")
        };
        (
            uploads
                .into_iter()
                .map(|upload| upload.upload)
                .collect::<String>(),
            more,
        )
    };
    assert_eq!(page(None, "", 9), ("zy912".into(), false));
    assert_eq!(page(None, "a", 2), ("zy".into(), true));
    assert_eq!(page(Some(("a", "z")), "a", 9), ("y91".into(), false));
    assert_eq!(page(Some(("a", "")), "", 9), ("912".into(), false));
}

/// Counts the rows that a scan shows.
struct Counting<'a> {
    store: &'a MemoryStore,
    shown: Cell<usize>,
}

impl Rows for Counting<'_> {
    type Value = Vec<u8>;
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.store.get(key)
    }
    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.store.scan(from, to, &mut |key, value| {
            self.shown.set(self.shown.get() + 1);
            visit(key, value)
        })
    }
}

#[test]
fn a_common_prefix_of_many_keys_is_jumped_over() {
    let mut store = opened();
    for folder in ["a", "b", "c"] {
        for file in 0..1_000 {
            run(&mut store, put(&format!("{folder}/{file}"), inline(""))).unwrap();
        }
    }
    let counting = Counting {
        store: &store,
        shown: Cell::new(0),
    };
    let list = Operation::ListObjects {
        bucket: BUCKET,
        prefix: String::new(),
        delimiter: "/".into(),
        after: None,
        limit: 1_000,
    };
    let Ok(Some(Ok(Reply::Page {
        entries,
        next: None,
    }))) = read(&counting, &list)
    else {
        panic!("not one page")
    };
    let prefix = |text: &str| Entry::Prefix(text.into());
    let entries = entries.to_vec().unwrap();
    assert_eq!(entries, [prefix("a/"), prefix("b/"), prefix("c/")]);
    assert!(counting.shown.get() < 100, "{} rows", counting.shown.get());
}

#[test]
fn a_page_fits_a_message_and_the_pages_hold_everything() {
    let mut store = opened();
    let keys: Vec<String> = (0..500).map(|number| format!("{number:01024}")).collect();
    for key in &keys {
        run(&mut store, put(key, Content::Inline(vec![0; 600]))).unwrap();
    }
    let (mut listed, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let list = Operation::ListObjects {
            bucket: BUCKET,
            prefix: String::new(),
            delimiter: String::new(),
            after,
            limit: PAGE_MAX,
        };
        let reply = ask(&store, list).unwrap();
        assert!(postcard::to_allocvec(&reply).unwrap().len() < MESSAGE_BYTES_MAX - 64);
        let Reply::Page { entries, next } = reply else {
            panic!("no page")
        };
        listed.extend(
            entries
                .to_vec()
                .unwrap()
                .into_iter()
                .map(|entry| match entry {
                    Entry::Object { key, .. } => key,
                    Entry::Prefix(_) => panic!("no delimiter, no prefix"),
                }),
        );
        pages += 1;
        match next {
            Some(After::Key(key)) => after = Some(After::Key(key)),
            Some(After::Prefix(_)) => panic!("no prefix to go on behind"),
            None => break,
        }
    }
    assert_eq!((listed, pages), (keys, 5));
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

#[test]
fn calls_that_break_a_bound_are_refused_before_the_log() {
    let judge = |change: Change| super::check(&change.into());
    let refused = |operation: Operation| {
        let outcome = super::check(&operation);
        assert!(
            matches!(outcome, Err(MetadataError::Refused(_))),
            "{operation:?}"
        );
    };
    let check = |change: Change| refused(change.into());
    let put = |key: &str, object: NewObject| Change::PutObject {
        bucket: BUCKET,
        key: key.into(),
        object,
        precondition: Precondition::None,
        copied: false,
        event: EventKind::Put,
    };
    let good = || object(inline("text"));
    assert_eq!(judge(put("a", good())), Ok(()));
    check(put("", good()));
    check(put(&"k".repeat(1_025), good()));
    check(put("a", NewObject { size: 5, ..good() }));
    check(put("a", object(Content::Inline(vec![0; 8 * 1024 + 1]))));
    check(put("a", object(Content::Blocks(vec![block(1); 2_601]))));
    check(put(
        "a",
        object(Content::Blocks(vec![BlockRef {
            length: 0,
            ..block(1)
        }])),
    ));
    check(put(
        "a",
        NewObject {
            headers: vec![("x".into(), "y".repeat(12 * 1024))],
            ..good()
        },
    ));
    check(put(
        "a",
        NewObject {
            content: Content::Parts {
                upload: "u".into(),
                parts: vec![],
            },
            ..good()
        },
    ));
    let complete = |parts: Vec<u16>| Change::CompleteUpload {
        bucket: BUCKET,
        key: "a".into(),
        upload: "u".into(),
        parts,
        etag: "e-1".into(),
        checksum: None,
        precondition: Precondition::None,
    };
    assert_eq!(judge(complete(vec![1, 2])), Ok(()));
    check(complete(vec![]));
    check(complete(vec![2, 1]));
    check(complete(vec![1, 1]));
    check(Change::CreateKey {
        key: AccessKey {
            access_key: "a\0b".into(),
            ..key("A", false)
        },
    });
    refused(Operation::CreateBucket {
        name: String::new(),
        owner: String::new(),
        hash_key: HashKey([0; 32]),
        locked: false,
    });
}
