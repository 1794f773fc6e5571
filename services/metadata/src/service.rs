//! Answers calls: judges the caller's revision, finds the shard, reads or proposes. Where other nodes lead shards, too, `routing` comes first.

use crate::buckets::Buckets;
use crate::cluster::Cluster;
use crate::events;
use crate::fence::Fence;
use crate::health::Watch;
use crate::keyring::Keyring;
use crate::lifecycle;
use crate::placing::Placing;
use crate::proposer::{Failure, Proposer};
use crate::raft::Consensus;
use crate::rights::Rights;
use crate::scheduling::Scheduling;
use crate::space::Space;
use crate::state::{self, AnyChange, Outcome};
use crate::sweep::{self, Orders, Sweep};
use protocol::block::{BlockRef, Epoch};
use protocol::bus::Accept;
use protocol::metadata::{
    Answer, AttributeChange, BucketId, Call, Change, Metadata, MetadataError, Operation, Reply,
};
use runtime::Serve;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// Who asks, as far as it decides what they are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Shows objects to everybody and changes nothing: is answered what somebody without a key may ask, so that a fault in it costs
    /// neither a secret nor a byte.
    Reader,
    /// Tells events, and nobody else does: a fault in it costs events and nothing more.
    Notifier,
    /// Judges by itself who may do what, and does not ask how much the buckets of a list hold.
    Frontend,
    /// Judges by itself who may do what.
    Trusted,
    /// Speaks for the operator, who alone says which nodes belong: a fault in what faces clients invites nobody.
    Operator,
}

impl Caller {
    /// By the client's name, which the bus vouches for.
    pub(crate) fn named(client: &str) -> Self {
        match client {
            "web" => Self::Reader,
            "notifier" => Self::Notifier,
            "s3-frontend" => Self::Frontend,
            "console" => Self::Operator,
            _ => Self::Trusted,
        }
    }

    /// The name of such a client, for the metadata of another node.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reader => "web",
            Self::Notifier => "notifier",
            Self::Frontend => "s3-frontend",
            Self::Trusted => "service",
            Self::Operator => "console",
        }
    }

    pub(crate) fn may_ask(self, operation: &Operation) -> bool {
        let is_about_events = matches!(
            operation,
            Operation::NextEvents { .. } | Operation::ForgetEvents { .. }
        );
        let is_about_nodes = matches!(
            operation,
            Operation::Roster
                | Operation::Invite { .. }
                | Operation::SetStanding { .. }
                | Operation::Layout
                | Operation::Health
                | Operation::EditLayout(_)
                | Operation::ApplyLayout { .. }
                | Operation::Schedule
                | Operation::Drain { .. }
                | Operation::RestartRolling
        );
        match self {
            Self::Reader => operation.is_public_read(),
            Self::Notifier => is_about_events,
            Self::Frontend | Self::Trusted => !is_about_events && !is_about_nodes,
            Self::Operator => !is_about_events,
        }
    }
}

/// The service behind the door.
pub(crate) struct Service {
    pub(crate) proposer: Rc<Proposer>,
    pub(crate) buckets: Rc<Buckets>,
    pub(crate) fence: Rc<Fence>,
    pub(crate) keyring: Keyring,
    pub(crate) sweep: Rc<Sweep>,
    pub(crate) lifecycle: Rc<lifecycle::Worker>,
    pub(crate) orders: Orders,
    pub(crate) cluster: Rc<Cluster>,
    pub(crate) placing: Rc<Placing>,
    pub(crate) space: Rc<Space>,
    pub(crate) rights: Rc<Rights>,
    pub(crate) scheduling: Rc<Scheduling>,
    pub(crate) health: Rc<Watch>,
}

impl Serve<Metadata> for Service {
    type Session = Caller;

    fn connected(&self, accept: Accept) -> Caller {
        Caller::named(&accept.client)
    }

    async fn answer(
        &self,
        caller: &Caller,
        call: Call,
        _descriptors: Vec<OwnedFd>,
    ) -> (Answer, Vec<OwnedFd>) {
        // The operator is answered also by a node that has not found its place yet.
        if *caller != Caller::Operator && !self.proposer.is_alone() && !self.placing.is_told().await
        {
            let why = "this node has not been told yet where blocks belong: try again";
            let error = MetadataError::Unavailable(why.into());
            return (self.answer_with(Err(error)), Vec::new());
        }
        (self.answer_to(*caller, call).await, Vec::new())
    }
}

