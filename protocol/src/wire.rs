//! Bytes of a message: two bytes of header (conversation, version), then the message in postcard.
//!
//! A peer that speaks another conversation or another version is told apart before a byte of its message is decoded.

use serde::{Serialize, de::DeserializeOwned};
use std::fmt;

/// The largest message, header included, in bytes. A packet that is longer was truncated by the kernel and ends the connection.
pub const MESSAGE_BYTES_MAX: usize = 128 * 1024;

/// What most messages fit into, in bytes.
const USUAL_BYTES: usize = 512;

/// A conversation: which messages travel on a connection, and in which version.
///
/// Implemented by a marker type per module; the two numbers stand in front of each message.
pub trait Conversation: 'static {
    /// What the client side says.
    type Call: Serialize + DeserializeOwned + fmt::Debug;
    /// What the serving side says.
    type Answer: Serialize + DeserializeOwned + fmt::Debug;
    /// The name in manifests.
    const NAME: &'static str;
    /// The first byte of each message; unique in this crate.
    const NUMBER: u8;
    /// The second byte: raised with every change of the messages.
    const VERSION: u8;
    /// The largest message, header included, in bytes. More than a packet holds only where the conversation is between nodes, over a
    /// byte stream ([`crate::stream`]).
    const BYTES_MAX: usize = MESSAGE_BYTES_MAX;
    /// What is shown of a call where calls are counted by kind: the first word of its `Debug` form, which for an enum is the variant.
    fn kind(call: &Self::Call) -> &dyn fmt::Debug {
        call
    }
}

/// A call or an answer with the number that ties the two together. Answers may come in any order.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Numbered<T> {
    /// Chosen by the caller; unique among its calls under way on this connection.
    pub id: u32,
    /// The call, or the answer to the call with the same number.
    pub body: T,
}

/// Why bytes are not a message. Whoever receives one hangs up: the peer is broken or of another version.
#[derive(Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Shorter than the header.
    Short,
    /// Longer than [`Conversation::BYTES_MAX`].
    Long,
    /// The number of another conversation.
    Conversation {
        /// What stood in the header.
        found: u8,
        /// What this side speaks.
        expected: u8,
    },
    /// The right conversation in another version.
    Version {
        /// What stood in the header.
        found: u8,
        /// What this side speaks.
        expected: u8,
    },
    /// Not the bytes of any message of this conversation, or bytes left over behind one.
    Malformed,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => write!(f, "message shorter than its header"),
            Self::Long => write!(f, "message longer than its conversation allows"),
            Self::Conversation { found, expected } => {
                write!(f, "message of conversation {found}, expected {expected}")
            }
            Self::Version { found, expected } => {
                write!(
                    f,
                    "message of version {found}, expected {expected}: are both ends of the same build?"
                )
            }
            Self::Malformed => write!(f, "malformed message"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// The bytes of `message` in conversation `C`.
///
/// Errors with [`DecodeError::Long`] where the message would not fit one packet; the caller's own limits (keys, pages,
/// inlined bytes) keep every well-formed message below it.
pub fn encode<C: Conversation>(message: &impl Serialize) -> Result<Vec<u8>, DecodeError> {
    // Most messages fit at once; growing from nothing would move each of them half a dozen times.
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    bytes.extend([C::NUMBER, C::VERSION]);
    let bytes = postcard::to_extend(message, bytes).map_err(|_| DecodeError::Malformed)?;
    if bytes.len() > C::BYTES_MAX {
        Err(DecodeError::Long)
    } else {
        Ok(bytes)
    }
}

/// The message in `bytes`, which came from a peer and may be anything.
///
/// Refuses what [`encode`] would not have made: another conversation or version, bytes left over, over-long packets. Memory
/// used is bounded by the packet: postcard allocates as it reads, never by a length it was told.
pub fn decode<C: Conversation, T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > C::BYTES_MAX {
        return Err(DecodeError::Long);
    }
    let [conversation, version, body @ ..] = bytes else {
        return Err(DecodeError::Short);
    };
    if *conversation != C::NUMBER {
        return Err(DecodeError::Conversation {
            found: *conversation,
            expected: C::NUMBER,
        });
    }
    if *version != C::VERSION {
        return Err(DecodeError::Version {
            found: *version,
            expected: C::VERSION,
        });
    }
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        _ => Err(DecodeError::Malformed),
    }
}
