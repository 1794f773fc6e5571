//! metadata's state: rows as another node's snapshot or a bad disk brings them, and sequences of operations.

use metadata::state::{
    AnyChange, ClusterChange, Command, MemoryStore, apply, check, garbage, is_invited, next_bucket,
    next_events, read, reclaimable, registered, revision, rowed,
};
use protocol::block::{BlockId, BlockRef, HashKey, Place};
use protocol::cluster::{ClusterId, GossipKey, NodeEntry, NodeKey, Standing};
use protocol::metadata::{
    AccessKey, After, AttributeChange, Attributes, BucketId, Change, Conditions, Content,
    Destination, EventId, EventKind, EventPattern, NewObject, Notification, NotificationRule,
    ObjectLock, Operation, Part, Precondition, Rights, Upload, VersionId, Versioning,
};

const BUCKET: BucketId = BucketId(1);
const WEBHOOK: &str = "hook";
/// More rows or operations in one input make it slow and find nothing more.
const ENTRIES_MAX: usize = 64;

/// The first byte says which of the two the others are.
pub(crate) fn run(bytes: &[u8]) -> bool {
    match bytes {
        [0, rows @ ..] => decode(rows).is_some_and(rows_of_anybody),
        [1, operations @ ..] => decode(operations).is_some_and(operations_of_anybody),
        _ => false,
    }
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<Vec<T>> {
    let decoded: Vec<T> = postcard::from_bytes(bytes).ok()?;
    (decoded.len() <= ENTRIES_MAX).then_some(decoded)
}

/// Any rows at all: reads and changes end with an answer or an error, and an error changes nothing.
fn rows_of_anybody(rows: Vec<(Vec<u8>, Vec<u8>)>) -> bool {
    let mut store = MemoryStore::default();
    store.rows.extend(rows);
    let _ = (
        garbage(&store, u64::MAX, 10),
        reclaimable(&store),
        revision(&store),
        next_bucket(&store),
    );
    let _ = (registered(&store, drop), rowed(&store, drop));
    let _ = next_events(&store, WEBHOOK);
    let _ = is_invited(&store, &[2; 32]);
    for operation in reads().into_iter().chain(writes()) {
        let _ = read(&store, &operation);
        if let Some(change) = change_of(operation) {
            applies_as_a_whole(&store, change);
        }
    }
    for change in changes_of_nodes() {
        applies_as_a_whole(&store, AnyChange::Cluster(change));
    }
    true
}

fn applies_as_a_whole(store: &MemoryStore, change: AnyChange) {
    let mut changed = store.clone();
    if apply(&mut changed, &Command { at_ms: 5, change }).is_err() {
        assert_eq!(changed, *store, "a command that fails changes nothing");
    }
}

/// Every change of who belongs.
fn changes_of_nodes() -> [ClusterChange; 5] {
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
    let secret_hash = [2; 32];
    [
        ClusterChange::Found {
            cluster,
            version: 1,
            node: node(1),
        },
        ClusterChange::Invite {
            secret_hash,
            expires_ms: 9,
        },
        ClusterChange::Admit {
            cluster,
            secret_hash,
            node: node(2),
        },
        ClusterChange::SetNode { node: node(2) },
        ClusterChange::SetStanding {
            key: NodeKey([2; 32]),
            standing: Standing::Revoked,
        },
    ]
}

/// From an empty state, operations within their bounds never meet a damaged row, and what they leave can be read.
fn operations_of_anybody(operations: Vec<Operation>) -> bool {
    let mut store = opened();
    for (at_ms, operation) in (1_000..).zip(operations) {
        if check(&operation).is_err() {
            continue;
        }
        let answer = read(&store, &operation);
        assert!(answer.is_ok(), "{operation:?}: {answer:?}");
        if let Some(change) = change_of(operation) {
            let outcome = apply(&mut store, &Command { at_ms, change });
            assert!(outcome.is_ok(), "{outcome:?}");
        }
        for operation in reads() {
            let answer = read(&store, &operation);
            assert!(answer.is_ok(), "{operation:?}: {answer:?}");
        }
        let events = next_events(&store, WEBHOOK);
        assert!(events.is_ok(), "{events:?}");
    }
    true
}

fn opened() -> MemoryStore {
    let mut store = MemoryStore::default();
    let open = AnyChange::OpenBucket {
        id: BUCKET,
        name: "home".into(),
        locked: false,
    };
    let register = AnyChange::RegisterBucket {
        id: BUCKET,
        name: "home".into(),
        owner: String::new(),
        hash_key: HashKey([1; 32]),
        versioned: false,
    };
    for change in [open, register] {
        let outcome = apply(&mut store, &Command { at_ms: 1, change });
        assert!(matches!(outcome, Ok(Ok(_))), "{outcome:?}");
    }
    store
}

/// The change that the service makes of an operation, for those that are one command; of others, one of their commands.
fn change_of(operation: Operation) -> Option<AnyChange> {
    match operation {
        Operation::PutVersioning { versioning, .. } => Some(AnyChange::PutVersioning {
            bucket: BUCKET,
            versioning,
        }),
        Operation::Sweep { .. } => Some(AnyChange::Reclaim),
        Operation::ForgetEvents { webhook, events } => {
            let upto = events.iter().map(|event| event.number).max()?;
            Some(AnyChange::ForgetEvents { webhook, upto })
        }
        Operation::Change(change) => Some(change.into()),
        _ => None,
    }
}

fn reads() -> Vec<Operation> {
    let (bucket, limit, prefix) = (BUCKET, 10, String::new());
    let (key, upload) = (String::from("whole"), String::from("u"));
    vec![
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
            key: "blocks".into(),
            version: None,
        },
        Operation::GetObject {
            bucket,
            key: key.clone(),
            version: Some(VersionId::Null),
        },
        Operation::GetVersioning { bucket },
        Operation::GetNotification { bucket },
        Operation::ListVersions {
            bucket,
            prefix: prefix.clone(),
            delimiter: "/".into(),
            after: None,
            limit,
        },
        Operation::ListObjectParts {
            bucket,
            upload: upload.clone(),
            after: 0,
            limit,
        },
        Operation::GetPart {
            bucket,
            upload: upload.clone(),
            number: 1,
        },
        Operation::GetUpload {
            bucket,
            key: key.clone(),
            upload: upload.clone(),
        },
        Operation::ListUploads {
            bucket,
            prefix: prefix.clone(),
            after: None,
            limit,
        },
        Operation::ListParts {
            bucket,
            key,
            upload,
            after: 0,
            limit,
        },
        Operation::ListObjects {
            bucket,
            prefix,
            delimiter: "/".into(),
            after: Some(After::Prefix("a/".into())),
            limit,
        },
    ]
}

