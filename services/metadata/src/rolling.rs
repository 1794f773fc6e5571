//! The next step of a rolling restart: zone by zone, node by node, and only as long as every shard keeps its majority. Pure.
//!
//! A node whose turn it is hands on its leads first; then its services are restarted, metadata last; then it has to be back in every shard, and what was written meanwhile
//! must have its copies, before the next one has its turn.

use crate::raft::number_of;
use crate::state::{Rolling, Schedule};
use protocol::cluster::{NodeEntry, NodeKey};
use protocol::schedule::{Led, Report};
use std::collections::BTreeSet;

/// While clients write, the last copies of so many blocks may be under way on each node at any moment.
const BEHIND_MAX: u64 = 64;

/// A node that belongs.
#[derive(Debug, Clone)]
pub(crate) struct Member<'a> {
    pub(crate) entry: &'a NodeEntry,
    /// What it said just now; `None`: nothing.
    pub(crate) report: Option<&'a Report>,
}

/// What the leader of shard 0 knows.
#[derive(Debug, Clone)]
pub(crate) struct Situation<'a> {
    pub(crate) schedule: &'a Schedule,
    pub(crate) members: Vec<Member<'a>>,
    /// How many shards there are.
    pub(crate) shards: u16,
}

/// What is next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// What is waited for.
    Wait(String),
    /// This is so from now on.
    Go(Rolling),
    /// All nodes are back.
    Over,
}

impl<'a> Situation<'a> {
    /// What is next in a restart that has come so far.
    pub(crate) fn next(&self, rolling: &Rolling) -> Step {
        match rolling.now.map(|key| (key, self.member(&key))) {
            // It has left, and takes nobody with it.
            Some((_, None)) => Step::Go(Rolling {
                now: None,
                told: false,
                ..rolling.clone()
            }),
            Some((key, Some(member))) => self.turn(rolling, key, member),
            None => self.go_on(rolling),
        }
    }

    /// The nodes to come, in order.
    pub(crate) fn to_come(&self, rolling: &Rolling) -> Vec<&NodeEntry> {
        let entries = self.members.iter().map(|member| member.entry);
        let mut left: Vec<&NodeEntry> = entries
            .filter(|entry| !rolling.done.contains(&entry.key) && rolling.now != Some(entry.key))
            .collect();
        left.sort_by_key(|entry| (&entry.zone, &entry.name));
        left
    }

    fn member(&self, key: &NodeKey) -> Option<&Member<'a>> {
        self.members.iter().find(|member| member.entry.key == *key)
    }

    fn go_on(&self, rolling: &Rolling) -> Step {
        let Some(next) = self.to_come(rolling).first().copied() else {
            return Step::Over;
        };
        match self.can_miss(next) {
            Ok(()) => Step::Go(Rolling {
                now: Some(next.key),
                told: false,
                done: rolling.done.clone(),
            }),
            Err(why) => Step::Wait(why),
        }
    }

    fn turn(&self, rolling: &Rolling, key: NodeKey, member: &Member<'_>) -> Step {
        let name = &member.entry.name;
        let Some(report) = member.report else {
            return Step::Wait(format!("{name} is not heard"));
        };
        if report.here.restarted >= self.schedule.restarts {
            return match self.is_back(member.entry, report) {
                Ok(()) => {
                    let mut done = rolling.done.clone();
                    done.insert(key);
                    Step::Go(Rolling {
                        done,
                        now: None,
                        told: false,
                    })
                }
                Err(why) => Step::Wait(why),
            };
        }
        if rolling.told {
            return Step::Wait(format!("the services of {name} are being restarted"));
        }
        // Another may have been lost meanwhile.
        if let Err(why) = self.can_miss(member.entry) {
            return Step::Wait(why);
        }
        match report.leads.len() {
            0 => Step::Go(Rolling {
                told: true,
                ..rolling.clone()
            }),
            leads => Step::Wait(format!("{name} hands on the lead of {leads} shards")),
        }
    }

    /// Whether every shard has a majority without this node; why not.
    pub(crate) fn can_miss(&self, node: &NodeEntry) -> Result<(), String> {
        let (name, number) = (&node.name, number_of(&node.key));
        self.shards().try_for_each(|(shard, led)| {
            let led = led?;
            let voters: BTreeSet<u64> = led.voters.iter().copied().collect();
            let others = led.caught_up.iter().filter(|voter| **voter != number);
            let others = others.filter(|voter| voters.contains(voter)).count();
            match others > voters.len() / 2 {
                true => Ok(()),
                false => Err(format!(
                    "shard {shard} would have no majority without {name}: {others} of its {} voters are up to date beside it",
                    voters.len()
                )),
            }
        })
    }

    /// Whether it has caught up wherever it has a vote, and its blocks are where they belong; why not.
    fn is_back(&self, node: &NodeEntry, report: &Report) -> Result<(), String> {
        let (name, number) = (&node.name, number_of(&node.key));
        self.shards().try_for_each(|(shard, led)| {
            let led = led?;
            match led.voters.contains(&number) && !led.caught_up.contains(&number) {
                true => Err(format!("{name} has not caught up in shard {shard} yet")),
                false => Ok(()),
            }
        })?;
        if report.behind == u64::MAX {
            return Err(format!("the block-store of {name} does not answer yet"));
        }
        // What was written meanwhile is owed to it by the others.
        self.members.iter().try_for_each(|member| {
            let behind = member.report.map_or(0, |report| report.behind);
            match (BEHIND_MAX + 1..u64::MAX).contains(&behind) {
                true => Err(format!(
                    "{behind} blocks of {} lack copies",
                    member.entry.name
                )),
                false => Ok(()),
            }
        })
    }

    /// Each shard as whoever leads it sees it.
    fn shards(&self) -> impl Iterator<Item = (u16, Result<&'a Led, String>)> + '_ {
        (0..self.shards).map(|shard| {
            let reports = self.members.iter().filter_map(|member| member.report);
            let leads = reports.flat_map(|report| &report.leads);
            let led = leads
                .filter(|led| led.shard == shard)
                .max_by_key(|led| led.term);
            let led = match led {
                None => Err(format!("nobody leads shard {shard} at the moment")),
                Some(led) if !led.settled => {
                    Err(format!("the voters of shard {shard} are being changed"))
                }
                Some(led) => Ok(led),
            };
            (shard, led)
        })
    }
}

#[cfg(test)]
mod tests;
