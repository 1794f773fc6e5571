//! The database of all shards, and the rows that are still on their way to it.
//!
//! Everything lies in one fjall database whose journal is one file in order, so what a crash leaves is always a prefix of what was
//! written: a later batch is never there without the earlier ones. The log is synced before an entry counts as stored; the state's
//! rows only follow it, since after a crash the log makes them again from `applied` on, which is written in the same batch.
//!
//! Reads of the state see the rows on their way first, then the database.

use super::merger::Merger;
use super::writer::{self, Progress, Queue, Space, Spaces, When, Write};
use crate::Error;
use fjall::compaction::Leveled;
use fjall::{Database, KeyspaceCreateOptions, KvSeparationOptions, Slice};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};

/// Memory for blocks of tables, in bytes.
const CACHE_BYTES: u64 = 16 << 20;
/// A memtable is written out at this size, in bytes.
const MEMTABLE_BYTES: u64 = 8 << 20;
/// A table's size, in bytes. A merge takes about eleven of them and needs as much space besides, which has to fit the reserve (`space.rs`).
const TABLE_BYTES: u64 = 8 << 20;
/// Values of the state from this size on lie in files of their own, so that merges do not write them again and again: a fifth to a third less CPU per
/// put of 4 KiB, two thirds of the memory, and merges so small that they fit the reserve of a small disk.
const APART_BYTES_MIN: u32 = 1 << 10;
/// The size of those files, in bytes …
const APART_FILE_BYTES: u64 = 16 << 20;
/// … and the dead part from which on one is written again. Such a clean-up takes space, too: at most half of a quarter of the files (fjall's `age_cutoff`)
/// that a merge meets.
const APART_DEAD_PART: f32 = 0.5;
/// Journals together, in bytes. One file has 64 MB.
const JOURNALS_BYTES_MAX: u64 = 128 << 20;
/// With one worker fjall can hang (fjall-rs/fjall#323).
const WORKERS: usize = 2;
/// The most table files that are kept open.
const FILES_MAX: usize = 256;
/// How long rows that can be made again wait for company, so that a write costs one wake-up of the writing thread and not two.
const LAZY: Duration = Duration::from_millis(50);

#[cfg(test)]
thread_local! {
    static TIME_STOPS: Cell<bool> = const { Cell::new(false) };
}

/// For tests in virtual time on this thread: tokio does not advance it while a job is on its way to a disk, because a blocking task waits for that.
#[cfg(test)]
pub(crate) fn stop_time_while_a_disk_works() {
    TIME_STOPS.set(true);
}

/// What is done when a job is on the disk. Runs on the serving thread.
pub(crate) type Done = Box<dyn FnOnce()>;

/// The database and the way to it. One per process, on the serving thread.
pub(crate) struct Disk {
    /// Emptied when it is closed.
    database: RefCell<Option<Database>>,
    spaces: Spaces,
    merger: Merger,
    queue: Arc<Queue>,
    thread: RefCell<Option<JoinHandle<()>>>,
    /// Why nothing is written any more.
    failure: RefCell<Option<Error>>,
    failed: Notify,
    jobs: Cell<u64>,
    under_way: RefCell<UnderWay>,
    timer_set: Cell<bool>,
    #[cfg(test)]
    abandoned: Cell<bool>,
}

/// What the writing thread has not confirmed yet.
#[derive(Default)]
struct UnderWay {
    /// Rows of the state, with the last job that wrote each.
    rows: BTreeMap<Slice, (u64, Option<Slice>)>,
    /// The keys of each job in `rows`, and what is to be done then.
    jobs: VecDeque<(u64, Vec<Slice>, Option<Done>)>,
    /// What stops virtual time, with the number of the job that it waits for.
    #[cfg(test)]
    stops: VecDeque<(u64, std::sync::mpsc::Sender<()>)>,
}

