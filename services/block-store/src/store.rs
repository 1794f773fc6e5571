//! The store itself: one call in, one answer out.

use crate::Error;
use crate::check;
use crate::copies::{Copies, CopyService, Fetched, Peers};
use crate::disk::Disk;
use crate::epochs::Epochs;
use crate::files::Files;
use crate::footer::Footer;
use crate::layout::Layout;
use crate::packs::Packs;
use crate::pins::{Name, SessionId};
use crate::shared::Shared;
use crate::sweep::bounded;
use protocol::block::{
    BLOCK_BYTES_MAX, BlockAnswer, BlockCall, BlockError, BlockId, BlockRef, Blocks, HashKey,
    PACKED_BYTES_MAX, Place, Usage, WRITERS_MAX,
};
use protocol::bus::Accept;
use runtime::Serve;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// The blocks of one data directory.
pub struct Store<D: Disk> {
    pub(crate) shared: Rc<Shared>,
    pub(crate) files: Rc<Files<D>>,
    pub(crate) packs: Rc<Packs<D>>,
    pub(crate) copies: Rc<Copies<D>>,
}

/// What the store remembers of one connection.
pub struct Session {
    /// By its manifest's name.
    client: String,
    shared: Rc<Shared>,
    id: SessionId,
    /// The numbers of the files that it writes.
    writers: RefCell<HashSet<u64>>,
    /// Creates under way, so that their number is bounded, too.
    creating: Cell<usize>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.pins.borrow_mut().end(self.id);
        for writer in self.writers.borrow().iter() {
            // What cannot be removed now goes at the next start.
            let _ = self.shared.layout.remove_writing(*writer);
        }
    }
}

impl<D: Disk + Clone> Store<D> {
    /// The store in the directory `root`: makes what is missing there, clears what a crash left, finds where to go on.
    pub async fn open(root: OwnedFd, disk: D, peers: Rc<dyn Peers>) -> Result<Self, Error> {
        let layout = Layout::open(root).map_err(Error::Directory)?;
        let epochs = Epochs::begin(&layout).map_err(Error::Directory)?;
        let shared = Rc::new(Shared::new(layout, epochs));
        let packs = Packs::open(disk.clone(), shared.clone())
            .await
            .map_err(Error::Packs)?;
        let files = Rc::new(Files::new(disk, shared.clone()));
        let packs = Rc::new(packs);
        let copies = Copies::open(files.clone(), packs.clone(), peers).await;
        let store = Self {
            shared,
            files,
            packs,
            copies: Rc::new(copies.map_err(Error::Directory)?),
        };
        store.recall_scrub().await;
        Ok(store)
    }
}

impl<D: Disk> Store<D> {
    /// Reads every block slowly for as long as the store lives; to be spawned beside the serving.
    pub async fn scrub(self: Rc<Self>) {
        crate::scrub::scrub(self).await;
    }

    /// What other nodes ask, of the same blocks.
    pub fn copies(&self) -> Rc<CopyService<D>> {
        Rc::new(CopyService(self.copies.clone()))
    }

    /// Makes copies on other nodes for as long as the store lives; to be spawned beside the serving.
    pub async fn replicate(self: Rc<Self>) {
        tokio::join!(
            self.copies.clone().make_up(),
            self.copies.clone().audits(),
            self.copies.clone().measures(),
            self.copies.clone().remembers_packed(),
        );
    }

    /// Waits until the disk has failed: then the process must end.
    pub async fn failed(&self) -> String {
        self.shared.failed().await
    }

    async fn create(&self, session: &Session, length: u32) -> Answered {
        block_bytes(length)?;
        if session.writers.borrow().len() + session.creating.get() >= WRITERS_MAX {
            return Err(BlockError::TooManyWriters);
        }
        session.creating.set(session.creating.get() + 1);
        let created = self.files.create(length).await;
        session.creating.set(session.creating.get() - 1);
        let (writer, file) = created?;
        session.writers.borrow_mut().insert(writer);
        Ok((BlockAnswer::Created { writer }, vec![file]))
    }

