//! The plot: a bar to the mean and a line from the least to the most, for each operation and place.

use super::report::{ROUND_TRIP_MS, Spread, spread};
use super::trips::Trips;
use std::fmt::Write;

/// In the units of the picture.
const WIDTH: f64 = 860.0;
const LEFT: f64 = 210.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 56.0;
const BAR: f64 = 14.0;
const GROUP: f64 = 2.0 * BAR + 16.0;
const BESIDE: &str = "#2b6f77";
const ELSEWHERE: &str = "#c9822b";

/// The picture as SVG 1.1.
pub(crate) fn svg(trips: &Trips) -> String {
    let longest = trips.series.iter();
    let longest = longest.flat_map(|series| series.beside.iter().chain(&series.elsewhere));
    let longest = longest.copied().fold(3.0 * ROUND_TRIP_MS, f64::max);
    let scale = (WIDTH - LEFT - RIGHT) / longest;
    let bottom = TOP + trips.series.len() as f64 * GROUP;
    let height = bottom + 34.0;
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">
<rect width="{WIDTH}" height="{height}" fill="white"/>
<text x="{LEFT}" y="18" font-size="14">Milliseconds a client waits: mean, least and most</text>"#
    );
    for (x, colour, text) in [
        (LEFT, BESIDE, "in the zone of the shard's leader"),
        (LEFT + 240.0, ELSEWHERE, "in another zone"),
    ] {
        let _ = writeln!(
            out,
            r#"<rect x="{x}" y="28" width="12" height="12" fill="{colour}"/><text x="{}" y="38">{text}</text>"#,
            x + 18.0
        );
    }
    grid(&mut out, longest, scale, bottom);
    for (at, series) in trips.series.iter().enumerate() {
        let y = TOP + at as f64 * GROUP + 8.0;
        let _ = writeln!(
            out,
            r#"<text x="{}" y="{}" text-anchor="end">{}</text>"#,
            LEFT - 8.0,
            y + BAR + 4.0,
            series.operation.name
        );
        bar(&mut out, &series.beside, y, scale, BESIDE);
        bar(&mut out, &series.elsewhere, y + BAR, scale, ELSEWHERE);
    }
    out.push_str("</svg>\n");
    out
}

/// A line at each round trip.
fn grid(out: &mut String, longest: f64, scale: f64, bottom: f64) {
    let mut trips = 0.0;
    while trips * ROUND_TRIP_MS <= longest {
        let x = LEFT + trips * ROUND_TRIP_MS * scale;
        let _ = writeln!(
            out,
            r##"<line x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{bottom}" stroke="#bbb"/><text x="{x:.1}" y="{}" text-anchor="middle">{trips} RTT</text>"##,
            bottom + 18.0
        );
        trips += 1.0;
    }
}

fn bar(out: &mut String, values: &[f64], y: f64, scale: f64, colour: &str) {
    let Some(Spread { mean, min, max }) = spread(values) else {
        return;
    };
    let middle = y + BAR / 2.0;
    let (from, to) = (LEFT + min * scale, LEFT + max * scale);
    let _ = writeln!(
        out,
        r##"<rect x="{LEFT}" y="{y}" width="{:.1}" height="{}" fill="{colour}"/><line x1="{from:.1}" y1="{middle}" x2="{to:.1}" y2="{middle}" stroke="#222"/><text x="{:.1}" y="{}" font-size="10">{mean:.0}</text>"##,
        (mean * scale).max(1.0),
        BAR - 2.0,
        to + 4.0,
        middle + 3.0
    );
}
