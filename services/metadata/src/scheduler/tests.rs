//! The planner and the leases against a simulated cluster: thousands of seeds, each printed if it fails (`SEED=n` runs one). A turn is a second.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests: a panic is the failure"
)]

use super::*;
use protocol::schedule::{LEASE_MS, MARGIN_PERCENT};

const LEASE: u64 = LEASE_MS / 1_000;
const LEASE_FOR_SURE: u64 = LEASE * (100 + MARGIN_PERCENT) / 100;
const FRESH: u64 = 4;

/// A small generator of its own (SplitMix64), so that a seed means the same for ever.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}

fn offer(service: &str, count: u8, zones: ZoneRule) -> Offer {
    Offer {
        service: service.into(),
        count,
        zones,
    }
}

/// A node as it really is.
struct Home {
    key: NodeKey,
    zone: String,
    offers: Vec<Offer>,
    up: bool,
    connected: bool,
    draining: bool,
    /// What has a process, and how many seconds it takes to stop once it is told to.
    runs: BTreeMap<String, u64>,
    /// What it is to run.
    told: BTreeSet<String>,
    until: u64,
}

/// What the leader remembers.
struct Heard {
    at: u64,
    may_run: BTreeSet<String>,
}

struct World {
    dice: Dice,
    now: u64,
    homes: Vec<Home>,
    services: Services,
    heard: BTreeMap<NodeKey, Heard>,
    unknown_until: u64,
    counts: BTreeMap<String, (u8, ZoneRule)>,
    changes: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let counts: BTreeMap<String, (u8, ZoneRule)> = (0..1 + dice.roll(3))
            .map(|number| {
                let zones = [ZoneRule::Distinct, ZoneRule::Any][dice.roll(2) as usize];
                (format!("s{number}"), (1 + dice.roll(3) as u8, zones))
            })
            .collect();
        let homes = (0..1 + dice.roll(6)).map(|number| Home {
            key: NodeKey([number as u8; 32]),
            zone: format!("z{}", dice.roll(3)),
            offers: counts
                .iter()
                .filter(|_| dice.roll(5) > 0)
                .map(|(service, (count, zones))| offer(service, *count, *zones))
                .collect(),
            up: true,
            connected: true,
            draining: false,
            runs: BTreeMap::new(),
            told: BTreeSet::new(),
            until: 0,
        });
        Self {
            homes: homes.collect(),
            dice,
            now: 1,
            services: Services::new(),
            heard: BTreeMap::new(),
            unknown_until: LEASE_FOR_SURE,
            counts,
            changes: 0,
        }
    }

    /// One second: every node reports and obeys, the leader plans.
    fn turn(&mut self, lossy: bool) {
        self.now += 1;
        for place in 0..self.homes.len() {
            self.report(place, lossy);
            self.homes[place].live(self.now);
        }
        if self.now >= self.unknown_until {
            self.plan();
        }
        self.check();
    }

    fn report(&mut self, place: usize, lossy: bool) {
        let mut lost = || lossy && self.dice.roll(4) == 0;
        let (no_report, no_answer) = (lost(), lost());
        let home = &mut self.homes[place];
        if !home.up || !home.connected || no_report {
            return;
        }
        let services: BTreeSet<String> = self
            .services
            .iter()
            .filter(|(_, nodes)| nodes.contains(&home.key))
            .map(|(service, _)| service.clone())
            .collect();
        let running = home.runs.keys().chain(&home.told).chain(&services);
        let heard = Heard {
            at: self.now,
            may_run: running.cloned().collect(),
        };
        self.heard.insert(home.key, heard);
        if !no_answer {
            let slow = self.dice.roll(4);
            for service in &home.told {
                home.runs.insert(service.clone(), slow);
            }
            home.told = services;
            home.until = self.now + LEASE;
        }
    }

    fn plan(&mut self) {
        let nodes: Vec<Node> = self
            .homes
            .iter()
            .filter_map(|home| {
                let heard = self.heard.get(&home.key)?;
                let silent = self.now - heard.at;
                (silent < LEASE_FOR_SURE).then(|| Node {
                    key: home.key,
                    zone: home.zone.clone(),
                    alive: silent < FRESH,
                    draining: home.draining,
                    offers: home.offers.clone(),
                    may_run: heard.may_run.clone(),
                })
            })
            .collect();
        let next = next(&self.services, &nodes);
        for (service, chosen) in &next {
            let nobody = BTreeSet::new();
            let present = self.services.get(service).unwrap_or(&nobody);
            for key in chosen {
                let node = nodes.iter().find(|node| node.key == *key).unwrap();
                assert!(!node.draining && node.offers(service), "{service} on {key}");
                assert!(present.contains(key) || node.alive, "{service} on {key}");
            }
        }
        self.changes += u64::from(next != self.services);
        self.services = next;
    }

    /// What must be so in every second, whatever has happened.
    fn check(&self) {
        for (service, (count, _)) in &self.counts {
            let running = self.homes.iter();
            let running = running.filter(|home| home.up && home.runs.contains_key(service));
            let running = running.count();
            assert!(running <= usize::from(*count), "{service} {running} times");
            let wanted = self.services.get(service).map_or(0, BTreeSet::len);
            assert!(wanted <= usize::from(*count), "{service} on {wanted}");
        }
    }

    fn disturb(&mut self) {
        let any = self.dice.roll(self.homes.len() as u64) as usize;
        let home = &mut self.homes[any];
        match self.dice.roll(10) {
            0 | 1 => {
                home.up = false;
                home.runs.clear();
                home.told.clear();
            }
            2..=4 => home.up = true,
            5 => home.connected = false,
            6 | 7 => home.connected = true,
            8 => home.draining ^= true,
            _ => {
                // Another leader: it knows nothing.
                self.heard.clear();
                self.unknown_until = self.now + LEASE_FOR_SURE;
            }
        }
    }

    /// Peace: it comes to an end, and to the right one.
    fn settle(&mut self) {
        for home in &mut self.homes {
            (home.up, home.connected) = (true, true);
        }
        for _ in 0..3 * LEASE_FOR_SURE {
            self.turn(false);
        }
        for (service, (count, zones)) in &self.counts {
            let able = self.homes.iter().filter(|home| home.suits(service));
            let able: Vec<&Home> = able.collect();
            let nobody = BTreeSet::new();
            let wanted = self.services.get(service).unwrap_or(&nobody);
            assert_eq!(wanted.len(), able.len().min(usize::from(*count)));
            for home in &self.homes {
                let runs = home.runs.contains_key(service);
                assert_eq!(runs, wanted.contains(&home.key), "{service}");
            }
            if *zones == ZoneRule::Distinct {
                let there: BTreeSet<&str> = able.iter().map(|home| home.zone.as_str()).collect();
                let chosen = able.iter().filter(|home| wanted.contains(&home.key));
                let used: BTreeSet<&str> = chosen.map(|home| home.zone.as_str()).collect();
                assert_eq!(used.len(), there.len().min(usize::from(*count)));
            }
        }
        let before = self.changes;
        for _ in 0..LEASE_FOR_SURE {
            self.turn(true);
        }
        assert_eq!(self.changes, before, "something moves without a reason");
    }
}

