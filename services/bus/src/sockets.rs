//! The sockets of the node: the only place in Trousseau where an address is used.

use crate::Error;
use manifests::Outside;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
    sockopt,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Connections that wait to be accepted, on each listener.
const BACKLOG: i32 = 1_024;
/// The control socket's name in the bus's own root directory.
pub(crate) const CONTROL: &str = "/control.sock";

/// Where the node listens, and where it may connect to, as its operator wrote it.
pub(crate) struct Addresses {
    pub(crate) s3: String,
    pub(crate) gossip: String,
    pub(crate) control: String,
    pub(crate) ssh: Option<String>,
    pub(crate) web: Option<String>,
    /// See [`Outside::addresses`].
    pub(crate) webhooks: String,
    /// Where other buses reach this one; empty: nowhere.
    pub(crate) mesh: String,
}

/// Open sockets. The bus keeps each for as long as it lives, so clients that come while a service restarts wait in the
/// listener's queue instead of being refused.
pub(crate) struct Sockets {
    s3: OwnedFd,
    control: OwnedFd,
    gossip: OwnedFd,
    ssh: Option<OwnedFd>,
    web: Option<OwnedFd>,
    /// The addresses outside of the node, by the operator's names.
    webhooks: BTreeMap<String, SocketAddr>,
    mesh: String,
}

impl Sockets {
    /// Opens all of them, or says which cannot be.
    pub(crate) fn open(addresses: &Addresses) -> Result<Self, Error> {
        let fails = |name, address: &str| {
            let address = address.to_owned();
            move |errno| Error::Socket {
                name,
                address,
                errno,
            }
        };
        let optional = |name, address: &Option<String>| {
            let address = address.as_deref();
            let opened = address.map(|at| tcp_listener(at).map_err(fails(name, at)));
            opened.transpose()
        };
        Ok(Self {
            s3: tcp_listener(&addresses.s3).map_err(fails("s3", &addresses.s3))?,
            control: control_listener(&addresses.control)
                .map_err(fails("control", &addresses.control))?,
            gossip: udp_socket(&addresses.gossip).map_err(fails("gossip", &addresses.gossip))?,
            ssh: optional("ssh", &addresses.ssh)?,
            web: optional("web", &addresses.web)?,
            webhooks: Outside::addresses(&addresses.webhooks)
                .ok_or(Errno::INVAL)
                .map_err(fails("webhooks", &addresses.webhooks))?,
            mesh: addresses.mesh.clone(),
        })
    }

    /// The address outside of the node that the operator calls so.
    pub(crate) fn outside(&self, kind: Outside, name: &str) -> Option<SocketAddr> {
        match kind {
            Outside::Webhook => self.webhooks.get(name).copied(),
        }
    }

    /// The listener of that name, as manifests write it.
    pub(crate) fn listener(&self, name: &str) -> Option<BorrowedFd<'_>> {
        match name {
            "s3" => Some(self.s3.as_fd()),
            "control" => Some(self.control.as_fd()),
            "ssh" => self.ssh.as_ref().map(AsFd::as_fd),
            "web" => self.web.as_ref().map(AsFd::as_fd),
            _ => None,
        }
    }

    pub(crate) fn gossip(&self) -> BorrowedFd<'_> {
        self.gossip.as_fd()
    }

    pub(crate) fn gossip_address(&self) -> String {
        address_of(self.gossip.as_fd())
    }

    pub(crate) fn mesh_address(&self) -> String {
        self.mesh.clone()
    }

    pub(crate) fn s3_address(&self) -> String {
        address_of(self.s3.as_fd())
    }
}

fn address_of(socket: BorrowedFd<'_>) -> String {
    let address = rustix::net::getsockname(socket).ok();
    let address = address.and_then(|any| SocketAddr::try_from(any).ok());
    address.map_or_else(|| "?".into(), |address| address.to_string())
}

/// A TCP connection that does not block, and may still be under way when this returns.
pub(crate) fn dial(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = inet_socket(&address, SocketType::STREAM)?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

fn inet_socket(address: &SocketAddr, kind: SocketType) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(family, kind, flags, None)
}

fn tcp_listener(address: &str) -> Result<OwnedFd, Errno> {
    let address: SocketAddr = address.parse().map_err(|_| Errno::INVAL)?;
    let socket = inet_socket(&address, SocketType::STREAM)?;
    // A node that comes back at once must not wait for the connections of its earlier life to time out.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn udp_socket(address: &str) -> Result<OwnedFd, Errno> {
    let address: SocketAddr = address.parse().map_err(|_| Errno::INVAL)?;
    let socket = inet_socket(&address, SocketType::DGRAM)?;
    bind(&socket, &address)?;
    Ok(socket)
}

/// The operator's socket. The directory that it lies in is open to the node's owner only (init sees to it).
fn control_listener(path: &str) -> Result<OwnedFd, Errno> {
    match rustix::fs::unlink(path) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let bound = bind(&socket, &SocketAddrUnix::new(path)?);
    rustix::process::umask(before);
    bound?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}
