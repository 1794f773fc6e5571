//! Gossip: a member hears the datagrams, and stays within its bounds.

use crate::frames::{frame, framed};
use membership::fuzz;

pub(crate) fn run(bytes: &[u8]) -> bool {
    fuzz::hear(&framed(bytes))
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let datagrams = fuzz::seeds();
    let single = datagrams.iter().map(|one| frame(one));
    single
        .chain([datagrams.iter().flat_map(|one| frame(one)).collect()])
        .collect()
}
