//! Gossip: a member hears what comes from the network and what another member says, and stays within its bounds; and the file that keeps the roster.

use crate::frames::{frame, framed};
use membership::fuzz;

/// The first byte says which of the two the others are.
pub(crate) fn run(bytes: &[u8]) -> bool {
    match bytes {
        [0, messages @ ..] => fuzz::hear(&framed(messages)),
        [1, slot @ ..] => fuzz::slot(slot),
        _ => false,
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let messages = fuzz::seeds();
    let single = messages.iter().map(|one| frame(one));
    let all: Vec<u8> = messages.iter().flat_map(|one| frame(one)).collect();
    let heard = single.chain([all]).map(|input| (0, input));
    let slots = fuzz::slot_seeds().into_iter().map(|slot| (1, slot));
    heard
        .chain(slots)
        .map(|(which, input)| [&[which], input.as_slice()].concat())
        .collect()
}
