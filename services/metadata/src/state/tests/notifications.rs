//! Event notifications: what is told of each change, that nothing else is, and that the queues keep their bounds and their order.

use super::told::{everything, notify, rule};
use super::*;
use protocol::metadata::{
    EVENTS_PAGE_MAX, EVENTS_WAITING_MAX, Event, EventId, EventKind, EventPattern, Notification,
    NotificationRule, Quota, Retention, RetentionMode,
};
use rows::Queue;
use std::cell::RefCell;

const HOOK: &str = "hook";

fn notified() -> MemoryStore {
    let mut store = opened();
    run(&mut store, notify(vec![everything(HOOK)])).unwrap();
    store
}

fn waiting(store: &MemoryStore, webhook: &str) -> Vec<(u64, Event)> {
    next_events(store, webhook).unwrap().0
}

fn forget(store: &mut MemoryStore, webhook: &str, upto: u64) -> Outcome {
    let webhook = webhook.to_owned();
    run(store, AnyChange::ForgetEvents { webhook, upto })
}

/// What waits, which is forgotten then.
fn take(store: &mut MemoryStore) -> Vec<(EventKind, String, Option<VersionId>)> {
    let events = waiting(store, HOOK);
    if let Some((last, _)) = events.last() {
        forget(store, HOOK, *last).unwrap();
    }
    let short = |(_, event): (u64, Event)| (event.kind, event.key, event.version);
    events.into_iter().map(short).collect()
}

fn told(kind: EventKind, key: &str) -> (EventKind, String, Option<VersionId>) {
    (kind, key.into(), None)
}

fn inline(bytes: usize) -> Content {
    Content::Inline(vec![1; bytes])
}

fn put_as(kind: EventKind, key: &str) -> Change {
    let mut change = put(key, inline(3));
    if let Change::PutObject { event, .. } = &mut change {
        *event = kind;
    }
    change
}

fn rename(source: &str, key: &str, token: Option<&str>) -> Change {
    Change::RenameObject {
        bucket: BUCKET,
        source: source.into(),
        key: key.into(),
        source_conditions: Conditions::default(),
        conditions: Conditions::default(),
        token: token.map(str::to_owned),
    }
}

