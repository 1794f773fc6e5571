//! One manifest: TOML, unknown keys refused, every rule with the line that breaks it.

use protocol::bus::NAME_BYTES_MAX;
use protocol::schedule::{COUNT_MAX, ZoneRule};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

/// Everything that is packed for one process, and why.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The service's name: its `comm`, its data directory's name, its name on the bus.
    pub name: String,
    /// One sentence for people.
    pub about: String,
    /// A process calls only services of a lower rank.
    pub rank: u8,
    /// Its seccomp profile in `sandbox-profiles/`.
    pub profile: String,
    /// The node's data directory that becomes its whole file system; absent: an empty one.
    #[serde(default)]
    pub root: Option<String>,
    /// Started by init instead of the orchestrator. Built-in ones only: init knows them by name.
    #[serde(default)]
    pub daemon: bool,
    /// Settings of the node without which it has nothing to do: where one of them is empty, it is not started.
    #[serde(default)]
    pub needs: Vec<String>,
    /// For a service that is not in the static program: its own static program, a path relative to the manifest.
    #[serde(default)]
    pub program: Option<String>,
    /// It runs on some nodes only, which the cluster chooses; absent: on every node that was started with it.
    #[serde(default)]
    pub placement: Option<Placement>,
    /// Bounds that the kernel enforces.
    pub limits: Limits,
    /// Values that are not authority. `$name` is filled in by the node.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// The descriptors it starts with.
    #[serde(default, rename = "grant")]
    pub grants: Vec<Grant>,
    /// What it answers, and to whom.
    #[serde(default)]
    pub serves: Vec<Serve>,
    /// Whom it may ask the bus for.
    #[serde(default)]
    pub calls: Vec<Call>,
    /// Where outside of the node it may ask the bus to be connected to.
    #[serde(default)]
    pub dials: Vec<Dial>,
}

/// On how many nodes a service runs, and on which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// 1 to [`COUNT_MAX`]. Where fewer nodes were started with it, it runs on those.
    pub count: u8,
    /// Which zones.
    pub zones: ZoneRule,
}

/// Bounds of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory in MiB (cgroup), page cache included.
    pub memory_mb: u32,
    /// Threads and processes (cgroup).
    pub processes: u32,
    /// Open descriptors (RLIMIT_NOFILE).
    pub open_files: u32,
    /// Share of the processor beside others: 100 is one share (cgroup v2's cpu.weight).
    #[serde(default = "one_share")]
    pub cpu_weight: u32,
}

fn one_share() -> u32 {
    100
}

/// One named descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Its name in the process.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// For a listener: which of the node's addresses.
    #[serde(default)]
    pub listen: Option<String>,
    /// For an edge: who holds the other end.
    #[serde(default)]
    pub peer: Option<String>,
    /// What it is for, for people.
    pub why: String,
}

/// What a granted descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Connections come in by it, from the bus. Revocable.
    Door,
    /// The restricted bus channel: connections by name. Revocable.
    Bus,
    /// A listening socket, made by the bus. Revocable.
    Listener,
    /// One end of a socket pair that init made between two daemons.
    Edge,
    /// The static program, sealed.
    Program,
    /// A directory of the kernel's (cgroup), or an empty one.
    Directory,
    /// A namespace to put services into.
    Namespace,
    /// A sealed memory file with bytes that init has read: keys.
    File,
    /// A regular file of the node's data directory, opened by init to be read and written in place: what a daemon without a file system keeps.
    Record,
    /// A route socket of the machine's network, made by init.
    Netlink,
    /// A UDP socket of the machine's network, made by init.
    Datagram,
}

impl Kind {
    /// Whether the bus makes it on the orchestrator's request; the others come from init.
    pub fn from_bus(self) -> bool {
        matches!(self, Self::Door | Self::Bus | Self::Listener)
    }

    /// As it is written in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Door => "door",
            Self::Bus => "bus",
            Self::Listener => "listener",
            Self::Edge => "edge",
            Self::Program => "program",
            Self::Directory => "directory",
            Self::Namespace => "namespace",
            Self::File => "file",
            Self::Record => "record",
            Self::Netlink => "netlink",
            Self::Datagram => "datagram",
        }
    }
}

/// One conversation that a service answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serve {
    /// Its name in `protocol`.
    pub conversation: String,
    /// The services that may hold it.
    pub to: Vec<String>,
    /// These services may hold it from other nodes that belong to the cluster, too.
    #[serde(default)]
    pub across: bool,
    /// A node that nobody knows yet may hold it; nobody else does, so `to` is empty. It answers whoever there is.
    #[serde(default)]
    pub strangers: bool,
    /// Who holds it asks for what the conversation says, and by it reaches nothing that this service holds: there the paths of the policy end.
    #[serde(default)]
    pub contained: bool,
    /// What for, for people.
    pub why: String,
}

