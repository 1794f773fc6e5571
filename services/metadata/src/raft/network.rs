//! The way of one group to other nodes, as openraft wants it: requests over the [`Ways`] that all groups share.
//!
//! Each request waits for its answer, so a slow node is sent one batch at a time and nothing piles up here. A snapshot is sent part by
//! part, one in memory at a time, and is given up as soon as openraft does not want it any more.

use super::shard;
use super::snapshot::Snapshot;
use super::types::{Peer, SnapshotMeta, Types, Vote};
use crate::ways::{WayError, Ways};
use openraft::entry::RaftEntry;
use openraft::errors::{
    ErrorSource, NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftTypeConfig, StorageError};
use protocol::peers::{Chunk, PeersAnswer, PeersCall, RaftMessage, SnapshotPart};
use serde::{Serialize, de::DeserializeOwned};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

/// How long an append that brings entries may take at least: the other side syncs its disk first, and a slow one must not be sent the same again and again.
const APPEND_MIN: Duration = Duration::from_secs(2);
/// How long a part of a snapshot may take.
const PART_MAX: Duration = Duration::from_secs(30);
/// What a part of a snapshot holds at most, in bytes: several chunks, so that a distant node is not waited for 64 KiB at a time.
const PART_BYTES_MAX: usize = 1 << 20;
/// A node out of reach is tried again after this time, doubled …
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// … up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

type RaftSnapshot = openraft::alias::SnapshotOf<Types, Snapshot>;

/// Makes the ways of one group.
pub(crate) struct Network {
    pub(crate) ways: Rc<Ways>,
    pub(crate) shard: u16,
    pub(crate) node: u64,
}

/// The way of one group to one node.
pub(crate) struct Way {
    ways: Rc<Ways>,
    shard: u16,
    node: u64,
    target: u64,
    name: String,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Way;

    async fn new_client(&mut self, target: u64, peer: &Peer) -> Way {
        Way {
            ways: self.ways.clone(),
            shard: self.shard,
            node: self.node,
            target,
            name: peer.name.clone(),
        }
    }
}

impl Way {
    async fn call(&self, call: &PeersCall, within: Duration) -> Result<PeersAnswer, WayError> {
        let name = self.ways.name(self.target, &self.name);
        self.ways.call(&name, call, within).await
    }

    /// Sends a message of openraft's and decodes the answer.
    async fn ask<A: DeserializeOwned>(
        &self,
        message: RaftMessage,
        within: Duration,
        action: RPCTypes,
    ) -> Result<A, RPCError<Types>> {
        let call = PeersCall::Raft {
            shard: self.shard,
            message,
        };
        match self.call(&call, within).await {
            Ok(PeersAnswer::Raft(bytes)) => {
                shard::decode(&bytes, "answer of another node").map_err(|error| network(&error))
            }
            Ok(other) => Err(unreachable(&unexpected(&other))),
            Err(WayError::NotSent(why)) => Err(unreachable(&why)),
            Err(WayError::Lost(_)) => Err(RPCError::Timeout(Timeout {
                action,
                id: self.node,
                target: self.target,
                timeout: within,
            })),
        }
    }

    /// Sends a part of a snapshot.
    async fn part(
        &self,
        transfer: u64,
        part: SnapshotPart,
        within: Duration,
    ) -> Result<PeersAnswer, StreamingError<Types>> {
        let call = PeersCall::Snapshot {
            shard: self.shard,
            transfer,
            part,
        };
        match self.call(&call, within).await {
            Ok(answer @ (PeersAnswer::Done | PeersAnswer::Raft(_))) => Ok(answer),
            Ok(other) => Err(StreamingError::from(unreachable(&unexpected(&other)))),
            Err(error) => Err(StreamingError::from(unreachable(&error.to_string()))),
        }
    }

