//! The members, as SWIM sees them: foca with its timers, free of I/O and of a clock of its own.

#[cfg(feature = "fuzz")]
pub mod fuzz;

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
/// Of a node's name and a zone's, so many bytes are shown: then [`MEMBERS_MAX`] members fit an answer.
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

    /// A datagram from anybody. What is not gossip is counted and forgotten, and so is everything once [`MEMBERS_MAX`] members are
    /// known: foca itself would remember as many as it is told of.
    pub(crate) fn hear(&mut self, datagram: &[u8]) {
        if datagram.len() > DATAGRAM_BYTES_MAX
            || self.foca.iter_membership_state().len() >= MEMBERS_MAX
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
    pub(crate) fn take_datagram(&mut self) -> Option<(Option<SocketAddr>, Vec<u8>)> {
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
        let end = text.floor_char_boundary(NAME_BYTES_MAX);
        let start = text.get(..end).unwrap_or_default();
        start.chars().filter(|c| !c.is_control()).collect()
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
mod tests;
