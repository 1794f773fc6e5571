//! A shard's state machine, as openraft wants it: the pure one over the shard's rows.

use super::shard::{Gather, Shard};
use super::snapshot::{Snapshot, View};
use super::types::{LogId, SnapshotMeta, StoredMembership, Types};
use crate::Error;
use crate::state::{self, Command, Outcome};
use futures_util::{Stream, TryStreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use protocol::metadata::{MetadataError, Reply};
use std::io;
use std::rc::Rc;

type RaftSnapshot = openraft::alias::SnapshotOf<Types, Snapshot>;

/// The state machine of one shard.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) shard: Rc<Shard>,
}

impl Machine {
    fn apply_command(
        &self,
        command: &Command,
    ) -> Result<(Outcome, Vec<super::writer::Write>), Error> {
        let mut gather = Gather {
            shard: &self.shard,
            writes: Vec::new(),
        };
        match state::apply(&mut gather, command) {
            Ok(outcome) => Ok((outcome, gather.writes)),
            // The command is passed over: ending here would end the same way after each restart, and take every other
            // object of the shard along. What it was about is damaged on this disk and stays so until it is repaired.
            Err(Error::Damaged(what)) => {
                runtime::error!("shard {}: damaged row: {what}", self.shard.number);
                let why = format!("damaged row: {what}");
                Ok((Err(MetadataError::Unavailable(why)), Vec::new()))
            }
            Err(error) => Err(error),
        }
    }

    /// The state as it is, to be sent.
    async fn view(&self) -> Result<RaftSnapshot, io::Error> {
        let view = View::of(&self.shard).await.map_err(io::Error::other)?;
        let (last_log_id, last_membership) = view.position().map_err(io::Error::other)?;
        let meta = SnapshotMeta {
            last_log_id,
            last_membership,
        };
        Ok(RaftSnapshot {
            meta,
            snapshot: Snapshot::View(view),
        })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Snapshot;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let facts = self.shard.facts();
        Ok((facts.applied, facts.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let log_id = entry.log_id();
            let mut membership = None;
            let (outcome, writes) = match entry.payload {
                EntryPayload::Blank => (Ok(Reply::Done), Vec::new()),
                EntryPayload::Normal(proposal) => {
                    self.apply_command(&proposal.0).map_err(io::Error::other)?
                }
                EntryPayload::Membership(members) => {
                    membership = Some(StoredMembership::new(Some(log_id), members));
                    (Ok(Reply::Done), Vec::new())
                }
            };
            self.shard
                .applied(writes, log_id, membership)
                .map_err(io::Error::other)?;
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Snapshot,
    ) -> Result<(), io::Error> {
        let install = super::snapshot::install(&self.shard, meta, snapshot);
        install.await.map_err(io::Error::other)
    }

    // The state is on the disk anyway, so "the current snapshot" is the state as it is now.
    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, io::Error> {
        if self.shard.facts().applied.is_none() {
            return Ok(None);
        }
        self.view().await.map(Some)
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    type SnapshotData = Snapshot;

    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, io::Error> {
        self.view().await
    }
}
