//! Starting a program inside its sandbox: what the caller asks for, and the parent's part.

use crate::child::{self, Plan};
use crate::error::{Error, Missing, MissingSet};
use crate::profile::{Otherwise, Profile};
use crate::program::is_sealed;
use crate::report::{self, Report};
use crate::sys::clone::{self, Place};
use crate::walls;
use crate::watch::Watch;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    ForeignRawFd, Pid, PidfdGetfdFlags, Signal, WaitId, WaitIdOptions, pidfd_getfd,
    pidfd_send_signal, waitid,
};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a process sees as `/`.
#[derive(Clone, Copy, Debug)]
pub enum Root<'a> {
    /// The supervisor's own root.
    Inherit,
    /// An empty directory, read-only.
    Empty(BorrowedFd<'a>),
    /// This directory and nothing else: read-write, without set-user-ID, devices or execution.
    ///
    /// The process's user must own it, and the supervisor must be able to search it.
    Directory(BorrowedFd<'a>),
}

/// Resource limits of one process; there are never core dumps.
///
/// A limit above the supervisor's own hard limit is lowered to that.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Descriptors (RLIMIT_NOFILE).
    pub open_files: u64,
    /// Heap and private mappings (RLIMIT_DATA).
    pub data_bytes: Option<u64>,
    /// All mappings (RLIMIT_AS).
    pub address_bytes: Option<u64>,
    /// Threads of its user in its user namespace (RLIMIT_NPROC). Without a user of its own and
    /// without a user namespace it would count other processes of the user too.
    pub threads: Option<u64>,
}

/// A process to start. Nothing else of the supervisor reaches it: its environment is empty and it
/// has exactly the descriptors 0 to 3.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// The only argument. (exec names a memory file's process after the file: the program sets
    /// its own name with PR_SET_NAME, which every profile allows at start.)
    pub name: &'a str,
    /// What it may call.
    pub profile: &'static Profile,
    /// A static executable in a sealed memory file ([`crate::program`]).
    pub program: BorrowedFd<'a>,
    /// Its root.
    pub root: Root<'a>,
    /// The network namespace to join, usually [`crate::empty_network`]; None is the supervisor's.
    pub network: Option<BorrowedFd<'a>>,
    /// Own user, mount, PID, IPC, UTS and cgroup namespaces.
    pub separate: bool,
    /// A host user and group of its own; needs CAP_SETUID and CAP_SETGID. None keeps the caller's.
    pub user: Option<u32>,
    /// A cgroup directory of the unified hierarchy, entered by clone3.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Cgroup directories of version 1, entered before anything else.
    pub cgroups_v1: &'a [BorrowedFd<'a>],
    /// Resource limits.
    pub limits: Limits,
    /// Where its standard error goes.
    pub stderr: BorrowedFd<'a>,
    /// Its end of the start channel, which becomes descriptor 3.
    pub start: OwnedFd,
}

/// A process that runs its program.
#[derive(Debug)]
pub struct Child {
    /// Its number in the caller's PID namespace; valid until it is waited for.
    pub pid: Pid,
    /// Becomes readable when it ends; kills it; never means another process.
    pub pidfd: OwnedFd,
    /// Its trapped calls. None for a profile that refuses instead of asking.
    pub watch: Option<Watch>,
    /// Walls that this host could not put up.
    pub missing: Vec<Missing>,
}

