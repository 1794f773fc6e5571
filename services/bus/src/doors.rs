//! Who can be reached right now: the bus's end of each server's door.

use protocol::Channel;
use protocol::bus::{Accept, Door};
use protocol::channel::MessageError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::SendFlags;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

/// The doors of all servers that live, by name.
#[derive(Default)]
pub(crate) struct Doors {
    all: BTreeMap<String, Channel>,
}

impl Doors {
    /// A server's new incarnation. The door of the one before, if any, is closed.
    pub(crate) fn open(&mut self, server: &str, door: Channel) {
        self.all.insert(server.into(), door);
    }

    pub(crate) fn has(&self, server: &str) -> bool {
        self.all.contains_key(server)
    }

    /// Brings `end` to `server`. If its queue is full it does not accept any more, and counts as gone.
    pub(crate) fn bring(
        &mut self,
        server: &str,
        accept: &Accept,
        end: &Channel,
    ) -> Result<(), MessageError> {
        let Some(door) = self.all.get(server) else {
            return Err(MessageError::Send(rustix::io::Errno::PIPE));
        };
        let sent = door.send_message::<Door>(accept, &[end.as_fd()], SendFlags::DONTWAIT);
        if sent.is_err() {
            self.all.remove(server);
        }
        sent
    }

    /// Removes the doors whose servers have ended, and names them.
    pub(crate) fn take_ended(&mut self) -> Vec<String> {
        let ended: Vec<String> = self
            .all
            .iter()
            .filter(|(_, door)| hung_up(door.as_fd()))
            .map(|(server, _)| server.clone())
            .collect();
        for server in &ended {
            self.all.remove(server);
        }
        ended
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all.values().map(AsFd::as_fd)
    }
}

fn hung_up(door: BorrowedFd<'_>) -> bool {
    let mut set = [PollFd::from_borrowed_fd(door, PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut set, Some(&now)).is_ok()
        && set
            .iter()
            .any(|one| one.revents().intersects(PollFlags::HUP | PollFlags::ERR))
}