    async fn commit(
        &self,
        session: &Session,
        writer: u64,
        id: BlockId,
        footer: Footer,
    ) -> Answered {
        // Taken out first, so that a second Commit of it meanwhile finds nothing.
        if !session.writers.borrow_mut().remove(&writer) {
            return Err(BlockError::NoSuchWriter);
        }
        if let Err(error) = room_for_a_pin(session).and_then(|()| block_bytes(footer.length)) {
            self.files.abandon(writer);
            return Err(error);
        }
        match self.files.commit(session.id, writer, id, footer).await {
            Ok(block) => self.spread(session, block).await,
            Err(error) => {
                if error == BlockError::StillOpen {
                    // Nothing has happened: the caller may close its descriptor and try again.
                    session.writers.borrow_mut().insert(writer);
                }
                Err(error)
            }
        }
    }

    async fn store(
        &self,
        session: &Session,
        id: BlockId,
        key: HashKey,
        bytes: Vec<u8>,
    ) -> Answered {
        if !(1..=PACKED_BYTES_MAX).contains(&bytes.len()) {
            let why = format!("a packed block has 1 to {PACKED_BYTES_MAX} bytes");
            return Err(BlockError::Refused(why));
        }
        room_for_a_pin(session)?;
        // Bytes that changed on their way, or a wrong name, are refused while the caller still has them.
        if !check::matches(&id, &key, &bytes) {
            return Err(BlockError::Damaged);
        }
        if !self.copies.are_placed()? {
            let block = self.packs.append(session.id, id, key, bytes).await?;
            return Ok((BlockAnswer::Stored(block), Vec::new()));
        }
        // A place in a pack means something on one node only; what several nodes have is named by its id alone.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let name = Name::File(id);
        self.shared.pins.borrow_mut().pin(session.id, name);
        if let Err(error) = self.copies.keep(&id, key, bytes).await {
            self.shared.pins.borrow_mut().unpin(session.id, name);
            return Err(error);
        }
        let place = Place::File;
        self.spread(session, BlockRef { id, length, place }).await
    }

    /// Waits until enough nodes have a block that is pinned and on this disk.
    async fn spread(&self, session: &Session, block: BlockRef) -> Answered {
        if let Err(error) = self.copies.spread(&block).await {
            let name = Name::from(&block);
            self.shared.pins.borrow_mut().unpin(session.id, name);
            return Err(error);
        }
        Ok((BlockAnswer::Stored(block), Vec::new()))
    }

    async fn open_block(&self, block: &BlockRef) -> Answered {
        block_bytes(block.length)?;
        let missing = match block.place {
            Place::File => match self.open_file(block).await {
                Err(error) => error,
                opened => return opened,
            },
            Place::Packed { .. } if block.length as usize > PACKED_BYTES_MAX => {
                return Err(BlockError::NoSuchBlock);
            }
            Place::Packed { pack, page } => {
                let read = self.packs.read(&block.id, block.length, pack, page);
                match read.await {
                    Ok((_, bytes)) => return Ok((BlockAnswer::Bytes(bytes), Vec::new())),
                    Err(error) => error,
                }
            }
        };
        let elsewhere = matches!(missing, BlockError::NoSuchBlock | BlockError::Damaged);
        if !elsewhere || !self.copies.are_placed()? {
            return Err(missing);
        }
        // What is a record on one node is a file on the others, and may be one here.
        let place = Place::File;
        let file = BlockRef { place, ..*block };
        match self.open_file(&file).await {
            Err(BlockError::NoSuchBlock | BlockError::Damaged) => {
                match self.copies.fetch(block).await? {
                    Fetched::Kept => self.open_file(&file).await,
                    Fetched::Passing(passing) => {
                        let length = block.length;
                        let file = passing.open(length)?;
                        Ok((BlockAnswer::File { length }, vec![file]))
                    }
                }
            }
            other => other,
        }
    }

    async fn open_file(&self, block: &BlockRef) -> Answered {
        let (length, file) = self.files.open(block).await?;
        Ok((BlockAnswer::File { length }, vec![file]))
    }

    fn usage(&self) -> Result<Usage, BlockError> {
        let room = self.shared.room()?;
        Ok(Usage {
            capacity_bytes: room.capacity_bytes,
            free_bytes: room.free_bytes,
            files: self.shared.census.files(),
            packs: self.packs.count(),
            damaged: self.shared.damaged.borrow().count(),
            behind: self.copies.behind(),
            settled: self.copies.settled(),
        })
    }

