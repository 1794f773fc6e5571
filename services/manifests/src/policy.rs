//! The policy: all manifests together, checked against each other, and the graph of who can reach what.

use crate::{Call, Kind, Manifest, ManifestError, Serve};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

/// The manifests of the static program: file and text, in order of rank.
pub const BUILT_IN: &[(&str, &str)] = &[
    (
        "init/manifest.toml",
        include_str!("../../../init/manifest.toml"),
    ),
    (
        "services/membership/manifest.toml",
        include_str!("../../membership/manifest.toml"),
    ),
    (
        "services/bus/manifest.toml",
        include_str!("../../bus/manifest.toml"),
    ),
    (
        "services/orchestrator/manifest.toml",
        include_str!("../../orchestrator/manifest.toml"),
    ),
    (
        "services/block-store/manifest.toml",
        include_str!("../../block-store/manifest.toml"),
    ),
    (
        "services/metadata/manifest.toml",
        include_str!("../../metadata/manifest.toml"),
    ),
    (
        "services/s3-frontend/manifest.toml",
        include_str!("../../s3-frontend/manifest.toml"),
    ),
    (
        "services/console/manifest.toml",
        include_str!("../../console/manifest.toml"),
    ),
    (
        "services/debug-ssh/manifest.toml",
        include_str!("../../debug-ssh/manifest.toml"),
    ),
    (
        "services/network/manifest.toml",
        include_str!("../../network/manifest.toml"),
    ),
    (
        "services/clock/manifest.toml",
        include_str!("../../clock/manifest.toml"),
    ),
    (
        "services/web/manifest.toml",
        include_str!("../../web/manifest.toml"),
    ),
    (
        "services/notifier/manifest.toml",
        include_str!("../../notifier/manifest.toml"),
    ),
    (
        "services/relay/manifest.toml",
        include_str!("../../relay/manifest.toml"),
    ),
];

/// Extra manifests travel to the bus and the orchestrator as settings named so.
pub const SETTING_PREFIX: &str = "manifest:";

/// Who makes every door, and so holds its other end without calling anybody.
const BUS: &str = "bus";

/// What a node is called in the graph that nobody knows yet.
pub const STRANGER: &str = "stranger";

/// In front of a service's name in the graph: on another node.
pub const ELSEWHERE: &str = "elsewhere:";

/// The lowest rank that the orchestrator starts; init starts the daemons below it, and whatever calls itself a daemon.
pub const SERVICE_RANK_MIN: u8 = 4;

/// All manifests of a node. It never changes while the node runs.
#[derive(Debug, Clone)]
pub struct Policy {
    manifests: BTreeMap<String, Manifest>,
}

/// Whether one thing can ever reach another.
#[derive(Debug, PartialEq, Eq)]
pub enum Reach {
    /// Along these steps: each is what is held or called, and why.
    Path(Vec<String>),
    /// Never: this is everything that can be reached, and the target is not among it.
    Never(BTreeSet<String>),
    /// No manifest mentions it.
    Unknown(String),
}

impl Policy {
    /// Reads all manifests (`file`, `text`) and checks them against each other.
    pub fn parse<'a>(
        texts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ManifestError> {
        let mut manifests: BTreeMap<String, Manifest> = BTreeMap::new();
        let mut files = BTreeMap::new();
        for (file, text) in texts {
            let manifest = Manifest::parse(file, text)?;
            if let Some(other) = files.insert(manifest.name.clone(), file.to_owned()) {
                let what = format!("{:?} is the name of {other} already", manifest.name);
                return Err(ManifestError {
                    file: file.into(),
                    line: 0,
                    what,
                });
            }
            // Ranks order the calls and give each service a user of its own: no two share one.
            let same = |other: &&Manifest| other.rank == manifest.rank;
            if let Some(other) = manifests.values().find(same) {
                let what = format!("rank {} is {}'s already", manifest.rank, other.name);
                return Err(ManifestError {
                    file: file.into(),
                    line: 0,
                    what,
                });
            }
            let same = |other: &&Manifest| other.root.is_some() && other.root == manifest.root;
            if let Some(other) = manifests.values().find(same) {
                let what = format!(
                    "root {:?} is {}'s already",
                    manifest.root.unwrap_or_default(),
                    other.name
                );
                return Err(ManifestError {
                    file: file.into(),
                    line: 0,
                    what,
                });
            }
            manifests.insert(manifest.name.clone(), manifest);
        }
        let policy = Self { manifests };
        for (name, manifest) in &policy.manifests {
            if let Some(what) = policy.broken_rule(manifest) {
                let file = files.remove(name).unwrap_or_default();
                return Err(ManifestError {
                    file,
                    line: 0,
                    what,
                });
            }
        }
        Ok(policy)
    }

