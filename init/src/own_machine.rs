//! What init has in hand where the machine is its own: the power button, the watchdog, the console.

use machine::{Buttons, Console, Watchdog};
use protocol::inspect::Process;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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
}

/// The same while the node runs.
pub(crate) struct OwnMachine {
    buttons: Buttons,
    watchdog: Option<Watchdog>,
    healthy: Instant,
}

impl OwnMachine {
    pub(crate) fn new(devices: Devices) -> (Self, Console) {
        let machine = Self {
            buttons: devices.buttons,
            watchdog: devices.watchdog,
            healthy: Instant::now(),
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

/// Who has privileges, as the kernel tells it: a line for the console.
pub(crate) fn privileges(processes: &[Process]) -> String {
    let is_bare = |one: &&Process| one.capabilities == 0 && one.seccomp == 2 && one.no_new_privs;
    let privileged = processes.iter().filter(|one| !is_bare(one));
    let named: Vec<String> = privileged
        .map(|one| {
            let filter = if one.seccomp == 2 {
                "filtered"
            } else {
                "unfiltered"
            };
            format!("{}={:x},{filter}", one.name, one.capabilities)
        })
        .collect();
    let bare = processes.iter().filter(is_bare).count();
    format!(
        "trousseau: capabilities {}; {bare} processes have none and are filtered",
        named.join(" ")
    )
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

/// Where a client finds what listens on `listen`: that address, or if it is any address, the machine's first one that leads outside.
pub(crate) fn reachable(listen: &str) -> String {
    let Ok(listen) = listen.parse::<SocketAddr>() else {
        return listen.to_owned();
    };
    if !listen.ip().is_unspecified() {
        return listen.to_string();
    }
    let own = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let own = own.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    let mut outside: Vec<IpAddr> = own.filter(leads_outside).collect();
    // IPv4 first: it is the one that people type.
    outside.sort_by_key(IpAddr::is_ipv6);
    let ip = outside.first().copied().unwrap_or(listen.ip());
    SocketAddr::new(ip, listen.port()).to_string()
}

fn leads_outside(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    }
}
