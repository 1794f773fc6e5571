//! Layout of the state's rows: how keys sort, and what stands in each row.
//!
//! A key is one letter and its fields; numbers are big-endian so that they sort. Values are postcard.
//!
//! | letter | fields of the key | row | where |
//! |---|---|---|---|
//! | `R` | | [`Registry`] | shard 0 |
//! | `K` | access key | `AccessKey` | shard 0 |
//! | `N` | a key's name | its access key | shard 0 |
//! | `A` | access key, 0, bucket name | `Rights` | shard 0 |
//! | `a` | bucket name, 0, access key | nothing: the way back from a bucket to its `A` rows | shard 0 |
//! | `B` | bucket name | `Bucket` | shard 0 |
//! | `L` | a bucket's alias | the bucket's name | shard 0 |
//! | `P` | access key | the key's policy, as it came | shard 0 |
//! | `S` | bucket, number of the kind | a setting's document, as it came | shard 0 |
//! | `D` | | [`Layout`](super::Layout): which nodes keep blocks | shard 0 |
//! | `d` | | how many copies the cluster's founder wished for, until there is a `D` row | shard 0 |
//! | `C` | | `Roster`: who belongs to the cluster | shard 0 |
//! | `I` | hash of a secret | [`Invitation`] | shard 0 |
//! | `b` | bucket | [`BucketRow`] | the bucket's shard, as all below |
//! | `o` | bucket, object key | [`ObjectHead`] of the current version, unless that is a delete marker | |
//! | `v` | bucket, object key (escaped), order from high to low | [`Older`]: a noncurrent version, or a delete marker | |
//! | `n` | bucket, object key (escaped) | the order of the version `null`, if that is in a `v` row | |
//! | `c` | bucket, object key (escaped), order | [`Content`] of a version that is too long to stand in the head, which listings read | |
//! | `U` | bucket, upload | [`UploadRow`] of an upload under way | |
//! | `u` | bucket, object key (escaped), time, upload | nothing: uploads in the order of listings | |
//! | `p` | bucket, length of upload, upload, number | [`PartHead`], of uploads under way, completed and dead | |
//! | `q` | as `p` | blocks that are too many for the head | |
//! | `x` | bucket, upload | numbers of the parts to keep: this upload has parts that nobody needs | |
//! | `r` | block | how many objects and parts refer to it | |
//! | `g` | time, block | nothing: nobody referred to this block at that time | |
//! | `k` | a store of blocks | from which of its epochs on the shard takes writes that saw their blocks there | |
//! | `e` | bucket | `Notification`: who is told of its changes, if anybody is | |
//! | `W` | webhook | [`Queue`] of events; without a name: the number with which the next queue begins | |
//! | `w` | webhook, 0, number | `Event` that waits to be told | |
//!
//! So the current version is found in one read, a listing of objects meets nothing but objects, and a bucket that never had versions
//! has no `v` and no `n` row. A key that has an `o` row has no `v` row of a higher order; a key that has none but has `v` rows is deleted, and
//! the first of them is the delete marker that says so. A version keeps its order, and with it the place of its content, when another one
//! comes on top of it: only the head moves. Every webhook that an `e` row names has a `W` row.

mod cluster;
mod events;

pub(crate) use cluster::{Invitation, cluster, invitation, invitations, schedule, wished_copies};
pub(crate) use events::{
    Queue, event, event_number, notification, notifications, queue, webhook_of_queue,
};

use crate::Error;
use protocol::block::{BlockId, BlockRef, Place};
use protocol::metadata::{
    Attributes, BucketId, BucketUsage, Checksum, Content, Encryption, ObjectLock, Salt, VersionId,
    Versioning,
};
use protocol::settings::SettingKind;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Content whose encoding is longer than this, in bytes, stands in a row of its own.
pub(crate) const CONTENT_HERE_BYTES_MAX: usize = 512;
/// What most rows fit into, in bytes.
const USUAL_BYTES: usize = 256;
/// More blocks of a part than this stand in a row of their own.
pub(crate) const BLOCKS_HERE_MAX: usize = 8;
/// The longest name of an upload in bytes.
pub(crate) const UPLOAD_BYTES_MAX: usize = 128;

