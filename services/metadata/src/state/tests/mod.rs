//! Tests of the state machine: single promises, random sequences against a model, damaged rows.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests: a panic is the failure"
)]

mod aliases;
mod damage;
mod garbage;
mod layout;
mod lifecycle;
pub(crate) mod model;
mod notifications;
mod objects;
mod pages;
mod quotas;
mod registry;
mod renames;
mod roster;
mod schedule;
mod sequences;
mod settings;
mod told;
mod uploads;
mod versions;

use super::*;
use md5::Digest;
use protocol::block::{BlockId, Place};
use protocol::metadata::{
    AccessKey, AttributeChange, Attributes, Conditions, EventKind, NewObject, ObjectLock, Part,
    Precondition, Rights, Upload, VersionId,
};
use protocol::settings::SettingKind;

/// The bucket of most tests, which [`opened`] opens.
const BUCKET: BucketId = BucketId(1);

/// A store in which [`BUCKET`] is open.
fn opened() -> MemoryStore {
    let mut store = MemoryStore::default();
    run(
        &mut store,
        AnyChange::OpenBucket {
            id: BUCKET,
            name: "home".into(),
            locked: false,
        },
    )
    .unwrap();
    store
}

/// Bytes in the row itself.
fn inline(text: &str) -> Content {
    Content::Inline(text.as_bytes().to_vec())
}

/// A key of that id.
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

/// Opens and registers a bucket.
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

/// Applies a change at time 1,000.
fn run(store: &mut MemoryStore, change: impl Into<AnyChange>) -> Outcome {
    apply(
        store,
        &Command {
            at_ms: 1_000,
            change: change.into(),
        },
    )
    .unwrap()
}

fn ask(store: &MemoryStore, operation: Operation) -> Outcome {
    read(store, &operation).unwrap().expect("a read")
}

/// A block of 4 MiB.
fn block(number: u8) -> BlockRef {
    BlockRef {
        id: BlockId([number; 32]),
        length: 4 << 20,
        place: Place::File,
    }
}

fn blocks(numbers: &[u8]) -> Vec<BlockRef> {
    numbers.iter().map(|number| block(*number)).collect()
}

fn object(content: Content) -> NewObject {
    let size = match &content {
        Content::Inline(bytes) => bytes.len() as u64,
        Content::Blocks(blocks) => blocks.iter().map(|block| u64::from(block.length)).sum(),
        Content::Parts { .. } => unreachable!("not in a put"),
    };
    let headers = vec![("content-type".into(), "text/plain".into())];
    NewObject {
        size,
        etag: format!("etag-{size}"),
        headers,
        checksum: None,
        attributes: Attributes::default(),
        encryption: None,
        content,
    }
}

fn put(key: &str, content: Content) -> Change {
    put_if(key, content, Precondition::None)
}

fn put_if(key: &str, content: Content, precondition: Precondition) -> Change {
    let (key, object) = (key.into(), object(content));
    Change::PutObject {
        bucket: BUCKET,
        key,
        object,
        precondition,
        copied: false,
        event: EventKind::Put,
    }
}

fn delete(key: &str) -> Change {
    delete_version(key, None)
}

fn delete_version(key: &str, version: Option<VersionId>) -> Change {
    Change::DeleteObject {
        bucket: BUCKET,
        key: key.into(),
        version,
        precondition: Precondition::None,
        bypass: false,
    }
}

fn set_versioning(store: &mut MemoryStore, versioning: Versioning) {
    let change = AnyChange::PutVersioning {
        bucket: BUCKET,
        versioning,
    };
    run(store, change).unwrap();
}

fn get(store: &MemoryStore, key: &str) -> Outcome {
    get_version(store, key, None)
}

fn get_version(store: &MemoryStore, key: &str, version: Option<VersionId>) -> Outcome {
    ask(
        store,
        Operation::GetObject {
            bucket: BUCKET,
            key: key.into(),
            version,
        },
    )
}

fn create_upload(key: &str, upload: &str) -> Change {
    let upload = Upload {
        upload: upload.into(),
        key: key.into(),
        headers: Vec::new(),
        checksum: None,
        attributes: Attributes::default(),
        encryption: None,
        initiated_ms: 0,
    };
    Change::CreateUpload {
        bucket: BUCKET,
        upload,
    }
}

/// MD5 of a part that is told apart by its number and blocks.
fn part_md5(number: u16, numbers: &[u8]) -> String {
    hex::encode(md5::Md5::digest([&number.to_be_bytes(), numbers].concat()))
}

fn put_part(key: &str, upload: &str, number: u16, numbers: &[u8]) -> Change {
    let blocks = blocks(numbers);
    let part = Part {
        size: blocks.iter().map(|block| u64::from(block.length)).sum(),
        etag: part_md5(number, numbers),
        checksum: None,
        modified_ms: 0,
        salt: None,
        blocks,
    };
    Change::PutPart {
        bucket: BUCKET,
        key: key.into(),
        upload: upload.into(),
        number,
        part,
        copied: false,
    }
}

/// As a client computes it.
fn whole_etag(md5s: &[String]) -> String {
    let digests: Vec<u8> = md5s
        .iter()
        .flat_map(|md5| hex::decode(md5).unwrap())
        .collect();
    format!("{}-{}", hex::encode(md5::Md5::digest(digests)), md5s.len())
}

fn complete(key: &str, upload: &str, parts: &[u16], etag: &str) -> Change {
    Change::CompleteUpload {
        bucket: BUCKET,
        key: key.into(),
        upload: upload.into(),
        parts: parts.to_vec(),
        etag: etag.into(),
        checksum: None,
        precondition: Precondition::None,
    }
}

/// How many refer to each block, by its number.
fn counts(store: &MemoryStore) -> Vec<(u8, u64)> {
    let referenced = store
        .rows
        .iter()
        .filter(|(key, _)| key.first() == Some(&b'r'));
    referenced
        .map(|(key, value)| {
            let block = rows::referenced_of(key).unwrap();
            (block.id.0[0], rows::decode(value, "count").unwrap())
        })
        .collect()
}

/// The garbage, by the blocks' numbers.
fn garbage_numbers(store: &MemoryStore) -> Vec<u8> {
    let all = garbage(store, u64::MAX - 1, usize::MAX).unwrap();
    all.into_iter().map(|(_, block)| block.id.0[0]).collect()
}

/// Drops all parts that nobody needs.
fn reclaim_all(store: &mut MemoryStore) {
    while reclaimable(store).unwrap() {
        run(store, AnyChange::Reclaim).unwrap();
    }
}