/// Starts a process and returns when it executes its program.
///
/// Blocks for as long as the child takes for its few dozen system calls. The child dies with the
/// calling thread. Safe in a process with other threads, too.
///
/// Errors: one per step; a child that failed has been reaped. Repeating is harmless.
pub fn spawn(request: Spawn<'_>) -> Result<Child, Error> {
    let name = CString::new(request.name).map_err(|_| Error::Name)?;
    if name.is_empty() {
        return Err(Error::Name);
    }
    if !is_sealed(request.program) {
        return Err(Error::Unsealed);
    }
    let mut missing = MissingSet::default();
    let ruleset = walls::ruleset(&request.root, request.network.is_some(), &mut missing)?;
    let null = openat(
        CWD,
        c"/dev/null",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(Error::Null)?;
    let (here, there) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(Error::Report)?;
    let mut plan = Plan {
        name: &name,
        profile: request.profile,
        program: request.program,
        root: request.root,
        network: request.network,
        separate: request.separate,
        user: request.user,
        cgroups: request.cgroups_v1,
        limits: request.limits,
        ruleset: ruleset.as_ref().map(AsFd::as_fd),
        null: null.as_fd(),
        stderr: request.stderr,
        start: request.start.as_fd(),
        report: there.as_fd(),
        missing,
    };
    let (pid, pidfd) = start_child(&mut plan, request.cgroup)?;
    // From now on the end of the channel means that the child has let go of it.
    drop(there);
    match await_exec(here.as_fd(), request.profile, pid, pidfd.as_fd()) {
        Ok((watch, missing)) => Ok(Child {
            pid,
            pidfd,
            watch,
            missing: missing.list(),
        }),
        Err(error) => {
            reap(pidfd.as_fd())?;
            Err(error)
        }
    }
}

/// clone3, without a PID namespace if there can be none.
fn start_child(
    plan: &mut Plan<'_>,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<(Pid, OwnedFd), Error> {
    let place = Place {
        new_pid_namespace: plan.separate,
        cgroup,
    };
    match clone::process(place, || child::run(plan)) {
        Err(Errno::PERM | Errno::INVAL | Errno::NOSPC | Errno::USERS) if plan.separate => {
            plan.missing.insert(Missing::PidNamespace);
            let place = Place {
                new_pid_namespace: false,
                cgroup,
            };
            clone::process(place, || child::run(plan)).map_err(Error::Clone)
        }
        other => other.map_err(Error::Clone),
    }
}

/// Follows the child's report until exec closes it.
fn await_exec(
    report: BorrowedFd<'_>,
    profile: &'static Profile,
    pid: Pid,
    pidfd: BorrowedFd<'_>,
) -> Result<(Option<Watch>, MissingSet), Error> {
    let (missing, listener) = match report::receive(report).map_err(Error::Report)? {
        Some(Report::Confined(missing, listener)) => (missing, listener),
        Some(Report::Failed(step, error)) => return Err(Error::Child(step, error)),
        None => return Err(Error::Vanished),
    };
    let watch = match profile.otherwise {
        Otherwise::Refuse => None,
        Otherwise::Notify => {
            // The child is in its execveat until it is answered, so the listener is still there.
            let listener = fetch(pidfd, listener.ok_or(Error::NoListener)?)?;
            let watch = Watch::new(listener, profile, pid);
            watch.admit_exec()?;
            Some(watch)
        }
    };
    match report::receive(report).map_err(Error::Report)? {
        None => Ok((watch, missing)),
        Some(Report::Failed(step, error)) => Err(Error::Child(step, error)),
        Some(Report::Confined(..)) => Err(Error::Report(Errno::BADMSG)),
    }
}

/// A duplicate of the child's descriptor of that number, closed by exec.
fn fetch(pidfd: BorrowedFd<'_>, number: ForeignRawFd) -> Result<OwnedFd, Error> {
    pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty()).map_err(Error::Fetch)
}

/// Ends and reaps a child that did not get as far as its program.
fn reap(pidfd: BorrowedFd<'_>) -> Result<(), Error> {
    // It has usually ended by itself; a signal to a zombie does nothing.
    pidfd_send_signal(pidfd, Signal::KILL).map_err(Error::Wait)?;
    loop {
        match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            other => return other.map(|_| ()).map_err(Error::Wait),
        }
    }
}

/// Makes one empty network namespace: no interface in it is up, and nothing can be reached.
///
/// All services share it, because making one takes a millisecond. A helper process makes it and
/// exits; the descriptor keeps it alive.
///
/// Needs CAP_SYS_ADMIN and `/proc`. Errors: the host has no network namespaces, or refuses one.
pub fn empty_network() -> Result<OwnedFd, Error> {
    let (here, there) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(Error::Report)?;
    let place = Place {
        new_pid_namespace: false,
        cgroup: None,
    };
    let (_, pidfd) =
        clone::process(place, || child::make_network(there.as_fd())).map_err(Error::Clone)?;
    drop(there);
    let network = match report::receive(here.as_fd()) {
        Ok(Some(Report::Confined(_, Some(number)))) => fetch(pidfd.as_fd(), number),
        Ok(Some(Report::Failed(_, error))) => Err(Error::Network(error)),
        Ok(Some(Report::Confined(_, None)) | None) => Err(Error::Vanished),
        Err(error) => Err(Error::Report(error)),
    };
    reap(pidfd.as_fd())?;
    network
}
