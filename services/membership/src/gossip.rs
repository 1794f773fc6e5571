//! The members, as SWIM sees them: foca with its timers, free of I/O and of a clock of its own.
//!
//! What comes in has been opened by the envelope, and what goes out is sealed by it: here a message has a member at its other end.

#[cfg(feature = "fuzz")]
pub mod fuzz;

use crate::codec::MembersOnly;
use crate::envelope::MESSAGE_BYTES_MAX;
use crate::identity::NodeId;
use crate::timers::Timers;
use foca::{AccumulatingRuntime, Config, Foca, Member, State, Timer};
use protocol::cluster::{NodeKey, Roster, address_of};
use rand::{SeedableRng, rngs::StdRng};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// How long a member is waited for until others are asked to reach it, twice the longest way between two homes.
const PROBE_RTT: Duration = Duration::from_secs(1);
/// Each so often one member is probed.
const PROBE_PERIOD: Duration = Duration::from_secs(2);
/// How long a suspect may refute before it is gone.
const SUSPICION: Duration = Duration::from_secs(10);
/// Who is not heard of is spoken to again after so long at first, and then after twice as long each time.
const ANNOUNCE_FIRST: Duration = Duration::from_secs(1);
/// And at least so often.
const ANNOUNCE_MAX: Duration = Duration::from_secs(30);

/// This node's view of the cluster.
pub(crate) struct Gossip {
    foca: Foca<NodeId, MembersOnly, StdRng, foca::NoCustomBroadcast>,
    codec: MembersOnly,
    runtime: AccumulatingRuntime<NodeId>,
    timers: Timers<Timer<NodeId>>,
    now: Instant,
    /// The other members and where they were last known to be.
    others: Vec<(NodeKey, Option<SocketAddr>)>,
    /// When those who are not heard of are spoken to, and how long after that once more.
    announce: Option<(Instant, Duration)>,
    /// Who was a suspect at the last look, in which incarnation, and since which look.
    suspects: Vec<(NodeId, u16, Instant)>,
}

/// A seed for the choices of one life of this process.
pub(crate) fn fresh_seed() -> Result<u64, Errno> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_le_bytes(bytes))
}

fn config() -> Config {
    let mut config = Config::new_wan(NonZeroU32::new(16).unwrap_or(NonZeroU32::MIN));
    config.probe_period = PROBE_PERIOD;
    config.probe_rtt = PROBE_RTT;
    config.suspect_to_down_after = SUSPICION;
    if let Ok(size) = MESSAGE_BYTES_MAX.try_into() {
        config.max_packet_size = size;
    }
    config
}

impl Gossip {
    /// Alone at first. The same seed, messages and times give the same choices.
    pub(crate) fn new(own: NodeId, seed: u64, now: Instant) -> Self {
        let codec = MembersOnly::default();
        Self {
            foca: Foca::new(own, config(), StdRng::seed_from_u64(seed), codec.clone()),
            codec,
            runtime: AccumulatingRuntime::new(),
            timers: Timers::new(),
            now,
            others: Vec::new(),
            announce: None,
            suspects: Vec::new(),
        }
    }

    /// Where others reach us now. A changed address is a new life, so that they learn of it.
    pub(crate) fn use_addresses(&mut self, gossip: Option<SocketAddr>, mesh: Option<SocketAddr>) {
        let own = self.foca.identity().clone();
        if (own.gossip, own.mesh) != (gossip, mesh) {
            let renewed = NodeId {
                gossip,
                mesh,
                life: own.life.saturating_add(1),
                ..own
            };
            // Only the present identity itself is refused, which this is not.
            let _ = self.foca.change_identity(renewed, &mut self.runtime);
            self.set_timers();
            self.announce_anew();
        }
    }

    /// From now on these belong and nobody else: who does not is forgotten, and who is new is spoken to.
    pub(crate) fn learn(&mut self, roster: &Roster) {
        let own = self.foca.identity().key;
        let belongs = roster.member(&own).is_some();
        let members = roster.members().filter(|_| belongs);
        let members: BTreeSet<NodeKey> = members.map(|node| node.key).collect();
        let gone: Vec<Member<NodeId>> = self
            .foca
            .iter_membership_state()
            .filter(|member| !members.contains(&member.id().key))
            .map(|member| Member::down(member.id().clone()))
            .collect();
        // Told to nobody: each node is told by its own metadata.
        let _ = self
            .foca
            .apply_many(gone.into_iter(), false, &mut self.runtime);
        self.set_timers();
        self.others = roster
            .members()
            .filter(|node| node.key != own && members.contains(&node.key))
            .map(|node| (node.key, address_of(&node.gossip)))
            .collect();
        self.codec.trust.borrow_mut().members = members;
        self.announce_anew();
    }

