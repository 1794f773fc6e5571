//! PID 1: starts membership, bus, orchestrator and debug-ssh, reaps, collects the log, and stops everything in order.
//!
//! It makes the socket pairs between them and holds none of them. When the bus ends, the orchestrator and debug-ssh are ended, too, and all are started
//! afresh (every connection of every service was the bus's to give); membership and the orchestrator come back alone, and the bus
//! is attached to their new ends. Absent on purpose: sockets, the data path, any knowledge of S3.
#![forbid(unsafe_code)]

mod daemons;
mod data;
mod host;
mod log;
mod processes;
mod sockets;
mod ssh;

pub use data::{DataDir, Identity, OpenError};
pub use ssh::Ssh;

use daemons::Daemons;
use manifests::Policy;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use protocol::Channel;
use protocol::channel::ReceiveBuffer;
use protocol::inspect::{InspectAnswer, InspectCall, Node, Power};
use protocol::start::{Say, Start};
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// The most services beyond the built-in ones: the orchestrator gets each one's program in the one message that packs it, beside
/// two edges, the program, two directories and at most three cgroup directories.
pub const EXTRA_SERVICES_MAX: usize = protocol::channel::DESCRIPTORS_MAX - 8;
/// The most bytes of those services' manifests, which go with the same message.
pub const EXTRA_MANIFESTS_BYTES_MAX: usize = protocol::wire::MESSAGE_BYTES_MAX / 2;

/// What a node is started with. Made by `trousseau up` (or, in the booted image, from `node.toml`).
pub struct Config {
    /// The opened and locked data directory.
    pub data: DataDir,
    /// The sealed static program.
    pub program: OwnedFd,
    /// `ip:port` of S3.
    pub s3: String,
    /// `ip:port` of the gossip.
    pub gossip: String,
    /// How people come in by ssh; `None`: they do not.
    pub ssh: Option<Ssh>,
    /// The region that S3 answers for.
    pub region: String,
    /// Host name suffixes of virtual-host style, separated by commas.
    pub hosts: String,
    /// All manifests, the extra ones included.
    pub policy: Policy,
    /// Manifests of services that are not built in: file name and text.
    pub manifests: Vec<(String, String)>,
    /// The programs of those services, sealed: name and program.
    pub programs: Vec<(String, OwnedFd)>,
    /// Where to say that the node is ready, or why it is not.
    pub launcher: Channel,
    /// Whether the machine is ours, to switch off and to start again.
    pub machine: bool,
    /// Whether we are root on the host (and can give each process a user of its own).
    pub root: bool,
}

