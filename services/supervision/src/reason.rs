//! Why a process ended: each way to end is a reason of its own, since each asks something else of the operator.

use rustix::process::WaitIdStatus;
use std::fmt;

/// Why a process ended, or never began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It returned this status.
    Exit(i32),
    /// A signal of its own doing: a crash, or somebody's kill.
    Crash(i32),
    /// It made a system call that its profile does not name.
    FilterViolation(String),
    /// It was silent for too long.
    Hang,
    /// It never said that it was ready.
    NotReady,
    /// The kernel killed it at its memory limit.
    MemoryLimit,
    /// It was told to.
    Stopped,
    /// Its restart was asked for.
    Restarted,
    /// It said that it cannot serve, and why.
    Failed(String),
    /// It sent what is not a message.
    Garbled(String),
    /// It could not be spawned.
    NotStarted(String),
}

impl Reason {
    /// The reason as far as the kernel tells it.
    pub(crate) fn of(status: &WaitIdStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Exit(code),
            (None, signal) => Self::Crash(signal.unwrap_or(0)),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit {code}"),
            Self::Crash(signal) => write!(f, "crash {}", signal_name(*signal)),
            Self::FilterViolation(call) => write!(f, "filter violation {call}"),
            Self::Hang => write!(f, "hang"),
            Self::NotReady => write!(f, "not ready in time"),
            Self::MemoryLimit => write!(f, "memory limit"),
            Self::Stopped => write!(f, "stopped"),
            Self::Restarted => write!(f, "restarted"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Garbled(why) => write!(f, "garbled start channel: {why}"),
            Self::NotStarted(why) => write!(f, "not started: {why}"),
        }
    }
}

/// The names of signal(7); a number for the rest.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}