    fn announce_anew(&mut self) {
        self.announce = (!self.others.is_empty()).then_some((self.now, ANNOUNCE_FIRST));
    }

    /// Speaks to those members that are not heard of. The first word is lost easily: neither side may know the other's address yet.
    fn announce(&mut self) {
        let Some((_, wait)) = self.announce.filter(|(at, _)| *at <= self.now) else {
            return;
        };
        self.announce = Some((self.now + wait, (wait * 2).min(ANNOUNCE_MAX)));
        self.judge_suspects();
        let active: BTreeSet<NodeKey> = self.foca.iter_members().map(|one| one.id().key).collect();
        for (key, address) in &self.others {
            if let Some(address) = address.filter(|_| !active.contains(key)) {
                let to = NodeId::to_announce(*key, address);
                // Errors only where an identity does not encode, which this does.
                let _ = self.foca.announce(to, &mut self.runtime);
            }
        }
        self.set_timers();
    }

    /// Declares those dead whom nobody else has: only the one whose probe has failed does, and forgets it with a new life of its own. A suspect
    /// that lives is told so when it speaks next, and begins a new life.
    fn judge_suspects(&mut self) {
        let all = self.foca.iter_membership_state();
        let suspects = all.filter(|member| member.state() == State::Suspect);
        let suspects = suspects.map(|member| {
            let (id, incarnation) = (member.id(), member.incarnation());
            let mut before = self.suspects.iter();
            let before = before.find(|(other, at, _)| other == id && *at == incarnation);
            let since = before.map_or(self.now, |(.., since)| *since);
            (id.clone(), incarnation, since)
        });
        self.suspects = suspects.collect();
        let late = |since: &Instant| self.now - *since >= SUSPICION * 2;
        let late = self.suspects.iter().filter(|(.., since)| late(since));
        let dead: Vec<Member<NodeId>> = late
            .map(|(id, incarnation, _)| Member::new(id.clone(), *incarnation, State::Down))
            .collect();
        // Errors only where an identity does not encode, which these do.
        let _ = self
            .foca
            .apply_many(dead.into_iter(), true, &mut self.runtime);
    }

    /// A message of `sender`, who has sealed it. Whether it was one of SWIM's.
    pub(crate) fn hear(&mut self, sender: NodeKey, message: &[u8]) -> bool {
        self.codec.trust.borrow_mut().sender = Some(sender);
        let heard = self.foca.handle_data(message, &mut self.runtime).is_ok();
        self.set_timers();
        heard
    }

    /// Everything that is due at `now`.
    pub(crate) fn turn(&mut self, now: Instant) {
        self.now = now;
        self.announce();
        while let Some(timer) = self.timers.take_due(now) {
            // An error tells of a probe cycle that came too late: foca starts the next by itself.
            let _ = self.foca.handle_timer(timer, &mut self.runtime);
            self.set_timers();
        }
        while self.runtime.to_notify().is_some() {}
    }

    /// When [`Gossip::turn`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let announce = self.announce.map(|(at, _)| at);
        [self.timers.next(), announce].into_iter().flatten().min()
    }

    /// The next message: for whom, and where that node is.
    pub(crate) fn take_message(&mut self) -> Option<(NodeKey, Option<SocketAddr>, Vec<u8>)> {
        self.runtime
            .to_send()
            .map(|(to, message)| (to.key, to.gossip, message.to_vec()))
    }

    /// This node's present life.
    pub(crate) fn own(&self) -> &NodeId {
        self.foca.identity()
    }

    /// What is known of another member; `None` if it was not heard of.
    pub(crate) fn heard_of(&self, key: &NodeKey) -> Option<(&NodeId, State, u16)> {
        let mut all = self.foca.iter_membership_state();
        let member = all.find(|member| member.id().key == *key)?;
        Some((member.id(), member.state(), member.incarnation()))
    }

    fn set_timers(&mut self) {
        while let Some((after, timer)) = self.runtime.to_schedule() {
            self.timers.set(self.now + after, timer);
        }
    }
}

#[cfg(test)]
mod tests;
