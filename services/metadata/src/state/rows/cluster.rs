//! Rows of the cluster: who belongs, who is invited, and which services run where.

use super::key;
use protocol::cluster::NodeKey;
use serde::{Deserialize, Serialize};

/// What is known of an invitation. Its secret is not: the key of the row is the secret's hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Invitation {
    /// Who has it may join before that, in milliseconds since 1970.
    pub(crate) expires_ms: u64,
    /// The node that did.
    pub(crate) used_by: Option<NodeKey>,
}

pub(crate) fn cluster() -> Vec<u8> {
    key(b'C', None, &[])
}

pub(crate) fn invitation(secret_hash: &[u8; 32]) -> Vec<u8> {
    key(b'I', None, &[secret_hash])
}

/// The start of all `I` rows.
pub(crate) fn invitations() -> Vec<u8> {
    key(b'I', None, &[])
}

pub(crate) fn schedule() -> Vec<u8> {
    key(b'O', None, &[])
}

pub(crate) fn wished_copies() -> Vec<u8> {
    key(b'd', None, &[])
}
