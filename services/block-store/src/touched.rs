//! Which files were checked in this life, and which were found damaged: two sets of bounded size.

use crate::pins::Name;
use protocol::block::BlockId;
use std::collections::HashSet;

/// The most ids in one generation of [`Checked`]; two generations are kept.
const CHECKED_MAX: usize = 1 << 15;
/// The most damaged blocks that are told apart; further ones are still counted.
const DAMAGED_MAX: usize = 4_096;

/// Files whose bytes matched their name when they were first touched. Forgets the older half when full: then they are checked once more.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    young: HashSet<u64>,
    old: HashSet<u64>,
}

impl Checked {
    /// Whether the file was checked and has not been forgotten.
    pub(crate) fn contains(&self, id: &BlockId) -> bool {
        let short = shorten(id);
        self.young.contains(&short) || self.old.contains(&short)
    }

    /// The file was checked.
    pub(crate) fn insert(&mut self, id: &BlockId) {
        if self.young.len() >= CHECKED_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(shorten(id));
    }

    /// The file has gone.
    pub(crate) fn remove(&mut self, id: &BlockId) {
        let short = shorten(id);
        self.young.remove(&short);
        self.old.remove(&short);
    }
}

/// An id is a keyed hash already. Two that share these 64 bits would only save one check.
fn shorten(id: &BlockId) -> u64 {
    id.0.first_chunk()
        .map_or(0, |first| u64::from_le_bytes(*first))
}

/// Blocks that do not match their names.
#[derive(Debug, Default)]
pub(crate) struct Damaged {
    names: HashSet<Name>,
    count: u64,
}

impl Damaged {
    /// Whether the block is a known damaged one.
    pub(crate) fn contains(&self, name: &Name) -> bool {
        self.names.contains(name)
    }

    /// Counts a damaged block once; whether it is news.
    pub(crate) fn insert(&mut self, name: Name) -> bool {
        if self.names.contains(&name) {
            return false;
        }
        if self.names.len() < DAMAGED_MAX {
            self.names.insert(name);
        }
        self.count += 1;
        true
    }

    /// A sound block of that name is there again, or none.
    pub(crate) fn remove(&mut self, name: &Name) {
        self.names.remove(name);
    }

    /// Found since the start.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> BlockId {
        let mut id = [0; 32];
        for (to, from) in id.iter_mut().zip(number.to_le_bytes()) {
            *to = from;
        }
        BlockId(id)
    }

    #[test]
    fn checked_files_are_remembered_within_a_bound() {
        let mut checked = Checked::default();
        for number in 0..5 * CHECKED_MAX as u64 {
            checked.insert(&id(number));
            assert!(checked.contains(&id(number)));
        }
        assert!(checked.young.len() + checked.old.len() <= 2 * CHECKED_MAX);
        assert!(!checked.contains(&id(0)));
        let last = id(5 * CHECKED_MAX as u64 - 1);
        checked.remove(&last);
        assert!(!checked.contains(&last));
    }

    #[test]
    fn a_damaged_block_is_counted_once() {
        let mut damaged = Damaged::default();
        assert!(damaged.insert(Name::File(id(1))));
        assert!(!damaged.insert(Name::File(id(1))));
        assert_eq!(damaged.count(), 1);
    }
}
