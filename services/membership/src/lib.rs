//! membership: who is in the cluster, by SWIM gossip (foca) over the one UDP descriptor that the bus brings, among those whom the roster names.
//!
//! Given: `door` (connections; the bus's own brings the descriptors), `gossip-key` (the secret of its datagrams), `roster` (the file in which it
//! keeps the roster). Serves: `protocol::membership`. Calls: nobody. A single-threaded poll loop: a datagram, a timer or a call is handled at
//! once. Absent: addresses to bind, the data path, any say in who belongs.
#![forbid(unsafe_code)]

mod codec;
mod envelope;
mod gossip;
mod identity;
mod joining;
mod kept;
mod own;
#[cfg(test)]
mod tests;
mod timers;

#[cfg(feature = "fuzz")]
pub use gossip::fuzz;

use envelope::{DATAGRAM_BYTES_MAX, Envelope};
use gossip::{Gossip, fresh_seed};
use identity::NodeId;
use joining::Joining;
use kept::{Content, Kept};
use own::Own;
use protocol::channel::ReceiveBuffer;
use protocol::cluster::{NodeKey, Roster, address_of};
use protocol::membership::{Membership, MembershipAnswer, MembershipCall};
use protocol::start::{HEARTBEAT_MS, Order};
use protocol::token::Token;
use runtime::{Doorway, Given, Supervisor};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recvfrom, sendto};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// So many datagrams are read in one turn, so that a flood cannot keep calls and heartbeats waiting.
const DATAGRAMS_PER_TURN_MAX: usize = 64;

/// Why membership ends.
#[derive(Debug)]
pub enum Error {
    /// It was not packed as its manifest says, or its supervisor has gone.
    Runtime(runtime::Error),
    /// No randomness for its choices.
    Random(Errno),
    /// The secret is not 32 bytes.
    Key,
    /// The roster could not be read or kept: what the disk has is found out by the next start.
    Roster(Errno),
    /// poll(2) failed.
    Poll(Errno),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => error.fmt(f),
            Self::Random(errno) => write!(f, "getrandom: {errno}"),
            Self::Key => write!(f, "the gossip key is not 32 bytes"),
            Self::Roster(errno) => write!(f, "roster in the data directory: {errno}"),
            Self::Poll(errno) => write!(f, "poll: {errno}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Self {
        Self::Runtime(error)
    }
}

/// Takes the door, closes the door behind the start, gossips and answers until its supervisor says stop.
pub fn run(mut given: Given) -> Result<(), Error> {
    let doorway = Doorway::new(given.channel("door")?);
    let secret = secret(&given.descriptor("gossip-key")?)?;
    let mut kept = Kept::open(given.descriptor("roster")?).map_err(Error::Roster)?;
    let key = key(&mut given)?;
    let envelope = Envelope::new(key, secret);
    let own = Own {
        key,
        gossip_key: envelope.public(),
        name: given.setting("node")?,
        zone: given.setting("zone")?,
        capacity_bytes: given.parsed("capacity")?,
        reach: (
            address_of(&given.setting("reach_gossip")?),
            address_of(&given.setting("reach_mesh")?),
        ),
    };
    let token: Option<Token> = match given.setting("join")?.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| {
            let name = "join".to_owned(); // its value is a secret
            runtime::Error::Setting(name, "…".into())
        })?),
    };
    let (version, services) = (given.setting("version")?, given.setting("services")?);
    let supervisor = given.finish()?;

    if kept.damaged {
        runtime::error!(
            "the roster in the data directory is damaged: it begins anew, with what metadata knows"
        );
    }
    // Counted up, so that no clock can take it back; and not behind the clock, so that no old copy of the file can.
    let seconds = runtime::unix_ms() / 1_000;
    let starts = kept.content().starts.saturating_add(1).max(seconds);
    let content = Content {
        starts,
        ..kept.content().clone()
    };
    kept.keep(content).map_err(Error::Roster)?;
    let seed = fresh_seed().map_err(Error::Random)?;
    let now = Instant::now();
    let life = NodeId::new(key, starts, &version, &services);
    let mut node = Node {
        doorway: Some(doorway),
        gossip: Gossip::new(life, seed, now),
        envelope,
        own,
        joining: None,
        kept,
        told: None,
        socket: None,
        refused: 0,
    };
    node.begin(token, now);
    supervisor.ready(format!("seed {seed}"))?;
    node.serve(&supervisor)
}

/// The 32 bytes of a sealed memory file.
fn secret(file: &OwnedFd) -> Result<[u8; 32], Error> {
    let mut bytes = [0; 33];
    match rustix::io::pread(file, &mut bytes, 0) {
        Ok(32) => bytes.first_chunk().copied().ok_or(Error::Key),
        _ => Err(Error::Key),
    }
}

/// The node's public key, 64 hexadecimal digits.
fn key(given: &mut Given) -> Result<NodeKey, Error> {
    let text = given.setting("node_key")?;
    text.parse()
        .map_err(|_| runtime::Error::Setting("node_key".into(), text).into())
}

