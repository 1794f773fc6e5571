//! A cluster whose zones are far from each other: how many round trips an operation waits for, and what a large object takes of a thin uplink.
//!
//! Five nodes in three network namespaces, one for each zone, with [`sea`] between them. Needs root.

mod bandwidth;
mod homes;
mod plot;
mod report;
mod sea;
mod sys;
mod trips;
mod zones;

use crate::error::Error;
use crate::options::Options;
use homes::Homes;
use sea::Sea;
use std::fs;
use std::path::Path;
use zones::Zones;

/// Zones in which nodes stand.
const ZONES: usize = 3;
/// In which of them each node stands, counted from 0.
const PLACES: [usize; 5] = [0, 0, 1, 1, 2];
/// Where the gateway stands that comes later: in one of its own.
const GATEWAY_ZONE: usize = ZONES;
/// How often each operation is measured, at a scale of 1.
const ROUNDS: f64 = 100.0;
/// Of the jitter.
const SEED: u64 = 0x0067_656f;

/// Makes the cluster, measures, and ends it; answers the report. The plot goes where the options say.
pub(crate) fn run(options: &Options, binary: &Path) -> Result<String, Error> {
    let plot = &options.plot;
    let binary = fs::canonicalize(binary).map_err(Error::world(binary.display().to_string()))?;
    let zones = Zones::make(GATEWAY_ZONE + 1)?;
    let sea = Sea::between(&zones, SEED)?;
    let mut homes = Homes::start(&zones, &PLACES, &binary, &options.data)?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small positive number"
    )]
    let rounds = (ROUNDS * options.scale).ceil().max(1.0) as usize;
    let trips = trips::measure(&zones, &homes, rounds)?;
    let carried = bandwidth::measure(&zones, &sea, &mut homes, GATEWAY_ZONE)?;
    drop(homes);
    fs::write(plot, plot::svg(&trips)).map_err(Error::world(plot.display().to_string()))?;
    Ok(match options.json {
        true => report::json(&trips, &carried).to_string(),
        false => report::markdown(&trips, &carried, plot),
    })
}
