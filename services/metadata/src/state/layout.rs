//! Which nodes keep blocks: one row of shard 0. What is staged changes nothing until it is applied; what is applied is where blocks move, and becomes where they
//! are when every node has said that it has given away what it should.
//!
//! How partitions are assigned is computed by whoever proposes, with the crate `layout`, and stands in the command: replicas of two versions of the
//! program would otherwise not agree.

use super::Outcome;
use super::changes::{self, Changes};
use super::rows;
use super::store::Rows;
use crate::Error;
use protocol::cluster::{NODE_NAME_BYTES_MAX, NODES_MAX, NodeKey, Roster};
use protocol::copies::PARTITIONS;
use protocol::metadata::{LayoutEdit, MetadataError, Reply, Role};
use serde::{Deserialize, Serialize};

/// A change of the layout. Each is harmless to repeat, but for [`LayoutChange::Apply`], which is refused then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayoutChange {
    /// The first arrangement, unless there is one: where blocks are because nobody has said anything.
    Begin {
        /// Its only node.
        role: Role,
    },
    /// Waits to be applied.
    Stage(LayoutEdit),
    /// Blocks move there from now on. `LayoutChanged` if `version` is not the present one.
    Apply {
        /// What the proposer saw.
        version: u64,
        /// Computed from what is staged in that version.
        to: Arrangement,
    },
    /// A node has given everything to whom it belongs in this placement.
    Settled {
        /// Which node.
        key: NodeKey,
        /// Which placement.
        placed: u64,
    },
    /// So many copies are staged when the layout begins. Of no effect where it has begun.
    Wish {
        /// 1, 2, 3 or 5.
        copies: u8,
    },
}

/// Who keeps which partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrangement {
    /// Of each block.
    pub copies: u8,
    /// Whom the numbers below mean.
    pub roles: Vec<Role>,
    /// For each partition the places of its nodes in `roles`.
    pub partitions: Vec<Vec<u8>>,
}

/// Where blocks move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// Where they will be.
    pub to: Arrangement,
    /// Who has said [`LayoutChange::Settled`].
    pub settled: Vec<NodeKey>,
    /// Milliseconds since 1970.
    pub begun_ms: u64,
}

/// The row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Raised by each change.
    pub version: u64,
    /// Raised when blocks get other places.
    pub placed: u64,
    /// Where blocks are.
    pub present: Arrangement,
    /// Where they move.
    pub moving: Option<Moving>,
    /// Roles that wait; `None`: to be removed. At most one for each node.
    pub staged_roles: Vec<(NodeKey, Option<Role>)>,
    /// Copies that wait.
    pub staged_copies: Option<u8>,
}

impl Arrangement {
    /// Everything on one node.
    fn of_one(role: Role) -> Self {
        Self {
            copies: 1,
            roles: vec![role],
            partitions: vec![vec![0]; PARTITIONS],
        }
    }

    /// Whether the numbers mean something.
    fn is_sound(&self) -> bool {
        let copies = usize::from(self.copies);
        let mut keys: Vec<NodeKey> = self.roles.iter().map(|role| role.key).collect();
        keys.sort_unstable();
        keys.dedup();
        let sound = |nodes: &Vec<u8>| {
            let mut seen = nodes.clone();
            seen.sort_unstable();
            seen.dedup();
            let known = |node: &u8| usize::from(*node) < self.roles.len();
            seen.len() == nodes.len() && nodes.len() == copies && nodes.iter().all(known)
        };
        copies > 0
            && keys.len() == self.roles.len()
            && self.roles.len() <= NODES_MAX
            && self.partitions.len() == PARTITIONS
            && self.partitions.iter().all(sound)
    }
}

