//! orchestrator: starts each service in its sandbox with exactly what its manifest declares, and starts it again.
//!
//! Given: `door`, `supply` (the bus), `program` (the sealed static program; `program:<name>` for a service of its own), `data`,
//! `empty` (directories), `cgroup…` (where the host has any). Serves: `protocol::inspect` and `protocol::schedule`. Calls: the bus.
//! The only process that may clone, set up namespaces and execute. It never speaks to its services but by their start channels.
#![forbid(unsafe_code)]

mod house;
mod placed;
mod supply;

use house::House;
use manifests::{ManifestError, Policy};
use runtime::Given;
use rustix::io::Errno;
use std::fmt;

/// Why the orchestrator ends.
#[derive(Debug)]
pub enum Error {
    /// It was not packed as its manifest says, or its supervisor has gone.
    Runtime(runtime::Error),
    /// The manifests contradict each other.
    Manifest(ManifestError),
    /// A manifest names a profile that is not in `sandbox-profiles/`.
    Profile(String),
    /// A manifest names a setting that the node does not have.
    Setting(String),
    /// The bus has gone: init ends us, too, and starts both afresh.
    BusGone,
    /// The empty network namespace could not be made.
    Network(sandbox_profiles::Error),
    /// A data directory could not be opened.
    Directory(String, Errno),
    /// poll(2) failed.
    Poll(Errno),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => error.fmt(f),
            Self::Manifest(error) => error.fmt(f),
            Self::Profile(name) => write!(f, "no profile {name:?} in sandbox-profiles/"),
            Self::Setting(name) => write!(
                f,
                "a manifest asks for the setting ${name}, which this node does not have"
            ),
            Self::BusGone => write!(f, "the bus has ended"),
            Self::Network(error) => write!(f, "empty network namespace: {error}"),
            Self::Directory(name, errno) => write!(f, "data directory {name}: {errno}"),
            Self::Poll(errno) => write!(f, "poll: {errno}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Self {
        Self::Runtime(error)
    }
}

/// Takes the descriptors, reads the manifests, starts the services, keeps them running until its supervisor says stop.
pub fn run(mut given: Given) -> Result<(), Error> {
    let manifests = given.settings_named(manifests::SETTING_PREFIX);
    let policy = Policy::with_extra(&manifests).map_err(Error::Manifest)?;
    let house = House {
        doorway: runtime::Doorway::new(given.channel("door")?),
        supply: supply::Supplier::new(given.channel("supply")?),
        means: house::Means {
            program: given.descriptor("program")?,
            programs: given.descriptors_named("program:"),
            data: given.descriptor("data")?,
            empty: given.descriptor("empty")?,
            network: sandbox_profiles::empty_network().map_err(Error::Network)?,
            cgroups: supervision::Cgroups::new(given.descriptors_named("cgroup")),
            first_user: given.parsed("first_user")?,
            settings: given.settings_named("node:"),
            manifests,
        },
        policy,
    };
    let supervisor = given.finish()?;
    house.serve(&supervisor)
}
