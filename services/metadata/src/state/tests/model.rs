//! What buckets hold, as plainly as can be: the other side of the random sequences. And the invariants of the rows.

use super::*;
use crate::state::rows::{BucketRow, ObjectHead, Older, PartHead, Queue};
use protocol::metadata::{BucketUsage, Entry, Notification, VersionEntry};
use std::collections::{BTreeMap, BTreeSet};

/// An object that was written in one go, or of parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModelObject {
    pub(super) size: u64,
    pub(super) etag: String,
    pub(super) blocks: Vec<BlockRef>,
    pub(super) upload: Option<String>,
}

/// A version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModelVersion {
    pub(super) id: VersionId,
    /// `None`: a delete marker.
    pub(super) object: Option<ModelObject>,
    pub(super) held: bool,
}

/// The model of one bucket.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) versioning: Versioning,
    pub(super) locked: bool,
    /// By key, the newest first; no list is empty.
    pub(super) versions: BTreeMap<String, Vec<ModelVersion>>,
    /// By upload: the object's key, and the parts with ETag and blocks.
    pub(super) uploads: BTreeMap<String, (String, BTreeMap<u16, (String, Vec<BlockRef>)>)>,
}

impl Model {
    /// The object that a read without a version finds.
    pub(super) fn current(&self, key: &str) -> Option<&ModelObject> {
        self.versions.get(key)?.first()?.object.as_ref()
    }

    /// What becomes of a key when a version is written, or a marker, that metadata called `id`.
    pub(super) fn write(&mut self, key: &str, id: Option<VersionId>, object: Option<ModelObject>) {
        let versions = self.versions.entry(key.into()).or_default();
        let made = ModelVersion {
            id: id.unwrap_or(VersionId::Null),
            object,
            held: false,
        };
        match self.versioning {
            Versioning::Off => {
                assert_eq!(id, None);
                versions.clear();
            }
            Versioning::Enabled => assert!(
                versions.iter().all(|version| version.id != made.id) && made.id != VersionId::Null,
                "a version of its own"
            ),
            Versioning::Suspended => {
                assert_eq!(id, Some(VersionId::Null));
                versions.retain(|version| version.id != VersionId::Null);
            }
        }
        if made.object.is_some() || self.versioning != Versioning::Off {
            versions.insert(0, made);
        }
        self.tidy(key);
    }

    /// What becomes of a key when exactly this version is removed.
    pub(super) fn remove(&mut self, key: &str, id: VersionId) -> Result<(), MetadataError> {
        let Some(versions) = self.versions.get_mut(key) else {
            return Ok(());
        };
        if versions
            .iter()
            .any(|version| version.id == id && version.held)
        {
            return Err(MetadataError::Locked);
        }
        versions.retain(|version| version.id != id);
        self.tidy(key);
        Ok(())
    }

    fn tidy(&mut self, key: &str) {
        if self.versions.get(key).is_some_and(Vec::is_empty) {
            self.versions.remove(key);
        }
    }

