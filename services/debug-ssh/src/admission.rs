//! How many may come in: in all, without having logged in, and from one address.
//!
//! A stranger who holds connections open, or tries keys, takes places from other strangers of the same address, then from other strangers;
//! never from those who are logged in, and a place that was taken comes back after the time of a login.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Connections, logged in or not.
pub(crate) const CONNECTIONS_MAX: usize = 24;
/// Connections that have not logged in yet: half the places are kept for those who can.
pub(crate) const STRANGERS_MAX: usize = 12;
/// The same from one address (of IPv6, from one /64, which is what one home or one rented machine has).
pub(crate) const STRANGERS_OF_ONE_MAX: usize = 6;
/// Connections of one address that ended without a login, within [`WINDOW`]; further ones are refused until it is over.
pub(crate) const FAILURES_MAX: u32 = 20;
/// See [`FAILURES_MAX`].
pub(crate) const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered; the one with the oldest window makes room.
const ADDRESSES_MAX: usize = 1_024;

/// All that is counted.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    strangers: usize,
    of_one: HashMap<IpAddr, Address>,
}

#[derive(Debug)]
struct Address {
    strangers: usize,
    failures: u32,
    since: Instant,
    /// That it was refused has been said in this window.
    said: bool,
}

/// Why somebody is not let in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// [`CONNECTIONS_MAX`] or [`STRANGERS_MAX`].
    Full,
    /// [`STRANGERS_OF_ONE_MAX`].
    TooMany,
    /// [`FAILURES_MAX`]; told for the first time in this window, or again.
    TooOften {
        /// Whether the log has it already.
        said: bool,
    },
}

/// The place of one connection, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<Admission>,
    address: IpAddr,
    logged_in: bool,
}

impl Admission {
    /// A place for a connection from `address`, as of `now`.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Place, Refused> {
        let address = network(address);
        let mut counts = self.counts();
        counts.make_room(address);
        let connections = counts.connections;
        let strangers = counts.strangers;
        let one = counts.of_one.entry(address).or_insert(Address {
            strangers: 0,
            failures: 0,
            since: now,
            said: false,
        });
        if now.duration_since(one.since) >= WINDOW {
            (one.failures, one.since, one.said) = (0, now, false);
        }
        if one.failures >= FAILURES_MAX {
            let said = std::mem::replace(&mut one.said, true);
            return Err(Refused::TooOften { said });
        }
        if one.strangers >= STRANGERS_OF_ONE_MAX {
            return Err(Refused::TooMany);
        }
        if connections >= CONNECTIONS_MAX || strangers >= STRANGERS_MAX {
            return Err(Refused::Full);
        }
        one.strangers += 1;
        counts.connections += 1;
        counts.strangers += 1;
        Ok(Place {
            admission: self.clone(),
            address,
            logged_in: false,
        })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Numbers only: whoever panicked in between has left none of them half-written.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Forgets an address that holds nothing, the one with the oldest window, if there are too many.
    fn make_room(&mut self, wanted: IpAddr) {
        if self.of_one.len() < ADDRESSES_MAX || self.of_one.contains_key(&wanted) {
            return;
        }
        let idle = self.of_one.iter().filter(|(_, one)| one.strangers == 0);
        let oldest = idle.min_by_key(|(_, one)| one.since);
        if let Some(address) = oldest.map(|(address, _)| *address) {
            self.of_one.remove(&address);
        }
    }

    fn stranger_gone(&mut self, address: IpAddr, failed: bool) {
        self.strangers = self.strangers.saturating_sub(1);
        if let Some(one) = self.of_one.get_mut(&address) {
            one.strangers = one.strangers.saturating_sub(1);
            one.failures = one.failures.saturating_add(u32::from(failed));
        }
    }
}

impl Place {
    /// The person has shown a key with a role: no stranger any more.
    pub(crate) fn logged_in(&mut self) {
        if !std::mem::replace(&mut self.logged_in, true) {
            self.admission.counts().stranger_gone(self.address, false);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.admission.counts();
        counts.connections = counts.connections.saturating_sub(1);
        if !self.logged_in {
            counts.stranger_gone(self.address, true);
        }
    }
}

/// What counts as one address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let first = address.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(first))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn strangers_of_one_address_leave_places_for_others_and_for_those_who_log_in() {
        let (admission, now) = (Arc::new(Admission::default()), Instant::now());
        let mut places: Vec<Place> = (0..STRANGERS_OF_ONE_MAX)
            .map(|_| admission.admit(ip("10.0.0.1"), now).unwrap())
            .collect();
        let refused = admission.admit(ip("10.0.0.1"), now).unwrap_err();
        assert_eq!(refused, Refused::TooMany);
        for number in places.len()..STRANGERS_MAX {
            let address = ip(&format!("10.0.1.{number}"));
            places.push(admission.admit(address, now).unwrap());
        }
        let refused = admission.admit(ip("10.0.2.1"), now).unwrap_err();
        assert_eq!(refused, Refused::Full);
        // Who logs in makes room for the next stranger, up to all places.
        places.iter_mut().for_each(Place::logged_in);
        while places.len() < CONNECTIONS_MAX {
            let mut place = admission.admit(ip("10.0.0.1"), now).unwrap();
            place.logged_in();
            places.push(place);
        }
        let refused = admission.admit(ip("10.0.2.1"), now).unwrap_err();
        assert_eq!(refused, Refused::Full);
        drop(places);
        let counts = admission.counts();
        assert_eq!((counts.connections, counts.strangers), (0, 0));
    }

    #[test]
    fn an_address_that_fails_too_often_waits_for_the_window_and_others_do_not() {
        let (admission, now) = (Arc::new(Admission::default()), Instant::now());
        for _ in 0..FAILURES_MAX {
            drop(admission.admit(ip("2001:db8::1"), now).unwrap());
        }
        let again = |text: &str, at| admission.admit(ip(text), at).map(drop);
        let neighbour = "2001:db8::ffff:1"; // of the same /64
        assert_eq!(
            again(neighbour, now),
            Err(Refused::TooOften { said: false })
        );
        assert_eq!(again(neighbour, now), Err(Refused::TooOften { said: true }));
        assert_eq!(again("2001:db8:0:1::1", now), Ok(()));
        assert_eq!(again(neighbour, now + WINDOW), Ok(()));
    }

    #[test]
    fn who_logs_in_never_counts_as_a_failure_and_addresses_stay_bounded() {
        let (admission, now) = (Arc::new(Admission::default()), Instant::now());
        for _ in 0..3 * FAILURES_MAX {
            admission
                .admit(ip("::ffff:10.0.0.1"), now)
                .unwrap()
                .logged_in();
        }
        assert!(admission.admit(ip("10.0.0.1"), now).is_ok());
        for number in 0..5_000_u32 {
            let address = IpAddr::V4(std::net::Ipv4Addr::from_bits(number));
            drop(admission.admit(address, now).unwrap());
        }
        assert!(admission.counts().of_one.len() <= ADDRESSES_MAX);
    }
}
