//! Making and deleting buckets: the two steps in two shards, and the repair of what a crash left between them.
//!
//! A bucket's name is in shard 0, its objects are in a shard of their own. It is made there first and named last, unnamed last but one and forgotten
//! last; so a bucket that has a name always has a place, and a crash leaves at most a place without a name, or a name whose bucket
//! was found empty and closed. [`Buckets::repair`] finds both. Nothing was answered for either.

use crate::Error;
use crate::proposer::Proposer;
use crate::raft::Group;
use crate::state::{self, AnyChange, Outcome};
use protocol::block::HashKey;
use protocol::metadata::{BucketId, MetadataError, Reply, Versioning};
use std::collections::HashMap;
use std::rc::Rc;
use tokio::sync::Mutex;

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
        let registered = self
            .proposer
            .propose(self.proposer.registry(), register)
            .await;
        if registered.is_err() {
            // It got no name. If this fails, the repair does it.
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
        let unregister = AnyChange::UnregisterBucket { id, name };
        self.proposer
            .propose(self.proposer.registry(), unregister)
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
        self.proposer
            .propose(
                self.proposer.registry(),
                AnyChange::MarkVersioned { id, name },
            )
            .await
    }

    /// Finishes what was cut off: to be called once after the start.
    pub(crate) async fn repair(&self) -> Result<(), MetadataError> {
        let _one = self.one_at_a_time.lock().await;
        let mut named = HashMap::new();
        let registry = self.proposer.read(self.proposer.registry()).await?;
        state::registered(registry, |bucket| {
            named.insert(bucket.id, bucket.versioned);
        })
        .map_err(|error| unavailable(&error))?;
        for group in self.proposer.groups() {
            let (mut cut_off, mut unmarked) = (Vec::new(), Vec::new());
            let rows = self.proposer.read(group).await?;
            let find = |place: state::Place| match named.get(&place.id) {
                Some(versioned) if place.open => {
                    if place.versioned && !versioned {
                        unmarked.push((place.id, place.name));
                    }
                }
                _ => cut_off.push((place.id, place.name)),
            };
            state::rowed(rows, find).map_err(|error| unavailable(&error))?;
            for (id, name) in cut_off {
                runtime::info!("bucket {name:?}: finishing its deletion, which was cut off");
                let unregister = AnyChange::UnregisterBucket { id, name };
                self.proposer
                    .propose(self.proposer.registry(), unregister)
                    .await?;
                self.forget(group, id).await?;
            }
            for (id, name) in unmarked {
                self.proposer
                    .propose(
                        self.proposer.registry(),
                        AnyChange::MarkVersioned { id, name },
                    )
                    .await?;
            }
        }
        Ok(())
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

fn unavailable(error: &Error) -> MetadataError {
    MetadataError::Unavailable(error.to_string())
}
