//! The node's processes as the kernel shows them (proc(5)): the only process that can look into all of them tells about them.

use crate::{Error, sockets};
use protocol::inspect::{LIST_MAX, Process};
use rustix::fs::{Dir, Mode, OFlags, open, openat, readlinkat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The host's /proc, opened at start.
pub(crate) struct Processes {
    proc: OwnedFd,
    /// Our own number in the PID namespace of that /proc.
    own: u32,
}

impl Processes {
    pub(crate) fn new() -> Result<Self, Error> {
        let fails = |errno| Error::Host("/proc", errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = open("/proc", flags, Mode::empty()).map_err(fails)?;
        let own = readlinkat(&proc, "self", Vec::new()).map_err(fails)?;
        let own = own
            .to_str()
            .ok()
            .and_then(|own| own.parse().ok())
            .ok_or(fails(Errno::BADMSG))?;
        Ok(Self { proc, own })
    }

    /// Init and everything that descends from it, by number.
    pub(crate) fn all(&self) -> Vec<Process> {
        let statuses = self.statuses();
        let mut all: Vec<Process> = statuses
            .iter()
            .take(LIST_MAX)
            .map(|(pid, status)| self.describe(*pid, status))
            .collect();
        sockets::tell_ends(&mut all, |file| {
            read(self.proc.as_fd(), &format!("self/net/{file}"))
        });
        all
    }

    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.statuses().len()
    }

    fn statuses(&self) -> BTreeMap<u32, String> {
        let mut statuses = BTreeMap::new();
        for pid in self.numbers() {
            if let Some(status) = read(self.proc.as_fd(), &format!("{pid}/status")) {
                statuses.insert(pid, status);
            }
        }
        let parent = |pid: u32| {
            statuses
                .get(&pid)
                .and_then(|status| field(status, "PPid:")?.parse().ok())
        };
        let is_ours = |mut pid: u32| loop {
            match parent(pid) {
                _ if pid == self.own => return true,
                // In a machine of our own we are the 1 that everything descends from.
                Some(above) if above > 1 || above == self.own => pid = above,
                _ => return false,
            }
        };
        let ours: Vec<u32> = statuses
            .keys()
            .copied()
            .filter(|pid| is_ours(*pid))
            .collect();
        statuses.retain(|pid, _| ours.contains(pid));
        statuses
    }

    fn numbers(&self) -> Vec<u32> {
        let Ok(entries) = Dir::read_from(&self.proc) else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str().ok()?.parse().ok())
            .collect()
    }

    fn describe(&self, host_pid: u32, status: &str) -> Process {
        let number = |name: &str| {
            field(status, name)
                .and_then(|value| value.parse().ok())
                .unwrap_or(0)
        };
        let file =
            |name: &str| read(self.proc.as_fd(), &format!("{host_pid}/{name}")).unwrap_or_default();
        // NSpid lists the number in each namespace from /proc's own inwards. Ours is /proc's own on a machine, and the second elsewhere.
        let pids = status
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:"))
            .unwrap_or_default();
        let pid = pids
            .split_whitespace()
            .nth(usize::from(self.own != 1))
            .or_else(|| pids.split_whitespace().next());
        let rollup = file("smaps_rollup");
        Process {
            name: self
                .guest(host_pid)
                .unwrap_or_else(|| field(status, "Name:").unwrap_or_default().to_owned()),
            pid: pid.and_then(|pid| pid.parse().ok()).unwrap_or(0),
            host_pid,
            resident_bytes: u64::from(number("VmRSS:")) * 1024,
            proportional_bytes: field(&rollup, "Pss:")
                .and_then(|kib| kib.parse::<u64>().ok())
                .unwrap_or(0)
                * 1024,
            cpu_ms: cpu_ms(&file("stat")),
            threads: number("Threads:"),
            seccomp: number("Seccomp:"),
            capabilities: field(status, "CapEff:")
                .and_then(|hex| u64::from_str_radix(hex, 16).ok())
                .unwrap_or(0),
            no_new_privs: number("NoNewPrivs:") == 1,
            descriptors: self.descriptors(host_pid),
            sockets: Vec::new(),
        }
    }

    /// The name of a service that is not built in: that of the sealed program that it executes (memfd_create(2)). What it calls itself is its word, and cut.
    fn guest(&self, pid: u32) -> Option<String> {
        let program = readlinkat(&self.proc, format!("{pid}/exe"), Vec::new()).ok()?;
        let program = program.to_str().ok()?.strip_prefix("/memfd:")?;
        let name = program.split_whitespace().next()?;
        (name != crate::PROGRAM).then(|| name.to_owned())
    }

    fn descriptors(&self, pid: u32) -> Vec<(u32, String)> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(directory) = openat(&self.proc, format!("{pid}/fd"), flags, Mode::empty()) else {
            return Vec::new();
        };
        let Ok(entries) = Dir::read_from(&directory) else {
            return Vec::new();
        };
        let mut all: Vec<(u32, String)> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let number = entry.file_name().to_str().ok()?.parse().ok()?;
                let what = readlinkat(&directory, entry.file_name(), Vec::new()).ok()?;
                Some((number, what.to_string_lossy().into_owned()))
            })
            .collect();
        all.sort_unstable();
        all
    }
}

/// The first word behind `name` in a file of lines.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.split_whitespace().next())
}

/// User and system time: fields 14 and 15, counted behind the name, which may hold anything but is in parentheses.
fn cpu_ms(stat: &str) -> u64 {
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    let ticks: u64 = behind
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    ticks * 1_000 / rustix::param::clock_ticks_per_second().max(1)
}

fn read(proc: BorrowedFd<'_>, path: &str) -> Option<String> {
    let file = openat(proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 4_096];
    while let Ok(count) = rustix::io::read(&file, &mut chunk) {
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
