//! Blocks: immutable bytes named by their hash, on one disk. A descriptor is the right to one block.
//!
//! A large block travels as a file descriptor, so that the store's process never touches its bytes; a small one (at most
//! [`PACKED_BYTES_MAX`]) travels in the message. *Acknowledged* always means on disk: data by fdatasync, names by fsync of their
//! directory.

use crate::copies::Placement;
use crate::health::Inventory;
use crate::wire::Conversation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The largest block in bytes.
pub const BLOCK_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The largest block that is packed with others instead of being a file of its own, in bytes.
pub const PACKED_BYTES_MAX: usize = 64 * 1024;
/// The most block files that one connection may have open for writing.
pub const WRITERS_MAX: usize = 256;
/// The most blocks in one list of a call or an answer.
pub const LIST_MAX: usize = 1_024;

/// What is said of a node whose store is at an earlier moment ([`Epoch`]) than one that was heard from it before, and what people have to do.
pub const OLDER_DISK: &str = "its disk is older than what the cluster has seen of it, as after a copy of the disk was put back: it has forgotten copies and votes that were counted. \
    Let it go (`trousseau node revoke NAME` on another node) and start it anew on an empty directory with an invitation";

/// Marker of this conversation.
pub enum Blocks {}

impl Conversation for Blocks {
    type Call = BlockCall;
    type Answer = Result<BlockAnswer, BlockError>;
    const NAME: &'static str = "blocks";
    const NUMBER: u8 = 6;
    const VERSION: u8 = 5;
}

/// A block's name: BLAKE3 of its bytes, keyed with its bucket's key, so that nobody can probe another bucket's content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockId(pub [u8; 32]);

impl BlockId {
    /// Which of the [`PARTITIONS`](crate::copies::PARTITIONS) it belongs to.
    pub const fn partition(&self) -> u8 {
        let [first, ..] = self.0;
        first
    }
}

impl std::fmt::Debug for BlockId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A bucket's key for block names.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashKey(pub [u8; 32]);

impl std::fmt::Debug for HashKey {
    // A key in a log would let its reader probe for content.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HashKey(hidden)")
    }
}

/// Where a block lies. Made by the store, kept by metadata: the store needs no index of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Place {
    /// In a file of its own, named by its id.
    File,
    /// In a pack. A packed block never moves: deleting it punches a hole.
    Packed {
        /// The pack's number.
        pack: u32,
        /// The offset of the record's header, in units of 4,096 bytes.
        page: u32,
    },
}

/// Everything needed to find and check one block again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockRef {
    /// Its name.
    pub id: BlockId,
    /// Its length in bytes, 1 to [`BLOCK_BYTES_MAX`].
    pub length: u32,
    /// Where it lies.
    pub place: Place,
}

/// A moment of one store, so that it can be told whether a block was seen there before a sweep or since. The numbers of a store rise with each Condemn and
/// each start, and none comes twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// Drawn at random when the store was made: a new disk is another store, whatever node it is in.
    pub store: u64,
    /// Which moment.
    pub number: u64,
}

impl Epoch {
    /// Of each store the earliest of these moments, by store.
    pub fn earliest(epochs: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut earliest: BTreeMap<u64, u64> = BTreeMap::new();
        for Self { store, number } in epochs {
            let known = earliest.entry(store).or_insert(number);
            *known = number.min(*known);
        }
        let earliest = earliest.into_iter();
        earliest
            .map(|(store, number)| Self { store, number })
            .collect()
    }
}

