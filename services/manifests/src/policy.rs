//! The policy: all manifests together, checked against each other, and the graph of who can reach what.

use crate::{Kind, Manifest, ManifestError};
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
];

/// Extra manifests travel to the bus and the orchestrator as settings named so.
pub const SETTING_PREFIX: &str = "manifest:";

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
        for call in &caller.calls {
            let (service, conversation) = (&call.service, &call.conversation);
            let Some(callee) = self.manifests.get(service) else {
                return Some(format!("calls {service:?}, which has no manifest"));
            };
            if !callee.serves(&caller.name, conversation) {
                return Some(format!(
                    "calls {service:?} for {conversation:?}, which {service} does not serve to it"
                ));
            }
            if callee.rank >= caller.rank {
                return Some(format!(
                    "calls {service:?} of rank {}, but has rank {} itself",
                    callee.rank, caller.rank
                ));
            }
        }
        for serve in &caller.serves {
            for client in &serve.to {
                match self.manifests.get(client) {
                    None => return Some(format!("serves {client:?}, which has no manifest")),
                    Some(other)
                        if !other.calls(&caller.name, &serve.conversation)
                            && !other.holds_edge(&caller.name) =>
                    {
                        return Some(format!(
                            "serves {:?} to {client:?}, which does not call it",
                            serve.conversation
                        ));
                    }
                    Some(_) => {}
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

    /// Everything that `from` holds or may ask for, one step away: what, and by which grant or call.
    ///
    /// Names of things that are not services: `directory:<root>`, `listener:<name>`, `file:<name>`, `record:<name>`, `outside:<kind>` (the addresses that the
    /// operator has named of that kind), `network` (the bus, which may make any socket),
    /// `spawn` (the orchestrator), and `<service>` for a service that can be called.
    fn steps(&self, from: &str) -> Vec<(String, String)> {
        let Some(manifest) = self.get(from) else {
            return Vec::new();
        };
        let calls = manifest.calls.iter().map(|call| {
            (
                call.service.clone(),
                format!(
                    "{from} calls {} for {}: {}",
                    call.service, call.conversation, call.why
                ),
            )
        });
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
            "bus" => Some((
                "network".into(),
                "bus is the one process that may make sockets".into(),
            )),
            _ => None,
        };
        let all = calls.chain(dials).chain(root);
        all.chain(grants).chain(own).collect()
    }

    /// Answers "can `from` ever reach `to`?" from the manifests alone, by the shortest path over everything that can be asked of
    /// somebody. A path through a service is what that service does on request, not the thing itself; a process that calls nobody
    /// on the way to `to` cannot reach it at all.
    pub fn can(&self, from: &str, to: &str) -> Reach {
        if self.get(from).is_none() {
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
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    fn built_in() -> Policy {
        Policy::parse(BUILT_IN.iter().copied()).unwrap()
    }

    #[test]
    fn the_built_in_manifests_fit_together_and_order_the_calls() {
        let policy = built_in();
        assert_eq!(policy.services().len(), 6);
        assert!(policy.allows("s3-frontend", "metadata", "metadata"));
        assert!(!policy.allows("metadata", "s3-frontend", "metadata"));
        assert!(!policy.allows("s3-frontend", "metadata", "blocks"));
        assert!(!policy.allows("nobody", "metadata", "metadata"));
    }

    #[test]
    fn reach_is_proved_or_its_absence_is() {
        let policy = built_in();
        let Reach::Path(path) = policy.can("s3-frontend", "directory:metadata") else {
            panic!("the frontend reaches metadata's disk through metadata");
        };
        assert_eq!(path.len(), 2, "{path:?}");
        let Reach::Never(all) = policy.can("block-store", "network") else {
            panic!("the block-store must never reach the network");
        };
        assert!(!all.contains("metadata"));
        // Metadata tells membership who belongs, and reaches no network by it: membership answers, and asks nobody.
        let Reach::Never(all) = policy.can("metadata", "network") else {
            panic!("metadata must never reach the network");
        };
        assert!(all.contains("record:roster"), "{all:?}");
        let Reach::Never(_) = policy.can("s3-frontend", "spawn") else {
            panic!("the frontend must never start a process");
        };
        assert_eq!(
            policy.can("s3-frontend", "nowhere"),
            Reach::Unknown("nowhere".into())
        );
    }

    #[test]
    fn nobody_but_the_notifier_can_ever_reach_an_address_outside() {
        let policy = built_in();
        for manifest in policy.all() {
            let name = manifest.name.as_str();
            match policy.can(name, "outside:webhook") {
                Reach::Path(path) => assert_eq!((name, path.len()), ("notifier", 1), "{path:?}"),
                Reach::Never(all) => {
                    assert!(name != "notifier" && !all.contains("outside:webhook"))
                }
                Reach::Unknown(what) => panic!("no manifest mentions {what}"),
            }
            assert_eq!(manifest.dials("webhook").is_some(), name == "notifier");
            assert_eq!(manifest.dials("listener"), None);
        }
        let Reach::Never(all) = policy.can("notifier", "network") else {
            panic!("the notifier must never make a socket of its own");
        };
        assert!(!all.contains("s3-frontend") && !all.contains("interfaces"));
    }

    #[test]
    fn manifests_that_contradict_each_other_are_refused() {
        let front = r#"
name = "front"
about = "x"
rank = 20
profile = "console"
limits = { memory_mb = 1, processes = 1, open_files = 16 }
grant = [{ name = "bus", kind = "bus", why = "x" }]
calls = [{ service = "metadata", conversation = "metadata", why = "x" }]
"#;
        let check = |text: &str, expected: &str| {
            let all = BUILT_IN.iter().copied().chain([("front.toml", text)]);
            let error = Policy::parse(all).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(front, "which metadata does not serve to it");
        check(
            &front.replace("\"metadata\"", "\"nobody\""),
            "\"nobody\", which has no manifest",
        );
        check(
            &front.replace("rank = 20", "rank = 5"),
            "rank 5 is metadata's already",
        );
        check(&front.replace("\"front\"", "\"console\""), "is the name of");
    }
}
