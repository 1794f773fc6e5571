//! Clusters in simulated time: messages are lost, members stop and come back, move, are put out, or say what they like. Every seed is printed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a panic is how a test fails"
)]

use super::*;
use crate::own::with_addresses;
use crate::tests::{entry, roster};
use foca::Member as Update;
use proptest::prelude::*;
use protocol::cluster::Standing;
use rand::RngExt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Nodes that hear each other at the next turn, unless the message is lost.
struct Simulation {
    nodes: Vec<(Gossip, bool)>,
    roster: Roster,
    starts: u64,
    now: Instant,
    /// Of a hundred messages, so many are lost.
    loss_percent: u32,
    random: StdRng,
    /// Everything that was ever sent.
    sent: DefaultHasher,
}

/// Of the node of that number, from 0, at home or where it has moved to.
fn address(number: usize, moved: bool) -> SocketAddr {
    let port = if moved { 2_000 } else { 1_001 };
    SocketAddr::from(([127, 0, 0, 1], port + number as u16))
}

fn key(number: usize) -> NodeKey {
    entry(number as u8 + 1).key
}

fn life(number: usize, starts: u64) -> NodeId {
    NodeId::new(key(number), starts, "0.1.0", "metadata block-store")
}

impl Simulation {
    fn of(count: usize, seed: u64) -> Self {
        println!("seed {seed}");
        let mut simulation = Self {
            nodes: Vec::new(),
            roster: roster((0..count).map(|number| entry(number as u8 + 1))),
            starts: 0,
            now: Instant::now(),
            loss_percent: 0,
            random: StdRng::seed_from_u64(seed),
            sent: DefaultHasher::new(),
        };
        for number in 0..count {
            let node = simulation.start(number, false);
            simulation.nodes.push((node, true));
        }
        simulation
    }

    /// A process that has just started, with the roster that it kept.
    fn start(&mut self, number: usize, moved: bool) -> Gossip {
        self.starts += 1;
        let id = life(number, self.starts);
        let mut gossip = Gossip::new(id, self.random.random(), self.now);
        gossip.learn(&self.roster);
        gossip.use_addresses(Some(address(number, moved)), None);
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
                    let from = gossip.own().key;
                    let sent = std::iter::from_fn(|| gossip.take_message());
                    mail.extend(sent.map(|(to, at, message)| (from, to, at, message)));
                }
            }
            for (from, to, at, message) in mail {
                (to, &message).hash(&mut self.sent);
                let number = usize::from(to.0[0]) - 1;
                let (gossip, alive) = &mut self.nodes[number];
                let lost = self.random.random_range(0..100) < self.loss_percent;
                // It gets there only at the node's present address.
                if *alive && !lost && at == gossip.own().gossip {
                    gossip.hear(from, &message);
                }
            }
        }
    }

    fn state(&self, of: usize, seen_by: usize) -> Option<State> {
        let heard = self.nodes[seen_by].0.heard_of(&key(of));
        heard.map(|(_, state, _)| state)
    }

    fn all_see_all_alive(&self) -> bool {
        let all = 0..self.nodes.len();
        all.clone().all(|seen_by| {
            all.clone()
                .filter(|of| *of != seen_by)
                .all(|of| self.state(of, seen_by) == Some(State::Alive))
        })
    }
}

#[test]
fn members_that_start_together_know_each_other_after_the_first_words() {
    let mut cluster = Simulation::of(5, 6);
    cluster.run_for(3);
    assert!(cluster.all_see_all_alive());
    let (id, ..) = cluster.nodes[0].0.heard_of(&key(4)).unwrap();
    assert_eq!(id.services, "metadata block-store");
}

#[test]
fn a_silent_member_is_declared_gone_and_comes_back() {
    let mut cluster = Simulation::of(3, 7);
    cluster.run_for(60);
    assert!(cluster.all_see_all_alive());

    cluster.nodes[2].1 = false;
    cluster.run_for(30);
    assert_eq!(cluster.state(2, 0), Some(State::Down));
    assert_eq!(cluster.state(2, 1), Some(State::Down));
    assert_eq!(cluster.state(1, 0), Some(State::Alive));

    cluster.nodes[2].1 = true;
    cluster.run_for(120);
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
        cluster.nodes[2] = (cluster.start(2, false), true);
        cluster.run_for(60);
        assert!(cluster.all_see_all_alive(), "after {silent_seconds} s");
    }
}

#[test]
fn a_member_that_has_moved_is_found_at_its_new_address() {
    let mut cluster = Simulation::of(3, 9);
    cluster.run_for(60);
    cluster.nodes[2].1 = false;
    cluster.nodes[2] = (cluster.start(2, true), true);
    cluster.run_for(60);
    assert!(cluster.all_see_all_alive());
    for seen_by in [0, 1] {
        let now = with_addresses(&cluster.roster, &cluster.nodes[seen_by].0);
        assert_eq!(now.nodes[2].gossip, address(2, true).to_string());
        assert_eq!(now.nodes[1 - seen_by], cluster.roster.nodes[1 - seen_by]);
    }
}

#[test]
fn who_is_put_out_is_forgotten_and_disturbs_nobody() {
    for standing in [Standing::Left, Standing::Revoked] {
        let mut cluster = Simulation::of(4, 10);
        cluster.run_for(30);
        let mut now = cluster.roster.clone();
        now.nodes[3].standing = standing;
        now.version += 1;
        // It does not hear of it, and goes on as before; here nothing but the codec is between it and the others.
        for (gossip, _) in &mut cluster.nodes[..3] {
            gossip.learn(&now);
        }
        cluster.run_for(60);
        for seen_by in 0..3 {
            assert_ne!(cluster.state(3, seen_by), Some(State::Alive));
            for of in (0..3).filter(|of| *of != seen_by) {
                assert_eq!(cluster.state(of, seen_by), Some(State::Alive));
            }
        }
    }
}

