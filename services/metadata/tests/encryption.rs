//! Data keys of encrypted objects: clear in calls and answers, wrapped on the disk.
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

use harness::{Client, Home};
use protocol::block::HashKey;
use protocol::metadata::{
    Attributes, BucketId, Change, Content, DataKey, Encryption, EventKind, KeySource,
    MetadataError, NewObject, Object, Operation, Precondition, Reply, Salt, Upload,
};
use std::path::Path;

/// Bytes that a search through files finds, wherever they stand.
const KEY: [u8; 32] = *b"the data key that is never seen.";

fn create_bucket(client: &mut Client) -> BucketId {
    let create = Operation::CreateBucket {
        name: "home".into(),
        owner: String::new(),
        hash_key: HashKey([3; 32]),
        locked: false,
    };
    match client.call(create).unwrap() {
        Reply::Bucket(bucket) => bucket.id,
        other => panic!("{other:?}"),
    }
}

fn managed() -> Encryption {
    Encryption {
        salt: Salt([8; 32]),
        source: KeySource::Managed(DataKey(KEY)),
    }
}

/// Three bytes and their tag.
fn put(bucket: BucketId, encryption: Encryption) -> Change {
    Change::PutObject {
        bucket,
        key: "k".into(),
        object: NewObject {
            size: 3,
            etag: "0".repeat(32),
            headers: Vec::new(),
            checksum: None,
            attributes: Attributes::default(),
            encryption: Some(encryption),
            content: Content::Inline(vec![1; 3 + 16]),
        },
        precondition: Precondition::None,
        copied: false,
        event: EventKind::Put,
    }
}

fn object(client: &mut Client, bucket: BucketId) -> Result<Object, MetadataError> {
    let get = Operation::GetObject {
        bucket,
        key: "k".into(),
        version: None,
    };
    match client.call(get)? {
        Reply::Object(object) => Ok(object),
        other => panic!("{other:?}"),
    }
}

/// Whether the bytes stand in any file below `directory`.
fn is_in_a_file(directory: &Path, wanted: &[u8]) -> bool {
    std::fs::read_dir(directory).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => is_in_a_file(&path, wanted),
            false => {
                let bytes = std::fs::read(&path).unwrap();
                bytes.windows(wanted.len()).any(|window| window == wanted)
            }
        }
    })
}

#[test]
fn data_keys_come_back_and_lie_on_no_disk() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::start(directory.path());
    let mut client = home.connect();
    let bucket = create_bucket(&mut client);
    client.call(put(bucket, managed())).unwrap();
    let upload = Upload {
        upload: "u".into(),
        key: "k".into(),
        headers: Vec::new(),
        checksum: None,
        attributes: Attributes::default(),
        encryption: Some(managed()),
        initiated_ms: 0,
    };
    client
        .call(Change::CreateUpload { bucket, upload })
        .unwrap();
    assert_eq!(
        object(&mut client, bucket).unwrap().encryption,
        Some(managed())
    );
    home.stop();
    assert!(
        is_in_a_file(directory.path(), &[8; 32]),
        "the salt is there"
    );
    assert!(!is_in_a_file(directory.path(), &KEY));

    let home = Home::start(directory.path());
    let mut client = home.connect();
    assert_eq!(
        object(&mut client, bucket).unwrap().encryption,
        Some(managed())
    );
    let get = Operation::GetUpload {
        bucket,
        key: "k".into(),
        upload: "u".into(),
    };
    match client.call(get).unwrap() {
        Reply::Upload(upload) => assert_eq!(upload.encryption, Some(managed())),
        other => panic!("{other:?}"),
    }
    home.stop();
}

#[test]
fn without_its_master_key_an_object_is_refused_and_the_others_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::start(directory.path());
    let mut client = home.connect();
    let bucket = create_bucket(&mut client);
    client.call(put(bucket, managed())).unwrap();
    home.stop();
    std::fs::remove_file(directory.path().join("encryption-keys")).unwrap();

    let home = Home::start(directory.path());
    let mut client = home.connect();
    let refused = object(&mut client, bucket).unwrap_err();
    assert!(
        matches!(&refused, MetadataError::Refused(why) if why.contains("encryption-keys")),
        "{refused}"
    );
    client.call(put(bucket, managed())).unwrap();
    assert_eq!(
        object(&mut client, bucket).unwrap().encryption,
        Some(managed())
    );
    home.stop();
}

#[test]
fn a_wrapped_key_from_outside_and_a_length_that_is_not_the_sealed_one_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::start(directory.path());
    let mut client = home.connect();
    let bucket = create_bucket(&mut client);
    let wrapped = Encryption {
        salt: Salt([8; 32]),
        source: KeySource::Wrapped {
            master: 1,
            key: ([1; 32], [2; 16]),
        },
    };
    let is_refused = |outcome| matches!(outcome, Err(MetadataError::Refused(_)));
    assert!(is_refused(client.call(put(bucket, wrapped))));
    let mut shorter = put(bucket, managed());
    if let Change::PutObject { object, .. } = &mut shorter {
        object.size = 4;
    }
    assert!(is_refused(client.call(shorter)));
    client.call(put(bucket, managed())).unwrap();
    home.stop();
}
