//! The orchestrator's loop: every service of the policy runs, in order of rank, and is started again when it ends.

use crate::Error;
use crate::placed::{Placed, Standing};
use crate::supply::Supplier;
use manifests::{Manifest, Policy};
use protocol::Channel;
use protocol::channel::ReceiveBuffer;
use protocol::inspect::{ELSEWHERE, Inspect, InspectAnswer, InspectCall, NOT_PLACED, Service};
use protocol::schedule::Schedule;
use protocol::start::{HEARTBEAT_MS, Order, Packed};
use runtime::{Doorway, Supervisor};
use rustix::fs::{Mode, OFlags, openat};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use sandbox_profiles::{Limits, Root, Spawn};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use supervision::{Cgroups, Charge, Event, Reason, STOP_WITHIN, Started};

/// What the orchestrator packs from.
pub(crate) struct Means {
    /// The sealed static program.
    pub(crate) program: OwnedFd,
    /// The programs of services that are not in it, as `program:<service>`.
    pub(crate) programs: Vec<(String, OwnedFd)>,
    /// The node's data directory.
    pub(crate) data: OwnedFd,
    /// An empty directory.
    pub(crate) empty: OwnedFd,
    /// The one empty network that all services share.
    pub(crate) network: OwnedFd,
    pub(crate) cgroups: Cgroups,
    /// Services get this user id plus their rank; 0 where the node runs as an ordinary user, who has only one.
    pub(crate) first_user: u32,
    /// The node's values, as `node:<name>`.
    pub(crate) settings: Vec<(String, String)>,
    /// The texts of the manifests that are not built in, as `manifest:<file>`.
    pub(crate) manifests: Vec<(String, String)>,
}

/// What a manifest writes that wants to know the manifests that are not built in: a setting `manifest:<file>` for each.
const MANIFESTS: &str = "$manifests";

impl Means {
    /// Whether the node listens wherever the service does, has somewhere to dial, and has what the service needs. One whose addresses its operator
    /// left empty does not run.
    fn has_addresses(&self, manifest: &Manifest) -> bool {
        manifest.runs_where(|name| {
            let mut settings = self.settings.iter();
            let found = settings.find(|(setting, _)| setting.strip_prefix("node:") == Some(name));
            found.is_none_or(|(_, address)| !address.is_empty())
        })
    }
}

/// All services of this node.
pub(crate) struct House {
    pub(crate) policy: Policy,
    pub(crate) means: Means,
    pub(crate) supply: Supplier,
    /// Also of the conversation [`Schedule`].
    pub(crate) doorway: Doorway<Inspect>,
}

/// One service: its manifest, its process, and what its present process was given.
pub(crate) struct Tenant {
    pub(crate) manifest: Manifest,
    pub(crate) charge: Charge,
    pub(crate) standing: Standing,
    given: Vec<(String, String)>,
}

impl House {
    /// Turns until the supervisor says stop and every service has stopped.
    pub(crate) fn serve(mut self, supervisor: &Supervisor) -> Result<(), Error> {
        let mut tenants: Vec<Tenant> = self
            .policy
            .services()
            .into_iter()
            .filter(|manifest| self.means.has_addresses(manifest))
            .map(Tenant::new)
            .collect();
        let mut placed = Placed::default();
        let mut buffer = ReceiveBuffer::new();
        let (mut beat, mut said_ready, mut stopping) = (Instant::now(), false, false);
        loop {
            let now = Instant::now();
            if beat <= now {
                supervisor.alive()?;
                beat = now + Duration::from_millis(HEARTBEAT_MS);
            }
            for tenant in tenants.iter_mut().filter(|tenant| tenant.charge.due(now)) {
                self.start(tenant)?;
            }
            self.wait(supervisor, &tenants, beat)?;
            while let Some((order, _)) = supervisor.order(&mut buffer)? {
                stopping |= order == Order::Stop;
            }
            for tenant in &mut tenants {
                tenant.turn(&mut buffer);
            }
            if stopping && stop_highest(&mut tenants) {
                return Ok(());
            }
            self.doorway.turn(&mut buffer, |_, call, _| {
                answer(&mut tenants, &placed, call)
            })?;
            self.schedule(&mut placed, &mut tenants, &mut buffer, stopping)?;
            if !said_ready && tenants.iter().all(Tenant::is_as_it_should) {
                said_ready = true;
                let missing: Vec<String> = tenants
                    .iter()
                    .flat_map(|tenant| tenant.charge.missing())
                    .collect();
                supervisor.ready(missing.join("\n"))?;
            }
        }
    }

