//! The connections that the bus has made, inside of the node, out of it and between nodes: one duplicate each, kept to take the connection back, never
//! read from.

use protocol::Channel;
use protocol::cluster::NodeKey;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

/// One connection of a process: to another, out of the node, or from another node.
struct Connection {
    /// `None`: somebody on another node.
    client: Option<String>,
    /// `None`: somebody outside of the node, or on another.
    server: Option<String>,
    /// A duplicate of the *server's* end: when the client closes, the server sees it as if we were not there, and so do we (POLLHUP). Of a
    /// connection out of the node there is only one end in it; whoever has that shuts it down before it closes it, which we see as well. A relayed one has
    /// two: the relay's end of the pair, and the connection itself.
    kept: Vec<OwnedFd>,
    across: Option<Across>,
}

/// What is known of a connection to or from another node.
#[derive(Debug, Clone)]
pub(crate) struct Across {
    /// Whose key was proven.
    pub(crate) key: NodeKey,
    /// It stands and falls with the other node's belonging to the cluster. Otherwise it is for admission only.
    pub(crate) member: bool,
    /// The relay does its records.
    pub(crate) relayed: bool,
    /// When it is cut in any case.
    pub(crate) until: Option<Instant>,
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
            client: Some(client.into()),
            server: Some(server.into()),
            kept: vec![kept],
            across: None,
        });
        Ok((theirs, served))
    }

    /// Keeps a duplicate of a connection out of the node.
    pub(crate) fn keep(&mut self, client: &str, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        self.all.push(Connection {
            client: Some(client.into()),
            server: None,
            kept: vec![rustix::io::fcntl_dupfd_cloexec(socket, 0)?],
            across: None,
        });
        Ok(())
    }

    /// Keeps duplicates of a connection between a service of this node, client or server, and another node.
    pub(crate) fn keep_across(
        &mut self,
        client: Option<&str>,
        server: Option<&str>,
        across: Across,
        ends: &[BorrowedFd<'_>],
    ) -> Result<(), Errno> {
        let ends = ends.iter();
        let kept = ends.map(|end| rustix::io::fcntl_dupfd_cloexec(end, 0));
        self.all.push(Connection {
            client: client.map(Into::into),
            server: server.map(Into::into),
            kept: kept.collect::<Result<_, _>>()?,
            across: Some(across),
        });
        Ok(())
    }

    /// How many connections `client` of this node holds.
    pub(crate) fn held_by(&self, client: &str) -> usize {
        let held = |one: &&Connection| one.client.as_deref() == Some(client);
        self.all.iter().filter(held).count()
    }

    /// How many connections came in from other nodes and are as `which` says: to which service of this one, and what is known of them.
    pub(crate) fn came_in(&self, which: impl Fn(&str, &Across) -> bool) -> usize {
        let all = self.all.iter().filter(|one| one.client.is_none());
        all.filter_map(|one| Some((one.server.as_deref()?, one.across.as_ref()?)))
            .filter(|(server, across)| which(server, across))
            .count()
    }

    /// How many connections to and from other nodes the relay carries.
    pub(crate) fn relayed(&self) -> usize {
        let across = self.all.iter().filter_map(|one| one.across.as_ref());
        across.filter(|across| across.relayed).count()
    }

    /// Whether `client` has a connection to a node that it wants to be admitted by.
    pub(crate) fn is_joining(&self, client: &str) -> bool {
        self.all.iter().any(|one| {
            one.client.as_deref() == Some(client)
                && one.across.as_ref().is_some_and(|across| !across.member)
        })
    }

    /// Takes back every connection of `service`, as client and as server, from every holder: both ends see a hang-up. So many they were.
    pub(crate) fn cut(&mut self, service: &str) -> u32 {
        self.cut_if(|one| {
            one.client.as_deref() == Some(service) || one.server.as_deref() == Some(service)
        })
    }

    /// The same for all that the relay carries: it has gone.
    pub(crate) fn cut_relayed(&mut self) -> u32 {
        self.cut_across(|across| across.relayed)
    }

    /// The same for all connections to and from other nodes of which this holds.
    pub(crate) fn cut_across(&mut self, gone: impl Fn(&Across) -> bool) -> u32 {
        self.cut_if(|one| one.across.as_ref().is_some_and(&gone))
    }

    /// The same for those of them that were opened from here.
    pub(crate) fn cut_dialled(&mut self, gone: impl Fn(&Across) -> bool) -> u32 {
        self.cut_if(|one| one.client.is_some() && one.across.as_ref().is_some_and(&gone))
    }

    fn cut_if(&mut self, gone: impl Fn(&Connection) -> bool) -> u32 {
        let mut cut = 0;
        self.all.retain(|one| {
            let goes = gone(one);
            if goes {
                // The ends may be closed already; then there is nothing to take back.
                for end in &one.kept {
                    let _ = shutdown(end, Shutdown::Both);
                }
                cut += 1;
            }
            !goes
        });
        cut
    }

    /// Forgets the connections whose client has closed, and those out of the node that have failed.
    pub(crate) fn forget_ended(&mut self) {
        for one in &mut self.all {
            one.kept.retain(|end| !hung_up(end.as_fd()));
        }
        self.all.retain(|one| !one.kept.is_empty());
    }

    /// When the next one is cut in any case.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let across = self.all.iter().filter_map(|one| one.across.as_ref());
        across.filter_map(|across| across.until).min()
    }

    /// To be polled for hang-ups only.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all
            .iter()
            .flat_map(|one| one.kept.iter().map(AsFd::as_fd))
    }
}

fn hung_up(end: BorrowedFd<'_>) -> bool {
    let mut set = [PollFd::from_borrowed_fd(end, PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut set, Some(&now)).is_ok()
        && set
            .iter()
            .any(|one| one.revents().intersects(PollFlags::HUP | PollFlags::ERR))
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
