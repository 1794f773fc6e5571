//! The members, as SWIM sees them: foca with its timers, free of I/O and of a clock of its own.

use crate::timers::Timers;
use foca::{AccumulatingRuntime, Config, Foca, Identity, PostcardCodec, State, Timer};
use protocol::membership::{MEMBERS_MAX, Member, MemberState};
use rand::{SeedableRng, rngs::StdRng};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Instant;

/// The largest datagram: it fits every path of the internet that carries IPv6 (RFC 8200: 1,280 bytes), headers left out.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 1_200;
/// A node's name and a zone's, in a datagram.
const NAME_BYTES_MAX: usize = 64;

/// A node in the gossip. Its address may change; its name is what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeId {
    name: String,
    zone: String,
    address: Option<SocketAddr>,
    /// Raised at each new life and each refuted death: of two identities of one node the younger counts.
    life: u64,
}

impl NodeId {
    pub(crate) fn new(name: String, zone: String) -> Self {
        Self {
            name,
            zone,
            address: None,
            life: 0,
        }
    }
}

impl Identity for NodeId {
    type Addr = String;

    fn renew(&self) -> Option<Self> {
        Some(Self {
            life: self.life + 1,
            ..self.clone()
        })
    }

    fn addr(&self) -> String {
        self.name.clone()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.life > adversary.life
    }
}

/// This node's view of the cluster.
pub(crate) struct Gossip {
    foca: Foca<NodeId, PostcardCodec, StdRng, foca::NoCustomBroadcast>,
    runtime: AccumulatingRuntime<NodeId>,
    timers: Timers<Timer<NodeId>>,
    now: Instant,
    /// Datagrams that were not gossip of ours.
    refused: u64,
}

/// A seed for the choices of one life of this process.
pub(crate) fn fresh_seed() -> Result<u64, Errno> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_le_bytes(bytes))
}

impl Gossip {
    /// Alone at first. The same seed, datagrams and times give the same choices.
    pub(crate) fn new(own: NodeId, seed: u64, now: Instant) -> Self {
        let mut config = Config::new_wan(NonZeroU32::new(16).unwrap_or(NonZeroU32::MIN));
        if let Ok(size) = DATAGRAM_BYTES_MAX.try_into() {
            config.max_packet_size = size;
        }
        Self {
            foca: Foca::new(own, config, StdRng::seed_from_u64(seed), PostcardCodec),
            runtime: AccumulatingRuntime::new(),
            timers: Timers::new(),
            now,
            refused: 0,
        }
    }

    /// The address at which others reach us now. A changed one is a new life, so that they learn of it.
    pub(crate) fn use_address(&mut self, address: SocketAddr) {
        let own = self.foca.identity().clone();
        if own.address != Some(address) {
            let renewed = NodeId {
                address: Some(address),
                life: own.life + 1,
                ..own
            };
            // Only the present identity itself is refused, which this is not.
            let _ = self.foca.change_identity(renewed, &mut self.runtime);
            self.set_timers();
        }
    }

    /// A datagram from anybody. What is not gossip is counted and forgotten.
    pub(crate) fn hear(&mut self, datagram: &[u8]) {
        if datagram.len() > DATAGRAM_BYTES_MAX
            || self.foca.handle_data(datagram, &mut self.runtime).is_err()
        {
            self.refused += 1;
            if self.refused.is_power_of_two() {
                runtime::warn!("{} datagrams were not gossip of this cluster", self.refused);
            }
        }
        self.set_timers();
    }

    /// Everything that is due at `now`.
    pub(crate) fn turn(&mut self, now: Instant) {
        self.now = now;
        while let Some(timer) = self.timers.take_due(now) {
            // An error tells of a probe cycle that came too late: foca starts the next by itself.
            let _ = self.foca.handle_timer(timer, &mut self.runtime);
            self.set_timers();
        }
        while self.runtime.to_notify().is_some() {}
    }

    /// When [`Gossip::turn`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next datagram, and where to.
    pub(crate) fn to_send(&mut self) -> Option<(Option<SocketAddr>, Vec<u8>)> {
        self.runtime
            .to_send()
            .map(|(to, datagram)| (to.address, datagram.to_vec()))
    }

