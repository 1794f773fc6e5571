//! relay: seals and opens the records of TLS between two nodes, where the kernel does not.
//!
//! Given: `door` (the bus comes in, and brings connections whose handshake is over). Serves: `protocol::relay`. Calls: nobody. A single-threaded
//! poll loop. It knows the keys of records and nothing else: no node's key, no policy, no address, no message's meaning. What it carries, it
//! could read and change, as the bus that handed it over could.
#![forbid(unsafe_code)]

mod connection;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod record;
#[cfg(test)]
mod tests;

use connection::{CHUNK_BYTES, Connection};
use protocol::Channel;
use protocol::bus::{Accept, Door};
use protocol::channel::ReceiveBuffer;
use protocol::relay::{RELAYED_MAX, Relay, Relayed};
use protocol::start::{HEARTBEAT_MS, Order};
use protocol::trace::Side;
use protocol::wire::Conversation;
use runtime::{Given, Supervisor, trace};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::fmt;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Why the relay ends.
#[derive(Debug)]
pub enum Error {
    /// It was not packed as its manifest says, or its supervisor or the bus has gone.
    Runtime(runtime::Error),
    /// poll(2) failed.
    Poll(Errno),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => error.fmt(f),
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

/// Takes the door, closes the door behind the start, carries until its supervisor says stop or the bus hangs up.
pub fn run(mut given: Given) -> Result<(), Error> {
    let door = given.channel("door")?;
    let supervisor = given.finish()?;
    supervisor.ready("")?;
    let carrier = Carrier {
        door,
        bus: None,
        connections: Vec::new(),
    };
    carrier.serve(&supervisor)
}

struct Carrier {
    door: Channel,
    /// The bus's own connection, by which the others are brought.
    bus: Option<Channel>,
    connections: Vec<Connection>,
}

impl Carrier {
    fn serve(mut self, supervisor: &Supervisor) -> Result<(), Error> {
        let mut buffer = ReceiveBuffer::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut beat = Instant::now();
        loop {
            if beat <= Instant::now() {
                supervisor.alive()?;
                beat = Instant::now() + Duration::from_millis(HEARTBEAT_MS);
            }
            let awake = self.wait(supervisor, beat)?;
            while let Some((order, _)) = supervisor.order(&mut buffer)? {
                if order == Order::Stop {
                    return Ok(());
                }
            }
            self.carry(&awake, &mut chunk);
            self.let_in(&mut buffer)?;
            self.take_over(&mut buffer);
        }
    }

    /// Sleeps until something happens; which of the connections it has happened to.
    fn wait(&self, supervisor: &Supervisor, beat: Instant) -> Result<Vec<bool>, Error> {
        let asked = [supervisor.as_fd(), self.door.as_fd()]
            .into_iter()
            .chain(self.bus.iter().map(AsFd::as_fd))
            .map(|one| PollFd::from_borrowed_fd(one, PollFlags::IN));
        let mut set: Vec<PollFd<'_>> = asked.collect();
        let before = set.len();
        let mut owners = Vec::new();
        for (number, one) in self.connections.iter().enumerate() {
            set.extend(one.poll_set());
            owners.resize(set.len() - before, number);
        }
        let deadlines = self.connections.iter().filter_map(Connection::deadline);
        runtime::wait_on(&mut set, deadlines.fold(beat, Instant::min)).map_err(Error::Poll)?;
        let now = Instant::now();
        let late = |one: &Connection| one.deadline().is_some_and(|until| until <= now);
        let mut awake: Vec<bool> = self.connections.iter().map(late).collect();
        for (one, owner) in set.iter().skip(before).zip(owners) {
            if let (Some(awake), false) = (awake.get_mut(owner), one.revents().is_empty()) {
                *awake = true;
            }
        }
        Ok(awake)
    }

    /// The bus comes in by the door, and nobody else.
    fn let_in(&mut self, buffer: &mut ReceiveBuffer) -> Result<(), Error> {
        loop {
            let accept = self
                .door
                .receive_message::<Door, Accept>(buffer, RecvFlags::DONTWAIT);
            match accept {
                Ok(None) => return Err(runtime::Error::HungUp.into()),
                Ok(Some((accept, mut descriptors))) => {
                    if accept.client == "bus" && accept.conversation == Relay::NAME {
                        self.bus = descriptors.pop().map(Channel::from);
                    }
                }
                Err(error) if error.would_block() => return Ok(()),
                Err(error) => return Err(runtime::Error::Channel(error).into()),
            }
        }
    }

    /// New connections from the bus.
    fn take_over(&mut self, buffer: &mut ReceiveBuffer) {
        while let Some(bus) = &self.bus {
            let relayed = bus.receive_message::<Relay, Relayed>(buffer, RecvFlags::DONTWAIT);
            let (relayed, descriptors) = match relayed {
                Ok(Some(relayed)) => relayed,
                Err(error) if error.would_block() => return,
                Ok(None) | Err(_) => {
                    self.bus = None;
                    return;
                }
            };
            trace::begin(Side::Served, Relay::NAME, Relay::kind(&relayed)).over(2, 0);
            let about = relayed.about.clone();
            let full = self.connections.len() >= RELAYED_MAX;
            let ends: Result<[_; 2], _> = descriptors.try_into();
            let connection = match ends {
                Ok([wire, service]) if !full => Connection::new(relayed, wire, service),
                _ => None,
            };
            match connection {
                Some(connection) => self.connections.push(connection),
                None => runtime::error!(
                    "{about}: not taken over: {} connections are carried",
                    self.connections.len()
                ),
            }
        }
    }

    fn carry(&mut self, awake: &[bool], chunk: &mut [u8]) {
        let now = Instant::now();
        let mut awake = awake.iter();
        self.connections.retain_mut(|one| {
            if awake.next() != Some(&true) {
                return true;
            }
            match one.turn(chunk, now) {
                Ok(over) => !over,
                Err(error) => {
                    runtime::warn!("{}: {error}; cut", one.about);
                    false
                }
            }
        });
    }
}
