//! One UDP socket for DHCP on all interfaces: each datagram goes out by, and says that it came in by, one of them (IP_PKTINFO, ip(7)).

use crate::packet::MESSAGE_BYTES_MAX;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg,
};
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const SERVER_PORT: u16 = 67;

/// The socket, bound to the client's port.
pub(crate) struct Datagrams {
    socket: OwnedFd,
}

impl Datagrams {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Sends by the interface of that number. What does not go now is lost, as any datagram may be.
    pub(crate) fn send(&self, index: u32, bytes: &[u8], to: Ipv4Addr) {
        let to = SockaddrIn::from(SocketAddrV4::new(to, SERVER_PORT));
        let by = libc::in_pktinfo {
            ipi_ifindex: i32::try_from(index).unwrap_or(0),
            ipi_spec_dst: libc::in_addr { s_addr: 0 },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let _ = sendmsg(
            self.socket.as_raw_fd(),
            &[IoSlice::new(bytes)],
            &[ControlMessage::Ipv4PacketInfo(&by)],
            MsgFlags::MSG_DONTWAIT,
            Some(&to),
        );
    }

    /// The next datagram that has come in: by which interface, and its bytes. Never waits.
    pub(crate) fn receive(&self) -> Option<(u32, Vec<u8>)> {
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let mut control = nix::cmsg_space!(libc::in_pktinfo);
        let (count, index) = loop {
            let mut space = [IoSliceMut::new(&mut bytes)];
            let received = recvmsg::<SockaddrIn>(
                self.socket.as_raw_fd(),
                &mut space,
                Some(&mut control),
                MsgFlags::MSG_DONTWAIT,
            );
            match received {
                Ok(received) => {
                    let index = received.cmsgs().ok()?.find_map(|control| match control {
                        ControlMessageOwned::Ipv4PacketInfo(by) => Some(by.ipi_ifindex),
                        _ => None,
                    });
                    break (received.bytes, index?);
                }
                Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
        };
        bytes.truncate(count);
        Some((u32::try_from(index).ok()?, bytes))
    }
}

impl AsFd for Datagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
