//! Where blocks belong: the layout of shard 0 as an assignment, this node's block-store told of it, and the operator's edits of it.

use crate::Error;
use crate::block_store;
use crate::proposer::{Failure, Proposer};
use crate::state::{self, AnyChange, Arrangement, Layout, LayoutChange, Outcome};
use layout::{Assignment, Proposal, Site};
use protocol::block::{BlockAnswer, BlockCall, Blocks};
use protocol::cluster::{NodeKey, Roster};
use protocol::copies::{PlacedNode, Placement};
use protocol::metadata::{
    ArrangementReport, LayoutEdit, LayoutReport, MetadataError, MovingReport, NodeShare, Operation,
    Reply, Role, StagedReport,
};
use runtime::Link;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;

/// How often the applied layout is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a client waits for the block-store to be told.
const WAIT_MAX: Duration = Duration::from_secs(8);

/// The layout, on this node.
pub(crate) struct Placing {
    proposer: Rc<Proposer>,
    blocks: Link<Blocks>,
    key: NodeKey,
    /// The version of the placement that the block-store was told; `None`: it is not known whether it has to be told any.
    told: watch::Sender<Option<u64>>,
    /// Whether the block-store has been told, or will be, that other nodes share its blocks; `None`: that was not looked up yet.
    shared: Cell<Option<bool>>,
    /// How many copies there are to be once the first layout is applied, until shard 0 knows it.
    wished_copies: Cell<Option<u8>>,
    /// The roster had more than one member once: from then on the block-store must know where blocks belong.
    among_others: Cell<bool>,
}

impl Placing {
    pub(crate) fn new(
        proposer: Rc<Proposer>,
        blocks: Link<Blocks>,
        key: NodeKey,
        wished_copies: Option<u8>,
    ) -> Self {
        Self {
            proposer,
            blocks,
            key,
            wished_copies: Cell::new(wished_copies),
            told: watch::Sender::new(None),
            shared: Cell::new(None),
            among_others: Cell::new(false),
        }
    }

    /// Whether the block-store knows where blocks belong, or that this node is alone; waits a moment for it. Before that no client is answered: a block
    /// that is written by a store that thinks it is alone would be on one disk.
    pub(crate) async fn is_told(&self) -> bool {
        if self.told.borrow().is_some() {
            return true;
        }
        let mut told = self.told.subscribe();
        tokio::time::timeout(WAIT_MAX, told.wait_for(Option::is_some))
            .await
            .is_ok()
    }

    /// Whether blocks may be on other nodes, too. Known before the block-store is told, and true from then on.
    pub(crate) fn is_shared(&self) -> bool {
        let look = || !matches!(state::layout(self.proposer.registry().rows()), Ok(None));
        let shared = self.shared.get().unwrap_or_else(look);
        self.shared.set(Some(shared));
        shared
    }

