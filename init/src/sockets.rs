//! Who is at the other end of a socket, as the kernel tells (sock_diag(7), /proc/net of proc(5)): for the proof that the processes
//! hold what their manifests declare.
//!
//! Only sockets of init's own network are told. The services live in an empty network, where a socket leads nowhere but to itself.

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::unix::{ShowFlags, StateFlags, UnixRequest};
use protocol::inspect::{Process, SocketEnd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The kernel fills at most this much at a time (netlink(7) advises 8 KiB, a dump uses up to 32).
const REPLY_BYTES: usize = 32 * 1024;

/// A socket of the network that init lives in.
enum Known {
    /// Of the Unix domain: its peer, if it has one.
    Unix(Option<u64>),
    /// Of TCP or UDP: its own address, and its peer's if it has one.
    Inet(SocketAddr, Option<SocketAddr>),
}

/// Says of every socket of `processes` where it leads. `net` reads a file of /proc/self/net.
pub(crate) fn tell_ends(processes: &mut [Process], net: impl Fn(&str) -> Option<String>) {
    let known = unix_sockets().map(|mut known| {
        for file in ["tcp", "tcp6", "udp", "udp6"] {
            let text = net(file).unwrap_or_default();
            let lines = text.lines().skip(1);
            known.extend(lines.filter_map(inet_line));
        }
        known
    });
    let holders = holders(processes);
    for process in processes {
        let sockets = process.descriptors.iter();
        process.sockets = sockets
            .filter_map(|(number, what)| Some((*number, inode(what)?)))
            .map(|(number, inode)| {
                let end = match known.as_ref().map(|known| known.get(&inode)) {
                    Err(_) => SocketEnd::Untold,
                    Ok(None) => SocketEnd::EmptyNetwork,
                    Ok(Some(Known::Inet(own, peer))) => SocketEnd::Inet {
                        own: own.to_string(),
                        peer: peer.map(|peer| peer.to_string()),
                    },
                    Ok(Some(Known::Unix(peer))) => SocketEnd::Unix(
                        peer.and_then(|peer| holders.get(&peer))
                            .map(|names| names.iter().cloned().collect())
                            .unwrap_or_default(),
                    ),
                };
                (number, end)
            })
            .collect();
    }
}

/// Whether this kernel tells.
pub(crate) fn are_told() -> bool {
    unix_sockets().is_ok()
}

/// Which processes hold each socket.
fn holders(processes: &[Process]) -> BTreeMap<u64, BTreeSet<String>> {
    let mut holders: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for process in processes {
        for inode in process
            .descriptors
            .iter()
            .filter_map(|(_, what)| inode(what))
        {
            holders
                .entry(inode)
                .or_default()
                .insert(process.name.clone());
        }
    }
    holders
}

/// The number in `socket:[123]`.
fn inode(what: &str) -> Option<u64> {
    what.strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

/// All Unix sockets of this network, with their peers.
fn unix_sockets() -> Result<BTreeMap<u64, Known>, Errno> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = SockDiagMessage::UnixRequest(UnixRequest {
        state_flags: StateFlags::all(),
        inode: 0,
        show_flags: ShowFlags::PEER,
        cookie: [0xff; 8],
    });
    let mut message = NetlinkMessage::new(header, request.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    send(&socket, &bytes, SendFlags::empty())?;

    let mut known = BTreeMap::new();
    let mut buffer = vec![0; REPLY_BYTES];
    loop {
        // The kernel answers within the call: what is not there now never comes.
        let (_, length) = recv(&socket, buffer.as_mut_slice(), RecvFlags::DONTWAIT)?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            let reply = NetlinkMessage::<SockDiagMessage>::deserialize(rest);
            let reply = reply.map_err(|_| Errno::BADMSG)?;
            match reply.payload {
                NetlinkPayload::Done(_) => return Ok(known),
                NetlinkPayload::Error(error) => {
                    return Err(Errno::from_raw_os_error(-error.raw_code()));
                }
                NetlinkPayload::InnerMessage(SockDiagMessage::UnixResponse(unix)) => {
                    let peer = unix.peer().filter(|peer| *peer != 0).map(u64::from);
                    known.insert(u64::from(unix.header.inode), Known::Unix(peer));
                }
                _ => {}
            }
            // Messages begin at multiples of four bytes.
            let taken = (reply.header.length as usize).next_multiple_of(4).max(4);
            rest = rest.get(taken..).unwrap_or_default();
        }
    }
}

/// A line of /proc/net/tcp or udp: the inode, the socket's own address and its peer's, for example `0: 0100007F:0F3C 00000000:0000 …`.
fn inet_line(line: &str) -> Option<(u64, Known)> {
    let mut words = line.split_whitespace();
    let own = inet_address(words.nth(1)?)?;
    let peer = inet_address(words.next()?)?;
    let peer = Some(peer).filter(|peer| peer.port() != 0);
    // Behind the addresses: state, queues, timer, retransmits, user, timeouts; then the inode.
    Some((words.nth(6)?.parse().ok()?, Known::Inet(own, peer)))
}

/// `0100007F:0F3C`.
fn inet_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Groups of four bytes, each written as a number of this machine.
    let groups: Option<Vec<u32>> = (0..address.len() / 8)
        .map(|at| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok())
        .collect();
    let ip = match groups?.as_slice() {
        [one] => IpAddr::from(Ipv4Addr::from(one.to_ne_bytes())),
        [a, b, c, d] => {
            let mut bytes = [0; 16];
            for (place, group) in bytes.chunks_exact_mut(4).zip([a, b, c, d]) {
                place.copy_from_slice(&group.to_ne_bytes());
            }
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use rustix::net::socketpair;
    use std::os::fd::{AsFd, AsRawFd};

    fn process(name: &str, sockets: &[&dyn AsFd]) -> Process {
        let inode = |one: &&dyn AsFd| rustix::fs::fstat(one.as_fd()).unwrap().st_ino;
        let number = |one: &&dyn AsFd| one.as_fd().as_raw_fd() as u32;
        let descriptors = sockets
            .iter()
            .map(|one| (number(one), format!("socket:[{}]", inode(one))));
        Process {
            name: name.into(),
            descriptors: descriptors.collect(),
            ..Process::default()
        }
    }

    fn read(file: &str) -> Option<String> {
        std::fs::read_to_string(format!("/proc/self/net/{file}")).ok()
    }

    #[test]
    fn every_socket_says_where_it_leads() {
        let flags = SocketFlags::CLOEXEC;
        let pair = || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let ((ours, theirs), (lonely, gone)) = (pair(), pair());
        drop(gone);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = std::net::UdpSocket::bind("[::1]:0").unwrap();
        let connected = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut processes = [
            process("a", &[&ours, &lonely, &listener, &udp, &connected]),
            process("b", &[&theirs]),
        ];
        tell_ends(&mut processes, read);
        let ends: Vec<SocketEnd> = processes[0]
            .sockets
            .iter()
            .map(|(_, end)| end.clone())
            .collect();
        let inet = |own: SocketAddr, peer: Option<SocketAddr>| SocketEnd::Inet {
            own: own.to_string(),
            peer: peer.map(|peer| peer.to_string()),
        };
        let listening = listener.local_addr().unwrap();
        assert_eq!(
            ends,
            [
                SocketEnd::Unix(vec!["b".into()]),
                SocketEnd::Unix(vec![]),
                inet(listening, None),
                inet(udp.local_addr().unwrap(), None),
                inet(connected.local_addr().unwrap(), Some(listening)),
            ]
        );
    }

    #[test]
    fn lines_that_are_none_are_left_out() {
        for line in [
            "",
            "0:",
            "0: 0100007F",
            "0: zz:0F3C a b c d e f g 1",
            "0: 01:0F3C a b c d e f g 1",
        ] {
            assert!(inet_line(line).is_none(), "{line:?}");
        }
    }
}
