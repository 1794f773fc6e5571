//! All shards of this node over one database, and what its data directory says that it is.

use super::disk::Disk;
use super::group::Group;
use super::shard;
use super::types::{Entry, Peer, StoredMembership, Vote};
use super::writer::{Space, When, Write};
use crate::Error;
use crate::state;
use crate::ways::Ways;
use openraft::entry::RaftPayload;
use openraft::{EntryPayload, Membership};
use protocol::cluster::NodeKey;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What a data directory is. One row for all shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    /// The form of everything else.
    format: u32,
    /// How many shards there are; which one a bucket is in follows from it.
    shards: u32,
    /// This node's number in every group.
    node: u64,
}

/// This node, as its groups know it.
#[derive(Clone)]
pub struct Me {
    /// Its name in the cluster.
    pub name: String,
    /// Its number in every group ([`number_of`] its key); `None` for a node that will never have company: as the directory says, or drawn at random.
    pub number: Option<u64>,
    /// It begins a cluster: where the directory is empty, each group begins with this node as its only voter. Otherwise the groups wait to be
    /// told by a leader that they belong.
    pub founding: bool,
    /// To the others.
    pub ways: Rc<Ways>,
}

impl Me {
    /// A node that will never have company.
    pub fn alone(name: &str) -> Self {
        Self {
            name: name.into(),
            number: None,
            founding: true,
            ways: Rc::new(Ways::none()),
        }
    }
}

/// The number of the node with this key in every group.
pub fn number_of(key: &NodeKey) -> u64 {
    key.0
        .first_chunk::<8>()
        .map_or(0, |first| u64::from_be_bytes(*first))
}

/// Whether other nodes are members of any group of this node. Never again without, once there were: until the next start.
#[derive(Default)]
pub(crate) struct Others {
    any: Cell<bool>,
    came: Notify,
    /// When the first came, if that was since the start: until then nobody but this node can have changed anything.
    came_at: Cell<Option<Instant>>,
}

impl Others {
    /// They are, as a group knows from its log.
    pub(crate) fn are_there(&self) {
        self.any.set(true);
    }

    /// The first is about to be made a member.
    pub(crate) fn come(&self) {
        if !self.any.replace(true) {
            self.came_at.set(Some(Instant::now()));
            self.came.notify_waiters();
        }
    }
}

/// All shards of this node.
pub struct Store {
    disk: Rc<Disk>,
    /// The first is the registry's.
    groups: Vec<Rc<Group>>,
    registry: Rc<Group>,
    name: String,
    number: u64,
    others: Rc<Others>,
}

impl Store {
    /// Opens the directory `path`, or makes it. A group whose only voter is this node has a leader and has applied its whole log when this
    /// comes back; the others find theirs later. Must run where tasks may be spawned locally.
    pub async fn open(path: &Path, shards: u32, me: Me) -> Result<Self, Error> {
        let disk = Disk::open(path)?;
        let others = Rc::new(Others::default());
        let opened = async {
            let identity = identify(&disk, shards, me.number).await?;
            let number_here = identity.node;
            let starting = (0..identity.shards).map(|number| {
                let number = u16::try_from(number).map_err(|_| Error::Damaged("number of shards"));
                let (disk, me, others) = (disk.clone(), me.clone(), others.clone());
                async move { Group::start(&disk, number?, number_here, &me, others).await }
            });
            // All at once, so that they share their syncs.
            let groups = futures_util::future::try_join_all(starting).await?;
            Ok::<_, Error>((groups, number_here))
        };
        let (groups, number) = tokio::select! {
            groups = opened => groups?,
            error = disk.failure() => return Err(error),
        };
        let registry = groups
            .first()
            .cloned()
            .ok_or(Error::Damaged("number of shards, which is 0"))?;
        Ok(Self {
            disk,
            groups,
            registry,
            name: me.name,
            number,
            others,
        })
    }

    /// The shards in order of their numbers.
    pub fn groups(&self) -> &[Rc<Group>] {
        &self.groups
    }

    /// Shard 0, which holds keys and the names of buckets.
    pub fn registry(&self) -> &Rc<Group> {
        &self.registry
    }

    /// This node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// This node's number in every group.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether this node is the only member of every group: then nobody else knows, or changes, anything.
    pub fn is_alone(&self) -> bool {
        !self.others.any.get()
    }

    /// When it ceased to be, if that was since the start.
    pub(crate) fn alone_until(&self) -> Option<Instant> {
        self.others.came_at.get()
    }

    /// Waits until it is not.
    pub(crate) async fn company(&self) {
        let came = self.others.came.notified();
        if self.is_alone() {
            came.await;
        }
    }