    async fn call(&self, session: &Session, call: BlockCall) -> Answered {
        self.shared.works()?;
        let answer = match call {
            BlockCall::Create { length } => return self.create(session, length).await,
            BlockCall::Commit {
                writer,
                id,
                key,
                length,
            } => {
                return self
                    .commit(session, writer, id, Footer { length, key })
                    .await;
            }
            BlockCall::Store { id, key, bytes } => {
                return self.store(session, id, key, bytes).await;
            }
            BlockCall::Open { block, next } => {
                if let Some(next) = next {
                    self.copies.fetch_ahead(next);
                }
                return self.open_block(&block).await;
            }
            BlockCall::Abandon { writer } => {
                if session.writers.borrow_mut().remove(&writer) {
                    self.files.abandon(writer);
                }
                BlockAnswer::Done
            }
            BlockCall::Unpin { blocks } => {
                bounded(&blocks)?;
                let mut pins = self.shared.pins.borrow_mut();
                for block in &blocks {
                    pins.unpin(session.id, Name::from(block));
                }
                BlockAnswer::Done
            }
            BlockCall::Confirm { blocks, again } => {
                bounded(&blocks)?;
                bounded(again.as_deref().unwrap_or_default())?;
                BlockAnswer::Confirmed(self.copies.confirm(blocks, again).await?)
            }
            BlockCall::CondemnNext { after, limit } => {
                self.condemn_next(session.id, after, limit).await?
            }
            BlockCall::Condemn { blocks } => self.condemn(session.id, blocks).await?,
            BlockCall::Delete { blocks } => self.delete(session.id, blocks).await?,
            BlockCall::CondemnStrays => self.condemn_strays(session.id)?,
            BlockCall::LetGo { blocks } => {
                bounded(&blocks)?;
                BlockAnswer::Deleted(self.copies.let_go(session.id, blocks).await)
            }
            BlockCall::Usage => BlockAnswer::Usage(self.usage()?),
            BlockCall::Inventory => BlockAnswer::Inventory(self.copies.inventory()),
            BlockCall::Audit => {
                self.copies.audit_soon();
                BlockAnswer::Done
            }
            BlockCall::Place { placement } => {
                self.copies.place(placement).await?;
                BlockAnswer::Done
            }
        };
        Ok((answer, Vec::new()))
    }
}

type Answered = Result<(BlockAnswer, Vec<OwnedFd>), BlockError>;

/// Those who show objects change nothing, and where blocks belong is metadata's to say.
fn may_ask(client: &str, call: &BlockCall) -> bool {
    match call {
        BlockCall::Open { .. } => true,
        BlockCall::Place { .. }
        | BlockCall::Confirm { .. }
        | BlockCall::CondemnStrays
        | BlockCall::LetGo { .. }
        | BlockCall::Inventory
        | BlockCall::Audit => client == "metadata",
        _ => client != "web",
    }
}

impl<D: Disk> Serve<Blocks> for Store<D> {
    type Session = Session;

    fn connected(&self, accept: Accept) -> Session {
        Session {
            client: accept.client,
            shared: self.shared.clone(),
            id: self.shared.pins.borrow_mut().begin(),
            writers: RefCell::default(),
            creating: Cell::new(0),
        }
    }

    async fn answer(
        &self,
        session: &Session,
        call: BlockCall,
        _descriptors: Vec<OwnedFd>, // no call brings one; they are closed here
    ) -> (Result<BlockAnswer, BlockError>, Vec<OwnedFd>) {
        if !may_ask(&session.client, &call) {
            let why = "not from this caller";
            return (Err(BlockError::Refused(why.into())), Vec::new());
        }
        match self.call(session, call).await {
            Ok((answer, descriptors)) => (Ok(answer), descriptors),
            Err(error) => (Err(error), Vec::new()),
        }
    }
}

/// The length, if a block may have it.
pub(crate) fn block_bytes(length: u32) -> Result<u32, BlockError> {
    if (1..=BLOCK_BYTES_MAX).contains(&u64::from(length)) {
        return Ok(length);
    }
    let why = format!("a block has 1 to {BLOCK_BYTES_MAX} bytes");
    Err(BlockError::Refused(why))
}

fn room_for_a_pin(session: &Session) -> Result<(), BlockError> {
    if session.shared.pins.borrow().has_room(session.id) {
        return Ok(());
    }
    let why = "too many pinned blocks on this connection";
    Err(BlockError::Refused(why.into()))
}
