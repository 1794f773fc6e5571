//! membership: who is in the cluster, by SWIM gossip (foca) over the one UDP descriptor that the bus brings.
//!
//! Given: `door` (connections; the bus's own brings the descriptor). Serves: `protocol::membership`. Calls: nobody. A
//! single-threaded poll loop: a datagram, a timer or a call is handled at once. Absent: addresses to bind, the data path.
#![forbid(unsafe_code)]

mod gossip;
#[cfg(test)]
mod tests;
mod timers;

#[cfg(feature = "fuzz")]
pub use gossip::fuzz;
use gossip::{DATAGRAM_BYTES_MAX, Gossip, NodeId, fresh_seed};
use protocol::channel::ReceiveBuffer;
use protocol::membership::{Membership, MembershipAnswer, MembershipCall};
use protocol::start::{HEARTBEAT_MS, Order};
use runtime::{Doorway, Given, Supervisor};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recvfrom, sendto};
use std::fmt;
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
    /// poll(2) failed.
    Poll(Errno),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => error.fmt(f),
            Self::Random(errno) => write!(f, "getrandom: {errno}"),
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
    let own = NodeId::new(given.setting("node")?, given.setting("zone")?);
    let supervisor = given.finish()?;
    let seed = fresh_seed().map_err(Error::Random)?;
    let node = Node {
        doorway: Some(doorway),
        gossip: Gossip::new(own, seed, Instant::now()),
        socket: None,
    };
    supervisor.ready(format!("seed {seed}"))?;
    node.serve(&supervisor)
}

struct Node {
    /// `None` between the end of a bus and the door that init attaches for the next.
    doorway: Option<Doorway<Membership>>,
    gossip: Gossip,
    socket: Option<OwnedFd>,
}

impl Node {
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
                        self.doorway = Some(Doorway::new(door.into()))
                    }
                    _ => {}
                }
            }
            self.answer(&mut buffer);
            self.receive();
            self.gossip.turn(Instant::now());
            self.send();
        }
    }

    fn wait(&self, supervisor: &Supervisor, beat: Instant) -> Result<(), Error> {
        let doors = self.doorway.iter().flat_map(Doorway::descriptors);
        let all = std::iter::once(supervisor.as_fd())
            .chain(doors)
            .chain(self.socket.iter().map(AsFd::as_fd));
        let until = self.gossip.deadline().map_or(beat, |at| at.min(beat));
        runtime::wait(all, until).map_err(Error::Poll)
    }

    fn answer(&mut self, buffer: &mut ReceiveBuffer) {
        let Self {
            doorway,
            gossip,
            socket,
        } = self;
        let Some(door) = doorway else { return };
        let ended = door.turn(buffer, |client, call, mut descriptors| match call {
            MembershipCall::Members => MembershipAnswer::Members(gossip.members()),
            MembershipCall::Use { address, .. } if client == "bus" => {
                match (address.parse(), descriptors.pop()) {
                    (Ok(address), Some(descriptor)) => {
                        gossip.use_address(address);
                        *socket = Some(descriptor);
                        MembershipAnswer::Using
                    }
                    _ => MembershipAnswer::Refused,
                }
            }
            MembershipCall::Roster { .. } if client == "bus" => MembershipAnswer::Roster(None),
            MembershipCall::Use { .. }
            | MembershipCall::Roster { .. }
            | MembershipCall::Join
            | MembershipCall::Own
            | MembershipCall::Learn { .. } => MembershipAnswer::Refused,
        });
        if ended.is_err() {
            *doorway = None;
        }
    }

    fn receive(&mut self) {
        let Some(socket) = &self.socket else { return };
        let mut datagram = [0; DATAGRAM_BYTES_MAX + 1];
        for _ in 0..DATAGRAMS_PER_TURN_MAX {
            let Ok((filled, _, _)) = recvfrom(socket, &mut datagram, RecvFlags::DONTWAIT) else {
                return;
            };
            self.gossip.hear(datagram.get(..filled).unwrap_or_default());
        }
    }

    /// What does not go now is lost, as any datagram may be.
    fn send(&mut self) {
        while let Some((to, datagram)) = self.gossip.take_datagram() {
            let (Some(socket), Some(to)) = (&self.socket, to) else {
                continue;
            };
            let _ = sendto(socket, &datagram, SendFlags::DONTWAIT, &to);
        }
    }
}
