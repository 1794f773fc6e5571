//! From the facts of a cluster to sentences: what is unsafe right now, and what its operator should do. Pure.
//!
//! What a loss would cost is counted: for every partition who is in reach and has all of its blocks, for every shard who votes and is up to date; then each
//! zone is taken away in thought. Nothing here is a rule of thumb, and what is not known is said to be not known.

use crate::nodes::amount;
use copies::Copies;
use protocol::cluster::{NodeKey, Standing};
use protocol::health::{Health, NodeReport, ShardReport};
use std::collections::BTreeSet;

mod copies;
#[cfg(test)]
pub(crate) mod tests;

/// A disk with less than this part of it free is nearly full.
const FREE_PART: u64 = 20;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Worth knowing, and no danger.
    Note,
    /// Less is there than should be, and no single loss more loses data.
    Degraded,
    /// One more loss may lose data.
    AtRisk,
    /// Something cannot be read or written now.
    OutOfReach,
}

impl Level {
    /// For people and programs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Note => "safe",
            Self::Degraded => "degraded",
            Self::AtRisk => "at risk",
            Self::OutOfReach => "out of reach",
        }
    }
}

/// One thing to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// A sentence.
    pub(crate) what: String,
    /// What the operator should do, a sentence; empty: nothing.
    pub(crate) todo: String,
}

/// All that there is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The worst of the findings.
    pub(crate) level: Level,
    /// What a loss would cost now, a sentence.
    pub(crate) summary: String,
    /// Nothing is under way: blocks, votes and leaders are where they should be.
    pub(crate) done: bool,
    /// The worst first.
    pub(crate) findings: Vec<Finding>,
}

/// Judges.
pub(crate) fn judge(health: &Health) -> Verdict {
    let mut judge = Judge {
        health,
        findings: Vec::new(),
        done: true,
    };
    let data = judge.blocks();
    let service = judge.shards();
    judge.nodes();
    judge.layout();
    let level = judge.findings.iter().map(|finding| finding.level).max();
    let level = level.unwrap_or(Level::Note);
    judge
        .findings
        .sort_by_key(|finding| std::cmp::Reverse(finding.level));
    Verdict {
        level,
        summary: summary(level, &data, &service),
        done: judge.done,
        findings: judge.findings,
    }
}

/// What the loss of a zone would cost.
#[derive(Debug, Default)]
struct Losses {
    /// Not all is known.
    unknown: bool,
    /// Zones whose loss costs something.
    zones: BTreeSet<String>,
}

struct Judge<'a> {
    health: &'a Health,
    findings: Vec<Finding>,
    done: bool,
}

impl<'a> Judge<'a> {
    fn say(&mut self, level: Level, what: impl Into<String>, todo: impl Into<String>) {
        let (what, todo) = (what.into(), todo.into());
        self.findings.push(Finding { level, what, todo });
    }

    fn names_of(&self, numbers: impl IntoIterator<Item = u64>) -> String {
        let name = |number| {
            let node = self.health.numbered(number);
            node.map_or_else(
                || format!("node {number}"),
                |node| self.health.name_of(&node.key),
            )
        };
        listed(numbers.into_iter().map(name))
    }

