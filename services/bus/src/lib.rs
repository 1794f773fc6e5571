//! bus: gives descriptors for names. It checks the manifests, makes or connects a socket, hands out both ends and steps aside.
//!
//! Given: `door:init`, `door:membership`, `door:orchestrator` (the doors of the daemons), `supply` (the orchestrator asks here), `client:debug-ssh` (debug-ssh asks here). Serves:
//! `protocol::bus`. Calls: membership, once, to bring it its UDP descriptor. Never carries a byte that two processes exchange:
//! what it keeps of a connection is a duplicate for `shutdown(2)`, on which it neither reads nor writes. It connects out of the node only to
//! addresses that the operator named before the start.
#![forbid(unsafe_code)]

mod connections;
mod doors;
mod sockets;
mod switchboard;
#[cfg(test)]
mod tests;

use manifests::{ManifestError, Policy};
use runtime::Given;
use rustix::io::Errno;
use std::fmt;

use sockets::Sockets;
use switchboard::Switchboard;

/// Why the bus ends.
#[derive(Debug)]
pub enum Error {
    /// It was not packed as its manifest says, or its supervisor has gone.
    Runtime(runtime::Error),
    /// The manifests contradict each other.
    Manifest(ManifestError),
    /// An address cannot be used.
    Socket {
        /// Which of the node's addresses.
        name: &'static str,
        /// What it is.
        address: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// poll(2) failed.
    Poll(Errno),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => error.fmt(f),
            Self::Manifest(error) => error.fmt(f),
            Self::Socket {
                name,
                address,
                errno: Errno::ADDRINUSE,
            } => {
                write!(
                    f,
                    "{name}: {address} is in use by another program: stop it, or choose another address"
                )
            }
            Self::Socket {
                name,
                address,
                errno,
            } => write!(f, "{name}: cannot listen on {address}: {errno}"),
            Self::Poll(errno) => write!(f, "poll: {errno}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Self {
        Self::Runtime(error)
    }
}

/// Takes the descriptors, opens the sockets, closes the door behind the start, connects until its supervisor hangs up.
pub fn run(mut given: Given) -> Result<(), Error> {
    // Other buses are not spoken with yet: the key is proven to nobody.
    drop(given.descriptor("identity")?);
    let doors = [
        ("init", given.channel("door:init")?),
        ("membership", given.channel("door:membership")?),
        ("orchestrator", given.channel("door:orchestrator")?),
    ];
    let supply = given.channel("supply")?;
    let clients = vec![("debug-ssh", given.channel("client:debug-ssh")?)];
    let addresses = sockets::Addresses {
        s3: given.setting("s3")?,
        gossip: given.setting("gossip")?,
        control: sockets::CONTROL.into(),
        // Empty where nobody is to come in by it.
        ssh: Some(given.setting("ssh")?).filter(|address| !address.is_empty()),
        web: Some(given.setting("web")?).filter(|address| !address.is_empty()),
        webhooks: given.setting("webhooks")?,
        mesh: given.setting("mesh")?,
    };
    let policy = Policy::with_extra(&given.settings_named(manifests::SETTING_PREFIX));
    let supervisor = given.finish()?;

    let ready = policy
        .map_err(Error::Manifest)
        .and_then(|policy| Ok((policy, Sockets::open(&addresses)?)));
    let (policy, sockets) = match ready {
        Ok(ready) => ready,
        Err(error) => {
            supervisor.failed(&error)?;
            return Err(error);
        }
    };
    supervisor.ready(format!(
        "s3 {}, gossip {}",
        sockets.s3_address(),
        sockets.gossip_address()
    ))?;
    Switchboard::new(policy, sockets, doors, supply, clients).serve(&supervisor)
}
