//! A supervisor for one child: starts it, answers its calls, and hears what it says.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use sandbox_profiles::{Child, Limits, Root, Spawn, Verdict, profile, program, spawn};
use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::SystemTime;

/// Longer than any case takes on a busy machine.
const PATIENCE: Timespec = Timespec {
    tv_sec: 20,
    tv_nsec: 0,
};

/// What a case may change about a start.
pub(crate) struct Options<'a> {
    /// None: an empty directory, made for it.
    pub(crate) root: Option<Root<'a>>,
    pub(crate) network: Option<&'a OwnedFd>,
    pub(crate) separate: bool,
    pub(crate) user: Option<u32>,
    pub(crate) cgroup: Option<&'a OwnedFd>,
    pub(crate) cgroup_v1: Option<&'a OwnedFd>,
    pub(crate) limits: Limits,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            root: None,
            network: None,
            separate: true,
            user: None,
            cgroup: None,
            cgroup_v1: None,
            limits: Limits {
                open_files: 256,
                data_bytes: None,
                address_bytes: None,
                threads: None,
            },
        }
    }
}

/// An empty directory, made with the few calls that the orchestrator has, too.
struct EmptyDirectory {
    path: String,
    descriptor: OwnedFd,
}

impl EmptyDirectory {
    fn new() -> Self {
        // Not the process's number, which others in other PID namespaces have, too.
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        let path = format!("/tmp/sandbox-profiles-{}", now.as_nanos());
        mkdirat(CWD, &path, Mode::from_raw_mode(0o755)).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = openat(CWD, &path, flags, Mode::empty()).unwrap();
        Self { path, descriptor }
    }
}

impl Drop for EmptyDirectory {
    fn drop(&mut self) {
        let _ = unlinkat(CWD, &self.path, AtFlags::REMOVEDIR);
    }
}

/// A running payload and what became of it so far.
pub(crate) struct Running {
    pub(crate) child: Child,
    channel: UnixStream,
    /// The lines it has said.
    pub(crate) said: Vec<String>,
    /// What its watch has answered.
    pub(crate) verdicts: Vec<Verdict>,
    partial: String,
}

impl Running {
    pub(crate) fn start(payload: &str, profile_name: &str, options: &Options<'_>) -> Self {
        Self::try_start(payload, profile_name, options).expect("spawn")
    }

    pub(crate) fn try_start(
        payload: &str,
        profile_name: &str,
        options: &Options<'_>,
    ) -> Result<Self, sandbox_profiles::Error> {
        let myself = File::open("/proc/self/exe").unwrap();
        // A payload that starts others runs from a sealed program already.
        let sealed = rustix::fs::fcntl_get_seals(&myself).is_ok_and(|seals| !seals.is_empty());
        let program: OwnedFd = match sealed {
            true => myself.into(),
            false => program("payload", myself.as_fd()).unwrap(),
        };
        let (channel, start) = UnixStream::pair().unwrap();
        let cgroups: Vec<_> = options
            .cgroup_v1
            .iter()
            .map(|group| group.as_fd())
            .collect();
        let empty = EmptyDirectory::new();
        let child = spawn(Spawn {
            name: payload,
            profile: profile(profile_name).expect("there is such a profile"),
            program: program.as_fd(),
            root: options
                .root
                .unwrap_or(Root::Empty(empty.descriptor.as_fd())),
            network: options.network.map(AsFd::as_fd),
            separate: options.separate,
            user: options.user,
            cgroup: options.cgroup.map(AsFd::as_fd),
            cgroups_v1: &cgroups,
            limits: options.limits,
            stderr: std::io::stderr().as_fd(),
            start: start.into(),
        })?;
        // The child has it by now; nobody else needs its name.
        drop(empty);
        Ok(Self {
            child,
            channel,
            said: vec![],
            verdicts: vec![],
            partial: String::new(),
        })
    }

    pub(crate) fn pid(&self) -> Pid {
        self.child.pid
    }

    /// Answers calls until the payload has said so many lines in all.
    pub(crate) fn hear(&mut self, lines: usize) {
        while self.said.len() < lines {
            assert!(self.turn(), "the payload ended after {:?}", self.said);
            let violation = matches!(self.verdicts.last(), Some(Verdict::Violation { .. }));
            assert!(!violation, "{:?} {:?}", self.said, self.verdicts.last());
        }
    }

    /// Answers calls until the payload ends or violates its profile, which it must.
    pub(crate) fn until_violation(&mut self) -> &'static str {
        loop {
            assert!(self.turn(), "no violation: {:?}", self.said);
            if let Some(Verdict::Violation { syscall, .. }) = self.verdicts.last() {
                return syscall;
            }
        }
    }

    pub(crate) fn seal(&mut self) {
        self.child.watch.as_mut().unwrap().seal();
    }

    pub(crate) fn go_on(&mut self) {
        self.channel.write_all(b".").unwrap();
    }

    /// One event; false at the end of the channel.
    fn turn(&mut self) -> bool {
        let watch = self.child.watch.as_mut();
        let ready = {
            let mut descriptors = vec![PollFd::new(&self.channel, PollFlags::IN)];
            if let Some(watch) = &watch {
                descriptors.push(PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN));
            }
            let count = poll(&mut descriptors, Some(&PATIENCE)).unwrap();
            assert!(count > 0, "nothing happens: {:?}", self.said);
            [0, 1].map(|i| descriptors.get(i).is_some_and(|d| !d.revents().is_empty()))
        };
        // What it said comes first: it was said before the call that waits.
        if ready[0] {
            let mut bytes = [0; 4096];
            let count = self.channel.read(&mut bytes).unwrap();
            self.partial += std::str::from_utf8(&bytes[..count]).unwrap();
            while let Some((line, rest)) = self.partial.split_once('\n') {
                self.said.push(line.to_owned());
                self.partial = rest.to_owned();
            }
            if count > 0 {
                return true;
            }
        }
        if ready[1]
            && let Some(watch) = watch
        {
            let verdict = watch.answer().expect("answer");
            if verdict != Verdict::Ended {
                self.verdicts.push(verdict);
                return true;
            }
        }
        false
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.child.pidfd, Signal::KILL);
        let ended = waitid(
            WaitId::PidFd(self.child.pidfd.as_fd()),
            WaitIdOptions::EXITED,
        );
        assert!(ended.is_ok() || std::thread::panicking());
    }
}
