//! The daemons and the socket pairs between them: who gets which end, and what happens when one of them ends.

use crate::data::FIRST_USER;
use crate::identity::Keys;
use crate::log::Log;
use crate::own_machine;
use crate::processes::Processes;
use crate::{Config, DataDir, Error, Identity, Ssh, settings};
use manifests::{Policy, SETTING_PREFIX};
use protocol::Channel;
use protocol::channel::ReceiveBuffer;
use protocol::inspect::{Inspect, InspectAnswer, InspectCall, Service};
use protocol::start::{Order, Packed};
use runtime::Doorway;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use sandbox_profiles::{Limits, Root, Spawn};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use supervision::{Cgroups, Charge, Event, Reason, STOP_WITHIN, Started};

/// The socket pairs of the bus: its own name for its end, and whose the other end is under which name.
const EDGES: [(&str, &str, &str); 4] = [
    ("door:membership", "membership", "door"),
    ("door:orchestrator", "orchestrator", "door"),
    ("supply", "orchestrator", "supply"),
    ("client:debug-ssh", "debug-ssh", "bus"),
];

/// The daemons in the order of their starts; debug-ssh only where somebody is to come in by it.
const DAEMONS: [&str; 6] = [
    "network",
    "clock",
    "membership",
    "bus",
    "orchestrator",
    "debug-ssh",
];
/// Those that only a machine of its own has.
const OF_MACHINE: [&str; 2] = ["network", "clock"];

/// How long the orchestrator may take to stop all services.
const STOP_SERVICES_WITHIN: Duration = Duration::from_secs(60);

/// How long the processes of an ended orchestrator are waited for before they are looked for again.
const ORPHANS_EVERY: Duration = Duration::from_millis(5);

/// The daemons, in order of rank, and what they are packed from.
pub(crate) struct Daemons {
    charges: Vec<Charge>,
    /// Ends whose other end is held by a living daemon, for the next start of their own: by daemon and name.
    prepared: BTreeMap<(&'static str, &'static str), Channel>,
    doorway: Option<Doorway<Inspect>>,
    policy: Policy,
    material: Material,
    processes: Processes,
    stopping: bool,
}

/// Everything that is packed, opened once.
struct Material {
    root: bool,
    keys: Keys,
    program: OwnedFd,
    programs: Vec<(String, OwnedFd)>,
    data: OwnedFd,
    empty: OwnedFd,
    run: OwnedFd,
    network: OwnedFd,
    cgroups: Cgroups,
    /// How people come in, and where the keys lie.
    ssh: Option<(Ssh, OwnedFd)>,
    settings: Vec<(&'static str, String)>,
    manifests: Vec<(String, String)>,
}

/// What a turn has brought.
#[derive(Default)]
pub(crate) struct News {
    /// A daemon cannot serve: the node cannot go on.
    pub(crate) failed: Option<String>,
    /// The orchestrator has said that every service serves.
    pub(crate) ready: bool,
    /// What the host could not give to those that have become ready, one sentence each.
    pub(crate) missing: Vec<String>,
}

impl Daemons {
    pub(crate) fn new(
        config: &Config,
        identity: &Identity,
        keys: Keys,
        cgroups: Cgroups,
        on_machine: bool,
    ) -> Result<Self, Error> {
        let dup = |fd: &OwnedFd| {
            fd.try_clone()
                .map_err(|_| Error::Host("descriptors", Errno::MFILE))
        };
        let programs = config.programs.iter();
        let programs = programs.map(|(name, program)| Ok((name.clone(), dup(program)?)));
        let settings = settings::of_node(config, identity, &keys);
        let ssh = config
            .ssh
            .as_ref()
            .map(|ssh| Ok((ssh.clone(), crate::ssh::part(&config.data)?)));
        let ssh = ssh.transpose()?;
        let data = config.data.as_fd().try_clone_to_owned();
        let network = sandbox_profiles::empty_network()
            .map_err(|error| Error::Failed(format!("empty network namespace: {error}")))?;
        Ok(Self {
            charges: DAEMONS
                .into_iter()
                .filter(|name| *name != "debug-ssh" || ssh.is_some())
                .filter(|name| on_machine || !OF_MACHINE.contains(name))
                .map(Charge::new)
                .collect(),
            prepared: BTreeMap::new(),
            doorway: None,
            policy: config.policy.clone(),
            material: Material {
                root: config.root,
                keys,
                program: dup(&config.program)?,
                programs: programs.collect::<Result<_, Error>>()?,
                data: data.map_err(|_| Error::Host("descriptors", Errno::MFILE))?,
                empty: config.data.part("empty")?,
                run: config.data.part("run")?,
                network,
                cgroups,
                ssh,
                settings,
                manifests: config.manifests.clone(),
            },
            processes: Processes::new()?,
            stopping: false,
        })
    }

