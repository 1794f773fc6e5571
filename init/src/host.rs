//! What the host can give beyond processes: cgroup directories for the node, of v2 or of the v1 controllers (cgroups(7)).

use crate::Identity;
use manifests::Policy;
use protocol::cluster::NodeKey;
use rustix::fs::{Mode, OFlags, mkdirat, open, openat, statfs};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::os::fd::OwnedFd;
use supervision::Cgroups;

/// `CGROUP2_SUPER_MAGIC` of statfs(2).
const CGROUP2: i64 = 0x6367_7270;

/// Lets what is started have as many open files as the manifests say: nobody can give more than it may have itself. Where we
/// may not raise our own bound, each process that gets less says so.
pub(crate) fn raise_open_files(policy: &Policy) {
    let wanted = policy.all().iter().map(|one| one.limits.open_files).max();
    let wanted = wanted.map(u64::from);
    let now = getrlimit(Resource::Nofile);
    if now.maximum < wanted && now.maximum.is_some() {
        let maximum = Rlimit {
            current: now.current,
            maximum: wanted,
        };
        let _ = setrlimit(Resource::Nofile, maximum);
    }
}

/// What the node's cgroups are called: no other node of this host has the same, though it may have the same name.
pub(crate) fn cgroup_name(identity: &Identity, key: &NodeKey) -> String {
    let [a, b, c, d, ..] = key.0;
    let key = u32::from_be_bytes([a, b, c, d]);
    format!("trousseau-{}-{key:08x}", identity.name)
}

/// The node's cgroup directories, one cgroup in them for each daemon and service, and what could not be had.
pub(crate) fn cgroups(name: &str, root: bool) -> (Cgroups, Vec<String>) {
    if !root {
        let why = "limits of memory, processes and processor share: an ordinary user has no cgroup to set them in";
        return (Cgroups::new(Vec::new()), vec![why.into()]);
    }
    let is_v2 = statfs("/sys/fs/cgroup").is_ok_and(|host| host.f_type == CGROUP2);
    let wanted: &[(&str, &str, &str)] = if is_v2 {
        &[(
            "cgroup",
            "/sys/fs/cgroup",
            "limits of memory, processes and processor share",
        )]
    } else {
        &[
            ("cgroup:memory", "/sys/fs/cgroup/memory", "a memory limit"),
            ("cgroup:pids", "/sys/fs/cgroup/pids", "a limit of processes"),
            ("cgroup:cpu", "/sys/fs/cgroup/cpu", "a processor share"),
        ]
    };
    let (mut given, mut missing) = (Vec::new(), Vec::new());
    for (kind, path, what) in wanted {
        match directory(path, name, is_v2) {
            Ok(directory) => given.push(((*kind).to_owned(), directory)),
            Err(errno) => missing.push(format!("{what}: {path}: {errno}")),
        }
    }
    (Cgroups::new(given), missing)
}

/// Removes the node's cgroups, which are empty once everything has stopped. What is not there or not empty stays.
pub(crate) fn remove_cgroups(name: &str) {
    for parent in ["", "memory/", "pids/", "cpu/"] {
        let own = format!("/sys/fs/cgroup/{parent}{name}");
        for entry in std::fs::read_dir(&own).into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(entry.path());
        }
        let _ = std::fs::remove_dir(own);
    }
}

fn directory(path: &str, name: &str, is_v2: bool) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = open(path, flags, Mode::empty())?;
    if is_v2 {
        enable(&parent)?;
    }
    match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let directory = openat(&parent, name, flags, Mode::empty())?;
    if is_v2 {
        enable(&directory)?;
    }
    Ok(directory)
}

/// v2: the controllers of the children must be switched on in their parent.
fn enable(directory: &OwnedFd) -> Result<(), Errno> {
    let file = openat(
        directory,
        "cgroup.subtree_control",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::io::write(&file, b"+memory +pids +cpu").map(|_| ())
}
