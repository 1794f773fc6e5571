//! What init has in hand where the machine is its own: the power button, the watchdog, the console.

use machine::{Buttons, Console, Watchdog};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
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
