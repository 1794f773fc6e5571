//! Every bound of the front end, by name. Together they keep the process below its memory limit and
//! its descriptor limit.

use std::time::Duration;

/// How many connections are kept, by a process or by one of its threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// All of them.
    pub connections: usize,
    /// Those at work.
    pub working: usize,
}

impl Room {
    /// What the manifests are made for.
    pub const FULL: Self = Self {
        connections: CONNECTIONS_MAX,
        working: WORKING_MAX,
    };

    /// As much of it as `files` descriptors suffice for. A host may give an ordinary user fewer than
    /// the manifest says; then half of them are for the files of those at work.
    pub fn within(files: u64) -> Self {
        let files = usize::try_from(files).unwrap_or(usize::MAX);
        let for_clients = files.saturating_sub(FILES_SPARE.min(files / 4));
        let working = WORKING_MAX.min(for_clients / 2 / FILES_PER_CONNECTION);
        let connections = for_clients.saturating_sub(working * FILES_PER_CONNECTION);
        Self {
            connections: CONNECTIONS_MAX.min(connections),
            working,
        }
    }

    /// The share of one of so many threads.
    pub fn share(self, threads: usize) -> Self {
        Self {
            connections: (self.connections / threads).max(1),
            working: (self.working / threads).max(1),
        }
    }
}

/// The most threads that serve; more than eight cores are not what a home has.
pub const WORKERS_MAX: usize = 8;
/// The most client connections of the whole process. Beyond it the connection that is idle longest
/// is closed, and if none is idle the new one.
pub const CONNECTIONS_MAX: usize = 12_000;
/// How many of them may be at work at a time, with buffers; see [`crate::connections`]. Who has a
/// request beyond it waits for one of them to become idle.
pub const WORKING_MAX: usize = 2_000;
/// What one of them takes at rest, in KiB: the kernel's socket for the most part, which a machine's
/// cgroup counts, too.
const RESTING_KIB: usize = 6;
/// What one of them takes at work without what [`BUDGET_KIB`] counts: buffers of hyper's, the head
/// of a request and what becomes of it.
const WORKING_KIB: usize = 48;
/// After how long without a request a connection gives back everything but its socket, in seconds.
pub const REST_S: u64 = 1;
/// The free memory in between what is used is given back to the kernel when so many connections of a
/// thread went to rest …
pub const TRIM_RESTED: usize = 256;
/// … and the last time is so many seconds ago: whoever comes back often shall find it warm.
pub const TRIM_S: u64 = 10;
/// The block file that is being sent or filled, the next one, and one that is being opened.
pub const FILES_PER_CONNECTION: usize = 3;
/// Accepted sockets that wait for one thread to take them over.
pub const HANDED_OVER_MAX: usize = 128;
/// Descriptors beside those of connections: event loops, lines to other services, sockets that are
/// being handed over or closed, block files that are remembered.
pub const FILES_SPARE: usize = 2_000;
const _: () = assert!(WORKERS_MAX * (HANDED_OVER_MAX + REMEMBERED_FILES_MAX + 32) <= FILES_SPARE);
/// `open_files` in the manifests.
const FILES: usize = 20_000;
const _: () = assert!(
    CONNECTIONS_MAX + WORKING_MAX * FILES_PER_CONNECTION + FILES_SPARE <= FILES,
    "every connection that is kept has its descriptors"
);

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
pub const BUDGET_KIB: u32 = 76 * 1024;
/// Packed blocks that were opened a moment ago, shared evenly by the threads; see
/// [`crate::blocks`].
pub const REMEMBERED_KIB: usize = 4 * 1024;
/// Block files that one thread has opened a moment ago and keeps.
pub const REMEMBERED_FILES_MAX: usize = 64;
/// Blocks that one thread knows to have been asked for a moment ago.
pub const REMEMBERED_NOTES_MAX: usize = 1_024;
/// How long all this is kept, in seconds from the first opening.
pub const REMEMBERED_S: u64 = 5;
/// What the process takes before anybody comes, with what it remembers of keys and policies.
const ALONE_KIB: usize = 10 * 1024;
/// `memory_mb` in the manifests.
const MEMORY_KIB: usize = 256 * 1024;
const _: () = assert!(
    CONNECTIONS_MAX * RESTING_KIB
        + WORKING_MAX * WORKING_KIB
        + BUDGET_KIB as usize
        + REMEMBERED_KIB
        + ALONE_KIB
        <= MEMORY_KIB,
    "all connections, as many of them at work as may be, and all that requests may hold"
);
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
/// The same while another connection has a request and waits for a place at work: so it gets one
/// from who only drips, and long before it is given up itself.
pub const HEAD_PRESSED_S: u64 = 3;
const _: () = assert!(HEAD_PRESSED_S < HEAD_S);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifests_give_what_the_bounds_are_made_for() {
        for manifest in [
            include_str!("../../s3-frontend/manifest.toml"),
            include_str!("../../web/manifest.toml"),
        ] {
            for limit in [
                format!("open_files = {FILES} "),
                format!("memory_mb = {}\n", MEMORY_KIB / 1024),
            ] {
                assert!(manifest.contains(&limit), "{limit}");
            }
        }
        assert_eq!(Room::within(FILES as u64), Room::FULL);
    }

    #[test]
    fn fewer_descriptors_mean_fewer_connections_but_never_too_few_files() {
        for files in [16, 64, 1_024, 4_096, 10_000, 20_000, 1_000_000, u64::MAX] {
            let room = Room::within(files);
            let used = room.connections + room.working * FILES_PER_CONNECTION;
            assert!((used as u64) < files, "{files}: {room:?}");
            assert!(room.working >= 1 && room.connections > room.working);
        }
        let room = Room::within(1_024);
        assert_eq!((room.connections, room.working), (384, 128));
    }
}