struct Node {
    /// `None` between the end of a bus and the door that init attaches for the next.
    doorway: Option<Doorway<Membership>>,
    gossip: Gossip,
    envelope: Envelope,
    own: Own,
    /// While the node has an invitation and does not belong.
    joining: Option<Joining>,
    kept: Kept,
    /// The roster as the bus was told it last.
    told: Option<Roster>,
    /// For datagrams, and the address that it is bound to.
    socket: Option<(OwnedFd, SocketAddr)>,
    /// Datagrams that were not gossip of a member.
    refused: u64,
}

impl Node {
    /// With the roster that was kept, or with the invitation to one.
    fn begin(&mut self, token: Option<Token>, now: Instant) {
        if let Some(roster) = &self.kept.content().roster {
            self.envelope.learn(roster);
            self.gossip.learn(roster);
        }
        // Who belongs already has no use for it.
        if !self.belongs() {
            self.joining = token.map(|token| Joining::new(token, now));
        }
    }

    fn roster(&self) -> Option<&Roster> {
        self.kept.content().roster.as_ref()
    }

    fn belongs(&self) -> bool {
        let own = self.own.key;
        self.roster()
            .is_some_and(|roster| roster.member(&own).is_some())
    }

    fn serve(mut self, supervisor: &Supervisor) -> Result<(), Error> {
        let mut buffer = ReceiveBuffer::new();
        let mut beat = Instant::now();
        loop {
            if beat <= Instant::now() {
                supervisor.alive()?;
                beat = Instant::now() + Duration::from_millis(HEARTBEAT_MS);
            }
            self.wait(supervisor, beat)?;
            while let Some((order, mut descriptors)) = supervisor.order(&mut buffer)? {
                match (order, descriptors.pop()) {
                    (Order::Stop, _) => return Ok(()),
                    (Order::Attach { .. }, Some(door)) => {
                        self.doorway = Some(Doorway::new(door.into()));
                    }
                    _ => {}
                }
            }
            self.answer(&mut buffer)?;
            self.join()?;
            self.receive();
            self.gossip.turn(Instant::now());
            self.send()?;
        }
    }

    fn wait(&self, supervisor: &Supervisor, beat: Instant) -> Result<(), Error> {
        let doors = self.doorway.iter().flat_map(Doorway::descriptors);
        let all = std::iter::once(supervisor.as_fd())
            .chain(doors)
            .chain(self.socket.iter().map(|(socket, _)| socket.as_fd()))
            .map(|one| PollFd::from_borrowed_fd(one, PollFlags::IN))
            .chain(self.joining.iter().filter_map(Joining::interest));
        let joining = self.joining.as_ref().and_then(Joining::deadline);
        let until = [self.gossip.deadline(), joining];
        let until = until.into_iter().flatten().fold(beat, Instant::min);
        runtime::wait_for(all, until).map_err(Error::Poll)
    }

    fn answer(&mut self, buffer: &mut ReceiveBuffer) -> Result<(), Error> {
        let Some(mut door) = self.doorway.take() else {
            return Ok(());
        };
        let mut failed = None;
        let turned = door.turn(buffer, |client, call, mut descriptors| {
            let answer = self.obey(client, call, descriptors.pop());
            answer.unwrap_or_else(|error| {
                failed = Some(error);
                MembershipAnswer::Refused
            })
        });
        match turned {
            Ok(()) => self.doorway = Some(door),
            // The bus has ended. The next one can have the address only if nobody else does.
            Err(_) => self.socket = None,
        }
        failed.map_or(Ok(()), Err)
    }

    /// The answer to one call. An error is the disk's: the process has to end.
    fn obey(
        &mut self,
        client: &str,
        call: MembershipCall,
        descriptor: Option<OwnedFd>,
    ) -> Result<MembershipAnswer, Error> {
        Ok(match (client, call) {
            (_, MembershipCall::Members) => {
                MembershipAnswer::Members(self.own.members(self.roster(), &self.gossip))
            }
            ("bus", MembershipCall::Use { address, mesh }) => match (address.parse(), descriptor) {
                (Ok(bound), Some(socket)) => {
                    let (gossip, mesh) = self.own.reached(bound, &mesh);
                    self.gossip.use_addresses(gossip, mesh);
                    self.socket = Some((socket, bound));
                    MembershipAnswer::Using
                }
                _ => MembershipAnswer::Refused,
            },
            ("bus", MembershipCall::Roster { newer_than }) => self.tell_bus(newer_than),
            ("bus", MembershipCall::Join) => self.ask(descriptor),
            ("metadata", MembershipCall::Roster { newer_than }) => {
                let roster = self.roster().cloned();
                MembershipAnswer::Roster(roster.filter(|roster| roster.version > newer_than))
            }
            ("metadata", MembershipCall::Own) => self
                .own
                .entry(&self.gossip)
                .map_or(MembershipAnswer::Refused, MembershipAnswer::Own),
            ("metadata", MembershipCall::Learn { roster }) => self.learn(roster)?,
            _ => MembershipAnswer::Refused,
        })
    }