fn writes() -> Vec<Operation> {
    let (bucket, precondition) = (BUCKET, Precondition::None);
    let (key, upload) = (String::from("whole"), String::from("u"));
    let block = |number| BlockRef {
        id: BlockId([number; 32]),
        length: 4 << 20,
        place: if number == 1 {
            Place::File
        } else {
            Place::Packed { pack: 1, page: 2 }
        },
    };
    let object = |content| NewObject {
        size: 9,
        etag: "e".into(),
        headers: vec![("content-type".into(), "text/plain".into())],
        checksum: None,
        attributes: Attributes::default(),
        encryption: None,
        content,
    };
    let access_key = AccessKey {
        access_key: "A".into(),
        secret_key: "s".into(),
        name: "n".into(),
        root: true,
        create_buckets: true,
        created_ms: 0,
    };
    // The MD5 of this part is sixteen zeros, so the ETag of the whole is the MD5 of those.
    let part = Part {
        size: 9,
        etag: "00000000000000000000000000000000".into(),
        checksum: None,
        modified_ms: 0,
        salt: None,
        blocks: (1..=9).map(block).collect(),
    };
    let started = Upload {
        upload: upload.clone(),
        key: key.clone(),
        headers: Vec::new(),
        checksum: Some(("CRC32".into(), true)),
        initiated_ms: 0,
        attributes: Attributes::default(),
        encryption: None,
    };
    let everything = NotificationRule {
        id: "all".into(),
        destination: Destination::Queue,
        webhook: WEBHOOK.into(),
        events: EventKind::ALL
            .iter()
            .copied()
            .map(EventPattern::One)
            .collect(),
        prefix: Some(String::new()),
        suffix: None,
    };
    vec![
        Operation::Change(Change::PutNotification {
            bucket,
            notification: Notification {
                rules: vec![everything],
            },
        }),
        Operation::Change(Change::FirstKey { key: access_key }),
        Operation::Change(Change::SetRights {
            access_key: "A".into(),
            bucket: "home".into(),
            rights: Rights {
                read: true,
                write: true,
                owner: false,
            },
        }),
        Operation::Change(Change::PutObject {
            bucket,
            key: "inline".into(),
            object: object(Content::Inline(vec![7; 600])),
            precondition: Precondition::Absent,
            copied: false,
            event: EventKind::Put,
        }),
        Operation::Change(Change::PutObject {
            bucket,
            key: "blocks".into(),
            object: object(Content::Blocks(vec![block(1), block(2)])),
            precondition: Precondition::Etag("e".into()),
            copied: false,
            event: EventKind::Put,
        }),
        Operation::Change(Change::PutObject {
            bucket,
            key: "blocks".into(),
            object: object(Content::Blocks(vec![block(1)])),
            precondition: Precondition::None,
            copied: false,
            event: EventKind::Put,
        }),
        Operation::Change(Change::CreateUpload {
            bucket,
            upload: started.clone(),
        }),
        Operation::Change(Change::PutPart {
            bucket,
            key: key.clone(),
            upload: upload.clone(),
            number: 1,
            part,
            copied: false,
        }),
        Operation::Change(Change::CompleteUpload {
            bucket,
            key: key.clone(),
            upload: upload.clone(),
            parts: vec![1],
            etag: "4ae71336e44bf9bf79d2752e234818a5-1".into(),
            checksum: None,
            precondition: precondition.clone(),
        }),
        Operation::Change(Change::CreateUpload {
            bucket,
            upload: Upload {
                upload: "v".into(),
                ..started
            },
        }),
        Operation::Change(Change::AbortUpload {
            bucket,
            key,
            upload: "v".into(),
        }),
        Operation::Change(Change::RenameObject {
            bucket,
            source: "inline".into(),
            key: "moved".into(),
            source_conditions: Conditions::default(),
            conditions: Conditions::default(),
            token: Some("t".into()),
        }),
        Operation::PutVersioning {
            name: "home".into(),
            versioning: Versioning::Enabled,
        },
        Operation::Change(Change::PutObjectLock {
            bucket,
            lock: ObjectLock::default(),
        }),
        Operation::Change(Change::PutObject {
            bucket,
            key: "blocks".into(),
            object: object(Content::Inline(vec![8; 9])),
            precondition: Precondition::None,
            copied: false,
            event: EventKind::Put,
        }),
        Operation::Change(Change::ChangeAttributes {
            bucket,
            key: "blocks".into(),
            version: None,
            change: AttributeChange::LegalHold(true),
        }),
        Operation::Change(Change::DeleteObject {
            bucket,
            key: "blocks".into(),
            version: None,
            precondition,
            bypass: false,
        }),
        Operation::Sweep { grace_ms: 0 },
        Operation::ForgetEvents {
            webhook: WEBHOOK.into(),
            events: vec![EventId {
                shard: 0,
                number: 1,
            }],
        },
    ]
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut store = opened();
    for (at_ms, operation) in (1_000..).zip(writes()) {
        if let Some(change) = change_of(operation) {
            // Refused ones, too, leave what they leave.
            let _ = apply(&mut store, &Command { at_ms, change });
        }
    }
    let rows: Vec<(Vec<u8>, Vec<u8>)> = store.rows.into_iter().collect();
    let whole = postcard::to_extend(&rows, vec![0]);
    let single = rows
        .iter()
        .map(|row| postcard::to_extend(&[row][..], vec![0]));
    let operations = postcard::to_extend(&writes(), vec![1]);
    let seeds = [whole, operations].into_iter().chain(single);
    seeds.map(Result::unwrap_or_default).collect()
}
