//! Rows of event notifications: who is told of a bucket's changes, and the queues of what is to be told.

use super::key;
use crate::Error;
use protocol::metadata::BucketId;
use serde::{Deserialize, Serialize};

/// The queue of one webhook in one shard: the numbers of the `w` rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Queue {
    /// The oldest event that waits, if any does.
    pub(crate) first: u64,
    /// The next event gets this number.
    pub(crate) next: u64,
    /// So many were not kept, because too many waited.
    pub(crate) lost: u64,
}

impl Queue {
    /// An empty one.
    pub(crate) fn from(number: u64) -> Self {
        Self {
            first: number,
            next: number,
            lost: 0,
        }
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> Result<u64, Error> {
        let waiting = self.next.checked_sub(self.first);
        waiting.ok_or(Error::Damaged("queue of events"))
    }
}

pub(crate) fn notification(bucket: BucketId) -> Vec<u8> {
    key(b'e', Some(bucket), &[])
}

/// The start of all `e` rows of a shard.
pub(crate) fn notifications() -> Vec<u8> {
    key(b'e', None, &[])
}

/// Without a name: the number with which the next queue begins.
pub(crate) fn queue(webhook: &str) -> Vec<u8> {
    key(b'W', None, &[webhook.as_bytes()])
}

/// The webhook out of the key of a `W` row.
pub(crate) fn webhook_of_queue(key: &[u8]) -> Result<&str, Error> {
    let name = key.get(1..).unwrap_or_default();
    std::str::from_utf8(name).map_err(|_| Error::Damaged("webhook"))
}

/// Names of webhooks have no 0 in them, so that none is the start of another with what follows.
pub(crate) fn event(webhook: &str, number: u64) -> Vec<u8> {
    let rest: [&[u8]; 3] = [webhook.as_bytes(), &[0], &number.to_be_bytes()];
    key(b'w', None, &rest)
}

/// The number out of the key of a `w` row.
pub(crate) fn event_number(key: &[u8]) -> Result<u64, Error> {
    match key.last_chunk::<8>() {
        Some(number) => Ok(u64::from_be_bytes(*number)),
        None => Err(Error::Damaged("number of an event")),
    }
}
