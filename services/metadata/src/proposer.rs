//! From the service to the shards: which one, when, and its errors in the protocol's words; here where this node leads, and elsewhere where another does.

use crate::Error;
use crate::raft::{Consensus, Group, Shard, Store, number_of};
use crate::state::{AnyChange, Command, Outcome};
use crate::ways::{WayError, Ways};
use protocol::cluster::Roster;
use protocol::metadata::{BucketId, Call, MetadataError, Operation, Reply};
use protocol::peers::{PeersAnswer, PeersCall};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a shard's leader is looked for.
const SEARCH_MAX: Duration = Duration::from_secs(8);
/// Between two looks.
const SEARCH_EVERY: Duration = Duration::from_millis(50);
/// How long another node may take to answer a read, which may be asked again …
const READ_MAX: Duration = Duration::from_secs(2);
/// … and a write, which may not: longer than the leader itself waits for its majority.
const WRITE_MAX: Duration = Duration::from_secs(12);

/// How long an answer is still awaited from who led when it was asked, once another node leads: it may just be on its way.
const REPLACED_MAX: Duration = Duration::from_secs(1);

/// Milliseconds since 1970. An argument, so that a test can stop it.
pub type Clock = Rc<dyn Fn() -> u64>;

/// Why something was not done here.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing happened: another node leads, this one if it is known.
    NotHere(Option<String>),
    /// As the caller is told.
    Failed(MetadataError),
}

impl From<MetadataError> for Failure {
    fn from(error: MetadataError) -> Self {
        Self::Failed(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::NotLeader { leader } => Self::NotHere(leader),
            error => Self::Failed(MetadataError::Unavailable(error.to_string())),
        }
    }
}

impl From<Failure> for MetadataError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Failed(error) => error,
            Failure::NotHere(leader) => Self::Unavailable(Error::NotLeader { leader }.to_string()),
        }
    }
}

/// What came of the search for a leader.
#[expect(
    clippy::large_enum_variant,
    reason = "a box would cost each call to another node an allocation"
)]
pub(crate) enum Found {
    /// It is this node.
    Here,
    /// It answered.
    Answer(PeersAnswer),
}

/// Reads from and writes to shards.
pub(crate) struct Proposer {
    store: Rc<Store>,
    clock: Clock,
    last_ms: Cell<u64>,
    ways: Rc<Ways>,
    /// Who was said to lead a shard, by somebody who knows better than this node's own group.
    said: RefCell<HashMap<u16, String>>,
    /// Whom to ask next where nobody is known to lead.
    turn: Cell<usize>,
}

impl Proposer {
    pub(crate) fn new(store: Rc<Store>, clock: Clock, ways: Rc<Ways>) -> Self {
        Self {
            store,
            clock,
            last_ms: Cell::new(0),
            ways,
            said: RefCell::default(),
            turn: Cell::new(0),
        }
    }

