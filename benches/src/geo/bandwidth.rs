//! One large object over thin uplinks: how long it takes, and what it sends.

use super::homes::{Home, Homes, zone_name};
use super::sea::Sea;
use super::trips::{body_of, connect};
use super::zones::Zones;
use crate::error::Error;
use crate::load::worker::{plain, signed};
use std::time::{Duration, Instant};

/// What every zone sends at most, in bits per second.
pub(crate) const UPLINK_BITS_PER_S: u64 = 50_000_000;
/// The object.
pub(crate) const BYTES: usize = 64 << 20;
/// Copies that leave the zone in which it is put: three, of which one is there.
pub(crate) const COPIES_SENT: usize = 2;
const BUCKET: &str = "bandwidth";
/// All is sent when so little leaves all zones in …
const QUIET_BYTES: u64 = 200_000;
/// … this time.
const QUIET: Duration = Duration::from_secs(1);
/// How long copies may take beyond the answer.
const COPIES_WITHIN: Duration = Duration::from_secs(180);
/// Time for a new node to find its place.
const REST: Duration = Duration::from_secs(5);

/// One transfer.
pub(crate) struct Carried {
    pub(crate) what: String,
    /// Until the client had its answer.
    pub(crate) answered: Duration,
    /// Until nothing was sent any more, about.
    pub(crate) over: Duration,
    /// By each zone.
    pub(crate) sent: Vec<u64>,
    pub(crate) lost: u64,
    /// What the uplinks have to carry at least, and the time that takes by one of them.
    pub(crate) least_bytes: u64,
}

impl Carried {
    /// How long one uplink takes for the least that has to go.
    pub(crate) fn ideal(&self) -> Duration {
        let bits = (self.least_bytes * 8) as f64;
        Duration::from_secs_f64(bits / UPLINK_BITS_PER_S as f64)
    }
}

/// A put and a get in the zone of the last node, and a get by a gateway in a zone of its own, which this starts.
pub(crate) fn measure(
    zones: &Zones,
    sea: &Sea,
    homes: &mut Homes<'_>,
    gateway_zone: usize,
) -> Result<Vec<Carried>, Error> {
    homes.add(gateway_zone, Some("0"))?;
    std::thread::sleep(REST);
    for zone in 0..zones.count() {
        sea.thin(zone, UPLINK_BITS_PER_S);
    }
    let [.., home, gateway] = homes.all() else {
        return Err(Error::Node("too few nodes".to_owned()));
    };
    let body = body_of(BYTES, BYTES);
    let path = format!("/{BUCKET}/large");
    connect(zones, home)?.expect(&plain("PUT", &format!("/{BUCKET}"), ""), &[200])?;
    let put = carried(
        sea,
        format!("put in {}", place(home)),
        BYTES * COPIES_SENT,
        || {
            connect(zones, home)?.expect(&signed(&path, &body), &[200])?;
            Ok(())
        },
    )?;
    let get = |home: &Home| {
        let mut client = connect(zones, home)?;
        client.expect(&plain("GET", &path, ""), &[200])?;
        match client.body() == body {
            true => Ok(()),
            false => Err(Error::Answer("other bytes than were put".to_owned())),
        }
    };
    let here = carried(sea, format!("get in {}", place(home)), 0, || get(home))?;
    let there = format!("get by the gateway {}", place(gateway));
    let there = carried(sea, there, BYTES, || get(gateway))?;
    Ok(vec![put, here, there])
}

fn place(home: &Home) -> String {
    format!("{} ({})", home.name, zone_name(home.zone))
}

fn carried(
    sea: &Sea,
    what: String,
    least_bytes: usize,
    transfer: impl FnOnce() -> Result<(), Error>,
) -> Result<Carried, Error> {
    let (sent_before, lost_before) = (sea.sent(), sea.lost());
    let begin = Instant::now();
    transfer()?;
    let answered = begin.elapsed();
    let mut over = answered;
    let mut seen: u64 = sea.sent().iter().sum();
    loop {
        std::thread::sleep(QUIET);
        let now = sea.sent().iter().sum();
        if now - seen < QUIET_BYTES {
            break;
        }
        seen = now;
        over = begin.elapsed();
        if over > answered + COPIES_WITHIN {
            return Err(Error::Node(format!("{what}: copies are made without end")));
        }
    }
    let sent = sea
        .sent()
        .iter()
        .zip(&sent_before)
        .map(|(now, before)| now - before)
        .collect();
    Ok(Carried {
        what,
        answered,
        over,
        sent,
        lost: sea.lost() - lost_before,
        least_bytes: least_bytes as u64,
    })
}
