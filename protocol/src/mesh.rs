//! Between the buses of two nodes, over a TLS session in which each has proven its key: one question, one answer, and then the connection is
//! no longer theirs.
//!
//! The bus that dials says [`OpenRemote`] in one frame ([`crate::stream`]) and nothing more. The other answers in one frame and, after a yes, says nothing
//! more either: the next byte is the callee's or the caller's, so nothing that was decrypted has to travel with the descriptor.

use crate::bus::BusError;
use crate::wire::Conversation;
use serde::{Deserialize, Serialize};

/// The longest frame of this conversation, in bytes.
pub const MESH_FRAME_BYTES_MAX: usize = 1_024;

/// Marker of this conversation.
pub enum Mesh {}

impl Conversation for Mesh {
    type Call = OpenRemote;
    type Answer = Result<(), BusError>;
    const NAME: &'static str = "mesh";
    const NUMBER: u8 = 21;
    const VERSION: u8 = 1;
}

/// What the bus that dialled asks for. Its node is known by the key of the session; the service is believed to be what the node says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRemote {
    /// The calling service.
    pub client: String,
    /// The callee.
    pub service: String,
    /// Which of its conversations.
    pub conversation: String,
}
