//! What processes say to each other: one module per conversation, and the packet that carries a message with its descriptors.
//!
//! Every conversation runs over a connected `SOCK_SEQPACKET` socket: one message is one packet, with at most
//! [`channel::DESCRIPTORS_MAX`] descriptors; between nodes, where no descriptor can travel, one message is a frame of a [`stream`]. The types are the contract: nothing here does work, and no module knows a path
//! or an address. Absent on purpose: a registry of services, a generic "call by name", any buffering.
#![forbid(unsafe_code)]

pub mod block;
pub mod bus;
pub mod channel;
pub mod cluster;
pub mod copies;
pub mod health;
pub mod inspect;
pub mod membership;
pub mod mesh;
pub mod metadata;
pub mod peers;
pub mod relay;
pub mod schedule;
pub mod settings;
pub mod start;
pub mod stream;
pub mod token;
pub mod trace;
pub mod verbs;
pub mod wire;

pub use channel::{Channel, Packet};
pub use wire::{Conversation, DecodeError};
