//! What other nodes say to a group here: Raft's messages, and snapshots part by part.

use super::group::{Group, raft_error};
use super::shard;
use super::snapshot::{Snapshot, Staged};
use super::types::{SnapshotMeta, Types, Vote};
use crate::Error;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use protocol::peers::{Chunk, PeersAnswer, RaftMessage, SnapshotPart};
use serde::Serialize;

type RaftSnapshot = openraft::alias::SnapshotOf<Types, Snapshot>;

/// A snapshot that is being received.
pub(crate) struct Receiving {
    transfer: u64,
    /// The number of the next part.
    next: u32,
    staged: Staged,
}

impl Group {
    /// Gives a message to openraft and answers what it says.
    ///
    /// # Errors
    /// [`Error::Damaged`]: not a message of this version. [`Error::Raft`]: the group has ended.
    pub(crate) async fn answer(&self, message: RaftMessage) -> Result<Vec<u8>, Error> {
        match message {
            RaftMessage::Append(bytes) => {
                let request: AppendEntriesRequest<Types> = shard::decode(&bytes, MESSAGE)?;
                encode(
                    &self
                        .raft
                        .append_entries(request)
                        .await
                        .map_err(raft_error)?,
                )
            }
            RaftMessage::Vote(bytes) => {
                let request: VoteRequest<Types> = shard::decode(&bytes, MESSAGE)?;
                encode(&self.raft.vote(request).await.map_err(raft_error)?)
            }
            RaftMessage::PreVote(bytes) => {
                let request: VoteRequest<Types> = shard::decode(&bytes, MESSAGE)?;
                encode(&self.raft.pre_vote(request).await.map_err(raft_error)?)
            }
            RaftMessage::Transfer(bytes) => {
                let request: TransferLeaderRequest<Types> = shard::decode(&bytes, MESSAGE)?;
                let answer = self.raft.handle_transfer_leader(request).await;
                encode(&answer.map_err(raft_error)?)
            }
        }
    }

    /// Takes a part of a snapshot. It is in the database when this comes back, so the sender cannot run ahead.
    ///
    /// # Errors
    /// As [`Group::answer`]; also [`Error::Damaged`] for a part that does not follow the one before.
    pub(crate) async fn take(
        &self,
        transfer: u64,
        part: SnapshotPart,
    ) -> Result<PeersAnswer, Error> {
        // Held until the part is dealt with: no other transfer may begin in the middle of an installation.
        let mut receiving = self.receiving.lock().await;
        if matches!(part, SnapshotPart::Begin) {
            *receiving = None;
            let staged = Staged::begin(&self.shard).await?;
            *receiving = Some(Receiving {
                transfer,
                next: 0,
                staged,
            });
            return Ok(PeersAnswer::Done);
        }
        let of_it = receiving.as_mut().filter(|one| one.transfer == transfer);
        let of_it = of_it.ok_or(Error::Damaged("snapshot: another one has begun"))?;
        match part {
            SnapshotPart::Begin => {}
            SnapshotPart::Rows { number, .. } if number.checked_add(1) == Some(of_it.next) => {}
            SnapshotPart::Rows { number, chunks } if number == of_it.next => {
                for Chunk(chunk) in chunks {
                    of_it.staged.push(&chunk).await?;
                }
                of_it.next += 1;
            }
            SnapshotPart::Install { parts, vote, meta } if parts == of_it.next => {
                let vote: Vote = shard::decode(&vote, MESSAGE)?;
                let meta: SnapshotMeta = shard::decode(&meta, MESSAGE)?;
                let Some(Receiving { staged, .. }) = receiving.take() else {
                    return Ok(PeersAnswer::Done);
                };
                let snapshot = RaftSnapshot {
                    meta,
                    snapshot: Snapshot::Staged(staged),
                };
                let installed = self.raft.install_full_snapshot(vote, snapshot).await;
                return Ok(PeersAnswer::Raft(encode(&installed.map_err(raft_error)?)?));
            }
            _ => return Err(Error::Damaged("snapshot: a part is missing")),
        }
        Ok(PeersAnswer::Done)
    }
}

const MESSAGE: &str = "message of another node";

fn encode(answer: &impl Serialize) -> Result<Vec<u8>, Error> {
    postcard::to_allocvec(answer).map_err(|_| Error::Damaged("an answer that does not encode"))
}
