//! The nodes that one partition belongs to, and when enough of them have a block.

use protocol::block::{BlockCall, BlockError, Blocks, Epoch};
use protocol::copies::Placement;
use protocol::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Behind the placement in its file.
const CHECK_BYTES: usize = 32;

/// The nodes that have a block, each as of a moment of its store.
pub(crate) type Holders = BTreeMap<u8, Epoch>;

/// Where the blocks of one partition belong.
pub(crate) struct Homes {
    placement: Rc<Placement>,
    partition: usize,
}

impl Homes {
    pub(crate) fn of(placement: Rc<Placement>, partition: u8) -> Self {
        Self {
            placement,
            partition: partition.into(),
        }
    }

    /// The present nodes, and those to be, while blocks move.
    fn lists(&self) -> impl Iterator<Item = &[u8]> {
        let next = self.placement.next.iter();
        std::iter::once(&self.placement.partitions)
            .chain(next)
            .filter_map(|partitions| partitions.get(self.partition).map(Vec::as_slice))
    }

    /// All nodes but this one.
    pub(crate) fn others(&self) -> Vec<u8> {
        let all: BTreeSet<u8> = self.lists().flatten().copied().collect();
        all.into_iter()
            .filter(|node| Some(*node) != self.placement.own)
            .collect()
    }

    /// This node, if it is one of them.
    pub(crate) fn here(&self) -> Option<u8> {
        let own = self.placement.own?;
        self.lists()
            .flatten()
            .any(|node| *node == own)
            .then_some(own)
    }

    /// A node's name.
    pub(crate) fn name(&self, node: u8) -> &str {
        let node = self.placement.nodes.get(usize::from(node));
        node.map_or("", |node| &node.name)
    }

    /// The node's zone is this node's.
    pub(crate) fn is_near(&self, node: u8) -> bool {
        let zone = |node: u8| Some(&self.placement.nodes.get(usize::from(node))?.zone);
        self.placement
            .own
            .and_then(zone)
            .is_some_and(|own| zone(node) == Some(own))
    }

    /// Every other node of the cluster, those of this partition first.
    pub(crate) fn everybody(&self) -> Vec<u8> {
        let mut nodes = self.others();
        let all = 0..u8::try_from(self.placement.nodes.len()).unwrap_or(u8::MAX);
        let rest: Vec<u8> = all
            .filter(|node| !nodes.contains(node) && Some(*node) != self.placement.own)
            .collect();
        nodes.extend(rest);
        nodes
    }

    /// Whether a majority has it; while blocks move, of the present nodes and of those to be.
    pub(crate) fn suffice(&self, have: &Holders) -> bool {
        self.lists().all(|nodes| {
            let count = nodes.iter().filter(|node| have.contains_key(node)).count();
            count > nodes.len() / 2
        })
    }

    /// The error where they do not.
    pub(crate) fn too_few(&self, have: &Holders, refused: Vec<String>) -> BlockError {
        let names: Vec<&str> = have.keys().map(|node| self.name(*node)).collect();
        BlockError::TooFewCopies(format!(
            "only {} of {} nodes: {}",
            match names.as_slice() {
                [] => "none".into(),
                names => names.join(", "),
            },
            self.others().len() + self.here().iter().len(),
            refused.join("; "),
        ))
    }
}

/// A placement as it lies on the disk: as metadata sent it, with a hash behind it.
pub(crate) fn encode(placement: &Placement) -> Result<Vec<u8>, BlockError> {
    let placement = placement.clone();
    let mut bytes = wire::encode::<Blocks>(&BlockCall::Place { placement })
        .map_err(|error| BlockError::Refused(error.to_string()))?;
    let check = blake3::hash(&bytes);
    bytes.extend_from_slice(check.as_bytes());
    Ok(bytes)
}

/// `None` if these are not the bytes of a sound one.
pub(crate) fn decode(bytes: &[u8]) -> Option<Placement> {
    let (bytes, check) = bytes.split_at_checked(bytes.len().checked_sub(CHECK_BYTES)?)?;
    if blake3::hash(bytes).as_bytes() != check {
        return None;
    }
    match wire::decode::<Blocks, BlockCall>(bytes) {
        Ok(BlockCall::Place { placement }) => Some(placement).filter(Placement::is_sound),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test that fails may panic"
    )]
    use super::*;
    use protocol::copies::{PARTITIONS, PlacedNode};

    fn placement(now: &[u8], next: Option<&[u8]>, own: Option<u8>) -> Placement {
        let node = |zone: &str| PlacedNode {
            name: format!("n-{zone}"),
            zone: zone.into(),
        };
        Placement {
            version: 1,
            copies: now.len() as u8,
            nodes: ["a", "b", "c", "d", "a"].map(node).into(),
            own,
            partitions: vec![now.to_vec(); PARTITIONS],
            next: next.map(|next| vec![next.to_vec(); PARTITIONS]),
        }
    }

    #[test]
    fn a_majority_suffices_and_while_blocks_move_a_majority_of_both() {
        let check = |now: &[u8], next: Option<&[u8]>, have: &[u8], expected: bool| {
            let homes = Homes::of(Rc::new(placement(now, next, Some(0))), 9);
            let epoch = |node: u8| Epoch {
                store: node.into(),
                number: 1,
            };
            let have = have.iter().map(|node| (*node, epoch(*node))).collect();
            assert_eq!(homes.suffice(&have), expected, "{now:?} {next:?} {have:?}");
        };
        check(&[0], None, &[0], true);
        check(&[0], None, &[1], false);
        check(&[0, 1], None, &[0], false);
        check(&[0, 1], None, &[0, 1], true);
        check(&[0, 1, 2], None, &[0, 2], true);
        check(&[0, 1, 2], None, &[2, 3], false);
        check(&[0, 1, 2], Some(&[1, 2, 3]), &[0, 1], false);
        check(&[0, 1, 2], Some(&[1, 2, 3]), &[1, 2], true);
        check(&[0, 1, 2], Some(&[3]), &[0, 1, 3], true);
    }

    #[test]
    fn everybody_but_this_node_is_asked_those_of_the_partition_first() {
        let homes = Homes::of(Rc::new(placement(&[3, 0], Some(&[2, 0]), Some(0))), 0);
        assert_eq!((homes.here(), homes.others()), (Some(0), vec![2, 3]));
        assert_eq!(homes.everybody(), [2, 3, 1, 4]);
        assert!(homes.is_near(4) && !homes.is_near(1));
        let gateway = Homes::of(Rc::new(placement(&[1], None, None)), 0);
        assert_eq!((gateway.here(), gateway.others()), (None, vec![1]));
    }

    #[test]
    fn a_damaged_placement_is_none() {
        let whole = encode(&placement(&[1, 2], None, Some(1))).unwrap();
        assert_eq!(decode(&whole), Some(placement(&[1, 2], None, Some(1))));
        for byte in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[byte] ^= 1;
            assert_eq!(decode(&damaged), None, "byte {byte}");
            assert_eq!(decode(&whole[..byte]), None, "{byte} bytes");
        }
        let unsound = encode(&placement(&[7], None, None)).unwrap();
        assert_eq!(decode(&unsound), None);
    }
}
