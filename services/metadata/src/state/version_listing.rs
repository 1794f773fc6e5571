//! The listing of versions: current objects and older versions lie in two ranges of rows, which are walked side by side.

use super::Outcome;
use super::changes::each;
use super::listing::{PAGE_BYTES_MAX, Room, Which, rolled_up};
use super::registry::is_open;
use super::rows::{self, ListedHead, ListedOlder, OBJECT_KEY_AT, Version};
use super::store::Rows;
use super::versions;
use crate::Error;
use protocol::metadata::{AfterVersion, BucketId, MetadataError, Reply, VersionEntry, VersionId};
use std::collections::VecDeque;
use std::ops::ControlFlow;

/// So many rows are taken out of a range at a time.
const CHUNK_MAX: usize = 64;

/// A version as a listing shows it.
struct Line {
    key: String,
    version: Version,
    modified_ms: u64,
    /// `None`: a delete marker.
    object: Option<Shown>,
}

/// What a listing shows of an object only.
struct Shown {
    size: u64,
    etag: String,
    checksum: Option<(String, bool)>,
}

impl Line {
    fn of_head(key: String, head: &ListedHead<'_>) -> Self {
        let checksum = head.checksum.as_ref();
        Self {
            key,
            version: head.version,
            modified_ms: head.modified_ms,
            object: Some(Shown {
                size: head.size,
                etag: head.etag.into(),
                checksum: checksum.map(|sum| (sum.algorithm.into(), sum.composite)),
            }),
        }
    }

    fn current(key: &[u8], value: &[u8]) -> Result<Self, Error> {
        let name = key.get(OBJECT_KEY_AT..).unwrap_or_default();
        let name = std::str::from_utf8(name).map_err(|_| Error::Damaged("object key"))?;
        Ok(Self::of_head(name.into(), &rows::decode_listed(value)?))
    }

    fn older(key: &[u8], value: &[u8]) -> Result<Self, Error> {
        let name = rows::key_of_older(key)?;
        Ok(match rows::decode_listed(value)? {
            ListedOlder::Object(head) => Self::of_head(name, &head),
            ListedOlder::Marker {
                version,
                modified_ms,
            } => Self {
                key: name,
                version,
                modified_ms,
                object: None,
            },
        })
    }

    fn entry(self, latest: bool) -> VersionEntry {
        let Self {
            key, modified_ms, ..
        } = self;
        let version = self.version.id();
        match self.object {
            Some(Shown {
                size,
                etag,
                checksum,
            }) => VersionEntry::Object {
                key,
                version,
                latest,
                size,
                etag,
                modified_ms,
                checksum,
            },
            None => VersionEntry::Marker {
                key,
                version,
                latest,
                modified_ms,
            },
        }
    }
}

/// One range of rows, read in chunks.
struct Walk<'a, R> {
    rows: &'a R,
    read: fn(&[u8], &[u8]) -> Result<Line, Error>,
    from: Vec<u8>,
    to: Vec<u8>,
    chunk: VecDeque<Line>,
}

impl<R: Rows> Walk<'_, R> {
    /// The next line, which stays.
    fn peek(&mut self) -> Result<Option<&Line>, Error> {
        if self.chunk.is_empty() && self.from < self.to {
            let mut last = None;
            each(self.rows, &self.from, &self.to, |key, value| {
                self.chunk.push_back((self.read)(key, value)?);
                if self.chunk.len() < CHUNK_MAX {
                    return Ok(ControlFlow::Continue(()));
                }
                last = Some(key.to_vec());
                Ok(ControlFlow::Break(()))
            })?;
            self.from = last.map_or_else(|| self.to.clone(), rows::next);
        }
        Ok(self.chunk.front())
    }

    /// Passes over every key that starts with `prefix`; `behind` is the row at which to go on if the chunk does not reach so far.
    fn pass_over(&mut self, prefix: &str, behind: Vec<u8>) {
        while let Some(line) = self.chunk.front() {
            if !line.key.starts_with(prefix) {
                return;
            }
            self.chunk.pop_front();
        }
        if self.from < behind {
            self.from = behind;
        }
    }
}

/// Both ranges of a bucket, and where the listing stands.
struct Both<'a, R> {
    bucket: BucketId,
    current: Walk<'a, R>,
    older: Walk<'a, R>,
}

impl<'a, R: Rows> Both<'a, R> {
    fn new(rows: &'a R, bucket: BucketId, prefix: &str) -> Self {
        let walk = |from: Vec<u8>, read| Walk {
            rows,
            read,
            to: rows::behind(from.clone()),
            from,
            chunk: VecDeque::new(),
        };
        Self {
            bucket,
            current: walk(rows::object(bucket, prefix), Line::current),
            older: walk(rows::older(bucket, prefix), Line::older),
        }
    }

