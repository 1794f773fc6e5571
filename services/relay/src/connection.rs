//! One relayed connection: what comes out of one socket goes, sealed or opened, into the other, until both directions have ended.
//!
//! A direction takes in nothing new while something of it has not gone out: so a slow reader slows its writer, and a connection holds a bounded
//! number of bytes.

use crate::record::{Error as RecordError, Opened, Opener, Sealer};
use protocol::relay::Relayed;
use runtime::{receive_some, send_some};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Read at a time, in bytes.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;
/// How long the other node may take to end its direction when the service has gone.
const LINGER: Duration = Duration::from_secs(5);

/// Why a connection is ended before both of its ends have.
#[derive(Debug)]
pub(crate) enum Error {
    /// One of the sockets failed.
    Socket(Errno),
    /// The connection ended without saying so: what was to come may have been cut off.
    Cut,
    /// What came is not what the other end has sealed.
    Record(RecordError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(errno) => write!(f, "{errno}"),
            Self::Cut => write!(f, "it ended without saying so"),
            Self::Record(error) => error.fmt(f),
        }
    }
}

impl From<RecordError> for Error {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

/// How far a direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Bytes come.
    Open,
    /// Its source has ended; what is left goes out.
    Draining,
    /// All has gone out, and the sink knows that nothing more comes.
    Over,
}

/// A TCP connection and the end of a socket pair that belongs to it.
pub(crate) struct Connection {
    /// Whose it is, for the log.
    pub(crate) about: String,
    wire: OwnedFd,
    service: OwnedFd,
    sealer: Sealer,
    opener: Opener,
    /// From the service to the wire: sealed, not yet sent.
    outgoing: Vec<u8>,
    outward: Stage,
    /// From the wire: not yet a whole record.
    record: Vec<u8>,
    /// To the service: opened, not yet sent.
    incoming: Vec<u8>,
    inward: Stage,
    /// The service reads no more: what comes is thrown away until the other node has ended, or until then.
    gone: Option<Instant>,
}

impl Connection {
    /// `None` if the keys are none.
    pub(crate) fn new(relayed: Relayed, wire: OwnedFd, service: OwnedFd) -> Option<Self> {
        Some(Self {
            about: relayed.about,
            wire,
            service,
            sealer: Sealer::new(&relayed.seal)?,
            opener: Opener::new(&relayed.open)?,
            outgoing: Vec::new(),
            outward: Stage::Open,
            record: Vec::new(),
            incoming: Vec::new(),
            inward: Stage::Open,
            gone: None,
        })
    }

    /// Moves both directions on as far as they go without waiting; whether the connection is over. `chunk` is space for what is read.
    pub(crate) fn turn(&mut self, chunk: &mut [u8], now: Instant) -> Result<bool, Error> {
        self.outwards(chunk)?;
        if self.outward == Stage::Over && self.gone.is_none() && hung_up(self.service.as_fd()) {
            self.gone = Some(now + LINGER);
        }
        self.inwards(chunk, now)?;
        let late = self.gone.is_some_and(|until| until <= now);
        Ok(self.outward == Stage::Over && (self.inward == Stage::Over || late))
    }