    /// Keeps the block-store informed for as long as the service lives.
    pub(crate) async fn tend(&self) {
        let mut complained = false;
        loop {
            match self.look().await {
                Ok(()) => complained = false,
                Err(why) if !complained => {
                    runtime::warn!("the block-store is not told where blocks belong: {why}");
                    complained = true;
                }
                Err(_) => {}
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self) -> Result<(), String> {
        let rows = self.proposer.registry().rows();
        let words = |error: Error| error.to_string();
        let Some(roster) = state::roster(rows).map_err(words)? else {
            return match self.proposer.is_alone() {
                true => Ok(()),
                false => self.follow().await,
            };
        };
        self.wish().await.map_err(|error| error.to_string())?;
        let others = roster.members().any(|node| node.key != self.key);
        self.among_others.set(self.among_others.get() || others);
        let Some(layout) = state::layout(rows).map_err(words)? else {
            if !self.among_others.get() {
                self.told.send_replace(Some(0));
                return Ok(());
            }
            return self.begin(&roster).await;
        };
        let version = version_of(&layout, &roster).ok_or("too many changes")?;
        if *self.told.borrow() != Some(version) {
            let placement = placement(&layout, &roster, &self.key).ok_or("too many nodes")?;
            self.tell(placement).await?;
        }
        if layout.awaits(&self.key) {
            self.settle(&layout, version).await?;
        }
        Ok(())
    }

    /// A node without rows (a gateway) is told by whoever has them.
    async fn follow(&self) -> Result<(), String> {
        let ask = Operation::PlacementOf { key: self.key };
        let asked = self.proposer.ask_registry("service", ask).await;
        match asked.and_then(Option::transpose) {
            Ok(Some(Reply::Placement(Some(placement)))) => self.tell(placement).await,
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn tell(&self, placement: Placement) -> Result<(), String> {
        let version = placement.version;
        if *self.told.borrow() == Some(version) {
            return Ok(());
        }
        self.shared.set(Some(true));
        match block_store::ask(&self.blocks, &BlockCall::Place { placement }).await? {
            BlockAnswer::Done => {
                self.told.send_replace(Some(version));
                Ok(())
            }
            _ => Err(block_store::OTHER.into()),
        }
    }

    /// See [`protocol::metadata::Operation::PlacementOf`].
    pub(crate) async fn placement_of(&self, key: &NodeKey) -> Result<Reply, Failure> {
        let rows = self.proposer.read(self.proposer.registry()).await?;
        let (roster, layout) = (state::roster(rows), state::layout(rows));
        let both = roster.map_err(failed)?.zip(layout.map_err(failed)?);
        let placement = both.and_then(|(roster, layout)| placement(&layout, &roster, key));
        Ok(Reply::Placement(placement))
    }

    /// A founder says once how many copies there are to be. Where a layout stands already, `layout copies` is the way.
    async fn wish(&self) -> Result<(), MetadataError> {
        let Some(copies) = self.wished_copies.get() else {
            return Ok(());
        };
        let rows = self.proposer.registry().rows();
        let (layout, wished) = (state::layout(rows), state::wished_copies(rows));
        // Looked up first, because a founder is told so at each start.
        if layout.map_err(failed)?.is_none() && wished.map_err(failed)? != Some(copies) {
            self.change(LayoutChange::Wish { copies }).await?;
        }
        self.wished_copies.set(None);
        Ok(())
    }

    /// Nobody has said where blocks belong: they are on the node that was first.
    async fn begin(&self, roster: &Roster) -> Result<(), String> {
        let first = roster.members().next().ok_or("nobody belongs")?;
        let role = Role {
            key: first.key,
            zone: first.zone.clone(),
            capacity_bytes: first.capacity_bytes.max(1),
        };
        let change = LayoutChange::Begin { role };
        self.change(change)
            .await
            .map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Says so if the block-store has found every block of this node everywhere that it belongs.
    async fn settle(&self, layout: &Layout, version: u64) -> Result<(), String> {
        if block_store::usage(&self.blocks).await?.settled < version {
            return Ok(());
        }
        let (key, placed) = (self.key, layout.placed);
        let change = LayoutChange::Settled { key, placed };
        self.change(change)
            .await
            .map_err(|error| error.to_string())?;
        Ok(())
    }

    async fn change(&self, change: LayoutChange) -> Outcome {
        let registry = self.proposer.registry();
        let change = AnyChange::Layout(change);
        self.proposer.propose(registry, change).await
    }

    async fn current(&self) -> Result<Layout, Failure> {
        let read = self.proposer.read(self.proposer.registry()).await;
        let layout = state::layout(read?).map_err(failed)?;
        layout.ok_or_else(|| {
            let why = "a node that is alone keeps all blocks itself: invite others first";
            MetadataError::Refused(why.into()).into()
        })
    }

    /// See [`protocol::metadata::Operation::EditLayout`].
    pub(crate) async fn edit(&self, edit: LayoutEdit) -> Outcome {
        self.current().await?;
        self.change(LayoutChange::Stage(edit)).await?;
        self.report().await
    }

    /// See [`protocol::metadata::Operation::ApplyLayout`].
    pub(crate) async fn apply(&self, version: u64) -> Outcome {
        let layout = self.current().await?;
        if layout.version != version {
            return Err(MetadataError::LayoutChanged);
        }
        if !layout.has_staged() {
            return Err(MetadataError::Refused("nothing waits to be applied".into()));
        }
        let (roles, copies) = layout.wished();
        let proposal = propose(&layout, &roles, copies)
            .map_err(|error| MetadataError::Refused(error.to_string()))?;
        let to = arrangement(roles, copies, &proposal.assignment);
        self.change(LayoutChange::Apply { version, to }).await?;
        self.report().await
    }

    /// See [`protocol::metadata::Operation::Layout`].
    pub(crate) async fn report(&self) -> Outcome {
        Ok(Reply::Layout(report(&self.current().await?)))
    }
}

fn failed(error: Error) -> MetadataError {
    MetadataError::Unavailable(error.to_string())
}

/// Of what the block-store is told. Either may change alone, and neither ever falls.
fn version_of(layout: &Layout, roster: &Roster) -> Option<u64> {
    layout.placed.checked_add(roster.version)
}

/// What the block-store is told.
fn placement(layout: &Layout, roster: &Roster, own: &NodeKey) -> Option<Placement> {
    let mut numbers: BTreeMap<NodeKey, u8> = BTreeMap::new();
    let mut nodes = Vec::new();
    for role in layout.arrangements().flat_map(|one| &one.roles) {
        if numbers.contains_key(&role.key) {
            continue;
        }
        numbers.insert(role.key, u8::try_from(nodes.len()).ok()?);
        // Of somebody who has gone the name still says who is missed.
        let entry = roster.nodes.iter().find(|node| node.key == role.key);
        nodes.push(PlacedNode {
            name: entry.map_or_else(|| role.key.to_string(), |entry| entry.name.clone()),
            zone: role.zone.clone(),
        });
    }
    let number = |arrangement: &Arrangement, place: &u8| {
        let role = arrangement.roles.get(usize::from(*place))?;
        numbers.get(&role.key).copied()
    };
    let lists = |arrangement: &Arrangement| {
        let list = |nodes: &Vec<u8>| {
            // Who does not belong any more is not waited for; but where nobody else is left, its name says who is missed.
            let belongs = |place: &&u8| {
                let role = arrangement.roles.get(usize::from(**place));
                role.is_some_and(|role| roster.member(&role.key).is_some())
            };
            let left: Vec<&u8> = nodes.iter().filter(belongs).collect();
            let left = match left.is_empty() {
                true => nodes.iter().collect(),
                false => left,
            };
            left.into_iter()
                .map(|place| number(arrangement, place))
                .collect()
        };
        arrangement
            .partitions
            .iter()
            .map(list)
            .collect::<Option<Vec<Vec<u8>>>>()
    };
    Some(Placement {
        version: version_of(layout, roster)?,
        copies: layout.present.copies,
        own: numbers.get(own).copied(),
        partitions: lists(&layout.present)?,
        next: match &layout.moving {
            Some(moving) => Some(lists(&moving.to)?),
            None => None,
        },
        nodes,
    })
}

fn propose(layout: &Layout, roles: &[Role], copies: u8) -> Result<Proposal, layout::Error> {
    let site = |role: &Role| Site {
        key: role.key,
        zone: role.zone.clone(),
        capacity_bytes: role.capacity_bytes,
    };
    let sites: Vec<Site> = roles.iter().map(site).collect();
    let before = assignment(layout.newest());
    layout::assign(&sites, usize::from(copies), Some(&before))
}

/// With the keys in place of the numbers.
fn assignment(arrangement: &Arrangement) -> Assignment {
    let key = |place: &u8| Some(arrangement.roles.get(usize::from(*place))?.key);
    let partitions = arrangement.partitions.iter();
    Assignment::new(
        partitions
            .map(|nodes| nodes.iter().filter_map(key).collect())
            .collect(),
    )
}

/// With numbers in place of the keys.
fn arrangement(roles: Vec<Role>, copies: u8, assignment: &Assignment) -> Arrangement {
    let number = |key: &NodeKey| {
        let place = roles.iter().position(|role| role.key == *key)?;
        u8::try_from(place).ok()
    };
    let partitions = (0..layout::PARTITIONS)
        .map(|partition| {
            assignment
                .nodes(partition)
                .iter()
                .filter_map(number)
                .collect()
        })
        .collect();
    Arrangement {
        copies,
        partitions,
        roles,
    }
}

fn report(layout: &Layout) -> LayoutReport {
    let staged = layout.has_staged().then(|| {
        let (roles, copies) = layout.wished();
        let edits = layout.staged_roles.len() + usize::from(layout.staged_copies.is_some());
        let proposal = propose(layout, &roles, copies);
        let moves = proposal.as_ref().map_or_else(
            |_| BTreeMap::new(),
            |proposal| {
                let mut moves: BTreeMap<NodeKey, u16> = BTreeMap::new();
                for one in &proposal.moves {
                    *moves.entry(one.to).or_default() += 1;
                }
                moves
            },
        );
        StagedReport {
            edits: u16::try_from(edits).unwrap_or(u16::MAX),
            to: proposal
                .map(|proposal| describe(&arrangement(roles, copies, &proposal.assignment)))
                .map_err(|error| error.to_string()),
            moves: moves.into_iter().collect(),
        }
    });
    LayoutReport {
        version: layout.version,
        present: describe(&layout.present),
        moving: layout.moving.as_ref().map(|moving| MovingReport {
            to: describe(&moving.to),
            settled: moving.settled.clone(),
            begun_ms: moving.begun_ms,
        }),
        staged,
    }
}

fn describe(arrangement: &Arrangement) -> ArrangementReport {
    let held = |place: usize| {
        let mine = |nodes: &&Vec<u8>| nodes.iter().any(|node| usize::from(*node) == place);
        arrangement.partitions.iter().filter(mine).count()
    };
    let shares: Vec<NodeShare> = arrangement
        .roles
        .iter()
        .enumerate()
        .map(|(place, role)| NodeShare {
            role: role.clone(),
            partitions: u16::try_from(held(place)).unwrap_or(u16::MAX),
        })
        .collect();
    let full = shares.iter().filter(|share| share.partitions > 0);
    let partition_bytes = full.map(|share| share.role.capacity_bytes / u64::from(share.partitions));
    let in_one_zone = |nodes: &Vec<u8>| {
        let zone = |node: &u8| Some(&arrangement.roles.get(usize::from(*node))?.zone);
        let alike = |node: &u8| {
            nodes
                .iter()
                .filter(|other| zone(other) == zone(node))
                .count()
        };
        nodes.iter().map(alike).max().unwrap_or(0)
    };
    let copies_per_zone = arrangement
        .partitions
        .iter()
        .map(in_one_zone)
        .max()
        .unwrap_or(0);
    ArrangementReport {
        copies: arrangement.copies,
        copies_per_zone: u8::try_from(copies_per_zone).unwrap_or(u8::MAX),
        usable_bytes: partition_bytes
            .min()
            .unwrap_or(0)
            .saturating_mul(layout::PARTITIONS as u64),
        nodes: shares,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;
    use crate::raft::{Me, Store};
    use protocol::Channel;
    use runtime::Bus;

    #[test]
    fn a_founder_says_how_many_copies_it_wants_once_and_not_at_each_start() {
        let directory = tempfile::tempdir().unwrap();
        let tokio = runtime::event_loop().unwrap();
        tokio::task::LocalSet::new().block_on(&tokio, async {
            let me = Me::alone("node-1");
            let ways = me.ways.clone();
            let store = Store::open(directory.path(), 1, me).await.unwrap();
            // Each command asks for the time once.
            let commands = Rc::new(Cell::new(0));
            let counted = commands.clone();
            let clock = Rc::new(move || {
                counted.set(counted.get() + 1);
                1_000
            });
            let proposer = Rc::new(Proposer::new(Rc::new(store), clock, ways));
            let (bus, _other) = Channel::pair().unwrap();
            let bus = Bus::new(bus).unwrap();
            let key = NodeKey([1; 32]);
            let start = |copies: Option<u8>| {
                let blocks = Link::new(bus.clone(), "block-store");
                Placing::new(proposer.clone(), blocks, key, copies)
            };
            let check = async |copies: Option<u8>, expected: u64| {
                let placing = start(copies);
                placing.wish().await.unwrap();
                placing.wish().await.unwrap();
                assert_eq!(commands.get(), expected, "{copies:?}");
            };
            check(None, 0).await;
            check(Some(3), 1).await;
            check(Some(3), 1).await;
            check(Some(5), 2).await;
            let role = Role {
                key,
                zone: "home".into(),
                capacity_bytes: 1,
            };
            let begin = LayoutChange::Begin { role };
            start(None).change(begin).await.unwrap();
            check(Some(3), 3).await;
        });
    }
}
