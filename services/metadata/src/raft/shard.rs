//! One shard's rows on the disk: its log, its votes and its state, each under the shard's number.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `log` | shard, index | the entry |
//! | `meta` | shard, letter | `v` vote, `c` committed, `a` applied, `m` membership, `p` purged, `g` generation of the state |
//! | `state` | shard, generation, the state's own key | the state's own value |
//!
//! Numbers are big-endian: shard and generation two bytes, index eight. The generation changes only when a snapshot is installed: its
//! rows are written beside the old ones, and one batch switches over.

use super::disk::Disk;
use super::group::LOG_KEPT;
use super::types::{Entry, LogId, StoredMembership, Vote};
use super::writer::{Space, When, Write};
use crate::Error;
use crate::state::{self, Rows};
use fjall::Slice;
use openraft::entry::RaftEntry;
use serde::{Serialize, de::DeserializeOwned};
use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::rc::Rc;
use tokio::sync::Notify;

/// What most rows fit into, in bytes.
const USUAL_BYTES: usize = 512;

/// A shard's memory of what is on the disk. Shared by its log, its state machine and its readers, who see the state's [`Rows`].
pub struct Shard {
    pub(crate) number: u16,
    pub(crate) disk: Rc<Disk>,
    facts: RefCell<Facts>,
    /// Of keys, rights and buckets, as applied; only shard 0 has one.
    revision: Cell<u64>,
    revised: Notify,
    /// Told each time that so many entries more are applied that the log may be cut.
    grown: Notify,
}

/// What Raft asks for again and again.
#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
    pub(crate) purged: Option<LogId>,
    pub(crate) last: Option<LogId>,
    pub(crate) generation: u16,
    /// The index up to which entries are known to be on the disk.
    pub(crate) stored: Option<u64>,
    /// How often the log was cut since the start: what was on its way before a cut says nothing about `stored` after it.
    pub(crate) cuts: u64,
    /// The newest entries with their encoded lengths, from the first on that is not both applied and on the disk.
    pub(crate) tail: VecDeque<(Entry, usize)>,
}

impl Shard {
    /// Reads what the disk knows of this shard.
    pub(crate) fn open(disk: &Rc<Disk>, number: u16) -> Result<Self, Error> {
        let meta = &disk.spaces().meta;
        let purged: Option<LogId> = read(meta, &meta_key(number, b'p'), "purged")?;
        let last = disk.spaces().log.prefix(number.to_be_bytes()).next_back();
        let last = last.map(fjall::Guard::into_inner).transpose()?;
        let last = match last {
            Some((_, entry)) => Some(decode::<Entry>(&entry, "log entry")?.log_id()),
            None => purged,
        };
        let facts = Facts {
            vote: read(meta, &meta_key(number, b'v'), "vote")?,
            committed: read(meta, &meta_key(number, b'c'), "committed")?,
            applied: read(meta, &meta_key(number, b'a'), "applied")?,
            membership: read(meta, &meta_key(number, b'm'), "membership")?.unwrap_or_default(),
            purged,
            last,
            generation: read(meta, &meta_key(number, b'g'), "generation")?.unwrap_or_default(),
            stored: last.map(|last| last.index),
            cuts: 0,
            tail: VecDeque::new(),
        };
        let shard = Self {
            number,
            disk: disk.clone(),
            facts: RefCell::new(facts),
            revision: Cell::new(0),
            revised: Notify::new(),
            grown: Notify::new(),
        };
        shard.learn_revision()?;
        Ok(shard)
    }