/// Why init ends without having been asked to.
#[derive(Debug)]
pub enum Error {
    /// The host cannot give what a node cannot do without.
    Host(&'static str, Errno),
    /// A directory of the node's data.
    Data(String, Errno),
    /// A daemon says that it cannot serve, and a restart would not help.
    Failed(String),
    /// The channel of a conversation failed.
    Runtime(runtime::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(what, errno) => write!(f, "{what}: {errno}"),
            Self::Data(path, errno) => write!(f, "data directory: {path}: {errno}"),
            Self::Failed(why) => f.write_str(why),
            Self::Runtime(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

/// Runs the node as PID 1 until it is told to stop (SIGTERM, SIGINT, or an operator), then stops it in order; what is to follow.
/// `Err` has been told to the launcher.
pub fn run(config: Config) -> Result<Power, Error> {
    let launcher = config
        .launcher
        .as_fd()
        .try_clone_to_owned()
        .map(Channel::from);
    let result = Init::new(config).and_then(Init::serve);
    if let (Err(error), Ok(launcher)) = (&result, launcher) {
        let say = Say::Failed {
            reason: error.to_string(),
        };
        let _ = launcher.send_message::<Start>(&say, &[], SendFlags::empty());
    }
    result
}

struct Init {
    config: Config,
    identity: Identity,
    signals: SignalFd,
    daemons: Daemons,
    log: log::Log,
    started: Instant,
    ready: bool,
    /// It was told to stop; what is to follow.
    stopping: Option<Power>,
    /// What the host could not give, one sentence each.
    missing: Vec<String>,
    processes: processes::Processes,
}

impl Init {
    fn new(mut config: Config) -> Result<Self, Error> {
        let signals = signals()?;
        let identity = config.data.prepare(&config.policy, config.root)?;
        host::raise_open_files(&config.policy);
        let processes = processes::Processes::new()?;
        let (cgroups, mut missing) = host::cgroups(&identity, config.root);
        if !config.root {
            missing.push("a user of its own for each service: the node runs as an ordinary user, who has only one".into());
        }
        if !sockets::are_told() {
            missing.push("where the sockets of its processes lead: this kernel has no UNIX_DIAG, so `caps` cannot compare them with the manifests".into());
        }
        let mut log = log::Log::default();
        for what in &missing {
            log.line("init", &format!("warn: this host cannot give: {what}"));
        }
        let daemons = Daemons::new(&config, &identity, cgroups)?;
        Ok(Self {
            config,
            identity,
            signals,
            daemons,
            log,
            started: Instant::now(),
            ready: false,
            stopping: None,
            missing,
            processes,
        })
    }

    fn serve(mut self) -> Result<Power, Error> {
        let mut buffer = ReceiveBuffer::new();
        loop {
            self.daemons.start_due(&mut self.log);
            let deadline = self
                .daemons
                .deadline()
                .unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
            let descriptors =
                std::iter::once(self.signals.as_fd()).chain(self.daemons.descriptors());
            supervision::wait(descriptors, Some(deadline))
                .map_err(|errno| Error::Host("poll", errno))?;
            if self.read_signals() {
                self.stopping.get_or_insert(Power::Off);
            }
            let news = self.daemons.turn(&mut self.log, &mut buffer);
            self.daemons.reap_orphans();
            if let Some(reason) = news.failed {
                return Err(Error::Failed(reason));
            }
            self.note_missing(news.missing);
            if news.ready {
                self.became_ready();
            }
            if let Some(then) = self.stopping
                && self.daemons.stop()
            {
                host::remove_cgroups(&self.identity);
                self.log.line("init", "info: the node has stopped");
                return Ok(then);
            }
            self.answer(&mut buffer);
        }
    }

    /// SIGCHLD only wakes us; whether to stop.
    fn read_signals(&mut self) -> bool {
        let mut stop = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            stop |= signal.ssi_signo != Signal::SIGCHLD as u32;
        }
        stop
    }

    /// Says what the host cannot give, once.
    fn note_missing(&mut self, missing: Vec<String>) {
        for what in missing {
            if !self.missing.contains(&what) {
                self.log
                    .line("init", &format!("warn: this host cannot give: {what}"));
                self.missing.push(what);
            }
        }
    }

    /// Every service serves.
    fn became_ready(&mut self) {
        if !self.ready {
            self.ready = true;
            let about = self.config.s3.clone();
            let _ = self.config.launcher.send_message::<Start>(
                &Say::Ready { about },
                &[],
                SendFlags::DONTWAIT,
            );
        }
    }

    fn answer(&mut self, buffer: &mut ReceiveBuffer) {
        let Self {
            daemons,
            log,
            processes,
            config,
            identity,
            started,
            missing,
            stopping,
            ..
        } = self;
        let ready = daemons.all_ready();
        let services = daemons.describe();
        let answer = |call: InspectCall| {
            match call {
            InspectCall::Node => InspectAnswer::Node(Node {
                name: identity.name.clone(),
                zone: identity.zone.clone(),
                s3: config.s3.clone(),
                region: config.region.clone(),
                version: env!("CARGO_PKG_VERSION").into(),
                uptime_ms: started.elapsed().as_millis() as u64,
                ready,
                missing: missing.clone(),
            }),
            InspectCall::Processes => InspectAnswer::Processes(processes.all()),
            InspectCall::Services => InspectAnswer::Services(services.clone()),
            InspectCall::Logs { service, lines } => {
                InspectAnswer::Logs(log.last(service.as_deref(), lines))
            }
            // Answered by the daemons themselves.
            InspectCall::Restart { .. } | InspectCall::Trace { .. } | InspectCall::Traced { .. } => {
                InspectAnswer::Refused("no such daemon".into())
            }
            InspectCall::Power(Power::Off) => {
                log.line("init", "info: told to power off");
                stopping.get_or_insert(Power::Off);
                InspectAnswer::Done
            }
            InspectCall::Power(Power::Reboot) if config.machine => {
                log.line("init", "info: told to reboot");
                stopping.get_or_insert(Power::Reboot);
                InspectAnswer::Done
            }
            InspectCall::Power(Power::Reboot) => InspectAnswer::Refused(
                "this node runs on somebody's machine, which is not its own to reboot; `poweroff` ends the node".into(),
            ),
        }
        };
        daemons.answer(buffer, answer);
    }
}

/// SIGTERM, SIGINT and SIGCHLD as a descriptor. Blocked, so that no handler ever runs in between.
fn signals() -> Result<SignalFd, Error> {
    let fails =
        |errno: nix::errno::Errno| Error::Host("signalfd", Errno::from_raw_os_error(errno as i32));
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        set.add(signal);
    }
    set.thread_block().map_err(fails)?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(fails)
}
