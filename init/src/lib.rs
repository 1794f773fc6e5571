//! PID 1: starts membership, bus, orchestrator and debug-ssh, reaps, collects the log, and stops everything in order.
//!
//! It makes the socket pairs between them and holds none of them. When the bus ends, the orchestrator and debug-ssh are ended, too, and all are started
//! afresh (every connection of every service was the bus's to give); membership and the orchestrator come back alone, and the bus
//! is attached to their new ends. Absent on purpose: sockets, the data path, any knowledge of S3.
#![forbid(unsafe_code)]

mod daemons;
mod data;
mod files;
mod host;
mod identity;
mod log;
mod machine_facts;
mod own_machine;
mod processes;
mod settings;
mod sockets;
mod ssh;

pub use data::{DataDir, Identity, OpenError, Wish};
pub use own_machine::Devices;
pub use ssh::Ssh;

use daemons::Daemons;
use machine::Webhooks;
use manifests::Policy;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use own_machine::OwnMachine;
use protocol::Channel;
use protocol::channel::ReceiveBuffer;
use protocol::inspect::{InspectAnswer, InspectCall, Node, Power};
use protocol::start::{Say, Start};
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// What the sealed copy of the static program is called; that of any other program is called as its service.
pub const PROGRAM: &str = "trousseau";
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
    /// `ip:port` at which the bus answers the buses of other nodes; `None`: it does not, and the node stays alone.
    pub mesh: Option<String>,
    /// Where other nodes reach the two, if that is not where they are bound.
    pub reach: Reach,
    /// `ip:port` of web sites; `None`: there are none, and the service `web` does not run.
    pub web: Option<String>,
    /// Host names below which a bucket may stand as a web site, separated by commas.
    pub web_domains: String,
    /// The addresses outside of the node at which events are told; none: the service `notifier` does not run.
    pub webhooks: Webhooks,
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
    /// What the node shall be called.
    pub wish: Wish,
    /// Settings of the node that only some services ask for, by name.
    pub settings: Vec<(&'static str, String)>,
    /// Where to say that the node is ready, or why it is not; none on a machine of its own.
    pub launcher: Option<Channel>,
    /// On a machine of its own: what else init has in hand.
    pub devices: Option<Devices>,
    /// Whether we are root on the host (and can give each process a user of its own).
    pub root: bool,
}

/// Where other nodes reach this one, each `ip:port`; empty: where the socket is bound.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// Its bus.
    pub mesh: String,
    /// Its gossip.
    pub gossip: String,
}

/// Below this name browsers find their own machine without asking anybody (RFC 6761, 6.3).
const LOCAL_DOMAINS: &str = "web.localhost,localhost";

/// The host names below which buckets are web sites: those that the operator named, and the local ones.
pub fn web_domains(named: &[String]) -> String {
    let named = named.iter().map(String::as_str);
    named.chain([LOCAL_DOMAINS]).collect::<Vec<_>>().join(",")
}

/// Why a node on somebody's machine does not start it again.
const NOT_ITS_MACHINE: &str = "this node runs on somebody's machine, which is not its own to reboot; `poweroff` ends the node";

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