    /// The built-in manifests and `extra` ones (a setting's name, which is [`SETTING_PREFIX`] and the file; the text).
    pub fn with_extra(extra: &[(String, String)]) -> Result<Self, ManifestError> {
        let extra = extra.iter().map(|(name, text)| {
            (
                name.strip_prefix(SETTING_PREFIX).unwrap_or(name),
                text.as_str(),
            )
        });
        Self::parse(BUILT_IN.iter().copied().chain(extra))
    }

    fn broken_rule(&self, caller: &Manifest) -> Option<String> {
        let calls = caller.calls.iter();
        let serves = caller.serves.iter();
        calls
            .map(|call| self.broken_call(caller, call))
            .chain(serves.map(|serve| self.broken_serve(caller, serve)))
            .find_map(|broken| broken)
    }

    fn broken_call(&self, caller: &Manifest, call: &Call) -> Option<String> {
        let (service, conversation) = (&call.service, &call.conversation);
        let Some(callee) = self.manifests.get(service) else {
            return Some(format!("calls {service:?}, which has no manifest"));
        };
        if !callee.serves(&caller.name, conversation) {
            return Some(format!(
                "calls {service:?} for {conversation:?}, which {service} does not serve to it"
            ));
        }
        if callee.placement.is_some() && !call.across {
            return Some(format!(
                "calls {service:?} for {conversation:?} on its own node only, but {service} has a `placement` and may run on another: \
                 write `across = true` into this call and into what {service} serves"
            ));
        }
        if call.across && !callee.serves_across(&caller.name, conversation) {
            return Some(format!(
                "calls {service:?} for {conversation:?} across nodes, which {service} serves to it on its own node only"
            ));
        }
        // A service on two nodes may talk to itself: whoever waits for whom there is theirs to order.
        if callee.rank >= caller.rank && callee.name != caller.name {
            return Some(format!(
                "calls {service:?} of rank {}, but has rank {} itself",
                callee.rank, caller.rank
            ));
        }
        None
    }

    fn broken_serve(&self, server: &Manifest, serve: &Serve) -> Option<String> {
        let conversation = &serve.conversation;
        for client in &serve.to {
            let Some(other) = self.manifests.get(client) else {
                return Some(format!("serves {client:?}, which has no manifest"));
            };
            let mut calls = other.calls.iter();
            let call = calls
                .find(|call| call.service == server.name && call.conversation == *conversation);
            match call {
                Some(call) if serve.across && !call.across => {
                    return Some(format!(
                        "serves {conversation:?} across nodes to {client:?}, which calls it on its own node only"
                    ));
                }
                Some(_) => {}
                None if other.holds_edge(&server.name) || other.name == BUS => {}
                None => {
                    return Some(format!(
                        "serves {conversation:?} to {client:?}, which does not call it"
                    ));
                }
            }
        }
        None
    }

    /// The manifest of `service`.
    pub fn get(&self, service: &str) -> Option<&Manifest> {
        self.manifests.get(service)
    }

    /// All manifests in order of rank, then name.
    pub fn all(&self) -> Vec<&Manifest> {
        let mut all: Vec<&Manifest> = self.manifests.values().collect();
        all.sort_by_key(|manifest| (manifest.rank, &manifest.name));
        all
    }

