//! Rows that are not what this program writes: an error, never a panic.

use super::*;
use proptest::prelude::*;
use protocol::cluster::{ClusterId, GossipKey, NodeEntry, NodeKey, Standing};
use protocol::metadata::Operation;

/// A store with rows of every kind.
fn populated() -> MemoryStore {
    let mut store = opened();
    let key = AccessKey {
        access_key: "A".into(),
        secret_key: "s".into(),
        name: "n".into(),
        root: true,
        create_buckets: true,
        created_ms: 0,
    };
    run(&mut store, Change::FirstKey { key }).unwrap();
    let register = AnyChange::RegisterBucket {
        id: BUCKET,
        name: "home".into(),
        owner: "A".into(),
        hash_key: HashKey([1; 32]),
        versioned: true,
    };
    run(&mut store, register).unwrap();
    run(&mut store, put("inline", Content::Inline(vec![1; 9]))).unwrap();
    run(&mut store, put("apart", Content::Inline(vec![1; 900]))).unwrap();
    run(&mut store, put("blocks", Content::Blocks(blocks(&[1, 2])))).unwrap();
    run(&mut store, put("gone", Content::Blocks(blocks(&[3])))).unwrap();
    run(&mut store, delete("gone")).unwrap();
    for upload in ["u", "v", "w"] {
        run(&mut store, create_upload("whole", upload)).unwrap();
        run(
            &mut store,
            put_part("whole", upload, 1, &(1..=20).collect::<Vec<u8>>()),
        )
        .unwrap();
    }
    let etag = whole_etag(&[part_md5(1, &(1..=20).collect::<Vec<u8>>())]);
    run(&mut store, complete("whole", "u", &[1], &etag)).unwrap();
    let abort = Change::AbortUpload {
        bucket: BUCKET,
        key: "whole".into(),
        upload: "v".into(),
    };
    run(&mut store, abort).unwrap();
    for change in changes_of_nodes() {
        run(&mut store, AnyChange::Cluster(change)).unwrap();
    }
    store
}

/// A cluster of two.
fn changes_of_nodes() -> [ClusterChange; 4] {
    let node = |number| NodeEntry {
        key: NodeKey([number; 32]),
        gossip_key: GossipKey([number; 32]),
        name: format!("node-{number}"),
        zone: "home".into(),
        capacity_bytes: 1,
        mesh: "10.0.0.1:1".into(),
        gossip: "10.0.0.1:2".into(),
        standing: Standing::Member,
    };
    let cluster = ClusterId([1; 16]);
    [
        ClusterChange::Found {
            cluster,
            version: 1,
            node: node(1),
        },
        ClusterChange::Invite {
            secret_hash: [2; 32],
            expires_ms: u64::MAX,
        },
        ClusterChange::Admit {
            cluster,
            secret_hash: [2; 32],
            node: node(2),
        },
        ClusterChange::SetNode { node: node(2) },
    ]
}

/// Every read and every kind of change, each on its own copy.
fn use_all(store: &MemoryStore) {
    let (bucket, limit) = (BUCKET, 10);
    let reads = [
        Operation::Roster,
        Operation::Authorize {
            access_key: Some("A".into()),
            bucket: Some("home".into()),
        },
        Operation::ListKeys { after: None, limit },
        Operation::ListBuckets {
            access_key: Some("A".into()),
            after: None,
            limit,
        },
        Operation::GetObject {
            bucket,
            key: "apart".into(),
            version: None,
        },
        Operation::GetObject {
            bucket,
            key: "blocks".into(),
            version: None,
        },
        Operation::GetObject {
            bucket,
            key: "whole".into(),
            version: None,
        },
        Operation::GetPart {
            bucket,
            upload: "u".into(),
            number: 1,
        },
        Operation::GetUpload {
            bucket,
            key: "whole".into(),
            upload: "w".into(),
        },
        Operation::ListUploads {
            bucket,
            prefix: String::new(),
            after: None,
            limit,
        },
        Operation::ListParts {
            bucket,
            key: "whole".into(),
            upload: "w".into(),
            after: 0,
            limit,
        },
        Operation::ListObjects {
            bucket,
            prefix: String::new(),
            delimiter: "/".into(),
            after: None,
            limit,
        },
    ];
    for operation in reads {
        let _ = read(store, &operation);
    }
    let _ = (
        garbage(store, u64::MAX, 10),
        reclaimable(store),
        revision(store),
        next_bucket(store),
    );
    let _ = registered(store, drop);
    let _ = rowed(store, drop);
    let etag = whole_etag(&[part_md5(1, &(1..=20).collect::<Vec<u8>>())]);
    let (id, access_key) = (BUCKET, String::from("A"));
    let changes: [AnyChange; 14] = [
        put("inline", Content::Blocks(blocks(&[1]))).into(),
        put("apart", Content::Blocks(blocks(&[1]))).into(),
        put("blocks", Content::Inline(vec![])).into(),
        delete("whole").into(),
        create_upload("x", "x").into(),
        put_part("whole", "w", 1, &[1]).into(),
        complete("whole", "w", &[1], &etag).into(),
        complete("whole", "u", &[1], &etag).into(),
        AnyChange::Reclaim,
        Change::DeleteKey {
            access_key: access_key.clone(),
        }
        .into(),
        Change::SetRights {
            access_key,
            bucket: "home".into(),
            rights: Rights::default(),
        }
        .into(),
        AnyChange::UnregisterBucket {
            id,
            name: "home".into(),
        },
        AnyChange::CloseBucket { id },
        AnyChange::ForgetBucket { id },
    ];
    let of_nodes = changes_of_nodes().map(AnyChange::Cluster);
    for change in changes.into_iter().chain(of_nodes) {
        let before = store.clone();
        let mut changed = store.clone();
        if apply(&mut changed, &Command { at_ms: 5, change }).is_err() {
            assert_eq!(changed, before, "a command that fails changes nothing");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_row_is_an_error_and_no_panic(
        which in any::<prop::sample::Index>(),
        key_too in any::<bool>(),
        cut in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut store = populated();
        let mut key = which.get(&store.rows.keys().cloned().collect::<Vec<_>>()).clone();
        let mut value = store.rows.remove(&key).unwrap();
        let damage = |bytes: &mut Vec<u8>| {
            for (at, byte) in &flips {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
            }
            bytes.truncate(cut.index(bytes.len() + 1));
        };
        if key_too {
            damage(&mut key);
        } else {
            damage(&mut value);
        }
        store.rows.insert(key, value);
        use_all(&store);
    }
}
