//! debug-ssh: people with an authorised key say the operator's verbs over SSH. No shell, no program, no forwarding, no file.
//!
//! Given: `bus`, `authorized-keys`, `host-key` (sealed memory files, read once); the listener `ssh` comes from the bus. Serves: people.
//! Calls: the console, for every verb. It obeys nothing by itself: whoever takes this process over can say verbs and nothing else.
//!
//! One process for all connections: what bounds strangers (so many from one address, so many that have not logged in) must be counted
//! in one place, and a process for each connection would let strangers make the supervisor start processes. So the connections are few
//! ([`admission`]), each has a bound of time and bytes until it has logged in ([`gate`]), and a fault ends all of them at once and nothing
//! more: verbs are short, and init starts this process again.
#![forbid(unsafe_code)]

mod admission;
mod authority;
mod console;
mod editor;
mod gate;
mod interactive;
mod person;
#[cfg(test)]
mod tests;
mod transport;
mod words;

use admission::Admission;
use authority::Authority;
use console::Console;
use runtime::{Bus, CallError, Given};
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::task::LocalSet;

/// Why debug-ssh ends.
#[derive(Debug)]
pub enum Error {
    /// It was not packed as its manifest says, or its supervisor has gone.
    Runtime(runtime::Error),
    /// The event loop could not be made, or the listener not be used.
    Loop(io::Error),
    /// A memory file with keys could not be read.
    Keys(io::Error),
    /// The host key is not 64 hexadecimal digits.
    HostKey,
    /// The bus gave no listener.
    Listener(CallError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => error.fmt(f),
            Self::Loop(error) => write!(f, "event loop: {error}"),
            Self::Keys(error) => write!(f, "memory file of keys: {error}"),
            Self::HostKey => write!(
                f,
                "ssh/host_key in the data directory is not 64 hexadecimal digits: remove it, and a new one is made"
            ),
            Self::Listener(error) => write!(f, "the bus gave no listener: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Self {
        Self::Runtime(error)
    }
}

/// What all connections share.
struct House {
    /// The node's name, for the prompt.
    node: String,
    authority: Authority,
    console: Console,
    admission: Arc<Admission>,
}

/// Takes the descriptors, reads the keys, closes the door behind the start, lets people in until its supervisor says stop.
pub fn run(mut given: Given) -> Result<(), Error> {
    let bus = given.channel("bus")?;
    let authorized = read(given.descriptor("authorized-keys")?)?;
    let host_key = read(given.descriptor("host-key")?)?;
    let node = given.setting("node")?;
    let supervisor = given.finish()?;

    let (authority, mistakes) = Authority::read(&String::from_utf8_lossy(&authorized));
    for mistake in mistakes {
        runtime::warn!("authorized keys: {mistake}");
    }
    let host_key = authority::host_key(&host_key).ok_or(Error::HostKey)?;
    let fingerprint = authority::fingerprint(host_key.public_key());
    let config = Arc::new(transport::config(host_key));
    let tokio = runtime::event_loop().map_err(Error::Loop)?;
    LocalSet::new().block_on(&tokio, async {
        let bus = Bus::new(bus).map_err(Error::Loop)?;
        let listener = bus.listen("ssh").await.map_err(Error::Listener)?;
        let listener = TcpListener::from(listener);
        listener.set_nonblocking(true).map_err(Error::Loop)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(Error::Loop)?;
        let keys = authority.len();
        let house = Arc::new(House {
            node,
            authority,
            console: Console::new(bus),
            admission: Arc::new(Admission::default()),
        });
        supervisor.ready(format!("host key {fingerprint}, {keys} authorised keys"))?;
        tokio::select! {
            ended = runtime::supervise(&supervisor, || true) => ended.map_err(Error::Runtime),
            ended = transport::serve(listener, config, house) => ended.map_err(Error::Loop),
        }
    })
}

/// The whole of a memory file. Its maker bounds it; so do we.
fn read(file: OwnedFd) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; authority::FILE_BYTES_MAX];
    let count =
        rustix::io::pread(&file, &mut bytes, 0).map_err(|errno| Error::Keys(errno.into()))?;
    bytes.truncate(count);
    Ok(bytes)
}
