//! Final names for written files, in groups: commits that arrive while one group is synced form the next.

use crate::check::Yielding;
use crate::disk::{Disk, DiskFile, Sync};
use crate::files::Files;
use crate::pins::Name;
use protocol::block::{BlockError, BlockId};
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// The most files in one group.
const GROUP_FILES_MAX: usize = 256;

/// The files that wait for their names. At most as many as there are calls under way.
#[derive(Default)]
pub(crate) struct Publishing {
    waiting: RefCell<VecDeque<Waiting>>,
    running: Cell<bool>,
    /// Named, and not yet known to be so on the disk.
    unsynced: RefCell<BTreeSet<BlockId>>,
}

impl Publishing {
    /// Whether a name that is there may be gone after a power cut.
    pub(crate) fn is_unsynced(&self, id: &BlockId) -> bool {
        self.unsynced.borrow().contains(id)
    }
}

struct Waiting {
    writer: u64,
    id: BlockId,
    answer: oneshot::Sender<Result<(), BlockError>>,
}

impl<D: Disk> Files<D> {
    /// Gives the synced file of `writer` the name of block `id`, on disk when this returns.
    ///
    /// A block that exists already stays, if its bytes match its name: then the file is removed. Otherwise the file takes its place.
    pub(crate) async fn publish(
        self: &Rc<Self>,
        writer: u64,
        id: BlockId,
    ) -> Result<(), BlockError> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { writer, id, answer };
        self.publishing.waiting.borrow_mut().push_back(waiting);
        if !self.publishing.running.replace(true) {
            tokio::task::spawn_local(publish_groups(self.clone()));
        }
        let lost = || BlockError::Disk("the commit was given up".into());
        answered.await.unwrap_or_else(|_| Err(lost()))
    }

    /// One rename, and what an existing block makes of it.
    async fn rename(&self, writer: u64, id: &BlockId) -> Result<(), BlockError> {
        let layout = &self.shared.layout;
        let mut renamed = layout.publish(writer, id);
        if renamed == Err(Errno::EXIST) {
            match self.check(id, &Yielding).await {
                Ok(_) => {
                    self.abandon(writer);
                    return Ok(());
                }
                // Moved aside by the check (or unreadable): the file that is here now is the better one.
                Err(BlockError::Damaged) => {
                    if layout.remove_block(id) == Ok(true) {
                        self.shared.census.file(id, -1);
                    }
                    renamed = layout.publish(writer, id);
                }
                Err(error) => return Err(error),
            }
        }
        renamed.map_err(|errno| self.shared.system("naming a block", errno))?;
        self.shared.damaged.borrow_mut().remove(&Name::File(*id));
        self.shared.census.file(id, 1);
        Ok(())
    }

    /// Syncs the directories of a group, one fsync each.
    async fn sync_directories(self: &Rc<Self>, firsts: BTreeSet<u8>) -> Result<(), BlockError> {
        let mut syncs = JoinSet::new();
        for first in firsts {
            let files = self.clone();
            syncs.spawn_local(async move {
                let _turn = files.syncs.acquire().await;
                let shared = &files.shared;
                let directory = shared
                    .layout
                    .open_block_directory(first)
                    .map_err(|errno| shared.system("a directory of blocks", errno))?;
                files
                    .disk
                    .adopt(directory)
                    .sync(Sync::All)
                    .await
                    .map_err(|errno| shared.fail("fsync of a directory", errno))
            });
        }
        let mut result = Ok(());
        while let Some(joined) = syncs.join_next().await {
            let lost = |_| Err(BlockError::Disk("a sync was given up".into()));
            result = result.and(joined.unwrap_or_else(lost));
        }
        result
    }
}

async fn publish_groups<D: Disk>(files: Rc<Files<D>>) {
    loop {
        let group: Vec<Waiting> = {
            let mut waiting = files.publishing.waiting.borrow_mut();
            let size = waiting.len().min(GROUP_FILES_MAX);
            waiting.drain(..size).collect()
        };
        if group.is_empty() {
            files.publishing.running.set(false);
            return;
        }
        let mut named = Vec::with_capacity(group.len());
        for Waiting { writer, id, answer } in group {
            files.publishing.unsynced.borrow_mut().insert(id);
            match files.rename(writer, &id).await {
                Ok(()) => named.push((id, answer)),
                // A caller that has gone needs no answer.
                Err(error) => drop(answer.send(Err(error))),
            }
        }
        // Also where the block existed: its own commit may not have been synced yet.
        let firsts = named.iter().map(|(id, _)| id.partition());
        let synced = files.sync_directories(firsts.collect()).await;
        files.publishing.unsynced.borrow_mut().clear();
        for (_, answer) in named {
            let _ = answer.send(synced.clone());
        }
    }
}
