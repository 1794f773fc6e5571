//! s3-frontend: speaks S3 with clients, and turns each request into calls to metadata and
//! block-store.
//!
//! Given: `s3` (a listening socket), `bus` (restricted to two services). Serves: HTTP. Calls:
//! metadata, block-store. It keeps nothing: what it remembers is checked with every use, and all of
//! it may be lost at any moment. Absent: any path, any address, any file opened by name; the bytes
//! of large objects on their way out.
//!
//! How to read it: [`server`] accepts a connection and gives its requests to [`request`], which
//! finds the caller ([`admission`]), the operation, and calls one file of [`operations`]. Follow
//! `operations/put_object.rs`.

#![deny(unsafe_code)]

mod access;
mod activity;
mod admission;
mod answer;
mod blocks;
mod body;
mod budget;
mod cors;
mod credentials;
mod crew;
mod encryption;
mod facts;
mod limits;
mod metadata;
mod operations;
mod relay;
mod request;
mod server;
mod sys;
mod worker;

use crew::Crew;
use runtime::Given;
use std::fmt;
use std::io;

/// Why the front end ended.
#[derive(Debug)]
pub enum Error {
    /// What was given is not what is needed, or the supervisor has gone.
    Runtime(runtime::Error),
    /// A thread or its event loop could not be made, or the listener failed.
    System(&'static str, io::Error),
    /// The bus has gone: no service can be reached any more.
    BusGone,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => error.fmt(f),
            Self::System(what, error) => write!(f, "{what}: {error}"),
            Self::BusGone => write!(f, "the bus has hung up"),
        }
    }
}

impl std::error::Error for Error {}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Self {
        Self::Runtime(error)
    }
}

/// Takes the descriptors, starts the threads, serves until the supervisor says stop.
///
/// # Errors
/// See [`Error`]; the supervisor starts the process afresh.
pub fn run(mut given: Given) -> Result<(), Error> {
    let listener = given.listener("s3")?;
    let bus = given.channel("bus")?;
    let region = given.setting("region")?;
    let hosts = worker::hosts(&given.setting("host")?);
    let supervisor = given.finish()?; // A descriptor nobody asked for is an error, not a spare.

    let crew = Crew::start(&worker::Settings {
        region,
        hosts,
        newest_revision: Default::default(),
    })?;
    crew.serve(listener, bus, &supervisor)
}
