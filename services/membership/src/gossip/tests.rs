//! Clusters in simulated time: datagrams are lost, members stop and come back, strangers send what they like. Every seed is printed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a panic is how a test fails"
)]

use super::*;
use foca::Member as Update;
use proptest::prelude::*;
use protocol::membership::{Membership, MembershipAnswer};
use protocol::wire::{self, Numbered};
use rand::RngExt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Nodes that hear each other at the next turn, unless the datagram is lost.
struct Simulation {
    nodes: Vec<(Gossip, bool)>,
    now: Instant,
    /// Of a hundred datagrams, so many are lost.
    loss_percent: u32,
    random: StdRng,
    /// Everything that was ever sent.
    sent: DefaultHasher,
}

fn address(number: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1_000 + number as u16))
}

fn id(number: usize) -> NodeId {
    NodeId::new(format!("node{number}"), "home".into())
}

impl Simulation {
    fn of(count: usize, seed: u64) -> Self {
        println!("seed {seed}");
        let mut simulation = Self {
            nodes: Vec::new(),
            now: Instant::now(),
            loss_percent: 0,
            random: StdRng::seed_from_u64(seed),
            sent: DefaultHasher::new(),
        };
        for number in 0..count {
            let node = simulation.start(number);
            simulation.nodes.push((node, true));
        }
        simulation
    }

    /// A process that has just started, and was told of the first node.
    fn start(&mut self, number: usize) -> Gossip {
        let mut gossip = Gossip::new(id(number), self.random.random(), self.now);
        gossip.use_address(address(number));
        if let Some((first, _)) = self.nodes.first() {
            let first = first.foca.identity().clone();
            gossip.foca.announce(first, &mut gossip.runtime).unwrap();
        }
        gossip
    }

    fn run_for(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            self.now += Duration::from_millis(100);
            let mut mail = Vec::new();
            for (gossip, alive) in &mut self.nodes {
                if *alive {
                    gossip.turn(self.now);
                    mail.extend(std::iter::from_fn(|| gossip.take_datagram()));
                }
            }
            for (to, datagram) in mail {
                datagram.hash(&mut self.sent);
                let at = usize::from(to.unwrap().port() - 1_000);
                let lost = self.random.random_range(0..100) < self.loss_percent;
                if self.nodes[at].1 && !lost {
                    self.nodes[at].0.hear(&datagram);
                }
            }
        }
    }

    fn state(&self, of: usize, seen_by: usize) -> Option<MemberState> {
        let members = self.nodes[seen_by].0.members();
        let mut named = members
            .iter()
            .skip(1)
            .filter(|member| member.name == format!("node{of}"));
        let state = named.next().map(|member| member.state);
        assert!(named.next().is_none(), "one entry for one node");
        state
    }

    fn all_see_all_alive(&self) -> bool {
        let all = 0..self.nodes.len();
        all.clone().all(|seen_by| {
            all.clone()
                .filter(|of| *of != seen_by)
                .all(|of| self.state(of, seen_by) == Some(MemberState::Alive))
        })
    }
}

#[test]
fn a_silent_member_is_declared_gone_and_comes_back() {
    let mut cluster = Simulation::of(3, 7);
    cluster.run_for(60);
    assert!(cluster.all_see_all_alive());

    cluster.nodes[2].1 = false;
    cluster.run_for(120);
    assert_eq!(cluster.state(2, 0), Some(MemberState::Gone));
    assert_eq!(cluster.state(2, 1), Some(MemberState::Gone));
    assert_eq!(cluster.state(1, 0), Some(MemberState::Alive));

    cluster.nodes[2].1 = true;
    cluster.run_for(300);
    assert!(cluster.all_see_all_alive());
}

#[test]
fn a_member_whose_process_restarts_is_known_again() {
    // At once, and after it was declared gone; and again and again, so that its earlier lives were renewed, too.
    let mut cluster = Simulation::of(3, 8);
    cluster.run_for(60);
    for silent_seconds in [0, 120, 0, 0, 120, 120, 1] {
        cluster.nodes[2].1 = false;
        cluster.run_for(silent_seconds);
        cluster.nodes[2] = (cluster.start(2), true);
        cluster.run_for(120);
        assert!(cluster.all_see_all_alive(), "after {silent_seconds} s");
    }
}

