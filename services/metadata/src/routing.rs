//! Where a call is done: here where this node leads the call's shard, else on the node that does.
//!
//! Most often that is one question to another node, whose [`Service::asked`] judges the call anew; it asks nobody else. A write is sent again only if it
//! is known that nothing has happened.

use crate::proposer::{Failure, Found, search_until, unexpected};
use crate::raft::Group;
use crate::service::{Caller, Guard, Place, Service, place_of_read};
use crate::state;
use protocol::block::Epoch;
use protocol::metadata::{Answer, BucketId, BucketUsage, Call, MetadataError, Operation, Reply};
use protocol::peers::{PeersAnswer, PeersCall};
use std::rc::Rc;

/// So often a write is tried whose blocks were seen too long ago.
const BRINGS_MAX: u32 = 6;

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
        let blocks = match &call.operation {
            Operation::Change(change) => state::brought_blocks(change),
            _ => &[],
        };
        if blocks.is_empty() {
            return self.searched(caller, group, &call, None).await;
        }
        // What is known of the stores that were too early: of all attempts, because one that does not count now is not in the next refusal.
        let mut begun: Option<Vec<Epoch>> = None;
        for _ in 0..BRINGS_MAX {
            let witness = match self.sweep.witness(blocks, begun.as_deref()).await {
                Ok(witness) => witness,
                Err(error) => return self.answer_with(Err(error)),
            };
            let answer = self.searched(caller, group, &call, Some(&witness)).await;
            let Err(MetadataError::BlocksStale(since)) = &answer.result else {
                return answer;
            };
            begun.get_or_insert_default().extend(since);
        }
        let why = "sweeps have begun faster than the object could be written: try again";
        self.answer_with(Err(MetadataError::Unavailable(why.into())))
    }

    /// Has a call done by whoever leads its shard; one that brings blocks with where and when they were seen.
    async fn searched(
        &self,
        caller: Caller,
        group: &Rc<Group>,
        call: &Call,
        witness: Option<&[Epoch]>,
    ) -> Answer {
        let until = search_until();
        let is_read = place_of_read(&call.operation).is_some();
        loop {
            let by_copy = self.is_registry_read(&call.operation) && self.rights.hold();
            let found = if by_copy || group.leads() {
                Ok(Found::Here)
            } else {
                let (client, call) = (caller.name().into(), call.clone());
                let ask = match witness.map(<[Epoch]>::to_vec) {
                    None => PeersCall::Ask { client, call },
                    Some(witness) => PeersCall::Bring {
                        client,
                        call,
                        witness,
                    },
                };
                self.proposer.ask_leader(group, &ask, is_read, until).await
            };
            match found {
                Ok(Found::Here) => {
                    if !by_copy {
                        group.used_by(self.proposer.store().number());
                    }
                    self.rights.reach(call.revision).await;
                    let guard = witness.map_or(Guard::Unwitnessed, |witness| {
                        Guard::Witnessed(witness.to_vec())
                    });
                    let done = self.here(caller, call.clone(), guard).await;
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

    /// A call that the node of the number `by` has for the leader of a shard.
    pub(crate) async fn asked(
        &self,
        by: u64,
        client: &str,
        call: Call,
        guard: Guard,
    ) -> PeersAnswer {
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
        if !is_look(&call.operation) {
            group.used_by(by);
        }
        self.rights.reach(call.revision).await;
        match self.here(caller, call, guard).await {
            Err(Failure::NotHere(leader)) => PeersAnswer::NotLeader { leader },
            done => PeersAnswer::Asked(self.answer_with(done.map_err(MetadataError::from))),
        }
    }

    /// The shard that an operation is about; `None` for what each node does for itself.
    pub(crate) fn group(&self, operation: &Operation) -> Option<&Rc<Group>> {
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
                | Operation::ApplyLayout { .. }
                | Operation::Schedule
                | Operation::Drain { .. }
                | Operation::RestartRolling,
            ) => registry,
            _ => return None,
        })
    }

    fn is_registry_read(&self, operation: &Operation) -> bool {
        matches!(place_of_read(operation), Some(Place::Registry))
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

/// Whether a node without rows asks this each second for itself: no client would gain if shard 0 were nearer to it.
fn is_look(operation: &Operation) -> bool {
    matches!(operation, Operation::Roster | Operation::PlacementOf { .. })
}
