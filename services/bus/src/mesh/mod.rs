//! Other nodes' buses: who comes in, who is dialled, and what is under way between a TCP connection and the moment it is handed on.
//!
//! A state machine on sockets that never wait: [`Mesh::turn`] moves everything on and says what has come of it. It decides nothing about rights; the
//! switchboard is asked. What is under way is bounded in number, per address, in bytes and in time, so that whoever comes without a key, or
//! with one and slowly, takes no place from the members.

mod guests;
mod identity;
mod kernel;
mod session;
#[cfg(test)]
mod tests;

pub(crate) use guests::{Arrival, Verdict};
pub(crate) use identity::Identity;
pub(crate) use kernel::{Records, take_over};
pub(crate) use session::Keys;

use crate::sockets;
use guests::Guests;
use protocol::bus::{BusError, REASON_BYTES_MAX};
use protocol::cluster::{NodeKey, Roster};
use protocol::mesh::OpenRemote;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use session::Session;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The most nodes and addresses whose last trouble is remembered, so that it is not logged again.
const COMPLAINTS_MAX: usize = 256;
/// So many lines about strangers are logged in such a time; whoever makes up keys or addresses fills no log.
const STRANGE_LINES_MAX: u32 = 20;
const STRANGE_LINES_EVERY: Duration = Duration::from_secs(60);

/// Why a session between two buses came to nothing.
#[derive(Debug)]
pub(crate) enum MeshError {
    /// The seed is not a key's.
    NoKey,
    /// The connection failed.
    Socket(Errno),
    /// The peer hung up.
    Ended,
    /// The handshake failed: wrong version, wrong key, wrong bytes.
    Tls(rustls::Error),
    /// Not a message, or more than one, or too many bytes.
    Nonsense,
    /// Not in time: within [`protocol::bus::REACH_WITHIN_MS`], or less.
    Late,
    /// The roster has no address that one could connect to.
    Address(String),
}

impl fmt::Display for MeshError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use rustls::{CertificateError::ApplicationVerificationFailure, Error::InvalidCertificate};
        match self {
            Self::NoKey => write!(f, "not a key"),
            Self::Socket(errno) => write!(f, "{errno}"),
            Self::Ended => write!(f, "it hung up"),
            Self::Tls(InvalidCertificate(ApplicationVerificationFailure)) => {
                write!(
                    f,
                    "another node answers there: its key is not the expected one"
                )
            }
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::Nonsense => write!(f, "what came is not of this protocol"),
            Self::Late => write!(f, "no answer in time"),
            Self::Address(address) => write!(f, "{address:?} is not ip:port"),
        }
    }
}

impl From<rustls::Error> for MeshError {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

/// Whom a connection is dialled for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A service of this node, for its call of this number. `until`: it calls a placed service, which may be looked for on other nodes so long.
    Service {
        client: String,
        id: u32,
        until: Option<Instant>,
    },
    /// This node itself, which wants to belong.
    Join,
}

impl Purpose {
    /// Whether there may be another node to ask.
    pub(crate) fn looks_further(&self) -> bool {
        matches!(self, Self::Service { until: Some(_), .. })
    }
}

/// What came of a dialled connection.
pub(crate) struct Dialled {
    pub(crate) purpose: Purpose,
    /// The other node: its name, or how else people know it.
    pub(crate) node: String,
    pub(crate) key: NodeKey,
    pub(crate) open: OpenRemote,
    pub(crate) result: Result<(OwnedFd, Keys), BusError>,
}

/// A connection that this bus has begun.
struct Call {
    purpose: Purpose,
    node: String,
    address: SocketAddr,
    key: NodeKey,
    open: OpenRemote,
    state: State,
    until: Instant,
}

enum State {
    /// TCP is under way.
    Connecting(OwnedFd),
    /// The question waits until the handshake is over, the answer until it comes.
    Speaking(Box<Session>),
}

/// All that is under way between this bus and others.
pub(crate) struct Mesh {
    identity: Identity,
    roster: Option<Roster>,
    guests: Guests,
    calls: Vec<Call>,
    complaints: BTreeMap<String, String>,
    /// Since when, and how many lines about strangers were logged or not.
    strange: (Instant, u32),
}

