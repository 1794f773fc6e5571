//! What was acknowledged before all of its copies were made: an empty file of that name in `owed/`, until they are.

use super::{Copies, PeerError, file};
use crate::disk::{Disk, DiskFile, Sync};
use crate::layout::Layout;
use crate::pins::Name;
use futures_util::stream::{StreamExt, iter};
use protocol::block::{BlockError, BlockId, BlockRef};
use protocol::copies::NAMES_MAX;
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// Between two attempts to make up for what is owed.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Blocks that one round brings at the same time; [`Copies::carry`] bounds their bytes.
const BROUGHT_AT_A_TIME: usize = 16;

/// The names in `owed/`.
pub(crate) struct Owed {
    marked: RefCell<BTreeSet<BlockId>>,
    /// Marks that are made but not known to be on the disk; whoever made one waits here.
    unsynced: RefCell<Vec<oneshot::Sender<Result<(), BlockError>>>>,
    syncing: Cell<bool>,
    more: Notify,
}

impl Owed {
    pub(crate) fn open(layout: &Layout) -> Result<Self, Errno> {
        Ok(Self {
            marked: RefCell::new(layout.owed()?),
            unsynced: RefCell::default(),
            syncing: Cell::new(false),
            more: Notify::new(),
        })
    }

    pub(crate) fn count(&self) -> u64 {
        self.marked.borrow().len() as u64
    }

    pub(crate) fn contains(&self, id: &BlockId) -> bool {
        self.marked.borrow().contains(id)
    }
}

