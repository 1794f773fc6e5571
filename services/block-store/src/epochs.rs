//! The moments of this store, by which it is told whether a block was seen here before a sweep began or since.
//!
//! A moment's number is that of the store's life, which stands in the name of a file, and behind it a count of the sweeps in this life. So it rises
//! with each Condemn and with each start, at no cost but one small file per start.

use crate::layout::Layout;
use protocol::block::Epoch;
use rustix::io::Errno;
use std::cell::Cell;

/// The count of sweeps in one life stays below 2 to this power: one in each second for a century.
const COUNT_BITS: u32 = 32;

/// Tells the moment.
pub(crate) struct Epochs {
    now: Cell<Epoch>,
}

impl Epochs {
    /// Begins a life. On the disk when this comes back.
    pub(crate) fn begin(layout: &Layout) -> Result<Self, Errno> {
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let (life, store) = layout.begin_life(u64::from_le_bytes(random))?;
        let number = u64::from(life) << COUNT_BITS;
        Ok(Self {
            now: Cell::new(Epoch { store, number }),
        })
    }

    /// The present one.
    pub(crate) fn now(&self) -> Epoch {
        self.now.get()
    }

    /// A later one begins, and is answered.
    pub(crate) fn raise(&self) -> Epoch {
        let Epoch { store, number } = self.now.get();
        let number = number + 1;
        self.now.set(Epoch { store, number });
        self.now.get()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;

    #[test]
    fn a_moment_is_later_than_all_before_it_also_those_of_earlier_lives() {
        let home = tempfile::tempdir().unwrap();
        let open = || {
            let root = std::fs::File::open(home.path()).unwrap();
            Epochs::begin(&Layout::open(root.into()).unwrap()).unwrap()
        };
        let first = open();
        let mut last = first.now();
        for _ in 0..20 {
            let epochs = open();
            assert!(epochs.now().number > last.number && epochs.now().store == last.store);
            for _ in 0..3 {
                last = epochs.now();
                assert!(epochs.raise().number > last.number);
                last = epochs.now();
            }
        }
        assert_eq!(
            std::fs::read_dir(home.path().join("lives"))
                .unwrap()
                .count(),
            1
        );
        let elsewhere = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(elsewhere.path()).unwrap();
        let other = Epochs::begin(&Layout::open(root.into()).unwrap()).unwrap();
        assert_ne!(other.now().store, last.store);
    }
}