impl Mesh {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            identity,
            roster: None,
            guests: Guests::default(),
            calls: Vec::new(),
            complaints: BTreeMap::new(),
            strange: (Instant::now(), 0),
        }
    }

    /// Whose keys count, as far as this bus knows.
    pub(crate) fn roster(&self) -> Option<&Roster> {
        self.roster.as_ref()
    }

    /// The version of the roster; 0: none.
    pub(crate) fn version(&self) -> u64 {
        self.roster.as_ref().map_or(0, |roster| roster.version)
    }

    /// Takes a newer roster. Who has been told yes and is not gone yet is judged again; calls to nodes that do not belong any more end.
    pub(crate) fn learn(&mut self, roster: Roster) {
        self.guests.judge_again();
        self.roster = Some(roster);
    }

    /// Begins a connection to the node at `address` that has this key, and gives it up at `until`. What comes of it is told by [`Mesh::turn`]; at once
    /// only if it is over already.
    pub(crate) fn dial(
        &mut self,
        purpose: Purpose,
        node: String,
        address: &str,
        key: NodeKey,
        open: OpenRemote,
        until: Instant,
    ) -> Option<Dialled> {
        let begun = match address.parse() {
            Ok(at) => sockets::dial(at)
                .map(|socket| (at, socket))
                .map_err(MeshError::Socket),
            Err(_) => Err(MeshError::Address(address.into())),
        };
        match begun {
            Ok((address, socket)) => {
                self.calls.push(Call {
                    purpose,
                    node,
                    address,
                    key,
                    open,
                    state: State::Connecting(socket),
                    until,
                });
                None
            }
            Err(error) => Some(self.unreachable(purpose, node, address, key, open, &error)),
        }
    }

    fn unreachable(
        &mut self,
        purpose: Purpose,
        node: String,
        address: &str,
        key: NodeKey,
        open: OpenRemote,
        error: &MeshError,
    ) -> Dialled {
        let mut why = format!("{node} at {address}: {error}");
        self.complain(&format!("node {node}"), &why);
        while why.len() > REASON_BYTES_MAX {
            why.pop();
        }
        Dialled {
            purpose,
            node,
            key,
            open,
            result: Err(BusError::Unreachable(why)),
        }
    }

    /// Logs `why` about `whom`, unless that was the last that was said about it.
    pub(crate) fn complain(&mut self, whom: &str, why: &str) {
        if self.complaints.get(whom).is_some_and(|last| last == why) {
            return;
        }
        if self.complaints.len() >= COMPLAINTS_MAX {
            self.complaints.clear();
        }
        self.complaints.insert(whom.into(), why.into());
        runtime::warn!("{why}");
    }

    /// The same about somebody who is no member, or not known to be one.
    pub(crate) fn complain_of_stranger(&mut self, whom: &str, why: &str) {
        let (since, lines) = &mut self.strange;
        if since.elapsed() >= STRANGE_LINES_EVERY {
            let left_out = lines.saturating_sub(STRANGE_LINES_MAX);
            (*since, *lines) = (Instant::now(), 0);
            if left_out > 0 {
                runtime::warn!("{left_out} more troubles with strangers were not logged");
            }
        }
        *lines = lines.saturating_add(1);
        if *lines <= STRANGE_LINES_MAX {
            self.complain(whom, why);
        }
    }

    /// All is well with `whom`; said if it was not.
    fn content(&mut self, whom: &str) {
        if self.complaints.remove(whom).is_some() {
            runtime::info!("{whom} answers again");
        }
    }

    /// How many connections are under way for `client`.
    pub(crate) fn under_way_for(&self, client: &str) -> usize {
        let of_it = |call: &&Call| matches!(&call.purpose, Purpose::Service { client: one, .. } if one == client);
        self.calls.iter().filter(of_it).count()
    }

    /// How many connections to a placed service are under way, to whichever nodes.
    pub(crate) fn under_way_to(&self, service: &str) -> usize {
        let to_it = |call: &&Call| call.purpose.looks_further() && call.open.service == service;
        self.calls.iter().filter(to_it).count()
    }

    /// Gives up what is under way to placed services on nodes where they do not run any more, and says whom it was for: the client's call, and what it
    /// asked for.
    pub(crate) fn take_back(
        &mut self,
        runs: impl Fn(&str, &str) -> bool,
    ) -> Vec<(Purpose, OpenRemote)> {
        let in_vain =
            |call: &mut Call| call.purpose.looks_further() && !runs(&call.open.service, &call.node);
        let taken = self.calls.extract_if(.., in_vain);
        taken.map(|call| (call.purpose, call.open)).collect()
    }

    /// Whether this node is being connected to the one whose token it has.
    pub(crate) fn is_joining(&self) -> bool {
        self.calls.iter().any(|call| call.purpose == Purpose::Join)
    }

    /// Nobody waits any more for what was dialled for `client`.
    pub(crate) fn forget(&mut self, client: &str) {
        self.calls.retain(
            |call| !matches!(&call.purpose, Purpose::Service { client: one, .. } if one == client),
        );
    }

    /// Lets in who waits at `listener`, and moves on all that was dialled.
    pub(crate) fn turn(&mut self, listener: BorrowedFd<'_>) -> Vec<Dialled> {
        let now = Instant::now();
        let known = |address: &IpAddr| {
            let roster = self.roster.as_ref();
            let mut members = roster.into_iter().flat_map(Roster::members);
            members.any(|node| {
                node.mesh
                    .parse()
                    .is_ok_and(|at: SocketAddr| at.ip() == *address)
            })
        };
        let troubles = self.guests.let_in(listener, &self.identity, known, now);
        for (address, why) in troubles {
            self.complain_of_stranger(&format!("address {address}"), &why);
        }
        let mut over = Vec::new();
        for mut call in std::mem::take(&mut self.calls) {
            let member = self.roster.as_ref().and_then(|all| all.member(&call.key));
            if call.purpose != Purpose::Join && member.is_none() {
                over.push(call.over(Err(BusError::NoSuchNode)));
                continue;
            }
            match call.turn(&self.identity, now) {
                Ok(None) => self.calls.push(call),
                Ok(Some(answer)) => {
                    self.content(&format!("node {}", call.node));
                    over.push(call.over(answer));
                }
                Err(error) => over.push(self.failed(call, &error)),
            }
        }
        over
    }

    fn failed(&mut self, call: Call, error: &MeshError) -> Dialled {
        let address = call.address.to_string();
        let Call {
            purpose,
            node,
            key,
            open,
            ..
        } = call;
        self.unreachable(purpose, node, &address, key, open, error)
    }

    /// Has `verdict` judge whoever has said what it wants, and gives those who are to be brought to a service.
    pub(crate) fn arrivals(
        &mut self,
        verdict: impl FnMut(&NodeKey, Option<&Roster>, &OpenRemote) -> Verdict,
    ) -> Vec<Arrival> {
        let now = Instant::now();
        let (arrivals, troubles) = self.guests.turn(self.roster.as_ref(), verdict, now);
        for (address, why) in troubles {
            self.complain_of_stranger(&format!("address {address}"), &why);
        }
        arrivals
    }

    /// What is to be polled, the listener included while there is room for guests.
    pub(crate) fn poll_set<'a>(
        &'a self,
        listener: BorrowedFd<'a>,
    ) -> impl Iterator<Item = PollFd<'a>> {
        let calls = self.calls.iter().map(|call| match &call.state {
            State::Connecting(socket) => PollFd::new(socket, PollFlags::OUT),
            State::Speaking(session) => PollFd::from_borrowed_fd(session.as_fd(), session.wants()),
        });
        self.guests.poll_set(listener).chain(calls)
    }

    /// When something is given up, if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let calls = self.calls.iter().map(|call| call.until);
        calls.chain(self.guests.deadline()).min()
    }
}