impl Service {
    /// Of keys, rights and buckets, now.
    pub(crate) fn revision(&self) -> u64 {
        self.proposer.registry().revision()
    }

    /// Whether what the caller knows of keys and buckets still holds.
    fn admit(&self, revision: u64) -> Result<(), MetadataError> {
        self.entitled(revision)?;
        if revision != 0 && revision != self.revision() {
            return Err(MetadataError::Stale);
        }
        Ok(())
    }

    /// Whether this node may judge by its copy of the registry now.
    fn entitled(&self, revision: u64) -> Result<(), MetadataError> {
        if revision != 0 && !self.rights.hold() {
            let why = "this node cannot know who may do what at the moment, because it does not reach the leader of shard 0: try again";
            return Err(MetadataError::Unavailable(why.into()));
        }
        Ok(())
    }

    pub(crate) async fn answer_to(&self, caller: Caller, call: Call) -> Answer {
        if !caller.may_ask(&call.operation) {
            return self.answer_with(Err(MetadataError::Refused("not from this caller".into())));
        }
        if matches!(call.operation, Operation::Health) {
            // Also where nobody leads: that is what it is asked for.
            let health = self.health.of_all().await;
            return self.answer_with(Ok(Reply::Health(Box::new(health))));
        }
        if !self.is_alone() {
            return self.anywhere(caller, call).await;
        }
        let result = self.here(caller, call, Guard::Here).await;
        self.answer_with(result.map_err(MetadataError::from))
    }

    /// Whether neither rows nor blocks are on any other node.
    fn is_alone(&self) -> bool {
        self.proposer.is_alone() && !self.placing.is_shared()
    }

    pub(crate) fn answer_with(&self, result: Outcome) -> Answer {
        Answer {
            revision: self.revision(),
            result,
        }
    }

    /// What this node can do by itself: everything of the shards that it leads.
    pub(crate) async fn here(
        &self,
        caller: Caller,
        call: Call,
        guard: Guard,
    ) -> Result<Reply, Failure> {
        let Call {
            revision,
            operation,
        } = call;
        self.admit(revision)?;
        state::check(&operation)?;
        if let Some(place) = place_of_read(&operation) {
            return self.read(caller, place, &operation, revision).await;
        }
        if self.space.is_full() && (grows(&operation) || self.marks(&operation).await?) {
            let group = self.group(&operation);
            return Err(match group.is_some_and(|group| self.health.is_room_elsewhere(group)) {
                true => MetadataError::Unavailable(
                    "the disk of the node that leads is full, and the lead goes to another: try again".into(),
                ),
                false => MetadataError::Full,
            }
            .into());
        }
        Ok(match operation {
            Operation::Shards => {
                let shards = self.proposer.groups().iter().map(|group| group.status());
                Reply::Shards(shards.collect())
            }
            Operation::RunLifecycle => self.lifecycle.pass().await?,
            Operation::NextEvents { webhook } => events::next(&self.proposer, &webhook).await?,
            Operation::ForgetEvents { webhook, events } => {
                events::forget(&self.proposer, &webhook, &events).await?
            }
            Operation::Invite { for_ms } => self.cluster.invite(for_ms).await?,
            Operation::SetStanding { key, standing } => {
                self.cluster.set_standing(key, standing).await?
            }
            Operation::Layout => self.placing.report().await?,
            Operation::PlacementOf { key } => self.placing.placement_of(&key).await?,
            Operation::EditLayout(edit) => self.placing.edit(edit).await?,
            Operation::ApplyLayout { version } => self.placing.apply(version).await?,
            Operation::Schedule => self.scheduling.shown().await?,
            Operation::Drain { key, draining } => self.scheduling.drain(key, draining).await?,
            Operation::RestartRolling => self.scheduling.restart().await?,
            Operation::Sweep { grace_ms } => self.orders.order(grace_ms).await?,
            Operation::CreateBucket {
                name,
                owner,
                hash_key,
                locked,
            } => {
                let outcome = self.buckets.create(name, owner, hash_key, locked).await;
                self.revised(outcome).await?
            }
            Operation::PutVersioning { name, versioning } => {
                let outcome = self.buckets.put_versioning(name, versioning).await;
                self.revised(outcome).await?
            }
            Operation::DeleteBucket { name } => {
                let outcome = self.buckets.delete(name).await;
                self.revised(outcome).await?
            }
            Operation::Change(mut change) => {
                self.keyring.wrap(&mut change)?;
                match change.bucket() {
                    Some(bucket) => self.write(bucket, change, revision, guard).await?,
                    None => {
                        let outcome = match self.register(change, revision).await {
                            Err(Failure::NotHere(leader)) => return Err(Failure::NotHere(leader)),
                            outcome => outcome.map_err(MetadataError::from),
                        };
                        self.revised(outcome).await?
                    }
                }
            }
            // Every read was answered above.
            _ => return Err(MetadataError::Refused("no such operation".into()).into()),
        })
    }