    /// What metadata says of the services that are placed, and what follows from its silence. A house that stops takes no orders any more; a lease ends all the same.
    /// Only the end of the bus, which is told where services run that clients of this node may call, ends the house.
    fn schedule(
        &mut self,
        placed: &mut Placed,
        tenants: &mut [Tenant],
        buffer: &mut ReceiveBuffer,
        stopping: bool,
    ) -> Result<(), Error> {
        let now_ms = runtime::since_boot_ms();
        if !stopping {
            self.doorway
                .answer::<Schedule>(buffer, |_, call, _| placed.answer(tenants, call, now_ms));
        }
        for tenant in tenants.iter_mut() {
            tenant.expire(now_ms);
        }
        if !stopping {
            placed.turn(tenants);
        }
        match placed.news() {
            Some(elsewhere) => self.supply.elsewhere(elsewhere),
            None => Ok(()),
        }
    }

    fn wait(
        &self,
        supervisor: &Supervisor,
        tenants: &[Tenant],
        beat: Instant,
    ) -> Result<(), Error> {
        let descriptors = [supervisor.as_fd(), self.supply.as_fd()]
            .into_iter()
            .chain(self.doorway.descriptors())
            .chain(
                tenants
                    .iter()
                    .flat_map(|tenant| tenant.charge.descriptors()),
            );
        let (now, now_ms) = (Instant::now(), runtime::since_boot_ms());
        let deadline = tenants
            .iter()
            .flat_map(|tenant| [tenant.charge.deadline(), tenant.expires(now, now_ms)])
            .flatten()
            .fold(beat, Instant::min);
        runtime::wait(descriptors, deadline).map_err(Error::Poll)
    }

    /// Packs and starts one service. What fails here is logged and tried again later; only the end of the bus ends the house.
    fn start(&mut self, tenant: &mut Tenant) -> Result<(), Error> {
        let name = tenant.manifest.name.clone();
        let supplied = match self.supply.pack(&name)? {
            Ok(supplied) => supplied,
            Err(error) => {
                tenant
                    .charge
                    .not_started(format!("the bus packs nothing: {error}"));
                return Ok(());
            }
        };
        match self.means.spawn(tenant) {
            Ok(started) => {
                let (grants, descriptors): (Vec<String>, Vec<OwnedFd>) =
                    supplied.into_iter().unzip();
                tenant.given = tenant.kinds(&grants);
                let settings = self.means.settings_of(&tenant.manifest)?;
                let lent: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
                let packed = Packed {
                    service: name.clone(),
                    grants,
                    settings,
                };
                if let Err(error) = tenant.charge.started(started, packed, &lent) {
                    runtime::warn!("{name} was not packed: {error}");
                }
            }
            Err(why) => {
                runtime::error!("{name} was not started: {why}");
                tenant.charge.not_started(why);
            }
        }
        Ok(())
    }
}

impl Means {
    /// The process itself, in its sandbox, with nothing given yet.
    fn spawn(&self, tenant: &Tenant) -> Result<Started, String> {
        let manifest = &tenant.manifest;
        let profile = sandbox_profiles::profile(&manifest.profile)
            .ok_or_else(|| Error::Profile(manifest.profile.clone()).to_string())?;
        let root = manifest
            .root
            .as_deref()
            .map(|root| self.directory(root))
            .transpose()?;
        let own = format!("program:{}", manifest.name);
        let program = self
            .programs
            .iter()
            .find(|(name, _)| *name == own)
            .map_or(&self.program, |(_, own)| own);
        let cgroup = self.cgroups.prepare(&manifest.name, &manifest.limits);
        let (start, theirs) = Channel::pair().map_err(|errno| errno.to_string())?;
        let (log, stderr) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| errno.to_string())?;
        rustix::io::ioctl_fionbio(&log, true).map_err(|errno| errno.to_string())?;
        // Room for a burst of lines while we are busy; a smaller pipe serves as well.
        let _ = fcntl_setpipe_size(&log, 64 * 1024);
        let child = sandbox_profiles::spawn(Spawn {
            name: &manifest.name,
            profile,
            program: program.as_fd(),
            root: root
                .as_ref()
                .map_or(Root::Empty(self.empty.as_fd()), |root| {
                    Root::Directory(root.as_fd())
                }),
            network: Some(self.network.as_fd()),
            separate: true,
            user: (self.first_user > 0).then(|| self.first_user + u32::from(manifest.rank)),
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
        Ok(Started {
            child,
            start,
            log,
            cgroup,
        })
    }

    fn directory(&self, name: &str) -> Result<OwnedFd, String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat(&self.data, name, flags, Mode::empty())
            .map_err(|errno| Error::Directory(name.into(), errno).to_string())
    }