/// What is asked of the block-store.
#[derive(Debug, Serialize, Deserialize)]
pub enum BlockCall {
    /// A fresh, empty file to fill, through a write-only descriptor that comes with the answer. `length` bytes are reserved
    /// ([`BlockError::Full`] if they do not fit beside the reserve). If the store dies, the file is gone: start again.
    Create {
        /// The expected length in bytes, 1 to [`BLOCK_BYTES_MAX`].
        length: u32,
    },
    /// Makes the file of `writer` the block `id`, on disk, and pins it for this connection. The caller has closed its descriptor: a file
    /// that somebody could still write to is refused ([`BlockError::StillOpen`]). A block that exists already is kept as it is,
    /// which is a success. After StillOpen it may be repeated; after any other answer the writer is gone ([`BlockError::NoSuchWriter`]). If the store dies before it answers, the block
    /// may exist unreferenced; the sweep removes it.
    Commit {
        /// As in [`BlockAnswer::Created`].
        writer: u64,
        /// The name, by the caller's own count.
        id: BlockId,
        /// The key of `id`, kept beside the block so that a scrub can check it.
        key: HashKey,
        /// The file's exact length in bytes.
        length: u32,
    },
    /// The file of `writer` is not wanted any more. Unknown writers are ignored.
    Abandon {
        /// As in [`BlockAnswer::Created`].
        writer: u64,
    },
    /// Stores a small block: on disk when answered, pinned for this connection. Bytes that do not match the name are [`BlockError::Damaged`]: send
    /// them again. Commits of several callers share one fdatasync.
    Store {
        /// The name.
        id: BlockId,
        /// The key of `id`.
        key: HashKey,
        /// 1 to [`PACKED_BYTES_MAX`] bytes.
        #[serde(with = "serde_bytes_vec")]
        bytes: Vec<u8>,
    },
    /// A block's bytes: a read-only descriptor to exactly that file ([`BlockAnswer::File`]), or, where it is packed, the bytes
    /// themselves. Checked against its name on first touch and at each packed read: [`BlockError::Damaged`], never wrong bytes.
    Open {
        /// Which block.
        block: BlockRef,
        /// What the caller is going to open next, if it knows: where that has to come from another node, and there is room for it, it is on its way from
        /// now on. A hint, of which nothing is answered.
        next: Option<BlockRef>,
    },
    /// These blocks are referenced now (or will never be): takes back one pin of this connection for each. Every Commit and Store pins once, also
    /// of a block that exists already. Unknown ones are ignored.
    Unpin {
        /// At most [`LIST_MAX`].
        blocks: Vec<BlockRef>,
    },
    /// From metadata, before a write that brings these blocks: enough of the nodes that each belongs to have it on their disks → [`BlockAnswer::Confirmed`]. What was
    /// found when they were stored is answered at once. With `again` the nodes are asked, and get a block that they lack; a store that is still before a moment at which
    /// it has begun a sweep stands on a disk that was put back ([`OLDER_DISK`]), and is not counted.
    /// [`BlockError::NoSuchBlock`]: nobody has one any more. Harmless to repeat.
    Confirm {
        /// At most [`LIST_MAX`].
        blocks: Vec<BlockRef>,
        /// What was answered before is too old: sweeps have begun since, as far as is known at these moments. At most [`LIST_MAX`].
        again: Option<Vec<Epoch>>,
    },
    /// First step of the sweep: the next blocks after `after` in the store's own order (`None`: from the start), pinned ones left out, all marked as
    /// condemned. A later Store, Commit or pin of a block lifts its mark. Where several nodes share blocks, this shows them and marks none: see Condemn.
    CondemnNext {
        /// The `next` of the answer before.
        after: Option<BlockRef>,
        /// At most [`LIST_MAX`].
        limit: u32,
    },
    /// First step of the sweep for known garbage: marks these as condemned, and answers which were (pinned and absent ones are not). Where several nodes share
    /// blocks, what is acknowledged or confirmed from then on is of the answered epoch or a later one, and lifts the mark.
    /// One sweep at a time on a connection.
    Condemn {
        /// At most [`LIST_MAX`].
        blocks: Vec<BlockRef>,
    },
    /// Last step of the sweep: removes those of `blocks` that are still condemned, by this connection and no other since. Answers which are gone now. A store that restarted has forgotten
    /// every mark, so a late Delete removes nothing. Repeating it is harmless.
    Delete {
        /// At most [`LIST_MAX`].
        blocks: Vec<BlockRef>,
    },
    /// Where several nodes share blocks: marks, as Condemn does, some that do not belong on this node and are more than it keeps for those who read again.
    CondemnStrays,
    /// The last step for those: once every node that they belong to has said that it has them, removes what is still condemned → [`BlockAnswer::Deleted`].
    /// What cannot go now stays and is condemned another time.
    LetGo {
        /// At most [`LIST_MAX`].
        blocks: Vec<BlockRef>,
    },
    /// How full it is. No side effect.
    Usage,
    /// From metadata: where blocks belong from now on. Kept on the disk when answered; an older one than is known is ignored. Until the first one, each
    /// block is on this node and nowhere else.
    Place {
        /// All of it.
        placement: Placement,
    },
    /// From metadata: what is here, partition by partition, and what came lately. No side effect.
    Inventory,
    /// From metadata: another node lacks blocks that are here: look soon whether everything is where it belongs, and bring what is not. Harmless to
    /// repeat.
    Audit,
}

