//! Copies on other nodes: every block that is acknowledged is on enough of the nodes that its partition belongs to, and comes to the rest.
//!
//! A store without a [`Placement`] is alone: then nobody is asked and nothing is owed, and the rounds only wait for a placement. With one, a commit is answered when a majority of the partition's nodes has
//! the block ([`courier`] brings it); what is missing then stands in `owed/` on the disk until it is made up ([`owed`]). A block that is asked for and not here comes
//! from the nearest node that has it ([`distances`], [`fetch`]). Before a write takes such blocks into use, metadata asks as of when enough nodes have them ([`confirm`]). A round through all partitions ([`audit`]) makes good what disks have lost and what a new placement moves, and finds the blocks that belong
//! elsewhere; metadata leads their going ([`strays`]).

mod audit;
mod buried;
mod confirm;
mod courier;
mod distances;
mod fetch;
mod homes;
mod inventory;
mod owed;
mod serve;
mod strays;
mod under_way;

#[cfg(test)]
mod tests;

use crate::disk::{Disk, DiskFile, Sync};
use crate::files::Files;
use crate::footer::FOOTER_BYTES;
use crate::packs::Packs;
use crate::pins::{Name, SessionId};
use crate::shared::Shared;
use buried::Buried;
use courier::Courier;
pub(crate) use fetch::Fetched;
use inventory::Arrivals;
use owed::Owed;
use protocol::block::{BlockError, BlockId, BlockRef, HashKey, Place};
use protocol::copies::{CopyAnswer, CopyCall, Placement};
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;
use strays::Strays;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use under_way::UnderWay;

pub(crate) use homes::{Holders, Homes};
pub use serve::CopyService;

/// So long a commit waits for enough copies. Shorter than clients wait for their answer.
const SPREAD_WITHIN: Duration = Duration::from_secs(45);

/// A placement of the most nodes is a few kilobytes.
const PLACEMENT_BYTES_MAX: usize = 64 * 1024;

/// The block-stores of other nodes.
pub trait Peers: 'static {
    /// One call to the node of this name. No call is bounded in time by this.
    fn call<'a>(&'a self, node: &'a str, call: CopyCall) -> PeerAnswer<'a>;

    /// How many bytes have come from the node of this name over the present connection, parts of an answer included: whether a call that takes long gets on.
    fn heard(&self, node: &str) -> u64;
}

/// What comes of [`Peers::call`].
pub type PeerAnswer<'a> = Pin<Box<dyn Future<Output = Result<CopyAnswer, PeerError>> + 'a>>;

/// Why a node did not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerError {
    /// It does not answer.
    Unreachable(String),
    /// It said no.
    Refused(BlockError),
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "does not answer: {why}"),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

/// What a store knows of where blocks belong.
enum Known {
    /// It is alone.
    Alone,
    /// This.
    Placed(Rc<Placement>),
    /// Something that cannot be read any more: nothing is taken until metadata says it again.
    Lost,
}

/// The copies of one store's blocks.
pub(crate) struct Copies<D: Disk> {
    shared: Rc<Shared>,
    files: Rc<Files<D>>,
    packs: Rc<Packs<D>>,
    peers: Rc<dyn Peers>,
    known: RefCell<Known>,
    couriers: RefCell<BTreeMap<String, Rc<Courier>>>,
    fetching: UnderWay<Result<Fetched, BlockError>>,
    /// How many of them nobody has asked for yet.
    ahead: Cell<usize>,
    owed: Owed,
    strays: RefCell<Strays>,
    buried: RefCell<Buried>,
    /// Stores whose disks were put back, as far as that was found out: each is said once.
    known_put_back: RefCell<BTreeSet<u64>>,
    /// For pins of what is being kept.
    own: SessionId,
    arrivals: RefCell<Arrivals>,
    /// The version of the placement at which an audit found every block of this node everywhere that it belongs.
    settled: Cell<u64>,
    /// The placement has changed.
    changed: Notify,
    /// Something may be lacking somewhere that is not owed.
    uneven: Notify,
}

