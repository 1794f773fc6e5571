//! The way of one group to other nodes, as openraft wants it: requests over the [`Ways`] that all groups share.
//!
//! Entries are sent without waiting for the answer to those before, up to a bound, so a slow node does not make anything pile up here. A snapshot is sent part by
//! part, one in memory at a time, and is given up as soon as openraft does not want it any more.

use super::shard;
use super::snapshot::Snapshot;
use super::types::{LogId, Peer, SnapshotMeta, Types, Vote};
use crate::ways::{WayError, Ways};
use futures_util::stream::{Stream, StreamExt, unfold};
use openraft::base::{BoxFuture, BoxStream};
use openraft::entry::RaftEntry;
use openraft::errors::{
    ErrorSource, NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftTypeConfig, StorageError};
use protocol::peers::{Chunk, PeersAnswer, PeersCall, RaftMessage, SnapshotPart};
use serde::{Serialize, de::DeserializeOwned};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

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

/// Appends to one node that are not answered yet, of one group …
const UNDER_WAY_MAX: usize = 16;
/// … and what they hold together, in KiB; one that is larger goes alone.
const UNDER_WAY_KIB: u32 = 1_024;

/// What [`RaftNetworkV2::stream_append`] gives: answers in the order of the requests.
type Answers<'s> = BoxFuture<'s, Result<AnswerStream<'s>, RPCError<Types>>>;
type AnswerStream<'s> = BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>;

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

/// Entries on their way.
struct Append {
    bytes: Vec<u8>,
    /// They follow this one …
    before: Option<LogId>,
    /// … and end with this one.
    last: Option<LogId>,
    /// All that were to be sent are in it.
    whole: bool,
    /// How long the answer may take.
    within: Duration,
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

    /// As many of the entries as fit a message.
    fn pack(
        &self,
        mut request: AppendEntriesRequest<Types>,
        option: &RPCOption,
    ) -> Result<Append, RPCError<Types>> {
        let within = match request.entries.is_empty() {
            true => option.soft_ttl(),
            false => option.soft_ttl().max(APPEND_MIN),
        };
        let count = request.entries.len();
        let mut bytes = encode(&request)?;
        while bytes.len() > self.ways.room() && request.entries.len() > 1 {
            request.entries.truncate(request.entries.len() / 2);
            bytes = encode(&request)?;
        }
        let before = request.prev_log_id;
        Ok(Append {
            bytes,
            before,
            last: request.entries.last().map(RaftEntry::log_id).or(before),
            whole: request.entries.len() == count,
            within,
        })
    }

    async fn append(
        &self,
        append: Append,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let message = RaftMessage::Append(append.bytes);
        let answer = self
            .ask(message, append.within, RPCTypes::AppendEntries)
            .await?;
        Ok(match answer {
            AppendEntriesResponse::Success if !append.whole => {
                AppendEntriesResponse::PartialSuccess(append.last)
            }
            answer => answer,
        })
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
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let append = self.pack(request, &option)?;
        self.append(append).await
    }

