//! console: answers the operator's verbs, by asking the services that know.
//!
//! Given: `control` (the listening control socket), `door`, `bus`. Serves: `protocol::inspect::Operator` to whoever may open the
//! socket's directory (the node's owner), and to debug-ssh, who comes in by the door. Calls: init, orchestrator, membership, metadata, block-store. It holds no data and no right of its own
//! beyond these conversations.
#![forbid(unsafe_code)]

mod access;
mod buckets;
mod can;
mod explain;
mod layout;
mod leaving;
mod metrics;
mod node;
mod nodes;
mod policy;
mod progress;
mod report;
mod safety;
mod schedule;
mod sessions;
mod status;
#[cfg(test)]
mod tests;
mod trace;
mod verbs;

pub use can::can;

use manifests::{ManifestError, Policy};
use protocol::channel::MessageError;
use report::Refusal;
use runtime::{Bus, Given};
use std::fmt;
use std::rc::Rc;
use tokio::task::LocalSet;

/// Why the console ends.
#[derive(Debug)]
pub enum Error {
    /// It was not packed as its manifest says, or its supervisor has gone.
    Runtime(runtime::Error),
    /// The manifests contradict each other.
    Manifest(ManifestError),
    /// The event loop could not be made.
    Loop(std::io::Error),
    /// Nobody comes in by the door any more: the bus has gone, or speaks another conversation.
    Door(MessageError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => error.fmt(f),
            Self::Manifest(error) => error.fmt(f),
            Self::Loop(error) => write!(f, "event loop: {error}"),
            Self::Door(error) => write!(f, "door: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Self {
        Self::Runtime(error)
    }
}

/// Takes the descriptors, closes the door behind the start, answers people until its supervisor says stop.
pub fn run(mut given: Given) -> Result<(), Error> {
    let control = given.descriptor("control")?;
    let door = given.channel("door")?;
    let bus = given.channel("bus")?;
    let (access_key, secret_key) = (given.setting("access_key")?, given.setting("secret_key")?);
    let named = explain::Named::new(&given.setting("webhooks")?);
    let policy = Policy::with_extra(&given.settings_named(manifests::SETTING_PREFIX));
    let policy = policy.map_err(Error::Manifest)?;
    let supervisor = given.finish()?;
    let tokio = runtime::event_loop().map_err(Error::Loop)?;
    LocalSet::new().block_on(&tokio, async {
        let bus = Bus::new(bus).map_err(Error::Loop)?;
        let verbs = Rc::new(verbs::Verbs::new(bus, policy, named));
        let control = sessions::Control::new(control).map_err(Error::Loop)?;
        let door = sessions::Entrance::new(door).map_err(Error::Loop)?;
        if !access_key.is_empty() {
            // Before anybody is told that the node is ready: its owner's programs know this key already.
            let made = access::given_key(&verbs, &access_key, &secret_key).await;
            if let Err(Refusal::Failed(why) | Refusal::Words(why)) = made {
                runtime::error!("the access key of node.toml was not made: {why}");
            }
        }
        supervisor.ready("")?;
        tokio::select! {
            ended = runtime::supervise(&supervisor, || true) => ended.map_err(Error::Runtime),
            ended = control.serve(verbs.clone()) => ended.map_err(Error::Loop),
            ended = door.serve(verbs) => ended.map_err(Error::Door),
        }
    })
}