/// What the block-store answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum BlockAnswer {
    /// One write-only descriptor comes along, positioned at 0.
    Created {
        /// For Commit or Abandon, on this connection only.
        writer: u64,
    },
    /// On disk.
    Stored(BlockRef),
    /// One read-only descriptor comes along; the block is its bytes 0 to `length`.
    File {
        /// In bytes.
        length: u32,
    },
    /// The bytes of a packed block.
    Bytes(#[serde(with = "serde_bytes_vec")] Vec<u8>),
    /// Done; nothing to say.
    Done,
    /// The condemned blocks.
    Condemned {
        /// At most [`LIST_MAX`].
        blocks: Vec<BlockRef>,
        /// Where to go on; `None` at the end. Only for CondemnNext.
        next: Option<BlockRef>,
        /// Where several nodes share blocks: Delete only what no write refers to that is of an earlier epoch, and no such write may come after the look.
        since: Option<Epoch>,
    },
    /// At moments of these or later ones enough nodes had each of the blocks. At most one of each store.
    Confirmed(Vec<Epoch>),
    /// The removed blocks.
    Deleted(Vec<BlockRef>),
    /// See [`Usage`].
    Usage(Usage),
    /// See [`Inventory`].
    Inventory(Inventory),
}

/// How full a block-store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Size of the file system in bytes.
    pub capacity_bytes: u64,
    /// Bytes that a writer could still use (the reserve left out).
    pub free_bytes: u64,
    /// Blocks that are files.
    pub files: u64,
    /// Packs.
    pub packs: u64,
    /// Blocks found damaged since the start.
    pub damaged: u64,
    /// Blocks that were acknowledged while not all of their copies were made, and still are not.
    pub behind: u64,
    /// The version of the placement in which every block of this node was found on every node that it belongs to; 0: in none since the start.
    pub settled: u64,
}

/// Why the block-store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockError {
    /// No space beside the reserve. Reading and deleting go on.
    Full,
    /// No such block.
    NoSuchBlock,
    /// No such writer on this connection.
    NoSuchWriter,
    /// Somebody holds a descriptor that can still write to the file.
    StillOpen,
    /// The bytes do not match the name or the length: they must not be used.
    Damaged,
    /// The call breaks a bound of this conversation; which one.
    Refused(String),
    /// More than [`WRITERS_MAX`] writers on this connection.
    TooManyWriters,
    /// The disk failed; the store restarts. What was not acknowledged may be gone.
    Disk(String),
    /// Too few of the nodes that are to have a copy have it; who did not take it and why. What is there stays, and the same call again goes on
    /// from it.
    TooFewCopies(String),
}

impl std::fmt::Display for BlockError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full => write!(f, "no space left for blocks"),
            Self::NoSuchBlock => write!(f, "no such block"),
            Self::NoSuchWriter => write!(f, "no such writer on this connection"),
            Self::StillOpen => write!(f, "the block's file is still open for writing"),
            Self::Damaged => write!(f, "the block does not match its name"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::TooManyWriters => write!(f, "more than {WRITERS_MAX} blocks being written"),
            Self::Disk(why) => write!(f, "disk: {why}"),
            Self::TooFewCopies(why) => write!(f, "too few copies: {why}"),
        }
    }
}

impl std::error::Error for BlockError {}

/// Bytes as one run instead of a sequence of numbers: the same encoding in postcard, copied at once.
pub(crate) mod serde_bytes_vec {
    use serde::{Deserializer, Serializer, de::Visitor};
    use std::fmt;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        from.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_store_the_earliest_moment_counts() {
        let epoch = |(store, number)| Epoch { store, number };
        let check = |epochs: &[(u64, u64)], expected: &[(u64, u64)]| {
            let earliest = Epoch::earliest(epochs.iter().copied().map(epoch));
            let expected: Vec<Epoch> = expected.iter().copied().map(epoch).collect();
            assert_eq!(earliest, expected, "{epochs:?}");
        };
        check(&[], &[]);
        check(&[(2, 7), (1, 9), (2, 5), (2, 6)], &[(1, 9), (2, 5)]);
    }
}
