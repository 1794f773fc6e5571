//! What buckets hold, as plainly as can be: the other side of the random sequences. And the invariants of the rows.

use super::*;
use crate::state::rows::{BucketRow, ObjectHead, PartHead};
use protocol::metadata::{BucketUsage, Entry};
use std::collections::{BTreeMap, BTreeSet};

/// An object that was written in one go, or of parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModelObject {
    pub(super) size: u64,
    pub(super) etag: String,
    pub(super) blocks: Vec<BlockRef>,
    pub(super) upload: Option<String>,
}

/// The model of one bucket.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) objects: BTreeMap<String, ModelObject>,
    /// By upload: the object's key, and the parts with ETag and blocks.
    pub(super) uploads: BTreeMap<String, (String, BTreeMap<u16, (String, Vec<BlockRef>)>)>,
}

impl Model {
    /// The whole listing.
    pub(super) fn list(&self, prefix: &str, delimiter: &str) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        for (key, object) in self
            .objects
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
        {
            let at = (!delimiter.is_empty())
                .then(|| key[prefix.len()..].find(delimiter))
                .flatten();
            let entry = match at {
                Some(at) => Entry::Prefix(key[..prefix.len() + at + delimiter.len()].into()),
                None => Entry::Object {
                    key: key.clone(),
                    size: object.size,
                    etag: object.etag.clone(),
                    modified_ms: 0,
                    checksum: None,
                },
            };
            if entries.last() != Some(&entry) {
                entries.push(entry);
            }
        }
        entries
    }
}

/// Looks at every row, and compares what is counted with what is there.
pub(crate) fn check_invariants(store: &MemoryStore) {
    let mut references: BTreeMap<BlockRef, u64> = BTreeMap::new();
    let mut counted: BTreeMap<BlockRef, u64> = BTreeMap::new();
    let mut usage: BTreeMap<BucketId, BucketUsage> = BTreeMap::new();
    let mut usage_counted: BTreeMap<BucketId, BucketUsage> = BTreeMap::new();
    let (mut heads_apart, mut contents) = (BTreeSet::new(), BTreeSet::new());
    let (mut parts_apart, mut part_blocks) = (BTreeSet::new(), BTreeSet::new());
    let mut refer = |blocks: &[BlockRef]| {
        for block in blocks {
            *references.entry(*block).or_default() += 1;
        }
    };
    for (key, value) in &store.rows {
        let bucket = || rows::bucket_of(key).unwrap();
        match key[0] {
            b'o' => {
                let head: ObjectHead = rows::decode(value, "object").unwrap();
                let usage = usage.entry(bucket()).or_default();
                usage.objects += 1;
                usage.bytes += head.size;
                match head.content {
                    None => drop(heads_apart.insert(key[1..].to_vec())),
                    Some(Content::Blocks(blocks)) => refer(&blocks),
                    Some(_) => {}
                }
            }
            b'c' => {
                contents.insert(key[1..].to_vec());
                if let Content::Blocks(blocks) = rows::decode(value, "content").unwrap() {
                    refer(&blocks);
                }
            }
            b'p' => match rows::decode::<PartHead>(value, "part").unwrap().blocks {
                Some(blocks) => refer(&blocks),
                None => drop(parts_apart.insert(key[1..].to_vec())),
            },
            b'q' => {
                part_blocks.insert(key[1..].to_vec());
                refer(&rows::decode::<Vec<BlockRef>>(value, "blocks").unwrap());
            }
            b'r' => {
                let block = rows::referenced_of(key).unwrap();
                counted.insert(block, rows::decode(value, "count").unwrap());
            }
            b'b' => {
                let row: BucketRow = rows::decode(value, "bucket").unwrap();
                if row.usage != BucketUsage::default() {
                    usage_counted.insert(bucket(), row.usage);
                }
            }
            _ => {}
        }
    }
    assert_eq!(
        counted, references,
        "every block's count is the number of its references"
    );
    assert_eq!(usage_counted, usage, "usage is what a scan finds");
    assert_eq!(
        heads_apart, contents,
        "content apart and its head come and go together"
    );
    assert_eq!(
        parts_apart, part_blocks,
        "blocks apart and their part come and go together"
    );
}
