//! Answers what other nodes' metadata says: to the groups, to the service, to the registry's leases.
//!
//! Only members of the cluster are heard, as the bus has proven them; nothing that they say is taken for granted beyond that they belong.

use crate::buckets;
use crate::proposer::Failure;
use crate::raft::{Group, number_of};
use crate::service::{Guard, Service};
use crate::state::AnyChange;
use crate::sweep;
use protocol::bus::{Accept, Origin};
use protocol::peers::{Peers, PeersAnswer, PeersCall, REFERENCED_MAX, WITNESS_MAX};
use runtime::Serve;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// Who speaks.
pub struct Member {
    pub(crate) name: String,
    pub(crate) number: u64,
}

/// The service as other nodes see it.
pub struct Peering {
    pub(crate) service: Rc<Service>,
}

impl Serve<Peers> for Peering {
    /// `None` for somebody who is not on another node of the cluster.
    type Session = Option<Member>;

    fn connected(&self, accept: Accept) -> Option<Member> {
        match accept.origin {
            Origin::Member { name, key } => Some(Member {
                name,
                number: number_of(&key),
            }),
            Origin::Here | Origin::Stranger { .. } => None,
        }
    }

    async fn answer(
        &self,
        session: &Option<Member>,
        call: PeersCall,
        _descriptors: Vec<OwnedFd>,
    ) -> (PeersAnswer, Vec<OwnedFd>) {
        let answer = match session {
            Some(member) => self.answer_to(member, call).await,
            None => refused("only other nodes of the cluster are answered"),
        };
        (answer, Vec::new())
    }
}

impl Peering {
    pub(crate) async fn answer_to(&self, member: &Member, call: PeersCall) -> PeersAnswer {
        match call {
            PeersCall::Raft { shard, message } => {
                let Some(group) = self.group(shard) else {
                    return no_such_shard();
                };
                match group.answer(message).await {
                    Ok(answer) => PeersAnswer::Raft(answer),
                    Err(error) => refused(error),
                }
            }
            PeersCall::Snapshot {
                shard,
                transfer,
                part,
            } => {
                let Some(group) = self.group(shard) else {
                    return no_such_shard();
                };
                group.take(transfer, part).await.unwrap_or_else(refused)
            }
            PeersCall::Ask { client, call } => {
                let (by, guard) = (member.number, Guard::Unwitnessed);
                self.service.asked(by, &client, call, guard).await
            }
            PeersCall::Bring { witness, .. } if witness.len() > WITNESS_MAX => {
                refused("a witness of too many stores")
            }
            PeersCall::Bring {
                client,
                call,
                witness,
            } => {
                let (by, guard) = (member.number, Guard::Witnessed(witness));
                self.service.asked(by, &client, call, guard).await
            }
            PeersCall::Garbage { blocks } if blocks.len() > REFERENCED_MAX => {
                refused("too many blocks")
            }
            PeersCall::Garbage { blocks } => {
                self.service.sweep.hear(blocks);
                PeersAnswer::Done
            }
            PeersCall::Propose { shard, change } => {
                let done = self.propose(shard, &change).await;
                answered(done, |outcome| outcome)
            }
            PeersCall::Referenced {
                shard,
                blocks,
                since,
            } => {
                let Some(group) = self.group(shard) else {
                    return no_such_shard();
                };
                let found = sweep::referenced(&self.service.proposer, group, &blocks, since).await;
                answered(found, PeersAnswer::Referenced)
            }
            PeersCall::Places { shard, after } => {
                let Some(group) = self.group(shard) else {
                    return no_such_shard();
                };
                let found = buckets::places_behind(&self.service.proposer, group, after).await;
                answered(found, |(places, more)| PeersAnswer::Places { places, more })
            }
            PeersCall::Settle { shard } => {
                let Some(group) = self.group(shard) else {
                    return no_such_shard();
                };
                let settled = group.settle().await.map_err(Failure::from);
                answered(settled, |()| PeersAnswer::Done)
            }
            PeersCall::Renew { revision } => {
                let name = Some(member.name.clone());
                let rights = &self.service.rights;
                rights.lease(member.number, name, revision).await
            }
            PeersCall::Report(report) => {
                let scheduling = &self.service.scheduling;
                scheduling.heard(member.number, report).await
            }
            PeersCall::Health { layout } => {
                PeersAnswer::Health(self.service.health.own(layout).await)
            }
            PeersCall::Confirm { revision } => self.service.rights.confirm(revision).await,
            PeersCall::TakeKeys(keys) => match self.service.keyring.take(&keys.0) {
                Ok(()) => PeersAnswer::Done,
                Err(error) => {
                    runtime::error!("master keys from node {}: {error}", member.name);
                    refused(error)
                }
            },
        }
    }

    fn group(&self, shard: u16) -> Option<&Rc<Group>> {
        self.service.proposer.groups().get(usize::from(shard))
    }

    async fn propose(&self, shard: u16, change: &[u8]) -> Result<PeersAnswer, Failure> {
        let Some(group) = self.group(shard) else {
            return Ok(no_such_shard());
        };
        let Ok((change, [])) = postcard::take_from_bytes::<AnyChange>(change) else {
            return Ok(refused("not a change of this version"));
        };
        match self.service.proposer.propose_here(group, change).await {
            Err(Failure::NotHere(leader)) => Err(Failure::NotHere(leader)),
            Err(Failure::Failed(error)) => Ok(PeersAnswer::Proposed(Err(error))),
            Ok(reply) => Ok(PeersAnswer::Proposed(Ok(reply))),
        }
    }
}

fn answered<T>(done: Result<T, Failure>, answer: impl FnOnce(T) -> PeersAnswer) -> PeersAnswer {
    match done {
        Ok(done) => answer(done),
        Err(Failure::NotHere(leader)) => PeersAnswer::NotLeader { leader },
        Err(Failure::Failed(error)) => refused(error),
    }
}

fn refused(why: impl std::fmt::Display) -> PeersAnswer {
    PeersAnswer::Refused(why.to_string())
}

fn no_such_shard() -> PeersAnswer {
    refused("no such shard: do both nodes have the same number of shards?")
}
