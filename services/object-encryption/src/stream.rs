//! A stream of bytes as chunks, each sealed by AES-256-GCM, of which any can be opened alone.
//!
//! The nonce is the chunk's number and whether it is the last: the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: Online Authenticated
//! Encryption and its Nonce-Reuse Misuse-Resistance, 2015). So chunks that are swapped, left out, repeated or cut off at the end do not open. The key
//! is the stream's own, so that a nonce never comes twice. A sealed chunk is 64 KiB, of which a block of the block-store holds a whole number.

use crate::{Damaged, SALT_BYTES, Secret, derive};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};

/// Bytes of a sealed chunk; the last of a stream may be shorter.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// What a chunk is longer when it is sealed.
pub const TAG_BYTES: usize = 16;
/// Bytes that one chunk seals.
pub const PLAIN_BYTES: usize = CHUNK_BYTES - TAG_BYTES;

/// How many chunks so many bytes are. None is sealed for no bytes.
pub fn chunks_of(plain_bytes: u64) -> u64 {
    plain_bytes.div_ceil(PLAIN_BYTES as u64)
}

/// How long so many bytes are when they are sealed.
pub fn sealed_bytes(plain_bytes: u64) -> u64 {
    plain_bytes.saturating_add(chunks_of(plain_bytes).saturating_mul(TAG_BYTES as u64))
}

fn stream_key(secret: &Secret, salt: &[u8; SALT_BYTES]) -> Result<LessSafeKey, Damaged> {
    let key = derive(secret, salt, "trousseau object stream")?;
    let key = UnboundKey::new(&AES_256_GCM, &key).map_err(|_| Damaged)?;
    Ok(LessSafeKey::new(key))
}

/// Zeros, the number of the chunk in four bytes, and whether it is the last.
fn nonce(chunk: u32, last: bool) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    let [.., a, b, c, d, end] = &mut nonce;
    [*a, *b, *c, *d] = chunk.to_be_bytes();
    *end = u8::from(last);
    Nonce::assume_unique_for_key(nonce)
}

/// Seals a stream from front to back. Holds one chunk: which one is the last is known when no more bytes come.
pub struct Sealer {
    key: LessSafeKey,
    next: u32,
    chunk: Vec<u8>,
    /// Room to make for the next chunk.
    expected: u64,
}

impl Sealer {
    /// A stream that has never been sealed before: `salt` is fresh. Its length may be less than `expected`, by which memory is taken.
    ///
    /// # Errors
    /// None in practice, see the derivation.
    pub fn new(secret: &Secret, salt: &[u8; SALT_BYTES], expected: u64) -> Result<Self, Damaged> {
        Ok(Self {
            key: stream_key(secret, salt)?,
            next: 0,
            chunk: Vec::new(),
            expected,
        })
    }

    /// Takes bytes from the front of `data`. Answers a sealed chunk if one is full and more bytes follow; `None` when all are taken.
    ///
    /// # Errors
    /// [`Damaged`] beyond 2³² chunks, 256 TiB.
    pub fn update(&mut self, data: &mut &[u8]) -> Result<Option<Vec<u8>>, Damaged> {
        let room = PLAIN_BYTES.saturating_sub(self.chunk.len());
        let (here, rest) = data.split_at(room.min(data.len()));
        if self.chunk.capacity() == 0 && !here.is_empty() {
            // Small objects, of which there are many, do not pay for a whole chunk.
            let plain = self.expected.min(PLAIN_BYTES as u64) as usize;
            self.chunk.reserve_exact(plain + TAG_BYTES);
            self.expected = self.expected.saturating_sub(plain as u64);
        }
        self.chunk.extend_from_slice(here);
        *data = rest;
        match rest.is_empty() {
            true => Ok(None),
            false => self.seal(false).map(Some),
        }
    }

    /// The last chunk; `None` for a stream of no bytes.
    ///
    /// # Errors
    /// As [`Sealer::update`].
    pub fn finish(mut self) -> Result<Option<Vec<u8>>, Damaged> {
        match self.chunk.is_empty() {
            true => Ok(None),
            false => self.seal(true).map(Some),
        }
    }

    fn seal(&mut self, last: bool) -> Result<Vec<u8>, Damaged> {
        let mut chunk = std::mem::take(&mut self.chunk);
        self.key
            .seal_in_place_append_tag(nonce(self.next, last), Aad::empty(), &mut chunk)
            .map_err(|_| Damaged)?;
        self.next = self.next.checked_add(1).ok_or(Damaged)?;
        Ok(chunk)
    }
}

/// Opens chunks of a stream, in any order.
pub struct Opener {
    key: LessSafeKey,
    chunks: u64,
    plain_bytes: u64,
}

impl Opener {
    /// A stream of `plain_bytes` bytes.
    ///
    /// # Errors
    /// None in practice, see the derivation.
    pub fn new(
        secret: &Secret,
        salt: &[u8; SALT_BYTES],
        plain_bytes: u64,
    ) -> Result<Self, Damaged> {
        Ok(Self {
            key: stream_key(secret, salt)?,
            chunks: chunks_of(plain_bytes),
            plain_bytes,
        })
    }

