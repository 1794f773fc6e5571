//! What can go wrong between a profile and a running process, one variant or step each.

use rustix::io::Errno;
use std::fmt;

/// Why a process was not started, or a call not answered.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The name is empty or has a NUL in it.
    Name,
    /// The program can still be written to: seal it (`program`).
    Unsealed,
    /// Copying or sealing a program.
    Program(Errno),
    /// Opening `/dev/null`, the new process's standard input and output.
    Null(Errno),
    /// The socket pair on which the child reports.
    Report(Errno),
    /// The Landlock ruleset around the root.
    Ruleset(String),
    /// Starting the child (clone3).
    Clone(Errno),
    /// The child could not do this step and has ended.
    Child(Step, Errno),
    /// The child ended without a word: it was killed.
    Vanished,
    /// The profile needs a listener and the child has none.
    NoListener,
    /// Fetching a descriptor from the child (pidfd_getfd), which needs CAP_SYS_PTRACE over it.
    Fetch(Errno),
    /// Talking to a listener.
    Listener(Errno),
    /// Making the restricted ring.
    Ring(std::io::Error),
    /// Telling the service about its ring (process_vm_writev).
    RingParameters(Errno),
    /// The empty network namespace.
    Network(Errno),
    /// Waiting for a child that has ended.
    Wait(Errno),
}

/// A step of the child between clone3 and exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum Step {
    /// Unblocking all signals.
    Signals = 1,
    /// Leaving the supervisor's session.
    Session,
    /// Writing itself into a version 1 cgroup.
    Cgroup,
    /// Joining the network namespace.
    Network,
    /// Opening its own entry of /proc.
    Proc,
    /// Copying the mount of the root directory.
    RootTree,
    /// Forbidding set-user-ID, devices and execution on it.
    RootFlags,
    /// The mount namespace.
    MountNamespace,
    /// Making all mounts private.
    Private,
    /// Attaching the root.
    RootAttach,
    /// Entering the root.
    RootEnter,
    /// Exchanging the roots (pivot_root).
    Pivot,
    /// Detaching the old root.
    Detach,
    /// Dropping supplementary groups.
    Groups,
    /// Changing the group.
    Group,
    /// Changing the user.
    User,
    /// Owning its entry of /proc again.
    Dumpable,
    /// Denying setgroups in the user namespace.
    DenyGroups,
    /// The user namespace's one group.
    GroupMap,
    /// The user namespace's one user.
    UserMap,
    /// No new privileges.
    NoNewPrivileges,
    /// Landlock.
    Landlock,
    /// The capability bounding set.
    Bounding,
    /// The capabilities.
    Capabilities,
    /// Dying with the supervisor.
    DeathSignal,
    /// The descriptors of the new program.
    Descriptors,
    /// The resource limits.
    Limits,
    /// The filters of tolerated calls.
    Tolerate,
    /// The profile's filter.
    Filter,
    /// Becoming the program.
    Exec,
}

impl Step {
    /// The step of this number, as it came in a report.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        use Step::*;
        const ALL: [Step; 30] = [
            Signals,
            Session,
            Cgroup,
            Network,
            Proc,
            RootTree,
            RootFlags,
            MountNamespace,
            Private,
            RootAttach,
            RootEnter,
            Pivot,
            Detach,
            Groups,
            Group,
            User,
            Dumpable,
            DenyGroups,
            GroupMap,
            UserMap,
            NoNewPrivileges,
            Landlock,
            Bounding,
            Capabilities,
            DeathSignal,
            Descriptors,
            Limits,
            Tolerate,
            Filter,
            Exec,
        ];
        ALL.into_iter().find(|step| *step as u8 == number)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => write!(f, "the process name is empty or has a NUL in it"),
            Self::Unsealed => write!(f, "the program is not sealed"),
            Self::Program(error) => write!(f, "sealing the program: {error}"),
            Self::Null(error) => write!(f, "opening /dev/null: {error}"),
            Self::Report(error) => write!(f, "the child's report: {error}"),
            Self::Ruleset(error) => write!(f, "making the Landlock ruleset: {error}"),
            Self::Clone(error) => write!(f, "clone3: {error}"),
            Self::Child(step, error) => write!(f, "the child failed at {step:?}: {error}"),
            Self::Vanished => write!(f, "the child ended before exec without a word"),
            Self::NoListener => write!(f, "the child has no seccomp listener"),
            Self::Fetch(error) => write!(f, "fetching a descriptor from the child: {error}"),
            Self::Listener(error) => write!(f, "the seccomp listener: {error}"),
            Self::Ring(error) => write!(f, "making the restricted ring: {error}"),
            Self::RingParameters(error) => write!(f, "writing the ring's parameters: {error}"),
            Self::Network(error) => write!(f, "the empty network namespace: {error}"),
            Self::Wait(error) => write!(f, "waiting for a child: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// A wall that this host could not put up. The process runs without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Missing {
    /// Its own PID namespace: it could name other processes.
    PidNamespace = 0,
    /// Its own IPC namespace.
    IpcNamespace,
    /// Its own UTS namespace.
    UtsNamespace,
    /// Its own cgroup namespace.
    CgroupNamespace,
    /// Its own user namespace: it runs under its host uid in the supervisor's.
    UserNamespace,
    /// Landlock around its root.
    Landlock,
    /// Landlock against TCP bind and connect (Linux 6.7).
    LandlockNetwork,
    /// Landlock against abstract sockets and signals to the outside (Linux 6.12).
    LandlockScope,
    /// As many open files as were asked for: the host allows fewer.
    OpenFiles,
}

impl Missing {
    pub(crate) const ALL: [Self; 9] = [
        Self::PidNamespace,
        Self::IpcNamespace,
        Self::UtsNamespace,
        Self::CgroupNamespace,
        Self::UserNamespace,
        Self::Landlock,
        Self::LandlockNetwork,
        Self::LandlockScope,
        Self::OpenFiles,
    ];
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PidNamespace => "PID namespace",
            Self::IpcNamespace => "IPC namespace",
            Self::UtsNamespace => "UTS namespace",
            Self::CgroupNamespace => "cgroup namespace",
            Self::UserNamespace => "user namespace",
            Self::Landlock => "Landlock",
            Self::LandlockNetwork => "Landlock for TCP",
            Self::LandlockScope => "Landlock for signals and abstract sockets",
            Self::OpenFiles => "as many open files as its manifest says",
        })
    }
}

/// A set of [`Missing`] that fits into a report without allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MissingSet(pub(crate) u16);

impl MissingSet {
    pub(crate) fn insert(&mut self, missing: Missing) {
        self.0 |= 1 << missing as u8;
    }

    pub(crate) fn list(self) -> Vec<Missing> {
        let has = |missing: &Missing| self.0 & (1 << *missing as u8) != 0;
        Missing::ALL.into_iter().filter(has).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_survives_its_report() {
        for number in 1..=Step::Exec as u8 {
            assert_eq!(
                Step::from_number(number).map(|step| step as u8),
                Some(number)
            );
        }
        assert_eq!(Step::from_number(0), None);
        assert_eq!(Step::from_number(Step::Exec as u8 + 1), None);
    }

    #[test]
    fn every_missing_wall_is_listed() {
        let mut set = MissingSet::default();
        for missing in Missing::ALL {
            set.insert(missing);
        }
        assert_eq!(set.list(), Missing::ALL);
    }
}