    /// What the state takes on the disk, in bytes.
    pub fn state_bytes(&self) -> u64 {
        self.disk.state_bytes()
    }

    /// Asks for the space of removed rows. It takes as much space besides as is left of the state; if that is not there, the database
    /// fails, so look first.
    pub fn merge(&self) {
        self.disk.merge();
    }

    /// Comes back only when the disk has failed or a group has ended: then the process has to. For one listener.
    pub async fn failure(&self) -> Error {
        let ended = self.groups.iter().map(|group| Box::pin(group.ended()));
        tokio::select! {
            error = self.disk.failure() => error,
            (error, ..) = futures_util::future::select_all(ended) => error,
        }
    }

    /// Ends all groups and closes the database.
    pub async fn close(&self) {
        for group in &self.groups {
            group.close().await;
        }
        self.disk.close();
    }

    /// As if the process were killed: what is not on its way to the disk is lost.
    #[cfg(test)]
    pub(crate) fn kill(&self) {
        self.disk.abandon();
        self.disk.close();
    }
}

/// Reads what the directory is, or makes it so.
async fn identify(disk: &Rc<Disk>, shards: u32, node: Option<u64>) -> Result<Identity, Error> {
    // Behind all shards' numbers.
    const KEY: [u8; 3] = [u8::MAX, u8::MAX, b'i'];
    let found = shard::read::<Identity>(&disk.spaces().meta, &KEY, "identity")?;
    let mut writes = Vec::new();
    let to = match node {
        Some(node) => node,
        None => crate::random_number()?,
    };
    match &found {
        Some(Identity { format, .. }) if *format != state::FORMAT => {
            return Err(Error::Format { found: *format });
        }
        Some(Identity { shards: found, .. }) if *found != shards => {
            let found = *found;
            return Err(Error::Shards { set: shards, found });
        }
        Some(identity) if node.is_none_or(|node| node == identity.node) => {
            return Ok(identity.clone());
        }
        Some(identity) => {
            for number in 0..shards {
                let number =
                    u16::try_from(number).map_err(|_| Error::Damaged("number of shards"))?;
                writes.extend(renumber(disk, number, identity.node, to)?);
            }
        }
        None => {}
    }
    let identity = Identity {
        format: state::FORMAT,
        shards,
        node: to,
    };
    writes.push(Write {
        space: Space::Meta,
        key: KEY.into(),
        value: Some(shard::encode(&identity)?),
    });
    disk.written(writes, When::Synced).await?;
    Ok(identity)
}

/// Gives the only member of a group another number: a directory from before nodes had keys has one that was drawn at random.
///
/// # Errors
/// [`Error::Node`] if the group has other members: the directory is another node's.
fn renumber(disk: &Rc<Disk>, number: u16, from: u64, to: u64) -> Result<Vec<Write>, Error> {
    let spaces = disk.spaces();
    let mut writes = Vec::new();
    let rename = |members: &Membership<u64, Peer>| -> Result<Membership<u64, Peer>, Error> {
        let others = members.nodes().any(|(id, _)| *id != from);
        let peer = members.get_node(&from).filter(|_| !others);
        let peer = peer.ok_or(Error::Node)?.clone();
        let voters = BTreeSet::from([to]);
        Membership::new(vec![voters], BTreeMap::from([(to, peer)]))
            .map_err(|_| Error::Damaged("membership"))
    };
    let key = shard::meta_key(number, b'm');
    if let Some(stored) = shard::read::<StoredMembership>(&spaces.meta, &key, "membership")?
        && stored.voter_ids().next().is_some()
    {
        let renamed = rename(stored.membership())?;
        let stored = StoredMembership::new(*stored.log_id(), renamed);
        writes.push(Write {
            space: Space::Meta,
            key: key.into(),
            value: Some(shard::encode(&stored)?),
        });
    }
    for row in spaces.log.prefix(number.to_be_bytes()) {
        let (key, value) = row.into_inner()?;
        let mut entry: Entry = shard::decode(&value, "log entry")?;
        if let Some(members) = entry.payload.get_membership() {
            entry.payload = EntryPayload::Membership(rename(&members)?);
            writes.push(Write {
                space: Space::Log,
                key,
                value: Some(shard::encode(&entry)?),
            });
        }
    }
    let key = shard::meta_key(number, b'v');
    if let Some(vote) = shard::read::<Vote>(&spaces.meta, &key, "vote")? {
        // In a later term, so that it is later than everything in the log whatever the numbers are.
        let vote = Vote::new(vote.leader_id.term + 1, to);
        writes.push(Write {
            space: Space::Meta,
            key: key.into(),
            value: Some(shard::encode(&vote)?),
        });
    }
    Ok(writes)
}
