//! The events that wait, as the notifier sees them: one page out of the queues of all shards that this node leads, and what was told is forgotten in each.

use crate::Error;
use crate::proposer::{Failure, Proposer};
use crate::state::{self, AnyChange, Outcome, Room};
use protocol::metadata::{EVENTS_PAGE_MAX, Event, EventId, MetadataError, Reply};
use std::collections::BTreeMap;

/// See [`protocol::metadata::Operation::NextEvents`].
pub(crate) async fn next(proposer: &Proposer, webhook: &str) -> Outcome {
    let mut queues = Vec::new();
    let mut lost: u64 = 0;
    for (shard, group) in (0_u32..).zip(proposer.groups()) {
        if !group.leads() {
            // Told by the notifier of the node that does.
            continue;
        }
        let rows = match proposer.read(group).await {
            Err(Failure::NotHere(_)) => continue,
            rows => rows?,
        };
        let (waiting, lost_here) = state::next_events(rows, webhook).map_err(failed)?;
        lost = lost.saturating_add(lost_here);
        let number = |(number, event)| (EventId { shard, number }, event);
        queues.push(waiting.into_iter().map(number).collect());
    }
    Ok(Reply::Events {
        events: share(queues),
        lost,
    })
}

/// A page out of the queues, each in order: in rounds of one event of each queue, so that a long queue does not hold up a short one. In a
/// round the oldest come first, so that none is left out for ever where there are more queues than room.
fn share(queues: Vec<Vec<(EventId, Event)>>) -> Vec<(EventId, Event)> {
    let mut room = Room::of_page(EVENTS_PAGE_MAX);
    let mut page = Vec::new();
    let mut queues: Vec<_> = queues.into_iter().map(Vec::into_iter).collect();
    loop {
        let mut round: Vec<_> = queues.iter_mut().filter_map(Iterator::next).collect();
        round.sort_by_key(|(_, event)| event.at_ms);
        if round.is_empty() {
            return page;
        }
        for (id, event) in round {
            if !room.take(text_bytes(&event)) {
                return page;
            }
            page.push((id, event));
        }
    }
}

/// The lengths of an event's texts.
fn text_bytes(event: &Event) -> usize {
    let etag = event.created.as_ref().map_or(0, |(_, etag)| etag.len());
    event.rule.len() + event.bucket.len() + event.key.len() + etag
}

/// See [`protocol::metadata::Operation::ForgetEvents`]. If it ends half-way, some of the events are told once more.
pub(crate) async fn forget(proposer: &Proposer, webhook: &str, events: &[EventId]) -> Outcome {
    let mut last: BTreeMap<u32, u64> = BTreeMap::new();
    for EventId { shard, number } in events {
        let last = last.entry(*shard).or_default();
        *last = (*last).max(*number);
    }
    let mut proposals = Vec::new();
    for (shard, upto) in last {
        let group = usize::try_from(shard)
            .ok()
            .and_then(|shard| proposer.groups().get(shard))
            .ok_or_else(|| MetadataError::Refused("no such shard".into()))?;
        let webhook = webhook.to_owned();
        proposals.push(proposer.propose(group, AnyChange::ForgetEvents { webhook, upto }));
    }
    // All at once, so that they share their sync.
    for outcome in futures_util::future::join_all(proposals).await {
        outcome?;
    }
    Ok(Reply::Done)
}

fn failed(error: Error) -> MetadataError {
    runtime::error!("reading events: {error}");
    MetadataError::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

    use super::*;
    use protocol::metadata::{Answer, EventKind, Metadata};
    use protocol::wire::{self, Numbered};

    fn queue(shard: u32, count: u64, from_ms: u64, key: &str) -> Vec<(EventId, Event)> {
        let event = |number| {
            let event = Event {
                kind: EventKind::Put,
                rule: "r".repeat(1_020),
                bucket: "b".repeat(63),
                key: key.to_owned(),
                version: None,
                created: Some((u64::MAX, "e".repeat(128))),
                at_ms: from_ms + number,
            };
            (EventId { shard, number }, event)
        };
        (0..count).map(event).collect()
    }

    fn ids(page: &[(EventId, Event)]) -> Vec<(u32, u64)> {
        page.iter().map(|(id, _)| (id.shard, id.number)).collect()
    }

    #[test]
    fn a_long_queue_does_not_hold_up_a_short_one_and_each_keeps_its_order() {
        let queues = vec![queue(0, 100, 50, "k"), queue(1, 2, 10, "k"), Vec::new()];
        let page = share(queues);
        assert_eq!(ids(&page[..5]), [(1, 0), (0, 0), (1, 1), (0, 1), (0, 2)]);
        assert!(page.len() <= EVENTS_PAGE_MAX);
        let of_first: Vec<u64> = ids(&page[4..]).iter().map(|(_, number)| *number).collect();
        assert!(of_first.is_sorted());
        assert_eq!(share(Vec::new()), []);
    }

    #[test]
    fn where_there_are_more_queues_than_room_the_oldest_come_first() {
        let queues = (0..200).map(|shard| queue(shard, 1, 1_000 - u64::from(shard), "k"));
        let page = share(queues.collect());
        let shards: Vec<u32> = page.iter().map(|(id, _)| id.shard).collect();
        let oldest: Vec<u32> = (0..200).rev().take(shards.len()).collect();
        assert_eq!(shards, oldest);
    }

    #[test]
    fn a_page_of_the_longest_events_fits_a_message() {
        let longest = "\u{10FFFF}".repeat(256);
        let page = share((0..8).map(|shard| queue(shard, 100, 0, &longest)).collect());
        assert!(page.len() > 8 && page.len() < EVENTS_PAGE_MAX);
        let answer = Answer {
            revision: u64::MAX,
            result: Ok(Reply::Events {
                events: page,
                lost: u64::MAX,
            }),
        };
        let body = Numbered {
            id: u32::MAX,
            body: answer,
        };
        assert!(wire::encode::<Metadata>(&body).is_ok());
    }
}
