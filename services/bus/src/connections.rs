//! The connections that the bus has made, inside of the node and out of it: one duplicate each, kept to take the connection back, never
//! read from.

use protocol::Channel;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// One connection of a process, to another or out of the node.
struct Connection {
    client: String,
    /// `None`: somebody outside of the node.
    server: Option<String>,
    /// A duplicate of the *server's* end: when the client closes, the server sees it as if we were not there, and so do we (POLLHUP). Of a
    /// connection out of the node there is only the client's end; the client shuts it down before it closes it, which we see as well.
    kept: OwnedFd,
}

/// All connections of the node.
#[derive(Default)]
pub(crate) struct Connections {
    all: Vec<Connection>,
}

impl Connections {
    /// Makes a pair and keeps a duplicate: the client's end and the server's end.
    pub(crate) fn make(&mut self, client: &str, server: &str) -> Result<(Channel, Channel), Errno> {
        let (theirs, served) = Channel::pair()?;
        let kept = rustix::io::fcntl_dupfd_cloexec(&served, 0)?;
        self.all.push(Connection {
            client: client.into(),
            server: Some(server.into()),
            kept,
        });
        Ok((theirs, served))
    }

    /// Keeps a duplicate of a connection out of the node.
    pub(crate) fn keep(&mut self, client: &str, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        self.all.push(Connection {
            client: client.into(),
            server: None,
            kept: rustix::io::fcntl_dupfd_cloexec(socket, 0)?,
        });
        Ok(())
    }

    /// How many connections `client` holds.
    pub(crate) fn held_by(&self, client: &str) -> usize {
        self.all.iter().filter(|one| one.client == client).count()
    }

    /// Takes back every connection of `service`, as client and as server, from every holder: both ends see a hang-up. So many they were.
    pub(crate) fn cut(&mut self, service: &str) -> u32 {
        let mut cut = 0;
        self.all.retain(|one| {
            let touches = one.client == service || one.server.as_deref() == Some(service);
            if touches {
                // The ends may be closed already; then there is nothing to take back.
                let _ = shutdown(&one.kept, Shutdown::Both);
                cut += 1;
            }
            !touches
        });
        cut
    }

    /// Forgets the connections whose client has closed, and those out of the node that have failed.
    pub(crate) fn forget_ended(&mut self) {
        self.all.retain(|one| {
            let mut set = [PollFd::from_borrowed_fd(
                one.kept.as_fd(),
                PollFlags::empty(),
            )];
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let hung_up = poll(&mut set, Some(&now)).is_ok()
                && set
                    .iter()
                    .any(|one| one.revents().intersects(PollFlags::HUP | PollFlags::ERR));
            !hung_up
        });
    }

    /// To be polled for hang-ups only.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all.iter().map(|one| one.kept.as_fd())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;
    use protocol::channel::ReceiveBuffer;
    use rustix::net::{RecvFlags, SendFlags};

    #[test]
    fn a_cut_connection_hangs_up_at_both_ends_and_a_closed_one_is_forgotten() {
        let mut connections = Connections::default();
        let (client, server) = connections.make("front", "store").unwrap();
        let (other, _other_server) = connections.make("front", "meta").unwrap();
        let mut buffer = ReceiveBuffer::new();
        client.send(b"hello", &[], SendFlags::empty()).unwrap();
        assert_eq!(
            server
                .receive(&mut buffer, RecvFlags::empty())
                .unwrap()
                .unwrap()
                .bytes,
            b"hello"
        );

        assert_eq!(connections.cut("store"), 1);
        assert!(
            server
                .receive(&mut buffer, RecvFlags::empty())
                .unwrap()
                .is_none()
        );
        assert!(
            client
                .receive(&mut buffer, RecvFlags::empty())
                .unwrap()
                .is_none()
        );

        connections.forget_ended();
        assert_eq!(connections.held_by("front"), 1);
        drop(other);
        connections.forget_ended();
        assert_eq!(connections.held_by("front"), 0);
    }
}
