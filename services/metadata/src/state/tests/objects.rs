//! Objects, their preconditions, and the blocks that they refer to.

use super::*;

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