    /// The length of a sealed chunk; 0 for one that there is not.
    pub fn sealed_length(&self, chunk: u64) -> usize {
        let start = chunk.saturating_mul(PLAIN_BYTES as u64);
        match self.plain_bytes.saturating_sub(start) {
            0 => 0,
            left => usize::try_from(left).unwrap_or(usize::MAX).min(PLAIN_BYTES) + TAG_BYTES,
        }
    }

    /// Opens a chunk in its own place and answers the bytes that it sealed.
    ///
    /// # Errors
    /// [`Damaged`]: what is in `sealed` then is of no use.
    pub fn open<'c>(&self, chunk: u64, sealed: &'c mut [u8]) -> Result<&'c mut [u8], Damaged> {
        if sealed.len() != self.sealed_length(chunk) {
            return Err(Damaged);
        }
        let last = chunk.saturating_add(1) == self.chunks;
        let number = u32::try_from(chunk).map_err(|_| Damaged)?;
        let plain = sealed.len().checked_sub(TAG_BYTES).ok_or(Damaged)?;
        let (bytes, tag) = sealed.split_at_mut(plain);
        let tag = Tag::try_from(&*tag).map_err(|_| Damaged)?;
        self.key
            .open_in_place_separate_tag(nonce(number, last), Aad::empty(), tag, bytes, 0..)
            .map_err(|_| Damaged)
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

    const SECRET: Secret = Secret([7; 32]);
    const SALT: [u8; 32] = [9; 32];

    /// The stream's chunks, fed in pieces of `piece` bytes.
    fn seal(plain: &[u8], piece: usize) -> Vec<Vec<u8>> {
        let mut sealer = Sealer::new(&SECRET, &SALT, plain.len() as u64).unwrap();
        let mut chunks = Vec::new();
        for mut data in plain.chunks(piece.max(1)) {
            while let Some(chunk) = sealer.update(&mut data).unwrap() {
                chunks.push(chunk);
            }
            assert!(data.is_empty());
        }
        chunks.extend(sealer.finish().unwrap());
        chunks
    }

    fn open(chunks: &[Vec<u8>], plain_bytes: u64) -> Result<Vec<u8>, Damaged> {
        let opener = Opener::new(&SECRET, &SALT, plain_bytes).unwrap();
        let mut plain = Vec::new();
        for (number, chunk) in chunks.iter().enumerate() {
            plain.extend_from_slice(opener.open(number as u64, &mut chunk.clone())?);
        }
        Ok(plain)
    }

    /// One chunk alone.
    fn one(opener: &Opener, chunk: u64, sealed: &[u8]) -> Result<Vec<u8>, Damaged> {
        let mut sealed = sealed.to_vec();
        opener.open(chunk, &mut sealed).map(|plain| plain.to_vec())
    }

    fn plain(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn what_was_sealed_opens_again_at_every_border() {
        for bytes in [
            0,
            1,
            PLAIN_BYTES - 1,
            PLAIN_BYTES,
            PLAIN_BYTES + 1,
            3 * PLAIN_BYTES,
        ] {
            for piece in [1_000, PLAIN_BYTES, PLAIN_BYTES + 1, usize::MAX / 2] {
                let chunks = seal(&plain(bytes), piece);
                let sealed: usize = chunks.iter().map(Vec::len).sum();
                assert_eq!(sealed as u64, sealed_bytes(bytes as u64));
                assert_eq!(chunks.len() as u64, chunks_of(bytes as u64));
                assert_eq!(open(&chunks, bytes as u64).unwrap(), plain(bytes));
            }
        }
    }

    #[test]
    fn chunks_out_of_place_do_not_open() {
        let bytes = 3 * PLAIN_BYTES + 5;
        let chunks = seal(&plain(bytes), 4_096);
        let opener = Opener::new(&SECRET, &SALT, bytes as u64).unwrap();
        assert!(one(&opener, 1, &chunks[1]).is_ok());
        assert_eq!(one(&opener, 0, &chunks[1]), Err(Damaged));
        assert_eq!(one(&opener, 4, &chunks[3]), Err(Damaged));
        // The third chunk is not the last: a stream that ends there was cut off.
        let cut = 3 * PLAIN_BYTES as u64;
        assert_eq!(open(&chunks[..3], cut), Err(Damaged));
        // And a stream that ended there cannot be made longer.
        let whole = seal(&plain(2 * PLAIN_BYTES), 4_096);
        assert_eq!(open(&whole, 2 * PLAIN_BYTES as u64 + 1), Err(Damaged));
        for (secret, salt) in [(SECRET, [0; 32]), (Secret([8; 32]), SALT)] {
            let other = Opener::new(&secret, &salt, bytes as u64).unwrap();
            assert_eq!(one(&other, 1, &chunks[1]), Err(Damaged));
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_found(bytes in 1_usize..200, at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let mut chunks = seal(&plain(bytes), 64);
            let at = at.index(chunks[0].len());
            chunks[0][at] ^= 1 << bit;
            prop_assert_eq!(open(&chunks, bytes as u64), Err(Damaged));
        }

        #[test]
        fn any_bytes_are_refused_and_nothing_panics(chunk in any::<u64>(), plain_bytes in any::<u64>(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let opener = Opener::new(&SECRET, &SALT, plain_bytes).unwrap();
            prop_assert_eq!(one(&opener, chunk, &bytes), Err(Damaged));
        }
    }
}
