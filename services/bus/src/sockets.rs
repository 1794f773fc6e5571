//! The sockets of the node: the only place in Trousseau where an address is used.

use crate::Error;
use manifests::Outside;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, acceptfrom_with, bind, connect,
    getsockname, listen, socket_with, sockopt,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Connections that wait to be accepted, on each listener.
const BACKLOG: i32 = 1_024;
/// What was sent to another node is confirmed within so many milliseconds, or the connection is over (tcp(7), TCP_USER_TIMEOUT).
const SILENCE_MS: u32 = 20_000;
/// While nothing is sent, it is asked whether it is still there so often.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
/// A connection within the node takes longer only where something is broken.
const LOOPBACK_WITHIN: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};
/// How long a datagram socket may still be with whom the former bus gave it.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(3);
/// How often it is looked for.
const LOOK_AGAIN: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};
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
    /// Where other nodes' buses come in.
    pub(crate) mesh: Option<String>,
}

/// Open sockets. The bus keeps each for as long as it lives, so clients that come while a service restarts wait in the
/// listener's queue instead of being refused.
pub(crate) struct Sockets {
    s3: OwnedFd,
    control: OwnedFd,
    gossip: OwnedFd,
    ssh: Option<OwnedFd>,
    web: Option<OwnedFd>,
    mesh: Option<OwnedFd>,
    /// The addresses outside of the node, by the operator's names.
    webhooks: BTreeMap<String, SocketAddr>,
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
            mesh: optional("mesh", &addresses.mesh)?,
            webhooks: Outside::addresses(&addresses.webhooks)
                .ok_or(Errno::INVAL)
                .map_err(fails("webhooks", &addresses.webhooks))?,
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

    /// Where other nodes' buses come in. No service is given it.
    pub(crate) fn mesh(&self) -> Option<BorrowedFd<'_>> {
        self.mesh.as_ref().map(AsFd::as_fd)
    }

    /// Its address; empty: other nodes' buses do not come in.
    pub(crate) fn mesh_address(&self) -> String {
        self.mesh().map(address_of).unwrap_or_default()
    }

    pub(crate) fn gossip(&self) -> BorrowedFd<'_> {
        self.gossip.as_fd()
    }

    pub(crate) fn gossip_address(&self) -> String {
        address_of(self.gossip.as_fd())
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

/// One that has come in at a mesh listener, ready to speak; and from which address.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> Result<(OwnedFd, IpAddr), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (socket, from) = acceptfrom_with(listener, flags)?;
    let from = from.and_then(|any| SocketAddr::try_from(any).ok());
    let from = from.ok_or(Errno::CONNABORTED)?;
    long_lived(socket.as_fd())?;
    Ok((socket, from.ip().to_canonical()))
}

/// Whether a connection that was under way is made, or how it failed. Then it is ready to speak.
pub(crate) fn is_connected(socket: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut set = [PollFd::from_borrowed_fd(socket, PollFlags::OUT)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    if poll(&mut set, Some(&now))? == 0 {
        return Ok(false);
    }
    sockopt::socket_error(socket)??;
    long_lived(socket)?;
    Ok(true)
}

/// A connection between nodes: no message waits for the next (tcp(7), TCP_NODELAY), and a node that has lost its power or its line is noticed.
fn long_lived(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_tcp_user_timeout(socket, SILENCE_MS)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_EVERY)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_EVERY)
}

/// Two ends of a TCP connection within this node, to try something on.
pub(crate) fn loopback_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = inet_socket(&address, SocketType::STREAM)?;
    bind(&listener, &address)?;
    listen(&listener, 1)?;
    let address = SocketAddr::try_from(getsockname(&listener)?)?;
    let one = dial(address)?;
    // On a busy machine the kernel makes it a moment later.
    for (end, event) in [
        (listener.as_fd(), PollFlags::IN),
        (one.as_fd(), PollFlags::OUT),
    ] {
        poll(
            &mut [PollFd::from_borrowed_fd(end, event)],
            Some(&LOOPBACK_WITHIN),
        )?;
    }
    let (other, _) = accept(listener.as_fd())?;
    match is_connected(one.as_fd())? {
        true => Ok((one, other)),
        false => Err(Errno::TIMEDOUT),
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

/// Where the bus starts anew, membership has the socket that the former one brought it until it notices the end, so that is waited for. (SO_REUSEADDR would
/// not wait, but would let two programs share the address, too.)
fn udp_socket(address: &str) -> Result<OwnedFd, Errno> {
    let address: SocketAddr = address.parse().map_err(|_| Errno::INVAL)?;
    let socket = inet_socket(&address, SocketType::DGRAM)?;
    let until = Instant::now() + GIVEN_BACK_WITHIN;
    loop {
        match bind(&socket, &address) {
            Err(Errno::ADDRINUSE) if Instant::now() < until => {
                let _ = poll(&mut [], Some(&LOOK_AGAIN));
            }
            bound => return bound.map(|()| socket),
        }
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    #[test]
    fn a_datagram_socket_that_is_just_being_given_back_is_waited_for() {
        let former = udp_socket("127.0.0.1:0").unwrap();
        let address = address_of(former.as_fd());
        let holder = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            drop(former);
        });
        let next = udp_socket(&address).unwrap();
        assert_eq!(address_of(next.as_fd()), address);
        holder.join().unwrap();
    }
}
