//! Pages of listings, and the bounds of what is asked.

use super::*;
use protocol::metadata::{After, Entry, PAGE_MAX};
use protocol::wire::MESSAGE_BYTES_MAX;
use std::cell::Cell;
use std::ops::ControlFlow;

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
