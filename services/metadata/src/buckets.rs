//! Making and deleting buckets: the two steps in two shards, and the repair of what a crash left between them.
//!
//! A bucket's name is in shard 0, its objects are in a shard of their own. It is made there first and named last, unnamed last but one and forgotten
//! last; so a bucket that has a name always has a place, and a crash leaves at most a place without a name, or a name whose bucket
//! was found empty and closed. [`Buckets::repair`] finds both. Nothing was answered for either.
//!
//! All of this is done by the leader of shard 0, and it changes shard 0 only as long as it is: a former one, whose bucket's number another may have given
//! out again, can neither name nor unname a bucket.

use crate::Error;
use crate::proposer::{Failure, Found, Proposer, search_until, unexpected};
use crate::raft::Group;
use crate::state::{self, AnyChange, Outcome};
use protocol::block::HashKey;
use protocol::metadata::{BucketId, MetadataError, Reply, Versioning};
use protocol::peers::{PLACES_MAX, PeersAnswer, PeersCall, Place};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Mutex;

/// How often it is looked for what was cut off, where others may have begun it.
const REPAIR_EVERY: Duration = Duration::from_secs(60);

/// The way to make and delete buckets, one at a time.
pub(crate) struct Buckets {
    proposer: Rc<Proposer>,
    one_at_a_time: Mutex<()>,
}

impl Buckets {
    pub(crate) fn new(proposer: Rc<Proposer>) -> Self {
        Self {
            proposer,
            one_at_a_time: Mutex::new(()),
        }
    }

    /// See [`protocol::metadata::Operation::CreateBucket`].
    pub(crate) async fn create(
        &self,
        name: String,
        owner: String,
        hash_key: HashKey,
        locked: bool,
    ) -> Outcome {
        let _one = self.one_at_a_time.lock().await;
        let id = {
            let registry = self.proposer.read(self.proposer.registry()).await?;
            let found = state::find_bucket(registry, &name).map_err(|error| unavailable(&error))?;
            if let Some(bucket) = found {
                return Err(MetadataError::BucketExists {
                    owner: bucket.owner,
                });
            }
            state::next_bucket(registry).map_err(|error| unavailable(&error))?
        };
        let place = self.proposer.shard(id);
        self.proposer
            .propose(
                place,
                AnyChange::OpenBucket {
                    id,
                    name: name.clone(),
                    locked,
                },
            )
            .await?;
        let register = AnyChange::RegisterBucket {
            id,
            name,
            owner,
            hash_key,
            versioned: locked,
        };
        let registered = self.register(register).await;
        if registered.is_err() && self.proposer.is_alone() {
            // It got no name. If this fails, the repair does it; and always where another leader may have given out the number again.
            self.forget(place, id).await?;
        }
        registered
    }

    /// See [`protocol::metadata::Operation::DeleteBucket`].
    pub(crate) async fn delete(&self, name: String) -> Outcome {
        let _one = self.one_at_a_time.lock().await;
        let registry = self.proposer.read(self.proposer.registry()).await?;
        let found = state::find_bucket(registry, &name).map_err(|error| unavailable(&error))?;
        let bucket = found.ok_or(MetadataError::NoSuchBucket)?;
        let (id, name) = (bucket.id, bucket.name); // its own, whichever was said
        let place = self.proposer.shard(id);
        self.proposer
            .propose(place, AnyChange::CloseBucket { id })
            .await?;
        self.register(AnyChange::UnregisterBucket { id, name })
            .await?;
        self.proposer
            .propose(place, AnyChange::ForgetBucket { id })
            .await
    }

    /// See [`protocol::metadata::Operation::PutVersioning`]. First the bucket's shard, where versions are made, then the registry, which tells the users:
    /// if it is cut off between them, [`Buckets::repair`] does the second.
    pub(crate) async fn put_versioning(&self, name: String, versioning: Versioning) -> Outcome {
        let _one = self.one_at_a_time.lock().await;
        let registry = self.proposer.read(self.proposer.registry()).await?;
        let found = state::find_bucket(registry, &name).map_err(|error| unavailable(&error))?;
        let bucket = found.ok_or(MetadataError::NoSuchBucket)?;
        let (id, name) = (bucket.id, bucket.name);
        let place = self.proposer.shard(id);
        let change = AnyChange::PutVersioning {
            bucket: id,
            versioning,
        };
        self.proposer.propose(place, change).await?;
        if bucket.versioned {
            return Ok(Reply::Done);
        }
        self.register(AnyChange::MarkVersioned { id, name }).await
    }

