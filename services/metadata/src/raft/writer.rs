//! The one thread that writes to the database: everything that has gathered goes into one batch with one sync.
//!
//! fjall holds its journal's lock while it syncs, so the thread that serves never commits by itself: it would wait for the disk.
//! Absent on purpose: any retry. After a failed commit the thread reports and ends, and with it the process.

use fjall::{Database, Keyspace, PersistMode, Slice};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc::UnboundedSender;

/// The keyspaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Space {
    /// Log entries, by shard and index.
    Log,
    /// Votes, what is applied, and what the directory is.
    Meta,
    /// The state machines' rows, by shard and generation.
    State,
}

/// One row to write, or (`None`) to remove.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) space: Space,
    pub(crate) key: Slice,
    pub(crate) value: Option<Slice>,
}

/// When rows are to be on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum When {
    /// With the next batch that somebody needs; rows that can be made again from the log.
    Lazily,
    /// At once, but not necessarily on the disk.
    Soon,
    /// At once, and on the disk before it is done.
    Synced,
}

/// The keyspaces by name.
#[derive(Clone)]
pub(crate) struct Spaces {
    pub(crate) log: Keyspace,
    pub(crate) meta: Keyspace,
    pub(crate) state: Keyspace,
}

impl Spaces {
    fn get(&self, space: Space) -> &Keyspace {
        match space {
            Space::Log => &self.log,
            Space::Meta => &self.meta,
            Space::State => &self.state,
        }
    }
}

/// Rows on their way from the serving thread to the writing thread.
#[derive(Default)]
pub(crate) struct Queue {
    queued: Mutex<Queued>,
    wake: Condvar,
}

#[derive(Default)]
struct Queued {
    writes: Vec<Write>,
    /// The number of the last job in `writes`.
    last: u64,
    when: Option<When>,
    closed: bool,
    #[cfg(test)]
    abandoned: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Queued> {
        // A panic ends the process, so nobody sees half of a change.
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job behind all others. Jobs are numbered upwards by the caller.
    pub(crate) fn add(&self, number: u64, writes: Vec<Write>, when: When) {
        let mut queued = self.lock();
        #[cfg(test)]
        if queued.abandoned {
            return;
        }
        queued.writes.extend(writes);
        queued.last = number;
        queued.when = queued.when.max(Some(when));
        // The thread is woken behind the lock, or the first thing that it meets is the lock.
        drop(queued);
        if when > When::Lazily {
            self.wake.notify_one();
        }
    }

    /// Sends what has gathered on its way, if anything has.
    pub(crate) fn nudge(&self) {
        let mut queued = self.lock();
        if queued.when != Some(When::Lazily) {
            return;
        }
        queued.when = Some(When::Soon);
        drop(queued);
        self.wake.notify_one();
    }

    /// Lets the thread write what has gathered, and end.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// Lets the thread end, and drops what has gathered and all that still comes.
    #[cfg(test)]
    pub(crate) fn abandon(&self) {
        let mut queued = self.lock();
        queued.abandoned = true;
        queued.closed = true;
        queued.when = None;
        queued.writes.clear();
        drop(queued);
        self.wake.notify_one();
    }

    /// Waits for work: the rows, the number of their last job, and whether they must reach the disk. `None` at the end.
    fn take(&self) -> Option<(Vec<Write>, u64, bool)> {
        let mut queued = self.lock();
        loop {
            let due = queued.when > Some(When::Lazily) || queued.closed;
            match queued.when {
                Some(when) if due => {
                    let writes = std::mem::take(&mut queued.writes);
                    queued.when = None;
                    let synced = when == When::Synced || queued.closed;
                    return Some((writes, queued.last, synced));
                }
                None if queued.closed => return None,
                _ => {
                    queued = self
                        .wake
                        .wait(queued)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// What the thread says: all jobs up to this number are done, or why nothing will be done any more.
pub(crate) type Progress = Result<u64, fjall::Error>;

/// The thread's life: batch after batch until the queue is closed or a commit fails.
pub(crate) fn run(
    database: &Database,
    spaces: &Spaces,
    queue: &Arc<Queue>,
    progress: &UnboundedSender<Progress>,
) {
    while let Some((writes, last, synced)) = queue.take() {
        let committed = commit(database, spaces, writes, synced);
        let failed = committed.is_err();
        // Nobody listens any more only when the process ends.
        let _ = progress.send(committed.map(|()| last));
        if failed {
            return;
        }
    }
}

fn commit(
    database: &Database,
    spaces: &Spaces,
    writes: Vec<Write>,
    synced: bool,
) -> Result<(), fjall::Error> {
    // All rows of a batch get the same sequence number, so a row may come up only once: the last one counts.
    let mut rows = BTreeMap::new();
    for write in writes {
        rows.insert((write.space, write.key), write.value);
    }
    if rows.is_empty() {
        return Ok(());
    }
    let mode = if synced {
        PersistMode::SyncData
    } else {
        PersistMode::Buffer
    };
    let mut batch = database.batch().durability(Some(mode));
    for ((space, key), value) in rows {
        match value {
            Some(value) => batch.insert(spaces.get(space), key, value),
            None => batch.remove(spaces.get(space), key),
        }
    }
    batch.commit()
}
