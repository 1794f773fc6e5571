//! Renaming: one step, its conditions, and its repetition.

use super::*;

fn rename(source: &str, key: &str) -> Change {
    rename_if(
        source,
        key,
        Conditions::default(),
        Conditions::default(),
        None,
    )
}

fn rename_if(
    source: &str,
    key: &str,
    source_conditions: Conditions,
    conditions: Conditions,
    token: Option<&str>,
) -> Change {
    Change::RenameObject {
        bucket: BUCKET,
        source: source.into(),
        key: key.into(),
        source_conditions,
        conditions,
        token: token.map(str::to_owned),
    }
}

#[test]
fn a_renamed_object_is_the_same_under_its_new_key_alone() {
    let check = |content: Content| {
        let mut store = opened();
        run(&mut store, put("a", content.clone())).unwrap();
        run(&mut store, put("b", Content::Blocks(blocks(&[9, 9])))).unwrap();
        let before = get(&store, "a").unwrap();
        run(&mut store, rename("a", "b")).unwrap();
        assert_eq!(get(&store, "b").unwrap(), before);
        assert_eq!(get(&store, "a"), Err(MetadataError::NoSuchKey));
        assert_eq!(garbage_numbers(&store), [9]);
        model::check_invariants(&store);
    };
    check(Content::Inline(vec![1; 9]));
    check(Content::Inline(vec![1; 5_000]));
    check(Content::Blocks(blocks(&[1, 2])));
    check(Content::Blocks((10..200).map(block).collect()));
}

#[test]
fn a_rename_onto_itself_changes_nothing() {
    let mut store = opened();
    run(&mut store, put("a", Content::Blocks(blocks(&[1])))).unwrap();
    let before = store.clone();
    run(&mut store, rename("a", "a")).unwrap();
    assert_eq!(store, before);
}

#[test]
fn the_conditions_of_source_and_destination_are_judged() {
    let etag = |etag: &str| Conditions {
        if_match: Some(etag.into()),
        ..Conditions::default()
    };
    let not = |etag: &str| Conditions {
        if_none_match: Some(etag.into()),
        ..Conditions::default()
    };
    let since = |seconds| Conditions {
        if_modified_since_s: Some(seconds),
        ..Conditions::default()
    };
    let unless_since = |seconds| Conditions {
        if_unmodified_since_s: Some(seconds),
        ..Conditions::default()
    };
    let none = Conditions::default;
    let check = |source: Conditions, destination: Conditions, onto: bool, expected: bool| {
        let mut store = opened();
        // Written in second 1, with the ETags "etag-4" and "etag-3".
        run(&mut store, put("a", Content::Inline(b"four".to_vec()))).unwrap();
        if onto {
            run(&mut store, put("b", Content::Inline(b"and".to_vec()))).unwrap();
        }
        let change = rename_if("a", "b", source.clone(), destination.clone(), None);
        let expected = match expected {
            true => Ok(()),
            false => Err(MetadataError::PreconditionFailed),
        };
        let outcome = run(&mut store, change).map(|_| ());
        assert_eq!(outcome, expected, "{source:?} {destination:?} {onto}");
    };
    check(etag("etag-4"), none(), true, true);
    check(etag("*"), none(), true, true);
    check(etag("etag-3"), none(), true, false);
    check(not("etag-4"), none(), true, false);
    check(not("*"), none(), true, false);
    check(not("etag-3"), none(), true, true);
    check(since(0), none(), true, true);
    check(since(1), none(), true, false);
    check(unless_since(1), none(), true, true);
    check(unless_since(0), none(), true, false);
    check(none(), etag("etag-3"), true, true);
    check(none(), etag("etag-3"), false, false);
    check(none(), etag("etag-4"), true, false);
    check(none(), not("*"), false, true);
    check(none(), not("*"), true, false);
    check(none(), since(0), true, true);
    check(none(), since(0), false, false);
    check(none(), unless_since(0), true, false);
    check(none(), unless_since(0), false, true);
}

#[test]
fn a_rename_repeated_with_its_token_succeeds_and_does_nothing() {
    let mut store = opened();
    let none = Conditions::default;
    run(&mut store, put("a", Content::Blocks(blocks(&[1])))).unwrap();
    let again = rename_if("a", "b", none(), none(), Some("t"));
    let first = run(&mut store, again.clone()).unwrap();
    // Somebody else wrote to the source meanwhile: it stays.
    run(&mut store, put("a", Content::Blocks(blocks(&[2])))).unwrap();
    let before = store.clone();
    assert_eq!(run(&mut store, again), Ok(first));
    assert_eq!(store, before);
    let other = rename_if("c", "b", none(), none(), Some("t"));
    assert_eq!(run(&mut store, other), Err(MetadataError::TokenReused));
    let fresh = rename_if("a", "b", none(), none(), Some("u"));
    assert!(run(&mut store, fresh).is_ok());
    assert_eq!(get(&store, "a"), Err(MetadataError::NoSuchKey));
}
