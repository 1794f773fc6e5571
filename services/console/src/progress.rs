//! How far a move of blocks is: what each node still lacks, how fast it comes, and how long that takes. Measured, never guessed: what was not seen is not told.

use crate::nodes::amount;
use crate::safety::span;
use protocol::cluster::Roster;
use protocol::health::{Health, NodeReport};
use serde_json::{Value, json};

/// One node that is to keep blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) node: String,
    /// Blocks that others have and it has not; `None`: it does not say what it has.
    pub(crate) blocks: Option<u64>,
    /// About so many bytes, once some were copied.
    pub(crate) bytes: Option<u64>,
    /// What came in the last minute, in bytes per second.
    pub(crate) bytes_per_second: u64,
    /// At that rate.
    pub(crate) seconds_left: Option<u64>,
}

/// Of every node that keeps blocks when the move is over.
pub(crate) fn progress(health: &Health, roster: &Roster) -> Vec<Progress> {
    let holders = health.layout.iter().flat_map(|one| &one.placed.holders);
    let mut all: Vec<Progress> = holders
        .filter(|holder| holder.stays)
        .filter_map(|holder| {
            let node = health.node(&holder.key)?;
            Some(of(node, roster.name_of(&holder.key)))
        })
        .collect();
    all.sort_by(|one, other| one.node.cmp(&other.node));
    all
}

fn of(node: &NodeReport, name: String) -> Progress {
    let said = node.said.as_ref().filter(|_| node.silent.is_none());
    let bytes_per_second = said.map_or(0, |said| said.received.rate());
    let blocks = node.lacking_blocks.filter(|_| node.silent.is_none());
    let bytes = node.lacking_bytes.filter(|_| blocks.is_some());
    let seconds_left = match (blocks, bytes, bytes_per_second) {
        (Some(0), ..) => Some(0),
        (Some(_), Some(bytes), 1..) => Some(bytes.div_ceil(bytes_per_second)),
        _ => None,
    };
    Progress {
        node: name,
        blocks,
        bytes,
        bytes_per_second,
        seconds_left,
    }
}

impl Progress {
    /// A sentence.
    pub(crate) fn line(&self) -> String {
        let Self { node, .. } = self;
        match self.blocks {
            None => format!(
                "{node}: it does not answer, or is still counting; what it lacks is not known"
            ),
            Some(0) => format!("{node}: has all blocks that others have"),
            Some(blocks) => {
                let bytes = self
                    .bytes
                    .map_or_else(String::new, |bytes| format!(" (about {})", amount(bytes)));
                let rate = match self.bytes_per_second {
                    0 => ", nothing came in the last minute".into(),
                    rate => format!(", {}/s", amount(rate)),
                };
                let left = self.seconds_left.map_or_else(String::new, |seconds| {
                    format!(", about {} left", span(seconds.saturating_mul(1_000)))
                });
                format!("{node}: {blocks} blocks to come{bytes}{rate}{left}")
            }
        }
    }

    pub(crate) fn facts(&self) -> Value {
        json!({
            "node": self.node, "blocks": self.blocks, "bytes": self.bytes, "bytes_per_second": self.bytes_per_second, "seconds_left": self.seconds_left,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;
    use protocol::cluster::NodeKey;
    use protocol::health::{Received, Said};

    fn node(blocks: Option<u64>, bytes: Option<u64>, recent_bytes: u64, silent: bool) -> Progress {
        let report = NodeReport {
            key: NodeKey([1; 32]),
            number: 1,
            said: Some(Said {
                ago_ms: 0,
                usage: Err("not asked".into()),
                received: Received {
                    recent_bytes,
                    recent_ms: 10_000,
                    ..Received::default()
                },
                scrubbed_ms: 0,
                sealing: None,
                older_disk: false,
            }),
            silent: silent.then(|| "away".into()),
            lacking_blocks: blocks,
            lacking_bytes: bytes,
        };
        of(&report, "n3".into())
    }

    #[test]
    fn the_time_left_is_what_is_lacking_at_the_rate_that_was_seen() {
        let check = |found: Progress, left: Option<u64>, line: &str| {
            assert_eq!((found.seconds_left, found.line().as_str()), (left, line));
        };
        check(
            node(Some(30), Some(600 << 20), 50 << 20, false),
            Some(120),
            "n3: 30 blocks to come (about 600.0 MiB), 5.0 MiB/s, about 2 min left",
        );
        check(
            node(Some(30), Some(5), 0, false),
            None,
            "n3: 30 blocks to come (about 5), nothing came in the last minute",
        );
        check(
            node(Some(30), None, 0, false),
            None,
            "n3: 30 blocks to come, nothing came in the last minute",
        );
        check(
            node(Some(0), Some(0), 9, false),
            Some(0),
            "n3: has all blocks that others have",
        );
        let unknown = "n3: it does not answer, or is still counting; what it lacks is not known";
        check(node(None, None, 9, false), None, unknown);
        check(node(Some(3), Some(3), 9, true), None, unknown);
    }
}
