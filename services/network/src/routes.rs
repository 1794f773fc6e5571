//! The kernel's interfaces, addresses and routes, over a route socket (rtnetlink(7)).

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkBuffer,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, CacheInfo};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The kernel's messages fit in so much.
const BUFFER_BYTES: usize = 64 * 1024;
/// So many packets are read in a turn.
const PACKETS_PER_TURN_MAX: usize = 64;
/// Routes of the first interface are preferred.
const METRIC: u32 = 100;

/// A wired interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: [u8; 6],
    pub(crate) up: bool,
    /// There is somebody at the other end of the cable.
    pub(crate) carrier: bool,
}

/// What the kernel tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    Link(Link),
    Gone(u32),
    /// It has refused something: why.
    Refused(Errno),
}

/// The route socket.
pub(crate) struct Routes {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Routes {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            sequence: 0,
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    /// Asks for all interfaces; the answer is news.
    pub(crate) fn ask_links(&mut self) -> Result<(), Errno> {
        let message = LinkMessage::default();
        self.send(RouteNetlinkMessage::GetLink(message), NLM_F_DUMP)
    }

    /// Switches an interface on.
    pub(crate) fn raise(&mut self, index: u32) -> Result<(), Errno> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.send(RouteNetlinkMessage::SetLink(message), NLM_F_ACK)
    }

    /// Gives an interface an address; the kernel takes it back after `seconds` (`u32::MAX`: never).
    pub(crate) fn add_address(
        &mut self,
        index: u32,
        ip: IpAddr,
        prefix: u8,
        seconds: u32,
    ) -> Result<(), Errno> {
        let mut message = address(index, ip, prefix);
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_valid = seconds;
        lifetime.ifa_preferred = seconds;
        let lifetime = AddressAttribute::CacheInfo(lifetime);
        message.attributes.push(lifetime);
        let flags = NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK;
        self.send(RouteNetlinkMessage::NewAddress(message), flags)
    }

    /// Takes an address back, and with it every route that leads by it.
    pub(crate) fn remove_address(
        &mut self,
        index: u32,
        ip: IpAddr,
        prefix: u8,
    ) -> Result<(), Errno> {
        let message = address(index, ip, prefix);
        self.send(RouteNetlinkMessage::DelAddress(message), NLM_F_ACK)
    }

    /// Everything that is nowhere else goes to `gateway`.
    pub(crate) fn add_default_route(&mut self, index: u32, gateway: IpAddr) -> Result<(), Errno> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(gateway);
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Dhcp;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        // The gateway of a network of one address is in no network that we have (hosting providers do that).
        message.header.flags = RouteFlags::Onlink;
        message.attributes = vec![
            RouteAttribute::Oif(index),
            RouteAttribute::Gateway(RouteAddress::from(gateway)),
            RouteAttribute::Priority(METRIC + index),
        ];
        let flags = NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK;
        self.send(RouteNetlinkMessage::NewRoute(message), flags)
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        send(&self.socket, &bytes, SendFlags::empty()).map(|_| ())
    }

    /// What has come in. Never waits.
    pub(crate) fn news(&mut self) -> Vec<News> {
        let mut news = Vec::new();
        for _ in 0..PACKETS_PER_TURN_MAX {
            let mut buffer = std::mem::take(&mut self.buffer);
            let received = recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT);
            match received {
                Ok((count, _)) => read(buffer.get(..count).unwrap_or_default(), &mut news),
                // So much has happened that the kernel has dropped some of it: everything is asked for again.
                Err(Errno::NOBUFS) => drop(self.ask_links()),
                Err(_) => {
                    self.buffer = buffer;
                    return news;
                }
            }
            self.buffer = buffer;
        }
        news
    }
}

impl AsFd for Routes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn address(index: u32, ip: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(ip);
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message
}

/// A packet holds one message or several, each with its length.
fn read(mut packet: &[u8], news: &mut Vec<News>) {
    while let Ok(one) = NetlinkBuffer::new_checked(packet) {
        let length = one.length() as usize;
        if let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(packet) {
            news.extend(understand(message.payload));
        }
        // Each begins at a multiple of four.
        packet = packet.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

fn understand(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<News> {
    match payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => {
            wired(message).map(News::Link)
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message)) => {
            Some(News::Gone(message.header.index))
        }
        NetlinkPayload::Error(error) => {
            let code = error.code?;
            Some(News::Refused(Errno::from_raw_os_error(code.get().abs())))
        }
        _ => None,
    }
}

/// An Ethernet interface that is a device and nothing made of others.
fn wired(message: LinkMessage) -> Option<Link> {
    let header = &message.header;
    if header.link_layer_type != LinkLayerType::Ether {
        return None;
    }
    let (mut name, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(own) => name = Some(own.clone()),
            LinkAttribute::Address(own) => mac = own.as_slice().try_into().ok(),
            LinkAttribute::LinkInfo(_) => return None,
            _ => {}
        }
    }
    Some(Link {
        index: header.index,
        name: name?,
        mac: mac?,
        up: header.flags.contains(LinkFlags::Up),
        carrier: header.flags.contains(LinkFlags::LowerUp),
    })
}