    /// Whether an operation leaves a delete marker. What frees space is the deletion of a version by its name.
    async fn marks(&self, operation: &Operation) -> Result<bool, Failure> {
        let Operation::Change(Change::DeleteObject {
            bucket,
            version: None,
            ..
        }) = operation
        else {
            return Ok(false);
        };
        let rows = self.proposer.read(self.proposer.shard(*bucket)).await?;
        Ok(state::is_versioned(rows, *bucket)?)
    }

    async fn read(
        &self,
        caller: Caller,
        place: Place,
        operation: &Operation,
        revision: u64,
    ) -> Result<Reply, Failure> {
        let rows = match place {
            Place::Registry => self.rights.registry().await?,
            Place::Bucket(bucket) => self.proposer.read(self.proposer.shard(bucket)).await?,
        };
        if !self.proposer.is_alone() {
            // Again, because making sure of the lead took its time.
            self.admit(revision)?;
        }
        let mut reply = match state::read(rows, operation) {
            Ok(Some(outcome)) => outcome?,
            Ok(None) => return Err(MetadataError::Refused("not a read".into()).into()),
            Err(error) => {
                runtime::error!("reading: {error}");
                return Err(error.into());
            }
        };
        if let Place::Bucket(bucket) = place {
            self.keyring.unwrap(bucket, &mut reply)?;
        }
        if let Reply::Buckets { buckets, .. } = &mut reply {
            for (bucket, usage) in buckets {
                *usage = self.usage(caller, bucket.id).await?;
            }
        }
        Ok(reply)
    }

    /// A change of objects or uploads.
    async fn write(
        &self,
        bucket: BucketId,
        change: Change,
        revision: u64,
        guard: Guard,
    ) -> Result<Reply, Failure> {
        let _admitted = self.rights.admit().await;
        // Again, because it may have changed while this write waited to be admitted.
        self.admit(revision)?;
        let group = self.proposer.shard(bucket);
        let blocks = state::brought_blocks(&change);
        if blocks.is_empty() {
            return self.proposer.propose_here(group, change).await;
        }
        match guard {
            Guard::Here => {}
            Guard::Witnessed(witness) => {
                let brought = AnyChange::Brought { change, witness };
                return self.proposer.propose_here(group, brought).await;
            }
            Guard::Unwitnessed => return Err(MetadataError::BlocksStale(Vec::new()).into()),
        }
        let (entry, doubtful) = self.fence.enter(blocks, self.proposer.now_ms()).await;
        self.exist(&doubtful).await?;
        // At the last moment, because all of this took its time.
        self.entitled(revision)?;
        if !self.is_alone() {
            // From now on the fence of this node is not enough.
            let why = "this node has just become one of several: try again";
            return Err(MetadataError::Unavailable(why.into()).into());
        }
        let outcome = self.proposer.propose_here(group, change).await;
        if let Err(Failure::Failed(MetadataError::Unavailable(_))) = outcome {
            entry.keep();
        }
        outcome
    }

    /// A change of the registry.
    async fn register(&self, change: Change, revision: u64) -> Result<Reply, Failure> {
        let _admitted = self.rights.admit().await;
        self.admit(revision)?;
        self.proposer
            .propose_here(self.proposer.registry(), change)
            .await
    }

    /// Whether blocks that the sweep deleted not long ago are there again.
    pub(crate) async fn exist(&self, doubtful: &[BlockRef]) -> Result<(), MetadataError> {
        for block in doubtful {
            if !self.sweep.exists(block).await? {
                return Err(sweep::swept_away());
            }
        }
        Ok(())
    }

