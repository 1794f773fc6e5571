//! Reading and setting the clock: adjtimex(2), which no library has.
#![allow(unsafe_code, reason = "clock_adjtime(2)")]

use rustix::io::Errno;

/// What the clock is told after it was set: no more than this far off, in microseconds.
const ERROR_US: i64 = 100_000;

/// Moves the clock by `nanoseconds` at once. Needs CAP_SYS_TIME.
pub(crate) fn step(nanoseconds: i128) -> Result<(), Errno> {
    let mut change = empty();
    change.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
    // The fraction is never negative.
    change.time.tv_sec =
        i64::try_from(nanoseconds.div_euclid(1_000_000_000)).map_err(|_| Errno::RANGE)?;
    change.time.tv_usec = nanoseconds.rem_euclid(1_000_000_000) as i64;
    adjust(&mut change)?;
    vouch()
}

/// Lets the clock make up for `nanoseconds` by running up to 500 ppm faster or slower. Needs CAP_SYS_TIME.
pub(crate) fn slew(nanoseconds: i128) -> Result<(), Errno> {
    let mut change = empty();
    change.modes = libc::ADJ_OFFSET_SINGLESHOT;
    change.offset = i64::try_from(nanoseconds / 1_000).map_err(|_| Errno::RANGE)?;
    adjust(&mut change)?;
    vouch()
}

/// Tells the kernel that the clock is right: it then keeps the machine's own clock right, too (every 11 minutes).
fn vouch() -> Result<(), Errno> {
    let mut change = empty();
    change.modes = libc::ADJ_STATUS | libc::ADJ_MAXERROR | libc::ADJ_ESTERROR;
    change.maxerror = ERROR_US;
    change.esterror = ERROR_US;
    adjust(&mut change)
}

fn empty() -> libc::timex {
    // SAFETY: the struct has integers only, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

fn adjust(change: &mut libc::timex) -> Result<(), Errno> {
    // SAFETY: the kernel reads and writes exactly the struct behind the pointer, which is ours.
    match unsafe { libc::clock_adjtime(libc::CLOCK_REALTIME, change) } {
        -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
        _ => Ok(()),
    }
}
