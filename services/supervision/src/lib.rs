//! One supervised process: started, packed, listened to, and, when it ends, named a reason and a time to start again.
//!
//! Shared by `init` (for the daemons) and `orchestrator` (for the services), whose poll loops own the [`Charge`]s. Absent on purpose:
//! any knowledge of what a service is for.
#![forbid(unsafe_code)]

mod answer;
mod cgroup;
mod lines;
mod reason;
mod trace;
mod wait;

pub use answer::answer;
pub use cgroup::{Cgroup, Cgroups};
pub use reason::Reason;

use lines::Lines;
use protocol::Channel;
use protocol::channel::{MessageError, ReceiveBuffer};
use protocol::start::{HANG_AFTER_MS, Order, Packed, Say, Start};
use protocol::trace::Trace;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Signal, WaitId, WaitIdOptions};
use sandbox_profiles::{Child, Verdict};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use trace::Tracing;

/// The most starts within a minute; then the next waits for the minute to pass.
pub const STARTS_PER_MINUTE_MAX: usize = 40;
/// The longest pause before a start, however often it failed.
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// The first pause; doubled with each end that follows soon.
const BACK_OFF_MIN: Duration = Duration::from_millis(10);
/// Whoever served for so long is healthy: its next pause is the first one again. Short, so that somebody's kills now and then
/// do not look like a process that fails by itself; those who fail at every start are over within milliseconds.
const HEALTHY_AFTER: Duration = Duration::from_secs(1);
/// A process that has not said that it is ready after this long is killed.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// One process that was told to stop and has not is killed after this long.
pub const STOP_WITHIN: Duration = Duration::from_secs(5);

/// So many messages and trapped calls of one process are taken in a turn: a flood must not keep its supervisor from the others.
const PER_TURN_MAX: usize = 256;

/// One process that must run, and its history.
pub struct Charge {
    name: String,
    running: Option<Running>,
    /// When it may start (again); `None` once it was stopped or has failed for good.
    next_start: Option<Instant>,
    starts: VecDeque<Instant>,
    restarts: u32,
    failures: u32,
    last_reason: Option<Reason>,
    stopped: bool,
    /// System calls that its processes were denied, ever.
    denied: BTreeMap<String, u32>,
    trace: Option<Tracing>,
}

struct Running {
    child: Child,
    start: Channel,
    log: OwnedFd,
    cgroup: Cgroup,
    /// Of earlier processes in the same cgroup.
    memory_kills: u64,
    lines: Lines,
    ready: bool,
    since: Instant,
    heard: Instant,
    /// Why we ended it, known before the kernel reports the end.
    ending: Option<Reason>,
    kill_at: Option<Instant>,
}

/// What happened to a process.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A line of its log.
    Line(String),
    /// It serves.
    Ready(String),
    /// It has ended and is reaped.
    Ended(Reason),
}

/// What [`Charge::started`] needs of a fresh process.
pub struct Started {
    /// As spawned.
    pub child: Child,
    /// Our end of its start channel.
    pub start: Channel,
    /// Our end of its log pipe.
    pub log: OwnedFd,
    /// Where it runs.
    pub cgroup: Cgroup,
}

impl Charge {
    /// A process that is due at once.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            running: None,
            next_start: Some(Instant::now()),
            starts: VecDeque::new(),
            restarts: 0,
            failures: 0,
            last_reason: None,
            stopped: false,
            denied: BTreeMap::new(),
            trace: None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id in our namespace, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running
            .as_ref()
            .map(|running| running.child.pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// `starting`, `ready`, `waiting`, `stopped` or `failed`.
    pub fn state(&self) -> &'static str {
        match (&self.running, self.next_start, self.stopped) {
            (Some(running), ..) if running.ready => "ready",
            (Some(_), ..) => "starting",
            (None, Some(_), _) => "waiting",
            (None, None, true) => "stopped",
            (None, None, false) => "failed",
        }
    }

