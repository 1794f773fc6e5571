//! How many blocks of each partition are here, and what their names add up to, so that nodes can be compared without reading a directory.
//!
//! A block counts once, whether it is a file, a record in a pack, or several records. Files are counted at the start; records are remembered by name only
//! where there are other nodes to compare with.

use protocol::block::BlockId;
use protocol::copies::PARTITIONS;
use protocol::health::Tally;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// The most records that are remembered by name, about 40 bytes each. With more, nothing is told.
const PACKED_MAX: usize = 500_000;

/// What is counted. A store has one.
#[derive(Debug, Default)]
pub(crate) struct Census {
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// By partition, all [`PARTITIONS`].
    counted: Vec<Option<Counted>>,
    packed: Packed,
    /// Of all partitions.
    records: usize,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            counted: (0..PARTITIONS).map(|_| None).collect(),
            packed: Packed::default(),
            records: 0,
        }
    }
}

/// Whether the records are known.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Packed {
    /// Not yet.
    #[default]
    Unknown,
    Known,
    /// And nothing is remembered any more.
    TooMany,
}

/// One partition whose files were counted.
#[derive(Debug, Default)]
struct Counted {
    files: u64,
    tally: Tally,
    /// Names of records, with their packs and pages.
    records: BTreeSet<(u64, u32, u32)>,
    /// Names of records that are files, too.
    also_files: BTreeSet<u64>,
}

impl Counted {
    fn is_packed(&self, name: u64) -> bool {
        let all = (name, 0, 0)..=(name, u32::MAX, u32::MAX);
        self.records.range(all).next().is_some()
    }

    fn come(&mut self, name: u64) {
        self.tally.blocks += 1;
        self.tally.names ^= name;
    }

    fn go(&mut self, name: u64) {
        self.tally.blocks = self.tally.blocks.saturating_sub(1);
        self.tally.names ^= name;
    }
}

impl Census {
    /// Everything; `None` while not all is counted, and where there are too many records.
    pub(crate) fn tallies(&self, has_packs: bool) -> Option<Vec<Tally>> {
        let inner = self.inner.borrow();
        if has_packs && inner.packed != Packed::Known {
            return None;
        }
        let tallies = inner
            .counted
            .iter()
            .map(|one| one.as_ref().map(|one| one.tally));
        tallies.collect()
    }

    /// How many files there are, in those partitions that have been counted.
    pub(crate) fn files(&self) -> u64 {
        let inner = self.inner.borrow();
        inner.counted.iter().flatten().map(|one| one.files).sum()
    }

    /// All files of a partition, as its directory has them now.
    pub(crate) fn counted(&self, partition: u8, files: &[BlockId]) {
        let mut inner = self.inner.borrow_mut();
        let Some(one) = inner.counted.get_mut(usize::from(partition)) else {
            return;
        };
        let mut counted = Counted {
            files: files.len() as u64,
            ..Counted::default()
        };
        for id in files {
            counted.come(name_of(id));
        }
        *one = Some(counted);
    }

    /// A file came (+1) or went (-1). A partition that has not been counted will be.
    pub(crate) fn file(&self, id: &BlockId, change: i64) {
        let mut inner = self.inner.borrow_mut();
        let (partition, name) = (id.partition(), name_of(id));
        let Some(Some(one)) = inner.counted.get_mut(usize::from(partition)) else {
            return;
        };
        one.files = one.files.saturating_add_signed(change);
        match (change > 0, one.is_packed(name)) {
            (true, true) => drop(one.also_files.insert(name)),
            (false, true) => drop(one.also_files.remove(&name)),
            (true, false) => one.come(name),
            (false, false) => one.go(name),
        }
    }

    /// A record is here; `is_file`: the same block is a file, too. Whether more are wanted: not where there are too many. Asked only
    /// when all files are counted.
    pub(crate) fn packed(&self, id: &BlockId, pack: u32, page: u32, is_file: bool) -> bool {
        let mut inner = self.inner.borrow_mut();
        let Inner {
            counted,
            packed,
            records,
        } = &mut *inner;
        let (partition, name) = (id.partition(), name_of(id));
        let Some(Some(one)) = counted.get_mut(usize::from(partition)) else {
            return false;
        };
        if *records >= PACKED_MAX {
            *packed = Packed::TooMany;
            for one in counted.iter_mut().flatten() {
                one.records.clear();
                one.also_files.clear();
            }
            return false;
        }
        let known = one.is_packed(name);
        if one.records.insert((name, pack, page)) {
            *records += 1;
        }
        match (known, is_file) {
            (true, _) => {}
            (false, true) => drop(one.also_files.insert(name)),
            (false, false) => one.come(name),
        }
        true
    }

