//! Where a call is done: here where this node leads the call's shard, else on the node that does.
//!
//! Most often that is one question to another node, whose [`Service::asked`] judges the call anew; it asks nobody else. A write is sent again only if it
//! is known that nothing has happened.

use crate::fence::Entry;
use crate::proposer::{Failure, Found, search_until, unexpected};
use crate::raft::Group;
use crate::service::{Caller, Guard, Place, Service, place_of_read};
use crate::state;
use protocol::metadata::{Answer, BucketId, BucketUsage, Call, MetadataError, Operation, Reply};
use protocol::peers::{PeersAnswer, PeersCall};
use std::rc::Rc;

impl Service {
    /// A call where other nodes lead shards, too.
    pub(crate) async fn anywhere(&self, caller: Caller, call: Call) -> Answer {
        if let Err(error) = state::check(&call.operation) {
            return self.answer_with(Err(error));
        }
        let Some(group) = self.group(&call.operation) else {
            self.rights.reach(call.revision).await;
            let result = self.here(caller, call, Guard::Here).await;
            return self.answer_with(result.map_err(MetadataError::from));
        };
        let guard = match self.guard(&call.operation).await {
            Ok(guard) => guard,
            Err(error) => return self.answer_with(Err(error)),
        };
        let answer = self.searched(caller, group, call).await;
        if let (Err(MetadataError::Unavailable(_)), Some(guard)) = (&answer.result, guard) {
            guard.keep();
        }
        answer
    }

    /// Has a call done by whoever leads its shard.
    async fn searched(&self, caller: Caller, group: &Rc<Group>, call: Call) -> Answer {
        let until = search_until();
        let is_read = place_of_read(&call.operation).is_some();
        loop {
            let by_copy = self.is_registry_read(&call.operation) && self.rights.hold();
            let found = if by_copy || group.leads() {
                Ok(Found::Here)
            } else {
                let ask = PeersCall::Ask {
                    client: caller.name().into(),
                    call: call.clone(),
                };
                self.proposer.ask_leader(group, &ask, is_read, until).await
            };
            match found {
                Ok(Found::Here) => {
                    if !by_copy {
                        group.used_by(self.proposer.store().number());
                    }
                    self.rights.reach(call.revision).await;
                    let done = self.here(caller, call.clone(), Guard::Elsewhere).await;
                    let Err(Failure::NotHere(leader)) = done else {
                        return self.answer_with(done.map_err(MetadataError::from));
                    };
                    if let Err(error) = self.proposer.again(group, leader, until).await {
                        return self.answer_with(Err(error));
                    }
                }
                Ok(Found::Answer(PeersAnswer::Asked(answer))) => {
                    return self.caught_up(answer).await;
                }
                Ok(Found::Answer(other)) => return self.answer_with(Err(unexpected(&other))),
                Err(error) => return self.answer_with(Err(error)),
            }
        }
    }

    /// An answer of another node. Its revision may be ahead of this node's copy, by which the caller's next call is judged: that is waited for.
    async fn caught_up(&self, answer: Answer) -> Answer {
        if !self.rights.hold() {
            // Nothing is judged by this node's copy, if it has one.
            return answer;
        }
        self.rights.reach(answer.revision).await;
        let revision = self.revision();
        Answer { revision, ..answer }
    }

    /// A call that another node has for the leader of a shard.
    pub(crate) async fn asked(&self, client: &str, call: Call) -> PeersAnswer {
        let caller = Caller::named(client);
        let refused = |error| PeersAnswer::Asked(self.answer_with(Err(error)));
        if !caller.may_ask(&call.operation) {
            return refused(MetadataError::Refused("not from this caller".into()));
        }
        if let Err(error) = state::check(&call.operation) {
            return refused(error);
        }
        let Some(group) = self.group(&call.operation) else {
            return refused(MetadataError::Refused("not for another node".into()));
        };
        if !group.leads() {
            let leader = group.leader();
            return PeersAnswer::NotLeader { leader };
        }
        self.rights.reach(call.revision).await;
        match self.here(caller, call, Guard::Elsewhere).await {
            Err(Failure::NotHere(leader)) => PeersAnswer::NotLeader { leader },
            done => PeersAnswer::Asked(self.answer_with(done.map_err(MetadataError::from))),
        }
    }

    /// Another node has a call for a shard that this one leads, perhaps.
    pub(crate) fn used_by(&self, number: u64, operation: &Operation) {
        if let Some(group) = self.group(operation).filter(|group| group.leads()) {
            group.used_by(number);
        }
    }

    /// The shard that an operation is about; `None` for what each node does for itself.
    fn group(&self, operation: &Operation) -> Option<&Rc<Group>> {
        let registry = self.proposer.registry();
        Some(match (place_of_read(operation), operation) {
            (Some(Place::Bucket(bucket)), _) => self.proposer.shard(bucket),
            (Some(Place::Registry), _) => registry,
            (None, Operation::Change(change)) => match change.bucket() {
                Some(bucket) => self.proposer.shard(bucket),
                None => registry,
            },
            (
                None,
                Operation::CreateBucket { .. }
                | Operation::PutVersioning { .. }
                | Operation::DeleteBucket { .. }
                | Operation::Invite { .. }
                | Operation::SetStanding { .. }
                | Operation::Layout
                | Operation::PlacementOf { .. }
                | Operation::EditLayout(_)
                | Operation::ApplyLayout { .. },
            ) => registry,
            _ => return None,
        })
    }

    fn is_registry_read(&self, operation: &Operation) -> bool {
        matches!(place_of_read(operation), Some(Place::Registry))
    }

    /// Holds the blocks that a write names against the sweep of this node, on which they lie, while another node does the write.
    async fn guard(&self, operation: &Operation) -> Result<Option<Entry>, MetadataError> {
        let Operation::Change(change) = operation else {
            return Ok(None);
        };
        let blocks = state::brought_blocks(change);
        if blocks.is_empty() {
            return Ok(None);
        }
        let (entry, doubtful) = self.fence.enter(blocks, self.proposer.now_ms()).await;
        self.exist(&doubtful).await?;
        Ok(Some(entry))
    }

    /// How much a bucket of a list holds. Frontends do not tell it, so they need not wait for another node to say it.
    pub(crate) async fn usage(
        &self,
        caller: Caller,
        bucket: BucketId,
    ) -> Result<BucketUsage, MetadataError> {
        let group = self.proposer.shard(bucket);
        let ask = || PeersCall::Ask {
            client: caller.name().into(),
            call: Call {
                revision: 0,
                operation: Operation::GetUsage { bucket },
            },
        };
        let until = search_until();
        loop {
            if !group.leads() && caller == Caller::Frontend {
                return Ok(BucketUsage::default());
            }
            // The alone have no need of a question.
            if group.leads() {
                match self.proposer.read(group).await {
                    Ok(rows) => return Ok(state::usage(rows, bucket).unwrap_or_default()),
                    Err(Failure::NotHere(leader)) => {
                        self.proposer.again(group, leader, until).await?;
                        continue;
                    }
                    Err(Failure::Failed(error)) => return Err(error),
                }
            }
            match self.proposer.ask_leader(group, &ask(), true, until).await? {
                Found::Here => {}
                Found::Answer(PeersAnswer::Asked(answer)) => {
                    return Ok(match answer.result {
                        Ok(Reply::Usage(usage)) => usage,
                        _ => BucketUsage::default(),
                    });
                }
                Found::Answer(other) => return Err(unexpected(&other)),
            }
        }
    }
}
