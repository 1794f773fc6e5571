//! Zones far from each other on one machine: a network namespace for each, with a TUN device that leads to the [`Sea`](super::sea::Sea).

use super::sys;
use crate::error::Error;
use nix::sched::{CloneFlags, setns};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The device that leads out of a zone.
const DEVICE: &str = "sea0";
/// Addresses that each zone has: as many nodes can stand in it.
const ADDRESSES: u8 = 2;

/// The zones of this run; gone when this is.
pub(crate) struct Zones {
    names: Vec<String>,
}

impl Zones {
    /// Makes `count` zones, numbered from 0. Needs root (CAP_NET_ADMIN, CAP_SYS_ADMIN), `ip` (iproute2), `nsenter` (util-linux) and `/dev/net/tun`.
    pub(crate) fn make(count: usize) -> Result<Zones, Error> {
        let mut zones = Zones { names: Vec::new() };
        for zone in 0..count {
            let name = format!("geo-{}-z{}", std::process::id(), zone + 1);
            ip(&["netns", "add", &name])?;
            zones.names.push(name.clone());
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            ip(&["-n", &name, "tuntap", "add", "dev", DEVICE, "mode", "tun"])?;
            for node in 1..=ADDRESSES {
                let address = format!("{}/16", address(zone, node));
                ip(&["-n", &name, "addr", "add", &address, "dev", DEVICE])?;
            }
            ip(&["-n", &name, "link", "set", DEVICE, "up"])?;
            // As a machine of ours sets it (init/machine/src/boot.rs).
            zones.within(zone, || {
                let setting = "/proc/sys/net/ipv4/tcp_slow_start_after_idle";
                std::fs::write(setting, "0").map_err(Error::world(setting))
            })?;
        }
        Ok(zones)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.names.len()
    }

    fn file(&self, zone: usize) -> PathBuf {
        let name = self.names.get(zone).map_or("", String::as_str);
        PathBuf::from("/run/netns").join(name)
    }

    /// A command that runs in a zone. Not by `ip netns exec`, which hides the cgroups.
    pub(crate) fn command(&self, zone: usize, program: &std::path::Path) -> Command {
        let mut command = Command::new("nsenter");
        let net = format!("--net={}", self.file(zone).display());
        command.arg(net).arg("--").arg(program);
        command
    }

    /// Moves this thread into a zone, for the rest of its life.
    fn enter(&self, zone: usize) -> Result<(), Error> {
        let tried = || format!("entering zone {}", zone + 1);
        let file = File::open(self.file(zone)).map_err(Error::world(tried()))?;
        setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| Error::World(tried(), errno.into()))
    }

    /// Does something in a zone; what it makes there (sockets, devices) stays in the zone.
    pub(crate) fn within<T: Send>(
        &self,
        zone: usize,
        what: impl FnOnce() -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        let done = std::thread::scope(|scope| {
            let doing = scope.spawn(|| {
                self.enter(zone)?;
                what()
            });
            doing.join()
        });
        done.map_err(|_| Error::Node(format!("a thread in zone {} ended badly", zone + 1)))?
    }

    /// The packets that leave a zone, to be read, and come into it, to be written; neither waits.
    pub(crate) fn shore(&self, zone: usize) -> Result<File, Error> {
        self.within(zone, || {
            let tun = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(nix::libc::O_NONBLOCK)
                .open("/dev/net/tun")
                .map_err(Error::world("/dev/net/tun"))?;
            sys::attach(&tun, DEVICE).map_err(Error::world("a TUN device"))?;
            Ok(tun)
        })
    }
}

impl Drop for Zones {
    fn drop(&mut self) {
        for name in &self.names {
            // The device goes with its namespace.
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

/// The address of a node, counted from 1, in a zone, counted from 0.
pub(crate) fn address(zone: usize, node: u8) -> String {
    format!("10.45.{}.{node}", zone + 1)
}

/// The zone that a packet goes to, and whether it is one of ours at all (IPv6 looks for routers, and finds none).
pub(crate) fn zone_of(packet: &[u8]) -> Option<usize> {
    let [first, ..] = packet else { return None };
    match (first >> 4, packet.get(16..20)?) {
        (4, [10, 45, zone, _]) => usize::from(*zone).checked_sub(1),
        _ => None,
    }
}

fn ip(words: &[&str]) -> Result<(), Error> {
    let tried = || format!("ip {}", words.join(" "));
    let done = Command::new("ip").args(words).stdin(Stdio::null()).output();
    let done = done.map_err(Error::world(tried()))?;
    if done.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(Error::World(tried(), std::io::Error::other(why)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a test that fails may panic")]
    use super::*;

    #[test]
    fn a_packet_goes_to_the_zone_of_its_address() {
        let to = |first: u8, address: [u8; 4]| {
            let mut packet = [0; 24];
            packet[0] = first;
            packet[16..20].copy_from_slice(&address);
            zone_of(&packet)
        };
        assert_eq!(to(0x45, [10, 45, 3, 1]), Some(2));
        assert_eq!(to(0x45, [10, 45, 0, 1]), None);
        assert_eq!(to(0x45, [192, 0, 2, 1]), None);
        assert_eq!(to(0x60, [10, 45, 3, 1]), None);
        assert_eq!(zone_of(&[0x45; 19]), None);
    }
}
