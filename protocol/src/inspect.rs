//! What a person may ask of a node, and what the daemons tell about themselves.
//!
//! [`Operator`] is spoken on the control socket and by debug-ssh, and answered by the console; [`Inspect`] is spoken by the console to init and the
//! orchestrator. Everything here is for people and scripts: no program of the data path depends on it.

use crate::trace::Trace;
use crate::verbs::Role;
use crate::wire::Conversation;
use serde::{Deserialize, Serialize};

/// The most words of a verb, and the longest of them in bytes.
pub const WORDS_MAX: usize = 32;
/// The longest word in bytes.
pub const WORD_BYTES_MAX: usize = 2_048;
/// The longest file that a verb takes, in bytes.
pub const INPUT_BYTES_MAX: usize = 32 * 1024;
/// The most processes, services or log lines in one answer.
pub const LIST_MAX: usize = 1_000;
/// The largest piece of an answer to the operator, in bytes.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// A person's verb and its result.
pub enum Operator {}

impl Conversation for Operator {
    type Call = Verb;
    type Answer = Outcome;
    const NAME: &'static str = "operator";
    const NUMBER: u8 = 8;
    const VERSION: u8 = 2;
}

/// What the person typed behind `trousseau`, for example `["key", "create", "laptop"]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verb {
    /// At most [`WORDS_MAX`] of at most [`WORD_BYTES_MAX`] bytes.
    pub words: Vec<String>,
    /// Answer in JSON instead of text for people.
    pub json: bool,
    /// The file that the words name, read where the person is: at most [`INPUT_BYTES_MAX`] bytes.
    pub input: Option<String>,
    /// What the person may do: a verb beyond it is refused. Believed of debug-ssh, which has checked the person's key; whoever may open
    /// the control socket's directory owns the node.
    pub role: Role,
}

/// One piece of the answer; the last has `more == false`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// 0 done, 1 refused or failed, 2 not a verb or wrong words. Meaningful in the last piece.
    pub status: u8,
    /// At most [`TEXT_BYTES_MAX`]; what the person should see (on the error output where `status` is not 0).
    pub text: String,
    /// Another piece follows.
    pub more: bool,
}

/// The console to init and to the orchestrator, each by the name of the service on the bus.
pub enum Inspect {}

impl Conversation for Inspect {
    type Call = InspectCall;
    type Answer = InspectAnswer;
    const NAME: &'static str = "inspect";
    const NUMBER: u8 = 9;
    const VERSION: u8 = 4;
}

/// What the console asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum InspectCall {
    /// To init: every process of the node as the kernel sees it → [`InspectAnswer::Processes`].
    Processes,
    /// To init: the node itself → [`InspectAnswer::Node`].
    Node,
    /// To the orchestrator: its services → [`InspectAnswer::Services`]. To init: the daemons.
    Services,
    /// To init, who collects every process's lines: the last of them → [`InspectAnswer::Logs`].
    Logs {
        /// Only of this service.
        service: Option<String>,
        /// At most [`LIST_MAX`].
        lines: u32,
    },
    /// To the orchestrator: end this service and start it afresh → [`InspectAnswer::Done`]. To init: a daemon.
    Restart {
        /// Which.
        service: String,
    },
    /// To whoever supervises it: count what this service does from now on → [`InspectAnswer::Done`]. A trace that is under way is begun anew.
    Trace {
        /// Which.
        service: String,
        /// For how long, in milliseconds, at most [`crate::trace::TRACE_MS_MAX`].
        for_ms: u64,
    },
    /// To the same: what the trace has found so far → [`InspectAnswer::Traced`].
    Traced {
        /// Which.
        service: String,
    },
    /// To init: stop everything in order, then this → [`InspectAnswer::Done`], or [`InspectAnswer::Refused`] where the node cannot.
    Power(Power),
}

/// What follows when everything has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Power {
    /// The machine is switched off. A node on somebody's machine ends.
    Off,
    /// The machine starts again.
    Reboot,
}

