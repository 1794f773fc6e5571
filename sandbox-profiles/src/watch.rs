//! A service's trapped calls: the supervisor polls the listener and answers one call at a time.

use crate::error::Error;
use crate::profile::{Profile, syscall_name};
use crate::ring;
use crate::sys::descriptors::Slot;
use crate::sys::seccomp::{self, Notification};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Pid;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The listener of one process's filter, and what it may still do.
///
/// When the supervisor drops it (or dies), trapped calls fail with ENOSYS.
#[derive(Debug)]
pub struct Watch {
    listener: OwnedFd,
    profile: &'static Profile,
    process: Pid,
    sealed: bool,
    rings_left: u32,
    #[cfg(feature = "learn")]
    lesson: crate::learn::Lesson,
}

/// What became of a trapped call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A `start` call before Ready: it went on.
    Continued(&'static str),
    /// The service has got its ring.
    RingGiven,
    /// The profile does not have this call. It is not answered: its thread stays in the call until
    /// the supervisor kills the process through its pidfd, which it must do.
    Violation {
        /// The call's name, or `unknown`.
        syscall: &'static str,
        /// Its number.
        number: u32,
        /// Its registers.
        args: [u64; 6],
        /// The calling thread in the supervisor's PID namespace.
        tid: u32,
    },
    /// The call was gone before it could be answered, or there was none.
    Nothing,
    /// No process is left under the filter; poll the listener no more.
    Ended,
}

impl Watch {
    pub(crate) fn new(listener: OwnedFd, profile: &'static Profile, process: Pid) -> Self {
        Self {
            listener,
            profile,
            process,
            sealed: false,
            rings_left: profile.ring.as_ref().map_or(0, |ring| ring.rings_max),
            #[cfg(feature = "learn")]
            lesson: crate::learn::Lesson::new(profile),
        }
    }

    /// What to poll for reading.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The service has said that it is ready: from here on `start` calls are violations.
    pub fn seal(&mut self) {
        self.sealed = true;
        self.rings_left = 0;
    }

    /// Whether [`Watch::seal`] was called.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Answers one trapped call. Does not block.
    ///
    /// After an error the service is in an unknown state: kill it. Until then the call waits on.
    pub fn answer(&mut self) -> Result<Verdict, Error> {
        let mut listener = [PollFd::new(&self.listener, PollFlags::IN)];
        // Only a call that is there: receiving would wait for one, for ever if none can come.
        poll(&mut listener, Some(&Timespec::default())).map_err(Error::Listener)?;
        let [events] = listener.map(|descriptor| descriptor.revents());
        if !events.contains(PollFlags::IN) {
            let ended = events.intersects(PollFlags::HUP | PollFlags::ERR);
            return Ok(if ended {
                Verdict::Ended
            } else {
                Verdict::Nothing
            });
        }
        let Some(call) = self.receive()? else {
            return Ok(Verdict::Nothing);
        };
        self.judge(&call)
    }

    fn judge(&mut self, call: &Notification) -> Result<Verdict, Error> {
        if let Some(verdict) = self.ring(call)? {
            return Ok(verdict);
        }
        #[cfg(feature = "learn")]
        return match self.lesson.record(call, self.sealed) {
            None => self.carry_on(call),
            Some(errno) => self.refuse(call, errno),
        };
        #[cfg(not(feature = "learn"))]
        self.judge_start(call)
    }

    #[cfg(not(feature = "learn"))]
    fn judge_start(&self, call: &Notification) -> Result<Verdict, Error> {
        let start = self
            .profile
            .start
            .iter()
            .any(|rule| rule.matches(call.number, &call.args));
        if start && !self.sealed {
            return self.carry_on(call);
        }
        Ok(Verdict::Violation {
            syscall: syscall_name(call.number),
            number: call.number,
            args: call.args,
            tid: call.tid,
        })
    }

    /// Gives a ring if the call asks for one and one is left.
    fn ring(&mut self, call: &Notification) -> Result<Option<Verdict>, Error> {
        let Some(profile) = &self.profile.ring else {
            return Ok(None);
        };
        // Only to the first thread: its number cannot become another's before it is waited for.
        let first = i32::try_from(call.tid) == Ok(self.process.as_raw_pid());
        if syscall_name(call.number) != "io_uring_setup" || self.rings_left == 0 || !first {
            return Ok(None);
        }
        self.rings_left -= 1;
        let given = ring::answer(self.listener.as_fd(), call, profile)?;
        Ok(Some(if given {
            Verdict::RingGiven
        } else {
            Verdict::Nothing
        }))
    }

    fn carry_on(&self, call: &Notification) -> Result<Verdict, Error> {
        match seccomp::carry_on(self.listener.as_fd(), call) {
            Ok(()) => Ok(Verdict::Continued(syscall_name(call.number))),
            Err(Errno::NOENT) => Ok(Verdict::Nothing),
            Err(error) => Err(Error::Listener(error)),
        }
    }

    #[cfg(feature = "learn")]
    fn refuse(&self, call: &Notification, errno: u16) -> Result<Verdict, Error> {
        let errno = Errno::from_raw_os_error(i32::from(errno));
        match seccomp::fail(self.listener.as_fd(), call, errno) {
            Ok(()) => Ok(Verdict::Continued(syscall_name(call.number))),
            Err(Errno::NOENT) => Ok(Verdict::Nothing),
            Err(error) => Err(Error::Listener(error)),
        }
    }

    fn receive(&self) -> Result<Option<Notification>, Error> {
        loop {
            match seccomp::receive(self.listener.as_fd()) {
                Ok(call) => return Ok(Some(call)),
                Err(Errno::INTR) => {}
                // Killed between the poll and here.
                Err(Errno::NOENT) => return Ok(None),
                Err(error) => return Err(Error::Listener(error)),
            }
        }
    }

    /// Lets the spawner's own exec through, the only one there will ever be.
    pub(crate) fn admit_exec(&self) -> Result<(), Error> {
        let mut listener = [PollFd::new(&self.listener, PollFlags::IN)];
        while let Err(error) = poll(&mut listener, None) {
            if error != Errno::INTR {
                return Err(Error::Listener(error));
            }
        }
        let [events] = listener.map(|descriptor| descriptor.revents());
        if !events.contains(PollFlags::IN) {
            return Err(Error::Vanished);
        }
        let call = self.receive()?.ok_or(Error::Vanished)?;
        let [program, ..] = call.args;
        if syscall_name(call.number) != "execveat" || program != Slot::Program as u64 {
            return Err(Error::Listener(Errno::PERM));
        }
        seccomp::carry_on(self.listener.as_fd(), &call).map_err(Error::Listener)
    }
}