/// One conversation that a service may open.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The callee.
    pub service: String,
    /// Which of its conversations.
    pub conversation: String,
    /// On other nodes that belong to the cluster, too. A service may call itself so, and only so; and so is called whatever has a placement, which the
    /// bus then finds on whichever node it runs.
    #[serde(default)]
    pub across: bool,
    /// What for, for people.
    pub why: String,
}

/// Addresses outside of the node to which a service may be connected. The manifest names their kind; which they are, the operator
/// says before the node starts, and a service that may dial where there are none does not run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dial {
    /// Which of the operator's addresses.
    pub kind: Outside,
    /// What for, for people.
    pub why: String,
}

/// A kind of addresses outside of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outside {
    /// Where events are told: `--webhook`, `[webhooks]` of node.toml.
    Webhook,
}

impl Outside {
    /// As it is written in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
        }
    }

    /// The node's setting that has the addresses ([`Outside::addresses`]).
    pub fn setting(self) -> &'static str {
        match self {
            Self::Webhook => "webhooks",
        }
    }

    /// The addresses of such a setting, by the operator's names: `NAME=IP:PORT`, separated by spaces. `None` if it is something else.
    pub fn addresses(setting: &str) -> Option<BTreeMap<String, SocketAddr>> {
        let each = |word: &str| {
            let (name, address) = word.split_once('=')?;
            Some((name.to_owned(), address.parse().ok()?))
        };
        setting.split_whitespace().map(each).collect()
    }
}

/// A manifest that cannot be used: where, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// The file.
    pub file: String,
    /// The line, from 1; 0 if the rule is about the whole file.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

impl std::error::Error for ManifestError {}

impl Manifest {
    /// Reads and checks one manifest. `file` is named in errors only.
    pub fn parse(file: &str, text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = toml::from_str(text).map_err(|error| ManifestError {
            file: file.into(),
            line: error.span().map_or(0, |span| line_at(text, span.start)),
            what: error.message().replace('\n', " "),
        })?;
        match manifest.broken_rule() {
            None => Ok(manifest),
            Some((word, what)) => Err(ManifestError {
                file: file.into(),
                line: text
                    .find(&format!("\"{word}\""))
                    .map_or(0, |at| line_at(text, at)),
                what,
            }),
        }
    }

    /// The node's addresses at which it listens.
    pub fn listens(&self) -> impl Iterator<Item = &str> {
        self.grants
            .iter()
            .filter_map(|grant| grant.listen.as_deref())
    }

    /// Whether it runs on a node: one that listens where the operator has named no address, or dials where there is none, does not. `has` is asked
    /// for the settings that name them.
    pub fn runs_where(&self, has: impl Fn(&str) -> bool) -> bool {
        let outside = self.dials.iter().map(|dial| dial.kind.setting());
        let needs = self.needs.iter().map(String::as_str);
        self.listens().chain(outside).chain(needs).all(has)
    }

    /// The first rule that the manifest breaks on its own: a word to find the line by, and the rule.
    fn broken_rule(&self) -> Option<(&str, String)> {
        let names = [&self.name, &self.profile]
            .into_iter()
            .chain(&self.root)
            .chain(self.grants.iter().map(|grant| &grant.name))
            .chain(self.serves.iter().map(|serve| &serve.conversation))
            .chain(&self.needs)
            .chain(
                self.calls
                    .iter()
                    .flat_map(|call| [&call.service, &call.conversation]),
            );
        for name in names {
            if !is_name(name) {
                return Some((
                    name,
                    format!(
                        "{name:?} is not a name: a-z, 0-9, '-' and ':', at most {NAME_BYTES_MAX}"
                    ),
                ));
            }
        }
        for (at, grant) in self.grants.iter().enumerate() {
            let earlier = self.grants.iter().take(at);
            if earlier.into_iter().any(|other| other.name == grant.name) {
                return Some((
                    &grant.name,
                    format!("two grants are named {:?}", grant.name),
                ));
            }
            match (grant.kind, &grant.listen, &grant.peer) {
                (Kind::Listener, Some(_), None) | (Kind::Edge, None, Some(_)) => {}
                (Kind::Listener, ..) => {
                    return Some((&grant.name, "a listener has `listen` and no `peer`".into()));
                }
                (Kind::Edge, ..) => {
                    return Some((&grant.name, "an edge has `peer` and no `listen`".into()));
                }
                (_, None, None) => {}
                _ => {
                    return Some((
                        &grant.name,
                        "only a listener has `listen`, only an edge `peer`".into(),
                    ));
                }
            }
            if grant.why.trim().is_empty() {
                return Some((
                    &grant.name,
                    format!("grant {:?} has no reason in `why`", grant.name),
                ));
            }
        }
        let has = |kind| self.grants.iter().any(|grant| grant.kind == kind);
        if self.serves.is_empty() == has(Kind::Door) && self.rank >= crate::SERVICE_RANK_MIN {
            return Some((
                &self.name,
                "a service that serves has a grant of kind \"door\", and only such a one".into(),
            ));
        }
        let asks = !self.calls.is_empty() || !self.dials.is_empty();
        if asks && !has(Kind::Bus) {
            return Some((
                &self.name,
                "a service that calls or dials needs a grant of kind \"bus\"".into(),
            ));
        }
        if let Some(broken) = self.broken_dial().or_else(|| self.broken_reach()) {
            return Some(broken);
        }
        if self.daemon && self.program.is_some() {
            return Some((
                &self.name,
                "a daemon is built in: init starts no other program".into(),
            ));
        }
        if let Some(what) = self.broken_placement() {
            return Some((&self.name, what));
        }
        let limits = &self.limits;
        if limits.memory_mb == 0 || limits.processes == 0 || limits.open_files < 16 {
            return Some((
                &self.name,
                "limits: memory_mb and processes of at least 1, open_files of at least 16".into(),
            ));
        }
        if !(1..=10_000).contains(&limits.cpu_weight) {
            return Some((&self.name, "limits: cpu_weight from 1 to 10000".into()));
        }
        None
    }