/// What the console is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum InspectAnswer {
    /// At most [`LIST_MAX`]; `next` as in a further call's `after`.
    Processes(Vec<Process>),
    /// See [`Node`].
    Node(Node),
    /// At most [`LIST_MAX`].
    Services(Vec<Service>),
    /// Oldest first, at most [`LIST_MAX`] and at most [`TEXT_BYTES_MAX`] together.
    Logs(Vec<String>),
    /// See [`Trace`].
    Traced(Trace),
    /// Done.
    Done,
    /// Not done: why.
    Refused(String),
}

/// The node itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Where it serves S3: `ip:port`.
    pub s3: String,
    /// The region that it answers for.
    pub region: String,
    /// The program's version.
    pub version: String,
    /// Milliseconds since the start of init.
    pub uptime_ms: u64,
    /// Whether every service is ready.
    pub ready: bool,
    /// What the host could not give, one sentence each.
    pub missing: Vec<String>,
    /// The machine, if it is the node's own.
    pub machine: Option<Machine>,
}

/// A machine that has nothing to do but to be the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its addresses that lead outside, at most [`LIST_MAX`].
    pub addresses: Vec<String>,
    /// The memory that the kernel manages, in bytes (`MemTotal` of proc_meminfo(5)).
    pub memory_bytes: u64,
    /// What of it could be given to programs without swapping (`MemAvailable`).
    pub memory_available_bytes: u64,
}

/// One process as the kernel shows it (proc(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its service, by its `comm`.
    pub name: String,
    /// In the PID namespace of init.
    pub pid: u32,
    /// In the PID namespace that started `trousseau up` (0 where it cannot be told).
    pub host_pid: u32,
    /// Resident set in bytes.
    pub resident_bytes: u64,
    /// Proportional share in bytes (shared pages counted once over all).
    pub proportional_bytes: u64,
    /// User and system time in milliseconds.
    pub cpu_ms: u64,
    /// Threads.
    pub threads: u32,
    /// `Seccomp` of /proc/PID/status: 0 none, 2 filter.
    pub seccomp: u32,
    /// Effective capabilities.
    pub capabilities: u64,
    /// `NoNewPrivs`.
    pub no_new_privs: bool,
    /// The open descriptors: number and what it is, for example `socket:[123]`, `/blocks/ab…`, `anon_inode:[eventpoll]`.
    pub descriptors: Vec<(u32, String)>,
    /// Where each of them that is a socket leads, by its number.
    pub sockets: Vec<(u32, SocketEnd)>,
}

/// Where a socket leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SocketEnd {
    /// A Unix socket: the processes of the node that hold its other end. None: it listens, its other end is closed, or
    /// somebody outside of the node holds it.
    Unix(Vec<String>),
    /// TCP or UDP.
    Inet {
        /// Its own `ip:port`.
        own: String,
        /// The `ip:port` that it is connected to, or connecting.
        peer: Option<String>,
    },
    /// Made in the services' empty network, where it leads nowhere but to the one who made it.
    EmptyNetwork,
    /// The kernel does not tell (it lacks UNIX_DIAG).
    Untold,
}

/// The state of a service that the cluster has placed on other nodes begins so; their names follow.
pub const ELSEWHERE: &str = "on ";
/// The state of a service that is to be placed and runs nowhere.
pub const NOT_PLACED: &str = "not placed";

/// One supervised process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// In the PID namespace of init; 0 while it is not running.
    pub pid: u32,
    /// `starting`, `ready`, `waiting` (for its next start), `stopped`, `failed`; of a service that does not run here because it is placed elsewhere
    /// [`ELSEWHERE`] and the nodes, or [`NOT_PLACED`].
    pub state: String,
    /// Starts after the first.
    pub restarts: u32,
    /// Why it ended last: `exit 1`, `crash SIGSEGV`, `filter violation socket`, `hang`, `memory limit`, `stopped`, or what it said itself.
    pub last_reason: String,
    /// What was given: name and kind of each grant.
    pub grants: Vec<(String, String)>,
    /// What the host could not give to it.
    pub missing: Vec<String>,
    /// The system calls that it was denied since the node started: name and how often. Each ended one of its processes.
    pub denied: Vec<(String, u32)>,
}
