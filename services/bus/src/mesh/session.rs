//! One TLS session between two buses, from a connected socket to the keys of its records. Nothing in it ever waits.
//!
//! It takes one whole record at a time out of the socket, and none after the frame that it was waiting for: so what comes later is still in the
//! socket when the session's keys go to whoever reads on, and nothing decrypted has to go with them.

use super::MeshError;
use super::identity::node_key;
use protocol::cluster::NodeKey;
use protocol::mesh::{MESH_FRAME_BYTES_MAX, Mesh};
use protocol::relay::RecordKeys;
use protocol::stream::{self, Frames};
use protocol::wire;
use runtime::{receive_some, send_some};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustls::{Connection, ConnectionTrafficSecrets};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The header of a record (RFC 8446, 5.1).
const HEADER_BYTES: usize = 5;
/// change_cipher_spec, alert, handshake and application_data.
const RECORD_KINDS: std::ops::RangeInclusive<u8> = 20..=23;
/// A record's longest body: 2^14 bytes and what the seal adds (RFC 8446, 5.2).
const BODY_BYTES_MAX: usize = 16_384 + 256;
/// All that a peer may send until the session is handed over: a handshake with raw keys is below 1 KiB.
const SESSION_BYTES_MAX: usize = 16 * 1024;

/// The keys of both directions.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) seal: RecordKeys,
    pub(crate) open: RecordKeys,
}

/// A session that the bus holds.
pub(crate) struct Session {
    socket: OwnedFd,
    tls: Connection,
    /// Of the record that is coming.
    record: Vec<u8>,
    received: usize,
    frames: Frames,
}

impl Session {
    /// Over a connected, non-blocking socket.
    pub(crate) fn new(socket: OwnedFd, tls: Connection) -> Self {
        Self {
            socket,
            tls,
            record: Vec::new(),
            received: 0,
            frames: Frames::default(),
        }
    }

    /// The key that the peer has proven; only when the handshake is over.
    pub(crate) fn peer(&self) -> Option<NodeKey> {
        if self.tls.is_handshaking() {
            return None;
        }
        self.tls.peer_certificates()?.first().and_then(node_key)
    }

    /// Goes on as far as it can: the next message of the peer, or `None` if it has to wait.
    pub(crate) fn hear<T: DeserializeOwned>(&mut self) -> Result<Option<T>, MeshError> {
        loop {
            self.flush()?;
            if let Some(frame) = self.frames.next().map_err(|_| MeshError::Nonsense)? {
                if frame.len() > MESH_FRAME_BYTES_MAX {
                    return Err(MeshError::Nonsense);
                }
                return wire::decode::<Mesh, T>(frame)
                    .map(Some)
                    .map_err(|_| MeshError::Nonsense);
            }
            let Some(record) = self.read_record()? else {
                return Ok(None);
            };
            let fed = self.feed(&record);
            if fed.is_err() {
                // The alert that tells the peer why, if it still goes.
                let _ = self.flush();
            }
            fed?;
        }
    }

    fn feed(&mut self, mut record: &[u8]) -> Result<(), MeshError> {
        while !record.is_empty() {
            self.tls.read_tls(&mut record).map_err(errno_of)?;
            let state = self.tls.process_new_packets()?;
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            self.tls.reader().read_exact(&mut plain).map_err(errno_of)?;
            self.frames.push(&plain);
            if state.peer_has_closed() {
                return Err(MeshError::Ended);
            }
        }
        Ok(())
    }

    /// One whole record, or `None` while it is not there.
    fn read_record(&mut self) -> Result<Option<Vec<u8>>, MeshError> {
        let mut chunk = [0; 2_048];
        loop {
            let missing = match self.record.as_slice() {
                [kind, major, _, high, low, ..] => {
                    let body = usize::from(u16::from_be_bytes([*high, *low]));
                    // Whoever speaks something else is not waited for until it has filled a record.
                    if !RECORD_KINDS.contains(kind) || *major != 3 || body > BODY_BYTES_MAX {
                        return Err(MeshError::Nonsense);
                    }
                    HEADER_BYTES + body - self.record.len()
                }
                begun => HEADER_BYTES - begun.len(),
            };
            if missing == 0 {
                return Ok(Some(std::mem::take(&mut self.record)));
            }
            let room = chunk.len().min(missing);
            let room = chunk.get_mut(..room).unwrap_or_default();
            let count = match receive_some(self.socket.as_fd(), room) {
                Err(Errno::AGAIN) => return Ok(None),
                Err(errno) => return Err(MeshError::Socket(errno)),
                Ok((0, _)) => return Err(MeshError::Ended),
                Ok((count, _)) => count,
            };
            self.received += count;
            if self.received > SESSION_BYTES_MAX {
                return Err(MeshError::Nonsense);
            }
            self.record
                .extend_from_slice(chunk.get(..count).unwrap_or_default());
        }
    }

    /// Says one message; it goes with [`Session::flush`].
    pub(crate) fn say(&mut self, message: &impl Serialize) -> Result<(), MeshError> {
        let bytes = wire::encode::<Mesh>(message).map_err(|_| MeshError::Nonsense)?;
        let frame = stream::frame(&bytes).map_err(|_| MeshError::Nonsense)?;
        self.tls.writer().write_all(&frame).map_err(errno_of)
    }

    /// Sends what there is to send; true when all has gone.
    pub(crate) fn flush(&mut self) -> Result<bool, MeshError> {
        while self.tls.wants_write() {
            let sent = self.tls.write_tls(&mut Sending(self.socket.as_fd()));
            match sent {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(errno_of(error)),
            }
        }
        Ok(true)
    }

    /// Takes leave of a peer that gets nothing.
    pub(crate) fn farewell(&mut self) {
        self.tls.send_close_notify();
    }

    /// What is to be polled for.
    pub(crate) fn wants(&self) -> PollFlags {
        match self.tls.wants_write() {
            true => PollFlags::IN | PollFlags::OUT,
            false => PollFlags::IN,
        }
    }

    /// The socket and the keys by which somebody else goes on. To be called when everything has been flushed.
    ///
    /// # Errors
    /// [`MeshError::Nonsense`] where the peer has said more than its one message: those bytes would be lost.
    pub(crate) fn into_keys(self) -> Result<(OwnedFd, Keys), MeshError> {
        if !self.frames.is_empty() || !self.record.is_empty() || self.tls.wants_write() {
            return Err(MeshError::Nonsense);
        }
        let secrets = self.tls.dangerous_extract_secrets()?;
        let keys = Keys {
            seal: record_keys(secrets.tx)?,
            open: record_keys(secrets.rx)?,
        };
        Ok((self.socket, keys))
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn record_keys(
    (sequence, secrets): (u64, ConnectionTrafficSecrets),
) -> Result<RecordKeys, MeshError> {
    let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
        return Err(MeshError::Nonsense);
    };
    match (key.as_ref().try_into(), iv.as_ref().try_into()) {
        (Ok(key), Ok(iv)) => Ok(RecordKeys { key, iv, sequence }),
        _ => Err(MeshError::Nonsense),
    }
}

fn errno_of(error: io::Error) -> MeshError {
    MeshError::Socket(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// A socket as rustls writes to it.
struct Sending<'a>(BorrowedFd<'a>);

impl Write for Sending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        send_some(self.0, &[bytes]).map_err(Into::into)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