/// The one row of counters of shard 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registry {
    /// Raised by each change of a key, a right or a bucket; the first change makes it 1.
    pub(crate) revision: u64,
    /// The number of the next bucket; every bucket that ever was has a lower one.
    pub(crate) next_bucket: u64,
    /// How many root keys there are.
    pub(crate) roots: u32,
    /// The root key that [`protocol::metadata::Change::FirstKey`] answers.
    pub(crate) root: Option<String>,
}

/// A bucket in its own shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BucketRow {
    /// As in the registry, for the repair of a deletion that was cut off.
    pub(crate) name: String,
    /// Not open: it was found empty and is being deleted; nothing enters it any more.
    pub(crate) open: bool,
    /// Counted along with each change.
    pub(crate) usage: BucketUsage,
    pub(crate) versioning: Versioning,
    pub(crate) lock: Option<ObjectLock>,
    /// The order of the version that was made last; 0 before the first.
    pub(crate) last_version: u64,
    /// Somebody is told of changes: there is an `e` row.
    pub(crate) notifies: bool,
}

/// A version among those of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    /// Higher is newer. 0 for what was written before the bucket had versions.
    pub(crate) order: u64,
    /// It is the version `null`; every other is named by its order.
    pub(crate) null: bool,
}

impl Version {
    /// The version of a bucket without versions.
    pub(crate) const ONLY: Self = Self {
        order: 0,
        null: true,
    };

    pub(crate) fn id(self) -> VersionId {
        match self.null {
            true => VersionId::Null,
            false => VersionId::Number(self.order),
        }
    }
}

/// An object without its longer content. The first five fields are what listings read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ObjectHead {
    pub(crate) size: u64,
    pub(crate) etag: String,
    pub(crate) modified_ms: u64,
    pub(crate) checksum: Option<Checksum>,
    pub(crate) version: Version,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) attributes: Attributes,
    pub(crate) encryption: Option<Encryption>,
    /// The client's token of the rename that brought it here, and its key before.
    pub(crate) renamed: Option<(String, String)>,
    /// `None`: in the `c` row.
    pub(crate) content: Option<Content>,
}

/// What stands in a `v` row.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and it is taken apart at once"
)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Older {
    /// A noncurrent version.
    Object(ObjectHead),
    /// A delete marker, current or not.
    Marker { version: Version, modified_ms: u64 },
}

impl Older {
    pub(crate) fn version(&self) -> Version {
        match self {
            Self::Object(head) => head.version,
            Self::Marker { version, .. } => *version,
        }
    }
}

/// The start of an [`Older`], borrowed from the row.
#[derive(Debug, Deserialize)]
pub(crate) enum ListedOlder<'a> {
    #[serde(borrow)]
    Object(ListedHead<'a>),
    Marker {
        version: Version,
        modified_ms: u64,
    },
}

/// The start of an [`ObjectHead`], borrowed from the row.
#[derive(Debug, Deserialize)]
pub(crate) struct ListedHead<'a> {
    pub(crate) size: u64,
    #[serde(borrow)]
    pub(crate) etag: &'a str,
    pub(crate) modified_ms: u64,
    #[serde(borrow)]
    pub(crate) checksum: Option<ListedChecksum<'a>>,
    pub(crate) version: Version,
}

/// A [`Checksum`], borrowed.
#[derive(Debug, Deserialize)]
pub(crate) struct ListedChecksum<'a> {
    #[serde(borrow)]
    pub(crate) algorithm: &'a str,
    pub(crate) composite: bool,
    #[serde(borrow)]
    #[expect(
        dead_code,
        reason = "a listing does not show it, but it stands between the fields"
    )]
    value: &'a str,
}

/// An upload under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UploadRow {
    pub(crate) key: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) checksum: Option<(String, bool)>,
    pub(crate) attributes: Attributes,
    pub(crate) encryption: Option<Encryption>,
    pub(crate) initiated_ms: u64,
}

/// A part without its longer list of blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartHead {
    pub(crate) size: u64,
    pub(crate) etag: String,
    pub(crate) checksum: Option<Checksum>,
    pub(crate) modified_ms: u64,
    pub(crate) salt: Option<Salt>,
    /// `None`: in the `q` row.
    pub(crate) blocks: Option<Vec<BlockRef>>,
}