    fn zone_of(&self, number: u64) -> Option<&'a str> {
        let entry = self.health.entry(&self.health.numbered(number)?.key)?;
        Some(&entry.zone)
    }

    /// For every partition: who has all of it, and which zone's loss would take the last of them.
    fn blocks(&mut self) -> Losses {
        let Some(layout) = &self.health.layout else {
            return Losses {
                unknown: true,
                ..Losses::default()
            };
        };
        let count = Copies::of(layout, |key| self.health.node(key));
        let all = layout.placed.partitions.len();
        self.done &= count.unreachable == 0 && count.undecided == 0;
        if count.unreachable > 0 {
            let away = self.names(&count.away);
            self.say(
                Level::OutOfReach,
                format!("{} of {all} partitions have no copy in reach: what is in them cannot be read.", count.unreachable),
                format!("Bring back {away}: see what it says in `trousseau logs` there, and whether its line works."),
            );
        }
        if !count.counting.is_empty() {
            let names = self.names(&count.counting);
            self.say(
                Level::Note,
                format!("What {names} has is not known yet: its blocks are being counted, or are too many small ones to be compared."),
                "Ask again in a minute.",
            );
        }
        if layout.placed.copies < 2 {
            self.say(
                Level::AtRisk,
                "There is one copy of each block, as the layout says: the loss of any node that keeps blocks loses data.",
                "With nodes in further zones: `trousseau layout copies 3`, then `trousseau layout apply`.",
            );
        } else {
            if count.single > 0 {
                let names = self.names(&count.last);
                self.say(
                    Level::AtRisk,
                    format!("{} of {all} partitions have only one copy in reach: on {names}.", count.single),
                    "Do not stop or restart that node before the others are back and nothing is behind.",
                );
            }
            for (zone, partitions) in &count.at_stake {
                let (todo, what) = match count.homes_only_in.contains(zone) {
                    true => (
                        "Add a node in another zone, assign it (`trousseau layout assign NODE`), and apply the layout.".to_owned(),
                        format!("One more loss in {zone} loses data: all copies of {partitions} of {all} partitions stand there."),
                    ),
                    false => (
                        "Bring back what is away, or have the layout make copies elsewhere: see below.".to_owned(),
                        format!("One more loss in {zone} loses data: {partitions} of {all} partitions are complete nowhere else."),
                    ),
                };
                self.say(Level::AtRisk, what, todo);
            }
        }
        let unknown = count.undecided > 0 || count.unreachable > 0;
        Losses {
            unknown,
            zones: count.at_stake.into_keys().collect(),
        }
    }

    fn names<'k>(&self, keys: impl IntoIterator<Item = &'k NodeKey>) -> String {
        listed(keys.into_iter().map(|key| self.health.name_of(key)))
    }

    /// For every shard: who votes and is up to date, and which zone's loss would leave no majority.
    fn shards(&mut self) -> Losses {
        let shards = &self.health.shards;
        let headless: Vec<&ShardReport> =
            shards.iter().filter(|one| one.leader.is_none()).collect();
        self.done &= shards
            .iter()
            .all(|one| one.leader.is_some() && one.current == one.voters);
        if !headless.is_empty() {
            let numbers = numbers(&headless);
            let missing = headless.iter().flat_map(|one| missing(one));
            let missing = self.names_of(missing);
            let todo = match missing.is_empty() {
                true => "All of their voters answer: an election takes some seconds; ask again."
                    .to_owned(),
                false => format!(
                    "Bring back {missing}: more than half of the voters have to be in reach of each other."
                ),
            };
            self.say(
                Level::OutOfReach,
                format!("{numbers} no leader: what is in it can neither be read nor written."),
                todo,
            );
        }
        let short: Vec<&ShardReport> = shards
            .iter()
            .filter(|one| one.leader.is_some() && one.current.len() < one.voters.len())
            .collect();
        if let Some(first) = short.first() {
            let missing = self.names_of(short.iter().flat_map(|one| missing(one)));
            self.say(
                Level::Degraded,
                format!(
                    "Metadata of {} of {} shards is on {} of {} voters: without {missing}.",
                    short.len(),
                    shards.len(),
                    first.current.len(),
                    first.voters.len()
                ),
                "It catches up by itself when it is back; after five minutes another node takes its vote, if there is one.",
            );
        }
        let unfinished = shards
            .iter()
            .filter(|one| one.voters.len() != usize::from(one.wanted));
        let unfinished: Vec<&ShardReport> = unfinished.collect();
        if let Some(first) = unfinished.first() {
            self.done = false;
            self.say(
                Level::Note,
                format!(
                    "{} of {} shards do not have their {} voters yet.",
                    unfinished.len(),
                    shards.len(),
                    first.wanted
                ),
                "",
            );
        }
        let mut losses = Losses {
            unknown: !headless.is_empty() || shards.is_empty(),
            ..Losses::default()
        };
        for shard in shards {
            let zones = shard
                .current
                .iter()
                .filter_map(|number| self.zone_of(*number));
            for zone in zones.collect::<BTreeSet<&str>>() {
                if !shard.outlives(|number| self.zone_of(number) == Some(zone)) {
                    losses.zones.insert(zone.to_owned());
                }
            }
        }
        losses
    }

    /// Each node by itself.
    fn nodes(&mut self) {
        for node in &self.health.nodes {
            let name = self.health.name_of(&node.key);
            match self.health.entry(&node.key).map(|entry| entry.standing) {
                Some(Standing::Member) => match &node.silent {
                    Some(_) => self.silent(node, &name),
                    None => self.speaking(node, &name),
                },
                standing => self.gone_for_good(node, &name, standing),
            }
        }
        let versions = self
            .health
            .nodes
            .iter()
            .filter_map(|node| node.said.as_ref());
        let owed: u64 = versions
            .filter_map(|said| said.usage.as_ref().ok())
            .map(|usage| usage.behind)
            .fold(0, u64::saturating_add);
        if owed > 0 {
            self.say(
                Level::Note,
                format!("{owed} blocks do not have all of their copies yet; they are made as soon as whoever lacks them is there."),
                "",
            );
        }
    }

    fn silent(&mut self, node: &'a NodeReport, name: &str) {
        self.done = false;
        let entry = self.health.entry(&node.key);
        let zone = entry.map_or("", |entry| &entry.zone);
        let gives = entry.is_some_and(|entry| entry.capacity_bytes > 0);
        let heard = match &node.said {
            Some(said) => format!(", heard of {} ago", span(said.ago_ms)),
            None => String::new(),
        };
        let why = node.silent.as_deref().unwrap_or_default();
        let todo = match gives {
            true => format!(
                "Start it again, or repair its line. If it never comes back: `trousseau node revoke {name}`, `trousseau layout remove {name}`, `trousseau layout apply`."
            ),
            false => {
                format!("Start it again; if it never comes back: `trousseau node revoke {name}`.")
            }
        };
        self.say(
            Level::Degraded,
            format!("{name} in zone {zone} does not answer{heard} ({why})."),
            todo,
        );
    }

    fn speaking(&mut self, node: &'a NodeReport, name: &str) {
        let Some(said) = &node.said else { return };
        if said.older_disk {
            self.say(
                Level::AtRisk,
                format!("The disk of {name} is older than what the cluster has seen of it, as after a copy of the disk was put back: it has forgotten copies and votes that were counted."),
                format!("`trousseau node revoke {name}`, `trousseau layout remove {name}`, `trousseau layout apply`; then start it anew on an empty directory with an invitation."),
            );
        }
        let usage = match &said.usage {
            Ok(usage) => usage,
            Err(why) => {
                self.done = false;
                self.say(
                    Level::Degraded,
                    format!("{name} answers, but not its disk ({why})."),
                    format!("See `trousseau services` and `trousseau logs block-store` on {name}."),
                );
                return;
            }
        };
        if usage.damaged > 0 {
            self.say(
                Level::Degraded,
                format!("{} blocks on {name} are damaged and were not repaired yet.", usage.damaged),
                format!("See `trousseau logs block-store` on {name}; if there are ever more, its disk is dying: replace it."),
            );
        }
        let keeps = self
            .health
            .entry(&node.key)
            .is_some_and(|one| one.capacity_bytes > 0);
        if keeps && usage.free_bytes < usage.capacity_bytes / FREE_PART {
            let level = match usage.free_bytes {
                0 => Level::Degraded,
                _ => Level::Note,
            };
            self.say(
                level,
                format!("The disk of {name} has {} left of {}.", amount(usage.free_bytes), amount(usage.capacity_bytes)),
                format!("Delete objects, add a node, or give {name} less: `trousseau layout assign {name} --capacity SIZE`, then `trousseau layout apply`."),
            );
        }
        match node.lacking_blocks {
            Some(blocks) if blocks > 0 => {
                self.done = false;
                let bytes = node
                    .lacking_bytes
                    .map_or_else(String::new, |bytes| format!(", about {}", amount(bytes)));
                self.say(
                    Level::Note,
                    format!("{name} lacks {blocks} blocks{bytes}; the other nodes bring them."),
                    "",
                );
            }
            _ => {}
        }
    }

    /// It does not belong, and blocks are still to be on it.
    fn gone_for_good(&mut self, node: &NodeReport, name: &str, standing: Option<Standing>) {
        let partitions = self.health.layout.as_ref().map_or(0, |layout| {
            let mut holders = layout.placed.holders.iter();
            let place = holders.position(|one| one.key == node.key && one.stays);
            place.map_or(0, |place| layout.placed.partitions_of(place))
        });
        if partitions == 0 {
            return;
        }
        let word = match standing {
            Some(Standing::Left) => "has left",
            _ => "was revoked",
        };
        self.say(
            Level::Degraded,
            format!("{name} {word}, and {partitions} partitions still count on it for a copy."),
            format!("`trousseau layout remove {name}`, then `trousseau layout apply`: the others make the copies that it had."),
        );
    }

    /// What moves, what waits, and who has no part in it.
    fn layout(&mut self) {
        let several = self
            .health
            .roster
            .as_ref()
            .is_some_and(|roster| roster.members().count() > 1);
        let Some(layout) = &self.health.layout else {
            if several {
                self.done = false;
                self.say(
                    Level::Degraded,
                    "Where blocks belong is not known here, and no node that knows it is in reach.",
                    "Look from a node that stores blocks.",
                );
            }
            return;
        };
        if layout.placed.moving_since_ms.is_some() {
            self.done = false;
            self.say(
                Level::Note,
                "Blocks move to the layout that was applied; `trousseau layout` shows how far they are.",
                "",
            );
        }
        let members = self.health.roster.iter().flat_map(|one| one.members());
        let idle: Vec<String> = members
            .filter(|node| node.capacity_bytes > 0)
            .filter(|node| {
                let mut holders = layout.placed.holders.iter();
                !holders.any(|holder| holder.key == node.key)
            })
            .map(|node| node.name.clone())
            .collect();
        if let Some(first) = idle.first() {
            let todo = match layout.placed.staged {
                true => "`trousseau layout preview` shows what would move; `trousseau layout apply` does it.".to_owned(),
                false => format!("`trousseau layout assign {first}`, then `trousseau layout apply`; or let it leave."),
            };
            self.say(
                Level::Note,
                format!("{} could keep blocks and keeps none.", idle.join(", ")),
                todo,
            );
        } else if layout.placed.staged {
            self.say(
                Level::Note,
                "Changes of the layout wait to be applied.",
                "`trousseau layout preview` shows what would move; `trousseau layout apply` does it.",
            );
        }
    }
}

