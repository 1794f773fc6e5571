//! Whether a node may leave: not while blocks or votes depend on it. Pure.

use protocol::cluster::{NodeKey, Standing};
use protocol::health::Health;

/// Why the node called `name` should not leave yet, and what is to be done first.
pub(crate) fn reason_to_stay(health: &Health, key: &NodeKey, name: &str) -> Option<String> {
    let forced = format!("; `trousseau node leave {name} --force` does it all the same");
    let other_members = health.roster.iter().any(|roster| {
        let mut members = roster.nodes.iter();
        members.any(|node| node.key != *key && node.standing == Standing::Member)
    });
    let Some(layout) = &health.layout else {
        // Nobody has said where blocks belong: they are on the first node.
        return other_members.then(|| {
            format!(
                "where blocks belong is not known here: say it at a node that keeps some{forced}"
            )
        });
    };
    let holders = &layout.placed.holders;
    let place = holders.iter().position(|holder| holder.key == *key);
    let partitions = place.map_or(0, |place| layout.placed.partitions_of(place));
    if partitions > 0 {
        let stays = place
            .and_then(|place| holders.get(place))
            .is_some_and(|holder| holder.stays);
        return Some(match (stays, layout.placed.moving_since_ms) {
            (false, Some(_)) => format!(
                "{name} still gives its blocks to the others: wait until `trousseau layout` shows no move any more{forced}"
            ),
            _ => format!(
                "{name} keeps copies of {partitions} of {} partitions: first `trousseau layout remove {name}` and `trousseau layout apply`, and wait until nothing moves any more{forced}",
                layout.placed.partitions.len()
            ),
        });
    }
    let number = health.node(key)?.number;
    let stuck = health
        .shards
        .iter()
        .filter(|shard| shard.voters.contains(&number) && !shard.outlives(|voter| voter == number));
    let stuck: Vec<String> = stuck.map(|shard| shard.shard.to_string()).collect();
    if !stuck.is_empty() {
        return Some(format!(
            "without {name} no majority of the voters of shard {} is left: wait some seconds until others vote in its place, or bring back who is away{forced}",
            stuck.join(", ")
        ));
    }
    None
}