    async fn send(
        &self,
        vote: Vote,
        snapshot: RaftSnapshot,
        option: &RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let Snapshot::View(mut view) = snapshot.snapshot else {
            let why = "a snapshot that is still being received is not to be sent";
            return Err(StreamingError::from(unreachable(why)));
        };
        let transfer = crate::random_number().map_err(|error| failed(&error))?;
        let part_bytes = self.ways.room().min(PART_BYTES_MAX);
        self.part(transfer, SnapshotPart::Begin, PART_MAX).await?;
        let (mut parts, mut next) = (0, view.chunk().map_err(|error| failed(&error))?);
        while let Some(first) = next.take() {
            let mut bytes = first.len();
            let mut chunks = vec![Chunk(first)];
            while let Some(chunk) = view.chunk().map_err(|error| failed(&error))? {
                bytes += chunk.len();
                if bytes > part_bytes {
                    next = Some(chunk);
                    break;
                }
                chunks.push(Chunk(chunk));
            }
            let rows = SnapshotPart::Rows {
                number: parts,
                chunks,
            };
            self.part(transfer, rows, PART_MAX).await?;
            parts += 1;
        }
        let install = SnapshotPart::Install {
            parts,
            vote: encode(&vote)?,
            meta: encode::<SnapshotMeta>(&snapshot.meta)?,
        };
        let answer = self.part(transfer, install, option.soft_ttl()).await?;
        let PeersAnswer::Raft(bytes) = answer else {
            return Err(StreamingError::from(unreachable("not installed")));
        };
        shard::decode(&bytes, "answer of another node")
            .map_err(|error| StreamingError::from(network(&error)))
    }
}

impl RaftNetworkV2<Types> for Way {
    type SnapshotData = Snapshot;

    async fn append_entries(
        &mut self,
        mut request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let whole = request.entries.len();
        let mut bytes = encode(&request)?;
        while bytes.len() > self.ways.room() && request.entries.len() > 1 {
            request.entries.truncate(request.entries.len() / 2);
            bytes = encode(&request)?;
        }
        let within = match whole {
            0 => option.soft_ttl(),
            _ => option.soft_ttl().max(APPEND_MIN),
        };
        let message = RaftMessage::Append(bytes);
        let answer = self.ask(message, within, RPCTypes::AppendEntries).await?;
        Ok(match answer {
            AppendEntriesResponse::Success if request.entries.len() < whole => {
                let last = request.entries.last().map(RaftEntry::log_id);
                AppendEntriesResponse::PartialSuccess(last)
            }
            answer => answer,
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let message = RaftMessage::Vote(encode(&request)?);
        self.ask(message, option.soft_ttl(), RPCTypes::Vote).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let message = RaftMessage::PreVote(encode(&request)?);
        self.ask(message, option.soft_ttl(), RPCTypes::Vote).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send(vote, snapshot, &option) => sent,
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let message = RaftMessage::Transfer(encode(&request)?);
        self.ask(message, option.soft_ttl(), RPCTypes::TransferLeader)
            .await
    }

    fn backoff(&self) -> Option<Backoff> {
        let next = |wait: &Duration| Some((*wait * 2).min(BACKOFF_MAX));
        Some(Backoff::new(std::iter::successors(Some(BACKOFF_MIN), next)))
    }
}

fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, RPCError<Types>> {
    postcard::to_allocvec(message).map_err(|error| network(&error))
}

fn unreachable(why: &str) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::from_string(why))
}

fn network(error: &(impl std::error::Error + 'static)) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(error))
}

fn failed(error: &crate::Error) -> StreamingError<Types> {
    let why = <Types as RaftTypeConfig>::ErrorSource::from_string(error.to_string());
    StreamingError::StorageError(StorageError::read_snapshot(None, why))
}

fn unexpected(answer: &PeersAnswer) -> String {
    match answer {
        PeersAnswer::Refused(why) => why.clone(),
        _ => "another answer than was asked for".into(),
    }
}
