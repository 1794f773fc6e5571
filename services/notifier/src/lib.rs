//! notifier: tells webhooks what happened to objects, one request for each event, in order, until it is taken.
//!
//! Given: `bus` (restricted to metadata, and to the webhooks that the operator has named). Serves: nobody. Calls: metadata, which answers it
//! nothing but the events that wait. Keeps nothing: an event waits in metadata until its webhook has answered 2xx, so what this process
//! forgets when it ends is told again. Absent: any socket of its own, any address, names of machines, TLS.
//!
//! How to read it: [`webhook`] is what the settings say of one, [`telling`] is the loop of one, [`post`] is a request over a connection that
//! the bus has dialled, [`message`] is what is told.

#![forbid(unsafe_code)]

mod connection;
mod message;
mod post;
mod telling;
#[cfg(test)]
mod tests;
mod webhook;

use runtime::{Bus, Given, Link};
use std::fmt;
use std::rc::Rc;
use telling::{Pace, Telling};
use tokio::task::LocalSet;

/// Why the notifier ends.
#[derive(Debug)]
pub enum Error {
    /// It was not packed as its manifest says, or its supervisor has gone.
    Runtime(runtime::Error),
    /// The event loop could not be made.
    Loop(std::io::Error),
    /// A line of the setting `webhooks` is not what init writes. Without the line, which has a password in it.
    Webhook(usize),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => error.fmt(f),
            Self::Loop(error) => write!(f, "event loop: {error}"),
            Self::Webhook(line) => write!(f, "setting webhooks: line {line} is not understood"),
        }
    }
}

impl std::error::Error for Error {}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Self {
        Self::Runtime(error)
    }
}

/// Takes the descriptors, tells each webhook by a task of its own, until its supervisor says stop.
///
/// # Errors
/// See [`Error`]; the supervisor starts the process afresh.
pub fn run(mut given: Given) -> Result<(), Error> {
    let bus = given.channel("bus")?;
    let region = given.setting("region")?;
    let webhooks = webhook::parse(&given.setting("webhooks")?)?;
    let supervisor = given.finish()?; // A descriptor nobody asked for is an error, not a spare.

    let tokio = runtime::event_loop().map_err(Error::Loop)?;
    LocalSet::new().block_on(&tokio, async {
        let bus = Bus::new(bus).map_err(Error::Loop)?;
        let metadata = Rc::new(Link::new(bus.clone(), "metadata"));
        supervisor.ready(format!("{} webhooks", webhooks.len()))?;
        for webhook in webhooks {
            let metadata = metadata.clone();
            let telling = Telling::new(webhook, &region, bus.clone(), metadata, Pace::usual());
            tokio::task::spawn_local(telling.go_on());
        }
        Ok(runtime::supervise(&supervisor, || true).await?)
    })
}
