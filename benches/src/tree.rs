//! A tree of processes as /proc shows it: CPU time, memory, bytes written.
//!
//! Source: proc(5), clock_getcpuclockid(3).

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;

/// Nanoseconds of one tick in /proc/PID/stat: Linux shows user space a clock of 100 ticks a second,
/// whatever it uses itself.
const TICK_NS: u64 = 10_000_000;

/// What one process has used since it began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// Its name, which is its role.
    pub(crate) name: String,
    /// CPU time of all of its threads, also of those that have ended.
    pub(crate) cpu_ns: u64,
    /// CPU time of children that it has waited for, in whole ticks.
    pub(crate) reaped_cpu_ns: u64,
    /// Bytes that it has made the kernel write to storage.
    pub(crate) written_bytes: u64,
}

/// The memory of one process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) name: String,
    /// Resident, shared pages counted in full.
    pub(crate) rss_bytes: u64,
    /// Resident, shared pages divided among those who share them. Zero where /proc does not tell
    /// (it needs the right to trace the process).
    pub(crate) pss_bytes: u64,
}

/// The usage of a process and all of its descendants, by process id.
///
/// A process that ends between two looks is not lost: its CPU time is then in its parent's
/// `reaped_cpu_ns`.
pub(crate) fn usage(root: i32) -> BTreeMap<i32, Usage> {
    members(root)
        .into_iter()
        .filter_map(|(pid, stat)| Some((pid, process_usage(pid, stat)?)))
        .collect()
}

/// The memory of a process and all of its descendants.
pub(crate) fn memory(root: i32) -> Vec<Memory> {
    let mut list: Vec<Memory> = members(root)
        .into_iter()
        .map(|(pid, stat)| process_memory(pid, stat))
        .collect();
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list
}

/// What is used of /proc/PID/stat.
struct Stat {
    name: String,
    parent: i32,
    reaped_ticks: u64,
}

/// The root and its descendants.
fn members(root: i32) -> BTreeMap<i32, Stat> {
    let mut all: BTreeMap<i32, Stat> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
            && let Some(stat) = read_stat(pid)
        {
            all.insert(pid, stat);
        }
    }
    let parents: BTreeMap<i32, i32> = all.iter().map(|(pid, stat)| (*pid, stat.parent)).collect();
    all.retain(|pid, _| {
        // A chain of parents is never longer than the number of processes.
        let mut at = *pid;
        for _ in 0..=parents.len() {
            if at == root {
                return true;
            }
            match parents.get(&at) {
                Some(parent) => at = *parent,
                None => return false,
            }
        }
        false
    });
    all
}

fn read_stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `1234 (name) S 1 …`: the name may contain anything, so it ends at the last parenthesis.
fn parse_stat(text: &str) -> Option<Stat> {
    let (head, tail) = text.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = tail.split_whitespace().collect();
    // Counted from the state, which is field 3 of proc(5): parent is field 4, cutime and cstime are
    // 16 and 17.
    let number = |field: usize| {
        fields
            .get(field - 3)
            .and_then(|text| text.parse::<i64>().ok())
    };
    let ticks = number(16)?.saturating_add(number(17)?);
    Some(Stat {
        name,
        parent: i32::try_from(number(4)?).ok()?,
        reaped_ticks: u64::try_from(ticks).ok()?,
    })
}

fn process_usage(pid: i32, stat: Stat) -> Option<Usage> {
    // The clock counts nanoseconds of all threads; /proc/PID/schedstat has only the first one.
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).ok()?;
    let cpu = clock_gettime(clock).ok()?;
    let cpu_ns = u64::try_from(cpu.tv_sec())
        .ok()?
        .saturating_mul(1_000_000_000)
        + u64::try_from(cpu.tv_nsec()).ok()?;
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    Some(Usage {
        name: stat.name,
        cpu_ns,
        reaped_cpu_ns: stat.reaped_ticks.saturating_mul(TICK_NS),
        written_bytes: field(&io, "write_bytes:").unwrap_or(0),
    })
}

fn process_memory(pid: i32, stat: Stat) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    Memory {
        name: stat.name,
        rss_bytes: field(&status, "VmRSS:").unwrap_or(0).saturating_mul(1024),
        pss_bytes: field(&rollup, "Pss:").unwrap_or(0).saturating_mul(1024),
    }
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;

    #[test]
    fn names_with_parentheses_do_not_confuse_the_parser() {
        let stat = parse_stat("42 (a ) (b) S 7 1 1 0 -1 0 0 0 0 0 1 2 3 4 20 0").unwrap();
        assert_eq!(
            (stat.name.as_str(), stat.parent, stat.reaped_ticks),
            ("a ) (b", 7, 7)
        );
        assert!(parse_stat("42 (a").is_none());
    }

    #[test]
    fn work_of_this_process_and_of_its_children_is_counted() {
        let own = i32::try_from(std::process::id()).unwrap();
        let before: u64 = usage(own).values().map(|usage| usage.cpu_ns).sum();
        let mut child = std::process::Command::new("sleep")
            .arg("5")
            .spawn()
            .unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_millis(30);
        while std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
        let after = usage(own);
        let child_pid = i32::try_from(child.id()).unwrap();
        assert!(after.contains_key(&child_pid));
        assert!(!after.contains_key(&1));
        let total: u64 = after.values().map(|usage| usage.cpu_ns).sum();
        assert!(total - before > 1_000_000, "{total} - {before}");
        assert!(memory(own).iter().any(|memory| memory.rss_bytes > 0));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