/// Runs the node as PID 1 until it is told to stop (SIGTERM, SIGINT, an operator, a machine's power button), then stops it in order; what is to
/// follow. `Err` has been told to the launcher.
pub fn run(config: Config) -> Result<Power, Error> {
    let launcher = config.launcher.as_ref();
    let launcher =
        launcher.and_then(|launcher| Some(launcher.as_fd().try_clone_to_owned().ok()?.into()));
    let result = Init::new(config).and_then(Init::serve);
    if let (Err(error), Some(launcher)) = (&result, launcher) {
        let launcher: Channel = launcher;
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
    /// The name of its cgroups.
    cgroup: String,
    signals: SignalFd,
    daemons: Daemons,
    log: log::Log,
    started: Instant,
    /// Every service has served at the same time.
    serves: bool,
    /// And everybody knows.
    ready: bool,
    /// It was told to stop; what is to follow.
    stopping: Option<Power>,
    /// What the host could not give, one sentence each.
    missing: Vec<String>,
    processes: processes::Processes,
    machine: Option<OwnMachine>,
}

impl Init {
    fn new(mut config: Config) -> Result<Self, Error> {
        let signals = signals()?;
        let identity = config
            .data
            .prepare(&config.policy, &config.wish, config.root)?;
        host::raise_open_files(&config.policy);
        let processes = processes::Processes::new()?;
        let keys = identity::Keys::of(config.data.as_fd())?;
        let cgroup = host::cgroup_name(&identity, &keys.node_key);
        let (cgroups, mut missing) = host::cgroups(&cgroup, config.root);
        if !config.root {
            missing.push("a user of its own for each service: the node runs as an ordinary user, who has only one".into());
        }
        if !sockets::are_told() {
            missing.push("where the sockets of its processes lead: this kernel has no UNIX_DIAG, so `caps` cannot compare them with the manifests".into());
        }
        let (machine, console) = match config.devices.take() {
            Some(devices) => {
                let (machine, console) = OwnMachine::new(devices);
                (Some(machine), Some(console))
            }
            None => (None, None),
        };
        let mut log = log::Log::on(console);
        for line in ignored(&config.wish, &identity) {
            log.line("init", &line);
        }
        for what in &missing {
            log.line("init", &format!("warn: this host cannot give: {what}"));
        }
        let daemons = Daemons::new(&config, &identity, keys, cgroups, machine.is_some())?;
        Ok(Self {
            config,
            identity,
            cgroup,
            signals,
            daemons,
            log,
            started: Instant::now(),
            serves: false,
            ready: false,
            stopping: None,
            missing,
            processes,
            machine,
        })
    }

    fn serve(mut self) -> Result<Power, Error> {
        let mut buffer = ReceiveBuffer::new();
        loop {
            self.daemons.start_due(&mut self.log);
            self.wait()?;
            self.read_signals();
            self.attend_machine();
            let news = self.daemons.turn(&mut self.log, &mut buffer);
            self.daemons.reap_orphans();
            if let Some(reason) = news.failed {
                return Err(Error::Failed(reason));
            }
            self.note_missing(news.missing);
            self.serves |= news.ready;
            if self.serves && !self.ready && self.daemons.all_ready() {
                self.became_ready();
            }
            if let Some(then) = self.stopping
                && self.daemons.stop()
            {
                host::remove_cgroups(&self.cgroup);
                self.log.line("init", "info: the node has stopped");
                return Ok(then);
            }
            self.answer(&mut buffer);
        }
    }

    fn wait(&self) -> Result<(), Error> {
        let deadlines = [
            self.daemons.deadline(),
            self.machine.as_ref().map(OwnMachine::deadline),
        ];
        let longest = Instant::now() + Duration::from_secs(60);
        let deadline = deadlines.into_iter().flatten().fold(longest, Instant::min);
        let buttons = self.machine.iter().flat_map(OwnMachine::descriptors);
        let descriptors = std::iter::once(self.signals.as_fd())
            .chain(self.daemons.descriptors())
            .chain(buttons);
        runtime::wait(descriptors, deadline).map_err(|errno| Error::Host("poll", errno))
    }

    /// SIGCHLD only wakes us. On a machine, the kernel sends SIGINT for Ctrl-Alt-Del.
    fn read_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if signal.ssi_signo == Signal::SIGCHLD as u32 {
                continue;
            }
            let again = self.machine.is_some() && signal.ssi_signo == Signal::SIGINT as u32;
            let then = if again { Power::Reboot } else { Power::Off };
            self.stopping.get_or_insert(then);
        }
    }

    /// The power button, the watchdog and the console.
    fn attend_machine(&mut self) {
        let healthy = self.daemons.all_ready();
        let Some(machine) = &mut self.machine else {
            return;
        };
        if machine.pressed() {
            self.log.line("init", "info: the power button was pressed");
            self.stopping.get_or_insert(Power::Off);
        }
        machine.vouch(Instant::now(), healthy);
        self.log.flush();
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
        self.ready = true;
        if let Some(machine) = &self.machine {
            let s3 = machine_facts::reachable(&self.config.s3);
            let name = &self.identity.name;
            let privileges = machine_facts::privileges(&self.processes.all());
            self.log.announce(&privileges);
            self.log.announce(&machine_facts::executables());
            self.log.announce(&machine_facts::boot_time(machine.begun));
            self.log
                .announce(&format!("trousseau: ready name={name} s3={s3}"));
        }
        if let Some(launcher) = &self.config.launcher {
            let about = self.config.s3.clone();
            let ready = Say::Ready { about };
            let _ = launcher.send_message::<Start>(&ready, &[], SendFlags::DONTWAIT);
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
            machine,
            stopping,
            ..
        } = self;
        let ready = daemons.all_ready();
        let services = daemons.describe();
        let answer = |call: InspectCall| match call {
            InspectCall::Node => InspectAnswer::Node(Node {
                name: identity.name.clone(),
                zone: identity.zone.clone(),
                s3: match machine {
                    Some(_) => machine_facts::reachable(&config.s3),
                    None => config.s3.clone(),
                },
                region: config.region.clone(),
                version: env!("CARGO_PKG_VERSION").into(),
                uptime_ms: started.elapsed().as_millis() as u64,
                ready,
                missing: missing.clone(),
                machine: machine.as_ref().map(|_| machine_facts::machine()),
            }),
            InspectCall::Processes => InspectAnswer::Processes(processes.all()),
            InspectCall::Services => InspectAnswer::Services(services.clone()),
            InspectCall::Logs { service, lines } => {
                InspectAnswer::Logs(log.last(service.as_deref(), lines))
            }
            // Answered by the daemons themselves.
            InspectCall::Restart { .. }
            | InspectCall::Trace { .. }
            | InspectCall::Traced { .. } => InspectAnswer::Refused("no such daemon".into()),
            InspectCall::Power(Power::Reboot) if machine.is_none() => {
                InspectAnswer::Refused(NOT_ITS_MACHINE.into())
            }
            InspectCall::Power(then) => {
                log.line("init", &format!("info: told to {then:?}"));
                stopping.get_or_insert(then);
                InspectAnswer::Done
            }
        };
        daemons.answer(buffer, answer);
    }
}

/// What of the wish comes too late, a line for each.
fn ignored(wish: &Wish, identity: &Identity) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(name) = wish.name.as_ref().filter(|name| **name != identity.name) {
        lines.push(format!(
            "warn: the node shall be called {name:?}, but this data directory is {}'s and stays so",
            identity.name
        ));
    }
    if wish.join.is_some() && identity.founder {
        lines.push(
            "warn: the invitation is ignored: this data directory has belonged to a cluster of its own since its first start; join with an empty one"
                .into(),
        );
    }
    if wish.copies.is_some() && !identity.founder {
        lines.push(
            "warn: the number of copies is ignored: this node joins a cluster, where `trousseau layout copies N` changes it".into(),
        );
    }
    lines
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
