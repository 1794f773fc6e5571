//! The lines of a listing, one behind the other in one run of bytes, so that a thousand of them cost neither side a thousand allocations.

use crate::wire::DecodeError;
use serde::{Deserialize, Serialize};

/// Where a listing goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum After {
    /// Behind this key.
    Key(String),
    /// Behind every key that starts so.
    Prefix(String),
}

/// One line of a listing. `T` is its text: owned, or borrowed from [`Entries`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry<T = String> {
    /// An object.
    Object {
        /// Its key.
        key: T,
        /// Bytes.
        size: u64,
        /// Without quotes.
        etag: T,
        /// Milliseconds since 1970.
        modified_ms: u64,
        /// Algorithm of its checksum and whether it is composite.
        checksum: Option<(T, bool)>,
    },
    /// A common prefix, delimiter included.
    Prefix(T),
}

impl<T: AsRef<str>> Entry<T> {
    /// Where the next page begins, if this is the last entry of one.
    pub fn after(&self) -> After {
        match self {
            Self::Object { key, .. } => After::Key(key.as_ref().to_owned()),
            Self::Prefix(prefix) => After::Prefix(prefix.as_ref().to_owned()),
        }
    }

    /// The same with text of its own.
    pub fn to_owned(&self) -> Entry {
        let text = |text: &T| text.as_ref().to_owned();
        match self {
            Self::Prefix(prefix) => Entry::Prefix(text(prefix)),
            Self::Object {
                key,
                size,
                etag,
                modified_ms,
                checksum,
            } => Entry::Object {
                key: text(key),
                size: *size,
                etag: text(etag),
                modified_ms: *modified_ms,
                checksum: checksum
                    .as_ref()
                    .map(|(name, composite)| (text(name), *composite)),
            },
        }
    }
}

/// Entries in order, each in postcard.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Entries {
    count: u32,
    #[serde(with = "crate::block::serde_bytes_vec")]
    bytes: Vec<u8>,
}

impl Entries {
    /// None, with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            count: 0,
            bytes: Vec::with_capacity(bytes),
        }
    }

    /// Adds an entry unless all of them would then take more than `bytes_max`; whether it did.
    pub fn push<T: Serialize>(&mut self, entry: &Entry<T>, bytes_max: usize) -> bool {
        let before = self.bytes.len();
        // Text and numbers encode always; what did not would not be shown.
        let encoded = postcard::to_extend(entry, std::mem::take(&mut self.bytes));
        self.bytes = encoded.unwrap_or_default();
        let fits = self.bytes.len() <= bytes_max;
        match fits {
            true => self.count += 1,
            false => self.bytes.truncate(before),
        }
        fits
    }

    /// How many there are, as their sender says.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// The entries, borrowed. The bytes may come from a peer: behind the first that is not an entry nothing more comes, and a number of
    /// entries other than [`Entries::count`] ends in an error, too.
    pub fn iter(&self) -> impl Iterator<Item = Result<Entry<&str>, DecodeError>> {
        let (mut rest, mut left) = (self.bytes.as_slice(), self.count);
        std::iter::from_fn(move || {
            if rest.is_empty() && left == 0 {
                return None;
            }
            let next = left
                .checked_sub(1)
                .zip(postcard::take_from_bytes(rest).ok());
            Some(match next {
                Some((fewer, (entry, behind))) => {
                    (rest, left) = (behind, fewer);
                    Ok(entry)
                }
                None => {
                    (rest, left) = (&[], 0);
                    Err(DecodeError::Malformed)
                }
            })
        })
    }

    /// All entries with text of their own.
    ///
    /// # Errors
    /// As [`Entries::iter`].
    pub fn to_vec(&self) -> Result<Vec<Entry>, DecodeError> {
        self.iter()
            .map(|entry| entry.map(|entry| Entry::to_owned(&entry)))
            .collect()
    }
}

impl<T: Serialize> FromIterator<Entry<T>> for Entries {
    fn from_iter<I: IntoIterator<Item = Entry<T>>>(list: I) -> Self {
        let mut entries = Self::default();
        for entry in list {
            entries.push(&entry, usize::MAX);
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn two() -> Vec<Entry> {
        vec![
            Entry::Object {
                key: "a/ü".into(),
                size: 1 << 40,
                etag: "e".into(),
                modified_ms: 7,
                checksum: Some(("CRC32".into(), true)),
            },
            Entry::Prefix("b/".into()),
        ]
    }

    #[test]
    fn entries_come_back_as_they_were_added() {
        let entries: Entries = two().into_iter().collect();
        assert_eq!((entries.count(), entries.to_vec().unwrap()), (2, two()));
        assert_eq!(Entries::default().to_vec().unwrap(), []);
        assert_eq!(
            entries.iter().last().unwrap().unwrap().after(),
            After::Prefix("b/".into())
        );
    }

    #[test]
    fn an_entry_that_does_not_fit_leaves_the_others_as_they_were() {
        let mut entries = Entries::with_capacity(0);
        let [first, second] = <[Entry; 2]>::try_from(two()).unwrap();
        assert!(entries.push(&first, 64));
        let before = entries.clone();
        assert!(!entries.push(&second, before.bytes.len()));
        assert_eq!(entries, before);
    }

    #[test]
    fn wrong_counts_and_wrong_bytes_end_in_an_error() {
        let good: Entries = two().into_iter().collect();
        for count in [0, 1, 3, u32::MAX] {
            let entries = Entries {
                count,
                ..good.clone()
            };
            assert_eq!(entries.to_vec(), Err(DecodeError::Malformed), "{count}");
        }
        for length in 1..good.bytes.len() {
            let mut entries = good.clone();
            entries.bytes.truncate(length);
            assert_eq!(entries.to_vec(), Err(DecodeError::Malformed), "{length}");
        }
    }
}
