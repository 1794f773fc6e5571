//! Event notifications: a change and what is told of it are one command, so nothing is told that did not happen and nothing happens
//! untold. What waits lies in a queue per webhook, in this shard, in the order in which it happened.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/EventNotifications.html>

use super::Outcome;
use super::changes::{self, Changes, each};
use super::objects::Place;
use super::registry::bucket_row;
use super::rows::{self, Queue};
use super::store::Rows;
use crate::Error;
use protocol::metadata::{
    BucketId, EVENTS_PAGE_MAX, EVENTS_WAITING_MAX, Event, EventKind, MetadataError, Notification,
    Reply, VersionId,
};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// The most webhooks that have a queue in one shard. The frontend lets owners name only those that the operator has registered, unless
/// they ask not to be checked: this bounds what they can leave behind then.
pub(super) const QUEUES_MAX: usize = 64;

/// Who removes an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Request,
    Lifecycle,
}

impl By {
    /// What is told of the end of a version.
    pub(super) fn removed(self) -> EventKind {
        match self {
            Self::Request => EventKind::Delete,
            Self::Lifecycle => EventKind::LifecycleDelete,
        }
    }

    /// What is told of a delete marker that was made.
    pub(super) fn marked(self) -> EventKind {
        match self {
            Self::Request => EventKind::DeleteMarkerCreated,
            Self::Lifecycle => EventKind::LifecycleDeleteMarkerCreated,
        }
    }
}

pub(super) fn get<R: Rows>(rows: &R, bucket: BucketId) -> Result<Outcome, Error> {
    let Some(row) = bucket_row(rows, bucket)?.filter(|row| row.open) else {
        return Ok(Err(MetadataError::NoSuchBucket));
    };
    Ok(Ok(Reply::Notification(match row.notifies {
        true => of_bucket(rows, bucket)?,
        false => Notification::default(),
    })))
}

/// The rules of a bucket that has some.
fn of_bucket<R: Rows>(rows: &R, bucket: BucketId) -> Result<Notification, Error> {
    changes::get(rows, &rows::notification(bucket), "notification")?
        .ok_or(Error::Damaged("notification, which is missing"))
}

pub(super) fn put<R: Rows>(
    changes: &mut Changes<'_, R>,
    bucket: BucketId,
    notification: &Notification,
) -> Result<Outcome, Error> {
    let Some(mut row) = bucket_row(changes.rows, bucket)?.filter(|row| row.open) else {
        return Ok(Err(MetadataError::NoSuchBucket));
    };
    row.notifies = !notification.rules.is_empty();
    match row.notifies {
        true => changes.put(rows::notification(bucket), notification)?,
        false => changes.delete(rows::notification(bucket)),
    }
    changes.put(rows::bucket(bucket), &row)?;
    let webhooks = notification.rules.iter().map(|rule| rule.webhook.as_str());
    if !make_queues(changes, bucket, webhooks.collect())? {
        let why = format!("{QUEUES_MAX} webhooks are in use already, or have events waiting");
        return Ok(Err(MetadataError::Refused(why)));
    }
    Ok(Ok(Reply::Done))
}

/// Makes the queues that `webhooks`, which a bucket names from now on, lack. `false`: there would be too many.
fn make_queues<R: Rows>(
    changes: &mut Changes<'_, R>,
    bucket: BucketId,
    webhooks: BTreeSet<&str>,
) -> Result<bool, Error> {
    let mut missing = Vec::new();
    for webhook in &webhooks {
        if !changes.has(&rows::queue(webhook))? {
            missing.push(*webhook);
        }
    }
    if missing.is_empty() {
        return Ok(true);
    }
    let mut queues: Vec<(String, Queue)> = Vec::new();
    let from = rows::next(rows::queue(""));
    let to = rows::behind(rows::queue(""));
    each(changes.rows, &from, &to, |key, value| {
        let webhook = rows::webhook_of_queue(key)?.to_owned();
        queues.push((webhook, rows::decode(value, "queue of events")?));
        Ok(ControlFlow::Continue(()))
    })?;
    let mut begin = first_number(changes)?;
    let mut count = queues.len();
    if count + missing.len() > QUEUES_MAX {
        let used = used_elsewhere(changes.rows, bucket)?;
        for (webhook, queue) in &queues {
            let is_used = webhooks.contains(webhook.as_str()) || used.contains(webhook);
            if !is_used && queue.waiting()? == 0 {
                // Its numbers are not given out again: who was told of them may still say so.
                begin = begin.max(queue.next);
                changes.delete(rows::queue(webhook));
                count -= 1;
            }
        }
        changes.put(rows::queue(""), &begin)?;
    }
    if count + missing.len() > QUEUES_MAX {
        return Ok(false);
    }
    for webhook in missing {
        changes.put(rows::queue(webhook), &Queue::from(begin))?;
    }
    Ok(true)
}

