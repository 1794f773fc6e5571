//! Whether a block's bytes match its name. Read in pieces, so that no other call waits for a whole block to be hashed.

use crate::disk::DiskFile;
use crate::footer::{FOOTER_BYTES, Footer};
use protocol::block::{BlockId, HashKey};
use rustix::io::Errno;
use std::cell::RefCell;
use tokio::sync::Semaphore;

/// Bytes that are read and hashed at a time: well below a millisecond, also on a slow processor.
pub(crate) const PIECE_BYTES: usize = 128 * 1024;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The block, of this length, matches its name.
    Sound(u32),
    /// It does not; what is wrong.
    Damaged(&'static str),
    /// The disk does not give its bytes.
    Unreadable(Errno),
}

/// How fast a check may go.
pub(crate) trait Pace {
    /// Called after each piece.
    async fn after(&self, bytes: usize);

    /// Called between two directories or packs.
    async fn between(&self) {
        self.after(0).await;
    }
}

/// As fast as possible, but letting other calls in between.
pub(crate) struct Yielding;

impl Pace for Yielding {
    async fn after(&self, _bytes: usize) {
        tokio::task::yield_now().await;
    }
}

/// Bounds the checks at a time, and keeps their buffers.
pub(crate) struct Checks {
    turns: Semaphore,
    buffers: RefCell<Vec<Vec<u8>>>,
}

impl Checks {
    /// At most `turns` at a time, each with a buffer of [`PIECE_BYTES`].
    pub(crate) fn new(turns: usize) -> Self {
        Self {
            turns: Semaphore::new(turns),
            buffers: RefCell::default(),
        }
    }

    /// Waits for a turn. `None` is returned without a check where `needless()` has become true meanwhile.
    pub(crate) async fn file(
        &self,
        id: &BlockId,
        file: &impl DiskFile,
        pace: &impl Pace,
        needless: impl Fn() -> bool,
    ) -> Option<Verdict> {
        let _turn = self.turns.acquire().await;
        if needless() {
            return None;
        }
        let buffer = self.buffers.borrow_mut().pop().unwrap_or_default();
        let (verdict, buffer) = check(id, file, pace, buffer).await;
        self.buffers.borrow_mut().push(buffer);
        Some(verdict.unwrap_or_else(|verdict| verdict))
    }
}

/// The whole file: footer, length, bytes. Gives the buffer back.
async fn check(
    id: &BlockId,
    file: &impl DiskFile,
    pace: &impl Pace,
    buffer: Vec<u8>,
) -> (Result<Verdict, Verdict>, Vec<u8>) {
    let size = match rustix::fs::fstat(file) {
        Ok(stat) => u64::try_from(stat.st_size).unwrap_or(0),
        Err(errno) => return (Err(Verdict::Unreadable(errno)), buffer),
    };
    let Some(length) = size.checked_sub(FOOTER_BYTES as u64) else {
        return (Err(Verdict::Damaged("shorter than its footer")), buffer);
    };
    let (read, mut buffer) = file.read_at(buffer, length, FOOTER_BYTES).await;
    if let Err(errno) = read {
        return (Err(Verdict::Unreadable(errno)), buffer);
    }
    let Some(footer) = Footer::decode(&buffer, id) else {
        return (Err(Verdict::Damaged("its footer is not sound")), buffer);
    };
    if u64::from(footer.length) != length {
        return (Err(Verdict::Damaged("its length is wrong")), buffer);
    }
    let mut hasher = blake3::Hasher::new_keyed(&footer.key.0);
    let mut at = 0;
    while at < length {
        let piece = usize::try_from(length - at).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        let read;
        (read, buffer) = file.read_at(buffer, at, piece).await;
        match read {
            Err(errno) => return (Err(Verdict::Unreadable(errno)), buffer),
            Ok(()) if buffer.len() != piece => {
                return (Err(Verdict::Damaged("it ends early")), buffer);
            }
            Ok(()) => {}
        }
        hasher.update(&buffer);
        at += piece as u64;
        pace.after(piece).await;
    }
    if hasher.finalize().as_bytes() != &id.0 {
        return (
            Err(Verdict::Damaged("its bytes do not match its name")),
            buffer,
        );
    }
    (Ok(Verdict::Sound(footer.length)), buffer)
}

/// Whether `bytes` are the block `id` of key `key`.
pub(crate) fn matches(id: &BlockId, key: &HashKey, bytes: &[u8]) -> bool {
    blake3::keyed_hash(&key.0, bytes).as_bytes() == &id.0
}
