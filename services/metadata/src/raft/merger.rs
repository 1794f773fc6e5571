//! The thread that merges all tables of the state on request, so that the space of removed rows comes free.
//!
//! The database merges by itself when rows come in. On a full disk none come in but removals, which are small, and what they removed
//! would lie on the disk for ever.

use fjall::Keyspace;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the rows in memory may take to be written out; then the merge goes without them.
const WRITE_OUT_MAX: Duration = Duration::from_secs(30);
/// The first merge finds out which files of long values are dead, the second lets go of them.
const MERGES: usize = 2;
/// A row behind all shards' rows, and without meaning.
const MARK: [u8; 5] = [u8::MAX; 5];
/// How often it is looked whether they are.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The thread, and the way to it.
pub(super) struct Merger {
    requests: SyncSender<()>,
    _thread: JoinHandle<()>,
}

impl Merger {
    pub(super) fn start(state: Keyspace) -> Result<Self, std::io::Error> {
        // One request may wait; more would ask for the same.
        let (requests, requested) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("merger".into())
            .spawn(move || run(&state, &requested))?;
        Ok(Self {
            requests,
            _thread: thread,
        })
    }

    /// Asks for a merge, and does not wait for it.
    pub(super) fn request(&self) {
        // Full: one is asked for already. Gone: the process is ending.
        let _ = self.requests.try_send(());
    }
}

fn run(state: &Keyspace, requested: &Receiver<()>) {
    while requested.recv().is_ok() {
        let before = state.disk_space();
        if let Err(error) = merge(state) {
            // The next commit tells whether the database can go on.
            runtime::error!("merging tables: {error}");
            continue;
        }
        let (before, after) = (before >> 20, state.disk_space() >> 20);
        runtime::info!("merged {before} MiB of tables into {after} MiB");
    }
}

// fjall hides some of these calls from its documentation, but they are what its own workers do.
fn merge(state: &Keyspace) -> Result<(), fjall::Error> {
    for _ in 0..MERGES {
        write_out(state)?;
        state.major_compact()?;
    }
    // Files of versions that nobody reads any more are removed along with a later write.
    write_out(state)
}

/// Writes out the rows in memory: removals are rows, too.
fn write_out(state: &Keyspace) -> Result<(), fjall::Error> {
    // So that there is a row, and a moment behind all that was read or merged before.
    state.insert(MARK, [])?;
    if state.rotate_memtable()? {
        let mut waited = Duration::ZERO;
        while state.sealed_memtable_count() > 0 && waited < WRITE_OUT_MAX {
            std::thread::sleep(LOOK_EVERY);
            waited += LOOK_EVERY;
        }
    }
    Ok(())
}