impl<D: Disk> Copies<D> {
    /// What the disk knows.
    pub(crate) async fn open(
        files: Rc<Files<D>>,
        packs: Rc<Packs<D>>,
        peers: Rc<dyn Peers>,
    ) -> Result<Self, Errno> {
        let shared = files.shared.clone();
        let known = match shared.layout.open_placement()? {
            None => Known::Alone,
            Some(file) => match read_placement(&files.disk.adopt(file)).await? {
                Some(placement) => Known::Placed(Rc::new(placement)),
                None => {
                    runtime::error!(
                        "the file `placement` is damaged: nothing is stored until metadata says where copies go"
                    );
                    Known::Lost
                }
            },
        };
        let owed = Owed::open(&shared.layout)?;
        let own = shared.pins.borrow_mut().begin();
        Ok(Self {
            shared,
            files,
            packs,
            peers,
            known: RefCell::new(known),
            couriers: RefCell::default(),
            fetching: UnderWay::default(),
            ahead: Cell::new(0),
            owed,
            strays: RefCell::default(),
            buried: RefCell::default(),
            known_put_back: RefCell::default(),
            own,
            arrivals: RefCell::default(),
            settled: Cell::new(0),
            changed: Notify::new(),
            uneven: Notify::new(),
        })
    }

    /// Whether there are other nodes to think of. Errors where that was known once and is not any more.
    pub(crate) fn are_placed(&self) -> Result<bool, BlockError> {
        match &*self.known.borrow() {
            Known::Alone => Ok(false),
            Known::Placed(_) => Ok(true),
            Known::Lost => Err(BlockError::Refused(
                "this store waits to be told where copies go".into(),
            )),
        }
    }

    /// Where blocks belong, if this node is not alone.
    fn placement(&self) -> Option<Rc<Placement>> {
        match &*self.known.borrow() {
            Known::Placed(placement) => Some(placement.clone()),
            Known::Alone | Known::Lost => None,
        }
    }

    /// Where this block belongs.
    fn homes(&self, id: &BlockId) -> Option<Homes> {
        self.homes_of(id.partition())
    }

    /// Where the blocks of a partition belong.
    fn homes_of(&self, partition: u8) -> Option<Homes> {
        Some(Homes::of(self.placement()?, partition))
    }

    /// Whether this block belongs on other nodes and not on this one.
    fn is_stray(&self, id: &BlockId) -> bool {
        self.homes(id).is_some_and(|homes| homes.here().is_none())
    }

    /// Blocks belong there from now on. On the disk when this returns.
    pub(crate) async fn place(&self, placement: Placement) -> Result<(), BlockError> {
        if !placement.is_sound() {
            let why = "the placement names nodes that it does not list";
            return Err(BlockError::Refused(why.into()));
        }
        if self
            .placement()
            .is_some_and(|known| known.version >= placement.version)
        {
            return Ok(());
        }
        let written = self.write_placement(homes::encode(&placement)?).await;
        written.map_err(|errno| self.shared.system("the file `placement`", errno))?;
        let named = |name: &String| placement.nodes.iter().any(|node| node.name == *name);
        self.couriers.borrow_mut().retain(|name, _| named(name));
        let was_alone = self.placement().is_none();
        *self.known.borrow_mut() = Known::Placed(Rc::new(placement));
        if was_alone {
            // What a node that is alone condemns, it looks up for itself alone.
            self.shared.pins.borrow_mut().lift_all();
        }
        self.changed.notify_one();
        Ok(())
    }

    /// Whole or not at all, whenever the power goes.
    async fn write_placement(&self, bytes: Vec<u8>) -> Result<(), Errno> {
        let (layout, disk) = (&self.shared.layout, &self.files.disk);
        let file = disk.adopt(layout.create_placement()?);
        let (written, _) = file.write_at(bytes, 0).await;
        written?;
        file.sync(Sync::Data).await?;
        layout.use_placement()?;
        disk.adopt(layout.open_root()?).sync(Sync::All).await
    }

    /// Blocks whose copies are owed.
    pub(crate) fn behind(&self) -> u64 {
        self.owed.count()
    }

    /// See [`Copies::settled`].
    pub(crate) fn settled(&self) -> u64 {
        self.settled.get()
    }

    /// The way to a node.
    fn courier(&self, node: &str) -> Rc<Courier> {
        let mut couriers = self.couriers.borrow_mut();
        couriers.entry(node.to_owned()).or_default().clone()
    }