impl Home {
    fn suits(&self, service: &str) -> bool {
        !self.draining && self.offers.iter().any(|offer| offer.service == service)
    }

    /// Its orchestrator: what is told runs, what is not stops in its time, and nothing outlives the lease.
    fn live(&mut self, now: u64) {
        if !self.up {
            return;
        }
        if now >= self.until {
            self.told.clear();
            self.runs.clear();
        }
        let told = &self.told;
        self.runs.retain(|service, left| {
            let stays = told.contains(service) || *left > 0;
            *left = left.saturating_sub(u64::from(!told.contains(service)));
            stays
        });
        for service in told {
            self.runs.entry(service.clone()).or_insert(0);
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..3 {
        for _ in 0..world.dice.roll(60) {
            if world.dice.roll(3) == 0 {
                world.disturb();
            }
            world.turn(true);
        }
        world.settle();
    }
}

#[test]
fn whatever_happens_nothing_runs_too_often_and_peace_brings_each_service_to_its_place() {
    if let Ok(seed) = std::env::var("SEED") {
        return run(seed.parse().unwrap());
    }
    for seed in 0..2_000 {
        if let Err(why) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("SEED={seed}");
            std::panic::resume_unwind(why);
        }
    }
}

#[test]
fn a_dead_nodes_services_are_elsewhere_when_its_lease_has_ended_and_two_seconds_later_at_the_latest()
 {
    for seed in 0..500 {
        let mut world = World::new(seed);
        world.settle();
        let dead = world.dice.roll(world.homes.len() as u64) as usize;
        let key = world.homes[dead].key;
        let had: Vec<String> = world
            .services
            .iter()
            .filter(|(_, nodes)| nodes.contains(&key))
            .map(|(service, _)| service.clone())
            .collect();
        let home = &mut world.homes[dead];
        home.up = false;
        home.runs.clear();
        for _ in 0..LEASE_FOR_SURE + 2 {
            world.turn(false);
        }
        for service in had {
            let able = world.homes.iter().filter(|home| home.up);
            let able = able.filter(|home| home.suits(&service)).count();
            let running = world.homes.iter();
            let running = running.filter(|home| home.up && home.runs.contains_key(&service));
            let count = usize::from(world.counts[&service].0);
            assert_eq!(running.count(), able.min(count), "SEED={seed} {service}");
        }
    }
}

fn node(number: u8, zone: &str, runs: &[&str]) -> Node {
    Node {
        key: NodeKey([number; 32]),
        zone: zone.into(),
        alive: true,
        draining: false,
        offers: vec![offer("s", 2, ZoneRule::Distinct)],
        may_run: runs.iter().map(|one| (*one).to_owned()).collect(),
    }
}

fn places(numbers: &[u8]) -> Services {
    let keys = numbers.iter().map(|number| NodeKey([*number; 32]));
    Services::from([("s".to_owned(), keys.collect())])
}

#[test]
fn what_may_stay_stays_and_only_what_must_move_moves() {
    let [a, b, c] = [node(1, "x", &["s"]), node(2, "x", &[]), node(3, "y", &[])];
    assert_eq!(
        next(&places(&[]), &[a.clone(), b.clone(), c.clone()]),
        places(&[1]),
        "one runs it still, so there is but one to place, and it is best where it runs"
    );
    let all = [a.clone(), b.clone(), c.clone()];
    assert_eq!(next(&places(&[1]), &all), places(&[1, 3]));
    let twice = [a.clone(), node(2, "x", &["s"]), c.clone()];
    assert_eq!(
        next(&places(&[1, 2]), &twice),
        places(&[1]),
        "one zone twice: one stops, and then the other zone gets it"
    );
    assert_eq!(
        next(&places(&[1, 2]), &[a.clone(), b.clone()]),
        places(&[1, 2]),
        "there is no other zone"
    );
    let drained = Node {
        draining: true,
        ..a
    };
    assert_eq!(
        next(&places(&[1, 3]), &[drained, b.clone(), c.clone()]),
        places(&[3]),
        "its successor waits until it has stopped"
    );
    assert_eq!(next(&places(&[1, 3]), &[b, c]), places(&[2, 3]));
}

#[test]
fn of_two_manifests_of_a_service_the_more_cautious_counts() {
    let (mut first, second) = (node(1, "x", &[]), node(2, "y", &[]));
    first.offers = vec![offer("s", 1, ZoneRule::Any)];
    assert_eq!(next(&places(&[]), &[first, second]), places(&[1]));
}