    fn charge(&mut self, name: &str) -> Option<&mut Charge> {
        self.charges.iter_mut().find(|charge| charge.name() == name)
    }

    fn running(&self, name: &str) -> bool {
        self.charges
            .iter()
            .any(|charge| charge.name() == name && charge.running())
    }

    /// Starts who is due. Bus and orchestrator wait until the services of an ended orchestrator are gone, since these hold
    /// the node's listeners and data directories.
    pub(crate) fn start_due(&mut self, log: &mut Log) {
        let now = Instant::now();
        for at in 0..self.charges.len() {
            let Some(charge) = self.charges.get(at).filter(|charge| charge.due(now)) else {
                continue;
            };
            let Some(name) = DAEMONS.into_iter().find(|name| *name == charge.name()) else {
                continue;
            };
            let clear = match name {
                "network" | "clock" | "membership" => true,
                // Both hold listeners that the bus before has made.
                "bus" => {
                    let held = self.running("orchestrator") || self.running("debug-ssh");
                    !held && self.services_gone()
                }
                "debug-ssh" => self.running("bus"),
                _ => self.running("bus") && self.services_gone(),
            };
            let started = if clear { Some(self.start(name)) } else { None };
            let Some(charge) = self.charges.get_mut(at) else {
                continue;
            };
            match started {
                None => charge.postpone(now + ORPHANS_EVERY),
                Some(Ok(())) => {}
                Some(Err(why)) => {
                    log.line("init", &format!("error: {name} was not started: {why}"));
                    charge.not_started(why);
                }
            }
        }
    }

    /// Whether no process is left but init and its daemons.
    fn services_gone(&self) -> bool {
        let living = self
            .charges
            .iter()
            .filter(|charge| charge.running())
            .count();
        self.processes.count() <= living + 1
    }

    fn start(&mut self, name: &'static str) -> Result<(), String> {
        let fails = |errno: Errno| errno.to_string();
        let (mut grants, mut ends) = (Vec::new(), Vec::new());
        for (grant, end) in self.ends_of(name).map_err(fails)? {
            grants.push(grant.to_owned());
            ends.push(end.into_socket());
        }
        for (grant, socket) in own_machine::sockets_of(name).map_err(fails)? {
            grants.push(grant.to_owned());
            ends.push(socket);
        }
        for (grant, file) in self.material.files_of(name)? {
            grants.push(grant.to_owned());
            ends.push(file);
        }
        let (start, theirs) = Channel::pair().map_err(fails)?;
        let (log, stderr) = pipe_with(PipeFlags::CLOEXEC).map_err(fails)?;
        rustix::io::ioctl_fionbio(&log, true).map_err(fails)?;
        let manifest = self.policy.get(name).ok_or("it has no manifest")?;
        let profile = sandbox_profiles::profile(&manifest.profile).ok_or("it has no profile")?;
        let material = &self.material;
        let confined = name != "orchestrator";
        let cgroup = material.cgroups.prepare(name, &manifest.limits);
        let child = sandbox_profiles::spawn(Spawn {
            name,
            profile,
            program: material.program.as_fd(),
            root: match name {
                "bus" => Root::Directory(material.run.as_fd()),
                "orchestrator" => Root::Inherit,
                _ => Root::Empty(material.empty.as_fd()),
            },
            // Only the bus may meet the network, and only it may make sockets in it.
            network: (!matches!(name, "bus" | "orchestrator")).then(|| material.network.as_fd()),
            separate: confined,
            user: (material.root && confined).then(|| FIRST_USER + u32::from(manifest.rank)),
            cgroup: cgroup.unified(),
            cgroups_v1: &cgroup.controllers(),
            limits: Limits {
                open_files: u64::from(manifest.limits.open_files),
                data_bytes: None,
                address_bytes: None,
                threads: None,
            },
            stderr: stderr.as_fd(),
            start: theirs.into_socket(),
        })
        .map_err(|error| error.to_string())?;

        let mut lent: Vec<BorrowedFd<'_>> = ends.iter().map(AsFd::as_fd).collect();
        if name == "orchestrator" {
            for (grant, descriptor) in material.for_orchestrator() {
                grants.push(grant);
                lent.push(descriptor);
            }
        }
        let packed = Packed {
            service: name.into(),
            grants,
            settings: material.settings_of(name),
        };
        let charge = self
            .charges
            .iter_mut()
            .find(|charge| charge.name() == name)
            .ok_or("unknown")?;
        charge
            .started(
                Started {
                    child,
                    start,
                    log,
                    cgroup,
                },
                packed,
                &lent,
            )
            .map_err(|error| error.to_string())
    }

