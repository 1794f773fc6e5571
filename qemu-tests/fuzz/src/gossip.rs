//! Gossip: a member hears the datagrams, and stays within its bounds.

use membership::fuzz;

/// The bytes are datagrams, each behind its length (two bytes, little-endian); what is cut off is a datagram, too.
pub(crate) fn run(bytes: &[u8]) -> bool {
    let mut datagrams = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (datagram, behind) = after.split_at(length);
        datagrams.push(datagram);
        rest = behind;
    }
    fuzz::hear(&datagrams)
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let framed = |datagram: &Vec<u8>| {
        let length = u16::try_from(datagram.len()).unwrap_or(u16::MAX);
        [&length.to_le_bytes(), datagram.as_slice()].concat()
    };
    let datagrams = fuzz::seeds();
    let single = datagrams.iter().map(framed);
    single
        .chain([datagrams.iter().flat_map(framed).collect()])
        .collect()
}
