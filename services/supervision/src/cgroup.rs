//! Limits of memory, processes and processor share: cgroup v2, or the v1 controllers of an older host (cgroups(7)).

use manifests::Limits;
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The node's own cgroup directories, as init gave them: `cgroup` is v2; `cgroup:memory`, `cgroup:pids`, `cgroup:cpu` are v1.
pub struct Cgroups {
    given: Vec<(String, OwnedFd)>,
}

/// The cgroup of one process, to be entered before exec.
#[derive(Default)]
pub struct Cgroup {
    /// v2: for CLONE_INTO_CGROUP.
    unified: Option<OwnedFd>,
    /// v1: into whose `cgroup.procs` the child is written.
    controllers: Vec<OwnedFd>,
    /// Where the kernel counts those that it killed at the limit of memory: a directory's file.
    kills: Option<(OwnedFd, &'static str)>,
    /// What could not be set, one sentence each.
    missing: Vec<String>,
}

impl Cgroups {
    /// The directories by name; none where the host has none to give.
    pub fn new(given: Vec<(String, OwnedFd)>) -> Self {
        Self { given }
    }

    /// All of them, lent: for whoever starts processes in them, too.
    pub fn lent(&self) -> impl Iterator<Item = (String, BorrowedFd<'_>)> {
        self.given
            .iter()
            .map(|(name, directory)| (name.clone(), directory.as_fd()))
    }

    /// Makes (or finds) the cgroup of the process `name` and sets its limits. What fails is missing, and told.
    pub fn prepare(&self, name: &str, limits: &Limits) -> Cgroup {
        let mut cgroup = Cgroup::default();
        for (kind, parent) in &self.given {
            if let Err(errno) = cgroup.add(kind, parent, name, limits) {
                cgroup.missing.push(format!("{kind} of {name}: {errno}"));
            }
        }
        cgroup
    }
}

impl Cgroup {
    fn add(
        &mut self,
        kind: &str,
        parent: &OwnedFd,
        name: &str,
        limits: &Limits,
    ) -> Result<(), Errno> {
        let directory = directory(parent, name)?;
        for (file, value) in settings(kind, limits) {
            if let Err(errno) = write(&directory, file, &value) {
                self.missing.push(format!("{file} of {name}: {errno}"));
            }
        }
        let kills = match kind {
            "cgroup" => Some("memory.events"),
            "cgroup:memory" => Some("memory.oom_control"),
            _ => None,
        };
        if let Some(file) = kills {
            self.kills = Some((directory.try_clone().map_err(|_| Errno::MFILE)?, file));
        }
        match kind {
            "cgroup" => self.unified = Some(directory),
            _ => self.controllers.push(directory),
        }
        Ok(())
    }

    /// The v2 directory, for CLONE_INTO_CGROUP.
    pub fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    /// The v1 directories, to be joined one by one.
    pub fn controllers(&self) -> Vec<BorrowedFd<'_>> {
        self.controllers.iter().map(AsFd::as_fd).collect()
    }

    /// What could not be set, one sentence each.
    pub(crate) fn missing(&self) -> &[String] {
        &self.missing
    }

    /// How often the kernel has killed a process of this cgroup at its memory limit, since the cgroup was made.
    pub(crate) fn memory_kills(&self) -> u64 {
        let count = |(directory, file): &(OwnedFd, &'static str)| {
            let text = read(directory, file).ok()?;
            text.lines()
                .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        };
        self.kills.as_ref().and_then(count).unwrap_or(0)
    }
}

/// The files of one controller and what goes into them.
fn settings(kind: &str, limits: &Limits) -> Vec<(&'static str, String)> {
    let memory = u64::from(limits.memory_mb) * 1024 * 1024;
    let processes = limits.processes.to_string();
    match kind {
        "cgroup" => vec![
            // Page cache is given back before anybody is killed at it. There is no memory.high below it: without swap it would only put a process to
            // sleep whose memory is its own, until its supervisor takes it for hung.
            ("memory.max", memory.to_string()),
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