impl Disk {
    /// Opens or makes the database in the directory `path`, and starts its threads. Must run where tasks may be spawned locally.
    pub(crate) fn open(path: &Path) -> Result<Rc<Self>, Error> {
        let database = Database::builder(path)
            .cache_size(CACHE_BYTES)
            .worker_threads(WORKERS)
            .max_cached_files(Some(FILES_MAX))
            .max_journaling_size(JOURNALS_BYTES_MAX)
            .manual_journal_persist(true)
            .open()?;
        // All of this is fixed when a keyspace is made: fjall keeps it with the data.
        let usual = || {
            let merging = Leveled::default().with_table_target_size(TABLE_BYTES);
            KeyspaceCreateOptions::default()
                .max_memtable_size(MEMTABLE_BYTES)
                .compaction_strategy(Arc::new(merging))
        };
        let apart = KvSeparationOptions::default()
            .separation_threshold(APART_BYTES_MIN)
            .file_target_size(APART_FILE_BYTES)
            .staleness_threshold(APART_DEAD_PART);
        let spaces = Spaces {
            log: database.keyspace("log", usual)?,
            meta: database.keyspace("meta", usual)?,
            state: database.keyspace("state", || usual().with_kv_separation(Some(apart)))?,
        };
        let merger = Merger::start(spaces.state.clone())?;
        let queue = Arc::new(Queue::default());
        let (sender, progress) = mpsc::unbounded_channel();
        let thread = {
            let (database, spaces, queue) = (database.clone(), spaces.clone(), queue.clone());
            std::thread::Builder::new()
                .name("writer".into())
                .spawn(move || writer::run(&database, &spaces, &queue, &sender))?
        };
        let disk = Rc::new(Self {
            database: RefCell::new(Some(database)),
            spaces,
            merger,
            queue,
            thread: RefCell::new(Some(thread)),
            failure: RefCell::new(None),
            failed: Notify::new(),
            jobs: Cell::new(0),
            under_way: RefCell::default(),
            timer_set: Cell::new(false),
            #[cfg(test)]
            abandoned: Cell::new(false),
        });
        tokio::task::spawn_local(disk.clone().follow(progress));
        Ok(disk)
    }

