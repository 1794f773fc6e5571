//! What should have been told, found out from what can be seen: the listings of versions before and after each command.

use super::*;
use protocol::metadata::{
    Destination, EVENTS_PAGE_MAX, Event, EventKind, EventPattern, Notification, NotificationRule,
    VersionEntry,
};
use std::collections::{BTreeMap, VecDeque};

/// Hears of everything.
pub(super) const ALL: &str = "all";
/// Hears of what is created below `a`, by two rules.
pub(super) const SOME: &str = "some";

pub(super) fn rule(id: &str, webhook: &str, events: &[EventPattern]) -> NotificationRule {
    NotificationRule {
        id: id.into(),
        destination: Destination::Queue,
        webhook: webhook.into(),
        events: events.to_vec(),
        prefix: None,
        suffix: None,
    }
}

pub(super) fn notify(rules: Vec<NotificationRule>) -> Change {
    let notification = Notification { rules };
    Change::PutNotification {
        bucket: BUCKET,
        notification,
    }
}

/// A rule that hears of everything.
pub(super) fn everything(webhook: &str) -> NotificationRule {
    let every: Vec<EventPattern> = EventKind::ALL
        .iter()
        .copied()
        .map(EventPattern::One)
        .collect();
    rule("every", webhook, &every)
}

/// Every version as it is listed, but for which is the latest.
pub(super) fn versions(store: &MemoryStore) -> Vec<VersionEntry> {
    let operation = Operation::ListVersions {
        bucket: BUCKET,
        prefix: String::new(),
        delimiter: String::new(),
        after: None,
        limit: 1_000,
    };
    let Ok(Reply::Versions {
        mut entries,
        next: None,
    }) = ask(store, operation)
    else {
        panic!("no listing")
    };
    for entry in &mut entries {
        if let VersionEntry::Object { latest, .. } | VersionEntry::Marker { latest, .. } = entry {
            *latest = false;
        }
    }
    entries
}

/// What waits, as it should.
#[derive(Default)]
pub(super) struct Told {
    on: bool,
    versioned: bool,
    waiting: BTreeMap<&'static str, VecDeque<Event>>,
}

impl Told {
    /// The change that turns notification on or off.
    pub(super) fn switch(&mut self, on: bool) -> Change {
        self.on = on;
        let created = [EventPattern::Family(EventKind::Put)];
        let below_a = |id, suffix: Option<&str>| NotificationRule {
            prefix: Some("a".into()),
            suffix: suffix.map(str::to_owned),
            ..rule(id, SOME, &created)
        };
        let rules = [
            everything(ALL),
            below_a("below", None),
            below_a("c", Some("/c")),
        ];
        notify(rules.into_iter().filter(|_| on).collect())
    }

    /// Notes what a command that was done has to tell.
    pub(super) fn observe(
        &mut self,
        command: &Command,
        reply: &Reply,
        before: &[VersionEntry],
        after: &[VersionEntry],
    ) {
        self.versioned |= matches!(command.change, AnyChange::PutVersioning { .. });
        if !self.on {
            return;
        }
        let versioned = self.versioned;
        let mut told = Vec::new();
        let mut tell = |kind, key: &str, version, created| {
            told.push(Event {
                kind,
                rule: String::new(),
                bucket: "home".into(),
                key: key.to_owned(),
                version,
                created,
                at_ms: command.at_ms,
            });
        };
        let AnyChange::Asked(change) = &command.change else {
            return;
        };
        let written = match reply {
            Reply::Written {
                etag,
                size,
                version,
                ..
            } => Some((*version, Some((*size, etag.clone())))),
            _ => None,
        };
        match (change, written) {
            (Change::PutObject { key, event, .. }, Some((version, created))) => {
                tell(*event, key, version, created);
            }
            (Change::CompleteUpload { key, .. }, Some((version, created))) if before != after => {
                tell(EventKind::CompleteMultipartUpload, key, version, created);
            }
            (Change::RenameObject { key, source, .. }, Some((_, created))) if before != after => {
                tell(EventKind::Copy, key, None, created);
                tell(EventKind::Delete, source, None, None);
            }
            (Change::DeleteObject { key, .. }, None) => {
                let made = after.iter().find(|entry| !before.contains(entry));
                let removed = before.iter().find(|entry| !after.contains(entry));
                match (made, removed, reply) {
                    (Some(VersionEntry::Marker { version, .. }), ..) => {
                        tell(EventKind::DeleteMarkerCreated, key, Some(*version), None);
                    }
                    (None, Some(_), Reply::Deleted { version, .. }) => {
                        tell(EventKind::Delete, key, version.filter(|_| versioned), None);
                    }
                    (None, None, _) => {}
                    other => panic!("a deletion did {other:?}"),
                }
            }
            _ => {}
        }
        for event in told {
            self.queue(event);
        }
    }

    fn queue(&mut self, event: Event) {
        let of_rule = |rule: &str| Event {
            rule: rule.into(),
            ..event.clone()
        };
        let mut put = |webhook, event| self.waiting.entry(webhook).or_default().push_back(event);
        put(ALL, of_rule("every"));
        if event.created.is_some() && event.key.starts_with('a') {
            put(SOME, of_rule("below"));
            if event.key.ends_with("/c") {
                put(SOME, of_rule("c"));
            }
        }
    }

    /// The change after which the first `count` events of a webhook are forgotten, as far as so many wait.
    pub(super) fn forget(
        &mut self,
        store: &MemoryStore,
        webhook: &'static str,
        count: usize,
    ) -> Option<AnyChange> {
        let (events, _) = next_events(store, webhook).unwrap();
        let (upto, _) = events.into_iter().take(count).next_back()?;
        let queue = self.waiting.get_mut(webhook)?;
        queue.drain(..count.min(queue.len()));
        let webhook = webhook.to_owned();
        Some(AnyChange::ForgetEvents { webhook, upto })
    }

    pub(super) fn check(&self, store: &MemoryStore) {
        for webhook in [ALL, SOME] {
            let (events, lost) = next_events(store, webhook).unwrap();
            let events: Vec<Event> = events.into_iter().map(|(_, event)| event).collect();
            let expected = self.waiting.get(webhook).into_iter().flatten();
            let expected: Vec<Event> = expected.take(EVENTS_PAGE_MAX).cloned().collect();
            assert_eq!(events, expected, "told {webhook}");
            assert_eq!(lost, 0);
        }
    }
}