    /// The time, which does not go backwards while this process lives.
    pub(crate) fn now_ms(&self) -> u64 {
        self.last_ms.set((self.clock)().max(self.last_ms.get()));
        self.last_ms.get()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn ways(&self) -> &Ways {
        &self.ways
    }

    /// Who belongs to the cluster, as this node knows.
    pub(crate) fn roster(&self) -> &watch::Receiver<Option<Roster>> {
        self.ways.roster()
    }

    /// The names of the other nodes that belong, as this node knows.
    pub(crate) fn others(&self) -> Vec<String> {
        let own = self.store.number();
        let roster = self.roster().borrow();
        let members = roster.iter().flat_map(Roster::members);
        let others = members.filter(|node| number_of(&node.key) != own);
        others.map(|node| node.name.clone()).collect()
    }

    pub(crate) fn groups(&self) -> &[Rc<Group>] {
        self.store.groups()
    }

    /// Whether no other node has anything to say.
    pub(crate) fn is_alone(&self) -> bool {
        self.store.is_alone()
    }

    /// Shard 0, which holds keys and the names of buckets.
    pub(crate) fn registry(&self) -> &Rc<Group> {
        self.store.registry()
    }

    /// The shard of a bucket's objects.
    pub(crate) fn shard(&self, bucket: BucketId) -> &Rc<Group> {
        let groups = self.store.groups();
        groups
            .get(shard_of(bucket, groups.len()))
            .unwrap_or_else(|| self.store.registry())
    }

    /// The rows of a shard that this node leads, up to date.
    pub(crate) async fn read<'a>(&self, group: &'a Rc<Group>) -> Result<&'a Shard, Failure> {
        Ok(group.read().await?)
    }

    /// Commits a change of a shard that this node leads, stamped with the time. [`MetadataError::Unavailable`]: it may have happened.
    pub(crate) async fn propose_here(
        &self,
        group: &Rc<Group>,
        change: impl Into<AnyChange>,
    ) -> Result<Reply, Failure> {
        let command = Command {
            at_ms: self.now_ms(),
            change: change.into(),
        };
        Ok(group.propose(command).await??)
    }

    /// Commits a change, whoever leads. [`MetadataError::Unavailable`]: it may have happened.
    pub(crate) async fn propose(&self, group: &Rc<Group>, change: impl Into<AnyChange>) -> Outcome {
        let change = change.into();
        if group.is_alone() {
            return Ok(self.propose_here(group, change).await?);
        }
        let bytes = postcard::to_allocvec(&change)
            .map_err(|_| MetadataError::Refused("a change that does not encode".into()))?;
        let call = PeersCall::Propose {
            shard: group.number(),
            change: bytes,
        };
        let until = Instant::now() + SEARCH_MAX;
        loop {
            match self.ask_leader(group, &call, false, until).await? {
                Found::Answer(PeersAnswer::Proposed(outcome)) => return outcome,
                Found::Answer(other) => return Err(unexpected(&other)),
                Found::Here => match self.propose_here(group, change.clone()).await {
                    Err(Failure::NotHere(leader)) => self.again(group, leader, until).await?,
                    outcome => return Ok(outcome?),
                },
            }
        }
    }

    /// Somebody who should know says that this node leads a shard.
    pub(crate) fn heard(&self, group: &Group, leader: Option<String>) {
        let mut said = self.said.borrow_mut();
        match leader.filter(|leader| leader != self.store.name()) {
            Some(leader) => said.insert(group.number(), leader),
            None => said.remove(&group.number()),
        };
    }

    /// Before the search goes on where this node turned out not to lead after all.
    pub(crate) async fn again(
        &self,
        group: &Group,
        leader: Option<String>,
        until: Instant,
    ) -> Result<(), MetadataError> {
        if Instant::now() > until {
            return Err(Failure::NotHere(leader).into());
        }
        self.heard(group, leader);
        tokio::time::sleep(SEARCH_EVERY).await;
        Ok(())
    }

    /// Asks whoever leads a shard, until somebody does. What may be `repeated` is also asked again when its answer was lost.
    ///
    /// # Errors
    /// [`MetadataError::Unavailable`]: nobody led until `until`, and nothing has happened; or an answer was lost, and it may have.
    pub(crate) async fn ask_leader(
        &self,
        group: &Group,
        call: &PeersCall,
        repeated: bool,
        until: Instant,
    ) -> Result<Found, MetadataError> {
        let mut why = String::new();
        loop {
            if group.leads() {
                return Ok(Found::Here);
            }
            if Instant::now() > until {
                let number = group.number();
                return Err(MetadataError::Unavailable(format!(
                    "nobody leads shard {number} at the moment{why}: try again"
                )));
            }
            if let Some(leader) = self.leader(group) {
                let within = if repeated { READ_MAX } else { WRITE_MAX };
                let answer = tokio::select! {
                    answer = self.ways.call(&leader, call, within) => answer,
                    other = replaced(group, &leader) => {
                        let why = format!("node {leader}: no answer, and {other} leads now");
                        Err(WayError::Lost(why))
                    }
                };
                match answer {
                    Ok(PeersAnswer::NotLeader { leader: other }) => {
                        self.heard(group, other.filter(|other| *other != leader));
                    }
                    Ok(answer) => return Ok(Found::Answer(answer)),
                    Err(WayError::Lost(lost)) if !repeated => {
                        return Err(MetadataError::Unavailable(format!(
                            "{lost}: it may have happened or not"
                        )));
                    }
                    Err(error) => {
                        why = format!(" ({error})");
                        self.heard(group, None);
                    }
                }
            }
            tokio::time::sleep(SEARCH_EVERY).await;
        }
    }

    /// Asks the leader of shard 0 what this node, which has no rows, needs to know for itself, in the name of a `client` that may. `None` where this node leads, and
    /// where it does not say.
    pub(crate) async fn ask_registry(
        &self,
        client: &str,
        operation: Operation,
    ) -> Result<Option<Outcome>, MetadataError> {
        let call = Call {
            revision: 0,
            operation,
        };
        let client = client.into();
        let ask = PeersCall::Ask { client, call };
        let found = self.ask_leader(self.registry(), &ask, true, search_until());
        Ok(match found.await? {
            Found::Answer(PeersAnswer::Asked(answer)) => Some(answer.result),
            _ => None,
        })
    }

    /// Whom to ask for the leader of a shard: who was said to be, who is as far as this node's group knows, or anybody.
    fn leader(&self, group: &Group) -> Option<String> {
        if let Some(said) = self.said.borrow().get(&group.number()) {
            return Some(said.clone());
        }
        let own = self.store.name();
        if let Some(leader) = group.leader() {
            return Some(leader).filter(|leader| leader != own);
        }
        self.turn.set(self.turn.get().wrapping_add(1));
        let mut others = self.others();
        let turn = self.turn.get().checked_rem(others.len())?;
        Some(others.swap_remove(turn))
    }
}

