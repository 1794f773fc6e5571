//! The bus: descriptors for names. It checks a right, makes the connection, hands out both ends and steps aside.
//!
//! Three conversations: [`Supply`] (the orchestrator asks for what a manifest declares), [`Connect`] (a service asks, at run
//! time, by name) and [`Door`] (a server is told of a new connection).

use crate::cluster::NodeKey;
use crate::health::Sealing;
use crate::wire::Conversation;
use serde::{Deserialize, Serialize};

/// The longest name of a service or a conversation, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// The most connections that one client may hold at a time; the next is refused with [`BusError::Quota`].
pub const CONNECTIONS_MAX: usize = 64;
/// How long a connection is waited for while its server restarts, in milliseconds; then [`BusError::Unavailable`].
pub const CONNECT_WAIT_MS: u64 = 10_000;
/// How long a connection to another node may take until a service has it, in milliseconds: TCP, the handshake and the other bus's answer.
pub const REACH_WITHIN_MS: u64 = 10_000;
/// Of a reason in words, in bytes.
pub const REASON_BYTES_MAX: usize = 256;

/// Orchestrator to bus.
pub enum Supply {}

impl Conversation for Supply {
    type Call = SupplyCall;
    type Answer = Result<SupplyAnswer, BusError>;
    const NAME: &'static str = "supply";
    const NUMBER: u8 = 2;
    const VERSION: u8 = 2;
}

/// What the orchestrator asks of the bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SupplyCall {
    /// All descriptors that the manifest of `service` declares and the bus makes (listeners, its door, its restricted bus channel), freshly
    /// made for a new incarnation; the earlier incarnation's connections are cut. Repeating it is harmless. If the bus dies
    /// half-way, the orchestrator sees a hang-up and is restarted with it.
    Pack {
        /// A service of the policy.
        service: String,
    },
    /// Cuts every connection of `service`, both as client and as server (shutdown(2) on the kept duplicates). It may connect again if
    /// its manifest lets it: whoever wants more ends the process.
    Revoke {
        /// A service of the policy.
        service: String,
    },
    /// Where the services with a placement run that do not run here → [`SupplyAnswer::Noted`]. It takes the place of all that was said of them before, so
    /// repeating it is harmless; a bus or an orchestrator that starts anew knows of none.
    Elsewhere {
        /// Service, and the names of its nodes in the roster: at most [`PLACED_MAX`](crate::schedule::PLACED_MAX) services. One that has no placement in the
        /// policy is passed over.
        services: Vec<(String, Vec<String>)>,
    },
}

/// What the bus answers to the orchestrator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SupplyAnswer {
    /// The grants' names, one descriptor each, in order.
    Packed(Vec<String>),
    /// So many connections were cut.
    Revoked(u32),
    /// It counts from here on.
    Noted,
}

/// A service to the bus, on the restricted channel that it was given: the bus knows who speaks by the channel, never by what is said.
pub enum Connect {}

impl Conversation for Connect {
    type Call = ConnectCall;
    type Answer = Result<ConnectAnswer, BusError>;
    const NAME: &'static str = "connect";
    const NUMBER: u8 = 3;
    const VERSION: u8 = 6;
}