impl Layout {
    /// The roles as they would be if all that waits were applied to the newest arrangement, and the copies.
    pub fn wished(&self) -> (Vec<Role>, u8) {
        let newest = self.newest();
        let mut roles = newest.roles.clone();
        for (key, role) in &self.staged_roles {
            roles.retain(|known| known.key != *key);
            roles.extend(role.clone());
        }
        roles.sort_by_key(|role| role.key);
        (roles, self.staged_copies.unwrap_or(newest.copies))
    }

    /// Whether anything waits.
    pub fn has_staged(&self) -> bool {
        self.staged_copies.is_some() || !self.staged_roles.is_empty()
    }

    /// Whether blocks move and this node has not said yet that it has given away what it should.
    pub fn awaits(&self, key: &NodeKey) -> bool {
        let moving = self.moving.iter();
        let mut waiting = moving.filter(|moving| !moving.settled.contains(key));
        waiting.next().is_some() && self.holders().any(|holder| holder == *key)
    }

    /// Where blocks will be, or are if they do not move.
    pub fn newest(&self) -> &Arrangement {
        match &self.moving {
            Some(moving) => &moving.to,
            None => &self.present,
        }
    }

    /// Where blocks are, and where they will be if they move.
    pub fn arrangements(&self) -> impl Iterator<Item = &Arrangement> {
        let next = self.moving.iter().map(|moving| &moving.to);
        std::iter::once(&self.present).chain(next)
    }

    /// If everybody of the roster who has blocks has given them to whom they belong, they are there now. Who does not belong any more will never
    /// say so, and gives nothing.
    fn arrive(&mut self, roster: Option<&Roster>) -> Result<bool, Error> {
        let Some(moving) = &self.moving else {
            return Ok(false);
        };
        let belongs = |key: &NodeKey| roster.is_none_or(|roster| roster.member(key).is_some());
        let settled = &moving.settled;
        if !self
            .holders()
            .filter(belongs)
            .all(|key| settled.contains(&key))
        {
            return Ok(false);
        }
        if let Some(moving) = self.moving.take() {
            self.present = moving.to;
            self.placed = raised(self.placed)?;
        }
        Ok(true)
    }

    /// Everybody who has blocks that others may need.
    fn holders(&self) -> impl Iterator<Item = NodeKey> {
        let roles = self.arrangements().flat_map(|one| &one.roles);
        roles.map(|role| role.key)
    }
}

/// The layout; `None` before [`LayoutChange::Begin`].
pub fn layout<R: Rows>(rows: &R) -> Result<Option<Layout>, Error> {
    changes::get(rows, &rows::layout(), "layout")
}

/// How many copies a founder wants once there is a layout, if it has said so.
pub fn wished_copies<R: Rows>(rows: &R) -> Result<Option<u8>, Error> {
    changes::get(rows, &rows::wished_copies(), "wished copies")
}

pub(super) fn change<R: Rows>(
    changes: &mut Changes<'_, R>,
    change: &LayoutChange,
) -> Result<Outcome, Error> {
    let Some(mut layout) = layout(changes.rows)? else {
        return match change {
            LayoutChange::Begin { role } => begin(changes, role),
            LayoutChange::Wish { copies } => wish(changes, *copies),
            _ => Ok(Err(MetadataError::LayoutChanged)),
        };
    };
    let changed = match change {
        LayoutChange::Begin { .. } | LayoutChange::Wish { .. } => false,
        LayoutChange::Stage(edit) => match stage(&mut layout, edit) {
            Ok(changed) => changed,
            Err(why) => return Ok(Err(MetadataError::Refused(why))),
        },
        LayoutChange::Apply { version, to } => {
            if *version != layout.version || !to.is_sound() {
                return Ok(Err(MetadataError::LayoutChanged));
            }
            layout.moving = Some(Moving {
                to: to.clone(),
                settled: Vec::new(),
                begun_ms: changes.at_ms,
            });
            layout.staged_roles.clear();
            layout.staged_copies = None;
            layout.placed = raised(layout.placed)?;
            true
        }
        LayoutChange::Settled { key, placed } => {
            let roster = super::roster(changes.rows)?;
            settle(&mut layout, *key, *placed, roster.as_ref())?
        }
    };
    if changed {
        layout.version = raised(layout.version)?;
        changes.put(rows::layout(), &layout)?;
    }
    Ok(Ok(Reply::Done))
}