impl<D: Disk> Copies<D> {
    /// That this block lacks copies is on the disk when this returns. Marks that come while one is synced share the next sync.
    pub(super) async fn mark_owed(self: &Rc<Self>, id: &BlockId) -> Result<(), BlockError> {
        if self.owed.marked.borrow_mut().insert(*id) {
            let made = self.shared.layout.mark_owed(id);
            made.map_err(|errno| self.shared.system("a mark of what is owed", errno))?;
        }
        let (synced, waiting) = oneshot::channel();
        self.owed.unsynced.borrow_mut().push(synced);
        if !self.owed.syncing.replace(true) {
            tokio::task::spawn_local(sync_marks(self.clone()));
        }
        self.owed.more.notify_one();
        let lost = || BlockError::Disk("the commit was given up".into());
        waiting.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Makes up for what is owed for as long as the store lives.
    pub(crate) async fn make_up(self: Rc<Self>) {
        loop {
            if self.owed.count() == 0 {
                self.owed.more.notified().await;
            }
            tokio::time::sleep(AGAIN_AFTER).await;
            self.make_up_once().await;
        }
    }

    /// Looks once at everything that is owed.
    pub(super) async fn make_up_once(&self) {
        let mut after = None;
        loop {
            let page = self.page_of_owed(after);
            let Some(last) = page.last().copied() else {
                return;
            };
            after = Some(last);
            self.make_up_for(page).await;
        }
    }

    fn page_of_owed(&self, after: Option<BlockId>) -> Vec<BlockId> {
        let marked = self.owed.marked.borrow();
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let rest = marked.range((from, std::ops::Bound::Unbounded));
        rest.take(NAMES_MAX).copied().collect()
    }

    async fn make_up_for(&self, page: Vec<BlockId>) {
        // What a client still writes at is not over.
        let idle = |id: &BlockId| !self.shared.pins.borrow().is_pinned(Name::File(*id));
        let page: Vec<BlockId> = page.into_iter().filter(idle).collect();
        let lacking = self.complete(&page, |id| self.file_here(id)).await;
        for id in page.iter().filter(|id| !lacking.contains(*id)) {
            self.owed.marked.borrow_mut().remove(id);
            if let Err(errno) = self.shared.layout.unmark_owed(id) {
                runtime::warn!("mark of {id:?} was not removed: {errno}");
            }
            // It may have been here only until the others have it.
            if self.is_stray(id)
                && let Some(block) = self.file_here(id)
            {
                self.strays.borrow_mut().add(*id, block.length);
            }
        }
    }

    /// Sees to it that all nodes that these blocks belong to have them, where `here` finds them. Answers those that are still lacking somewhere; a
    /// block that is not here any more lacks nothing that this node could give.
    pub(super) async fn complete(
        &self,
        blocks: impl IntoIterator<Item = &BlockId>,
        here: impl Fn(&BlockId) -> Option<BlockRef>,
    ) -> BTreeSet<BlockId> {
        let mut of_nodes: BTreeMap<String, Vec<BlockId>> = BTreeMap::new();
        for id in blocks {
            let homes = self.homes(id);
            for (homes, node) in homes
                .iter()
                .flat_map(|homes| homes.others().into_iter().map(move |node| (homes, node)))
            {
                of_nodes
                    .entry(homes.name(node).to_owned())
                    .or_default()
                    .push(*id);
            }
        }
        let mut left = BTreeSet::new();
        for (node, ids) in of_nodes {
            for page in ids.chunks(NAMES_MAX) {
                left.extend(self.complete_at(&node, page, &here).await);
            }
        }
        left
    }

    /// The same for one node. What is on its way there already is waited for, and not sent again.
    async fn complete_at(
        &self,
        node: &str,
        page: &[BlockId],
        here: impl Fn(&BlockId) -> Option<BlockRef>,
    ) -> Vec<BlockId> {
        let courier = self.courier(node);
        let mut errands = Vec::new();
        let mut in_question = Vec::new();
        for id in page {
            let errand = courier.errands.get(id);
            match errand.and_then(|errand| Some((Some(errand), here(id)?))) {
                Some(errand) => errands.push(errand),
                None => in_question.push(*id),
            }
        }
        let mut left = Vec::new();
        let lacking = match in_question.as_slice() {
            [] => Ok(Vec::new()),
            ids => self
                .lacking(node, ids.to_vec())
                .await
                .map(|(lacking, _)| lacking),
        };
        let Ok(lacking) = lacking else {
            return page.to_vec();
        };
        let new = lacking.iter().filter_map(&here).map(|block| (None, block));
        let all = errands.into_iter().chain(new);
        let brought = all.map(|(errand, block)| async move {
            let brought = match errand {
                Some(errand) => self.run(&errand, node, &block).await,
                // No write waits for it; whoever writes the same block meanwhile brings it on its own.
                None => self.carry(node, &block, true).await,
            };
            (block.id, brought)
        });
        let mut brought = iter(brought).buffer_unordered(BROUGHT_AT_A_TIME);
        while let Some((id, brought)) = brought.next().await {
            match brought {
                Ok(_) => {}
                // Gone meanwhile.
                Err(PeerError::Refused(BlockError::NoSuchBlock)) => {}
                Err(_) => left.push(id),
            }
        }
        left
    }

    /// A block that is a file on this disk.
    pub(super) fn file_here(&self, id: &BlockId) -> Option<BlockRef> {
        let length = self.files.length(id).ok()?;
        length.map(|length| file(*id, length))
    }
}

/// One sync for all marks that were made before it began.
async fn sync_marks<D: Disk>(copies: Rc<Copies<D>>) {
    loop {
        let waiting = std::mem::take(&mut *copies.owed.unsynced.borrow_mut());
        if waiting.is_empty() {
            copies.owed.syncing.set(false);
            return;
        }
        let shared = &copies.shared;
        let synced = match shared.layout.open_owed_directory() {
            Ok(directory) => {
                let _turn = copies.files.syncs.acquire().await;
                let directory = copies.files.disk.adopt(directory);
                let synced = directory.sync(Sync::All).await;
                synced.map_err(|errno| shared.fail("fsync of the marks of what is owed", errno))
            }
            Err(errno) => Err(shared.system("the directory of what is owed", errno)),
        };
        for one in waiting {
            let _ = one.send(synced.clone());
        }
    }
}
