//! TLS in the machine's kernel, between two processes that hold nothing but their end of a connection. For tests only.
//!
//! `qemu-tests/test_ktls.py` boots the kernel with this program as `/init` and nothing beside it. It plays the bus: it makes a TCP connection, gives
//! the kernel the keys of both ends (as after a handshake), and starts a writer and a reader with their ends as standard input. These know of no TLS. Then
//! the same without keys at the reader's end, which shows what is on the wire. Then the bus's own code gives the keys, and two services talk over
//! `runtime::Stream` as between nodes. Each result is a line on the console.
#![forbid(unsafe_code)]

mod services;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{TcpTlsRx, TcpTlsTx, TcpUlp, TlsCryptoInfo};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socket_with};
use std::error::Error;
use std::io::{Read, Write, stdin};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

/// As the kernel finds this program; it starts itself again by it.
const PROGRAM: &str = "/init";
const TEXT: &[u8] = b"only descriptors";
/// An application record of TLS 1.3 begins so (RFC 8446, 5.2).
const RECORD: [u8; 3] = [23, 3, 3];
/// The kernel's number of the first interface of a network namespace, its loopback.
const LOOPBACK: u32 = 1;

type Outcome = Result<(), Box<dyn Error>>;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("write") => say("writer", write()),
        Some("read") => say("reader", read()),
        Some(role) => say(role, services::play(role)),
        None => {
            say("bus", bus());
            // Returns only if it is refused, and then PID 1 ends, which the test sees as well.
            let _ = nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_POWER_OFF);
        }
    }
}

/// On the console, which is where the error output leads.
fn say(who: &str, outcome: Outcome) {
    if let Err(error) = outcome {
        eprintln!("ktls: {who}: {error}");
    }
}

fn bus() -> Outcome {
    raise_loopback()?;
    for (name, keys) in ciphers() {
        eprintln!("ktls: {name}, both ends have keys");
        converse(&keys, true)?;
        eprintln!("ktls: {name}, the reader has none");
        converse(&keys, false)?;
    }
    services::talk()?;
    eprintln!("ktls: that was all");
    Ok(())
}

fn converse(keys: &TlsCryptoInfo, both: bool) -> Outcome {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let from = TcpStream::connect(listener.local_addr()?)?;
    let (to, _) = listener.accept()?;
    setsockopt(&from, TcpUlp::default(), b"tls")?;
    setsockopt(&from, TcpTlsTx, keys)?;
    if both {
        setsockopt(&to, TcpUlp::default(), b"tls")?;
        setsockopt(&to, TcpTlsRx, keys)?;
    }
    let start = |role: &str, end: TcpStream| {
        let end = Stdio::from(OwnedFd::from(end));
        Command::new(PROGRAM).arg(role).stdin(end).spawn()
    };
    let mut writer = start("write", from)?;
    writer.wait()?;
    start("read", to)?.wait()?;
    Ok(())
}

/// A process that writes into what it was given.
fn write() -> Outcome {
    let mut end = std::fs::File::from(stdin().as_fd().try_clone_to_owned()?);
    end.write_all(TEXT)?;
    Ok(())
}

/// A process that reads what it was given to its end.
fn read() -> Outcome {
    let mut bytes = Vec::new();
    stdin().read_to_end(&mut bytes)?;
    let found = match bytes.as_slice() {
        TEXT => "the text",
        bytes
            if bytes.starts_with(&RECORD)
                && !bytes.windows(TEXT.len()).any(|part| part == TEXT) =>
        {
            "a record of TLS"
        }
        _ => "something else",
    };
    eprintln!("ktls: the reader found {found}");
    Ok(())
}

/// The same keys for whoever writes and whoever reads, as a handshake would have agreed on; every byte of them is a made-up one.
fn ciphers() -> [(&'static str, TlsCryptoInfo); 3] {
    let info = |cipher_type| libc::tls_crypto_info {
        version: libc::TLS_1_3_VERSION,
        cipher_type,
    };
    [
        (
            "AES-128-GCM",
            TlsCryptoInfo::Aes128Gcm(libc::tls12_crypto_info_aes_gcm_128 {
                info: info(libc::TLS_CIPHER_AES_GCM_128),
                iv: [1; 8],
                key: [2; 16],
                salt: [3; 4],
                rec_seq: [0; 8],
            }),
        ),
        (
            "AES-256-GCM",
            TlsCryptoInfo::Aes256Gcm(libc::tls12_crypto_info_aes_gcm_256 {
                info: info(libc::TLS_CIPHER_AES_GCM_256),
                iv: [1; 8],
                key: [2; 32],
                salt: [3; 4],
                rec_seq: [0; 8],
            }),
        ),
        (
            "ChaCha20-Poly1305",
            TlsCryptoInfo::Chacha20Poly1305(libc::tls12_crypto_info_chacha20_poly1305 {
                info: info(libc::TLS_CIPHER_CHACHA20_POLY1305),
                iv: [1; 12],
                key: [2; 32],
                salt: [],
                rec_seq: [0; 8],
            }),
        ),
    ]
}

fn raise_loopback() -> Outcome {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut link = LinkMessage::default();
    link.header.index = LOOPBACK;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut packet = NetlinkMessage::new(
        header,
        NetlinkPayload::from(RouteNetlinkMessage::SetLink(link)),
    );
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    send(&socket, &bytes, SendFlags::empty())?;
    Ok(())
}