fn version_of(reply: Reply) -> VersionId {
    match reply {
        Reply::Written { version, .. } | Reply::Deleted { version, .. } => version.unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_written_is_told_with_its_size_and_etag() {
    let mut store = notified();
    for kind in [EventKind::Put, EventKind::Post, EventKind::Copy] {
        run(&mut store, put_as(kind, "k")).unwrap();
        assert_eq!(
            waiting(&store, HOOK).pop().unwrap().1,
            Event {
                kind,
                rule: "every".into(),
                bucket: "home".into(),
                key: "k".into(),
                version: None,
                created: Some((3, "etag-3".into())),
                at_ms: 1_000,
            }
        );
    }
    assert_eq!(
        take(&mut store),
        [EventKind::Put, EventKind::Post, EventKind::Copy].map(|kind| told(kind, "k"))
    );
}

#[test]
fn a_completed_upload_is_told_once_and_its_parts_are_not() {
    let mut store = notified();
    run(&mut store, create_upload("k", "u")).unwrap();
    run(&mut store, put_part("k", "u", 1, &[1])).unwrap();
    run(&mut store, create_upload("k", "dropped")).unwrap();
    let abort = Change::AbortUpload {
        bucket: BUCKET,
        key: "k".into(),
        upload: "dropped".into(),
    };
    run(&mut store, abort).unwrap();
    assert_eq!(take(&mut store), []);
    let whole = complete("k", "u", &[1], &whole_etag(&[part_md5(1, &[1])]));
    run(&mut store, whole.clone()).unwrap();
    run(&mut store, whole).unwrap();
    let (_, event) = waiting(&store, HOOK).pop().unwrap();
    assert_eq!(event.created.unwrap().0, 4 << 20);
    assert_eq!(
        take(&mut store),
        [told(EventKind::CompleteMultipartUpload, "k")]
    );
}

#[test]
fn a_rename_is_a_copy_and_a_deletion_and_its_repetition_is_nothing() {
    let mut store = notified();
    run(&mut store, put("a", inline(3))).unwrap();
    take(&mut store);
    run(&mut store, rename("a", "a", None)).unwrap();
    assert_eq!(take(&mut store), []);
    run(&mut store, rename("a", "b", Some("t"))).unwrap();
    run(&mut store, rename("a", "b", Some("t"))).unwrap();
    let (_, copied) = waiting(&store, HOOK).remove(0);
    assert_eq!(copied.created, Some((3, "etag-3".into())));
    assert_eq!(
        take(&mut store),
        [told(EventKind::Copy, "b"), told(EventKind::Delete, "a")]
    );
}

#[test]
fn a_deletion_tells_what_it_removed_and_nothing_where_there_was_nothing() {
    let mut store = notified();
    run(&mut store, put("k", inline(1))).unwrap();
    take(&mut store);
    run(&mut store, delete("k")).unwrap();
    run(&mut store, delete("k")).unwrap();
    run(&mut store, delete_version("k", Some(VersionId::Null))).unwrap();
    assert_eq!(take(&mut store), [told(EventKind::Delete, "k")]);
    run(&mut store, put("k", inline(1))).unwrap();
    run(&mut store, delete_version("k", Some(VersionId::Null))).unwrap();
    assert_eq!(
        take(&mut store),
        [told(EventKind::Put, "k"), told(EventKind::Delete, "k")]
    );
}

#[test]
fn in_a_bucket_with_versions_each_event_names_its_version() {
    let mut store = notified();
    set_versioning(&mut store, Versioning::Enabled);
    let first = version_of(run(&mut store, put("k", inline(1))).unwrap());
    let marker = version_of(run(&mut store, delete("k")).unwrap());
    run(&mut store, delete_version("k", Some(marker))).unwrap();
    run(&mut store, delete_version("k", Some(marker))).unwrap();
    run(&mut store, delete_version("k", Some(first))).unwrap();
    // Also of a key that never was.
    let other = version_of(run(&mut store, delete("never")).unwrap());
    let expected = [
        (EventKind::Put, "k", first),
        (EventKind::DeleteMarkerCreated, "k", marker),
        (EventKind::Delete, "k", marker),
        (EventKind::Delete, "k", first),
        (EventKind::DeleteMarkerCreated, "never", other),
    ];
    let expected = expected.map(|(kind, key, version)| (kind, key.to_owned(), Some(version)));
    assert_eq!(take(&mut store), expected);
    set_versioning(&mut store, Versioning::Suspended);
    run(&mut store, put("k", inline(1))).unwrap();
    run(&mut store, delete("k")).unwrap();
    let null = |kind| (kind, "k".to_owned(), Some(VersionId::Null));
    assert_eq!(
        take(&mut store),
        [null(EventKind::Put), null(EventKind::DeleteMarkerCreated)]
    );
}

#[test]
fn the_lifecycle_tells_of_its_removals_by_its_own_events() {
    let mut store = notified();
    let expire = |store: &mut MemoryStore, what| {
        let change = AnyChange::Expire {
            bucket: BUCKET,
            key: "k".into(),
            what,
        };
        run(store, change).unwrap();
        take(store)
    };
    let order = |store: &MemoryStore, version| match version {
        VersionId::Number(order) => order,
        VersionId::Null => {
            let head: rows::ObjectHead =
                rows::decode(&store.rows[&rows::object(BUCKET, "k")], "object").unwrap();
            head.version.order
        }
    };
    run(&mut store, put("k", inline(1))).unwrap();
    take(&mut store);
    let current = |order| Expired::Current {
        order,
        modified_ms: 1_000,
    };
    assert_eq!(
        expire(&mut store, current(0)),
        [told(EventKind::LifecycleDelete, "k")]
    );
    assert_eq!(expire(&mut store, current(0)), [], "it was gone already");
    set_versioning(&mut store, Versioning::Enabled);
    let version = version_of(run(&mut store, put("k", inline(1))).unwrap());
    take(&mut store);
    let first = order(&store, version);
    let marked = expire(&mut store, current(first));
    let [(EventKind::LifecycleDeleteMarkerCreated, _, Some(marker))] = marked.as_slice() else {
        panic!("{marked:?}")
    };
    assert_eq!(
        expire(&mut store, Expired::Noncurrent { order: first }),
        [(EventKind::LifecycleDelete, "k".into(), Some(version))]
    );
    let last = order(&store, *marker);
    assert_eq!(
        expire(&mut store, Expired::Marker { order: last }),
        [(EventKind::LifecycleDelete, "k".into(), Some(*marker))]
    );
}

#[test]
fn a_refused_change_tells_nothing() {
    let mut store = notified();
    set_versioning(&mut store, Versioning::Enabled);
    let lock = ObjectLock::default();
    let bucket = BUCKET;
    run(&mut store, Change::PutObjectLock { bucket, lock }).unwrap();
    let mut held = object(inline(3));
    held.attributes.retention = Some(Retention {
        mode: RetentionMode::Compliance,
        until_ms: u64::MAX,
    });
    let mut change = put("held", inline(3));
    if let Change::PutObject { object, .. } = &mut change {
        *object = held;
    }
    let version = version_of(run(&mut store, change).unwrap());
    let quota = Quota {
        objects_max: Some(1),
        bytes_max: None,
    };
    run(&mut store, Change::SetQuota { bucket, quota }).unwrap();
    let before = store.clone();
    let refused = [
        delete_version("held", Some(version)),
        put("more", inline(1)),
        put_if("held", inline(1), Precondition::Absent),
        rename("held", "b", None),
        complete("held", "none", &[1], "e-1"),
    ];
    for change in refused {
        assert!(run(&mut store, change.clone()).is_err(), "{change:?}");
        assert_eq!(store, before, "{change:?}");
    }
}

#[test]
fn a_rule_hears_of_its_events_and_keys_alone_and_each_rule_for_itself() {
    let mut store = opened();
    let created = EventPattern::Family(EventKind::Copy);
    let images = NotificationRule {
        prefix: Some("img/".into()),
        suffix: Some(".jpg".into()),
        ..rule("images", HOOK, std::slice::from_ref(&created))
    };
    let other = rule("other", "else", &[EventPattern::One(EventKind::Delete)]);
    let again = rule("again", HOOK, &[created]);
    run(&mut store, notify(vec![images, other, again])).unwrap();
    for key in ["img/a.jpg", "img/a.png", "a.jpg"] {
        run(&mut store, put(key, inline(1))).unwrap();
    }
    run(&mut store, delete("a.jpg")).unwrap();
    let of = |store: &MemoryStore, webhook| {
        let events = waiting(store, webhook).into_iter();
        let pairs = events.map(|(number, event)| (number, event.rule, event.key));
        pairs.collect::<Vec<_>>()
    };
    let line = |number, rule: &str, key: &str| (number, rule.to_owned(), key.to_owned());
    assert_eq!(
        of(&store, HOOK),
        [
            line(0, "images", "img/a.jpg"),
            line(1, "again", "img/a.jpg"),
            line(2, "again", "img/a.png"),
            line(3, "again", "a.jpg"),
        ]
    );
    assert_eq!(of(&store, "else"), [line(0, "other", "a.jpg")]);
    model::check_invariants(&store);
}

fn rules_of(store: &MemoryStore) -> Result<usize, MetadataError> {
    match ask(store, Operation::GetNotification { bucket: BUCKET })? {
        Reply::Notification(notification) => Ok(notification.rules.len()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_rules_go_with_their_bucket_and_what_waits_does_not() {
    let mut store = notified();
    assert_eq!(rules_of(&store), Ok(1));
    run(&mut store, put("k", inline(1))).unwrap();
    run(&mut store, delete("k")).unwrap();
    run(&mut store, AnyChange::CloseBucket { id: BUCKET }).unwrap();
    assert_eq!(rules_of(&store), Err(MetadataError::NoSuchBucket));
    run(&mut store, AnyChange::ForgetBucket { id: BUCKET }).unwrap();
    assert_eq!(waiting(&store, HOOK).len(), 2);
    let again = AnyChange::OpenBucket {
        id: BUCKET,
        name: "home".into(),
        locked: false,
    };
    run(&mut store, again.clone()).unwrap();
    assert_eq!(rules_of(&store), Ok(0));
    run(&mut store, put("k", inline(1))).unwrap();
    assert_eq!(waiting(&store, HOOK).len(), 2);
    model::check_invariants(&store);
    // A creation that is repeated begins anew, too.
    run(&mut store, delete("k")).unwrap();
    run(&mut store, notify(vec![everything(HOOK)])).unwrap();
    run(&mut store, again).unwrap();
    assert_eq!(rules_of(&store), Ok(0));
    model::check_invariants(&store);
    run(&mut store, notify(vec![everything(HOOK)])).unwrap();
    run(&mut store, notify(Vec::new())).unwrap();
    assert_eq!(rules_of(&store), Ok(0));
    model::check_invariants(&store);
}

#[test]
fn what_comes_beyond_the_bound_is_counted_and_forgetting_makes_room() {
    let mut store = notified();
    // As if so many had come: writing them would take long.
    let queue = Queue {
        first: 7,
        next: 7 + EVENTS_WAITING_MAX - 1,
        lost: 0,
    };
    let row = rows::encode(&queue).unwrap();
    store.rows.insert(rows::queue(HOOK), row);
    for _ in 0..3 {
        run(&mut store, put("k", inline(1))).unwrap();
    }
    let now = |store: &MemoryStore| -> Queue {
        rows::decode(&store.rows[&rows::queue(HOOK)], "queue").unwrap()
    };
    let full = Queue {
        next: 7 + EVENTS_WAITING_MAX,
        lost: 2,
        ..queue
    };
    assert_eq!(now(&store), full);
    assert_eq!(next_events(&store, HOOK).unwrap().1, 2);
    forget(&mut store, HOOK, 7).unwrap();
    run(&mut store, put("k", inline(1))).unwrap();
    let room = Queue {
        first: 8,
        next: full.next + 1,
        lost: 2,
    };
    assert_eq!(now(&store), room);
}

#[test]
fn events_are_forgotten_in_order_and_only_those_that_were_shown() {
    let mut store = notified();
    for _ in 0..EVENTS_PAGE_MAX + 5 {
        run(&mut store, put("k", inline(1))).unwrap();
    }
    let shown = waiting(&store, HOOK);
    assert_eq!(shown.len(), EVENTS_PAGE_MAX);
    let numbers: Vec<u64> = shown.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (0..EVENTS_PAGE_MAX as u64).collect::<Vec<_>>());
    let refused = |outcome| matches!(outcome, Err(MetadataError::Refused(_)));
    // It waits, but behind the page: nobody can have told it.
    assert!(refused(forget(&mut store, HOOK, EVENTS_PAGE_MAX as u64)));
    assert!(refused(forget(&mut store, HOOK, u64::MAX)));
    assert!(refused(forget(&mut store, "other", 0)));
    forget(&mut store, HOOK, 9).unwrap();
    let after = store.clone();
    for upto in [9, 3, 0] {
        forget(&mut store, HOOK, upto).unwrap();
        assert_eq!(store, after);
    }
    assert_eq!(waiting(&store, HOOK)[0].0, 10);
    model::check_invariants(&store);
}

#[test]
fn webhooks_are_bounded_and_one_that_nobody_needs_makes_room_without_its_numbers_coming_again() {
    let mut store = opened();
    let name = |number: usize| format!("hook-{number}");
    let rules = |numbers: std::ops::Range<usize>| {
        let rules = numbers.map(|number| everything(&name(number)));
        notify(rules.collect())
    };
    let most = crate::state::notifications::QUEUES_MAX;
    run(&mut store, rules(0..most)).unwrap();
    run(&mut store, put("k", inline(1))).unwrap();
    let refused = run(&mut store, rules(0..most + 1));
    assert!(matches!(refused, Err(MetadataError::Refused(_))));
    assert_eq!(rules_of(&store), Ok(most));
    // Nobody names them any more, but their events wait.
    run(&mut store, notify(Vec::new())).unwrap();
    assert!(run(&mut store, rules(most..most + 1)).is_err());
    forget(&mut store, &name(3), 0).unwrap();
    run(&mut store, rules(most..most + 1)).unwrap();
    assert!(!store.rows.contains_key(&rows::queue(&name(3))));
    forget(&mut store, &name(3), 0).unwrap();
    run(&mut store, put("k", inline(1))).unwrap();
    assert_eq!(waiting(&store, &name(most))[0].0, 1);
    model::check_invariants(&store);
    // And what another bucket names stays, although it is empty.
    for number in 0..most {
        if number != 3 {
            forget(&mut store, &name(number), 0).unwrap();
        }
    }
    let open = AnyChange::OpenBucket {
        id: BucketId(2),
        name: "other".into(),
        locked: false,
    };
    run(&mut store, open).unwrap();
    let of_other = Notification {
        rules: vec![everything(&name(5))],
    };
    let change = Change::PutNotification {
        bucket: BucketId(2),
        notification: of_other,
    };
    run(&mut store, change).unwrap();
    run(&mut store, rules(most..2 * most - 1)).unwrap();
    model::check_invariants(&store);
}

/// A store that notes which rows are read.
struct Watched {
    inner: MemoryStore,
    read: RefCell<Vec<u8>>,
}

impl Rows for Watched {
    type Value = Vec<u8>;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.read.borrow_mut().push(key[0]);
        self.inner.get(key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> std::ops::ControlFlow<()>,
    ) -> Result<(), Error> {
        self.read.borrow_mut().push(from[0]);
        self.inner.scan(from, to, visit)
    }
}

impl Store for Watched {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.inner.put(key, value);
    }

    fn delete(&mut self, key: Vec<u8>) {
        self.inner.delete(key);
    }
}

#[test]
fn a_bucket_without_rules_reads_no_row_for_them() {
    let mut store = Watched {
        inner: opened(),
        read: RefCell::default(),
    };
    for change in [put("k", inline(1)), rename("k", "l", None), delete("l")] {
        let change = change.into();
        let at_ms = 1_000;
        apply(&mut store, &Command { at_ms, change })
            .unwrap()
            .unwrap();
    }
    let read = store.read.take();
    assert!(read.contains(&b'b') && read.contains(&b'o'));
    assert!(!read.iter().any(|letter| b"eWw".contains(letter)));
}

#[test]
fn what_does_not_keep_to_the_bounds_does_not_enter_the_log() {
    let refused = |operation: Operation| {
        let outcome = check(&operation);
        assert!(
            matches!(outcome, Err(MetadataError::Refused(_))),
            "{operation:?}"
        );
    };
    for kind in EventKind::ALL.iter().copied() {
        let change = put_as(kind, "k").into();
        match kind {
            EventKind::Put | EventKind::Post | EventKind::Copy => check(&change).unwrap(),
            _ => refused(change),
        }
    }
    check(&notify(vec![everything(HOOK); 100]).into()).unwrap();
    refused(notify(vec![everything(HOOK); 101]).into());
    let with = |change: &dyn Fn(&mut NotificationRule)| {
        let mut rule = everything(HOOK);
        change(&mut rule);
        Operation::from(notify(vec![rule]))
    };
    refused(with(&|rule| rule.webhook = "a b".into()));
    refused(with(&|rule| rule.webhook = String::new()));
    refused(with(&|rule| rule.id = "i".repeat(1_021)));
    refused(with(&|rule| rule.events.clear()));
    refused(with(&|rule| rule.events = vec![rule.events[0].clone(); 33]));
    refused(with(&|rule| rule.prefix = Some("p".repeat(1_025))));
    refused(with(&|rule| rule.suffix = Some("s".repeat(1_025))));
    let long = NotificationRule {
        prefix: Some("p".repeat(1_024)),
        ..everything(HOOK)
    };
    refused(notify(vec![long; 100]).into());
    let webhook = || "a\0b".to_owned();
    refused(Operation::NextEvents { webhook: webhook() });
    refused(Operation::ForgetEvents {
        webhook: webhook(),
        events: Vec::new(),
    });
    let event = EventId {
        shard: 0,
        number: 0,
    };
    refused(Operation::ForgetEvents {
        webhook: HOOK.into(),
        events: vec![event; EVENTS_PAGE_MAX + 1],
    });
}
