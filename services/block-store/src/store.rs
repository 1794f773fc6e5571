//! The store itself: one call in, one answer out.

use crate::Error;
use crate::check;
use crate::disk::Disk;
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
}

/// What the store remembers of one connection.
pub struct Session {
    /// The client is one of [`READERS`].
    reads_only: bool,
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
    pub async fn open(root: OwnedFd, disk: D) -> Result<Self, Error> {
        let layout = Layout::open(root).map_err(Error::Directory)?;
        let shared = Rc::new(Shared::new(layout));
        let packs = Packs::open(disk.clone(), shared.clone())
            .await
            .map_err(Error::Packs)?;
        Ok(Self {
            files: Rc::new(Files::new(disk, shared.clone())),
            packs: Rc::new(packs),
            shared,
        })
    }
}

impl<D: Disk> Store<D> {
    /// Reads every block slowly for as long as the store lives; to be spawned beside the serving.
    pub async fn scrub(self: Rc<Self>) {
        crate::scrub::scrub(self).await;
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
            Ok(block) => Ok((BlockAnswer::Stored(block), Vec::new())),
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
        let block = self.packs.append(session.id, id, key, bytes).await?;
        Ok((BlockAnswer::Stored(block), Vec::new()))
    }

    async fn open_block(&self, block: &BlockRef) -> Answered {
        block_bytes(block.length)?;
        match block.place {
            Place::File => {
                let (length, file) = self.files.open(block).await?;
                Ok((BlockAnswer::File { length }, vec![file]))
            }
            Place::Packed { pack, page } => {
                if block.length as usize > PACKED_BYTES_MAX {
                    return Err(BlockError::NoSuchBlock);
                }
                let read = self.packs.read(&block.id, block.length, pack, page);
                Ok((BlockAnswer::Bytes(read.await?), Vec::new()))
            }
        }
    }

    fn usage(&self) -> Result<Usage, BlockError> {
        let room = self.shared.room()?;
        Ok(Usage {
            capacity_bytes: room.capacity_bytes,
            free_bytes: room.free_bytes,
            files: self.files.counted(),
            packs: self.packs.count(),
            damaged: self.shared.damaged.borrow().count(),
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
            BlockCall::Open { block } => return self.open_block(&block).await,
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
            BlockCall::CondemnNext { after, limit } => {
                self.condemn_next(session.id, after, limit).await?
            }
            BlockCall::Condemn { blocks } => self.condemn(session.id, blocks).await?,
            BlockCall::Delete { blocks } => self.delete(session.id, blocks).await?,
            BlockCall::Usage => BlockAnswer::Usage(self.usage()?),
        };
        Ok((answer, Vec::new()))
    }
}

type Answered = Result<(BlockAnswer, Vec<OwnedFd>), BlockError>;

/// Those who show objects and change nothing.
const READERS: [&str; 1] = ["web"];

impl<D: Disk> Serve<Blocks> for Store<D> {
    type Session = Session;

    fn connected(&self, accept: Accept) -> Session {
        Session {
            reads_only: READERS.contains(&accept.client.as_str()),
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
        if session.reads_only && !matches!(call, BlockCall::Open { .. }) {
            let why = "this caller may open blocks and nothing else";
            return (Err(BlockError::Refused(why.into())), Vec::new());
        }
        match self.call(session, call).await {
            Ok((answer, descriptors)) => (Ok(answer), descriptors),
            Err(error) => (Err(error), Vec::new()),
        }
    }
}

fn block_bytes(length: u32) -> Result<(), BlockError> {
    if (1..=BLOCK_BYTES_MAX).contains(&u64::from(length)) {
        return Ok(());
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
