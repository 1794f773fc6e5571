//! clock: sets the machine's clock by SNTP, at once at the start and gently later.
//!
//! Given: `ntp` (a UDP socket). Serves and calls nobody. The only process beside init that keeps CAP_SYS_TIME, and the only one whose filter lets it
//! use that. It works without a network, too: then the clock is what the hardware says. Absent: names of servers, authentication (NTS).
#![deny(unsafe_code)]

#[cfg(feature = "fuzz")]
pub mod fuzz;
mod sntp;
mod sys;

use protocol::channel::ReceiveBuffer;
use protocol::start::{HEARTBEAT_MS, Order};
use runtime::{Given, Supervisor};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recvfrom, sendto};
use rustix::rand::{GetRandomFlags, getrandom};
use sntp::{Correction, MESSAGE_BYTES, Sample};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Servers are given so long to answer.
const ROUND: Duration = Duration::from_secs(2);
/// So many datagrams are read in one turn, so that a flood cannot keep heartbeats waiting.
const DATAGRAMS_PER_TURN_MAX: usize = 64;

/// Why the clock service ends.
#[derive(Debug)]
pub enum Error {
    /// It was not packed as its manifest says, or its supervisor has gone.
    Runtime(runtime::Error),
    /// No randomness.
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

/// Takes the socket and asks the servers until its supervisor says stop.
pub fn run(mut given: Given) -> Result<(), Error> {
    let socket = given.descriptor("ntp")?;
    let text = given.setting("servers")?;
    let servers: Result<Vec<SocketAddr>, _> = text.split_whitespace().map(str::parse).collect();
    let servers = servers.map_err(|_| runtime::Error::Setting("servers".into(), text))?;
    let supervisor = given.finish()?;
    supervisor.ready("")?;
    let clock = Clock {
        socket,
        servers,
        round: None,
        next: Instant::now(),
        is_set: false,
        failed: 0,
        before: None,
    };
    clock.serve(&supervisor)
}

/// The servers were asked and may still answer.
struct Round {
    until: Instant,
    asked: Vec<Asked>,
}

struct Asked {
    server: SocketAddr,
    cookie: u64,
    sent: sntp::Instant,
    sample: Option<Sample>,
}

struct Clock {
    socket: OwnedFd,
    servers: Vec<SocketAddr>,
    round: Option<Round>,
    next: Instant,
    is_set: bool,
    /// Rounds without an agreement since the last one with.
    failed: u32,
    before: Option<i128>,
}

impl Clock {
    fn serve(mut self, supervisor: &Supervisor) -> Result<(), Error> {
        let mut buffer = ReceiveBuffer::new();
        let mut beat = Instant::now();
        loop {
            let now = Instant::now();
            if beat <= now {
                supervisor.alive()?;
                beat = now + Duration::from_millis(HEARTBEAT_MS);
            }
            self.wait(supervisor, beat)?;
            while let Some((order, _)) = supervisor.order(&mut buffer)? {
                if order == Order::Stop {
                    return Ok(());
                }
            }
            self.listen();
            self.turn(Instant::now())?;
        }
    }

    fn wait(&self, supervisor: &Supervisor, beat: Instant) -> Result<(), Error> {
        let descriptors = [supervisor.as_fd(), self.socket.as_fd()];
        let due = self.round.as_ref().map_or(self.next, |round| round.until);
        runtime::wait(descriptors, due.min(beat)).map_err(Error::Poll)
    }

    fn turn(&mut self, now: Instant) -> Result<(), Error> {
        match &self.round {
            Some(round) => {
                let all_answered = round.asked.iter().all(|one| one.sample.is_some());
                if all_answered || round.until <= now {
                    self.judge(now);
                }
            }
            None if self.next <= now && !self.servers.is_empty() => self.ask(now)?,
            None => {}
        }
        Ok(())
    }

    fn ask(&mut self, now: Instant) -> Result<(), Error> {
        let mut asked = Vec::new();
        for server in &self.servers {
            let mut cookie = [0; 8];
            getrandom(&mut cookie, GetRandomFlags::empty()).map_err(Error::Random)?;
            let cookie = u64::from_ne_bytes(cookie);
            let question = sntp::question(cookie);
            let sent = present();
            // Without a network, or without this protocol, it cannot be sent: this server says nothing then.
            let to = over_v6(*server);
            if sendto(&self.socket, &question, SendFlags::DONTWAIT, &to).is_ok() {
                asked.push(Asked {
                    server: *server,
                    cookie,
                    sent,
                    sample: None,
                });
            }
        }
        self.round = Some(Round {
            until: now + ROUND,
            asked,
        });
        Ok(())
    }

    fn listen(&mut self) {
        let mut datagram = [0; MESSAGE_BYTES + 1];
        for _ in 0..DATAGRAMS_PER_TURN_MAX {
            let received = recvfrom(&self.socket, &mut datagram, RecvFlags::DONTWAIT);
            let Ok((count, _, from)) = received else {
                return;
            };
            let at = present();
            let from = from.and_then(|from| SocketAddr::try_from(from).ok());
            let (Some(round), Some(from)) = (&mut self.round, from) else {
                continue;
            };
            let asked = round.asked.iter_mut();
            let mut asked = asked.filter(|one| over_v6(one.server) == from);
            if let Some(asked) = asked.find(|one| one.sample.is_none()) {
                let bytes = datagram.get(..count).unwrap_or_default();
                asked.sample = sntp::understand(bytes, asked.cookie, asked.sent, at);
            }
        }
    }

    /// The round is over: what do the servers agree on?
    fn judge(&mut self, now: Instant) {
        let round = self.round.take();
        let asked = round.map(|round| round.asked).unwrap_or_default();
        let samples: Vec<Sample> = asked.iter().filter_map(|one| one.sample).collect();
        match sntp::agree(&samples) {
            Some(offset) => {
                self.failed = 0;
                self.correct(offset);
            }
            None => {
                self.failed += 1;
                // Before there is a network, nothing could be asked.
                if !asked.is_empty() && (self.failed <= 1 || !samples.is_empty()) {
                    let (heard, all) = (samples.len(), self.servers.len());
                    runtime::warn!(
                        "{heard} of {all} time servers answered, and no majority agrees; the clock stays as it is"
                    );
                }
            }
        }
        self.next = now + sntp::pause(self.is_set, self.failed);
    }

    fn correct(&mut self, offset: i128) {
        let seconds = offset as f64 / 1e9;
        let result = match sntp::correction(offset, self.before, self.is_set) {
            Correction::Step => {
                let result = sys::step(offset);
                runtime::info!("the clock was {seconds:.3} s behind and is set");
                self.is_set = true;
                self.before = Some(0);
                result
            }
            Correction::Slew => {
                self.before = Some(offset);
                sys::slew(offset)
            }
            Correction::Doubt => {
                runtime::warn!(
                    "the time servers are {seconds:.3} s ahead: believed only if they say so again"
                );
                self.before = Some(offset);
                self.failed = 1;
                Ok(())
            }
        };
        if let Err(errno) = result {
            runtime::error!("the clock cannot be set: {errno}");
        }
    }
}

/// Our clock, in nanoseconds since 1970.
fn present() -> sntp::Instant {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    }
}

/// The socket is of IPv6, and speaks IPv4 under mapped addresses (ipv6(7)).
fn over_v6(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}