    /// To the bus: the roster, if it or an address in it is new; or whom to bring.
    fn tell_bus(&mut self, newer_than: u64) -> MembershipAnswer {
        if let Some(wanting) = self
            .joining
            .as_mut()
            .and_then(|joining| joining.wanting(Instant::now()))
        {
            return wanting;
        }
        let Some(roster) = self.roster() else {
            return MembershipAnswer::Roster(None);
        };
        let now = own::with_addresses(roster, &self.gossip);
        if now.version <= newer_than && self.told.as_ref() == Some(&now) {
            return MembershipAnswer::Roster(None);
        }
        self.told = Some(now.clone());
        MembershipAnswer::Roster(Some(now))
    }

    /// The bus has brought the stream to the node that this one wants to join by.
    fn ask(&mut self, stream: Option<OwnedFd>) -> MembershipAnswer {
        match (&mut self.joining, stream, self.own.entry(&self.gossip)) {
            (Some(joining), Some(stream), Some(own)) => {
                joining.ask(stream, own, Instant::now());
                MembershipAnswer::Using
            }
            _ => MembershipAnswer::Refused,
        }
    }

    /// Metadata says who belongs.
    fn learn(&mut self, roster: Roster) -> Result<MembershipAnswer, Error> {
        if let Some(broken) = roster.broken_rule() {
            runtime::error!("metadata's roster: {broken}");
            return Ok(MembershipAnswer::Refused);
        }
        if let Some(kept) = self.roster() {
            if kept.cluster != roster.cluster {
                runtime::error!(
                    "metadata has the roster of the cluster {}, but this node belongs to {}: is its data directory put together from two?",
                    roster.cluster,
                    kept.cluster
                );
                return Ok(MembershipAnswer::Refused);
            }
            if kept.version >= roster.version {
                return Ok(MembershipAnswer::Learned);
            }
        }
        self.keep(roster)?;
        Ok(MembershipAnswer::Learned)
    }

    /// Keeps a roster, and acts by it.
    fn keep(&mut self, roster: Roster) -> Result<(), Error> {
        self.log_changes(&roster);
        self.envelope.learn(&roster);
        self.gossip.learn(&roster);
        let content = Content {
            roster: Some(roster),
            ..self.kept.content().clone()
        };
        self.kept.keep(content).map_err(Error::Roster)?;
        if self.belongs() {
            self.joining = None;
        }
        Ok(())
    }

    fn log_changes(&self, roster: &Roster) {
        for node in roster.members() {
            if self
                .roster()
                .is_none_or(|old| old.member(&node.key).is_none())
            {
                runtime::info!("{} (zone {}) belongs to the cluster", node.name, node.zone);
            }
        }
        let old = self.roster().into_iter().flat_map(Roster::members);
        for node in old.filter(|node| roster.member(&node.key).is_none()) {
            runtime::info!("{} does not belong to the cluster any more", node.name);
        }
    }

    /// What comes of asking to be admitted.
    fn join(&mut self) -> Result<(), Error> {
        let Some(joining) = &mut self.joining else {
            return Ok(());
        };
        let own = (self.own.key, self.own.gossip_key);
        let Some(roster) = joining.turn(own, Instant::now()) else {
            return Ok(());
        };
        runtime::info!(
            "admitted to the cluster {} of {} nodes",
            roster.cluster,
            roster.members().count()
        );
        self.keep(roster)
    }

    fn receive(&mut self) {
        let Some((socket, _)) = &self.socket else {
            return;
        };
        let mut datagram = [0; DATAGRAM_BYTES_MAX + 1];
        for _ in 0..DATAGRAMS_PER_TURN_MAX {
            let Ok((filled, _, _)) = recvfrom(socket, &mut datagram, RecvFlags::DONTWAIT) else {
                return;
            };
            let datagram = datagram.get(..filled).unwrap_or_default();
            let opened = self.envelope.open(datagram);
            if opened.is_some_and(|(sender, message)| self.gossip.hear(sender, &message)) {
                continue;
            }
            self.refused += 1;
            if self.refused.is_power_of_two() {
                runtime::warn!("{} datagrams were not gossip of a member", self.refused);
            }
        }
    }

    /// What does not go now is lost, as any datagram may be.
    fn send(&mut self) -> Result<(), Error> {
        while let Some((to, address, message)) = self.gossip.take_message() {
            let (Some((socket, bound)), Some(address)) = (&self.socket, address) else {
                continue;
            };
            let sealed = self.envelope.seal(&to, &message).map_err(Error::Random)?;
            if let Some(datagram) = sealed {
                let address = from_socket(bound, address);
                let _ = sendto(socket, &datagram, SendFlags::DONTWAIT, &address);
            }
        }
        Ok(())
    }
}

/// An address as the socket that is bound to `bound` can send to it: a socket of IPv6 sends to IPv4 by mapped addresses (RFC 4291, 2.5.5.2).
fn from_socket(bound: &SocketAddr, to: SocketAddr) -> SocketAddr {
    match (bound, to.ip()) {
        (SocketAddr::V6(_), IpAddr::V4(ip)) => (ip.to_ipv6_mapped(), to.port()).into(),
        _ => to,
    }
}
