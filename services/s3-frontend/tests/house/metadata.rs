//! A small honest metadata service: the conversation's semantics over ordered maps, without a disk.

use super::{Faults, ROOT_KEY, ROOT_SECRET, serve_channel};
use protocol::Channel;
use protocol::block::BlockRef;
use protocol::metadata::*;
use protocol::settings::{AccessDocuments, SettingKind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Parts = BTreeMap<u16, Part>;

pub struct MetadataState {
    pub revision: u64,
    pub keys: BTreeMap<String, AccessKey>,
    pub rights: BTreeMap<(String, String), Rights>,
    pub buckets: BTreeMap<String, Bucket>,
    pub objects: BTreeMap<(BucketId, String), Object>,
    pub uploads: BTreeMap<(BucketId, String, String), (Upload, Parts)>,
    /// Parts of completed uploads.
    pub parts: BTreeMap<(BucketId, String, u16), Part>,
    pub notifications: BTreeMap<BucketId, Notification>,
    /// More webhooks are in use than metadata has room for.
    pub refuse_webhooks: bool,
    /// What puts, copies and forms said that they did, and to which key.
    pub told: Vec<(EventKind, String)>,
    pub now_ms: u64,
    /// Calls so far, by kind.
    pub calls: BTreeMap<&'static str, u64>,
    /// The most entries in one page, to try paging.
    pub page_max: u32,
    /// All buckets encrypt by default.
    encrypts: bool,
}

impl MetadataState {
    pub fn new() -> Self {
        let mut state = Self {
            revision: 1,
            keys: BTreeMap::new(),
            rights: BTreeMap::new(),
            buckets: BTreeMap::new(),
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            parts: BTreeMap::new(),
            notifications: BTreeMap::new(),
            refuse_webhooks: false,
            told: Vec::new(),
            now_ms: 1_700_000_000_123,
            calls: BTreeMap::new(),
            page_max: PAGE_MAX,
            encrypts: false,
        };
        state.add_key(ROOT_KEY, ROOT_SECRET, true);
        state
    }

    pub fn add_key(&mut self, access_key: &str, secret_key: &str, root: bool) {
        self.revision += 1;
        let key = AccessKey {
            access_key: access_key.into(),
            secret_key: secret_key.into(),
            name: access_key.into(),
            root,
            create_buckets: root,
            created_ms: 0,
        };
        self.keys.insert(access_key.into(), key);
    }

    pub fn encrypt_by_default(&mut self) {
        self.revision += 1;
        self.encrypts = true;
    }

    pub fn allow(&mut self, access_key: &str, bucket: &str, rights: Rights) {
        self.revision += 1;
        self.rights
            .insert((access_key.into(), bucket.into()), rights);
    }

    /// Every block that an object or a part refers to.
    pub fn referenced(&self) -> BTreeSet<BlockRef> {
        let objects = self
            .objects
            .values()
            .filter_map(|object| match &object.content {
                Content::Blocks(blocks) => Some(blocks.clone()),
                _ => None,
            });
        let uploads = self.uploads.values().flat_map(|(_, parts)| parts.values());
        let parts = self
            .parts
            .values()
            .chain(uploads)
            .map(|part| part.blocks.clone());
        objects.chain(parts).flatten().collect()
    }

    fn rights_of(&self, key: &AccessKey, bucket: &str) -> Rights {
        if key.root {
            return Rights {
                read: true,
                write: true,
                owner: true,
            };
        }
        self.rights
            .get(&(key.access_key.clone(), bucket.into()))
            .copied()
            .unwrap_or_default()
    }

    fn check(
        &self,
        at: &(BucketId, String),
        condition: &Precondition,
    ) -> Result<(), MetadataError> {
        match (condition, self.objects.get(at)) {
            (Precondition::None, _)
            | (Precondition::Absent, None)
            | (Precondition::Present, Some(_)) => Ok(()),
            (Precondition::Etag(_), None) => Err(MetadataError::NoSuchKey),
            (Precondition::Etag(etag), Some(object)) if *etag == object.etag => Ok(()),
            _ => Err(MetadataError::PreconditionFailed),
        }
    }

    fn check_copied(&self, blocks: &[BlockRef]) -> Result<(), MetadataError> {
        let known = self.referenced();
        let all = blocks.iter().all(|block| known.contains(block));
        if all {
            Ok(())
        } else {
            Err(MetadataError::SourceChanged)
        }
    }

    /// No bucket here has versions.
    fn check_version(version: Option<VersionId>) -> Result<(), MetadataError> {
        match version {
            None | Some(VersionId::Null) => Ok(()),
            Some(VersionId::Number(_)) => Err(MetadataError::NoSuchVersion),
        }
    }

    fn check_bucket(&self, id: BucketId) -> Result<(), MetadataError> {
        let known = self.buckets.values().any(|bucket| bucket.id == id);
        if known {
            Ok(())
        } else {
            Err(MetadataError::NoSuchBucket)
        }
    }

    pub fn answer(&mut self, call: Call) -> Answer {
        *self.calls.entry(kind(&call.operation)).or_default() += 1;
        let stale = call.revision != 0 && call.revision != self.revision;
        let result = if stale {
            Err(MetadataError::Stale)
        } else {
            self.apply(call.operation)
        };
        Answer {
            revision: self.revision,
            result,
        }
    }

    fn apply(&mut self, operation: Operation) -> Result<Reply, MetadataError> {
        self.now_ms += 1;
        match operation {
            Operation::Authorize { access_key, bucket } => {
                let key = match access_key {
                    Some(access_key) => {
                        let key = self.keys.get(&access_key);
                        Some(key.ok_or(MetadataError::NoSuchAccessKey)?.clone())
                    }
                    None => None,
                };
                let rights = match (&key, &bucket) {
                    (Some(key), Some(bucket)) => self.rights_of(key, bucket),
                    _ => Rights::default(),
                };
                let bucket = bucket.and_then(|name| self.buckets.get(&name).cloned());
                let mut documents = AccessDocuments::default();
                if self.encrypts {
                    documents.kinds.insert(SettingKind::Encryption);
                }
                Ok(Reply::Authorized {
                    key,
                    bucket,
                    rights,
                    documents,
                })
            }
            Operation::CreateBucket {
                name,
                owner,
                hash_key,
                locked,
            } => {
                if let Some(bucket) = self.buckets.get(&name) {
                    return Err(MetadataError::BucketExists {
                        owner: bucket.owner.clone(),
                    });
                }
                self.revision += 1;
                let id = BucketId(self.revision);
                let bucket = Bucket {
                    id,
                    name: name.clone(),
                    owner: owner.clone(),
                    created_ms: self.now_ms,
                    hash_key,
                    versioned: locked,
                    aliases: Vec::new(),
                };
                self.buckets.insert(name.clone(), bucket.clone());
                let all = Rights {
                    read: true,
                    write: true,
                    owner: true,
                };
                self.rights.insert((owner, name), all);
                Ok(Reply::Bucket(bucket))
            }
            Operation::DeleteBucket { name } => {
                let id = self
                    .buckets
                    .get(&name)
                    .ok_or(MetadataError::NoSuchBucket)?
                    .id;
                let used = self.objects.keys().any(|(bucket, _)| *bucket == id)
                    || self.uploads.keys().any(|(bucket, ..)| *bucket == id);
                if used {
                    return Err(MetadataError::BucketNotEmpty);
                }
                self.revision += 1;
                self.buckets.remove(&name);
                Ok(Reply::Done)
            }
            Operation::ListBuckets {
                access_key,
                after,
                limit,
            } => {
                let key = access_key.map(|key| self.keys.get(&key).cloned());
                let key = match key {
                    None => None,
                    Some(None) => return Err(MetadataError::NoSuchAccessKey),
                    Some(key) => key,
                };
                let limit = limit.min(self.page_max) as usize;
                let mut buckets: Vec<_> = self
                    .buckets
                    .values()
                    .filter(|bucket| after.as_ref().is_none_or(|after| bucket.name > *after))
                    .filter(|bucket| {
                        key.as_ref().is_none_or(|key| {
                            self.rights_of(key, &bucket.name) != Rights::default()
                        })
                    })
                    .map(|bucket| (bucket.clone(), BucketUsage::default()))
                    .take(limit + 1)
                    .collect();
                let more = buckets.len() > limit;
                buckets.truncate(limit);
                Ok(Reply::Buckets { buckets, more })
            }
            Operation::GetObject {
                bucket,
                key,
                version,
            } => {
                Self::check_version(version)?;
                let object = self
                    .objects
                    .get(&(bucket, key))
                    .ok_or(MetadataError::NoSuchKey)?;
                Ok(Reply::Object(object.clone()))
            }
            Operation::GetPart {
                bucket,
                upload,
                number,
            } => self
                .parts
                .get(&(bucket, upload, number))
                .map(|part| Reply::Part(part.clone()))
                .ok_or(MetadataError::NoSuchUpload),
            Operation::Change(Change::PutObject {
                bucket,
                key,
                object,
                precondition,
                copied,
                event,
            }) => {
                self.check_bucket(bucket)?;
                let at = (bucket, key);
                self.check(&at, &precondition)?;
                if let (true, Content::Blocks(blocks)) = (copied, &object.content) {
                    self.check_copied(blocks)?;
                }
                self.told.push((event, at.1.clone()));
                let (etag, size) = (object.etag.clone(), object.size);
                let modified_ms = self.now_ms;
                let NewObject {
                    size: _,
                    etag: _,
                    headers,
                    checksum,
                    attributes,
                    encryption,
                    content,
                } = object;
                let object = Object {
                    size,
                    etag: etag.clone(),
                    headers,
                    checksum,
                    modified_ms,
                    version: VersionId::Null,
                    attributes,
                    encryption,
                    content,
                };
                self.objects.insert(at, object);
                Ok(Reply::Written {
                    etag,
                    modified_ms,
                    size,
                    version: None,
                })
            }
            Operation::Change(Change::DeleteObject {
                bucket,
                key,
                version,
                precondition,
                bypass: _,
            }) => {
                Self::check_version(version)?;
                let at = (bucket, key);
                self.check(&at, &precondition)?;
                self.objects.remove(&at);
                Ok(Reply::Deleted {
                    version,
                    marker: false,
                })
            }
            Operation::ListObjects {
                bucket,
                prefix,
                delimiter,
                after,
                limit,
            } => Ok(self.list(bucket, &prefix, &delimiter, after, limit.min(self.page_max))),
            Operation::Change(Change::PutNotification {
                bucket,
                notification,
            }) => {
                self.check_bucket(bucket)?;
                if self.refuse_webhooks {
                    return Err(MetadataError::Refused("too many webhooks".into()));
                }
                self.notifications.insert(bucket, notification);
                Ok(Reply::Done)
            }
            Operation::GetNotification { bucket } => {
                self.check_bucket(bucket)?;
                let notification = self.notifications.get(&bucket).cloned();
                Ok(Reply::Notification(notification.unwrap_or_default()))
            }
            other => self.apply_upload(other),
        }
    }

    fn list(
        &self,
        bucket: BucketId,
        prefix: &str,
        delimiter: &str,
        after: Option<After>,
        limit: u32,
    ) -> Reply {
        let mut entries: Vec<Entry> = Vec::new();
        for ((_, key), object) in self.objects.iter().filter(|((id, _), _)| *id == bucket) {
            let skipped = match &after {
                None => false,
                Some(After::Key(after)) => key <= after,
                Some(After::Prefix(after)) => key <= after || key.starts_with(after.as_str()),
            };
            let Some(rest) = key.strip_prefix(prefix).filter(|_| !skipped) else {
                continue;
            };
            let entry = match rest.find(delimiter).filter(|_| !delimiter.is_empty()) {
                Some(at) => Entry::Prefix(key[..prefix.len() + at + delimiter.len()].to_owned()),
                None => Entry::Object {
                    key: key.clone(),
                    size: object.size,
                    etag: object.etag.clone(),
                    modified_ms: object.modified_ms,
                    checksum: object
                        .checksum
                        .as_ref()
                        .map(|c| (c.algorithm.clone(), c.composite)),
                },
            };
            if entries.last() == Some(&entry) {
                continue;
            }
            if entries.len() == limit as usize {
                let next = entries.last().map(Entry::after);
                let entries = entries.into_iter().collect();
                return Reply::Page { entries, next };
            }
            entries.push(entry);
        }
        Reply::Page {
            entries: entries.into_iter().collect(),
            next: None,
        }
    }

    fn apply_upload(&mut self, operation: Operation) -> Result<Reply, MetadataError> {
        match operation {
            Operation::Change(Change::CreateUpload { bucket, mut upload }) => {
                upload.initiated_ms = self.now_ms;
                let at = (bucket, upload.key.clone(), upload.upload.clone());
                self.uploads.insert(at, (upload, BTreeMap::new()));
                Ok(Reply::Done)
            }
            Operation::GetUpload {
                bucket,
                key,
                upload,
            } => self
                .uploads
                .get(&(bucket, key, upload))
                .map(|(upload, _)| Reply::Upload(upload.clone()))
                .ok_or(MetadataError::NoSuchUpload),
            Operation::Change(Change::PutPart {
                bucket,
                key,
                upload,
                number,
                mut part,
                copied,
            }) => {
                if copied {
                    self.check_copied(&part.blocks)?;
                }
                part.modified_ms = self.now_ms;
                let found = self.uploads.get_mut(&(bucket, key, upload));
                found
                    .ok_or(MetadataError::NoSuchUpload)?
                    .1
                    .insert(number, part);
                Ok(Reply::Done)
            }
            Operation::Change(Change::CompleteUpload {
                bucket,
                key,
                upload,
                parts,
                etag,
                checksum,
                precondition,
            }) => {
                let at = (bucket, key.clone());
                let place = (bucket, key, upload.clone());
                let Some((begun, have)) = self.uploads.get(&place) else {
                    return match self.objects.get(&at) {
                        Some(Object {
                            content: Content::Parts { upload: made, .. },
                            etag: is,
                            size,
                            modified_ms,
                            ..
                        }) if *made == upload && *is == etag => Ok(Reply::Written {
                            etag,
                            modified_ms: *modified_ms,
                            size: *size,
                            version: None,
                        }),
                        _ => Err(MetadataError::NoSuchUpload),
                    };
                };
                let mut chosen = Vec::new();
                for (index, number) in parts.iter().enumerate() {
                    let part = have.get(number);
                    let part = part.ok_or(MetadataError::InvalidPart { number: *number })?;
                    if part.size < PART_BYTES_MIN && index + 1 < parts.len() {
                        return Err(MetadataError::EntityTooSmall { number: *number });
                    }
                    chosen.push((*number, part.clone()));
                }
                self.check(&at, &precondition)?;
                let size = chosen.iter().map(|(_, part)| part.size).sum();
                let object = Object {
                    size,
                    etag: etag.clone(),
                    headers: begun.headers.clone(),
                    checksum,
                    modified_ms: self.now_ms,
                    version: VersionId::Null,
                    attributes: begun.attributes.clone(),
                    encryption: begun.encryption.clone(),
                    content: Content::Parts {
                        upload: upload.clone(),
                        parts: chosen
                            .iter()
                            .map(|(number, part)| (*number, part.size))
                            .collect(),
                    },
                };
                self.uploads.remove(&place);
                for (number, part) in chosen {
                    self.parts.insert((bucket, upload.clone(), number), part);
                }
                self.objects.insert(at, object);
                Ok(Reply::Written {
                    etag,
                    modified_ms: self.now_ms,
                    size,
                    version: None,
                })
            }
            Operation::Change(Change::AbortUpload {
                bucket,
                key,
                upload,
            }) => {
                let gone = self.uploads.remove(&(bucket, key, upload));
                gone.map(|_| Reply::Done).ok_or(MetadataError::NoSuchUpload)
            }
            Operation::ListUploads {
                bucket,
                prefix,
                after,
                limit,
            } => {
                let limit = limit.min(self.page_max) as usize;
                let mut uploads: Vec<Upload> = self
                    .uploads
                    .iter()
                    .filter(|((id, key, upload), _)| {
                        *id == bucket
                            && key.starts_with(&prefix)
                            && after.as_ref().is_none_or(|(after, behind)| {
                                key > after
                                    || (key == after && !behind.is_empty() && upload > behind)
                            })
                    })
                    .map(|(_, (upload, _))| upload.clone())
                    .take(limit + 1)
                    .collect();
                let more = uploads.len() > limit;
                uploads.truncate(limit);
                Ok(Reply::Uploads { uploads, more })
            }
            Operation::ListParts {
                bucket,
                key,
                upload,
                after,
                limit,
            } => {
                let limit = limit.min(self.page_max) as usize;
                let found = self.uploads.get(&(bucket, key, upload));
                let (upload, parts) = found.ok_or(MetadataError::NoSuchUpload)?;
                let mut listed: Vec<(u16, Part)> = parts
                    .iter()
                    .filter(|(number, _)| **number > after)
                    .map(|(number, part)| {
                        (
                            *number,
                            Part {
                                blocks: Vec::new(),
                                ..part.clone()
                            },
                        )
                    })
                    .take(limit + 1)
                    .collect();
                let more = listed.len() > limit;
                listed.truncate(limit);
                Ok(Reply::Parts {
                    upload: upload.clone(),
                    parts: listed,
                    more,
                })
            }
            other => Err(MetadataError::Refused(format!("{other:?}"))),
        }
    }
}

fn kind(operation: &Operation) -> &'static str {
    match operation {
        Operation::Authorize { .. } => "authorize",
        Operation::GetObject { .. } => "get",
        Operation::Change(Change::PutObject { .. }) => "put",
        _ => "other",
    }
}

fn is_read(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Authorize { .. }
            | Operation::GetObject { .. }
            | Operation::GetPart { .. }
            | Operation::GetUpload { .. }
            | Operation::GetNotification { .. }
            | Operation::ListBuckets { .. }
            | Operation::ListObjects { .. }
            | Operation::ListParts { .. }
            | Operation::ListUploads { .. }
    )
}

pub async fn serve(channel: Channel, state: Arc<Mutex<MetadataState>>, faults: Arc<Faults>) {
    serve_channel::<Metadata, _>(channel, move |call| {
        let (state, faults) = (state.clone(), faults.clone());
        async move {
            let reads = is_read(&call.operation);
            if reads && Faults::take(&faults.lose_metadata_read) {
                return None;
            }
            let puts = matches!(call.operation, Operation::Change(Change::PutObject { .. }));
            if puts && faults.hold_puts.load(Ordering::SeqCst) {
                faults.puts_held.fetch_add(1, Ordering::SeqCst);
                while faults.hold_puts.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            let answer = state.lock().unwrap().answer(call);
            if !reads && Faults::take(&faults.lose_metadata_write) {
                return None;
            }
            Some((answer, Vec::new()))
        }
    })
    .await;
}