/// Each name once.
fn listed(names: impl Iterator<Item = String>) -> String {
    let names: BTreeSet<String> = names.collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// Voters that are not in reach, or behind.
fn missing(shard: &ShardReport) -> impl Iterator<Item = u64> {
    let behind = |number: &&u64| !shard.current.contains(number);
    shard.voters.iter().filter(behind).copied()
}

fn numbers(shards: &[&ShardReport]) -> String {
    let numbers: Vec<String> = shards.iter().map(|one| one.shard.to_string()).collect();
    match numbers.as_slice() {
        [one] => format!("Shard {one} has"),
        many => format!("Shards {} have", many.join(", ")),
    }
}

fn summary(level: Level, data: &Losses, service: &Losses) -> String {
    let named = |zones: &BTreeSet<String>| zones.iter().cloned().collect::<Vec<_>>().join(" or ");
    if level == Level::OutOfReach {
        return "Not everything can be reached now; what was acknowledged is on the disks that are away.".into();
    }
    if data.unknown || service.unknown {
        return "What a loss would cost now is not known: see below.".into();
    }
    match (data.zones.is_empty(), service.zones.is_empty()) {
        (true, true) => "Any one zone may be lost: no data is, and the store goes on.".into(),
        (true, false) => format!(
            "No single loss loses data. The loss of {} stops the store until it is back.",
            named(&service.zones)
        ),
        (false, _) => format!("One more loss in {} loses data.", named(&data.zones)),
    }
}

/// Milliseconds for a person, roughly.
pub(crate) fn span(ms: u64) -> String {
    match ms / 1_000 {
        s if s < 120 => format!("{s} s"),
        s if s < 2 * 3_600 => format!("{} min", s / 60),
        s if s < 48 * 3_600 => format!("{} h", s / 3_600),
        s => format!("{} d", s / 86_400),
    }
}