    /// The services that the orchestrator starts, in order of rank.
    pub fn services(&self) -> Vec<&Manifest> {
        self.all()
            .into_iter()
            .filter(|manifest| manifest.rank >= SERVICE_RANK_MIN && !manifest.daemon)
            .collect()
    }

    /// Whether the bus may connect `client` to `service` for `conversation`: both manifests must say so.
    pub fn allows(&self, client: &str, service: &str, conversation: &str) -> bool {
        match (self.get(client), self.get(service)) {
            (Some(from), Some(to)) => {
                from.calls(service, conversation) && to.serves(client, conversation)
            }
            _ => false,
        }
    }

    /// Whether the bus may connect `client` to `service` of another node that belongs to the cluster: both manifests must say so. This side's bus
    /// judges by the manifests that it has; the other one looks at the callee's again.
    pub fn allows_across(&self, client: &str, service: &str, conversation: &str) -> bool {
        match (self.get(client), self.get(service)) {
            (Some(from), Some(to)) => {
                from.calls_across(service, conversation) && to.serves_across(client, conversation)
            }
            _ => false,
        }
    }

    /// What a node may hold that nobody knows yet: the service, the conversation and the reason.
    pub fn for_strangers(&self) -> impl Iterator<Item = (&str, &Serve)> {
        self.manifests.values().flat_map(|manifest| {
            let serves = manifest.serves.iter().filter(|serve| serve.strangers);
            serves.map(|serve| (manifest.name.as_str(), serve))
        })
    }

    /// Everything that `from` holds or may ask for, one step away: what, and by which grant or call.
    ///
    /// A service on another node is `elsewhere:<service>`; what it reaches there is what it would reach here, and stands under the same
    /// names, since all nodes are alike. [`STRANGER`] is a node that nobody knows yet.
    /// Names of things that are not services: `directory:<root>`, `listener:<name>`, `file:<name>`, `outside:<kind>` (the addresses that the
    /// operator has named of that kind), `network` (the bus, which may make any socket),
    /// `spawn` (the orchestrator), `<service>` for a service that can be called, and `<service>:<conversation>` for a contained conversation of it.
    fn steps(&self, from: &str) -> Vec<(String, String)> {
        if from == STRANGER {
            return self.steps_of_strangers();
        }
        let Some(manifest) = self.get(from.strip_prefix(ELSEWHERE).unwrap_or(from)) else {
            return Vec::new();
        };
        let calls = self.calls_of(manifest, from);
        let dials = manifest.dials.iter().map(|dial| {
            let kind = dial.kind.as_str();
            (
                format!("outside:{kind}"),
                format!(
                    "{from} may be connected to each {kind} of the operator's: {}",
                    dial.why
                ),
            )
        });
        let root = manifest.root.iter().map(|root| {
            (
                format!("directory:{root}"),
                format!("{from} has the directory {root} as its whole file system"),
            )
        });
        let grants = manifest.grants.iter().filter_map(|grant| {
            let held = |what: String| {
                Some((
                    what,
                    format!("{from} is given {}: {}", grant.name, grant.why),
                ))
            };
            match grant.kind {
                Kind::Listener => held(format!(
                    "listener:{}",
                    grant.listen.as_deref().unwrap_or_default()
                )),
                Kind::Edge => held(grant.peer.clone().unwrap_or_default()),
                Kind::Program | Kind::Namespace => held("spawn".into()),
                Kind::Directory => held(format!("directory:{}", grant.name)),
                Kind::File => held(format!("file:{}", grant.name)),
                Kind::Record => held(format!("record:{}", grant.name)),
                Kind::Netlink => held("interfaces".into()),
                Kind::Datagram => held(format!("datagram:{}", grant.name)),
                Kind::Door | Kind::Bus => None,
            }
        });
        let own = match from {
            BUS => Some((
                "network".into(),
                "bus is the one process that may make sockets".into(),
            )),
            _ => None,
        };
        let all = calls.into_iter().chain(dials).chain(root);
        all.chain(grants).chain(own).collect()
    }