    pub(crate) fn facts(&self) -> Ref<'_, Facts> {
        self.facts.borrow()
    }

    /// The present revision of keys, rights and buckets.
    pub(crate) fn revision(&self) -> u64 {
        self.revision.get()
    }

    /// Waits for the next change of the revision.
    pub(crate) async fn revised(&self) {
        self.revised.notified().await;
    }

    /// Waits until some entries more are applied.
    pub(crate) async fn grown(&self) {
        self.grown.notified().await;
    }

    fn learn_revision(&self) -> Result<(), Error> {
        if self.number == 0 {
            let revision = state::revision(self)?;
            if self.revision.replace(revision) != revision {
                self.revised.notify_waiters();
            }
        }
        Ok(())
    }

    /// A row of the keyspace `meta`; `None` removes it.
    fn meta(&self, letter: u8, row: Option<&impl Serialize>) -> Result<Write, Error> {
        let key = meta_key(self.number, letter).into();
        let value = row.map(encode).transpose()?;
        Ok(Write {
            space: Space::Meta,
            key,
            value,
        })
    }

    /// The vote is on the disk when this comes back.
    pub(crate) async fn save_vote(&self, vote: &Vote) -> Result<(), Error> {
        let row = self.meta(b'v', Some(vote))?;
        self.disk.written(vec![row], When::Synced).await?;
        self.facts.borrow_mut().vote = Some(*vote);
        Ok(())
    }

    /// Remembers how far the log is committed. Only a hint for the next start, so it may be late: it is written along with the next entry
    /// that is applied.
    pub(crate) fn save_committed(&self, committed: Option<LogId>) {
        self.facts.borrow_mut().committed = committed;
    }

    /// Adds entries to the log; they can be read at once, and `done` runs when they are on the disk.
    pub(crate) fn append(
        self: &Rc<Self>,
        entries: impl IntoIterator<Item = Entry>,
        done: impl FnOnce() + 'static,
    ) -> Result<(), Error> {
        let mut writes = Vec::new();
        let mut facts = self.facts.borrow_mut();
        for entry in entries {
            let value = encode(&entry)?;
            let key = log_key(self.number, entry.index());
            facts.last = Some(entry.log_id());
            facts.tail.push_back((entry, value.len()));
            writes.push(Write {
                space: Space::Log,
                key: key.into(),
                value: Some(value),
            });
        }
        let (last, cuts) = (facts.last.map(|last| last.index), facts.cuts);
        drop(facts);
        let shard = self.clone();
        let stored = Box::new(move || {
            let mut facts = shard.facts.borrow_mut();
            if facts.cuts == cuts {
                facts.stored = last;
            }
            drop(facts);
            shard.trim();
            done();
        });
        self.disk.write(writes, When::Synced, Some(stored));
        Ok(())
    }

    /// Forgets the entries in memory that are applied and on the disk.
    fn trim(&self) {
        let mut facts = self.facts.borrow_mut();
        let applied = facts.applied.map(|applied| applied.index);
        let done = applied.min(facts.stored);
        while facts
            .tail
            .front()
            .is_some_and(|(entry, _)| Some(entry.index()) <= done)
        {
            facts.tail.pop_front();
        }
    }

    /// Removes all entries behind `last`.
    pub(crate) fn truncate_after(&self, last: Option<LogId>) {
        let mut facts = self.facts.borrow_mut();
        let from = last.map_or(0, |last| last.index + 1);
        let to = facts.last.map_or(0, |last| last.index + 1);
        while facts
            .tail
            .back()
            .is_some_and(|(entry, _)| entry.index() >= from)
        {
            facts.tail.pop_back();
        }
        facts.last = facts.last.min(last).max(facts.purged);
        facts.cuts += 1;
        facts.stored = facts.stored.min(last.map(|last| last.index));
        drop(facts);
        let removed = (from..to)
            .map(|index| remove_entry(self.number, index))
            .collect();
        self.disk.write(removed, When::Lazily, None);
    }

    /// Removes the entries up to and including `upto`.
    pub(crate) fn purge(&self, upto: LogId) -> Result<(), Error> {
        let mut facts = self.facts.borrow_mut();
        let from = facts.purged.map_or(0, |purged| purged.index + 1);
        // Behind a snapshot that was installed, the log may end before it.
        let to = facts.last.map_or(0, |last| last.index).min(upto.index);
        while facts
            .tail
            .front()
            .is_some_and(|(entry, _)| entry.index() <= upto.index)
        {
            facts.tail.pop_front();
        }
        facts.purged = Some(upto);
        facts.last = facts.last.max(Some(upto));
        drop(facts);
        let mut writes: Vec<Write> = (from..=to)
            .map(|index| remove_entry(self.number, index))
            .collect();
        writes.push(self.meta(b'p', Some(&upto))?);
        self.disk.write(writes, When::Lazily, None);
        Ok(())
    }

    /// Entries from index `from` up to `to`, as many as fit `bytes_max` but at least one. Stops at the first that is missing.
    pub(crate) fn entries(
        &self,
        from: u64,
        to: u64,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let facts = self.facts.borrow();
        // Rows of removed entries may still be in the database for a moment.
        let from = from.max(facts.purged.map_or(0, |purged| purged.index + 1));
        let to = to.min(facts.last.map_or(0, |last| last.index + 1));
        let tail_from = facts
            .tail
            .front()
            .map_or(u64::MAX, |(entry, _)| entry.index());
        if from < tail_from.min(to) {
            let (first, end) = (
                log_key(self.number, from),
                log_key(self.number, to.min(tail_from)),
            );
            for row in self.disk.spaces().log.range(first..end) {
                let value = row.value()?;
                bytes += value.len();
                if bytes > bytes_max && !entries.is_empty() {
                    return Ok(entries);
                }
                entries.push(decode(&value, "log entry")?);
            }
        }
        let skipped = usize::try_from(from.saturating_sub(tail_from)).unwrap_or(usize::MAX);
        for (entry, length) in facts.tail.iter().skip(skipped) {
            bytes += length;
            if entry.index() >= to || (bytes > bytes_max && !entries.is_empty()) {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }

    /// What an applied entry changed, together with the fact that it is applied. Readers see it from now on.
    pub(crate) fn applied(
        &self,
        mut writes: Vec<Write>,
        log_id: LogId,
        membership: Option<StoredMembership>,
    ) -> Result<(), Error> {
        writes.push(self.meta(b'a', Some(&log_id))?);
        let committed = self.facts.borrow().committed;
        writes.push(self.meta(b'c', committed.as_ref())?);
        if let Some(membership) = &membership {
            writes.push(self.meta(b'm', Some(membership))?);
        }
        self.disk.write(writes, When::Lazily, None);
        let mut facts = self.facts.borrow_mut();
        facts.applied = Some(log_id);
        if let Some(membership) = membership {
            facts.membership = membership;
        }
        drop(facts);
        self.trim();
        if log_id.index.is_multiple_of(LOG_KEPT) {
            self.grown.notify_one();
        }
        self.learn_revision()
    }

    /// The rows of `generation` are the state from now on, as of `applied`. On the disk when this comes back.
    pub(crate) async fn switch(
        &self,
        generation: u16,
        applied: Option<LogId>,
        membership: &StoredMembership,
    ) -> Result<(), Error> {
        let writes = vec![
            self.meta(b'g', Some(&generation))?,
            self.meta(b'a', applied.as_ref())?,
            self.meta(b'm', Some(membership))?,
        ];
        self.disk.written(writes, When::Synced).await?;
        let mut facts = self.facts.borrow_mut();
        facts.generation = generation;
        facts.applied = applied;
        facts.membership = membership.clone();
        drop(facts);
        self.learn_revision()
    }

    /// A key of the state as it stands in the keyspace.
    pub(crate) fn state_key(&self, key: &[u8]) -> Slice {
        let [a, b] = self.number.to_be_bytes();
        let [c, d] = self.facts.borrow().generation.to_be_bytes();
        let mut whole = Vec::with_capacity(4 + key.len());
        whole.extend_from_slice(&[a, b, c, d]);
        whole.extend_from_slice(key);
        whole.into()
    }
}

impl Rows for Shard {
    type Value = Slice;

    fn get(&self, key: &[u8]) -> Result<Option<Slice>, Error> {
        self.disk.get(&self.state_key(key))
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.disk
            .scan(&self.state_key(from), &self.state_key(to), |key, value| {
                visit(key.get(4..).unwrap_or_default(), value).is_continue()
            })
    }
}

/// What one command writes, over the shard's rows as they are.
pub(crate) struct Gather<'a> {
    pub(crate) shard: &'a Shard,
    pub(crate) writes: Vec<Write>,
}