    /// A record was removed.
    pub(crate) fn unpacked(&self, id: &BlockId, pack: u32, page: u32) {
        let mut inner = self.inner.borrow_mut();
        let Inner {
            counted, records, ..
        } = &mut *inner;
        let (partition, name) = (id.partition(), name_of(id));
        let Some(Some(one)) = counted.get_mut(usize::from(partition)) else {
            return;
        };
        if !one.records.remove(&(name, pack, page)) {
            return;
        }
        *records = records.saturating_sub(1);
        if !one.is_packed(name) && !one.also_files.remove(&name) {
            one.go(name);
        }
    }

    /// All records have been told.
    pub(crate) fn all_packed(&self) {
        let mut inner = self.inner.borrow_mut();
        if inner.packed == Packed::Unknown {
            inner.packed = Packed::Known;
        }
    }

    /// Whether all files are counted.
    pub(crate) fn has_files(&self) -> bool {
        let inner = self.inner.borrow();
        inner.counted.iter().all(Option::is_some)
    }
}

/// A part of the name that differs within a partition.
fn name_of(id: &BlockId) -> u64 {
    let [_, _, _, _, _, _, _, _, a, b, c, d, e, f, g, h, ..] = id.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a panic is how a test fails"
    )]
    use super::*;

    fn id(number: u8) -> BlockId {
        let mut id = [0; 32];
        (id[0], id[8]) = (7, number);
        BlockId(id)
    }

    fn with(files: &[u8]) -> Census {
        let census = Census::default();
        for partition in 0..=u8::MAX {
            let ids: Vec<BlockId> = match partition {
                7 => files.iter().map(|number| id(*number)).collect(),
                _ => Vec::new(),
            };
            census.counted(partition, &ids);
        }
        census
    }

    fn tally(census: &Census) -> Tally {
        census.tallies(true).unwrap()[7]
    }

    #[test]
    fn a_block_counts_once_however_often_it_is_here() {
        let census = with(&[1, 2]);
        assert_eq!(census.tallies(true), None, "there are packs, not looked at");
        assert!(census.tallies(false).is_some());
        assert!(census.packed(&id(2), 0, 1, true));
        assert!(census.packed(&id(3), 0, 2, false));
        assert!(census.packed(&id(3), 0, 3, false));
        assert!(census.packed(&id(3), 0, 3, false), "told twice");
        census.all_packed();
        let three = tally(&with_packs(&[1, 2, 3]));
        assert_eq!(tally(&census), three);
        census.file(&id(3), 1);
        census.unpacked(&id(3), 0, 2);
        assert_eq!(tally(&census), three);
        census.unpacked(&id(3), 0, 3);
        assert_eq!(tally(&census), three, "it is a file still");
        census.file(&id(3), -1);
        census.file(&id(2), -1);
        assert_eq!(
            tally(&census),
            tally(&with_packs(&[1, 2])),
            "2 is in a pack still"
        );
        census.unpacked(&id(2), 0, 1);
        assert_eq!(tally(&census), tally(&with_packs(&[1])));
    }

    fn with_packs(files: &[u8]) -> Census {
        let census = with(files);
        census.all_packed();
        census
    }

    #[test]
    fn nothing_is_told_before_every_directory_was_counted() {
        let census = Census::default();
        for partition in 0..u8::MAX {
            census.counted(partition, &[]);
            assert!(!census.has_files());
            assert_eq!(census.tallies(false), None);
        }
        census.counted(u8::MAX, &[]);
        assert!(census.has_files() && census.tallies(false).is_some());
    }

    #[test]
    fn the_names_are_compared_and_not_only_how_many_there_are() {
        assert_ne!(tally(&with_packs(&[1, 2])), tally(&with_packs(&[1, 3])));
        assert_eq!(tally(&with_packs(&[1, 2])), tally(&with_packs(&[2, 1])));
    }
}