    /// Brings a block that is on this disk to the nodes that it belongs to. When this comes back with success, a majority of them has it, and that the
    /// others have not is on the disk.
    ///
    /// Errors with [`BlockError::TooFewCopies`] where they do not take it in time; then some may have it.
    pub(crate) async fn spread(self: &Rc<Self>, block: &BlockRef) -> Result<(), BlockError> {
        let Some(homes) = self.homes(&block.id) else {
            return Ok(());
        };
        let own = homes.here().map(|own| (own, self.shared.epochs.now()));
        let mut have: Holders = own.into_iter().collect();
        let others = homes.others();
        let (told, mut news) = mpsc::unbounded_channel();
        for node in &others {
            let (copies, block, told, node) = (self.clone(), *block, told.clone(), *node);
            let name = homes.name(node).to_owned();
            // Goes on when this call is over: the last copies are made in the background.
            tokio::task::spawn_local(async move {
                let brought = copies.bring(&name, &block).await;
                let _ = told.send((node, brought));
            });
        }
        drop(told);
        let deadline = Instant::now() + SPREAD_WITHIN;
        let mut refused = Vec::new();
        while !homes.suffice(&have) {
            match tokio::time::timeout_at(deadline, news.recv()).await {
                Ok(Some((node, Ok(epoch)))) => {
                    have.insert(node, epoch);
                }
                Ok(Some((node, Err(error)))) => {
                    refused.push(format!("{} {error}", homes.name(node)));
                }
                Ok(None) => return Err(self.too_few(&homes, &have, refused)),
                Err(_) => {
                    refused.push(format!("nobody else within {} s", SPREAD_WITHIN.as_secs()));
                    return Err(self.too_few(&homes, &have, refused));
                }
            }
        }
        while let Ok((node, brought)) = news.try_recv() {
            if let Ok(epoch) = brought {
                have.insert(node, epoch);
            }
        }
        let is_everywhere = others.iter().all(|node| have.contains_key(node));
        let seen = have.into_values().collect();
        self.shared.pins.borrow_mut().saw(Name::from(block), seen);
        if is_everywhere {
            if homes.here().is_none() {
                self.strays.borrow_mut().add(block.id, block.length);
            }
            return Ok(());
        }
        self.mark_owed(&block.id).await
    }

    /// The block stays on some nodes and not on others, and nobody owes it: the audit makes the nodes alike again.
    fn too_few(&self, homes: &Homes, have: &Holders, refused: Vec<String>) -> BlockError {
        self.audit_soon();
        homes.too_few(have, refused)
    }

    /// The whole block from this disk, checked against its name.
    async fn whole(&self, block: &BlockRef) -> Result<(HashKey, Vec<u8>), BlockError> {
        if let Place::Packed { pack, page } = block.place {
            match self.packs.read(&block.id, block.length, pack, page).await {
                Err(BlockError::NoSuchBlock | BlockError::Damaged) => {}
                other => return other,
            }
        }
        self.files.whole(&block.id).await
    }

    /// Whether the file of this name is on this disk, and not known to be damaged.
    fn has(&self, id: &BlockId) -> Result<bool, BlockError> {
        let unsure = self.files.publishing.is_unsynced(id);
        if unsure || self.shared.damaged.borrow().contains(&Name::File(*id)) {
            return Ok(false);
        }
        Ok(self.files.length(id)?.is_some())
    }

    /// Whether a block of so many bytes may be kept.
    fn has_room_for(&self, bytes: usize) -> Result<bool, BlockError> {
        Ok(self.shared.room()?.free_bytes >= (bytes + FOOTER_BYTES) as u64)
    }

    /// Keeps a whole block as a file: on disk when this returns, also where it was there already.
    pub(crate) async fn keep(
        &self,
        id: &BlockId,
        key: HashKey,
        bytes: Vec<u8>,
    ) -> Result<u32, BlockError> {
        if !crate::check::matches(id, &key, &bytes) {
            return Err(BlockError::Damaged);
        }
        let length = crate::store::block_bytes(u32::try_from(bytes.len()).unwrap_or(u32::MAX))?;
        if !self.has_room_for(bytes.len())? {
            return Err(BlockError::Full);
        }
        let held = Held::pin(self, Name::File(*id));
        self.files.keep(id, key, bytes).await?;
        drop(held);
        // Without a pause since then: whoever is told so now knows that it is here and unmarked.
        Ok(length)
    }
}

/// A pin for as long as this lives: no sweep removes what is being kept.
struct Held<'a> {
    shared: &'a Shared,
    own: SessionId,
    name: Name,
}

impl<'a> Held<'a> {
    fn pin<D: Disk>(copies: &'a Copies<D>, name: Name) -> Self {
        let (shared, own) = (&*copies.shared, copies.own);
        shared.pins.borrow_mut().pin(own, name);
        Self { shared, own, name }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.shared.pins.borrow_mut().unpin(self.own, self.name);
    }
}

/// `None`: it is damaged.
async fn read_placement(file: &impl DiskFile) -> Result<Option<Placement>, Errno> {
    let (read, bytes) = file.read_at(Vec::new(), 0, PLACEMENT_BYTES_MAX).await;
    read?;
    Ok(homes::decode(&bytes))
}

/// A block that is a file.
fn file(id: BlockId, length: u32) -> BlockRef {
    BlockRef {
        id,
        length,
        place: Place::File,
    }
}