    /// Waits until nobody acts any more by what was before the revision changed.
    async fn revised(&self, outcome: Outcome) -> Outcome {
        self.rights.revised().await?;
        outcome
    }
}

/// Who holds the blocks of a write against the sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Guard {
    /// The write itself, in the fence of this node, which is alone.
    Here,
    /// Several nodes share them: enough had each of them at these moments.
    Witnessed(Vec<Epoch>),
    /// Nobody: a write that brings blocks is refused.
    Unwitnessed,
}

/// Where the rows of a read are.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    Registry,
    Bucket(BucketId),
}

pub(crate) fn place_of_read(operation: &Operation) -> Option<Place> {
    match operation {
        Operation::Authorize { .. }
        | Operation::ListKeys { .. }
        | Operation::Roster
        | Operation::GetKeyPolicy { .. }
        | Operation::GetBucketSetting { .. }
        | Operation::ListBuckets { .. } => Some(Place::Registry),
        Operation::GetObject { bucket, .. }
        | Operation::GetPart { bucket, .. }
        | Operation::GetVersioning { bucket }
        | Operation::GetNotification { bucket }
        | Operation::GetUsage { bucket }
        | Operation::ListVersions { bucket, .. }
        | Operation::ListObjectParts { bucket, .. }
        | Operation::ListObjects { bucket, .. }
        | Operation::GetUpload { bucket, .. }
        | Operation::ListUploads { bucket, .. }
        | Operation::ListParts { bucket, .. } => Some(Place::Bucket(*bucket)),
        _ => None,
    }
}

/// Whether an operation adds to what is stored; the others go on when the disk is full. (The first key is asked for at each start and
/// made once: a full node must start.)
fn grows(operation: &Operation) -> bool {
    match operation {
        Operation::CreateBucket { .. } => true,
        Operation::Change(change) => match change {
            Change::CreateKey { .. }
            | Change::AddAlias { .. }
            | Change::SetKeyPolicy {
                policy: Some(_), ..
            }
            | Change::SetBucketSetting {
                document: Some(_), ..
            }
            | Change::PutObject { .. }
            | Change::CreateUpload { .. }
            | Change::PutPart { .. }
            | Change::CompleteUpload { .. } => true,
            Change::ChangeAttributes {
                change: AttributeChange::Tags(tags),
                ..
            } => !tags.is_empty(),
            Change::PutNotification { notification, .. } => !notification.rules.is_empty(),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::cluster::{NodeKey, Standing};
    use protocol::settings::SettingKind;

    #[test]
    fn each_caller_is_answered_what_is_its_own_and_nothing_else() {
        let webhook = || "hook".to_owned();
        let bucket = BucketId(1);
        let of_events = [
            Operation::NextEvents { webhook: webhook() },
            Operation::ForgetEvents {
                webhook: webhook(),
                events: Vec::new(),
            },
        ];
        let public = [
            Operation::GetObject {
                bucket,
                key: "k".into(),
                version: None,
            },
            Operation::GetBucketSetting {
                bucket,
                kind: SettingKind::Website,
            },
        ];
        let of_nodes = [
            Operation::Roster,
            Operation::Invite { for_ms: 60_000 },
            Operation::SetStanding {
                key: NodeKey([1; 32]),
                standing: Standing::Revoked,
            },
        ];
        let private = [
            Operation::GetNotification { bucket },
            Operation::Shards,
            Operation::GetBucketSetting {
                bucket,
                kind: SettingKind::Policy,
            },
            Operation::DeleteBucket { name: "b".into() },
        ];
        let check = |client: &str, operations: &[Operation], expected: bool| {
            for operation in operations {
                let may = Caller::named(client).may_ask(operation);
                assert_eq!(may, expected, "{client} {operation:?}");
            }
        };
        for (client, events, reads, rest, nodes) in [
            ("web", false, true, false, false),
            ("notifier", true, false, false, false),
            ("s3-frontend", false, true, true, false),
            (Caller::Trusted.name(), false, true, true, false),
            ("console", false, true, true, true),
        ] {
            check(client, &of_nodes, nodes);
            check(client, &of_events, events);
            check(client, &public, reads);
            check(client, &private, rest);
        }
    }
}