/// Comes back when another node than `asked` has come to lead, as far as is known here, and has led for a while; with its name. A node whose line
/// was cut says nothing, and would be waited for long after it can do anything.
async fn replaced(group: &Group, asked: &str) -> String {
    let before = group.leader();
    loop {
        // Most answers come sooner; and who leads now is heard a moment before its name is known here.
        tokio::time::sleep(SEARCH_EVERY).await;
        let now = group.leader();
        let another = now.filter(|now| now != asked && before.as_ref() != Some(now));
        // Bounded also where nobody else leads: a change may have come between the look and the wait.
        let changed = tokio::time::timeout(REPLACED_MAX, group.leadership()).await;
        if let (Some(another), Err(_)) = (another, changed) {
            return another;
        }
    }
}

/// When the search for a leader that begins now ends.
pub(crate) fn search_until() -> Instant {
    Instant::now() + SEARCH_MAX
}

pub(crate) fn unexpected(answer: &PeersAnswer) -> MetadataError {
    MetadataError::Unavailable(match answer {
        PeersAnswer::Refused(why) => format!("refused by the node that leads: {why}"),
        _ => "the node that leads gave another answer than was asked for".into(),
    })
}

/// Which of `shards` a bucket's objects are in. Never to be changed: it says where the data is. Fibonacci hashing (Knuth, TAOCP 3,
/// 6.4), since the numbers of buckets are counted up.
fn shard_of(bucket: BucketId, shards: usize) -> usize {
    let mixed = bucket.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    // The upper half times the number of shards, of which again the upper half.
    let scaled = (u128::from(mixed) * shards as u128) >> 64;
    usize::try_from(scaled).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_stays_in_its_shard_and_neighbours_spread() {
        let shards: Vec<usize> = (1..=8).map(|id| shard_of(BucketId(id), 8)).collect();
        assert_eq!(shards, [4, 1, 6, 3, 0, 5, 2, 7]);
        assert_eq!(shard_of(BucketId(u64::MAX), 1), 0);
    }
}
