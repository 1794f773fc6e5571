//! block-store: keeps immutable blocks on one disk and hands them out as descriptors.
//!
//! Given: `door`, `bus`; its root directory is its data directory. Serves: `protocol::block`, and to the block-stores of other nodes `protocol::copies`.
//! Calls: those.
//!
//! A large block is a file (`files`, `publish`), a small one a record in a pack (`packs`). There is no index: a file is found
//! by its name, a record by the place that metadata keeps. Absent on purpose: any knowledge of objects or buckets, any path
//! from outside, any read of a large block's bytes except to check them.

mod census;
mod check;
mod copies;
pub mod disk;
mod epochs;
mod files;
mod footer;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod layout;
mod packs;
mod passing;
mod peers;
mod pins;
mod publish;
mod record;
mod scrub;
mod shared;
mod store;
mod sweep;
mod sys;
#[cfg(test)]
mod tests;
mod touched;

use disk::Ring;
use peers::Links;
use protocol::block::{BlockError, Blocks};
use runtime::{Bus, Conversations, Given};
use rustix::io::Errno;
use std::fmt;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::time::Duration;

pub use copies::{CopyService, PeerAnswer, PeerError, Peers};
pub use store::{Session, Store};

/// Entries of the ring's submission queue. More I/O than that at a time is submitted in several turns.
const RING_ENTRIES: u32 = 256;
/// After the disk has failed, the time for the last answers to leave, in milliseconds.
const LAST_ANSWERS_MS: u64 = 20;

/// Why the block-store ended.
#[derive(Debug)]
pub enum Error {
    /// Something that it needs was not given, or its supervisor or the bus has gone.
    Given(runtime::Error),
    /// No io_uring: the kernel is too old, or the supervisor injected none.
    Ring(std::io::Error),
    /// The data directory could not be laid out.
    Directory(Errno),
    /// The packs could not be opened.
    Packs(BlockError),
    /// The disk failed while serving; what was not acknowledged may be gone.
    Disk(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(error) => error.fmt(f),
            Self::Ring(error) => write!(f, "io_uring: {error}"),
            Self::Directory(errno) => write!(f, "data directory: {errno}"),
            Self::Packs(error) => write!(f, "packs: {error}"),
            Self::Disk(why) => write!(f, "disk: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// Takes the descriptors, opens the store, serves until the supervisor says stop or the disk fails.
pub fn run(mut given: Given) -> Result<(), Error> {
    let root = given.root().map_err(Error::Given)?;
    let door = given.channel("door").map_err(Error::Given)?;
    let bus = given.channel("bus").map_err(Error::Given)?;
    let supervisor = given.finish().map_err(Error::Given)?;

    let mut ring = tokio_uring::builder();
    ring.entries(RING_ENTRIES);
    // Never torn down: the process ends when this function has returned, and the kernel cancels what is under way.
    let ring = ManuallyDrop::new(tokio_uring::Runtime::new(&ring).map_err(Error::Ring)?);
    ring.block_on(async {
            let bus = Bus::new(bus).map_err(Error::Ring)?;
            let store = Rc::new(Store::open(root, Ring, Rc::new(Links::new(bus))).await?);
            supervisor.ready("blocks").map_err(Error::Given)?;
            tokio::task::spawn_local(store.clone().scrub());
            tokio::task::spawn_local(store.clone().replicate());
            let conversations = Conversations::of::<Blocks, _>(store.clone())
                .and::<protocol::copies::Copies, _>(store.copies());
            tokio::select! {
                served = runtime::serve_all(door, supervisor, conversations) => served.map_err(Error::Given),
                why = store.failed() => {
                    tokio::time::sleep(Duration::from_millis(LAST_ANSWERS_MS)).await;
                    Err(Error::Disk(why))
                }
            }
        })
}
