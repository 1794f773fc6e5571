//! bus: gives descriptors for names. It checks the manifests, makes or connects a socket, hands out both ends and steps aside; on two nodes,
//! each bus does its half, over a TLS session of the nodes' keys that it then hands on.
//!
//! Given: `identity` (the seed of the node's key), `door:init`, `door:membership`, `door:orchestrator` (the doors of the daemons), `supply` (the orchestrator asks here), `client:debug-ssh` (debug-ssh asks here). Serves:
//! `protocol::bus`, and other buses `protocol::mesh`. Calls: membership, to bring it its UDP descriptor and to ask whose keys count. Never carries a byte that two processes exchange:
//! what it keeps of a connection is a duplicate for `shutdown(2)`, on which it neither reads nor writes. It connects out of the node only to
//! addresses that the operator named before the start, and to nodes of the roster, or of the token that this node was started with.
#![forbid(unsafe_code)]

mod across;
mod connections;
mod doors;
mod mesh;
mod placed;
mod sockets;
mod switchboard;
#[cfg(test)]
mod tests;

use manifests::{ManifestError, Policy};
use runtime::Given;
use rustix::io::Errno;
use std::fmt;
use std::os::fd::OwnedFd;

use across::Others;
use mesh::{Identity, Records};
use sockets::Sockets;
use switchboard::Switchboard;

/// What the bus does with a session where the kernel does TLS, for the test that has such a kernel.
#[cfg(feature = "ktls-test")]
pub mod kernel_tls {
    use crate::mesh::{Keys, take_over};
    use protocol::relay::RecordKeys;
    use std::os::fd::BorrowedFd;

    /// As at the start of the bus: why the kernel does not do it.
    pub fn is_there() -> Result<(), String> {
        match crate::mesh::Records::of_this_host() {
            crate::mesh::Records::Kernel => Ok(()),
            crate::mesh::Records::Relay(missing) => Err(missing.to_string()),
        }
    }

    /// Gives the kernel the keys of a connection.
    pub fn give(socket: BorrowedFd<'_>, seal: RecordKeys, open: RecordKeys) -> Result<(), String> {
        take_over(socket, &Keys { seal, open }).map_err(|missing| missing.to_string())
    }
}

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
    /// What was given as the seed of the node's key is none.
    Identity(Errno),
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
            Self::Identity(errno) => write!(f, "the seed of the node's key: {errno}"),
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
    let doors = [
        ("init", given.channel("door:init")?),
        ("membership", given.channel("door:membership")?),
        ("orchestrator", given.channel("door:orchestrator")?),
    ];
    let supply = given.channel("supply")?;
    let seed = given.descriptor("identity")?;
    let clients = vec![("debug-ssh", given.channel("client:debug-ssh")?)];
    let addresses = sockets::Addresses {
        s3: given.setting("s3")?,
        gossip: given.setting("gossip")?,
        control: sockets::CONTROL.into(),
        // Empty where nobody is to come in by it.
        ssh: Some(given.setting("ssh")?).filter(|address| !address.is_empty()),
        web: Some(given.setting("web")?).filter(|address| !address.is_empty()),
        webhooks: given.setting("webhooks")?,
        mesh: Some(given.setting("mesh")?).filter(|address| !address.is_empty()),
    };
    let policy = Policy::with_extra(&given.settings_named(manifests::SETTING_PREFIX));
    let supervisor = given.finish()?;

    let ready = policy.map_err(Error::Manifest).and_then(|policy| {
        let sockets = Sockets::open(&addresses)?;
        let others = match sockets.mesh() {
            Some(_) => Some((identity(&seed)?, Records::of_this_host())),
            None => None,
        };
        Ok((policy, sockets, others))
    });
    drop(seed); // nothing in here needs it any more
    let (policy, sockets, others) = match ready {
        Ok(ready) => ready,
        Err(error) => {
            supervisor.failed(&error)?;
            return Err(error);
        }
    };
    supervisor.ready(about(&sockets, others.as_ref()))?;
    let others = others.map(|(identity, records)| Others::new(identity, records));
    Switchboard::new(policy, sockets, doors, supply, clients, others).serve(&supervisor)
}

/// The first line is for the log; each further one is something that the host does not give.
fn about(sockets: &Sockets, others: Option<&(Identity, Records)>) -> String {
    let (s3, gossip, mesh) = (
        sockets.s3_address(),
        sockets.gossip_address(),
        sockets.mesh_address(),
    );
    match others {
        None => format!("s3 {s3}, gossip {gossip}"),
        Some((identity, Records::Kernel)) => format!(
            "s3 {s3}, gossip {gossip}, mesh {mesh} with TLS in the kernel, node key {}",
            identity.key()
        ),
        Some((identity, Records::Relay(missing))) => format!(
            "s3 {s3}, gossip {gossip}, mesh {mesh} with TLS in the relay, node key {}\n\
             TLS between nodes in the kernel ({missing}): the relay does it, at more cost",
            identity.key()
        ),
    }
}

/// The node's key, from its seed in a sealed memory file.
fn identity(seed: &OwnedFd) -> Result<Identity, Error> {
    let mut bytes = [0; 32];
    let count = rustix::io::pread(seed, &mut bytes, 0).map_err(Error::Identity)?;
    if count != bytes.len() {
        return Err(Error::Identity(Errno::NODATA));
    }
    Identity::from_seed(&bytes).map_err(|_| Error::Identity(Errno::INVAL))
}