fn begin<R: Rows>(changes: &mut Changes<'_, R>, role: &Role) -> Result<Outcome, Error> {
    let wished = wished_copies(changes.rows)?;
    let layout = Layout {
        version: 1,
        placed: 1,
        present: Arrangement::of_one(role.clone()),
        moving: None,
        staged_roles: Vec::new(),
        staged_copies: wished.filter(|copies| *copies != 1),
    };
    changes.put(rows::layout(), &layout)?;
    Ok(Ok(Reply::Done))
}

fn wish<R: Rows>(changes: &mut Changes<'_, R>, copies: u8) -> Result<Outcome, Error> {
    if let Err(why) = check_copies(copies) {
        return Ok(Err(MetadataError::Refused(why)));
    }
    changes.put(rows::wished_copies(), &copies)?;
    Ok(Ok(Reply::Done))
}

/// Why there cannot be so many copies of a block.
fn check_copies(copies: u8) -> Result<(), String> {
    let copies = usize::from(copies);
    match layout::REPLICATIONS.contains(&copies) {
        true => Ok(()),
        false => Err(layout::Error::Replication(copies).to_string()),
    }
}

/// A node does not belong any more: a move that only waits for it is over.
pub(super) fn without<R: Rows>(changes: &mut Changes<'_, R>, roster: &Roster) -> Result<(), Error> {
    let Some(mut layout) = layout(changes.rows)? else {
        return Ok(());
    };
    if layout.arrive(Some(roster))? {
        layout.version = raised(layout.version)?;
        changes.put(rows::layout(), &layout)?;
    }
    Ok(())
}

/// Whether anything changes; or why it may not.
fn stage(layout: &mut Layout, edit: &LayoutEdit) -> Result<bool, String> {
    let before = (layout.staged_roles.clone(), layout.staged_copies);
    let mut put = |key: NodeKey, role: Option<Role>| {
        layout.staged_roles.retain(|(known, _)| *known != key);
        layout.staged_roles.push((key, role));
        if layout.staged_roles.len() > NODES_MAX {
            return Err(format!(
                "at most {NODES_MAX} nodes can be changed at a time"
            ));
        }
        Ok(())
    };
    match edit {
        LayoutEdit::Assign(role) => {
            if role.zone.is_empty() || role.zone.len() > NODE_NAME_BYTES_MAX {
                return Err(format!(
                    "a zone's name has 1 to {NODE_NAME_BYTES_MAX} bytes"
                ));
            }
            put(role.key, Some(role.clone()))?;
        }
        LayoutEdit::Remove(key) => put(*key, None)?,
        LayoutEdit::Copies(copies) => {
            check_copies(*copies)?;
            layout.staged_copies = Some(*copies);
        }
        LayoutEdit::Revert => {
            layout.staged_roles.clear();
            layout.staged_copies = None;
        }
    }
    Ok(before != (layout.staged_roles.clone(), layout.staged_copies))
}

/// Whether anything changes: a late word on an earlier placement does not.
fn settle(
    layout: &mut Layout,
    key: NodeKey,
    placed: u64,
    roster: Option<&Roster>,
) -> Result<bool, Error> {
    if placed != layout.placed {
        return Ok(false);
    }
    let Some(moving) = &mut layout.moving else {
        return Ok(false);
    };
    if moving.settled.contains(&key) {
        return Ok(false);
    }
    moving.settled.push(key);
    layout.arrive(roster)?;
    Ok(true)
}

fn raised(version: u64) -> Result<u64, Error> {
    version
        .checked_add(1)
        .ok_or(Error::Damaged("version of the layout"))
}
