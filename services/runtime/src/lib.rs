//! The only library that services share: what was given to a process, calls in and out, and a line in the log.
//!
//! A service's life: [`Given::receive`] takes the one message with all its descriptors; the service takes each by its name;
//! [`Given::finish`] refuses what is left over; [`Supervisor::ready`] closes the door behind the start (from then on only the
//! profile's `allow` list works); [`serve`] answers until the supervisor says stop or hangs up.
//! Absent on purpose: paths, addresses, the environment, any way to get a descriptor but by asking the bus.

mod channel;
mod client;
mod clock;
mod doorway;
mod given;
pub mod log;
mod serve;
mod stream;
mod sys;
#[cfg(test)]
mod tests;
pub mod trace;
mod wait;

pub use channel::AsyncChannel;
pub use client::{Bus, CallError, Client, Link};
pub use clock::{since_boot_ms, unix_ms};
pub use doorway::Doorway;
pub use given::{Error, Given, Supervisor};
pub use serve::{CALLS_MAX, Conversations, Serve, event_loop, serve, serve_all, supervise};
pub use stream::{Stream, receive_some, send_some};
pub use wait::{wait, wait_for, wait_on};
