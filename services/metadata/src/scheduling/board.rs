//! What the leader of shard 0 remembers of the nodes: what each has said, and what it may run until when. It dies with the lead.

use crate::rolling::Member;
use crate::scheduler::Node;
use crate::state::Rolling;
use protocol::cluster::{NodeKey, Roster};
use protocol::schedule::{LEASE_MS, MARGIN_PERCENT, Report};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// How long a lease lasts by this node's clock, whatever the rate of the other's.
const LEASE_FOR_SURE: Duration = Duration::from_millis(LEASE_MS * (100 + MARGIN_PERCENT) / 100);
/// What a node has said holds for so long: some reports may be lost.
const FRESH: Duration = Duration::from_secs(4);

/// See above.
#[derive(Default)]
pub(super) struct Board {
    /// In which term this node leads.
    term: u64,
    /// Until then there may be leases that another leader gave.
    unknown_until: Option<Instant>,
    nodes: BTreeMap<NodeKey, Heard>,
    /// The rolling restart, since when it is so far, and what it waits for.
    waits: Option<(Rolling, Instant, String)>,
}

struct Heard {
    at: Instant,
    report: Report,
    /// What it runs, and what it was told to run.
    may_run: BTreeSet<String>,
}

impl Board {
    /// As the leader in this term. A node that is alone is the only one that can have led before, and says itself what it runs.
    pub(super) fn observe(&mut self, term: u64, alone: bool) {
        if self.term != term {
            *self = Self {
                term,
                unknown_until: (!alone).then(|| Instant::now() + LEASE_FOR_SURE),
                ..Self::default()
            };
        }
    }

    /// A node has reported, and is to run `services`. `false` if it had said something later already: then it is told nothing.
    pub(super) fn hear(&mut self, key: NodeKey, report: Report, services: &[String]) -> bool {
        if let Some(last) = self.nodes.get(&key)
            && last.report.life == report.life
            && last.report.number > report.number
        {
            return false;
        }
        let running = report.here.running.iter();
        let heard = Heard {
            at: Instant::now(),
            may_run: running.chain(services).cloned().collect(),
            report,
        };
        self.nodes.insert(key, heard);
        true
    }

    /// The nodes that have not gone; `None` while it is not known what the others may run.
    pub(super) fn nodes(&self, roster: &Roster, draining: &BTreeSet<NodeKey>) -> Option<Vec<Node>> {
        let now = Instant::now();
        if self.unknown_until.is_some_and(|until| now < until) {
            return None;
        }
        let node = |(key, heard): (&NodeKey, &Heard)| {
            let silent = now - heard.at;
            // Who does not belong any more may still run what it was told to.
            let entry = roster.member(key);
            (silent < LEASE_FOR_SURE).then(|| Node {
                key: *key,
                zone: entry.map_or_else(String::new, |entry| entry.zone.clone()),
                alive: silent < FRESH && entry.is_some(),
                draining: draining.contains(key) || entry.is_none(),
                offers: heard.report.here.offers.clone(),
                may_run: heard.may_run.clone(),
            })
        };
        Some(self.nodes.iter().filter_map(node).collect())
    }

    /// All that belong, with what they have said just now.
    pub(super) fn members<'a>(&'a self, roster: &'a Roster) -> Vec<Member<'a>> {
        let now = Instant::now();
        let member = |entry| {
            let entry: &protocol::cluster::NodeEntry = entry;
            let heard = self.nodes.get(&entry.key);
            let fresh = heard.filter(|heard| now - heard.at < FRESH);
            Member {
                entry,
                report: fresh.map(|heard| &heard.report),
            }
        };
        roster.members().map(member).collect()
    }

    /// The rolling restart waits; for how long it has not come any further.
    pub(super) fn waits(&mut self, rolling: Option<&Rolling>, why: &str) -> Duration {
        let now = Instant::now();
        self.waits = rolling.map(|rolling| {
            let since = match &self.waits {
                Some((known, since, _)) if known == rolling => *since,
                _ => now,
            };
            (rolling.clone(), since, why.to_owned())
        });
        let waited = self.waits.as_ref().map(|(_, since, _)| now - *since);
        waited.unwrap_or_default()
    }

    /// What the rolling restart waits for.
    pub(super) fn waited_for(&self) -> &str {
        self.waits.as_ref().map_or("", |(_, _, why)| why)
    }
}
