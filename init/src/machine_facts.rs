//! What init tells of a machine of its own: who has privileges, what could be executed, where it is reached, how much memory it has.

use protocol::inspect::{LIST_MAX, Machine, Process};
use std::fs::read_to_string;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

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

/// Whether a file could be executed anywhere, as the kernel tells it: a line for the console.
pub(crate) fn executables() -> String {
    let mounts = read_to_string("/proc/self/mounts").unwrap_or_default();
    match executable_places(&mounts).as_slice() {
        [] => "trousseau: no file can be executed in any file system".into(),
        places => format!("trousseau: files can be executed in {}", places.join(" ")),
    }
}

/// The mount points of proc_pid_mounts(5) that do not forbid execution; all of them if there are none, which cannot be.
fn executable_places(mounts: &str) -> Vec<&str> {
    if mounts.is_empty() {
        return vec!["/"];
    }
    let places = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (place, options) = (words.nth(1)?, words.nth(1)?);
        let forbids = options.split(',').any(|option| option == "noexec");
        (!forbids).then_some(place)
    });
    places.collect()
}

/// How long the start of a machine took, and how much of it was ours: a line for the console.
pub(crate) fn boot_time(init_began: Duration) -> String {
    let now = machine::since_boot();
    let own = now.saturating_sub(init_began);
    format!(
        "trousseau: serves {} ms after the kernel began, {} ms after init did",
        now.as_millis(),
        own.as_millis()
    )
}

/// For `status`.
pub(crate) fn machine() -> Machine {
    let memory = read_to_string("/proc/meminfo").unwrap_or_default();
    let addresses = addresses().into_iter().map(|ip| ip.to_string());
    Machine {
        addresses: addresses.take(LIST_MAX).collect(),
        memory_bytes: meminfo(&memory, "MemTotal:"),
        memory_available_bytes: meminfo(&memory, "MemAvailable:"),
    }
}

/// A line of proc_meminfo(5), in bytes.
fn meminfo(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Where a client finds what listens on `listen`: that address, or if it is any address, the machine's first one that leads outside.
pub(crate) fn reachable(listen: &str) -> String {
    let Ok(listen) = listen.parse::<SocketAddr>() else {
        return listen.to_owned();
    };
    if !listen.ip().is_unspecified() {
        return listen.to_string();
    }
    let ip = addresses().first().copied().unwrap_or(listen.ip());
    SocketAddr::new(ip, listen.port()).to_string()
}

/// The machine's addresses that lead outside; IPv4 first: it is the one that people type.
fn addresses() -> Vec<IpAddr> {
    let own = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let own = own.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    let mut outside: Vec<IpAddr> = own.filter(leads_outside).collect();
    outside.sort_by_key(IpAddr::is_ipv6);
    outside
}

fn leads_outside(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_that_does_not_forbid_execution_is_named() {
        let safe = "tmpfs / tmpfs ro,nosuid,nodev,noexec,relatime 0 0\n";
        assert_eq!(executable_places(safe), Vec::<&str>::new());
        let unsafe_one = format!("{safe}/dev/vda2 /data ext4 rw,nosuid,noexecutive 0 0\n");
        assert_eq!(executable_places(&unsafe_one), ["/data"]);
        assert_eq!(executable_places(""), ["/"], "nothing is proven by nothing");
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:         491924 kB\nMemAvailable:     400000 kB\n";
        assert_eq!(meminfo(text, "MemAvailable:"), 400_000 * 1024);
        assert_eq!(meminfo("", "MemTotal:"), 0);
    }
}
