//! The only library that services share: what was given to a process, calls in and out, and a line in the log.
//!
//! A service's life: [`Given::receive`] takes the one message with all its descriptors; the service takes each by its name;
//! [`Given::finish`] refuses what is left over; [`Supervisor::ready`] closes the door behind the start (from then on only the
//! profile's `allow` list works); [`serve`] answers until the supervisor says stop or hangs up.
//! Absent on purpose: paths, addresses, the environment, any way to get a descriptor but by asking the bus.

mod client;
mod doorway;
mod given;
pub mod log;
mod serve;
mod sys;
pub mod trace;
mod wait;

pub use client::{Bus, CallError, Client, Link};
pub use doorway::Doorway;
pub use given::{Error, Given, Supervisor};
pub use serve::{AsyncChannel, CALLS_MAX, Serve, event_loop, serve, supervise};
pub use wait::{wait, wait_for};