    /// The rule that `placement` breaks.
    fn broken_placement(&self) -> Option<String> {
        let placement = self.placement?;
        if !(1..=COUNT_MAX).contains(&placement.count) {
            return Some(format!("placement: count from 1 to {COUNT_MAX}"));
        }
        // Daemons, and what the store itself is made of.
        if self.program.is_none() {
            let what = "only a service with a `program` of its own has a placement: what is built in runs on every node";
            return Some(what.into());
        }
        // Nothing would follow it to the next node.
        let stays = self.root.is_some();
        stays.then(|| "a service with a placement keeps nothing on a node: it has no `root`".into())
    }

    /// The first rule that `dials` breaks.
    fn broken_dial(&self) -> Option<(&str, String)> {
        for (at, dial) in self.dials.iter().enumerate() {
            let kind = dial.kind.as_str();
            let mut earlier = self.dials.iter().take(at);
            if earlier.any(|other| other.kind == dial.kind) {
                return Some((kind, format!("two dials are of the kind {kind:?}")));
            }
            if dial.why.trim().is_empty() {
                return Some((kind, format!("dial {kind:?} has no reason in `why`")));
            }
        }
        None
    }

    /// The first rule that `across` and `strangers` break.
    fn broken_reach(&self) -> Option<(&str, String)> {
        for serve in &self.serves {
            let conversation = serve.conversation.as_str();
            let what = match (serve.strangers, serve.across, serve.to.is_empty()) {
                (true, true, _) => "is for members by `across`, or for strangers, not for both",
                (true, false, false) => "is for strangers, so `to` is empty",
                (false, _, true) => "is served to nobody: `to` is empty",
                _ => continue,
            };
            return Some((conversation, format!("{conversation:?} {what}")));
        }
        let mut calls = self.calls.iter();
        let own = calls.find(|call| call.service == self.name && !call.across)?;
        let what = "a service calls itself only on other nodes, with `across`";
        Some((&own.conversation, what.into()))
    }

    /// The kind of the operator's addresses that is called so, if it may be connected to them by its own word.
    pub fn dials(&self, kind: &str) -> Option<Outside> {
        let mut kinds = self.dials.iter().map(|dial| dial.kind);
        kinds.find(|one| one.as_str() == kind)
    }

    /// Whether it may open `conversation` of `service` on this node, by its own word.
    pub fn calls(&self, service: &str, conversation: &str) -> bool {
        service != self.name && self.call_to(service, conversation).is_some()
    }

    /// Whether it may open `conversation` of `service` on another node, by its own word.
    pub fn calls_across(&self, service: &str, conversation: &str) -> bool {
        let call = self.call_to(service, conversation);
        call.is_some_and(|call| call.across)
    }

    fn call_to(&self, service: &str, conversation: &str) -> Option<&Call> {
        let mut calls = self.calls.iter();
        calls.find(|call| call.service == service && call.conversation == conversation)
    }

    /// Whether it answers `conversation` to `client`, by its own word.
    pub fn serves(&self, client: &str, conversation: &str) -> bool {
        self.serves_to(client, conversation).is_some()
    }

    /// Whether it answers `conversation` to `client` of another node that belongs to the cluster, by its own word.
    pub fn serves_across(&self, client: &str, conversation: &str) -> bool {
        let serve = self.serves_to(client, conversation);
        serve.is_some_and(|serve| serve.across)
    }

    /// Whether it answers `conversation` to whoever there is, by its own word.
    pub fn serves_strangers(&self, conversation: &str) -> bool {
        let mut serves = self.serves.iter();
        serves.any(|serve| serve.strangers && serve.conversation == conversation)
    }

    fn serves_to(&self, client: &str, conversation: &str) -> Option<&Serve> {
        self.serves.iter().find(|serve| {
            serve.conversation == conversation && serve.to.iter().any(|to| to == client)
        })
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b':');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text
        .bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
}

#[cfg(test)]
mod tests;