    fn outwards(&mut self, chunk: &mut [u8]) -> Result<(), Error> {
        loop {
            if !send_all(self.wire.as_fd(), &mut self.outgoing).map_err(Error::Socket)? {
                return Ok(());
            }
            match self.outward {
                Stage::Open => {}
                Stage::Draining => {
                    self.outward = Stage::Over;
                    // The peer may have gone already.
                    let _ = shutdown(&self.wire, Shutdown::Write);
                    return Ok(());
                }
                Stage::Over => return Ok(()),
            }
            let (count, _) = match receive_some(self.service.as_fd(), chunk) {
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::CONNRESET) => (0, false),
                other => other.map_err(Error::Socket)?,
            };
            if count == 0 {
                self.sealer.close(&mut self.outgoing)?;
                self.outward = Stage::Draining;
            }
            let plain = chunk.get(..count).unwrap_or_default();
            self.sealer.seal(plain, &mut self.outgoing)?;
        }
    }

    fn inwards(&mut self, chunk: &mut [u8], now: Instant) -> Result<(), Error> {
        loop {
            match send_all(self.service.as_fd(), &mut self.incoming) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    self.incoming = Vec::new();
                    self.gone.get_or_insert(now + LINGER);
                }
                Err(errno) => return Err(Error::Socket(errno)),
            }
            match self.inward {
                Stage::Open => {}
                Stage::Draining => {
                    self.inward = Stage::Over;
                    let _ = shutdown(&self.service, Shutdown::Write);
                    return Ok(());
                }
                Stage::Over => return Ok(()),
            }
            let count = match receive_some(self.wire.as_fd(), chunk) {
                Err(Errno::AGAIN) => return Ok(()),
                // Nobody is there any more who could miss something.
                Ok((0, _)) | Err(_) if self.gone.is_some() => {
                    self.inward = Stage::Over;
                    return Ok(());
                }
                Ok((0, _)) => return Err(Error::Cut),
                Ok((count, _)) => count,
                Err(errno) => return Err(Error::Socket(errno)),
            };
            self.record
                .extend_from_slice(chunk.get(..count).unwrap_or_default());
            let opened = self.open_records();
            if opened.is_err() {
                // What came before is the other end's, and goes if it goes at once.
                let _ = send_all(self.service.as_fd(), &mut self.incoming);
            }
            opened?;
        }
    }

    /// Opens what has come of whole records.
    fn open_records(&mut self) -> Result<(), Error> {
        let mut taken = 0;
        while let Some(rest) = self.record.get_mut(taken..)
            && let Some((opened, count)) = self.opener.open(rest)?
        {
            taken += count;
            match opened {
                Opened::Data(plain) => self.incoming.extend_from_slice(plain),
                Opened::Closed => {
                    self.inward = Stage::Draining;
                    break;
                }
            }
        }
        self.record.drain(..taken);
        if self.record.is_empty() {
            self.record = Vec::new(); // an idle connection keeps no buffer
        }
        Ok(())
    }

    /// What it waits for. A socket on which it waits for nothing is not polled, or its hang-up would be told again and again.
    pub(crate) fn poll_set(&self) -> impl Iterator<Item = PollFd<'_>> {
        let reads = |stage: Stage, queue: &[u8]| match (stage, queue) {
            (Stage::Open, []) => PollFlags::IN,
            _ => PollFlags::empty(),
        };
        let writes = |queue: &[u8]| match queue {
            [] => PollFlags::empty(),
            _ => PollFlags::OUT,
        };
        let wire = reads(self.inward, &self.incoming) | writes(&self.outgoing);
        let service = reads(self.outward, &self.outgoing) | writes(&self.incoming);
        let service_may_go = self.outward == Stage::Over && self.gone.is_none();
        let wire = (!wire.is_empty()).then(|| PollFd::from_borrowed_fd(self.wire.as_fd(), wire));
        let service = (!service.is_empty() || service_may_go)
            .then(|| PollFd::from_borrowed_fd(self.service.as_fd(), service));
        wire.into_iter().chain(service)
    }

    /// When it is given up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.gone
    }

    /// Ends both sides for every holder.
    pub(crate) fn cut(&self) {
        let _ = shutdown(&self.wire, Shutdown::Both);
        let _ = shutdown(&self.service, Shutdown::Both);
    }
}

impl Drop for Connection {
    /// The bus holds duplicates.
    fn drop(&mut self) {
        self.cut();
    }
}

/// Whether nobody holds the other end any more.
fn hung_up(socket: BorrowedFd<'_>) -> bool {
    let mut set = [PollFd::from_borrowed_fd(socket, PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut set, Some(&now)).is_ok()
        && set.iter().any(|one| one.revents().contains(PollFlags::HUP))
}

/// Sends what goes; true when nothing is left.
fn send_all(socket: BorrowedFd<'_>, bytes: &mut Vec<u8>) -> Result<bool, Errno> {
    let mut sent = 0;
    let result = loop {
        let rest = bytes.get(sent..).unwrap_or_default();
        if rest.is_empty() {
            break Ok(true);
        }
        match send_some(socket, &[rest]) {
            Ok(count) => sent += count,
            Err(Errno::AGAIN) => break Ok(false),
            Err(errno) => break Err(errno),
        }
    };
    bytes.drain(..sent);
    if bytes.is_empty() {
        *bytes = Vec::new(); // an idle connection keeps no buffer
    }
    result
}