#[test]
fn a_member_that_the_others_hear_of_later_is_neither_suspected_nor_lost() {
    let mut cluster = Simulation::of(4, 12);
    let mut before = cluster.roster.clone();
    before.nodes.pop();
    // The first two know the fourth already, the third does not.
    cluster.nodes[2].0.learn(&before);
    cluster.run_for(60);
    assert_eq!(cluster.state(3, 0), Some(State::Alive));
    assert_eq!(cluster.state(3, 1), Some(State::Alive));
    assert_eq!(cluster.state(3, 2), None, "it is told of nobody else");
    let all = cluster.roster.clone();
    cluster.nodes[2].0.learn(&all);
    cluster.run_for(30);
    assert!(cluster.all_see_all_alive());
}

#[test]
fn a_node_that_does_not_belong_speaks_to_nobody() {
    let now = Instant::now();
    let mut alone = Gossip::new(life(5, 1), 1, now);
    alone.use_addresses(Some(address(5, false)), None);
    alone.learn(&roster([entry(1), entry(2)]));
    for seconds in 0..100 {
        alone.turn(now + Duration::from_secs(seconds));
        assert_eq!(alone.take_message(), None);
    }
    assert_eq!(alone.deadline(), None, "and sleeps");
}

#[test]
fn a_suspicion_whose_judge_has_forgotten_it_does_not_stay_for_ever() {
    // Here the suspect never heard of it, and the one who would have declared it dead had a new life meanwhile.
    let mut cluster = Simulation::of(5, 6_241_019_523_180_653_936);
    cluster.loss_percent = 12;
    cluster.run_for(300);
    assert_eq!(cluster.state(4, 0), Some(State::Suspect));
    cluster.loss_percent = 0;
    cluster.run_for(180);
    assert!(cluster.all_see_all_alive());
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

#[test]
fn a_member_that_invents_others_or_speaks_for_them_is_not_believed() {
    let now = Instant::now();
    let mut victim = Simulation::of(3, 1).nodes.remove(0).0;
    let mut liar = Gossip::new(life(1, 1), 1, now);
    liar.learn(&roster((1..=200).map(|number| {
        let mut invented = entry(number);
        invented.gossip = "127.0.0.1:9".into();
        invented
    })));
    liar.use_addresses(Some(address(1, false)), None);
    // Dead, so that the liar speaks to nobody but the victim.
    let invented = (3..200).map(|number| Update::down(life(number, 1)));
    let all = invented.chain([Update::alive(victim.own().clone())]);
    liar.foca.apply_many(all, true, &mut liar.runtime).unwrap();
    for _ in 0..100 {
        liar.foca.gossip(&mut liar.runtime).unwrap();
    }
    let mut heard = 0;
    while let Some((to, _, message)) = liar.take_message() {
        if to != key(0) {
            continue;
        }
        heard += usize::from(victim.hear(key(1), &message));
        assert!(!victim.hear(key(2), &message), "another has sealed it");
        victim.turn(now);
        while let Some((to, ..)) = victim.take_message() {
            assert!(usize::from(to.0[0]) <= 3, "it speaks to members only");
        }
    }
    assert!(heard > 10, "{heard} were heard");
    assert_eq!(victim.foca.iter_membership_state().len(), 1, "the liar");
}

/// Messages as real nodes send them.
fn real_messages() -> Vec<Vec<u8>> {
    let mut cluster = Simulation::of(4, 3);
    let mut all = Vec::new();
    for _ in 0..200 {
        cluster.run_for(1);
        for (gossip, _) in &mut cluster.nodes {
            let _ = gossip.foca.gossip(&mut gossip.runtime);
            let peer = NodeId::to_announce(key(0), address(0, false));
            let _ = gossip.foca.announce(peer, &mut gossip.runtime);
            let sent = std::iter::from_fn(|| gossip.take_message());
            all.extend(sent.map(|(_, _, message)| message));
        }
    }
    all.retain(|message| message.len() > 20);
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn losses_alone_never_part_a_cluster_for_good(seed: u64, loss_percent in 0_u32..40) {
        let mut cluster = Simulation::of(5, seed);
        cluster.loss_percent = loss_percent;
        cluster.run_for(300);
        cluster.loss_percent = 0;
        cluster.run_for(300);
        prop_assert!(cluster.all_see_all_alive());
    }

    #[test]
    fn bytes_from_a_member_neither_panic_nor_bring_in_others(
        messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..200),
        wounds in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..400),
    ) {
        let mut now = Instant::now();
        let mut gossip = Gossip::new(life(0, 1), 11, now);
        gossip.use_addresses(Some(address(0, false)), None);
        gossip.learn(&roster((1..=4).map(entry)));
        for message in &messages {
            gossip.hear(key(1), message);
        }
        prop_assert!(!gossip.hear(key(1), &[0; MESSAGE_BYTES_MAX + 1]));
        let real = real_messages();
        for (which, at, byte, cut) in wounds {
            let mut message = real[which.index(real.len())].clone();
            let at = at.index(message.len());
            message[at] = byte;
            if cut {
                message.truncate(at);
            }
            gossip.hear(key(1), &message);
            now += Duration::from_millis(300);
            gossip.turn(now);
            while gossip.take_message().is_some() {}
        }
        let mut known = gossip.foca.iter_membership_state();
        prop_assert!(known.all(|member| (1..=4).any(|number| member.id().key == entry(number).key)));
    }
}