impl Call {
    /// The other bus's answer, when it is there.
    fn turn(
        &mut self,
        identity: &Identity,
        now: Instant,
    ) -> Result<Option<Result<(), BusError>>, MeshError> {
        if let State::Connecting(socket) = &self.state
            && sockets::is_connected(socket.as_fd()).map_err(MeshError::Socket)?
        {
            let socket = rustix::io::fcntl_dupfd_cloexec(socket, 0).map_err(MeshError::Socket)?;
            let mut session = Session::new(socket, identity.dial(self.key)?);
            session.say(&self.open)?;
            self.state = State::Speaking(Box::new(session));
        }
        let answer = match &mut self.state {
            State::Connecting(_) => None,
            State::Speaking(session) => session.hear()?,
        };
        if answer.is_none() && self.until <= now {
            return Err(MeshError::Late);
        }
        Ok(answer)
    }

    fn over(self, answer: Result<(), BusError>) -> Dialled {
        let result = match (answer, self.state) {
            (Err(refused), _) => Err(refused),
            (Ok(()), State::Speaking(session)) => session
                .into_keys()
                .map_err(|error| BusError::Unreachable(format!("{}: {error}", self.node))),
            (Ok(()), State::Connecting(_)) => Err(BusError::Unavailable),
        };
        Dialled {
            purpose: self.purpose,
            node: self.node,
            key: self.key,
            open: self.open,
            result,
        }
    }
}