    /// The ends that `name` starts with: those prepared for it, and fresh pairs whose other end goes to the daemon that lives.
    fn ends_of(&mut self, name: &'static str) -> Result<Vec<(&'static str, Channel)>, Errno> {
        let mut ends = Vec::new();
        for (bus_name, daemon, daemon_name) in EDGES {
            let (own, peer) = match name {
                "bus" => (bus_name, (daemon, daemon_name)),
                _ if name == daemon => (daemon_name, ("bus", bus_name)),
                _ => continue,
            };
            if let Some(end) = self.prepared.remove(&(name, own)) {
                ends.push((own, end));
                continue;
            }
            let (ours, theirs) = Channel::pair()?;
            ends.push((own, ours));
            match self.charge(peer.0).filter(|charge| charge.running()) {
                Some(charge) => charge.order(
                    &Order::Attach {
                        name: peer.1.into(),
                    },
                    &[theirs.as_fd()],
                ),
                None => drop(self.prepared.insert(peer, theirs)),
            }
        }
        if name == "bus" {
            let (ours, theirs) = Channel::pair()?;
            self.doorway = Some(Doorway::new(ours));
            ends.push(("door:init", theirs));
        }
        Ok(ends)
    }

    /// All descriptors that tell of something new.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let doorway = self.doorway.iter().flat_map(Doorway::descriptors);
        self.charges
            .iter()
            .flat_map(Charge::descriptors)
            .chain(doorway)
    }

    /// When to look again even if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.charges.iter().filter_map(Charge::deadline).min()
    }

    /// Everything that the daemons have done since the last turn.
    pub(crate) fn turn(&mut self, log: &mut Log, buffer: &mut ReceiveBuffer) -> News {
        let mut news = News::default();
        let mut bus_ended = false;
        for charge in &mut self.charges {
            let name = charge.name().to_owned();
            for event in charge.turn(Instant::now(), buffer) {
                match event {
                    Event::Line(line) => log.line(&name, &line),
                    Event::Ready(about) => {
                        news.missing.extend(charge.missing());
                        if name == "orchestrator" {
                            news.ready = true;
                            news.missing.extend(about.lines().map(str::to_owned));
                        } else {
                            // A further line is something that the host does not give.
                            let mut about = about.lines();
                            let first = about.next().unwrap_or_default();
                            log.line("init", &format!("info: {name} is ready {first}"));
                            news.missing.extend(about.map(str::to_owned));
                        }
                    }
                    Event::Ended(reason) => {
                        log.line(
                            "init",
                            &format!("{}: {name} ended: {reason}", level(&reason)),
                        );
                        // Prepared ends lead to the one that has ended.
                        self.prepared
                            .retain(|(daemon, _), _| name != "bus" && *daemon != "bus");
                        bus_ended |= name == "bus";
                        // A node without its way in for people still serves.
                        if let (Reason::Failed(why), true) = (reason, name != "debug-ssh") {
                            news.failed = Some(why);
                        }
                    }
                }
            }
        }
        if bus_ended && !self.stopping {
            self.doorway = None;
            for name in ["orchestrator", "debug-ssh"] {
                if let Some(charge) = self.charge(name) {
                    charge.kill(Reason::Restarted);
                }
            }
        }
        news
    }

    /// Reaps the processes whose own parent has died: PID 1's old duty.
    pub(crate) fn reap_orphans(&self) {
        use nix::sys::wait::{Id, WaitPidFlag, waitid};
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while let Some(pid) = waitid(Id::All, peek).ok().and_then(|status| status.pid()) {
            // A daemon's status is its charge's to read.
            if self
                .charges
                .iter()
                .any(|charge| charge.pid() == u32::try_from(pid.as_raw()).ok())
            {
                return;
            }
            let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
        }
    }

    /// Stops the highest daemon that runs, each when those above it have stopped. Whether all have.
    pub(crate) fn stop(&mut self) -> bool {
        self.stopping = true;
        match self
            .charges
            .iter_mut()
            .rev()
            .find(|charge| charge.running())
        {
            // The orchestrator stops all services first, one rank after the other.
            Some(highest) if highest.name() == "orchestrator" => highest.stop(STOP_SERVICES_WITHIN),
            Some(highest) => highest.stop(STOP_WITHIN),
            None => return true,
        }
        false
    }

    /// Whether every daemon serves, but for one that has failed for good without the node failing with it (people's way in).
    pub(crate) fn all_ready(&self) -> bool {
        self.charges
            .iter()
            .all(|charge| charge.ready() || charge.state() == "failed")
    }

    /// The daemons, for people.
    pub(crate) fn describe(&self) -> Vec<Service> {
        let describe = |charge: &Charge| Service {
            name: charge.name().into(),
            pid: charge.pid().unwrap_or(0),
            state: charge.state().into(),
            restarts: charge.restarts(),
            last_reason: charge
                .last_reason()
                .map(ToString::to_string)
                .unwrap_or_default(),
            grants: self
                .policy
                .get(charge.name())
                .map_or_else(Vec::new, |manifest| {
                    let kinds = manifest.grants.iter();
                    kinds
                        .map(|grant| (grant.name.clone(), grant.kind.as_str().to_owned()))
                        .collect()
                }),
            missing: charge.missing(),
            denied: charge.denied(),
        };
        self.charges.iter().map(describe).collect()
    }

    /// Answers who has come in by init's own door.
    pub(crate) fn answer(
        &mut self,
        buffer: &mut ReceiveBuffer,
        mut answer: impl FnMut(InspectCall) -> InspectAnswer,
    ) {
        let Some(doorway) = &mut self.doorway else {
            return;
        };
        let charges = &mut self.charges;
        let answered = doorway.turn(buffer, |_, call, _| {
            supervision::answer(charges.iter_mut(), &call).unwrap_or_else(|| answer(call))
        });
        if answered.is_err() {
            self.doorway = None; // the bus has ended; its next incarnation brings another
        }
    }
}