/// What a service asks of the bus while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConnectCall {
    /// A connection to `service` for `conversation`: one descriptor, a connected `SOCK_SEQPACKET` end. Refused unless the
    /// caller's manifest calls it and the callee's serves it. Waits up to [`CONNECT_WAIT_MS`] while the callee restarts.
    ///
    /// A callee with a placement that runs on other nodes only is connected to there, on one of them, as by [`ConnectCall::OpenOn`]
    /// ([`ConnectAnswer::OpenedAcross`]); also where it arrives if it moves meanwhile. Then the last attempt may take [`REACH_WITHIN_MS`] longer, and
    /// the error says what it came to.
    Open {
        /// The callee's name.
        service: String,
        /// The conversation's name.
        conversation: String,
    },
    /// The listener that the caller's manifest grants under this name: one descriptor. For daemons, which init packs and not the bus; asked
    /// again after each start. Refused where the manifest has none, or the node does not listen there.
    Listen {
        /// The grant's name.
        name: String,
    },
    /// A TCP connection to an address outside of the node: one descriptor, which does not block and may still be connecting (connect(2),
    /// EINPROGRESS: it is writable when that is over, and SO_ERROR says how it went). Refused unless the caller's manifest dials this
    /// kind of address; `Unknown` where the operator has named none so. `System` where connect(2) fails at once (no route).
    Dial {
        /// Which of the kinds of addresses that manifests speak of: `webhook`.
        kind: String,
        /// The operator's name for the address.
        name: String,
    },
    /// A connection to `service` on another node ([`ConnectAnswer::OpenedAcross`]): one descriptor, a byte stream for frames that does not block; what is
    /// written into it is encrypted on its way. Refused unless the caller's manifest calls it across nodes and the callee's, over there, serves
    /// it so. `NoSuchNode` where the roster has no such member, `Unreachable` where there is no connection within [`REACH_WITHIN_MS`]. It is cut
    /// when either node stops being a member.
    OpenOn {
        /// The node's name in the roster.
        node: String,
        /// The callee's name.
        service: String,
        /// The conversation's name.
        conversation: String,
    },
}

/// What the bus answers to a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConnectAnswer {
    /// One descriptor comes along: packets to a service of this node, a listener, or what was dialled. Closing it is all that it takes to end the
    /// connection; but one that was dialled is shut down first (shutdown(2), both ways), since the bus holds a duplicate of this very end.
    Opened,
    /// One descriptor comes along: a byte stream to a service of another node, for frames ([`crate::stream`]), which no descriptor goes through; and who
    /// encrypts its bytes. It is shut down before it is closed, as one that was dialled.
    OpenedAcross(Sealing),
}

/// The bus to a server: somebody who may has connected. One descriptor comes along. Nothing is answered.
pub enum Door {}

impl Conversation for Door {
    type Call = Accept;
    type Answer = ();
    const NAME: &'static str = "door";
    const NUMBER: u8 = 4;
    const VERSION: u8 = 2;
}

/// A new connection for a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accept {
    /// Who is at the other end, by its manifest's name.
    pub client: String,
    /// Which of the server's conversations.
    pub conversation: String,
    /// Where the client is. From elsewhere the descriptor is a byte stream ([`crate::stream`]), not a packet socket.
    pub origin: Origin,
}

/// Where a client is, as the bus has proven it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// On this node.
    Here,
    /// On another node that belongs.
    Member {
        /// Its name in the roster.
        name: String,
        /// Its key.
        key: NodeKey,
    },
    /// On a node that nobody knows: its key is proven and says nothing yet.
    Stranger {
        /// Its key.
        key: NodeKey,
    },
}

/// Why the bus gives no descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BusError {
    /// The policy (the manifests) does not allow it.
    Denied,
    /// No such service or conversation.
    Unknown,
    /// The server did not come back within [`CONNECT_WAIT_MS`]. Ask again later.
    Unavailable,
    /// The caller holds [`CONNECTIONS_MAX`] connections already.
    Quota,
    /// The kernel refused (no descriptors, no memory): the errno.
    System(i32),
    /// The roster has no member of this name.
    NoSuchNode,
    /// The node gave no connection: why, at most [`REASON_BYTES_MAX`] bytes. Ask again later.
    Unreachable(String),
    /// The other node has not heard of this one yet, which may have joined a moment ago. Ask again later.
    NotKnownThere,
}

impl std::fmt::Display for BusError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Denied => write!(f, "denied by the manifests"),
            Self::Unknown => write!(f, "no such service or conversation"),
            Self::Unavailable => write!(f, "the service is not running"),
            Self::Quota => write!(f, "more than {CONNECTIONS_MAX} connections"),
            Self::System(errno) => write!(f, "the bus could not make a descriptor (errno {errno})"),
            Self::NoSuchNode => write!(f, "no member of the cluster has this name"),
            Self::Unreachable(why) => write!(f, "the node cannot be reached: {why}"),
            Self::NotKnownThere => write!(f, "the other node has not heard of this one yet"),
        }
    }
}

impl std::error::Error for BusError {}
