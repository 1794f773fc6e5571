//! The time since boot, for moments that two processes of a node speak about, and the time of day, for what people and other nodes are told.

use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since boot, suspended time included (CLOCK_BOOTTIME of clock_gettime(2), which is read without a system call): the same in all processes of
/// a node, and nobody sets it.
pub fn since_boot_ms() -> u64 {
    // It fails only for a clock that the kernel does not have; Linux has had this one since 2.6.39.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |now| now.num_milliseconds());
    u64::try_from(now).unwrap_or_default()
}

/// Milliseconds since 1970 by this node's clock, which may be wrong and may jump; 0 before.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