impl Material {
    /// The files that a daemon starts with, by name: its secrets, and what it keeps.
    fn files_of(&self, daemon: &str) -> Result<Vec<(&'static str, OwnedFd)>, String> {
        let fails = |what: &str, errno: Errno| format!("{what}: {errno}");
        let secrets = self.keys.files_of(daemon);
        let mut files = secrets.map_err(|errno| fails("secrets", errno))?;
        match (daemon, &self.ssh) {
            ("membership", _) => {
                let roster = DataDir::roster(self.data.as_fd());
                files.push(("roster", roster.map_err(|errno| fails("roster", errno))?));
            }
            ("debug-ssh", Some((ssh, part))) => {
                let keys = ssh.files(part);
                files.extend(keys.map_err(|errno| fails("keys in ssh", errno))?);
            }
            _ => {}
        }
        Ok(files)
    }

    fn for_orchestrator(&self) -> Vec<(String, BorrowedFd<'_>)> {
        let fixed = [
            ("program", &self.program),
            ("data", &self.data),
            ("empty", &self.empty),
        ];
        let own = self
            .programs
            .iter()
            .map(|(name, program)| (format!("program:{name}"), program.as_fd()));
        fixed
            .into_iter()
            .map(|(name, fd)| (name.to_owned(), fd.as_fd()))
            .chain(own)
            .chain(self.cgroups.lent())
            .collect()
    }

    fn settings_of(&self, daemon: &str) -> Vec<(String, String)> {
        let chosen = |names: &[&str], prefix: &str| -> Vec<(String, String)> {
            let named = self
                .settings
                .iter()
                .filter(|(name, _)| names.contains(name));
            named
                .map(|(name, value)| (format!("{prefix}{name}"), value.clone()))
                .collect()
        };
        let mut settings = match daemon {
            "membership" => return chosen(&settings::OF_MEMBERSHIP, ""),
            "debug-ssh" => return chosen(&["node"], ""),
            "bus" => chosen(&["s3", "gossip", "mesh", "ssh", "web", "webhooks"], ""),
            "network" => return chosen(&["node", "addresses", "gateways", "interface"], ""),
            "clock" => return chosen(&["servers"], ""),
            _ => {
                let names = [
                    "node",
                    "node_key",
                    "founder",
                    "copies",
                    "zone",
                    "region",
                    "host",
                    "s3",
                    "gossip",
                    "web",
                    "web_domain",
                    "webhooks",
                    "webhook_names",
                    "webhook_requests",
                    "mesh",
                    "access_key",
                    "secret_key",
                ];
                let mut all = chosen(&names, "node:");
                let first_user = if self.root { FIRST_USER } else { 0 };
                all.push(("first_user".into(), first_user.to_string()));
                all
            }
        };
        let extra = self.manifests.iter();
        settings
            .extend(extra.map(|(file, text)| (format!("{SETTING_PREFIX}{file}"), text.clone())));
        settings
    }
}

fn level(reason: &Reason) -> &'static str {
    if *reason == Reason::Stopped {
        "info"
    } else {
        "error"
    }
}