/// Bytes of a row. Our own types always encode.
pub(crate) fn encode(row: &impl Serialize) -> Result<Vec<u8>, Error> {
    postcard::to_extend(row, Vec::with_capacity(USUAL_BYTES))
        .map_err(|_| Error::Damaged("a row that does not encode"))
}

/// A row from its bytes; `what` names it in the error.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, Error> {
    match postcard::take_from_bytes(bytes) {
        Ok((row, [])) => Ok(row),
        _ => Err(Error::Damaged(what)),
    }
}

/// The listed start of an `o` or a `v` row.
pub(crate) fn decode_listed<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Error> {
    match postcard::take_from_bytes(bytes) {
        Ok((head, _)) => Ok(head),
        Err(_) => Err(Error::Damaged("object")),
    }
}

/// The first key behind all keys that start with `prefix`.
pub(crate) fn behind(mut prefix: Vec<u8>) -> Vec<u8> {
    while let Some(last) = prefix.pop() {
        if last < u8::MAX {
            prefix.push(last + 1);
            return prefix;
        }
    }
    // Only a prefix of 0xFF bytes gets here; every key of ours starts with a letter.
    vec![u8::MAX]
}

/// The first key behind exactly `key`.
pub(crate) fn next(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

fn key(letter: u8, bucket: Option<BucketId>, rest: &[&[u8]]) -> Vec<u8> {
    let length: usize = rest.iter().map(|part| part.len()).sum();
    let mut key = Vec::with_capacity(9 + length);
    key.push(letter);
    if let Some(bucket) = bucket {
        key.extend_from_slice(&bucket.0.to_be_bytes());
    }
    for part in rest {
        key.extend_from_slice(part);
    }
    key
}

pub(crate) fn registry() -> Vec<u8> {
    key(b'R', None, &[])
}

pub(crate) fn layout() -> Vec<u8> {
    key(b'D', None, &[])
}

pub(crate) fn access_key(id: &str) -> Vec<u8> {
    key(b'K', None, &[id.as_bytes()])
}

pub(crate) fn key_name(name: &str) -> Vec<u8> {
    key(b'N', None, &[name.as_bytes()])
}

/// With an empty bucket name: the start of all rights of that key.
pub(crate) fn rights(access_key: &str, bucket: &str) -> Vec<u8> {
    key(
        b'A',
        None,
        &[access_key.as_bytes(), &[0], bucket.as_bytes()],
    )
}

/// With an empty access key: the start of all rights on that bucket.
pub(crate) fn rights_back(bucket: &str, access_key: &str) -> Vec<u8> {
    key(
        b'a',
        None,
        &[bucket.as_bytes(), &[0], access_key.as_bytes()],
    )
}

pub(crate) fn bucket_name(name: &str) -> Vec<u8> {
    key(b'B', None, &[name.as_bytes()])
}

pub(crate) fn alias(name: &str) -> Vec<u8> {
    key(b'L', None, &[name.as_bytes()])
}

pub(crate) fn key_policy(access_key: &str) -> Vec<u8> {
    key(b'P', None, &[access_key.as_bytes()])
}

pub(crate) fn setting(id: BucketId, kind: SettingKind) -> Vec<u8> {
    key(b'S', Some(id), &[&[kind.number()]])
}

/// The start of all settings of a bucket.
pub(crate) fn settings(id: BucketId) -> Vec<u8> {
    key(b'S', Some(id), &[])
}

/// The kind out of the key of an `S` row.
pub(crate) fn setting_of(key: &[u8]) -> Result<SettingKind, Error> {
    key.last()
        .and_then(|number| SettingKind::of_number(*number))
        .ok_or(Error::Damaged("kind of a setting"))
}

pub(crate) fn bucket(id: BucketId) -> Vec<u8> {
    key(b'b', Some(id), &[])
}

/// The start of all `b` rows of a shard.
pub(crate) fn buckets() -> Vec<u8> {
    key(b'b', None, &[])
}

/// Also the start of all objects whose key starts so.
pub(crate) fn object(bucket: BucketId, object_key: &str) -> Vec<u8> {
    key(b'o', Some(bucket), &[object_key.as_bytes()])
}

/// The length of what stands before the object's key in an `o` row.
pub(crate) const OBJECT_KEY_AT: usize = 9;

pub(crate) fn content(bucket: BucketId, object_key: &str, version: Version) -> Vec<u8> {
    let rest: [&[u8]; 3] = [&escaped(object_key), &[0, 0], &version.order.to_be_bytes()];
    key(b'c', Some(bucket), &rest)
}

/// The start of all `v` rows of the keys that start so.
pub(crate) fn older(bucket: BucketId, prefix: &str) -> Vec<u8> {
    key(b'v', Some(bucket), &[&escaped(prefix)])
}

/// The start of all `v` rows of exactly this key.
pub(crate) fn older_of(bucket: BucketId, object_key: &str) -> Vec<u8> {
    key(b'v', Some(bucket), &[&escaped(object_key), &[0, 0]])
}

pub(crate) fn older_version(bucket: BucketId, object_key: &str, order: u64) -> Vec<u8> {
    let mut row = older_of(bucket, object_key);
    row.extend_from_slice(&(u64::MAX - order).to_be_bytes());
    row
}

pub(crate) fn older_null(bucket: BucketId, object_key: &str) -> Vec<u8> {
    key(b'n', Some(bucket), &[&escaped(object_key)])
}

/// The object's key out of the key of a `v` row.
pub(crate) fn key_of_older(key: &[u8]) -> Result<String, Error> {
    let mut name = Vec::with_capacity(key.len());
    let mut rest = key.get(OBJECT_KEY_AT..).unwrap_or_default();
    loop {
        rest = match rest {
            [0, u8::MAX, after @ ..] => {
                name.push(0);
                after
            }
            [0, 0, order @ ..] if order.len() == 8 => {
                return String::from_utf8(name).map_err(|_| Error::Damaged("object key"));
            }
            [byte, after @ ..] if *byte != 0 => {
                name.push(*byte);
                after
            }
            _ => return Err(Error::Damaged("key of an older version")),
        };
    }
}

pub(crate) fn upload(bucket: BucketId, upload: &str) -> Vec<u8> {
    key(b'U', Some(bucket), &[upload.as_bytes()])
}

pub(crate) fn dead_upload(bucket: BucketId, upload: &str) -> Vec<u8> {
    key(b'x', Some(bucket), &[upload.as_bytes()])
}

/// The start of all `x` rows of a shard.
pub(crate) fn dead_uploads() -> Vec<u8> {
    key(b'x', None, &[])
}

/// An object's key such that escaped keys sort as the keys do and none is the start of another: 0 becomes 0, 255.
fn escaped(object_key: &str) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(object_key.len() + 2);
    for byte in object_key.bytes() {
        escaped.push(byte);
        if byte == 0 {
            escaped.push(u8::MAX);
        }
    }
    escaped
}

