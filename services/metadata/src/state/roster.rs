//! Who belongs to the cluster, and who is invited: rows of shard 0.
//!
//! The roster is one row. It has everybody who was ever admitted, and its version rises with each change of it. A node is its key: it is admitted by
//! an invitation, which one key uses up, and put out by its standing; nothing but a new invitation brings one back that has left, and nothing at all
//! one that was revoked.

use super::Outcome;
use super::changes::{self, Changes, each};
use super::layout;
use super::registry::raise_revision;
use super::rows::{self, Invitation};
use super::store::Rows;
use crate::Error;
use protocol::cluster::{
    AdmissionError, ClusterId, NODES_MAX, NodeEntry, NodeKey, Roster, Standing,
};
use protocol::metadata::{MetadataError, Reply};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// The most invitations that are known at a time.
const INVITATIONS_MAX: usize = 256;
/// How long an invitation whose time is over is remembered, so that whoever comes with it is told why, in milliseconds.
const REMEMBERED_MS: u64 = 7 * 24 * 60 * 60 * 1_000;

/// A change of who belongs. Each answers [`Reply::Roster`] as it is then, and is harmless to repeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterChange {
    /// Makes a cluster with this node as its only one, unless there is one.
    Found {
        /// Fresh, or what the node remembers.
        cluster: ClusterId,
        /// The roster begins with it.
        version: u64,
        /// Who makes it.
        node: NodeEntry,
    },
    /// Whoever has the secret may join.
    Invite {
        /// BLAKE3.
        secret_hash: [u8; 32],
        /// Until then, in milliseconds since 1970.
        expires_ms: u64,
    },
    /// The node belongs from now on, by an invitation. [`MetadataError::NotAdmitted`] says why not.
    Admit {
        /// Of which cluster its invitation is.
        cluster: ClusterId,
        /// BLAKE3.
        secret_hash: [u8; 32],
        /// Who wants to belong.
        node: NodeEntry,
    },
    /// What a node that belongs says of itself: name, zone, capacity, addresses. `NoSuchNode` if it does not belong.
    SetNode {
        /// Its standing is not looked at.
        node: NodeEntry,
    },
    /// A node leaves or is revoked. The last one that belongs stays (`Refused`), and so does the standing of one that was revoked.
    SetStanding {
        /// Which.
        key: NodeKey,
        /// Not `Member`: that takes an invitation.
        standing: Standing,
    },
}

/// The roster; `None` before the first [`ClusterChange::Found`].
pub fn roster<R: Rows>(rows: &R) -> Result<Option<Roster>, Error> {
    changes::get(rows, &rows::cluster(), "cluster")
}

/// Whether there is or was an invitation with this secret.
pub fn is_invited<R: Rows>(rows: &R, secret_hash: &[u8; 32]) -> Result<bool, Error> {
    Ok(rows.get(&rows::invitation(secret_hash))?.is_some())
}

pub(super) fn change<R: Rows>(
    changes: &mut Changes<'_, R>,
    change: &ClusterChange,
) -> Result<Outcome, Error> {
    let Some(roster) = roster(changes.rows)? else {
        return match change {
            ClusterChange::Found {
                cluster,
                version,
                node,
            } => found(changes, *cluster, *version, node),
            _ => {
                let why = "this node has not made a cluster yet: ask again in a moment";
                Ok(Err(MetadataError::Unavailable(why.into())))
            }
        };
    };
    match change {
        ClusterChange::Found { .. } => Ok(Ok(Reply::Roster(Some(roster)))),
        ClusterChange::Invite {
            secret_hash,
            expires_ms,
        } => invite(changes, roster, secret_hash, *expires_ms),
        ClusterChange::Admit {
            cluster,
            secret_hash,
            node,
        } => admit(changes, roster, *cluster, secret_hash, node),
        ClusterChange::SetNode { node } => set_node(changes, roster, node),
        ClusterChange::SetStanding { key, standing } => {
            set_standing(changes, roster, *key, *standing)
        }
    }
}

fn found<R: Rows>(
    changes: &mut Changes<'_, R>,
    cluster: ClusterId,
    version: u64,
    node: &NodeEntry,
) -> Result<Outcome, Error> {
    if let Some(broken) = node.broken_rule() {
        return Ok(Err(MetadataError::Refused(broken)));
    }
    let roster = Roster {
        cluster,
        version,
        nodes: vec![member(node)],
    };
    changes.put(rows::cluster(), &roster)?;
    Ok(Ok(Reply::Roster(Some(roster))))
}

fn invite<R: Rows>(
    changes: &mut Changes<'_, R>,
    roster: Roster,
    secret_hash: &[u8; 32],
    expires_ms: u64,
) -> Result<Outcome, Error> {
    let (now, mut kept, mut old) = (changes.at_ms, 0, Vec::new());
    let start = rows::invitations();
    each(
        changes.rows,
        &start,
        &rows::behind(start.clone()),
        |key, value| {
            let invitation: Invitation = rows::decode(value, "invitation")?;
            match invitation.expires_ms.saturating_add(REMEMBERED_MS) <= now {
                true => old.push(key.to_vec()),
                false => kept += 1,
            }
            Ok(ControlFlow::Continue(()))
        },
    )?;
    let key = rows::invitation(secret_hash);
    if changes.has(&key)? {
        return Ok(Ok(Reply::Roster(Some(roster))));
    }
    if kept >= INVITATIONS_MAX {
        let why = format!("{INVITATIONS_MAX} invitations are known already");
        return Ok(Err(MetadataError::Refused(why)));
    }
    for key in old {
        changes.delete(key);
    }
    let invitation = Invitation {
        expires_ms,
        used_by: None,
    };
    changes.put(key, &invitation)?;
    Ok(Ok(Reply::Roster(Some(roster))))
}

