//! The way to other nodes. One node has none: whoever is asked for cannot be reached.
//!
//! The cluster brings connections by name from the bus; until then a group with a second member would wait for it and say so,
//! and never pretend.

use super::snapshot::Snapshot;
use super::types::{Peer, Types, Vote};
use openraft::OptionalSend;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use std::future::Future;

type RaftSnapshot = openraft::alias::SnapshotOf<Types, Snapshot>;

/// Makes ways to peers that do not exist.
pub(crate) struct NoPeers;

/// The way to a peer that does not exist.
pub(crate) struct NoPeer {
    name: String,
}

impl NoPeer {
    fn unreachable(&self) -> Unreachable<Types> {
        Unreachable::from_string(format!("no connection to node {}", self.name))
    }
}

impl RaftNetworkFactory<Types> for NoPeers {
    type Network = NoPeer;

    async fn new_client(&mut self, _target: u64, node: &Peer) -> NoPeer {
        NoPeer {
            name: node.name.clone(),
        }
    }
}

impl RaftNetworkV2<Types> for NoPeer {
    type SnapshotData = Snapshot;

    async fn append_entries(
        &mut self,
        _request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        Err(self.unreachable().into())
    }

    async fn vote(
        &mut self,
        _request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(self.unreachable().into())
    }

    async fn pre_vote(
        &mut self,
        _request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(self.unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: RaftSnapshot,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        Err(self.unreachable().into())
    }
}