    /// Hands rows to the writing thread, behind all that were handed over before. They are written together or not at all; `done`
    /// runs when they are in the database (with [`When::Synced`], on the disk), and never if the disk fails.
    ///
    /// Rows of the state can be read from now on.
    pub(crate) fn write(self: &Rc<Self>, writes: Vec<Write>, when: When, done: Option<Done>) {
        #[cfg(test)]
        if self.abandoned.get() {
            return;
        }
        let number = self.jobs.get() + 1;
        self.jobs.set(number);
        let mut under_way = self.under_way.borrow_mut();
        let mut keys = Vec::new();
        for write in writes.iter().filter(|write| write.space == Space::State) {
            keys.push(write.key.clone());
            under_way
                .rows
                .insert(write.key.clone(), (number, write.value.clone()));
        }
        under_way.jobs.push_back((number, keys, done));
        #[cfg(test)]
        if TIME_STOPS.get() && when > When::Lazily {
            let (stop, over) = std::sync::mpsc::channel();
            under_way.stops.push_back((number, stop));
            // Both ends of the wait are the same: the job is done, or nobody waits for it any more.
            tokio::task::spawn_blocking(move || over.recv().is_ok());
        }
        drop(under_way);
        self.queue.add(number, writes, when);
        if when == When::Lazily && !self.timer_set.replace(true) {
            let disk = self.clone();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(LAZY).await;
                disk.timer_set.set(false);
                disk.queue.nudge();
            });
        }
    }

    /// The same, waiting until it is done.
    pub(crate) async fn written(
        self: &Rc<Self>,
        writes: Vec<Write>,
        when: When,
    ) -> Result<(), Error> {
        let (sender, done) = oneshot::channel();
        let tell = Box::new(move || {
            // Whoever does not wait any more does not want to know.
            let _ = sender.send(());
        });
        self.write(writes, when, Some(tell));
        done.await
            .map_err(|_| Error::Database(fjall::Error::Poisoned))
    }

    /// Everything that was written before, in one moment. Waits until the writing thread has caught up.
    pub(crate) async fn snapshot(self: &Rc<Self>) -> Result<fjall::Snapshot, Error> {
        self.written(Vec::new(), When::Soon).await?;
        let database = self.database.borrow();
        let database = database
            .as_ref()
            .ok_or(Error::Database(fjall::Error::Poisoned))?;
        Ok(database.snapshot())
    }

    /// Follows the writing thread until the disk fails or the thread is closed.
    async fn follow(self: Rc<Self>, mut progress: mpsc::UnboundedReceiver<Progress>) {
        while let Some(progress) = progress.recv().await {
            match progress {
                Ok(last) => self.confirm(last),
                Err(error) => {
                    // Dropping a poisoned database can wait for its workers for ever, and the process ends anyway.
                    std::mem::forget(self.database.borrow_mut().take());
                    *self.failure.borrow_mut() = Some(Error::Database(error));
                    self.failed.notify_one();
                }
            }
        }
    }

    /// Comes back only when the disk has failed. For one listener.
    pub(crate) async fn failure(&self) -> Error {
        loop {
            self.failed.notified().await;
            if let Some(error) = self.failure.borrow_mut().take() {
                return error;
            }
        }
    }

    /// All jobs up to `last` are in the database.
    fn confirm(&self, last: u64) {
        let mut dones = Vec::new();
        let mut under_way = self.under_way.borrow_mut();
        while under_way
            .jobs
            .front()
            .is_some_and(|(number, ..)| *number <= last)
        {
            let Some((_, keys, done)) = under_way.jobs.pop_front() else {
                break;
            };
            for key in keys {
                // A later job may have written the row again.
                let rewritten = under_way
                    .rows
                    .get(&key)
                    .is_none_or(|(number, _)| *number > last);
                if !rewritten {
                    under_way.rows.remove(&key);
                }
            }
            dones.extend(done);
        }
        #[cfg(test)]
        under_way.stops.retain(|(number, _)| *number > last);
        drop(under_way);
        // Afterwards, because they may write.
        dones.into_iter().for_each(|done| done());
    }

    /// Writes what is on its way, and closes the database. What was confirmed is on the disk with or without it.
    pub(crate) fn close(&self) {
        self.queue.close();
        if let Some(thread) = self.thread.borrow_mut().take() {
            // The thread does not panic; and if it did, the process would have ended.
            let _ = thread.join();
        }
        drop(self.database.borrow_mut().take());
    }

    /// Forgets what the writing thread has not taken yet, and writes nothing more.
    #[cfg(test)]
    pub(crate) fn abandon(&self) {
        self.abandoned.set(true);
        self.queue.abandon();
        // What was to be done holds on to this.
        drop(self.under_way.take());
    }

    /// The keyspaces, for rows that are not under way: at the start, and the log's confirmed entries.
    pub(crate) fn spaces(&self) -> &Spaces {
        &self.spaces
    }

    /// What the tables of the state take on the disk, in bytes.
    pub(crate) fn state_bytes(&self) -> u64 {
        self.spaces.state.disk_space()
    }

    /// Asks for a merge of all tables of the state; it takes as much space as is left of them.
    pub(crate) fn merge(&self) {
        self.merger.request();
    }

    /// A row of the state.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Slice>, Error> {
        if let Some((_, value)) = self.under_way.borrow().rows.get(key) {
            return Ok(value.clone());
        }
        Ok(self.spaces.state.get(key)?)
    }

    /// Shows rows of the state from `from` up to `to` in order, until `visit` says that it has seen enough.
    pub(crate) fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        if from >= to {
            return Ok(());
        }
        let under_way = self.under_way.borrow();
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let mut newer = under_way.rows.range::<[u8], _>(bounds).peekable();
        let mut stored = self.spaces.state.range::<&[u8], _>(from..to);
        let mut next_stored = stored.next().map(fjall::Guard::into_inner).transpose()?;
        loop {
            let newer_first = match (newer.peek(), &next_stored) {
                (None, None) => return Ok(()),
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some((newer, _)), Some((stored, _))) => *newer <= stored,
            };
            if !newer_first {
                let Some((key, value)) = next_stored.take() else {
                    return Ok(());
                };
                if !visit(&key, &value) {
                    return Ok(());
                }
                next_stored = stored.next().map(fjall::Guard::into_inner).transpose()?;
                continue;
            }
            let Some((key, (_, value))) = newer.next() else {
                return Ok(());
            };
            // The same row in the database is older.
            if next_stored
                .as_ref()
                .is_some_and(|(stored, _)| stored == key)
            {
                next_stored = stored.next().map(fjall::Guard::into_inner).transpose()?;
            }
            if let Some(value) = value
                && !visit(key, value)
            {
                return Ok(());
            }
        }
    }
}
