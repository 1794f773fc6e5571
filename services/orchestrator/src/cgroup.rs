//! Limits of memory, processes and processor share: cgroup v2, or the v1 controllers of an older host (cgroups(7)).

use manifests::{Limits, Manifest};
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The node's own cgroup directories, as init gave them: `cgroup` is v2; `cgroup:memory`, `cgroup:pids`, `cgroup:cpu` are v1.
pub(crate) struct Cgroups {
    given: Vec<(String, OwnedFd)>,
}

/// The directories of one service, to be entered before exec.
#[derive(Default)]
pub(crate) struct Entered {
    /// v2: for CLONE_INTO_CGROUP.
    pub(crate) unified: Option<OwnedFd>,
    /// v1: into whose `cgroup.procs` the child is written.
    pub(crate) controllers: Vec<OwnedFd>,
    /// What could not be set, one sentence each.
    pub(crate) missing: Vec<String>,
}

impl Cgroups {
    pub(crate) fn new(given: Vec<(String, OwnedFd)>) -> Self {
        Self { given }
    }

    /// Makes (or finds) the cgroup of a service and sets its limits.
    pub(crate) fn prepare(&self, manifest: &Manifest) -> Entered {
        let mut entered = Entered::default();
        for (kind, parent) in &self.given {
            let directory = match directory(parent, &manifest.name) {
                Ok(directory) => directory,
                Err(errno) => {
                    entered
                        .missing
                        .push(format!("{kind} of {}: {errno}", manifest.name));
                    continue;
                }
            };
            for (file, value) in settings(kind, &manifest.limits) {
                if let Err(errno) = write(&directory, file, &value) {
                    entered
                        .missing
                        .push(format!("{file} of {}: {errno}", manifest.name));
                }
            }
            match kind.as_str() {
                "cgroup" => entered.unified = Some(directory),
                _ => entered.controllers.push(directory),
            }
        }
        entered
    }

    /// How often the kernel has killed a process of this service at its memory limit, since its cgroup was made.
    pub(crate) fn memory_kills(&self, service: &str) -> u64 {
        let count = |(kind, parent): &(String, OwnedFd)| {
            let file = match kind.as_str() {
                "cgroup" => "memory.events",
                "cgroup:memory" => "memory.oom_control",
                _ => return None,
            };
            let text = read(&directory(parent, service).ok()?, file).ok()?;
            text.lines()
                .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        };
        self.given.iter().find_map(count).unwrap_or(0)
    }
}

/// The files of one controller and what goes into them.
fn settings(kind: &str, limits: &Limits) -> Vec<(&'static str, String)> {
    let memory = u64::from(limits.memory_mb) * 1024 * 1024;
    let processes = limits.processes.to_string();
    match kind {
        "cgroup" => vec![
            ("memory.max", memory.to_string()),
            // Reclaim begins before the limit, so that page cache is given back instead of the process being killed.
            ("memory.high", (memory / 10 * 9).to_string()),
            ("pids.max", processes),
            ("cpu.weight", limits.cpu_weight.to_string()),
        ],
        "cgroup:memory" => vec![("memory.limit_in_bytes", memory.to_string())],
        "cgroup:pids" => vec![("pids.max", processes)],
        // v1 counts shares in 1,024ths of what v2 calls 100.
        "cgroup:cpu" => vec![(
            "cpu.shares",
            (u64::from(limits.cpu_weight) * 1024 / 100)
                .max(2)
                .to_string(),
        )],
        _ => Vec::new(),
    }
}

fn directory(parent: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

fn write(directory: &OwnedFd, file: &str, value: &str) -> Result<(), Errno> {
    let file = openat(
        directory,
        file,
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::io::write(&file, value.as_bytes()).map(|_| ())
}

fn read(directory: &OwnedFd, file: &str) -> Result<String, Errno> {
    let file = openat(
        directory,
        file,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut bytes = [0; 1_024];
    let count = rustix::io::read(&file, &mut bytes)?;
    Ok(String::from_utf8_lossy(bytes.get(..count).unwrap_or_default()).into_owned())
}

impl Entered {
    /// The v1 directories, lent.
    pub(crate) fn lent(&self) -> Vec<BorrowedFd<'_>> {
        self.controllers.iter().map(AsFd::as_fd).collect()
    }
}
