//! Consensus: each shard is a Raft group of its own (openraft), all over one database.
//!
//! The rest of the service knows [`Consensus`] and nothing of openraft. A single node is a group with one voter, so what is
//! tested here is what the cluster runs.

mod disk;
mod group;
mod health;
mod log;
mod machine;
mod merger;
mod network;
mod serving;
mod shard;
mod snapshot;
mod store;
mod types;
mod writer;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use disk::stop_time_while_a_disk_works;
pub use group::{Group, Members};
pub use shard::Shard;
pub use snapshot::{CHUNK_BYTES_MAX, Snapshot, Staged, View};
pub use store::{Me, Store, number_of};
pub use types::Peer;

use crate::Error;
use crate::state::{Command, Outcome, Rows};
use protocol::metadata::Shard as Status;

/// One shard, as the rest of the service sees it.
pub trait Consensus {
    /// The state's rows.
    type State: Rows;

    /// Commits and applies a command: on the disks of a majority when it comes back, and seen by every later read.
    ///
    /// An error says that there is no leader here, or no majority; then the command may happen nevertheless. If the process dies
    /// half-way, it happened wholly or not at all.
    fn propose(&self, command: Command) -> impl Future<Output = Result<Outcome, Error>>;

    /// The rows, with everything in them that was answered before this call. Errors if another node may have taken over.
    fn read(&self) -> impl Future<Output = Result<&Self::State, Error>>;

    /// Makes these the voters. They catch up first, so this may take long; repeating it is harmless.
    fn change_members(&self, members: Vec<(u64, Peer)>) -> impl Future<Output = Result<(), Error>>;

    /// The whole state at one moment, in chunks.
    fn snapshot(&self) -> impl Future<Output = Result<View, Error>>;

    /// For the operator.
    fn status(&self) -> Status;
}
