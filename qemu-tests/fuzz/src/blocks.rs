//! What the block-store finds on its disk: footers of blocks, heads of packs, headers of records.

use block_store::fuzz;

/// The first byte says which of the three it is. Their checks are made right: no mutation would find them.
pub(crate) fn run(bytes: &[u8]) -> bool {
    match bytes {
        [0, footer @ ..] => fuzz::footer(footer),
        [1, head @ ..] => fuzz::head(head),
        [2, header @ ..] => fuzz::header(header),
        _ => false,
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let bodies = [fuzz::FOOTER_SEED, fuzz::HEAD_SEED, fuzz::HEADER_SEED];
    let numbered = (0_u8..).zip(bodies);
    numbered
        .map(|(kind, body)| [&[kind][..], body].concat())
        .collect()
}