    /// Everybody that is known, this node first.
    pub(crate) fn members(&self) -> Vec<Member> {
        let own = describe(self.foca.identity(), MemberState::Alive, 0);
        let others = self.foca.iter_membership_state().map(|member| {
            let state = match member.state() {
                State::Alive => MemberState::Alive,
                State::Suspect => MemberState::Suspect,
                State::Down => MemberState::Gone,
            };
            describe(member.id(), state, member.incarnation())
        });
        std::iter::once(own)
            .chain(others)
            .take(MEMBERS_MAX)
            .collect()
    }

    fn set_timers(&mut self) {
        while let Some((after, timer)) = self.runtime.to_schedule() {
            self.timers.set(self.now + after, timer);
        }
    }
}

fn describe(id: &NodeId, state: MemberState, incarnation: u16) -> Member {
    let short = |text: &str| {
        text.chars()
            .take(NAME_BYTES_MAX)
            .filter(|c| !c.is_control())
            .collect()
    };
    Member {
        name: short(&id.name),
        zone: short(&id.zone),
        address: id
            .address
            .map_or_else(String::new, |address| address.to_string()),
        state,
        incarnation,
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a panic is how a test fails"
    )]
    use super::*;
    use std::time::Duration;

    /// A cluster in simulated time: datagrams arrive at once, and only between nodes that live.
    struct Simulation {
        nodes: Vec<(Gossip, bool)>,
        now: Instant,
    }

    impl Simulation {
        fn of(count: u16, seed: u64) -> Self {
            let now = Instant::now();
            let mut nodes = Vec::new();
            for number in 0..count {
                let own = NodeId::new(format!("node{number}"), "home".into());
                let mut gossip = Gossip::new(own, seed + u64::from(number), now);
                gossip.use_address(SocketAddr::from(([127, 0, 0, 1], 1_000 + number)));
                nodes.push((gossip, true));
            }
            let first = nodes[0].0.foca.identity().clone();
            for (gossip, _) in nodes.iter_mut().skip(1) {
                gossip
                    .foca
                    .announce(first.clone(), &mut gossip.runtime)
                    .unwrap();
            }
            Self { nodes, now }
        }

        fn run_for(&mut self, span: Duration) {
            let end = self.now + span;
            while self.now < end {
                self.now += Duration::from_millis(100);
                let mut mail = Vec::new();
                for (gossip, alive) in &mut self.nodes {
                    if *alive {
                        gossip.turn(self.now);
                        mail.extend(std::iter::from_fn(|| gossip.to_send()));
                    }
                }
                for (to, datagram) in mail {
                    let at = usize::from(to.unwrap().port() - 1_000);
                    if self.nodes[at].1 {
                        self.nodes[at].0.hear(&datagram);
                    }
                }
            }
        }

        fn state(&self, of: &str, seen_by: usize) -> Option<MemberState> {
            let members = self.nodes[seen_by].0.members();
            members
                .iter()
                .filter(|member| member.name == of)
                .map(|member| member.state)
                .next_back()
        }
    }

    #[test]
    fn a_silent_member_is_declared_gone_and_comes_back() {
        let seed = 7;
        println!("seed {seed}");
        let mut cluster = Simulation::of(3, seed);
        cluster.run_for(Duration::from_secs(60));
        assert_eq!(cluster.state("node2", 0), Some(MemberState::Alive));
        assert_eq!(cluster.state("node0", 2), Some(MemberState::Alive));

        cluster.nodes[2].1 = false;
        cluster.run_for(Duration::from_secs(120));
        assert_ne!(cluster.state("node2", 0), Some(MemberState::Alive));
        assert_eq!(cluster.state("node1", 0), Some(MemberState::Alive));

        cluster.nodes[2].1 = true;
        cluster.run_for(Duration::from_secs(300));
        assert_eq!(cluster.state("node2", 0), Some(MemberState::Alive));
    }

    #[test]
    fn bytes_from_anybody_neither_panic_nor_make_a_member() {
        let now = Instant::now();
        let seed = 11;
        println!("seed {seed}");
        let mut gossip = Gossip::new(NodeId::new("n".into(), "z".into()), seed, now);
        let mut random = StdRng::seed_from_u64(seed);
        for _ in 0..20_000 {
            let length = usize::from(rand::Rng::next_u32(&mut random) as u8) % 64;
            let datagram: Vec<u8> = (0..length)
                .map(|_| rand::Rng::next_u32(&mut random) as u8)
                .collect();
            gossip.hear(&datagram);
            gossip.turn(now);
        }
        gossip.hear(&[0; DATAGRAM_BYTES_MAX + 1]);
        assert!(gossip.refused > 10_000);
        assert!(gossip.members().len() < MEMBERS_MAX);
    }
}
