//! What init has in hand where the machine is its own: the power button, the watchdog, the console.

use machine::{Buttons, Console, Watchdog};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// A node whose daemons have not all served for so long is as good as hung: the watchdog is left to reset the machine.
const UNHEALTHY_MAX: Duration = Duration::from_secs(180);
/// A slow console is looked at this often while nothing else happens.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The opened devices of a machine.
pub struct Devices {
    /// What people read.
    pub console: Console,
    /// Stop the machine when pressed.
    pub buttons: Buttons,
    /// Resets the machine when init no longer vouches for it.
    pub watchdog: Option<Watchdog>,
    /// How long after the kernel its first process began.
    pub begun: Duration,
}

/// The same while the node runs.
pub(crate) struct OwnMachine {
    buttons: Buttons,
    watchdog: Option<Watchdog>,
    healthy: Instant,
    /// How long after the kernel its first process began.
    pub(crate) begun: Duration,
}

impl OwnMachine {
    pub(crate) fn new(devices: Devices) -> (Self, Console) {
        let machine = Self {
            buttons: devices.buttons,
            watchdog: devices.watchdog,
            healthy: Instant::now(),
            begun: devices.begun,
        };
        (machine, devices.console)
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.buttons.descriptors()
    }

    pub(crate) fn deadline(&self) -> Instant {
        let look = Instant::now() + LOOK_EVERY;
        let watchdog = self.watchdog.as_ref().map(Watchdog::deadline);
        watchdog.map_or(look, |at| at.min(look))
    }

    pub(crate) fn pressed(&mut self) -> bool {
        self.buttons.pressed()
    }

    /// Touches the watchdog, unless the node has not been healthy for long.
    pub(crate) fn vouch(&mut self, now: Instant, healthy: bool) {
        if healthy {
            self.healthy = now;
        }
        if now - self.healthy < UNHEALTHY_MAX
            && let Some(watchdog) = &mut self.watchdog
        {
            watchdog.touch(now);
        }
    }
}

/// The sockets that a daemon of the machine starts with, by name. They are made here and not by the bus, because the bus has no privilege to make
/// them with, and starts later.
pub(crate) fn sockets_of(daemon: &str) -> Result<Vec<(&'static str, OwnedFd)>, Errno> {
    Ok(match daemon {
        "network" => vec![("routes", route_socket()?), ("dhcp", dhcp_socket()?)],
        "clock" => vec![("ntp", ntp_socket()?)],
        _ => Vec::new(),
    })
}

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Hears of every change of an interface (RTMGRP_LINK of rtnetlink(7)).
fn route_socket() -> Result<OwnedFd, Errno> {
    const LINKS: u32 = 1;
    let protocol = None; // NETLINK_ROUTE is 0, which rustix writes so
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, FLAGS, protocol)?;
    bind(&socket, &SocketAddrNetlink::new(0, LINKS))?;
    Ok(socket)
}

/// Sends to and hears from anybody on any interface, and says which.
fn dhcp_socket() -> Result<OwnedFd, Errno> {
    const CLIENT_PORT: u16 = 68;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, FLAGS, None)?;
    sockopt::set_socket_broadcast(&socket, true)?;
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv4PacketInfo, &true)
        .map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
    bind(
        &socket,
        &SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), CLIENT_PORT),
    )?;
    Ok(socket)
}

/// Of IPv6, and of IPv4 under mapped addresses.
fn ntp_socket() -> Result<OwnedFd, Errno> {
    let socket = socket_with(AddressFamily::INET6, SocketType::DGRAM, FLAGS, None)?;
    sockopt::set_ipv6_v6only(&socket, false)?;
    bind(&socket, &SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0))?;
    Ok(socket)
}
