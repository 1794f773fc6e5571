//! What one command changes: gathered first, written only if the command succeeds, so that a refusal leaves no trace.

use super::rows;
use super::store::Rows;
use crate::Error;
use protocol::block::BlockRef;
use protocol::metadata::BucketId;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// The rows that a command will write, over the rows as they are.
pub(super) struct Changes<'a, R> {
    pub(super) rows: &'a R,
    /// The command's time, milliseconds since 1970.
    pub(super) at_ms: u64,
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// By how much each block's count changes. In order, so that every replica writes the same.
    references: BTreeMap<BlockRef, i64>,
}

impl<'a, R: Rows> Changes<'a, R> {
    pub(super) fn new(rows: &'a R, at_ms: u64) -> Self {
        Self {
            rows,
            at_ms,
            writes: BTreeMap::new(),
            references: BTreeMap::new(),
        }
    }

    /// A row, decoded; earlier writes of this command are seen.
    pub(super) fn get<T: DeserializeOwned>(
        &self,
        key: &[u8],
        what: &'static str,
    ) -> Result<Option<T>, Error> {
        if let Some(written) = self.writes.get(key) {
            return written
                .as_ref()
                .map(|value| rows::decode(value, what))
                .transpose();
        }
        get(self.rows, key, what)
    }

    /// Whether there is such a row.
    pub(super) fn has(&self, key: &[u8]) -> Result<bool, Error> {
        match self.writes.get(key) {
            Some(written) => Ok(written.is_some()),
            None => Ok(self.rows.get(key)?.is_some()),
        }
    }

    pub(super) fn put(&mut self, key: Vec<u8>, row: &impl Serialize) -> Result<(), Error> {
        self.writes.insert(key, Some(rows::encode(row)?));
        Ok(())
    }

    /// A row that is a document of somebody else's, as it came.
    pub(super) fn put_bytes(&mut self, key: Vec<u8>, document: &[u8]) {
        self.writes.insert(key, Some(document.to_vec()));
    }

    /// A row that is all in its key.
    pub(super) fn put_mark(&mut self, key: Vec<u8>) {
        self.writes.insert(key, Some(Vec::new()));
    }

    pub(super) fn delete(&mut self, key: Vec<u8>) {
        self.writes.insert(key, None);
    }

    /// One more reference to each of `blocks`.
    pub(super) fn refer(&mut self, blocks: &[BlockRef]) {
        for block in blocks {
            *self.references.entry(*block).or_default() += 1;
        }
    }

    /// One reference less to each of `blocks`; those that nobody refers to any more become garbage.
    pub(super) fn release(&mut self, blocks: &[BlockRef]) {
        for block in blocks {
            *self.references.entry(*block).or_default() -= 1;
        }
    }

    /// Drops an upload's parts, all but those with the numbers `keep`. An upload may have 10,000 parts of hundreds of blocks
    /// each, too many for one command, so this only notes it: the sweep does the work in steps.
    pub(super) fn drop_parts(
        &mut self,
        bucket: BucketId,
        upload: &str,
        keep: &[u16],
    ) -> Result<(), Error> {
        self.put(rows::dead_upload(bucket, upload), &keep)
    }

    /// All rows to write, in order; `None` removes one. The blocks' counts are summed up here: a block that a command both drops and
    /// takes never becomes garbage.
    pub(super) fn finish(mut self) -> Result<Vec<(Vec<u8>, Option<Vec<u8>>)>, Error> {
        for (block, change) in std::mem::take(&mut self.references) {
            if change == 0 {
                continue;
            }
            let key = rows::references(&block);
            let count = references(self.rows, &block)?
                .checked_add_signed(change)
                .ok_or(Error::Damaged("count of a block"))?;
            if count > 0 {
                self.put(key, &count)?;
            } else {
                self.delete(key);
                self.put_mark(rows::garbage(self.at_ms, &block));
            }
        }
        Ok(self.writes.into_iter().collect())
    }

    /// Forgets what was gathered, but for this: those of `blocks` that nobody refers to become garbage.
    pub(super) fn abandon(&mut self, blocks: &[BlockRef]) -> Result<(), Error> {
        self.writes.clear();
        self.references.clear();
        for block in blocks {
            if references(self.rows, block)? == 0 {
                self.put_mark(rows::garbage(self.at_ms, block));
            }
        }
        Ok(())
    }
}

/// A row, decoded.
pub(super) fn get<R: Rows, T: DeserializeOwned>(
    rows: &R,
    key: &[u8],
    what: &'static str,
) -> Result<Option<T>, Error> {
    rows.get(key)?
        .map(|value| rows::decode(value.as_ref(), what))
        .transpose()
}

/// How many objects and parts refer to `block`.
pub(super) fn references<R: Rows>(rows: &R, block: &BlockRef) -> Result<u64, Error> {
    get(rows, &rows::references(block), "count of a block").map(Option::unwrap_or_default)
}

/// Whether any row's key starts with `prefix`.
pub(super) fn any<R: Rows>(rows: &R, prefix: Vec<u8>) -> Result<bool, Error> {
    let mut found = false;
    rows.scan(&prefix, &rows::behind(prefix.clone()), &mut |_, _| {
        found = true;
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// Shows the rows from `from` up to `to`; an error in `visit` ends it and is given back.
pub(super) fn each<R: Rows>(
    rows: &R,
    from: &[u8],
    to: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, Error>,
) -> Result<(), Error> {
    let mut failed = None;
    rows.scan(from, to, &mut |key, value| match visit(key, value) {
        Ok(flow) => flow,
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(()), Err)
}
