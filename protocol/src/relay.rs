//! The bus to the relay, where the kernel cannot do the records of TLS itself: a connection whose handshake is over, and the keys of its records.
//!
//! Nothing is answered: as with a door, the bus waits for nobody.

use crate::bus::REASON_BYTES_MAX;
use crate::wire::Conversation;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most connections that the relay carries at a time, in each direction of asking.
pub const RELAYED_MAX: usize = 1_024;
/// Of [`Relayed::about`], in bytes.
pub const ABOUT_BYTES_MAX: usize = REASON_BYTES_MAX;

/// Marker of this conversation.
pub enum Relay {}

impl Conversation for Relay {
    type Call = Relayed;
    type Answer = ();
    const NAME: &'static str = "relay";
    const NUMBER: u8 = 23;
    const VERSION: u8 = 1;
}

/// One connection. Two descriptors come along: the TCP socket, and one end of a stream socket pair whose other end a service has. What comes out
/// of the one goes into the other until both have ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relayed {
    /// For what goes to the other node.
    pub seal: RecordKeys,
    /// For what comes from it.
    pub open: RecordKeys,
    /// Whose connection it is, for the log. At most [`ABOUT_BYTES_MAX`] bytes.
    pub about: String,
}

/// The keys of one direction, of TLS_AES_128_GCM_SHA256 (RFC 8446, B.4): the only suite between nodes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordKeys {
    /// `[sender]_write_key` (RFC 8446, 7.3).
    pub key: [u8; 16],
    /// `[sender]_write_iv`.
    pub iv: [u8; 12],
    /// The number of the next record.
    pub sequence: u64,
}

/// Without the keys: this may stand in a log.
impl fmt::Debug for RecordKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordKeys(record {})", self.sequence)
    }
}