    /// Begins behind the end of the page before. Answers the key within which that is, and the order behind which it goes on.
    fn begin_behind(
        &mut self,
        rows: &R,
        after: Option<&AfterVersion>,
    ) -> Result<Option<(String, u64)>, Error> {
        let bucket = self.bucket;
        let (current, older, within) = match after {
            None => return Ok(None),
            Some(AfterVersion::Prefix(prefix)) => (
                rows::behind(rows::object(bucket, prefix)),
                rows::behind(rows::older(bucket, prefix)),
                None,
            ),
            Some(AfterVersion::Key(key)) => (
                rows::next(rows::object(bucket, key)),
                rows::behind(rows::older_of(bucket, key)),
                None,
            ),
            Some(AfterVersion::Version(key, version)) => {
                let order = match version {
                    VersionId::Number(order) => Some(*order),
                    VersionId::Null => order_of_null(rows, bucket, key)?,
                };
                // If it ended since the page before, nobody knows its place: showing a version twice is better than passing one over.
                let within = order.map(|order| (key.clone(), order));
                (
                    rows::object(bucket, key),
                    rows::older_of(bucket, key),
                    within,
                )
            }
        };
        self.current.from = current.max(std::mem::take(&mut self.current.from));
        self.older.from = older.max(std::mem::take(&mut self.older.from));
        Ok(within)
    }

    /// The next version, and whether it is one of the current objects.
    fn next(&mut self) -> Result<Option<(Line, bool)>, Error> {
        let is_current = match (self.current.peek()?, self.older.peek()?) {
            (None, None) => return Ok(None),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            // The current version is the newest of its key.
            (Some(current), Some(older)) => current.key <= older.key,
        };
        let line = match is_current {
            true => self.current.chunk.pop_front(),
            false => self.older.chunk.pop_front(),
        };
        Ok(line.map(|line| (line, is_current)))
    }

    fn pass_over(&mut self, prefix: &str) {
        let bucket = self.bucket;
        self.current
            .pass_over(prefix, rows::behind(rows::object(bucket, prefix)));
        self.older
            .pass_over(prefix, rows::behind(rows::older(bucket, prefix)));
    }
}

fn order_of_null<R: Rows>(rows: &R, bucket: BucketId, key: &str) -> Result<Option<u64>, Error> {
    if let Some(head) = super::objects::head(rows, bucket, key)?
        && head.version.null
    {
        return Ok(Some(head.version.order));
    }
    let older = versions::older(rows, bucket, key, VersionId::Null)?;
    Ok(older.map(|older| older.version().order))
}

pub(super) fn versions<R: Rows>(
    rows: &R,
    bucket: BucketId,
    which: &Which<'_>,
    after: Option<&AfterVersion>,
    limit: u32,
) -> Result<Outcome, Error> {
    if !is_open(rows, bucket)? {
        return Ok(Err(MetadataError::NoSuchBucket));
    }
    if limit == 0 {
        return Ok(Ok(Reply::Versions {
            entries: Vec::new(),
            next: None,
        }));
    }
    let mut room = Room::new(limit, PAGE_BYTES_MAX);
    let mut both = Both::new(rows, bucket, which.prefix);
    let within = both.begin_behind(rows, after)?;
    let mut entries: Vec<VersionEntry> = Vec::new();
    let mut more = false;
    // The key whose newest version was seen last, on this page or on the one before.
    let mut seen: Option<String> = within.as_ref().map(|(key, _)| key.clone());
    while let Some((line, is_current)) = both.next()? {
        let shown_before =
            |(key, order): &(String, u64)| line.key == *key && line.version.order >= *order;
        if within.as_ref().is_some_and(shown_before) {
            continue;
        }
        if let Some(common) = rolled_up(&line.key, which.prefix, which.delimiter) {
            if !room.take(common.len()) {
                more = true;
                break;
            }
            both.pass_over(common);
            entries.push(VersionEntry::Prefix(common.into()));
            continue;
        }
        let etag = line.object.as_ref().map_or(0, |shown| shown.etag.len());
        if !room.take(line.key.len() + etag) {
            more = true;
            break;
        }
        let latest = is_current || seen.as_ref() != Some(&line.key);
        seen = Some(line.key.clone());
        entries.push(line.entry(latest));
    }
    let last = entries.last().filter(|_| more);
    let next = last.map(|entry| match entry {
        VersionEntry::Prefix(prefix) => AfterVersion::Prefix(prefix.clone()),
        VersionEntry::Object { key, version, .. } | VersionEntry::Marker { key, version, .. } => {
            AfterVersion::Version(key.clone(), *version)
        }
    });
    Ok(Ok(Reply::Versions { entries, next }))
}
