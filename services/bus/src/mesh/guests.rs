//! Who comes in: from accept(2) to the answer, with the bounds that keep strangers from taking the members' places.

use super::session::{Keys, Session};
use super::{Identity, MeshError};
use crate::sockets;
use protocol::bus::{BusError, Origin, REACH_WITHIN_MS};
use protocol::cluster::{NodeKey, Roster};
use protocol::mesh::OpenRemote;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The most that are under way at a time.
const GUESTS_MAX: usize = 64;
/// Of one address.
const OF_ADDRESS_MAX: usize = 24;
/// Of all addresses together at which no member is.
const STRANGERS_MAX: usize = 16;
/// Of one address at which no member is.
const OF_STRANGE_ADDRESS_MAX: usize = 4;
/// So many are let in in a turn.
const ACCEPTED_PER_TURN_MAX: usize = 16;
/// How long a guest waits for a service that restarts; below [`REACH_WITHIN_MS`], so that it hears why.
const SERVICE_WITHIN: Duration = Duration::from_millis(REACH_WITHIN_MS * 6 / 10);

/// What a guest is told.
pub(crate) enum Verdict {
    /// It is where it says, and may.
    Yes(Origin),
    No(BusError),
    /// The service is not there at the moment.
    NotYet,
}

/// A guest that has been told yes: to be brought to the service that it wants.
pub(crate) struct Arrival {
    pub(crate) key: NodeKey,
    pub(crate) origin: Origin,
    pub(crate) open: OpenRemote,
    pub(crate) socket: OwnedFd,
    pub(crate) keys: Keys,
}

struct Guest {
    session: Session,
    address: IpAddr,
    /// No member was at its address when it came.
    strange: bool,
    stage: Stage,
    until: Instant,
}

enum Stage {
    /// Until the handshake is over and it has said what it wants.
    Speaking,
    /// Until it is judged.
    Asked {
        key: NodeKey,
        open: OpenRemote,
        patience: Instant,
    },
    /// Until the answer has gone; with a no, that is the end.
    Answered(Option<(NodeKey, Origin, OpenRemote)>),
}

/// What went wrong, and with whom.
type Troubles = Vec<(IpAddr, String)>;

#[derive(Default)]
pub(crate) struct Guests {
    all: Vec<Guest>,
}

impl Guests {
    /// Accepts who waits at the listener, as far as there is room.
    pub(super) fn let_in(
        &mut self,
        listener: BorrowedFd<'_>,
        identity: &Identity,
        is_known: impl Fn(&IpAddr) -> bool,
        now: Instant,
    ) -> Troubles {
        let mut troubles = Vec::new();
        for _ in 0..ACCEPTED_PER_TURN_MAX {
            if self.all.len() >= GUESTS_MAX {
                break;
            }
            let (socket, address) = match sockets::accept(listener) {
                Ok(accepted) => accepted,
                // One that gave up in between is not the last.
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(_) => break,
            };
            let strange = !is_known(&address);
            let tls = match self.has_room(&address, strange) {
                true => identity.accept(),
                false => {
                    let why = format!("{address}: too many connections without a key at a time");
                    troubles.push((address, why));
                    continue;
                }
            };
            match tls {
                Ok(tls) => self.all.push(Guest {
                    session: Session::new(socket, tls),
                    address,
                    strange,
                    stage: Stage::Speaking,
                    until: now + Duration::from_millis(REACH_WITHIN_MS),
                }),
                Err(error) => troubles.push((address, format!("{address}: {error}"))),
            }
        }
        troubles
    }

    fn has_room(&self, address: &IpAddr, strange: bool) -> bool {
        let of_address = self.all.iter().filter(|guest| guest.address == *address);
        let strangers = self.all.iter().filter(|guest| guest.strange);
        match strange {
            true => {
                of_address.count() < OF_STRANGE_ADDRESS_MAX && strangers.count() < STRANGERS_MAX
            }
            false => of_address.count() < OF_ADDRESS_MAX,
        }
    }

