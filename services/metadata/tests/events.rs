//! Events, as the notifier gets them of the whole service: told until they are forgotten, also behind a restart, and to nobody else.
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
    Attributes, BucketId, Change, Content, Destination, EVENTS_PAGE_MAX, Event, EventId, EventKind,
    EventPattern, MetadataError, NewObject, Notification, NotificationRule, Operation,
    Precondition, Reply,
};
use std::collections::BTreeSet;

/// A bucket that tells `hook` of what is created in it.
fn create_bucket(client: &mut Client, name: &str) -> BucketId {
    let create = Operation::CreateBucket {
        name: name.into(),
        owner: String::new(),
        hash_key: HashKey([3; 32]),
        locked: false,
    };
    let Reply::Bucket(bucket) = client.call(create).unwrap() else {
        panic!("no bucket")
    };
    let rule = NotificationRule {
        id: "mine".into(),
        destination: Destination::Queue,
        webhook: "hook".into(),
        events: vec![EventPattern::Family(EventKind::Put)],
        prefix: None,
        suffix: None,
    };
    let notification = Notification { rules: vec![rule] };
    let change = Change::PutNotification {
        bucket: bucket.id,
        notification: notification.clone(),
    };
    client.call(change).unwrap();
    let shown = client.call(Operation::GetNotification { bucket: bucket.id });
    assert_eq!(shown, Ok(Reply::Notification(notification)));
    bucket.id
}

fn put(client: &mut Client, bucket: BucketId, key: &str) {
    let object = NewObject {
        size: 4,
        etag: "0".repeat(32),
        headers: Vec::new(),
        checksum: None,
        attributes: Attributes::default(),
        encryption: None,
        content: Content::Inline(b"text".to_vec()),
    };
    let change = Change::PutObject {
        bucket,
        key: key.into(),
        object,
        precondition: Precondition::None,
        copied: false,
        event: EventKind::Put,
    };
    client.call(change).unwrap();
}

fn next(client: &mut Client) -> Vec<(EventId, Event)> {
    let webhook = "hook".into();
    match client.call(Operation::NextEvents { webhook }).unwrap() {
        Reply::Events { events, lost: 0 } => events,
        other => panic!("{other:?}"),
    }
}

fn forget(client: &mut Client, events: &[EventId]) -> Result<Reply, MetadataError> {
    client.call(Operation::ForgetEvents {
        webhook: "hook".into(),
        events: events.to_vec(),
    })
}

fn keys(events: &[(EventId, Event)]) -> BTreeSet<&str> {
    let keys = events.iter().map(|(_, event)| event.key.as_str());
    keys.collect()
}

fn ids(events: &[(EventId, Event)]) -> Vec<EventId> {
    events.iter().map(|(id, _)| *id).collect()
}

#[test]
fn the_events_of_all_shards_wait_until_they_are_forgotten_also_behind_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::start(directory.path());
    let mut client = home.connect();
    let buckets: Vec<BucketId> = (0..6)
        .map(|number| create_bucket(&mut client, &format!("bucket-{number}")))
        .collect();
    let all: Vec<String> = (0..150).map(|number| format!("{number:03}")).collect();
    for (number, key) in all.iter().enumerate() {
        put(&mut client, buckets[number % buckets.len()], key);
    }
    let mut notifier = home.connect_as("notifier");
    let first = next(&mut notifier);
    assert_eq!(first.len(), EVENTS_PAGE_MAX);
    assert_eq!(next(&mut notifier), first, "nothing was told yet");
    let shards: BTreeSet<u32> = first.iter().map(|(id, _)| id.shard).collect();
    assert!(shards.len() > 1, "{shards:?}");
    for shard in shards {
        let of_shard = first.iter().filter(|(id, _)| id.shard == shard);
        let numbers: Vec<u64> = of_shard.map(|(id, _)| id.number).collect();
        let expected: Vec<u64> = (0..numbers.len() as u64).collect();
        assert_eq!(numbers, expected, "shard {shard}");
    }
    assert_eq!(forget(&mut notifier, &ids(&first)), Ok(Reply::Done));
    home.stop();

    let home = Home::start(directory.path());
    let mut notifier = home.connect_as("notifier");
    assert_eq!(forget(&mut notifier, &ids(&first)), Ok(Reply::Done));
    let second = next(&mut notifier);
    let told = &keys(&first) | &keys(&second);
    assert_eq!(told, all.iter().map(String::as_str).collect());
    assert_eq!(first.len() + second.len(), all.len(), "each once");
    assert_eq!(forget(&mut notifier, &ids(&second)), Ok(Reply::Done));
    assert_eq!(next(&mut notifier), []);
    home.stop();
}

#[test]
fn only_the_notifier_is_told_and_it_learns_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::start(directory.path());
    let mut client = home.connect();
    let bucket = create_bucket(&mut client, "home");
    put(&mut client, bucket, "k");
    let mut notifier = home.connect_as("notifier");
    let id = next(&mut notifier)[0].0;
    let refused = |outcome| assert!(matches!(outcome, Err(MetadataError::Refused(_))));
    for name in ["s3-frontend", "web", "console"] {
        let mut other = home.connect_as(name);
        let webhook = "hook".into();
        refused(other.call(Operation::NextEvents { webhook }));
        refused(forget(&mut other, &[id]));
    }
    refused(notifier.call(Operation::GetNotification { bucket }));
    refused(notifier.call(Operation::Shards));
    refused(notifier.call(Operation::GetObject {
        bucket,
        key: "k".into(),
        version: None,
    }));
    let webhook = "not a name".into();
    refused(notifier.call(Operation::NextEvents { webhook }));
    let unknown = EventId { shard: 99, ..id };
    refused(forget(&mut notifier, &[id, unknown]));
    let future = EventId {
        number: id.number + 1,
        ..id
    };
    refused(forget(&mut notifier, &[future]));
    assert_eq!(next(&mut notifier).len(), 1, "a refusal forgets nothing");
    assert_eq!(forget(&mut notifier, &[id]), Ok(Reply::Done));
    assert_eq!(next(&mut notifier), []);
    home.stop();
}
