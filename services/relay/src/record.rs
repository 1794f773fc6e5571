//! The records of TLS 1.3 (RFC 8446, 5) in one direction, with keys that a handshake has agreed on. Pure: bytes in, bytes out.
//!
//! The only suite is TLS_AES_128_GCM_SHA256; the seal is `ring`'s. Keys are never changed: the bus's services replace a connection long before.

use protocol::relay::RecordKeys;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::fmt;

/// The header: type, version, length.
pub(crate) const HEADER_BYTES: usize = 5;
/// The most plain bytes of a record (RFC 8446, 5.1).
pub(crate) const PLAIN_BYTES_MAX: usize = 16 * 1024;
/// The longest body: the plain bytes, and at most 256 that sealing adds (RFC 8446, 5.2).
const BODY_BYTES_MAX: usize = PLAIN_BYTES_MAX + 256;
/// What sealing adds to our own records: the inner type and the tag.
const SEAL_BYTES: usize = 1 + 16;
/// Full records that one key may seal with a margin to its limit (RFC 8446, 5.5: 2^24.5). Of smaller ones as many bytes.
const RECORDS_MAX: u64 = 1 << 24;

/// On the wire every record is application data of TLS 1.2 (RFC 8446, 5.2).
const OUTER: [u8; 3] = [23, 3, 3];
const ALERT: u8 = 21;
const DATA: u8 = 23;
/// Level "warning", as it is always sent, and the description close_notify (RFC 8446, 6.1).
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

/// Why a direction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Error {
    /// Not a record of TLS, longer than one may be, or one that may not come after a handshake.
    Malformed,
    /// Its seal does not open: somebody in between has touched it, or the keys are not the other end's.
    Forged,
    /// The other end has given up: the alert's description (RFC 8446, 6.2).
    Alert(u8),
    /// The key has been used as long as it may be.
    Worn,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => write!(f, "what came is no record of TLS"),
            Self::Forged => write!(f, "a record's seal is broken"),
            Self::Alert(description) => {
                write!(f, "the other end has given up (TLS alert {description})")
            }
            Self::Worn => write!(f, "the keys have been used as long as they may be"),
        }
    }
}

/// What a record is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened<'a> {
    /// Bytes of the conversation.
    Data(&'a [u8]),
    /// The other end sends nothing more.
    Closed,
}

/// One direction's key and the number of its next record.
struct Direction {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

impl Direction {
    /// `None` if the library does not take the key, which it does.
    fn new(keys: &RecordKeys) -> Option<Self> {
        Some(Self {
            key: LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &keys.key).ok()?),
            iv: keys.iv,
            sequence: keys.sequence,
        })
    }

    /// The nonce of the next record (RFC 8446, 5.3), each once.
    fn nonce(&mut self) -> Result<Nonce, Error> {
        let mut nonce = self.iv;
        let number = self.sequence.to_be_bytes();
        let last = nonce.iter_mut().rev().zip(number.iter().rev());
        last.for_each(|(byte, of_number)| *byte ^= of_number);
        self.sequence = self.sequence.checked_add(1).ok_or(Error::Worn)?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

/// Makes records.
pub(crate) struct Sealer {
    direction: Direction,
    sealed_bytes: u64,
}

impl Sealer {
    /// With these keys; `None` if they are none.
    pub(crate) fn new(keys: &RecordKeys) -> Option<Self> {
        Some(Self {
            direction: Direction::new(keys)?,
            sealed_bytes: 0,
        })
    }

    /// Appends the records that carry `plain` to `out`.
    pub(crate) fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        plain
            .chunks(PLAIN_BYTES_MAX)
            .try_for_each(|part| self.record(part, DATA, out))
    }

    /// Appends the record that says that nothing more comes.
    pub(crate) fn close(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.record(&CLOSE_NOTIFY, ALERT, out)
    }

    fn record(&mut self, plain: &[u8], kind: u8, out: &mut Vec<u8>) -> Result<(), Error> {
        self.sealed_bytes += plain.len() as u64;
        if self.sealed_bytes > RECORDS_MAX * PLAIN_BYTES_MAX as u64 {
            return Err(Error::Worn);
        }
        let length = u16::try_from(plain.len() + SEAL_BYTES).map_err(|_| Error::Malformed)?;
        let [high, low] = length.to_be_bytes();
        let [outer, major, minor] = OUTER;
        let header = [outer, major, minor, high, low];
        out.extend_from_slice(&header);
        let from = out.len();
        out.extend_from_slice(plain);
        out.push(kind);
        let nonce = self.direction.nonce()?;
        let body = out.get_mut(from..).unwrap_or_default();
        let tag = self
            .direction
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(header), body)
            .map_err(|_| Error::Worn)?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }
}

/// Reads records.
pub(crate) struct Opener {
    direction: Direction,
}

impl Opener {
    /// With these keys; `None` if they are none.
    pub(crate) fn new(keys: &RecordKeys) -> Option<Self> {
        Some(Self {
            direction: Direction::new(keys)?,
        })
    }

    /// The first record of `bytes`, opened in place, and how many bytes it took; `None` while it is not whole.
    pub(crate) fn open<'a>(
        &mut self,
        bytes: &'a mut [u8],
    ) -> Result<Option<(Opened<'a>, usize)>, Error> {
        let Some((header, rest)) = bytes.split_first_chunk_mut::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [outer, major, minor, high, low] = *header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if [outer, major, minor] != OUTER || !(SEAL_BYTES..=BODY_BYTES_MAX).contains(&length) {
            return Err(Error::Malformed);
        }
        let Some(body) = rest.get_mut(..length) else {
            return Ok(None);
        };
        let nonce = self.direction.nonce()?;
        let inner = self
            .direction
            .key
            .open_in_place(nonce, Aad::from(*header), body)
            .map_err(|_| Error::Forged)?;
        // Zeros may stand behind the type, to hide the length (RFC 8446, 5.4).
        let end = inner.iter().rposition(|byte| *byte != 0);
        let (plain, kind) = match end.and_then(|end| inner.get(..=end)?.split_last()) {
            Some((kind, plain)) => (plain, *kind),
            None => return Err(Error::Malformed),
        };
        if plain.len() > PLAIN_BYTES_MAX {
            return Err(Error::Malformed);
        }
        let opened = match (kind, plain) {
            (DATA, plain) => Opened::Data(plain),
            (ALERT, [_, 0]) => Opened::Closed,
            (ALERT, [_, description]) => return Err(Error::Alert(*description)),
            // Tickets and changes of keys, which our own never send, and whatever else there may be.
            _ => return Err(Error::Malformed),
        };
        Ok(Some((opened, HEADER_BYTES + length)))
    }
}
