//! The tables for people, and JSON for programs.

use super::bandwidth::{BYTES, Carried, UPLINK_BITS_PER_S};
use super::homes::zone_name;
use super::sea::{DELAY_MS, JITTER_MS};
use super::trips::{Operation, Trips};
use super::{PLACES, ZONES};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

/// A round trip, in milliseconds, as the plot and the table count it.
pub(super) const ROUND_TRIP_MS: f64 = (2 * DELAY_MS) as f64;
const MIB: f64 = 1_048_576.0;

/// Mean, least and most.
pub(super) struct Spread {
    pub(super) mean: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

/// `None` without values.
pub(super) fn spread(values: &[f64]) -> Option<Spread> {
    let min = values.iter().copied().reduce(f64::min)?;
    let max = values.iter().copied().reduce(f64::max)?;
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    Some(Spread { mean, min, max })
}

/// Whether so many round trips are as good as a goal, in whole ones: the rest is the machine's own work, which is as long wherever one is.
fn meets(trips: f64, goal: u32) -> bool {
    trips.round() <= f64::from(goal)
}

pub(crate) fn markdown(trips: &Trips, carried: &[Carried], plot: &Path) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "{} nodes in {ZONES} zones, {ROUND_TRIP_MS} ± {} ms between them. The bucket is in shard {}.",
        PLACES.len(),
        2 * JITTER_MS,
        trips.shard
    );
    for scene in &trips.scenes {
        let _ = writeln!(out, "- {scene}");
    }
    out.push_str("\n| operation | from | mean ms | min | max | in round trips | goal |\n");
    out.push_str("|---|---|---:|---:|---:|---:|---:|\n");
    let round_trip = spread(&trips.round_trip).map_or(ROUND_TRIP_MS, |spread| spread.mean);
    let echo = ("a byte to another zone and back", "");
    row(&mut out, echo, &trips.round_trip, round_trip, None);
    for series in &trips.series {
        let Operation {
            name,
            goal_beside,
            goal_elsewhere,
            ..
        } = series.operation;
        row(
            &mut out,
            (name, "beside"),
            &series.beside,
            round_trip,
            *goal_beside,
        );
        row(
            &mut out,
            (name, "elsewhere"),
            &series.elsewhere,
            round_trip,
            *goal_elsewhere,
        );
    }
    let _ = writeln!(out, "\nPlot: {}\n", plot.display());
    bandwidth(&mut out, carried);
    out
}

/// `round_trip` is what one takes in the same run.
fn row(
    out: &mut String,
    (name, from): (&str, &str),
    values: &[f64],
    round_trip: f64,
    goal: Option<u32>,
) {
    let Some(Spread { mean, min, max }) = spread(values) else {
        return;
    };
    let trips = mean / round_trip;
    let goal = goal.map_or("–".to_owned(), |goal| {
        let mark = if meets(trips, goal) { "" } else { " missed" };
        format!("{goal}{mark}")
    });
    let _ = writeln!(
        out,
        "| {name} | {from} | {mean:.1} | {min:.1} | {max:.1} | {trips:.2} | {goal} |"
    );
}

fn bandwidth(out: &mut String, carried: &[Carried]) {
    let rate = UPLINK_BITS_PER_S / 1_000_000;
    let _ = writeln!(
        out,
        "{} MiB, and {rate} Mbit/s out of each zone:\n",
        BYTES >> 20
    );
    out.push_str("| | answered after s | all sent after s | one uplink takes s | sent MiB | of which needed | packets lost |\n");
    out.push_str("|---|---:|---:|---:|---|---:|---:|\n");
    for one in carried {
        let sent = one.sent.iter().enumerate();
        let sent: Vec<String> = sent
            .map(|(zone, bytes)| format!("{} {:.1}", zone_name(zone), *bytes as f64 / MIB))
            .collect();
        let _ = writeln!(
            out,
            "| {} | {:.1} | {:.1} | {:.1} | {} | {:.0} | {} |",
            one.what,
            one.answered.as_secs_f64(),
            one.over.as_secs_f64(),
            one.ideal().as_secs_f64(),
            sent.join(", "),
            one.least_bytes as f64 / MIB,
            one.lost,
        );
    }
}

/// The same, with every measurement.
pub(crate) fn json(trips: &Trips, carried: &[Carried]) -> Value {
    let series = trips.series.iter().map(|series| {
        json!({
            "operation": series.operation.name,
            "beside_ms": series.beside, "elsewhere_ms": series.elsewhere,
            "goal_beside": series.operation.goal_beside, "goal_elsewhere": series.operation.goal_elsewhere,
        })
    });
    let carried = carried.iter().map(|one| {
        json!({
            "what": one.what, "answered_s": one.answered.as_secs_f64(), "over_s": one.over.as_secs_f64(),
            "ideal_s": one.ideal().as_secs_f64(), "sent_bytes": one.sent, "needed_bytes": one.least_bytes,
            "lost_packets": one.lost,
        })
    });
    json!({
        "round_trip_ms": trips.round_trip, "shard": trips.shard, "scenes": trips.scenes,
        "operations": series.collect::<Vec<_>>(), "bandwidth": carried.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;

    #[test]
    fn goals_are_whole_round_trips() {
        let Spread { mean, min, max } = spread(&[100.0, 80.0, 120.0]).unwrap();
        assert_eq!((mean, min, max), (100.0, 80.0, 120.0));
        assert!(spread(&[]).is_none());
        assert!(meets(0.03, 0) && meets(1.2, 1) && !meets(1.2, 0) && !meets(2.4, 1));
    }
}
