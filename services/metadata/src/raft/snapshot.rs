//! A shard's whole state on its way to another node: read in chunks on one side, gathered beside the old state on the other.
//!
//! Both sides hold one chunk in memory at a time. If the receiver dies half-way, its old state is untouched, and what it had gathered
//! is removed at its next start or by the next snapshot.

use super::shard::{self, Shard};
use super::types::{LogId, SnapshotMeta, StoredMembership};
use super::writer::{Space, When, Write};
use crate::Error;
use fjall::{Readable, Slice};
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// What a chunk holds at most, in bytes, but for a row that is longer alone.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// So many rows are removed at once.
const REMOVE_MAX: usize = 1_000;

/// A snapshot in either direction.
pub enum Snapshot {
    /// Of this node's state, to be sent.
    View(View),
    /// Received from the leader.
    Staged(Staged),
}

/// The state of a shard at one moment.
pub struct View {
    snapshot: fjall::Snapshot,
    shard: Rc<Shard>,
    prefix: [u8; 4],
    /// The last key of the chunk before.
    after: Option<Slice>,
}

/// Some rows of the state: the state machine's own keys and values.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Chunk {
    rows: Vec<(Vec<u8>, Vec<u8>)>,
}

impl View {
    /// The state as it is now.
    pub(crate) async fn of(shard: &Rc<Shard>) -> Result<Self, Error> {
        let snapshot = shard.disk.snapshot().await?;
        let generation = shard.facts().generation;
        let prefix = prefix(shard.number, generation);
        Ok(Self {
            snapshot,
            shard: shard.clone(),
            prefix,
            after: None,
        })
    }

    /// The last entry that is in it, and the members as of then. Read from the same moment as the rows.
    pub(crate) fn position(&self) -> Result<(Option<LogId>, StoredMembership), Error> {
        let meta = &self.shard.disk.spaces().meta;
        let [a, b, ..] = self.prefix;
        let applied = self.snapshot.get(meta, [a, b, b'a'])?;
        let applied = applied
            .map(|row| shard::decode(&row, "applied"))
            .transpose()?;
        let members = self.snapshot.get(meta, [a, b, b'm'])?;
        let members = members
            .map(|row| shard::decode(&row, "membership"))
            .transpose()?;
        Ok((applied, members.unwrap_or_default()))
    }

    /// The next chunk, or `None` behind the last.
    pub fn chunk(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let from = self.after.as_ref().map_or(self.prefix.to_vec(), |after| {
            let mut from = after.to_vec();
            from.push(0);
            from
        });
        let to = end(self.prefix);
        let mut chunk = Chunk::default();
        let mut bytes = 0;
        for row in self
            .snapshot
            .range(&self.shard.disk.spaces().state, from..to)
        {
            let (key, value) = row.into_inner()?;
            bytes += key.len() + value.len();
            if bytes > CHUNK_BYTES_MAX && !chunk.rows.is_empty() {
                break;
            }
            let own = key.get(4..).unwrap_or_default().to_vec();
            chunk.rows.push((own, value.to_vec()));
            self.after = Some(key);
        }
        if chunk.rows.is_empty() {
            return Ok(None);
        }
        let bytes = postcard::to_allocvec(&chunk);
        bytes
            .map(Some)
            .map_err(|_| Error::Damaged("a chunk that does not encode"))
    }
}

/// Rows of a snapshot that is being received, in a generation that nobody reads yet.
pub struct Staged {
    shard: Rc<Shard>,
    generation: u16,
}

impl Staged {
    /// Begins to receive; what an earlier attempt left is removed.
    pub(crate) async fn begin(shard: &Rc<Shard>) -> Result<Self, Error> {
        remove_others(shard).await?;
        let generation = shard.facts().generation.wrapping_add(1);
        Ok(Self {
            shard: shard.clone(),
            generation,
        })
    }

    /// Takes the next chunk. It is in the database when this comes back, so the sender cannot run ahead.
    pub async fn push(&mut self, chunk: &[u8]) -> Result<(), Error> {
        let chunk: Chunk = shard::decode(chunk, "chunk of a snapshot")?;
        let prefix = prefix(self.shard.number, self.generation);
        let writes = chunk.rows.into_iter().map(|(own, value)| {
            let key = [&prefix, own.as_slice()].concat();
            Write {
                space: Space::State,
                key: key.into(),
                value: Some(value.into()),
            }
        });
        self.shard.disk.written(writes.collect(), When::Soon).await
    }
}

/// Puts a received snapshot in the place of the shard's state.
pub(crate) async fn install(
    shard: &Rc<Shard>,
    meta: &SnapshotMeta,
    snapshot: Snapshot,
) -> Result<(), Error> {
    let staged = match snapshot {
        Snapshot::Staged(staged) => staged,
        // Of another store in this process.
        Snapshot::View(mut view) => {
            let mut staged = Staged::begin(shard).await?;
            while let Some(chunk) = view.chunk()? {
                staged.push(&chunk).await?;
            }
            staged
        }
    };
    shard
        .switch(staged.generation, meta.last_log_id, &meta.last_membership)
        .await?;
    remove_others(shard).await
}

/// Removes the rows of all generations but the present one.
pub(crate) async fn remove_others(shard: &Rc<Shard>) -> Result<(), Error> {
    let present = shard.facts().generation;
    let (first, last) = (prefix(shard.number, 0), prefix(shard.number, u16::MAX));
    let present_from = prefix(shard.number, present);
    remove_range(shard, first.to_vec(), present_from.to_vec()).await?;
    remove_range(shard, end(present_from), end(last)).await
}

async fn remove_range(shard: &Rc<Shard>, from: Vec<u8>, to: Vec<u8>) -> Result<(), Error> {
    loop {
        let mut writes = Vec::new();
        let rows = shard.disk.spaces().state.range(from.clone()..to.clone());
        for row in rows.take(REMOVE_MAX) {
            writes.push(Write {
                space: Space::State,
                key: row.key()?,
                value: None,
            });
        }
        if writes.is_empty() {
            return Ok(());
        }
        shard.disk.written(writes, When::Soon).await?;
    }
}

fn prefix(shard: u16, generation: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (shard.to_be_bytes(), generation.to_be_bytes());
    [a, b, c, d]
}

/// The first key behind all that start with `prefix`.
fn end(prefix: [u8; 4]) -> Vec<u8> {
    match u32::from_be_bytes(prefix).checked_add(1) {
        Some(next) => next.to_be_bytes().to_vec(),
        None => vec![u8::MAX; 5],
    }
}
