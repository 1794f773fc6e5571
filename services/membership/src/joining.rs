//! Joining: a node with an invitation asks to be admitted, over a stream that the bus brings, and is told the roster or why not.
//!
//! The bus is told whom it has to bring; it does not say when it cannot, so after each try the next waits longer. A try that succeeded but
//! whose answer was lost is repeated without harm.

use protocol::channel::MessageError;
use protocol::cluster::{
    Admission, AdmissionCall, AdmissionError, GossipKey, NodeEntry, NodeKey, Roster,
};
use protocol::membership::MembershipAnswer;
use protocol::token::Token;
use protocol::wire::{Conversation, Numbered};
use runtime::Stream;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// After the first try so long, then twice as long each time.
const WAIT_FIRST: Duration = Duration::from_secs(2);
/// The longest wait while nothing but the way is in between.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// After a refusal that a person has to do something about.
const WAIT_REFUSED: Duration = Duration::from_secs(5 * 60);
/// How long the other node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Why a try came to nothing.
#[derive(Debug)]
enum Failure {
    /// The stream would not take or give a message, or what came is none.
    Stream(MessageError),
    /// The other node closed it before it had answered.
    Ended,
    /// No answer within [`ANSWER_WITHIN`].
    Late,
    /// The other node says no.
    Refused(AdmissionError),
    /// It says yes, with a roster that cannot be true.
    Odd(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(error) => write!(f, "the connection failed: {error}"),
            Self::Ended => write!(f, "the other node hung up before it had answered"),
            Self::Late => write!(
                f,
                "the other node has not answered within {} s",
                ANSWER_WITHIN.as_secs()
            ),
            Self::Refused(error) => error.fmt(f),
            Self::Odd(why) => write!(f, "the answer is not to be believed: {why}"),
        }
    }
}

impl Failure {
    /// Whether trying again soon is of use.
    fn may_pass(&self) -> bool {
        match self {
            Self::Refused(error) => matches!(error, AdmissionError::Unavailable(_)),
            Self::Odd(_) => false,
            _ => true,
        }
    }
}

/// A node that wants to belong.
pub(crate) struct Joining {
    token: Token,
    /// The next try, and how long to wait after that.
    next: Instant,
    wait: Duration,
    asking: Option<Asking>,
}

/// One try.
struct Asking {
    stream: Stream,
    until: Instant,
}

impl Joining {
    pub(crate) fn new(token: Token, now: Instant) -> Self {
        runtime::info!(
            "this node wants to join the cluster {} by the node at {}",
            token.cluster,
            token.mesh
        );
        Self {
            token,
            next: now,
            wait: WAIT_FIRST,
            asking: None,
        }
    }

    /// Whom the bus has to bring, if it is time for a try.
    pub(crate) fn wanting(&mut self, now: Instant) -> Option<MembershipAnswer> {
        if self.asking.is_some() || now < self.next {
            return None;
        }
        self.put_off(now);
        Some(MembershipAnswer::Wanting {
            mesh: self.token.mesh.to_string(),
            key: self.token.key,
        })
    }

    fn put_off(&mut self, now: Instant) {
        self.next = now + self.wait;
        self.wait = (self.wait * 2).min(WAIT_MAX);
    }

    /// The stream has come: asks over it for `own` to be admitted.
    pub(crate) fn ask(&mut self, stream: OwnedFd, own: NodeEntry, now: Instant) {
        let call = Numbered {
            id: 0,
            body: AdmissionCall::Join {
                cluster: self.token.cluster,
                secret: self.token.secret,
                node: own,
            },
        };
        let stream = Stream::new(stream);
        match stream.send_message::<Admission>(&call) {
            Ok(()) => {
                let until = now + ANSWER_WITHIN;
                self.asking = Some(Asking { stream, until });
            }
            Err(error) => self.failed(&Failure::Stream(error), now),
        }
    }

    /// What to wait for.
    pub(crate) fn interest(&self) -> Option<PollFd<'_>> {
        let asking = self.asking.as_ref()?;
        let events = match asking.stream.is_sending() {
            true => PollFlags::IN | PollFlags::OUT,
            false => PollFlags::IN,
        };
        Some(PollFd::from_borrowed_fd(asking.stream.as_fd(), events))
    }

    /// Until when.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.asking.as_ref().map(|asking| asking.until)
    }

    /// Sends and reads what goes without waiting. The roster with this node in it, whose keys are `own`, once it is admitted.
    pub(crate) fn turn(&mut self, own: (NodeKey, GossipKey), now: Instant) -> Option<Roster> {
        let asking = self.asking.as_mut()?;
        let answer = match asking.turn() {
            Ok(None) if now < asking.until => return None,
            Ok(None) => Err(Failure::Late),
            Ok(Some(Ok(roster))) => believed(roster, &self.token, own),
            Ok(Some(Err(error))) => Err(Failure::Refused(error)),
            Err(failure) => Err(failure),
        };
        self.asking = None;
        match answer {
            Ok(roster) => Some(roster),
            Err(failure) => {
                self.failed(&failure, now);
                None
            }
        }
    }

    fn failed(&mut self, failure: &Failure, now: Instant) {
        if failure.may_pass() {
            self.put_off(now);
        } else {
            (self.next, self.wait) = (now + WAIT_REFUSED, WAIT_REFUSED);
        }
        runtime::error!(
            "not admitted to the cluster by the node at {}: {failure}; the next try is in {} s",
            self.token.mesh,
            (self.next - now).as_secs()
        );
    }
}

/// The roster, if it is of the token's cluster and this node stands in it as it is.
fn believed(
    roster: Roster,
    token: &Token,
    (key, gossip_key): (NodeKey, GossipKey),
) -> Result<Roster, Failure> {
    if roster.cluster != token.cluster {
        return Err(Failure::Odd("it is of another cluster".into()));
    }
    if let Some(broken) = roster.broken_rule() {
        return Err(Failure::Odd(broken));
    }
    match roster.member(&key) {
        Some(entry) if entry.gossip_key == gossip_key => Ok(roster),
        _ => Err(Failure::Odd("this node is not in it".into())),
    }
}

impl Asking {
    fn turn(&mut self) -> Result<Option<<Admission as Conversation>::Answer>, Failure> {
        match self.stream.flush() {
            Ok(()) | Err(Errno::AGAIN) => {}
            Err(errno) => return Err(Failure::Stream(MessageError::Send(errno))),
        }
        match self.stream.receive_message::<Admission, Numbered<_>>() {
            Ok(Some(Numbered { body, .. })) => Ok(Some(body)),
            Ok(None) => Err(Failure::Ended),
            Err(error) if error.would_block() => Ok(None),
            Err(error) => Err(Failure::Stream(error)),
        }
    }
}
