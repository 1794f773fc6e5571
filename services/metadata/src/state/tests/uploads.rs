//! Uploads in parts.

use super::*;

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
