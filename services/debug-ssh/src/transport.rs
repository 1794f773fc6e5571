//! The listener and the SSH library: which algorithms, which bounds, and a task for each connection.

use crate::House;
use crate::admission::Refused;
use crate::gate::{Gate, LOGIN_WITHIN};
use crate::person::Person;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey};
use russh::server::Config;
use russh::{MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, mac};
use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// A connection on which nobody says anything for so long is ended. `trace` at its longest is a minute.
const IDLE_AFTER: Duration = Duration::from_secs(600);
/// A refused key is answered after so long: a stranger tries no more than sixty keys a login.
const REJECT_AFTER: Duration = Duration::from_millis(300);
/// The rest of a failed accept (no descriptors, for example) is tried again after this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// What a person may send before it is looked at, in bytes, on each session.
const WINDOW_BYTES: u32 = 64 * 1024;

/// Key exchange: post-quantum first, then curve25519; each also by the marks that make the handshake tamper-proof (strict kex).
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

/// Ciphers that authenticate what they carry.
const CIPHERS: &[cipher::Name] = &[
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
];

/// The library's configuration. Public keys are the only method, and nothing is compressed.
pub(crate) fn config(host_key: PrivateKey) -> Config {
    let ecdsa = |curve| Algorithm::Ecdsa { curve };
    let rsa = |hash| Algorithm::Rsa { hash: Some(hash) };
    let keys = vec![
        Algorithm::Ed25519,
        ecdsa(EcdsaCurve::NistP256),
        ecdsa(EcdsaCurve::NistP384),
        ecdsa(EcdsaCurve::NistP521),
        rsa(HashAlg::Sha512),
        rsa(HashAlg::Sha256),
    ];
    Config {
        // Neither the program's name nor its version is a stranger's business.
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-Trousseau")),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: REJECT_AFTER,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![host_key],
        window_size: WINDOW_BYTES,
        maximum_packet_size: 16 * 1024,
        channel_buffer_size: 4,
        event_buffer_size: 4,
        preferred: Preferred {
            kex: Cow::Borrowed(KEX),
            key: Cow::Owned(keys),
            cipher: Cow::Borrowed(CIPHERS),
            // Not used with these ciphers, but one must be named.
            mac: Cow::Borrowed(&[mac::HMAC_SHA256_ETM]),
            compression: Cow::Borrowed(&[compression::NONE]),
            ..Preferred::DEFAULT
        },
        max_auth_attempts: 6,
        inactivity_timeout: Some(IDLE_AFTER),
        nodelay: true,
        ..Config::default()
    }
}

/// Lets people in for ever; an error is one of the listener itself.
pub(crate) async fn serve(
    listener: TcpListener,
    config: Arc<Config>,
    house: Arc<House>,
) -> io::Result<()> {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            // The one who hung up before we came, or our own lack: neither is the listener's end.
            Err(error) if is_passing(&error) => {
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let place = match house.admission.admit(peer.ip(), Instant::now()) {
            Ok(place) => place,
            Err(refused) => {
                tell(peer.ip(), &refused);
                continue;
            }
        };
        // Small packets of a person who types must not wait for the peer's acknowledgement.
        let _ = stream.set_nodelay(true);
        let opened = Arc::new(AtomicBool::new(false));
        let gate = Gate::new(stream, opened.clone(), LOGIN_WITHIN);
        let person = Person::new(house.clone(), peer, place, opened);
        let config = config.clone();
        tokio::spawn(async move {
            // What ends a stranger's connection is in the log where it was refused; a peer that goes away is no news.
            if let Ok(session) = russh::server::run_stream(config, gate, person).await {
                let _ = session.await;
            }
        });
    }
}

fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::MFILE
                | Errno::NFILE
                | Errno::NOBUFS
                | Errno::NOMEM
                | Errno::PROTO
                | Errno::TIMEDOUT
                | Errno::INTR
        )
    )
}

fn tell(address: std::net::IpAddr, refused: &Refused) {
    match refused {
        Refused::Full => runtime::warn!("{address} refused: no place is free"),
        Refused::TooMany => {
            runtime::warn!("{address} refused: too many connections that have not logged in");
        }
        Refused::TooOften { said: false } => runtime::warn!(
            "{address} refused: too many connections without a login; not told again for a minute"
        ),
        Refused::TooOften { said: true } => {}
    }
}