    /// The whole listing.
    pub(super) fn list(&self, prefix: &str, delimiter: &str) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        for key in self.versions.keys() {
            let Some(object) = self.current(key).filter(|_| key.starts_with(prefix)) else {
                continue;
            };
            let entry = match common(key, prefix, delimiter) {
                Some(common) => Entry::Prefix(common),
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

    /// The whole listing of versions.
    pub(super) fn list_versions(&self, prefix: &str, delimiter: &str) -> Vec<VersionEntry> {
        let mut entries: Vec<VersionEntry> = Vec::new();
        for (key, versions) in &self.versions {
            if !key.starts_with(prefix) {
                continue;
            }
            if let Some(common) = common(key, prefix, delimiter) {
                let entry = VersionEntry::Prefix(common);
                if entries.last() != Some(&entry) {
                    entries.push(entry);
                }
                continue;
            }
            for (at, version) in versions.iter().enumerate() {
                let (key, modified_ms, latest) = (key.clone(), 0, at == 0);
                entries.push(match &version.object {
                    Some(object) => VersionEntry::Object {
                        key,
                        version: version.id,
                        latest,
                        size: object.size,
                        etag: object.etag.clone(),
                        modified_ms,
                        checksum: None,
                    },
                    None => VersionEntry::Marker {
                        key,
                        version: version.id,
                        latest,
                        modified_ms,
                    },
                });
            }
        }
        entries
    }
}

fn common(key: &str, prefix: &str, delimiter: &str) -> Option<String> {
    if delimiter.is_empty() {
        return None;
    }
    let at = key[prefix.len()..].find(delimiter)?;
    Some(key[..prefix.len() + at + delimiter.len()].into())
}

/// The state of a key's versions, as its rows tell it.
#[derive(Default)]
struct KeyRows {
    current: Option<rows::Version>,
    /// In the order of the rows.
    older: Vec<Older>,
    older_null: Option<u64>,
}

impl KeyRows {
    fn check(&self, key: &str) {
        let orders: Vec<u64> = self
            .older
            .iter()
            .map(|older| older.version().order)
            .collect();
        assert!(
            orders.is_sorted_by(|one, next| one > next),
            "{key:?}: {orders:?}"
        );
        match (self.current, self.older.first()) {
            (Some(current), Some(older)) => {
                assert!(
                    current.order > older.version().order,
                    "{key:?}: the current is the newest"
                );
            }
            (None, Some(newest)) => {
                assert!(
                    matches!(newest, Older::Marker { .. }),
                    "{key:?}: a marker hides the rest"
                );
            }
            (_, None) => {}
        }
        let nulls: Vec<u64> = self
            .older
            .iter()
            .filter(|older| older.version().null)
            .map(|older| older.version().order)
            .collect();
        assert_eq!(
            self.older_null.into_iter().collect::<Vec<_>>(),
            nulls,
            "{key:?}"
        );
        assert!(
            nulls.is_empty() || self.current.is_none_or(|current| !current.null),
            "{key:?}: one version is null"
        );
    }
}

/// Looks at every row, and compares what is counted with what is there.
pub(crate) fn check_invariants(store: &MemoryStore) {
    let mut references: BTreeMap<BlockRef, u64> = BTreeMap::new();
    let mut counted: BTreeMap<BlockRef, u64> = BTreeMap::new();
    let mut usage: BTreeMap<BucketId, BucketUsage> = BTreeMap::new();
    let mut usage_counted: BTreeMap<BucketId, BucketUsage> = BTreeMap::new();
    let (mut heads_apart, mut contents) = (BTreeSet::new(), BTreeSet::new());
    let mut keys: BTreeMap<String, KeyRows> = BTreeMap::new();
    let (mut parts_apart, mut part_blocks) = (BTreeSet::new(), BTreeSet::new());
    let (mut events, mut events_waiting) = (BTreeSet::new(), BTreeSet::new());
    let mut refer = |blocks: &[BlockRef]| {
        for block in blocks {
            *references.entry(*block).or_default() += 1;
        }
    };
    for (key, value) in &store.rows {
        let bucket = || rows::bucket_of(key).unwrap();
        match key[0] {
            b'o' | b'v' => {
                let (name, head) = match key[0] {
                    b'o' => {
                        let name = String::from_utf8(key[9..].to_vec()).unwrap();
                        let head: ObjectHead = rows::decode(value, "object").unwrap();
                        keys.entry(name.clone()).or_default().current = Some(head.version);
                        (name, Some(head))
                    }
                    _ => {
                        let name = rows::key_of_older(key).unwrap();
                        let older: Older = rows::decode(value, "version").unwrap();
                        let order = older.version().order;
                        assert_eq!(*key, rows::older_version(bucket(), &name, order));
                        keys.entry(name.clone())
                            .or_default()
                            .older
                            .push(older.clone());
                        match older {
                            Older::Object(head) => (name, Some(head)),
                            Older::Marker { .. } => (name, None),
                        }
                    }
                };
                let Some(head) = head else { continue };
                let usage = usage.entry(bucket()).or_default();
                usage.objects += 1;
                usage.bytes += head.size;
                let content = rows::content(bucket(), &name, head.version);
                match head.content {
                    None => drop(heads_apart.insert(content)),
                    Some(Content::Blocks(blocks)) => refer(&blocks),
                    Some(_) => {}
                }
            }
            b'n' => {
                let order = rows::decode(value, "null version").unwrap();
                // The end of an escaped key is all that a `v` row has in front of its order.
                let row = [key.as_slice(), &[0; 10]].concat();
                let name = rows::key_of_older(&row).unwrap();
                keys.entry(name).or_default().older_null = Some(order);
            }
            b'c' => {
                contents.insert(key.clone());
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
                let notified = store.rows.get(&rows::notification(bucket()));
                assert_eq!(
                    row.notifies,
                    notified.is_some(),
                    "a bucket knows of its rules"
                );
            }
            b'e' => {
                let notification: Notification = rows::decode(value, "notification").unwrap();
                assert!(store.rows.contains_key(&rows::bucket(bucket())));
                for rule in notification.rules {
                    assert!(store.rows.contains_key(&rows::queue(&rule.webhook)));
                }
            }
            b'W' if key.len() > 1 => {
                let queue: Queue = rows::decode(value, "queue of events").unwrap();
                let webhook = rows::webhook_of_queue(key).unwrap();
                events.extend((queue.first..queue.next).map(|one| rows::event(webhook, one)));
            }
            b'w' => drop(events_waiting.insert(key.clone())),
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
    for (key, rows) in &keys {
        rows.check(key);
    }
    assert_eq!(
        parts_apart, part_blocks,
        "blocks apart and their part come and go together"
    );
    assert_eq!(
        events, events_waiting,
        "what a queue says to wait is what waits"
    );
}
