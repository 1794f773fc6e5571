//! The relay with rustls as the other node, which is what it has to agree with; and the records by themselves.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

use crate::record::{Error as RecordError, HEADER_BYTES, Opened, Opener, PLAIN_BYTES_MAX, Sealer};
use proptest::prelude::*;
use protocol::Channel;
use protocol::bus::{Accept, Door, Origin};
use protocol::relay::{RecordKeys, Relay, Relayed};
use protocol::start::{Order, Packed, Start};
use protocol::wire::Conversation;
use runtime::Given;
use rustix::net::SendFlags;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::{cipher_suite::TLS13_AES_128_GCM_SHA256, default_provider};
use rustls::crypto::{CryptoProvider, ring::sign::any_eddsa_type};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, Connection, ConnectionTrafficSecrets, DigitallySignedStruct,
    Error as TlsError, ServerConfig, ServerConnection, SignatureScheme,
};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// A relay in a thread, brought a connection like the bus does.
struct House {
    supervisor: Channel,
    bus: Channel,
    _door: Channel,
}

impl House {
    fn start() -> Self {
        let (supervisor, theirs) = Channel::pair().unwrap();
        let (door, relays) = Channel::pair().unwrap();
        let packed = Order::Packed(Packed {
            service: "relay".into(),
            grants: vec!["door".into()],
            settings: vec![],
        });
        supervisor
            .send_message::<Start>(&packed, &[relays.as_fd()], SendFlags::empty())
            .unwrap();
        drop(relays);
        std::thread::spawn(move || crate::run(Given::over(theirs).unwrap()));
        let (bus, end) = Channel::pair().unwrap();
        let accept = Accept {
            client: "bus".into(),
            conversation: Relay::NAME.into(),
            origin: Origin::Here,
        };
        door.send_message::<Door>(&accept, &[end.as_fd()], SendFlags::empty())
            .unwrap();
        Self {
            supervisor,
            bus,
            _door: door,
        }
    }

    /// A service's end, and a TLS session of rustls at the other node.
    fn connect(&self) -> (UnixStream, Peer) {
        let (relays, peer) = session();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (wire, _) = listener.accept().unwrap();
        (
            self.bring(relays, wire),
            Peer {
                tls: peer,
                socket: there,
            },
        )
    }

    fn bring(&self, (seal, open): (RecordKeys, RecordKeys), wire: TcpStream) -> UnixStream {
        let (service, end) = UnixStream::pair().unwrap();
        let (wire, end) = (OwnedFd::from(wire), OwnedFd::from(end));
        let relayed = Relayed {
            seal,
            open,
            about: "a test".into(),
        };
        self.bus
            .send_message::<Relay>(&relayed, &[wire.as_fd(), end.as_fd()], SendFlags::empty())
            .unwrap();
        service.set_read_timeout(Some(SOON)).unwrap();
        service
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self
            .supervisor
            .send_message::<Start>(&Order::Stop, &[], SendFlags::empty());
    }
}

/// The other node.
struct Peer {
    tls: Connection,
    socket: TcpStream,
}

impl Peer {
    fn write_all(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = self.tls.writer().write(bytes).unwrap();
            bytes = &bytes[count..];
            self.flush();
        }
    }

    fn flush(&mut self) {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket).unwrap();
        }
    }

    /// Everything up to close_notify.
    fn read_to_end(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let count = self.tls.read_tls(&mut self.socket).unwrap();
            let state = self.tls.process_new_packets().unwrap();
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            self.tls.reader().read_exact(&mut plain).unwrap();
            all.extend(plain);
            if state.peer_has_closed() {
                return all;
            }
            assert_ne!(count, 0, "cut off after {} bytes", all.len());
        }
    }
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// A finished handshake in memory: the one end's keys (to seal with, to open with), the other end as it is.
fn session() -> ((RecordKeys, RecordKeys), Connection) {
    let provider = Arc::new(CryptoProvider {
        cipher_suites: vec![TLS13_AES_128_GCM_SHA256],
        ..default_provider()
    });
    let prefix = [
        0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
    ];
    let private = PrivatePkcs8KeyDer::from([prefix.as_slice(), &[5; 32]].concat());
    let key = any_eddsa_type(&private).unwrap();
    let public = CertificateDer::from(key.public_key().unwrap().as_ref().to_vec());
    let certified = Arc::new(CertifiedKey::new(vec![public], key));
    let versions = [&rustls::version::TLS13];
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified)));
    server.send_tls13_tickets = 0;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    let name = ServerName::try_from("node").unwrap();
    let mut client = Connection::from(ClientConnection::new(Arc::new(client), name).unwrap());
    let mut server = Connection::from(ServerConnection::new(Arc::new(server)).unwrap());
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() {
        for (from, to) in [(0, 1), (1, 0)] {
            let ends = [&mut client, &mut server];
            let mut bytes = Vec::new();
            while ends[from].wants_write() {
                ends[from].write_tls(&mut bytes).unwrap();
            }
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                ends[to].read_tls(&mut rest).unwrap();
                ends[to].process_new_packets().unwrap();
            }
        }
    }
    let secrets = client.dangerous_extract_secrets().unwrap();
    let keys = |(sequence, secrets)| {
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
            panic!("another suite");
        };
        RecordKeys {
            key: key.as_ref().try_into().unwrap(),
            iv: iv.as_ref().try_into().unwrap(),
            sequence,
        }
    };
    ((keys(secrets.tx), keys(secrets.rx)), server)
}

