//! One interface's way to a lease and from renewal to renewal (RFC 2131, 4.4). Pure: time, chance and datagrams are arguments.

use crate::packet::{Answer, Ask, Terms, decode, encode};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// The first wait for an answer; doubled with each, up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(32);
/// So often an offer is asked for before the search begins anew.
const REQUESTS_MAX: u32 = 4;
/// A renewal is repeated after half of the time that is left, but not sooner.
const RENEWAL_RETRY_MIN: Duration = Duration::from_secs(60);

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send a datagram to the server port of this address.
    Send(Vec<u8>, Ipv4Addr),
    /// These terms hold from now on.
    Configure(Terms),
    /// These no longer do.
    Withdraw(Terms),
}

#[derive(Debug)]
enum State {
    Discovering { tries: u32 },
    Requesting { terms: Terms, tries: u32 },
    Bound { terms: Terms, since: Instant },
}

/// The client of one interface.
#[derive(Debug)]
pub(crate) struct Client {
    mac: [u8; 6],
    host: String,
    state: State,
    xid: u32,
    started: Instant,
    next: Instant,
    chance: u64,
}

impl Client {
    /// Begins to look for a server. `seed` is anything random.
    pub(crate) fn new(mac: [u8; 6], host: &str, now: Instant, seed: u64) -> Self {
        Self {
            mac,
            host: host.into(),
            state: State::Discovering { tries: 0 },
            xid: 0,
            started: now,
            next: now,
            chance: seed,
        }
    }

    /// When [`Client::turn`] wants to be called.
    pub(crate) fn deadline(&self) -> Instant {
        self.next
    }

    /// The cable was pulled and is in again: perhaps it leads to another network. What holds stays until a server says otherwise.
    pub(crate) fn start_again(&mut self, now: Instant) {
        self.state = State::Discovering { tries: 0 };
        self.started = now;
        self.next = now;
    }

    /// Everything that is due.
    pub(crate) fn turn(&mut self, now: Instant) -> Vec<Action> {
        if now < self.next {
            return Vec::new();
        }
        match &self.state {
            State::Discovering { tries } => {
                let tries = *tries;
                self.xid = self.random() as u32;
                self.next = now + self.retry_after(tries);
                self.state = State::Discovering { tries: tries + 1 };
                vec![self.send(&Ask::Discover, Ipv4Addr::BROADCAST, now)]
            }
            State::Requesting { tries, .. } if *tries >= REQUESTS_MAX => {
                self.start_again(now);
                self.turn(now)
            }
            State::Requesting { terms, tries } => {
                let (terms, tries) = (terms.clone(), *tries);
                let ask = Ask::Request {
                    ip: terms.ip,
                    server: terms.server,
                };
                self.next = now + self.retry_after(tries);
                self.state = State::Requesting {
                    terms,
                    tries: tries + 1,
                };
                vec![self.send(&ask, Ipv4Addr::BROADCAST, now)]
            }
            State::Bound { terms, since } => {
                let (terms, since) = (terms.clone(), *since);
                self.renew(&terms, since, now)
            }
        }
    }

    fn renew(&mut self, terms: &Terms, since: Instant, now: Instant) -> Vec<Action> {
        let age = now.saturating_duration_since(since);
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        let (rebind, end) = (seconds(terms.rebind_seconds), seconds(terms.lease_seconds));
        if age >= end {
            self.start_again(now);
            let mut actions = vec![Action::Withdraw(terms.clone())];
            actions.extend(self.turn(now));
            return actions;
        }
        // First the server that gave it, then anybody.
        let (to, until) = if age < rebind {
            (terms.server, rebind)
        } else {
            (Ipv4Addr::BROADCAST, end)
        };
        let wait = ((until - age) / 2).max(RENEWAL_RETRY_MIN).min(until - age);
        self.next = now + wait;
        self.xid = self.random() as u32;
        vec![self.send(&Ask::Renew { ip: terms.ip }, to, now)]
    }

    /// A datagram came in by this interface.
    pub(crate) fn hear(&mut self, bytes: &[u8], now: Instant) -> Vec<Action> {
        let Some(answer) = decode(bytes, self.mac, self.xid) else {
            return Vec::new();
        };
        match (&self.state, answer) {
            (State::Discovering { .. }, Answer::Offer(terms)) => {
                self.state = State::Requesting { terms, tries: 0 };
                self.next = now;
                self.turn(now)
            }
            (State::Requesting { .. }, Answer::Ack(terms)) => self.bind(terms, now),
            (State::Bound { terms: old, .. }, Answer::Ack(terms)) => {
                let old = old.clone();
                let mut actions = self.bind(terms.clone(), now);
                if old.ip != terms.ip {
                    actions.push(Action::Withdraw(old));
                }
                actions
            }
            (State::Requesting { .. }, Answer::Nak) => {
                self.start_again(now);
                // Not at once: a server that always refuses would be asked without end.
                self.next = now + RETRY_MIN;
                Vec::new()
            }
            (State::Bound { terms, .. }, Answer::Nak) => {
                let terms = terms.clone();
                self.start_again(now);
                self.next = now + RETRY_MIN;
                vec![Action::Withdraw(terms)]
            }
            _ => Vec::new(),
        }
    }

