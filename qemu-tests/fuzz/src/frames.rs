//! Several datagrams in one input: each behind its length (two bytes, little-endian).

/// The datagrams; what is cut off is one, too.
pub(crate) fn framed(bytes: &[u8]) -> Vec<&[u8]> {
    let mut datagrams = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (datagram, behind) = after.split_at(length);
        datagrams.push(datagram);
        rest = behind;
    }
    datagrams
}

/// One of them, as [`framed`] reads it.
pub(crate) fn frame(datagram: &[u8]) -> Vec<u8> {
    let length = u16::try_from(datagram.len()).unwrap_or(u16::MAX);
    [&length.to_le_bytes(), datagram].concat()
}
