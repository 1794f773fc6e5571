//! Ordered rows of bytes: what the state machine stands on, and its twin in memory.

use crate::Error;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Rows as they are now. Keys sort as bytes.
pub trait Rows {
    /// A row's bytes; owned or shared, as the store likes.
    type Value: AsRef<[u8]>;

    /// The row of that key.
    fn get(&self, key: &[u8]) -> Result<Option<Self::Value>, Error>;

    /// Shows the rows from `from` up to but not including `to` in order, until `visit` breaks off.
    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error>;
}

/// Rows that can be changed. A command's reads all come before its writes; when those reach the disk is the store's affair.
pub trait Store: Rows {
    /// Writes a row in place of the one before.
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>);

    /// Removes a row; nothing happens if there is none.
    fn delete(&mut self, key: Vec<u8>);
}

/// Rows in memory: the twin for tests and models.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStore {
    /// All rows.
    pub rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Rows for MemoryStore {
    type Value = Vec<u8>;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.rows.get(key).cloned())
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        if from >= to {
            return Ok(());
        }
        for (key, value) in self.rows.range(from.to_vec()..to.to_vec()) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Store for MemoryStore {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.rows.insert(key, value);
    }

    fn delete(&mut self, key: Vec<u8>) {
        self.rows.remove(&key);
    }
}