    /// The services that one with `manifest` may call, on its own node and on others; it is called `from` in the reasons.
    fn calls_of(&self, manifest: &Manifest, from: &str) -> Vec<(String, String)> {
        let each = |call: &Call| {
            let Call {
                service,
                conversation,
                why,
                ..
            } = call;
            let callee = self.get(service);
            let contained = callee.is_some_and(|callee| callee.contains(conversation));
            let reached = match contained {
                true => format!("{service}:{conversation}"),
                false => service.clone(),
            };
            let here = (*service != manifest.name).then(|| {
                let how = format!("{from} calls {service} for {conversation}: {why}");
                (reached, how)
            });
            let across = call.across.then(|| {
                let placed = callee.is_some_and(|callee| callee.placement.is_some());
                let places = match placed {
                    true => "on whichever nodes it runs",
                    false => "on other nodes",
                };
                let how = format!("{from} calls {service} {places} for {conversation}: {why}");
                (format!("{ELSEWHERE}{service}"), how)
            });
            [here, across].into_iter().flatten()
        };
        manifest.calls.iter().flat_map(each).collect()
    }

    fn steps_of_strangers(&self) -> Vec<(String, String)> {
        let step = |(service, serve): (&str, &Serve)| {
            let how = format!(
                "{STRANGER}s may hold {} of {service}: {}",
                serve.conversation, serve.why
            );
            (service.to_owned(), how)
        };
        self.for_strangers().map(step).collect()
    }

    /// Answers "can `from` ever reach `to`?" from the manifests alone, by the shortest path over everything that can be asked of
    /// somebody. A path through a service is what that service does on request, not the thing itself; a process that calls nobody
    /// on the way to `to` cannot reach it at all.
    pub fn can(&self, from: &str, to: &str) -> Reach {
        if self.get(from).is_none() && from != STRANGER {
            return Reach::Unknown(from.into());
        }
        let mentioned = self.manifests.keys().any(|service| {
            service == to || self.steps(service).iter().any(|(reached, _)| reached == to)
        });
        if !mentioned {
            return Reach::Unknown(to.into());
        }
        let mut came: BTreeMap<String, (String, String)> = BTreeMap::new();
        let mut next = VecDeque::from([from.to_owned()]);
        while let Some(at) = next.pop_front() {
            for (reached, how) in self.steps(&at) {
                if reached != from && !came.contains_key(&reached) {
                    came.insert(reached.clone(), (at.clone(), how));
                    next.push_back(reached);
                }
            }
        }
        if !came.contains_key(to) {
            return Reach::Never(came.into_keys().collect());
        }
        let mut path = Vec::new();
        let mut at = to.to_owned();
        while let Some((before, how)) = came.get(&at) {
            path.push(how.clone());
            at = before.clone();
        }
        path.reverse();
        Reach::Path(path)
    }
}

impl Manifest {
    /// Whether who holds this conversation reaches nothing by it that the service holds.
    fn contains(&self, conversation: &str) -> bool {
        let mut serves = self.serves.iter();
        serves.any(|serve| serve.contained && serve.conversation == conversation)
    }

    /// Whether init made a socket pair between it and `peer`.
    fn holds_edge(&self, peer: &str) -> bool {
        self.grants
            .iter()
            .any(|grant| grant.peer.as_deref() == Some(peer))
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(steps) => {
                writeln!(
                    f,
                    "yes, in {} step{}:",
                    steps.len(),
                    if steps.len() == 1 { "" } else { "s" }
                )?;
                steps.iter().try_for_each(|step| writeln!(f, "  {step}"))
            }
            Self::Never(all) if all.is_empty() => writeln!(f, "no: it can reach nothing at all"),
            Self::Never(all) => {
                let all: Vec<&str> = all.iter().map(String::as_str).collect();
                writeln!(
                    f,
                    "no: everything that it can ever reach is {}",
                    all.join(", ")
                )
            }
            Self::Unknown(name) => writeln!(f, "no manifest mentions {name:?}"),
        }
    }
}

#[cfg(test)]
mod tests;