fn admit<R: Rows>(
    changes: &mut Changes<'_, R>,
    mut roster: Roster,
    cluster: ClusterId,
    secret_hash: &[u8; 32],
    node: &NodeEntry,
) -> Result<Outcome, Error> {
    let refused = |error| Ok(Err(MetadataError::NotAdmitted(error)));
    if cluster != roster.cluster {
        return refused(AdmissionError::OtherCluster);
    }
    let row = rows::invitation(secret_hash);
    let invitation: Option<Invitation> = changes.get(&row, "invitation")?;
    let Some(invitation) = invitation else {
        return refused(AdmissionError::UnknownToken);
    };
    let at = roster.nodes.iter().position(|one| one.key == node.key);
    let standing = at.and_then(|at| roster.nodes.get(at)).map(|at| at.standing);
    match (invitation.used_by, standing) {
        (_, Some(Standing::Revoked)) => return refused(AdmissionError::Revoked),
        // The answer was lost.
        (Some(key), Some(Standing::Member)) if key == node.key => {
            return Ok(Ok(Reply::Roster(Some(roster))));
        }
        (Some(_), _) => return refused(AdmissionError::UsedToken),
        (None, _) if invitation.expires_ms <= changes.at_ms => {
            return refused(AdmissionError::ExpiredToken);
        }
        (None, _) => {}
    }
    if let Some(error) = not_fitting(&roster, node) {
        return refused(error);
    }
    if at.is_none() && roster.nodes.len() >= NODES_MAX {
        return refused(AdmissionError::Full);
    }
    match at.and_then(|at| roster.nodes.get_mut(at)) {
        Some(entry) => *entry = member(node),
        None => roster.nodes.push(member(node)),
    }
    let used = Invitation {
        used_by: Some(node.key),
        ..invitation
    };
    changes.put(row, &used)?;
    changed(changes, roster)
}

fn set_node<R: Rows>(
    changes: &mut Changes<'_, R>,
    mut roster: Roster,
    node: &NodeEntry,
) -> Result<Outcome, Error> {
    if let Some(broken) = node.broken_rule() {
        return Ok(Err(MetadataError::Refused(broken)));
    }
    let others = roster.members().filter(|other| other.key != node.key);
    if others.into_iter().any(|other| other.name == node.name) {
        let taken = AdmissionError::NameTaken(node.name.clone());
        return Ok(Err(MetadataError::NotAdmitted(taken)));
    }
    let belongs = |one: &&mut NodeEntry| one.key == node.key && one.standing == Standing::Member;
    let Some(entry) = roster.nodes.iter_mut().find(belongs) else {
        return Ok(Err(MetadataError::NoSuchNode));
    };
    let now = member(node);
    if *entry == now {
        return Ok(Ok(Reply::Roster(Some(roster))));
    }
    *entry = now;
    changed(changes, roster)
}

fn set_standing<R: Rows>(
    changes: &mut Changes<'_, R>,
    mut roster: Roster,
    key: NodeKey,
    standing: Standing,
) -> Result<Outcome, Error> {
    let refused = |why: &str| Ok(Err(MetadataError::Refused(why.into())));
    let members = roster.members().count();
    let Some(entry) = roster.nodes.iter_mut().find(|one| one.key == key) else {
        return Ok(Err(MetadataError::NoSuchNode));
    };
    match (entry.standing, standing) {
        (_, Standing::Member) => refused("a node comes back by an invitation only"),
        (now, wanted) if now == wanted => Ok(Ok(Reply::Roster(Some(roster)))),
        (Standing::Revoked, _) => refused("the node was revoked, and stays so"),
        (Standing::Member, _) if members <= 1 => refused("it is the last node of the cluster"),
        _ => {
            entry.standing = standing;
            layout::without(changes, &roster)?;
            changed(changes, roster)
        }
    }
}

/// Why a node that is invited cannot be among those that belong.
fn not_fitting(roster: &Roster, node: &NodeEntry) -> Option<AdmissionError> {
    if let Some(broken) = node.broken_rule() {
        return Some(AdmissionError::Refused(broken));
    }
    if node.mesh.is_empty() || node.gossip.is_empty() {
        let why = "it has no address at which the others could reach it";
        return Some(AdmissionError::Refused(why.into()));
    }
    for other in roster.nodes.iter().filter(|other| other.key != node.key) {
        // Datagrams and shards name a node by these bytes.
        if other.key.0.first_chunk::<8>() == node.key.0.first_chunk::<8>() {
            let why = "its key begins as another node's: give it another data directory";
            return Some(AdmissionError::Refused(why.into()));
        }
        if other.standing == Standing::Member && other.name == node.name {
            return Some(AdmissionError::NameTaken(node.name.clone()));
        }
    }
    None
}

fn member(node: &NodeEntry) -> NodeEntry {
    NodeEntry {
        standing: Standing::Member,
        ..node.clone()
    }
}

fn changed<R: Rows>(changes: &mut Changes<'_, R>, mut roster: Roster) -> Result<Outcome, Error> {
    roster.version = roster
        .version
        .checked_add(1)
        .ok_or(Error::Damaged("version of the roster"))?;
    changes.put(rows::cluster(), &roster)?;
    // Leases on the registry cover who belongs, too.
    raise_revision(changes)?;
    Ok(Ok(Reply::Roster(Some(roster))))
}