    fn bind(&mut self, terms: Terms, now: Instant) -> Vec<Action> {
        self.next = now + Duration::from_secs(u64::from(terms.renew_seconds));
        self.state = State::Bound {
            terms: terms.clone(),
            since: now,
        };
        vec![Action::Configure(terms)]
    }

    fn send(&self, ask: &Ask, to: Ipv4Addr, now: Instant) -> Action {
        let seconds = now.saturating_duration_since(self.started).as_secs();
        let seconds = u16::try_from(seconds).unwrap_or(u16::MAX);
        Action::Send(encode(ask, self.mac, self.xid, seconds, &self.host), to)
    }

    /// Doubled each time, with up to a quarter more, so that a house after a power cut does not ask in step.
    fn retry_after(&mut self, tries: u32) -> Duration {
        let wait = (RETRY_MIN * 2_u32.pow(tries.min(8))).min(RETRY_MAX);
        wait + wait / 4 * (self.random() as u32 % 256) / 256
    }

    /// The next number of a sequence (splitmix64: S. Vigna, "xorshift", prng.di.unimi.it).
    fn random(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a panic is how a test fails")]
    use super::*;
    use crate::samples::{MAC, answer};

    const OFFER: u8 = 2;
    const ACK: u8 = 5;
    const NAK: u8 = 6;

    fn sent(actions: &[Action]) -> (&[u8], Ipv4Addr) {
        match actions {
            [.., Action::Send(bytes, to)] => (bytes, *to),
            other => panic!("nothing is sent: {other:?}"),
        }
    }

    /// A client that has a lease of an hour, and its terms.
    fn bound(now: Instant) -> (Client, Terms) {
        let mut client = Client::new(MAC, "attic", now, 1);
        let discover = client.turn(now);
        let request = client.hear(&answer(sent(&discover).0, OFFER, 3_600), now);
        let configured = client.hear(&answer(sent(&request).0, ACK, 3_600), now);
        let [Action::Configure(terms)] = configured.as_slice() else {
            panic!("{configured:?}");
        };
        (client, terms.clone())
    }

    #[test]
    fn an_offer_is_asked_for_and_its_acknowledgement_configures() {
        let now = Instant::now();
        let (client, terms) = bound(now);
        assert_eq!(terms.ip, Ipv4Addr::new(10, 0, 2, 15));
        assert_eq!(client.deadline(), now + Duration::from_secs(1_800));
    }

    #[test]
    fn a_silent_network_is_asked_ever_more_rarely_and_without_end() {
        let start = Instant::now();
        let mut client = Client::new(MAC, "attic", start, 1);
        let mut now = start;
        let mut waits = Vec::new();
        for _ in 0..20 {
            assert_eq!(sent(&client.turn(now)).1, Ipv4Addr::BROADCAST);
            waits.push(client.deadline() - now);
            now = client.deadline();
        }
        assert!(waits[0] < Duration::from_secs(2) && waits[3] > waits[0]);
        assert!(waits.iter().all(|wait| *wait <= RETRY_MAX * 5 / 4));
    }

    #[test]
    fn a_lease_is_renewed_at_its_server_then_with_anybody_and_then_given_up() {
        let start = Instant::now();
        let (mut client, terms) = bound(start);
        let renewal = client.deadline();
        let asked = client.turn(renewal);
        assert_eq!(sent(&asked).1, terms.server);
        let renewed = client.hear(&answer(sent(&asked).0, ACK, 3_600), renewal);
        assert_eq!(renewed, [Action::Configure(terms.clone())]);
        assert_eq!(client.deadline(), renewal + Duration::from_secs(1_800));
        // From now on nobody answers.
        let mut seen = Vec::new();
        let end = renewal + Duration::from_secs(3_600);
        loop {
            let now = client.deadline();
            let actions = client.turn(now);
            if actions.contains(&Action::Withdraw(terms.clone())) {
                assert!(now >= end);
                break;
            }
            seen.push(sent(&actions).1);
            assert!(seen.len() < 50 && now < end);
        }
        assert!(seen.contains(&terms.server) && seen.ends_with(&[Ipv4Addr::BROADCAST]));
    }

    #[test]
    fn a_refused_lease_is_withdrawn_and_looked_for_again() {
        let now = Instant::now();
        let (mut client, terms) = bound(now);
        let asked = client.turn(client.deadline());
        let actions = client.hear(&answer(sent(&asked).0, NAK, 0), now);
        assert_eq!(actions, [Action::Withdraw(terms)]);
        assert!(client.deadline() > now);
        assert_eq!(sent(&client.turn(client.deadline())).1, Ipv4Addr::BROADCAST);
    }

    #[test]
    fn answers_to_old_questions_change_nothing() {
        let now = Instant::now();
        let mut client = Client::new(MAC, "attic", now, 1);
        let first = client.turn(now);
        let stale = answer(sent(&first).0, OFFER, 3_600);
        let later = client.deadline();
        client.turn(later);
        assert_eq!(client.hear(&stale, later), []);
    }
}