    /// The manifest's settings, with the node's values for `$name`, and the operator's manifests for [`MANIFESTS`].
    fn settings_of(&self, manifest: &Manifest) -> Result<Vec<(String, String)>, Error> {
        let node: BTreeMap<&str, &str> = self
            .settings
            .iter()
            .map(|(name, value)| (name.trim_start_matches("node:"), value.as_str()))
            .collect();
        let value = |(name, value): (&String, &String)| match value.strip_prefix('$') {
            None => Ok((name.clone(), value.clone())),
            Some(asked) => match node.get(asked) {
                Some(value) => Ok((name.clone(), (*value).to_owned())),
                None => Err(Error::Setting(asked.into())),
            },
        };
        let (whole, single): (Vec<_>, Vec<_>) = manifest
            .settings
            .iter()
            .partition(|(_, asked)| asked.as_str() == MANIFESTS);
        let manifests = whole.iter().flat_map(|_| self.manifests.iter().cloned());
        single
            .into_iter()
            .map(value)
            .chain(manifests.map(Ok))
            .collect()
    }
}

impl Tenant {
    pub(crate) fn new(manifest: &Manifest) -> Self {
        let standing = Standing::of(manifest);
        let mut charge = Charge::new(&manifest.name);
        if !standing.is_wanted() {
            charge.stop(STOP_WITHIN);
        }
        Self {
            charge,
            standing,
            manifest: manifest.clone(),
            given: Vec::new(),
        }
    }

    /// Each granted name with its kind, for people.
    fn kinds(&self, names: &[String]) -> Vec<(String, String)> {
        let kind = |name: &String| {
            let grant = self
                .manifest
                .grants
                .iter()
                .find(|grant| grant.name == *name);
            (
                name.clone(),
                grant.map_or("?", |grant| grant.kind.as_str()).to_owned(),
            )
        };
        names.iter().map(kind).collect()
    }

    /// Passes on its log and says what became of it.
    fn turn(&mut self, buffer: &mut ReceiveBuffer) {
        let name = &self.manifest.name;
        for event in self.charge.turn(Instant::now(), buffer) {
            match event {
                Event::Line(line) => runtime::log::line(name, format_args!("{line}")),
                Event::Ready(about) => runtime::info!("{name} is ready {about}"),
                Event::Ended(Reason::Stopped) => runtime::info!("{name} has stopped"),
                Event::Ended(reason) => runtime::error!("{name} ended: {reason}"),
            }
        }
    }

    fn describe(&self, placed: &Placed) -> Service {
        let placed_away = !self.standing.is_wanted() && !self.charge.running();
        let state = match (placed_away, placed.nodes_of(self.charge.name())) {
            (false, _) => self.charge.state().to_owned(),
            (true, []) => NOT_PLACED.to_owned(),
            (true, nodes) => format!("{ELSEWHERE}{}", nodes.join(", ")),
        };
        Service {
            name: self.charge.name().into(),
            pid: self.charge.pid().unwrap_or(0),
            state,
            restarts: self.charge.restarts(),
            last_reason: self
                .charge
                .last_reason()
                .map(ToString::to_string)
                .unwrap_or_default(),
            grants: self.given.clone(),
            missing: self.charge.missing(),
            denied: self.charge.denied(),
        }
    }
}

/// Stops the services from the highest rank down, each when those above it have stopped. Whether all have.
fn stop_highest(tenants: &mut [Tenant]) -> bool {
    let highest = tenants
        .iter()
        .filter(|tenant| tenant.charge.running())
        .map(|tenant| tenant.manifest.rank)
        .max();
    for tenant in tenants
        .iter_mut()
        .filter(|tenant| Some(tenant.manifest.rank) >= highest)
    {
        tenant.charge.stop(STOP_WITHIN);
    }
    highest.is_none()
}

fn answer(tenants: &mut [Tenant], placed: &Placed, call: InspectCall) -> InspectAnswer {
    match call {
        InspectCall::Services => {
            let services = tenants.iter().map(|tenant| tenant.describe(placed));
            InspectAnswer::Services(services.collect())
        }
        call => {
            let charges = tenants.iter_mut().map(|tenant| &mut tenant.charge);
            supervision::answer(charges, &call).unwrap_or_else(|| {
                let why = "the orchestrator knows its services only; ask init";
                InspectAnswer::Refused(why.into())
            })
        }
    }
}