impl Rows for Gather<'_> {
    type Value = Slice;

    fn get(&self, key: &[u8]) -> Result<Option<Slice>, Error> {
        self.shard.get(key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.shard.scan(from, to, visit)
    }
}

// A command reads before it writes (state::apply), so its own writes need not be seen here.
impl state::Store for Gather<'_> {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        let key = self.shard.state_key(&key);
        self.writes.push(Write {
            space: Space::State,
            key,
            value: Some(value.into()),
        });
    }

    fn delete(&mut self, key: Vec<u8>) {
        let key = self.shard.state_key(&key);
        self.writes.push(Write {
            space: Space::State,
            key,
            value: None,
        });
    }
}

pub(super) fn meta_key(shard: u16, letter: u8) -> [u8; 3] {
    let [high, low] = shard.to_be_bytes();
    [high, low, letter]
}

fn log_key(shard: u16, index: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(10);
    key.extend_from_slice(&shard.to_be_bytes());
    key.extend_from_slice(&index.to_be_bytes());
    key
}

fn remove_entry(shard: u16, index: u64) -> Write {
    Write {
        space: Space::Log,
        key: log_key(shard, index).into(),
        value: None,
    }
}

/// The bytes of a row of the keyspaces `log` and `meta`.
pub(crate) fn encode(row: &impl Serialize) -> Result<Slice, Error> {
    match postcard::to_extend(row, Vec::with_capacity(USUAL_BYTES)) {
        Ok(bytes) => Ok(bytes.into()),
        Err(_) => Err(Error::Damaged("a row that does not encode")),
    }
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, Error> {
    match postcard::take_from_bytes(bytes) {
        Ok((row, [])) => Ok(row),
        _ => Err(Error::Damaged(what)),
    }
}

/// A row of the keyspace `meta`, decoded.
pub(crate) fn read<T: DeserializeOwned>(
    meta: &fjall::Keyspace,
    key: &[u8],
    what: &'static str,
) -> Result<Option<T>, Error> {
    meta.get(key)?.map(|value| decode(&value, what)).transpose()
}