    /// The roster has changed: who has been told yes and is not gone yet has to ask again.
    pub(super) fn judge_again(&mut self) {
        let told_yes = |guest: &Guest| matches!(guest.stage, Stage::Answered(Some(_)));
        self.all.retain(|guest| !told_yes(guest));
    }

    /// Moves all on; `verdict` says what becomes of those who have said what they want.
    pub(super) fn turn(
        &mut self,
        roster: Option<&Roster>,
        mut verdict: impl FnMut(&NodeKey, Option<&Roster>, &OpenRemote) -> Verdict,
        now: Instant,
    ) -> (Vec<Arrival>, Troubles) {
        let (mut arrivals, mut troubles) = (Vec::new(), Vec::new());
        for mut guest in std::mem::take(&mut self.all) {
            let judge = |key: &NodeKey, open: &OpenRemote| verdict(key, roster, open);
            match guest.turn(judge, now) {
                Ok(false) => self.all.push(guest),
                Ok(true) => {
                    if let Some(arrived) = guest.arrive() {
                        arrivals.push(arrived);
                    }
                }
                Err(error) => {
                    let address = guest.address;
                    troubles.push((address, format!("a connection from {address}: {error}")));
                }
            }
        }
        (arrivals, troubles)
    }

    pub(super) fn poll_set<'a>(
        &'a self,
        listener: BorrowedFd<'a>,
    ) -> impl Iterator<Item = PollFd<'a>> {
        let room = self.all.len() < GUESTS_MAX;
        let listener = room.then(|| PollFd::from_borrowed_fd(listener, PollFlags::IN));
        let guests = self.all.iter().filter_map(|guest| {
            let wants = match guest.stage {
                Stage::Speaking => guest.session.wants(),
                // What it says meanwhile is not for us.
                Stage::Asked { .. } => return None,
                Stage::Answered(_) => PollFlags::OUT,
            };
            Some(PollFd::from_borrowed_fd(guest.session.as_fd(), wants))
        });
        listener.into_iter().chain(guests)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let each = |guest: &Guest| match &guest.stage {
            Stage::Asked { patience, .. } => *patience,
            Stage::Speaking | Stage::Answered(_) => guest.until,
        };
        self.all.iter().map(each).min()
    }
}

impl Guest {
    /// Whether it is over with it.
    fn turn(
        &mut self,
        mut verdict: impl FnMut(&NodeKey, &OpenRemote) -> Verdict,
        now: Instant,
    ) -> Result<bool, MeshError> {
        if let Stage::Speaking = self.stage
            && let Some(open) = self.session.hear::<OpenRemote>()?
        {
            let key = self.session.peer().ok_or(MeshError::NoKey)?;
            self.stage = Stage::Asked {
                key,
                open,
                patience: now + SERVICE_WITHIN,
            };
        }
        if let Stage::Asked {
            key,
            open,
            patience,
        } = &self.stage
        {
            let told = match verdict(key, open) {
                Verdict::NotYet if *patience > now => return self.in_time(now),
                Verdict::NotYet => Err(BusError::Unavailable),
                Verdict::No(error) => Err(error),
                Verdict::Yes(origin) => Ok((*key, origin, open.clone())),
            };
            self.session
                .say(&told.as_ref().map(|_| ()).map_err(Clone::clone))?;
            if told.is_err() {
                self.session.farewell();
            }
            self.stage = Stage::Answered(told.ok());
        }
        if let Stage::Answered(_) = self.stage
            && self.session.flush()?
        {
            return Ok(true);
        }
        self.in_time(now)
    }

    fn in_time(&self, now: Instant) -> Result<bool, MeshError> {
        if self.until <= now {
            Err(MeshError::Late)
        } else {
            Ok(false)
        }
    }

    fn arrive(self) -> Option<Arrival> {
        let Stage::Answered(Some((key, origin, open))) = self.stage else {
            return None;
        };
        // Whoever has said more than it was asked for is not brought to anybody.
        let (socket, keys) = self.session.into_keys().ok()?;
        Some(Arrival {
            key,
            origin,
            open,
            socket,
            keys,
        })
    }
}