    /// Whether it serves.
    pub fn ready(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.ready)
    }

    /// Starts after the first.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Why it ended last.
    pub fn last_reason(&self) -> Option<&Reason> {
        self.last_reason.as_ref()
    }

    /// The system calls that its processes were denied since the first start: name and how often. Each ended one of them.
    pub fn denied(&self) -> Vec<(String, u32)> {
        let denied = self.denied.iter();
        denied.map(|(call, count)| (call.clone(), *count)).collect()
    }

    /// Counts what the process does from now on, for so long; a restart in between is counted, too. Whether there is a process to count.
    pub fn begin_trace(&mut self, now: Instant, span: Duration) -> bool {
        if self.running.is_none() {
            return false;
        }
        let trace = Tracing::new(now, span, self.denied.clone());
        self.order(&trace.order(now), &[]);
        self.trace = Some(trace);
        true
    }

    /// What the trace has found so far; `None` if none was begun.
    pub fn traced(&self, now: Instant) -> Option<Trace> {
        Some(self.trace.as_ref()?.report(now, &self.denied))
    }

    /// What the host could not give to the present process, one sentence each.
    pub fn missing(&self) -> Vec<String> {
        let Some(running) = &self.running else {
            return Vec::new();
        };
        let walls = running.child.missing.iter();
        let walls = walls.map(|what| format!("{}: {what}", self.name));
        let limits = running.cgroup.missing().iter().cloned();
        limits.chain(walls).collect()
    }

    /// Whether it shall be started now.
    pub fn due(&self, now: Instant) -> bool {
        self.running.is_none() && self.next_start.is_some_and(|at| at <= now)
    }

    /// It is due, but something else must happen first: looked at again then.
    pub fn postpone(&mut self, until: Instant) {
        self.next_start = self.next_start.map(|_| until);
    }

    /// Takes a process that was just spawned, and packs for it. Errors leave the charge waiting for its next start.
    pub fn started(
        &mut self,
        started: Started,
        packed: Packed,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), MessageError> {
        let now = Instant::now();
        self.count_start(now);
        let Started {
            child,
            start,
            log,
            cgroup,
        } = started;
        let sent =
            start.send_message::<Start>(&Order::Packed(packed), descriptors, SendFlags::DONTWAIT);
        self.running = Some(Running {
            child,
            start,
            log,
            memory_kills: cgroup.memory_kills(),
            cgroup,
            lines: Lines::default(),
            ready: false,
            since: now,
            heard: now,
            ending: None,
            kill_at: None,
        });
        // Its predecessor was being traced: what it does is counted on.
        if let Some(order) = self.trace.as_ref().and_then(|trace| trace.again(now)) {
            self.order(&order, &[]);
        }
        sent
    }

    /// The process could not even be spawned.
    pub fn not_started(&mut self, why: String) {
        let now = Instant::now();
        self.count_start(now);
        self.schedule(now, Duration::ZERO);
        self.last_reason = Some(Reason::NotStarted(why));
    }

    fn count_start(&mut self, now: Instant) {
        self.restarts += u32::from(!self.starts.is_empty() || self.restarts > 0);
        while self
            .starts
            .front()
            .is_some_and(|at| now - *at > Duration::from_secs(60))
        {
            self.starts.pop_front();
        }
        self.starts.push_back(now);
        self.next_start = None;
    }

    /// Sets the next start after an end: a pause that doubles, and never more than [`STARTS_PER_MINUTE_MAX`].
    fn schedule(&mut self, now: Instant, served: Duration) {
        if self.stopped {
            self.next_start = None;
            return;
        }
        self.failures = if served >= HEALTHY_AFTER {
            0
        } else {
            self.failures + 1
        };
        let pause = BACK_OFF_MIN * 2u32.pow(self.failures.min(10));
        let mut at = now + pause.min(BACK_OFF_MAX);
        if self.starts.len() >= STARTS_PER_MINUTE_MAX {
            at = at.max(
                self.starts
                    .front()
                    .map_or(now, |first| *first + Duration::from_secs(60)),
            );
        }
        self.next_start = Some(at);
    }

    /// An order to the running process, for example a fresh end of an edge. A process that is not there gets it with its next pack.
    pub fn order(&self, order: &Order, descriptors: &[BorrowedFd<'_>]) {
        if let Some(running) = &self.running {
            let _ = running
                .start
                .send_message::<Start>(order, descriptors, SendFlags::DONTWAIT);
        }
    }

    /// Asks it to stop, and not to be started again; killed if it has not `within` this time.
    pub fn stop(&mut self, within: Duration) {
        self.stopped = true;
        self.next_start = None;
        let kill_at = Instant::now() + within;
        if let Some(running) = &mut self.running {
            running.ending.get_or_insert(Reason::Stopped);
            // Whoever asks again may be in more of a hurry.
            running.kill_at = Some(running.kill_at.map_or(kill_at, |at| at.min(kill_at)));
        }
        self.order(&Order::Stop, &[]);
    }

    /// After [`Charge::stop`]: it is started again, as soon as it has ended.
    pub fn resume(&mut self) {
        self.stopped = false;
        if self.running.is_none() {
            self.next_start = Some(Instant::now());
        }
    }

    /// Asks it to stop, and starts it afresh then; killed if it has not `within` this time.
    pub fn renew(&mut self, within: Duration) {
        if let Some(running) = &mut self.running {
            running.ending.get_or_insert(Reason::Restarted);
            running.kill_at.get_or_insert(Instant::now() + within);
        }
        self.order(&Order::Stop, &[]);
    }

    /// Ends the process at once; it is started again unless it was stopped. The end is reported by [`Charge::turn`].
    pub fn kill(&mut self, reason: Reason) {
        if let Some(running) = &mut self.running {
            running.ending.get_or_insert(reason);
            let _ = rustix::process::pidfd_send_signal(&running.child.pidfd, Signal::KILL);
        }
    }

    /// Whether a process is there, serving or not.
    pub fn running(&self) -> bool {
        self.running.is_some()
    }

    /// All descriptors that tell of something new.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.running.iter().flat_map(|running| {
            let watch = running.child.watch.as_ref().map(|watch| watch.as_fd());
            [
                running.child.pidfd.as_fd(),
                running.start.as_fd(),
                running.log.as_fd(),
            ]
            .into_iter()
            .chain(watch)
        })
    }

    /// When to look again even if nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.running {
            None => self.next_start,
            Some(running) => {
                let limit = if running.ready {
                    Duration::from_millis(HANG_AFTER_MS)
                } else {
                    READY_WITHIN
                };
                let silent = running.heard + limit;
                Some(running.kill_at.map_or(silent, |at| at.min(silent)))
            }
        }
    }

    /// Everything that has happened since the last turn. Never waits.
    pub fn turn(&mut self, now: Instant, buffer: &mut ReceiveBuffer) -> Vec<Event> {
        let mut events = Vec::new();
        let Some(running) = &mut self.running else {
            return events;
        };
        running.answer_trapped_calls(now, buffer, &mut events, &mut self.trace);
        running.listen(now, buffer, &mut events, &mut self.trace);
        running.read_log(&mut events);
        running.check_clock(now);
        // The status is read after everything it said, so that its last words come before its end.
        if let Some(reason) = running.reap() {
            running.listen(now, buffer, &mut events, &mut self.trace);
            running.read_log(&mut events);
            running.lines.flush(|line| events.push(Event::Line(line)));
            let reason = running.ending.take().unwrap_or(reason);
            let served = if running.ready {
                now - running.since
            } else {
                Duration::ZERO
            };
            let for_good = matches!(reason, Reason::Failed(_));
            self.running = None;
            self.schedule(now, served);
            if for_good {
                self.next_start = None;
            }
            if let Reason::FilterViolation(call) = &reason {
                *self.denied.entry(call.clone()).or_default() += 1;
            }
            if let Some(trace) = &mut self.trace {
                trace.ended(now, &reason);
            }
            self.last_reason = Some(reason.clone());
            events.push(Event::Ended(reason));
        }
        events
    }
}