/// With which a new queue begins. Every number of a queue that was taken away is lower.
fn first_number<R: Rows>(changes: &Changes<'_, R>) -> Result<u64, Error> {
    let number = changes.get(&rows::queue(""), "number of events")?;
    Ok(number.unwrap_or_default())
}

/// The webhooks that the other buckets of this shard name.
fn used_elsewhere<R: Rows>(rows: &R, but: BucketId) -> Result<BTreeSet<String>, Error> {
    let mut used = BTreeSet::new();
    let from = rows::notifications();
    let but = rows::notification(but);
    each(rows, &from, &rows::behind(from.clone()), |key, value| {
        if key != but {
            let notification: Notification = rows::decode(value, "notification")?;
            used.extend(notification.rules.into_iter().map(|rule| rule.webhook));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(used)
}

/// Queues one event for each rule of the bucket that wants it. In a bucket without rules nothing is read.
pub(super) fn tell<R: Rows>(
    changes: &mut Changes<'_, R>,
    place: &Place<'_>,
    kind: EventKind,
    version: Option<VersionId>,
    created: Option<(u64, &str)>,
) -> Result<(), Error> {
    if !place.row.notifies {
        return Ok(());
    }
    for rule in of_bucket(changes.rows, place.bucket)?.rules {
        if rule.matches(kind, place.key) {
            let event = Event {
                kind,
                rule: rule.id,
                bucket: place.row.name.clone(),
                key: place.key.to_owned(),
                version,
                created: created.map(|(size, etag)| (size, etag.to_owned())),
                at_ms: changes.at_ms,
            };
            enqueue(changes, &rule.webhook, &event)?;
        }
    }
    Ok(())
}

fn enqueue<R: Rows>(
    changes: &mut Changes<'_, R>,
    webhook: &str,
    event: &Event,
) -> Result<(), Error> {
    let row = rows::queue(webhook);
    let queue: Option<Queue> = changes.get(&row, "queue of events")?;
    let mut queue = queue.ok_or(Error::Damaged("queue of events, which is missing"))?;
    if queue.waiting()? < EVENTS_WAITING_MAX {
        changes.put(rows::event(webhook, queue.next), event)?;
        let next = queue.next.checked_add(1);
        queue.next = next.ok_or(Error::Damaged("number of an event"))?;
    } else {
        queue.lost = queue.lost.saturating_add(1);
    }
    changes.put(row, &queue)
}

/// The oldest events of this shard that wait for a webhook, with their numbers, at most [`EVENTS_PAGE_MAX`]; and how many were not kept.
pub fn next_events<R: Rows>(rows: &R, webhook: &str) -> Result<(Vec<(u64, Event)>, u64), Error> {
    let queue = changes::get(rows, &rows::queue(webhook), "queue of events")?;
    let Some(Queue { first, next, lost }) = queue else {
        return Ok((Vec::new(), 0));
    };
    let mut events = Vec::new();
    // From the first number on, not from the start of all: the rows before it were removed, and a scan would have to pass over them.
    let (from, to) = (rows::event(webhook, first), rows::event(webhook, next));
    each(rows, &from, &to, |key, value| {
        let event = rows::decode(value, "event")?;
        events.push((rows::event_number(key)?, event));
        Ok(match events.len() < EVENTS_PAGE_MAX {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        })
    })?;
    Ok((events, lost))
}

pub(super) fn forget<R: Rows>(
    changes: &mut Changes<'_, R>,
    webhook: &str,
    upto: u64,
) -> Result<Outcome, Error> {
    let row = rows::queue(webhook);
    let queue: Option<Queue> = changes.get(&row, "queue of events")?;
    let mut queue = match queue {
        Some(queue) => queue,
        // It may have been taken away when it was empty.
        None => Queue::from(first_number(changes)?),
    };
    if upto < queue.first {
        return Ok(Ok(Reply::Done));
    }
    let shown = queue.waiting()?.min(EVENTS_PAGE_MAX as u64);
    if upto - queue.first >= shown {
        let why = "an event of this number was not told";
        return Ok(Err(MetadataError::Refused(why.into())));
    }
    for number in queue.first..=upto {
        changes.delete(rows::event(webhook, number));
    }
    queue.first = upto + 1;
    changes.put(row, &queue)?;
    Ok(Ok(Reply::Done))
}
