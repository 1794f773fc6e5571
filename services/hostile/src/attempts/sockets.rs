//! Reaching a network that was not granted.

use super::Attempt;
use crate::sys::Arg::{self, Bytes, Number, Space};
use libc::*;

/// `struct sockaddr_in`: 127.0.0.1, port 9.
const LOOPBACK: Arg = Bytes(&[2, 0, 0, 9, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
/// `struct sockaddr_un`: the abstract name "hostile".
const ABSTRACT: Arg = Bytes(b"\x01\x00\x00hostile");
/// The start channel, as any socket.
const CHANNEL: Arg = Number(3);

const fn socket(name: &'static str, args: &'static [Arg]) -> Attempt {
    Attempt::call(name, "socket", SYS_socket, args)
}

pub(super) const ATTEMPTS: &[Attempt] = &[
    socket(
        "socket-inet",
        &[
            Number(AF_INET as i64),
            Number(SOCK_STREAM as i64),
            Number(0),
        ],
    ),
    socket(
        "socket-inet6",
        &[
            Number(AF_INET6 as i64),
            Number(SOCK_STREAM as i64),
            Number(0),
        ],
    ),
    socket(
        "socket-datagram",
        &[Number(AF_INET as i64), Number(SOCK_DGRAM as i64), Number(0)],
    ),
    socket(
        "socket-unix",
        &[
            Number(AF_UNIX as i64),
            Number(SOCK_STREAM as i64),
            Number(0),
        ],
    ),
    socket(
        "socket-netlink",
        &[
            Number(AF_NETLINK as i64),
            Number(SOCK_RAW as i64),
            Number(0),
        ],
    ),
    socket(
        "socket-packet",
        &[Number(AF_PACKET as i64), Number(SOCK_RAW as i64), Number(0)],
    ),
    socket(
        "socket-raw",
        &[Number(AF_INET as i64), Number(SOCK_RAW as i64), Number(1)],
    ),
    socket(
        "socket-kernel-crypto",
        &[
            Number(AF_ALG as i64),
            Number(SOCK_SEQPACKET as i64),
            Number(0),
        ],
    ),
    socket(
        "socket-vsock",
        &[
            Number(AF_VSOCK as i64),
            Number(SOCK_STREAM as i64),
            Number(0),
        ],
    ),
    Attempt::call(
        "socketpair",
        "socketpair",
        SYS_socketpair,
        &[
            Number(AF_UNIX as i64),
            Number(SOCK_STREAM as i64),
            Number(0),
            Space,
        ],
    ),
    Attempt::call(
        "connect-loopback",
        "connect",
        SYS_connect,
        &[CHANNEL, LOOPBACK, Number(16)],
    ),
    Attempt::call(
        "connect-abstract",
        "connect",
        SYS_connect,
        &[CHANNEL, ABSTRACT, Number(10)],
    ),
    // A TCP socket that was shut down, or could not connect, is connected anew by this: anywhere.
    Attempt::call(
        "connect-by-fast-open",
        "sendmsg",
        SYS_sendmsg,
        &[CHANNEL, Space, Number(MSG_FASTOPEN as i64)],
    ),
    Attempt::call("bind", "bind", SYS_bind, &[CHANNEL, LOOPBACK, Number(16)]),
    Attempt::call(
        "bind-abstract",
        "bind",
        SYS_bind,
        &[CHANNEL, ABSTRACT, Number(10)],
    ),
    Attempt::call("listen", "listen", SYS_listen, &[CHANNEL, Number(1)]),
    Attempt::call(
        "accept",
        "accept",
        SYS_accept,
        &[CHANNEL, Number(0), Number(0)],
    ),
    Attempt::call(
        "send-to-address",
        "sendto",
        SYS_sendto,
        &[
            Number(2),
            Bytes(b"x"),
            Number(1),
            Number(0),
            LOOPBACK,
            Number(16),
        ],
    ),
    Attempt::call(
        "attach-packet-filter",
        "setsockopt",
        SYS_setsockopt,
        &[
            CHANNEL,
            Number(SOL_SOCKET as i64),
            Number(SO_ATTACH_FILTER as i64),
            Space,
            Number(16),
        ],
    ),
    Attempt::call(
        "bind-to-device",
        "setsockopt",
        SYS_setsockopt,
        &[
            CHANNEL,
            Number(SOL_SOCKET as i64),
            Number(SO_BINDTODEVICE as i64),
            Bytes(b"lo\0\0"),
            Number(4),
        ],
    ),
    Attempt::call(
        "kernel-tls",
        "setsockopt",
        SYS_setsockopt,
        &[
            CHANNEL,
            Number(IPPROTO_TCP as i64),
            Number(TCP_ULP as i64),
            Bytes(b"tls\0"),
            Number(4),
        ],
    ),
    Attempt::call(
        "list-interfaces",
        "ioctl",
        SYS_ioctl,
        &[CHANNEL, Number(SIOCGIFCONF as i64), Space],
    ),
];