impl Running {
    /// The filter's questions. A call that the profile does not name is the end of the process, with the name of the call.
    ///
    /// What it said before the call is heard first: a call behind "ready" must meet the sealed list.
    fn answer_trapped_calls(
        &mut self,
        now: Instant,
        buffer: &mut ReceiveBuffer,
        events: &mut Vec<Event>,
        trace: &mut Option<Tracing>,
    ) {
        for _ in 0..PER_TURN_MAX {
            let watch = self.child.watch.as_ref();
            if !watch.is_some_and(|watch| wait::readable(watch.as_fd())) {
                return;
            }
            self.listen(now, buffer, events, trace);
            let Some(watch) = &mut self.child.watch else {
                return;
            };
            match watch.answer() {
                Ok(Verdict::Violation { syscall, .. }) => {
                    self.ending
                        .get_or_insert(Reason::FilterViolation(syscall.to_string()));
                    let _ = rustix::process::pidfd_send_signal(&self.child.pidfd, Signal::KILL);
                    return;
                }
                Ok(_) => {}
                // The caller died between question and answer; its end is reported by its pidfd.
                Err(_) => return,
            }
        }
    }

    fn listen(
        &mut self,
        now: Instant,
        buffer: &mut ReceiveBuffer,
        events: &mut Vec<Event>,
        trace: &mut Option<Tracing>,
    ) {
        for _ in 0..PER_TURN_MAX {
            match self
                .start
                .receive_message::<Start, Say>(buffer, RecvFlags::DONTWAIT)
            {
                Ok(Some((Say::Ready { about }, _))) if !self.ready => {
                    self.ready = true;
                    self.since = now;
                    self.heard = now;
                    if let Some(watch) = &mut self.child.watch {
                        watch.seal();
                    }
                    events.push(Event::Ready(about));
                }
                Ok(Some((Say::Ready { .. } | Say::Alive, _))) => self.heard = now,
                Ok(Some((say @ Say::Traced { .. }, _))) => {
                    if let Some(trace) = trace {
                        trace.hear(say);
                    }
                }
                Ok(Some((Say::Failed { reason }, _))) => {
                    self.ending.get_or_insert(Reason::Failed(reason));
                    self.kill_at.get_or_insert(now + Duration::from_secs(1));
                }
                // A hang-up: the process ends or has ended. One that only closed its channel will be silent, and found to hang.
                Ok(None) => return,
                Err(error) if error.would_block() => return,
                Err(error) => {
                    self.ending
                        .get_or_insert(Reason::Garbled(error.to_string()));
                    let _ = rustix::process::pidfd_send_signal(&self.child.pidfd, Signal::KILL);
                    return;
                }
            }
        }
    }

    fn read_log(&mut self, events: &mut Vec<Event>) {
        self.lines
            .read(&self.log, |line| events.push(Event::Line(line)));
    }

    fn check_clock(&mut self, now: Instant) {
        let limit = if self.ready {
            Duration::from_millis(HANG_AFTER_MS)
        } else {
            READY_WITHIN
        };
        if now - self.heard > limit {
            self.ending.get_or_insert(if self.ready {
                Reason::Hang
            } else {
                Reason::NotReady
            });
            self.kill_at = Some(now);
        }
        if self.kill_at.is_some_and(|at| at <= now) {
            let _ = rustix::process::pidfd_send_signal(&self.child.pidfd, Signal::KILL);
        }
    }

    fn reap(&self) -> Option<Reason> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status =
            rustix::process::waitid(WaitId::PidFd(self.child.pidfd.as_fd()), options).ok()??;
        match Reason::of(&status) {
            // The kernel's status does not tell its own kill at the memory limit from anybody's; the cgroup's count does.
            Reason::Crash(9) if self.cgroup.memory_kills() > self.memory_kills => {
                Some(Reason::MemoryLimit)
            }
            reason => Some(reason),
        }
    }
}