#[test]
fn the_same_seed_gives_the_same_choices() {
    let run = |seed| {
        let mut cluster = Simulation::of(4, seed);
        cluster.loss_percent = 30;
        cluster.run_for(60);
        cluster.sent.finish()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

/// What members() gives must fit an answer, whoever is in it.
fn answer_fits(gossip: &Gossip) -> bool {
    let body = MembershipAnswer::Members(gossip.members());
    wire::encode::<Membership>(&Numbered { id: 1, body }).is_ok()
}

#[test]
fn a_stranger_who_invents_members_fills_neither_memory_nor_an_answer() {
    let now = Instant::now();
    let mut victim = Gossip::new(id(0), 1, now);
    victim.use_address(address(0));
    let to = victim.foca.identity().clone();
    for round in 0..300 {
        let mut liar = Gossip::new(id(1), round, now);
        liar.use_address(address(1));
        let invented = (0..8).map(|number| {
            // As long as a datagram allows, and of characters that take four bytes; dead, so that the liar speaks to nobody
            // but the victim.
            let name = format!("{round} {number} {}", "\u{1F480}".repeat(20));
            Update::down(NodeId {
                zone: name.clone(),
                ..NodeId::new(name, String::new())
            })
        });
        let all = invented.chain([Update::alive(to.clone())]);
        liar.foca.apply_many(all, true, &mut liar.runtime).unwrap();
        for _ in 0..20 {
            liar.foca.gossip(&mut liar.runtime).unwrap();
        }
        while let Some((_, datagram)) = liar.take_datagram() {
            victim.hear(&datagram);
            victim.turn(now);
            while victim.take_datagram().is_some() {}
        }
    }
    assert!(victim.members().len() > 10, "they were heard");
    let known = victim.foca.iter_membership_state().len();
    assert!(known <= MEMBERS_MAX + 64, "{known} members are known");
    assert!(answer_fits(&victim));
}

/// Datagrams as real nodes send them.
fn real_datagrams() -> Vec<Vec<u8>> {
    let mut cluster = Simulation::of(4, 3);
    let mut all = Vec::new();
    for _ in 0..200 {
        cluster.run_for(1);
        for (gossip, _) in &mut cluster.nodes {
            let _ = gossip.foca.gossip(&mut gossip.runtime);
            let peer = id(0);
            let _ = gossip.foca.announce(peer, &mut gossip.runtime);
            let sent = std::iter::from_fn(|| gossip.take_datagram()).map(|(_, datagram)| datagram);
            all.extend(sent.filter(|datagram| datagram.len() > 20));
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn losses_alone_never_part_a_cluster_for_good(seed: u64, loss_percent in 0_u32..25) {
        let mut cluster = Simulation::of(5, seed);
        // A first word that is lost would have to be said again by whoever knows the addresses.
        cluster.run_for(30);
        cluster.loss_percent = loss_percent;
        cluster.run_for(300);
        cluster.loss_percent = 0;
        cluster.run_for(300);
        prop_assert!(cluster.all_see_all_alive());
    }

    #[test]
    fn bytes_from_anybody_neither_panic_nor_break_an_answer(
        datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..200),
        wounds in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..400),
    ) {
        let mut now = Instant::now();
        let mut gossip = Gossip::new(id(0), 11, now);
        gossip.use_address(address(0));
        for datagram in &datagrams {
            gossip.hear(datagram);
        }
        gossip.hear(&[0; DATAGRAM_BYTES_MAX + 1]);
        let real = real_datagrams();
        for (which, at, byte, cut) in wounds {
            let mut datagram = real[which.index(real.len())].clone();
            let at = at.index(datagram.len());
            datagram[at] = byte;
            if cut {
                datagram.truncate(at);
            }
            gossip.hear(&datagram);
            now += Duration::from_millis(300);
            gossip.turn(now);
            while gossip.take_datagram().is_some() {}
        }
        prop_assert!(gossip.refused > 0);
        prop_assert!(gossip.members().len() <= MEMBERS_MAX);
        prop_assert!(answer_fits(&gossip));
    }
}