fn megabytes() -> Vec<u8> {
    let step = |number: u32| (number.wrapping_mul(2_654_435_761) >> 24) as u8;
    (0..3 << 20).map(step).collect()
}

#[test]
fn what_a_service_writes_rustls_reads_and_the_other_way_round() {
    let house = House::start();
    let (mut service, mut peer) = house.connect();
    let bytes = megabytes();
    std::thread::scope(|scope| {
        let mut writer = service.try_clone().unwrap();
        let written = &bytes;
        scope.spawn(move || {
            writer.write_all(written).unwrap();
            // This direction ends, the other does not.
            writer.shutdown(Shutdown::Write).unwrap();
        });
        assert!(peer.read_to_end() == bytes);
    });
    std::thread::scope(|scope| {
        let (written, peer) = (&bytes, &mut peer);
        scope.spawn(move || {
            peer.write_all(written);
            peer.tls.send_close_notify();
            peer.flush();
        });
        let mut found = Vec::new();
        service.read_to_end(&mut found).unwrap();
        assert!(found == bytes);
    });
}

#[test]
fn a_reader_that_is_slow_slows_its_writer_and_loses_nothing() {
    let house = House::start();
    let (mut service, mut peer) = house.connect();
    service.set_nonblocking(true).unwrap();
    let mut written = 0;
    // Nobody reads: it stops after what the sockets and the relay's own bounded buffers hold.
    let mut quiet = 0;
    while quiet < 50 {
        match service.write(&[7; 65_536]) {
            Ok(count) => (written, quiet) = (written + count, 0),
            Err(_) => {
                quiet += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        assert!(written < 64 << 20, "it takes without end");
    }
    service.shutdown(Shutdown::Write).unwrap();
    let read = peer.read_to_end();
    assert!(read.len() == written && read.iter().all(|byte| *byte == 7));
    // Meanwhile nobody else was held up: a second connection works beside a full one.
    let (full, _slow) = house.connect();
    full.set_nonblocking(true).unwrap();
    while (&full).write(&[1; 65_536]).is_ok() {}
    let (mut other, mut peer) = house.connect();
    other.write_all(b"hello").unwrap();
    other.shutdown(Shutdown::Write).unwrap();
    assert_eq!(peer.read_to_end(), b"hello");
}

#[test]
fn a_service_that_goes_says_farewell_and_its_last_bytes_arrive() {
    let house = House::start();
    let (mut service, mut peer) = house.connect();
    peer.write_all(b"never read");
    service.write_all(b"last words").unwrap();
    drop(service);
    assert_eq!(peer.read_to_end(), b"last words");
    // The other node does not end its direction; it is not waited for without end.
    peer.socket.set_read_timeout(Some(SOON)).unwrap();
    let ended = peer.socket.read(&mut [0]);
    assert!(matches!(ended, Ok(0)), "{ended:?}");
}

/// What a service still reads when the wire does this.
fn service_reads(of_wire: impl FnOnce(&mut Peer)) -> Vec<u8> {
    let house = House::start();
    let (mut service, mut peer) = house.connect();
    of_wire(&mut peer);
    let mut found = Vec::new();
    let _ = service.read_to_end(&mut found);
    // And it cannot write any more.
    let limit = std::time::Instant::now() + SOON;
    while service.write_all(b"x").is_ok() {
        assert!(std::time::Instant::now() < limit, "it goes on");
    }
    found
}

#[test]
fn what_was_touched_or_cut_off_on_the_way_ends_the_connection_and_is_not_passed_on() {
    let good = |peer: &mut Peer| peer.write_all(b"good");
    let touched = service_reads(|peer| {
        good(peer);
        let mut record = Vec::new();
        peer.tls.writer().write_all(b"bad").unwrap();
        peer.tls.write_tls(&mut record).unwrap();
        *record.last_mut().unwrap() ^= 1;
        peer.socket.write_all(&record).unwrap();
    });
    assert_eq!(touched, b"good");
    let repeated = service_reads(|peer| {
        let mut record = Vec::new();
        peer.tls.writer().write_all(b"once").unwrap();
        peer.tls.write_tls(&mut record).unwrap();
        peer.socket.write_all(&record.repeat(2)).unwrap();
    });
    assert_eq!(repeated, b"once");
    let cut = service_reads(|peer| {
        good(peer);
        peer.socket.shutdown(Shutdown::Write).unwrap();
    });
    assert_eq!(cut, b"good");
    let key_update = service_reads(|peer| {
        good(peer);
        peer.tls.refresh_traffic_keys().unwrap();
        peer.flush();
    });
    assert_eq!(key_update, b"good");
    for nonsense in [b"GET / HTTP/1.1\r\n".to_vec(), vec![23, 3, 3, 0xff, 0xff]] {
        let found = service_reads(|peer| peer.socket.write_all(&nonsense).unwrap());
        assert_eq!(found, b"");
    }
}

#[test]
fn a_hand_over_without_its_descriptors_harms_nobody() {
    let house = House::start();
    let ((seal, open), _) = session();
    let relayed = Relayed {
        seal,
        open,
        about: "a test".into(),
    };
    house
        .bus
        .send_message::<Relay>(&relayed, &[], SendFlags::empty())
        .unwrap();
    let (mut service, mut peer) = house.connect();
    service.write_all(b"hello").unwrap();
    drop(service);
    assert_eq!(peer.read_to_end(), b"hello");
}

fn keys(sequence: u64) -> RecordKeys {
    RecordKeys {
        key: [3; 16],
        iv: [4; 12],
        sequence,
    }
}

/// All that comes out of these bytes, as far as they go.
fn open_all(bytes: &[u8], sequence: u64) -> (Vec<u8>, Result<bool, RecordError>) {
    let mut opener = Opener::new(&keys(sequence)).unwrap();
    let (mut bytes, mut found) = (bytes.to_vec(), Vec::new());
    let mut taken = 0;
    loop {
        match opener.open(&mut bytes[taken..]) {
            Ok(None) => return (found, Ok(false)),
            Ok(Some((Opened::Closed, _))) => return (found, Ok(true)),
            Ok(Some((Opened::Data(plain), count))) => {
                found.extend_from_slice(plain);
                taken += count;
            }
            Err(error) => return (found, Err(error)),
        }
    }
}

#[test]
fn the_last_number_is_not_followed_by_the_first() {
    let mut sealer = Sealer::new(&keys(u64::MAX)).unwrap();
    assert_eq!(sealer.seal(b"x", &mut Vec::new()), Err(RecordError::Worn));
}

proptest! {
    #[test]
    fn records_come_out_as_they_went_in(
        sizes in proptest::collection::vec(0_usize..3 * PLAIN_BYTES_MAX, 1..4),
        sequence in 0..u64::MAX / 2,
    ) {
        let mut sealer = Sealer::new(&keys(sequence)).unwrap();
        let (mut plain, mut sealed) = (Vec::new(), Vec::new());
        for (number, size) in sizes.into_iter().enumerate() {
            let part = vec![number as u8; size];
            sealer.seal(&part, &mut sealed).unwrap();
            plain.extend(part);
        }
        sealer.close(&mut sealed).unwrap();
        prop_assert_eq!(open_all(&sealed, sequence), (plain, Ok(true)));
    }

    #[test]
    fn whatever_is_changed_or_cut_only_a_beginning_of_the_truth_comes_out(
        plain in proptest::collection::vec(any::<u8>(), 1..200),
        at: prop::sample::Index,
        flip in 1_u8..,
        cut: bool,
    ) {
        let mut sealer = Sealer::new(&keys(7)).unwrap();
        let mut sealed = Vec::new();
        for part in plain.chunks(50) {
            sealer.seal(part, &mut sealed).unwrap();
        }
        sealer.close(&mut sealed).unwrap();
        let at = at.index(sealed.len());
        match cut {
            true => sealed.truncate(at),
            false => sealed[at] ^= flip,
        }
        let (found, end) = open_all(&sealed, 7);
        prop_assert!(plain.starts_with(&found));
        prop_assert_ne!(end, Ok(true), "the end is under the seal, too");
    }

    #[test]
    fn arbitrary_bytes_are_no_record(bytes in proptest::collection::vec(any::<u8>(), 0..2_000), header: bool) {
        let mut bytes = bytes;
        if header {
            let length = (bytes.len() as u16).to_be_bytes();
            bytes.splice(0..0, [23, 3, 3, length[0], length[1]]);
        }
        let whole = bytes.len() >= HEADER_BYTES;
        let (found, end) = open_all(&bytes, 0);
        prop_assert!(found.is_empty());
        prop_assert!(end.is_err() || (end == Ok(false) && (!whole || !header)));
    }
}
