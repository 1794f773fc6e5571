//! Every bound of the front end, by name. Together they keep the process below its memory limit and
//! its descriptor limit.

use std::time::Duration;

/// The most threads that serve; more than eight cores are not what a home has.
pub const WORKERS_MAX: usize = 8;
/// The most client connections of the whole process. Beyond it the connection that is idle longest
/// is closed, and if none is idle the new one. With a socket and [`FILES_PER_CONNECTION`] each,
/// they stay below `open_files` in the manifest; with some 45 KiB of buffers each, about at half of
/// `memory_mb`.
pub const CONNECTIONS_MAX: usize = 3_000;
/// The block file that is being sent or filled, the next one, and one that is being opened.
pub const FILES_PER_CONNECTION: usize = 3;
/// Accepted sockets that wait for one thread to take them over.
pub const HANDED_OVER_MAX: usize = 128;

/// The most bytes of a request's head. AWS allows 8 KiB of headers; a presigned URL with a long key
/// comes on top.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// The most header lines of a request.
pub const HEADERS_MAX: usize = 128;
/// What hyper reads at once of a body, and what it holds of an answer before it waits for the
/// client.
pub const BUFFER_BYTES_MAX: usize = 32 * 1024;

/// What one upload may hold in memory: hyper's buffer, the piece in hand, a chunk that is being
/// encrypted, and a block that is too small for a file.
pub const UPLOAD_KIB: u32 = 256;
/// What one answer may hold in memory where blocks are packed: one that is being sent and one that
/// is waiting, [`protocol::block::PACKED_BYTES_MAX`] each.
pub const PACKED_KIB: u32 = 64;
const _: () = assert!(protocol::block::PACKED_BYTES_MAX <= PACKED_KIB as usize * 1024);
/// What all requests may hold beside their connections' own buffers, in KiB, shared evenly by the
/// threads; see [`crate::budget`].
pub const BUDGET_KIB: u32 = 96 * 1024;
/// How long a request waits for its share of that before it is told to slow down.
pub const BUDGET_WAIT: Duration = Duration::from_secs(10);

/// The largest object in one PUT, and the largest part (S3: 5 GiB).
pub const PUT_BYTES_MAX: u64 = 5 << 30;
/// The blocks of one upload that may be under way to the disk while the next is being received.
pub const COMMITS_MAX: usize = 2;
/// Block files that one thread fills at a time; below the store's own bound of
/// [`protocol::block::WRITERS_MAX`] per connection.
pub const WRITERS_MAX: usize = 200;
const _: () = assert!(WRITERS_MAX < protocol::block::WRITERS_MAX);

/// Credentials that one thread remembers.
pub const CREDENTIALS_MAX: usize = 1_024;
/// The texts of policies that one thread remembers parsed, in bytes.
pub const POLICIES_BYTES_MAX: usize = 512 * 1024;
/// How often a call is repeated because keys or buckets have changed meanwhile, or a copy's source
/// has.
pub const CHANGES_MAX: u32 = 8;
/// How long a read goes on asking while metadata has no leader: as long as the bus waits for a
/// service that restarts.
pub const UNAVAILABLE_WAIT: Duration = Duration::from_millis(protocol::bus::CONNECT_WAIT_MS);

/// From the first byte of a request to the end of its head, in seconds: whoever drips headers is
/// cut off.
pub const HEAD_S: u64 = 15;
/// A connection between two requests, in seconds.
pub const IDLE_S: u64 = 120;
/// A client that takes nothing of its answer, in seconds.
pub const STALL_S: u64 = 60;
/// The wait for the next piece of a body.
pub const BODY_STALL: Duration = Duration::from_secs(30);
/// All waits for a body together may last [`BODY_STALL`] and one second more for each so many
/// bytes.
pub const BODY_BYTES_PER_S_MIN: u64 = 1_024;
/// The most bytes of a body that are read away behind an error so that the connection can go on.
pub const DRAIN_BYTES_MAX: u64 = 64 * 1024;
/// How long that may take.
pub const DRAIN: Duration = Duration::from_secs(2);
/// Where the connection ends after an error: how much and how long is read away so that the client
/// sees the answer and no reset.
pub const LINGER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// See [`LINGER_BYTES_MAX`].
pub const LINGER: Duration = Duration::from_secs(5);
/// How long requests under way may go on when the supervisor says stop; it kills after five seconds.
pub const FINISH: Duration = Duration::from_secs(4);
/// A thread that has not looked at its clock for so long does not count as alive, in seconds.
pub const TICK_S_MAX: u64 = 5;