/// The start of the listing rows of all uploads whose object key starts so.
pub(crate) fn listed_uploads(bucket: BucketId, prefix: &str) -> Vec<u8> {
    key(b'u', Some(bucket), &[&escaped(prefix)])
}

/// The start of the listing rows of all uploads of exactly this object key.
pub(crate) fn listed_uploads_of(bucket: BucketId, object_key: &str) -> Vec<u8> {
    key(b'u', Some(bucket), &[&escaped(object_key), &[0, 0]])
}

pub(crate) fn listed_upload(
    bucket: BucketId,
    object_key: &str,
    initiated_ms: u64,
    upload: &str,
) -> Vec<u8> {
    let rest: [&[u8]; 4] = [
        &escaped(object_key),
        &[0, 0],
        &initiated_ms.to_be_bytes(),
        upload.as_bytes(),
    ];
    key(b'u', Some(bucket), &rest)
}

/// The upload's name out of the key of a `u` row.
pub(crate) fn upload_of_listed(key: &[u8]) -> Result<&str, Error> {
    let wrong = Error::Damaged("upload in a listing");
    let mut rest = key.get(OBJECT_KEY_AT..).unwrap_or_default();
    loop {
        rest = match rest {
            [0, 0, after @ ..] => {
                let name = after.get(8..).unwrap_or_default();
                return std::str::from_utf8(name).map_err(|_| wrong);
            }
            [_, after @ ..] => after,
            [] => return Err(wrong),
        };
    }
}

/// The start of all parts of an upload. The length in front keeps one upload's parts out of another's whose name goes on.
pub(crate) fn parts(bucket: BucketId, upload: &str) -> Vec<u8> {
    // Names of uploads are bounded where calls come in, so that the length fits a byte.
    let length = u8::try_from(upload.len()).unwrap_or(u8::MAX);
    key(b'p', Some(bucket), &[&[length], upload.as_bytes()])
}