    /// A change of shard 0, by its leader.
    async fn register(&self, change: AnyChange) -> Outcome {
        let registry = self.proposer.registry();
        Ok(self.proposer.propose_here(registry, change).await?)
    }

    /// Looks after what was cut off for as long as the service lives: whenever this node has become the leader of shard 0, and again each [`REPAIR_EVERY`] where
    /// it could not be finished, or a former leader may have left something.
    pub(crate) async fn look_after(&self) {
        let registry = self.proposer.registry();
        loop {
            if registry.leads() {
                if let Err(error) = self.repair().await {
                    runtime::warn!("looking for buckets whose deletion was cut off: {error}");
                } else if self.proposer.is_alone() {
                    self.proposer.store().company().await;
                    continue;
                }
            }
            let _ = tokio::time::timeout(REPAIR_EVERY, registry.leadership()).await;
        }
    }

    /// Finishes what was cut off, as the leader of shard 0. What is in a shard is asked behind what has a name, so nothing that has just got one is taken for cut off.
    async fn repair(&self) -> Result<(), MetadataError> {
        let _one = self.one_at_a_time.lock().await;
        let mut named = HashMap::new();
        let registry = self.proposer.read(self.proposer.registry()).await?;
        state::registered(registry, |bucket| {
            named.insert(bucket.id, bucket.versioned);
        })
        .map_err(|error| unavailable(&error))?;
        for group in self.proposer.groups() {
            let (mut cut_off, mut unmarked) = (Vec::new(), Vec::new());
            for place in self.places(group).await? {
                match named.get(&place.bucket) {
                    Some(versioned) if place.open => {
                        if place.versioned && !versioned {
                            unmarked.push((place.bucket, place.name));
                        }
                    }
                    _ => cut_off.push((place.bucket, place.name)),
                }
            }
            for (id, name) in cut_off {
                runtime::info!("bucket {name:?}: finishing its deletion, which was cut off");
                self.register(AnyChange::UnregisterBucket { id, name })
                    .await?;
                self.forget(group, id).await?;
            }
            for (id, name) in unmarked {
                self.register(AnyChange::MarkVersioned { id, name }).await?;
            }
        }
        Ok(())
    }

    /// The buckets whose objects are in a shard, whoever leads it.
    async fn places(&self, group: &Rc<Group>) -> Result<Vec<Place>, MetadataError> {
        let until = search_until();
        let (mut places, mut after) = (Vec::new(), 0);
        loop {
            let call = PeersCall::Places {
                shard: group.number(),
                after,
            };
            let found = self.proposer.ask_leader(group, &call, true, until).await?;
            let page = match found {
                Found::Here => places_behind(&self.proposer, group, after).await,
                Found::Answer(PeersAnswer::Places { places, more }) => Ok((places, more)),
                Found::Answer(other) => return Err(unexpected(&other)),
            };
            let (page, more) = match page {
                Err(Failure::NotHere(leader)) => {
                    self.proposer.again(group, leader, until).await?;
                    continue;
                }
                page => page?,
            };
            // A page that brings nothing new would be asked for again and again.
            let last = page.last().map(|place| place.bucket.0);
            places.extend(page);
            match last.filter(|last| more && *last > after) {
                Some(last) => after = last,
                None => return Ok(places),
            }
        }
    }

    /// Takes away the place of a bucket without a name.
    async fn forget(&self, place: &Rc<Group>, id: BucketId) -> Outcome {
        self.proposer
            .propose(place, AnyChange::CloseBucket { id })
            .await?;
        self.proposer
            .propose(place, AnyChange::ForgetBucket { id })
            .await?;
        Ok(Reply::Done)
    }
}

/// A page of the buckets whose objects are in a shard that this node leads, and whether more follow.
pub(crate) async fn places_behind(
    proposer: &Proposer,
    group: &Rc<Group>,
    after: u64,
) -> Result<(Vec<Place>, bool), Failure> {
    let rows = proposer.read(group).await?;
    let (mut places, mut more) = (Vec::new(), false);
    state::rowed(rows, |row| {
        if row.id.0 > after && places.len() < PLACES_MAX {
            places.push(Place {
                bucket: row.id,
                name: row.name,
                open: row.open,
                versioned: row.versioned,
            });
        } else {
            more |= row.id.0 > after;
        }
    })?;
    Ok((places, more))
}

fn unavailable(error: &Error) -> MetadataError {
    MetadataError::Unavailable(error.to_string())
}
