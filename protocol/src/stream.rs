//! Messages between nodes: frames on a byte stream, each the length in four bytes (little-endian) and then the bytes of [`crate::wire`].
//!
//! No descriptors travel between nodes; what a stream carries, its transport has encrypted and authenticated before a byte came here.

use crate::wire::DecodeError;

/// The largest frame without its length, in bytes: a block of [`crate::block::BLOCK_BYTES_MAX`] and what is said of it.
pub const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024 + 4 * 1024;
/// The length in front.
pub const LENGTH_BYTES: usize = 4;

/// A frame around `message`. Errors with [`DecodeError::Long`] beyond [`FRAME_BYTES_MAX`].
pub fn frame(message: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let length = u32::try_from(message.len()).map_err(|_| DecodeError::Long)?;
    if message.len() > FRAME_BYTES_MAX {
        return Err(DecodeError::Long);
    }
    let mut bytes = Vec::with_capacity(LENGTH_BYTES + message.len());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(message);
    Ok(bytes)
}

/// What came of a stream and is not yet a whole frame. Memory grows with what came, never by a length that was told.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Of `bytes`, so many were given out.
    taken: usize,
}

impl Frames {
    /// Bytes that were read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame, if it is there. Errors with [`DecodeError::Long`] where the peer announces more than [`FRAME_BYTES_MAX`].
    #[expect(
        clippy::should_implement_trait,
        reason = "what it lends cannot be an Iterator's item"
    )]
    pub fn next(&mut self) -> Result<Option<&[u8]>, DecodeError> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((length, body)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| DecodeError::Long)?;
        if length > FRAME_BYTES_MAX {
            return Err(DecodeError::Long);
        }
        let whole = body.get(..length);
        if whole.is_some() {
            self.taken += LENGTH_BYTES + length;
        }
        Ok(whole)
    }

    /// Whether the stream may end here: nothing of a frame was begun.
    pub fn is_empty(&self) -> bool {
        self.taken == self.bytes.len()
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
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_wherever_the_stream_is_cut(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
            cuts in proptest::collection::vec(1_usize..64, 1..64),
        ) {
            let stream: Vec<u8> = messages.iter().flat_map(|one| frame(one).unwrap()).collect();
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            let (mut rest, mut cuts) = (stream.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                frames.push(now);
                rest = later;
                while let Some(one) = frames.next().unwrap() {
                    found.push(one.to_vec());
                }
            }
            prop_assert!(frames.is_empty());
            prop_assert_eq!(found, messages);
        }

        #[test]
        fn arbitrary_bytes_give_frames_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let mut frames = Frames::default();
            frames.push(&bytes);
            let mut given = 0;
            while let Ok(Some(one)) = frames.next() {
                given += LENGTH_BYTES + one.len();
            }
            prop_assert!(given <= bytes.len());
        }
    }

    #[test]
    fn a_frame_beyond_the_bound_is_neither_made_nor_waited_for() {
        assert_eq!(frame(&vec![0; FRAME_BYTES_MAX + 1]), Err(DecodeError::Long));
        let mut frames = Frames::default();
        frames.push(&(FRAME_BYTES_MAX as u32 + 1).to_le_bytes());
        assert_eq!(frames.next(), Err(DecodeError::Long));
    }
}