pub(crate) fn part(bucket: BucketId, upload: &str, number: u16) -> Vec<u8> {
    let mut key = parts(bucket, upload);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

pub(crate) fn part_blocks(bucket: BucketId, upload: &str, number: u16) -> Vec<u8> {
    let mut key = part(bucket, upload, number);
    if let Some(letter) = key.first_mut() {
        *letter = b'q';
    }
    key
}

/// A part's number out of the key of a `p` row.
pub(crate) fn part_number(key: &[u8]) -> Result<u16, Error> {
    match key.last_chunk::<2>() {
        Some(number) => Ok(u16::from_be_bytes(*number)),
        None => Err(Error::Damaged("part number")),
    }
}

/// Bucket and upload out of the key of an `x` row.
pub(crate) fn dead_upload_of(key: &[u8]) -> Result<(BucketId, &str), Error> {
    let wrong = || Error::Damaged("dead upload");
    let rest = key.get(1..).unwrap_or_default();
    let (bucket, name) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
    let name = std::str::from_utf8(name).map_err(|_| wrong())?;
    Ok((BucketId(u64::from_be_bytes(*bucket)), name))
}

/// The bucket out of the key of a `b` row.
pub(crate) fn bucket_of(key: &[u8]) -> Result<BucketId, Error> {
    match key.get(1..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(id) => Ok(BucketId(u64::from_be_bytes(*id))),
        None => Err(Error::Damaged("bucket number")),
    }
}

fn block_bytes(block: &BlockRef) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(45);
    bytes.extend_from_slice(&block.id.0);
    match block.place {
        Place::File => bytes.push(0),
        Place::Packed { pack, page } => {
            bytes.push(1);
            bytes.extend_from_slice(&pack.to_be_bytes());
            bytes.extend_from_slice(&page.to_be_bytes());
        }
    }
    bytes.extend_from_slice(&block.length.to_be_bytes());
    bytes
}

fn block_of(bytes: &[u8]) -> Option<BlockRef> {
    let (id, rest) = bytes.split_first_chunk::<32>()?;
    let (place, rest) = match rest {
        [0, rest @ ..] => (Place::File, rest),
        [1, rest @ ..] => {
            let (pack, rest) = rest.split_first_chunk::<4>()?;
            let (page, rest) = rest.split_first_chunk::<4>()?;
            let (pack, page) = (u32::from_be_bytes(*pack), u32::from_be_bytes(*page));
            (Place::Packed { pack, page }, rest)
        }
        _ => return None,
    };
    let length = u32::from_be_bytes(rest.try_into().ok()?);
    Some(BlockRef {
        id: BlockId(*id),
        length,
        place,
    })
}

pub(crate) fn references(block: &BlockRef) -> Vec<u8> {
    key(b'r', None, &[&block_bytes(block)])
}

/// The start of all `r` rows of blocks with this name, wherever they lie.
pub(crate) fn references_of(id: &BlockId) -> Vec<u8> {
    key(b'r', None, &[&id.0])
}

pub(crate) fn barrier(store: u64) -> Vec<u8> {
    key(b'k', None, &[&store.to_be_bytes()])
}

pub(crate) fn garbage(at_ms: u64, block: &BlockRef) -> Vec<u8> {
    key(b'g', None, &[&at_ms.to_be_bytes(), &block_bytes(block)])
}

/// The start of all garbage that is not younger than `at_ms`; with 0, of all garbage.
pub(crate) fn garbage_from(at_ms: u64) -> Vec<u8> {
    key(b'g', None, &[&at_ms.to_be_bytes()])
}

/// Time and block out of the key of a `g` row.
pub(crate) fn garbage_of(key: &[u8]) -> Result<(u64, BlockRef), Error> {
    let parse = || {
        let (at_ms, block) = key.get(1..)?.split_first_chunk::<8>()?;
        Some((u64::from_be_bytes(*at_ms), block_of(block)?))
    };
    parse().ok_or(Error::Damaged("garbage"))
}

/// The block out of the key of an `r` row.
#[cfg(test)]
pub(crate) fn referenced_of(key: &[u8]) -> Option<BlockRef> {
    block_of(key.get(1..)?)
}