    /// Sends requests without waiting for the answers to those before: one that only tells what is committed would else hold up the next entries for a
    /// whole round trip. They go over one connection and mostly come in order; one that overtakes another is refused and sent again.
    fn stream_append<'s, S>(&'s mut self, requests: S, option: RPCOption) -> Answers<'s>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let way = &*self;
        let room = Arc::new(Semaphore::new(UNDER_WAY_KIB as usize));
        let packed = requests.then(move |request| {
            let (append, room) = (way.pack(request, &option), room.clone());
            async move {
                let append = append?;
                let kib = u32::try_from(append.bytes.len() / 1024).unwrap_or(u32::MAX);
                let taken = room.acquire_many_owned(kib.clamp(1, UNDER_WAY_KIB)).await;
                Ok::<_, RPCError<Types>>((append, taken))
            }
        });
        let sent = packed.map(move |packed| async move {
            let (append, _taken) = packed?;
            let (before, last, whole) = (append.before, append.last, append.whole);
            let result = way.append(append).await?.into_stream_result(before, last);
            let goes_on = whole && result.is_ok();
            Ok((result, goes_on))
        });
        // What was sent after a request that was not done wholly came to nothing: openraft begins again where that one left off. It must not hear of a
        // conflict at an entry that was just acknowledged, which to it is a log that has lost something: that request has overtaken the one before.
        let answers = sent.buffered(UNDER_WAY_MAX).boxed_local();
        let answers = unfold((Some(answers), None), |(answers, known)| async move {
            let mut answers = answers?;
            let (result, goes_on) = match answers.next().await? {
                Ok(answer) => answer,
                Err(error) => return Some((Err(error), (None, known))),
            };
            let known = match &result {
                Ok(matching) => known.max(*matching),
                Err(StreamAppendError::Conflict(at)) if known >= Some(*at) => return None,
                Err(_) => known,
            };
            Some((Ok(result), (goes_on.then_some(answers), known)))
        });
        Box::pin(std::future::ready(Ok(answers.boxed_local())))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests: a panic is the failure")]
    use super::*;
    use crate::raft::types::Entry;
    use crate::ways::Reach;
    use futures_util::future::LocalBoxFuture;
    use futures_util::stream::{iter, pending};
    use openraft::vote::RaftLeaderId;
    use runtime::CallError;
    use std::cell::Cell;
    use tokio::sync::watch;
    use tokio::time::Instant;

    /// A node that is a second away and takes everything but the request of this number.
    struct Distant {
        came: Cell<u64>,
        refused: Option<u64>,
    }

    impl Reach for Distant {
        fn ask<'a>(
            &'a self,
            _node: &'a str,
            _call: &'a PeersCall,
        ) -> LocalBoxFuture<'a, Result<PeersAnswer, CallError>> {
            let number = self.came.replace(self.came.get() + 1);
            let answer: AppendEntriesResponse<Types> = match self.refused == Some(number) {
                true => AppendEntriesResponse::Conflict,
                false => AppendEntriesResponse::Success,
            };
            Box::pin(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(PeersAnswer::Raft(encode(&answer).unwrap()))
            })
        }
    }

    fn log_id(index: u64) -> LogId {
        let leader = openraft::alias::LeaderIdOf::<Types>::new(1, 0);
        LogId::new(leader.to_committed(), index)
    }

    /// Which entries are acknowledged, one request each, and after how many seconds it is over. More requests might come for ever.
    fn appended(count: u64, refused: Option<u64>) -> (Vec<Option<u64>>, u64) {
        let (_, roster) = watch::channel(None);
        let came = Cell::new(0);
        let ways = Rc::new(Ways::new(100_000, roster, Distant { came, refused }));
        let (shard, node, target) = (0, 1, 2);
        let name = "distant".to_owned();
        let mut way = Way {
            ways,
            shard,
            node,
            target,
            name,
        };
        let request = |index| AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(log_id(index)),
            entries: vec![Entry::new_blank(log_id(index + 1))],
            leader_commit: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        runtime.unwrap().block_on(async {
            let begun = Instant::now();
            let requests = iter((0..count).map(request)).chain(pending());
            let option = RPCOption::new(Duration::from_secs(9));
            let answers = way.stream_append(Box::pin(requests), option).await.unwrap();
            let answers = answers.map(|answer| answer.unwrap().ok().flatten().map(|id| id.index));
            let all: Vec<Option<u64>> = match refused {
                // They go on for as long as there are requests.
                None => {
                    answers
                        .take(usize::try_from(count).unwrap())
                        .collect()
                        .await
                }
                Some(_) => answers.collect().await,
            };
            (all, begun.elapsed().as_secs())
        })
    }

    #[test]
    fn entries_do_not_wait_for_the_answer_to_those_before() {
        assert_eq!(appended(3, None), (vec![Some(1), Some(2), Some(3)], 1));
        let (all, seconds) = appended(3 * UNDER_WAY_MAX as u64, None);
        assert!(
            all.iter().copied().eq((1..=all.len() as u64).map(Some)),
            "{all:?}"
        );
        assert_eq!(seconds, 3, "no more than so many at a time");
    }

    #[test]
    fn nothing_counts_after_a_refusal() {
        assert_eq!(appended(5, Some(0)), (vec![None], 1));
    }

    #[test]
    fn who_overtakes_an_entry_that_is_then_acknowledged_is_no_conflict() {
        assert_eq!(appended(5, Some(2)), (vec![Some(1), Some(2)], 1));
    }
}
