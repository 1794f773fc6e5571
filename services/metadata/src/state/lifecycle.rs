//! What a bucket's lifecycle removes: found in bounded steps over the rows as they are, removed one by one if it is still what was found.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html>

use super::changes::{self, Changes, each};
use super::notifications::By;
use super::objects;
use super::rows::{self, ObjectHead, Older, UploadRow};
use super::store::Rows;
use super::{AnyChange, Outcome};
use crate::Error;
use protocol::metadata::{BucketId, Change, Precondition, Reply};
use protocol::settings::{Expiration, Lifecycle, LifecycleRule};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// Where a look goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    phase: Phase,
    /// The first row to look at.
    from: Vec<u8>,
    /// Of the versions of one key: what has been seen of them.
    seen: Option<Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Objects,
    Older,
    Uploads,
}

/// The versions of a key from the newest down to here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    key: String,
    /// When the version above the next was made; `None` above the newest.
    newer_ms: Option<u64>,
    /// Noncurrent versions so far.
    noncurrent: u32,
}

/// Something that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// A version or a delete marker.
    Version {
        /// Its key.
        key: String,
        /// What it was when it was found.
        what: Expired,
    },
    /// An upload under way.
    Upload {
        /// The object's key.
        key: String,
        /// Its name.
        upload: String,
    },
}

impl Due {
    /// What removes it.
    pub fn removal(self, bucket: BucketId) -> AnyChange {
        match self {
            Self::Version { key, what } => AnyChange::Expire { bucket, key, what },
            Self::Upload { key, upload } => AnyChange::Asked(Change::AbortUpload {
                bucket,
                key,
                upload,
            }),
        }
    }
}

/// What was found, so that nothing else is removed in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expired {
    /// The current version.
    Current {
        /// Its order.
        order: u64,
        /// When it was written.
        modified_ms: u64,
    },
    /// A version or delete marker that is not current.
    Noncurrent {
        /// Its order.
        order: u64,
    },
    /// A delete marker that is the only version.
    Marker {
        /// Its order.
        order: u64,
    },
}

/// One look.
#[derive(Debug, Default)]
pub struct Look {
    /// What is due.
    pub due: Vec<Due>,
    /// How many rows were looked at.
    pub rows: u64,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

impl Cursor {
    /// The beginning of a bucket.
    pub fn start(bucket: BucketId) -> Self {
        Self::phase(bucket, Phase::Objects)
    }

    fn phase(bucket: BucketId, phase: Phase) -> Self {
        let from = match phase {
            Phase::Objects => rows::object(bucket, ""),
            Phase::Older => rows::older(bucket, ""),
            Phase::Uploads => rows::listed_uploads(bucket, ""),
        };
        Self {
            phase,
            from,
            seen: None,
        }
    }
}

/// Looks at no more than `limit` rows of a bucket from `cursor` on.
pub fn look<R: Rows>(
    rows: &R,
    bucket: BucketId,
    lifecycle: &Lifecycle,
    cursor: Cursor,
    now_ms: u64,
    limit: u64,
) -> Result<Look, Error> {
    let rules: Vec<&LifecycleRule> = lifecycle.rules.iter().filter(|rule| rule.enabled).collect();
    let phase = cursor.phase;
    let mut looking = Looking {
        rows,
        bucket,
        rules: &rules,
        now_ms,
        look: Look::default(),
    };
    let end = rows::behind(Cursor::phase(bucket, phase).from);
    let mut seen = cursor.seen;
    let mut stopped = None;
    if looking.is_wanted(phase) {
        each(rows, &cursor.from, &end, |row, value| {
            if looking.look.rows == limit {
                stopped = Some(row.to_vec());
                return Ok(ControlFlow::Break(()));
            }
            looking.look.rows += 1;
            match phase {
                Phase::Objects => looking.object(row, value)?,
                Phase::Older => looking.older(row, value, &mut seen)?,
                Phase::Uploads => looking.upload(row)?,
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    let mut look = looking.look;
    look.next = match (stopped, phase) {
        (Some(from), phase) => Some(Cursor { phase, from, seen }),
        (None, Phase::Objects) => Some(Cursor::phase(bucket, Phase::Older)),
        (None, Phase::Older) => Some(Cursor::phase(bucket, Phase::Uploads)),
        (None, Phase::Uploads) => None,
    };
    Ok(look)
}

/// One look under way.
struct Looking<'a, R> {
    rows: &'a R,
    bucket: BucketId,
    rules: &'a [&'a LifecycleRule],
    now_ms: u64,
    look: Look,
}

impl<R: Rows> Looking<'_, R> {
    /// Whether any rule is about the rows of a phase.
    fn is_wanted(&self, phase: Phase) -> bool {
        self.rules.iter().any(|rule| match phase {
            Phase::Objects => {
                matches!(
                    rule.expiration,
                    Some(Expiration::Days(_) | Expiration::Date(_))
                )
            }
            Phase::Older => {
                rule.noncurrent.is_some()
                    || matches!(
                        rule.expiration,
                        Some(Expiration::Days(_) | Expiration::DeleteMarker)
                    )
            }
            Phase::Uploads => rule.abort_uploads_days.is_some(),
        })
    }

    fn any(&self, holds: impl Fn(&LifecycleRule) -> bool) -> bool {
        self.rules.iter().any(|rule| holds(rule))
    }

    fn due(&mut self, key: String, what: Expired) {
        self.look.due.push(Due::Version { key, what });
    }

    fn object(&mut self, row: &[u8], value: &[u8]) -> Result<(), Error> {
        let key = row.get(rows::OBJECT_KEY_AT..).unwrap_or_default();
        let key = std::str::from_utf8(key).map_err(|_| Error::Damaged("object key"))?;
        if !self.any(|rule| key.starts_with(&rule.filter.prefix)) {
            return Ok(());
        }
        let head: ObjectHead = rows::decode(value, "object")?;
        let now_ms = self.now_ms;
        let is_due = self.any(|rule| {
            is_meant(rule, key, &head)
                && match rule.expiration {
                    Some(Expiration::Days(days)) => now_ms >= after(head.modified_ms, days),
                    Some(Expiration::Date(date_ms)) => now_ms >= date_ms,
                    Some(Expiration::DeleteMarker) | None => false,
                }
        });
        if is_due {
            let (order, modified_ms) = (head.version.order, head.modified_ms);
            self.due(key.to_owned(), Expired::Current { order, modified_ms });
        }
        Ok(())
    }

    fn older(&mut self, row: &[u8], value: &[u8], seen: &mut Option<Seen>) -> Result<(), Error> {
        let key = rows::key_of_older(row)?;
        let older: Older = rows::decode(value, "version")?;
        let order = older.version().order;
        let modified_ms = match &older {
            Older::Object(head) => head.modified_ms,
            Older::Marker { modified_ms, .. } => *modified_ms,
        };
        let mut above = match seen.take().filter(|seen| seen.key == key) {
            Some(seen) => seen,
            None => Seen {
                newer_ms: objects::head(self.rows, self.bucket, &key)?.map(|head| head.modified_ms),
                key: key.clone(),
                noncurrent: 0,
            },
        };
        match above.newer_ms {
            // The newest, and no object above it: a current delete marker.
            None => {
                let only = is_only_version(self.rows, self.bucket, &key, order)?;
                if only && self.marker_is_due(&key, modified_ms) {
                    self.due(key, Expired::Marker { order });
                }
            }
            Some(newer_ms) => {
                let (rank, now_ms) = (above.noncurrent, self.now_ms);
                above.noncurrent += 1;
                let is_due = self.any(|rule| {
                    let meant = match &older {
                        Older::Object(head) => is_meant(rule, &key, head),
                        Older::Marker { .. } => is_meant_marker(rule, &key),
                    };
                    meant
                        && rule.noncurrent.is_some_and(|noncurrent| {
                            rank >= noncurrent.keep.unwrap_or(0)
                                && now_ms >= after(newer_ms, noncurrent.days)
                        })
                });
                if is_due {
                    self.due(key, Expired::Noncurrent { order });
                }
            }
        }
        above.newer_ms = Some(modified_ms);
        *seen = Some(above);
        Ok(())
    }

    /// A marker that is alone goes by a rule of its own, or by one that removes objects of its age.
    fn marker_is_due(&self, key: &str, modified_ms: u64) -> bool {
        self.any(|rule| {
            is_meant_marker(rule, key)
                && match rule.expiration {
                    Some(Expiration::DeleteMarker) => true,
                    Some(Expiration::Days(days)) => self.now_ms >= after(modified_ms, days),
                    Some(Expiration::Date(_)) | None => false,
                }
        })
    }

    fn upload(&mut self, row: &[u8]) -> Result<(), Error> {
        let upload = rows::upload_of_listed(row)?.to_owned();
        let found: Option<UploadRow> =
            changes::get(self.rows, &rows::upload(self.bucket, &upload), "upload")?;
        let Some(UploadRow {
            key, initiated_ms, ..
        }) = found
        else {
            return Ok(());
        };
        let now_ms = self.now_ms;
        let is_due = self.any(|rule| {
            key.starts_with(&rule.filter.prefix)
                && rule
                    .abort_uploads_days
                    .is_some_and(|days| now_ms >= after(initiated_ms, days))
        });
        if is_due {
            self.look.due.push(Due::Upload { key, upload });
        }
        Ok(())
    }
}

/// So many days after `from_ms`, at the following midnight.
fn after(from_ms: u64, days: u32) -> u64 {
    let due_ms = from_ms.saturating_add(u64::from(days).saturating_mul(DAY_MS));
    due_ms.div_ceil(DAY_MS).saturating_mul(DAY_MS)
}

fn is_meant(rule: &LifecycleRule, key: &str, head: &ObjectHead) -> bool {
    let filter = &rule.filter;
    let tags = &head.attributes.tags;
    key.starts_with(&filter.prefix)
        && filter.larger_than.is_none_or(|bytes| head.size > bytes)
        && filter.smaller_than.is_none_or(|bytes| head.size < bytes)
        && filter.tags.iter().all(|tag| tags.contains(tag))
}

/// A delete marker has neither bytes nor tags.
fn is_meant_marker(rule: &LifecycleRule, key: &str) -> bool {
    let filter = &rule.filter;
    let of_objects =
        filter.larger_than.is_some() || filter.smaller_than.is_some() || !filter.tags.is_empty();
    key.starts_with(&filter.prefix) && !of_objects
}

/// Whether the `v` row of that order is the only version of its key.
fn is_only_version<R: Rows>(
    rows: &R,
    bucket: BucketId,
    key: &str,
    order: u64,
) -> Result<bool, Error> {
    if objects::head(rows, bucket, key)?.is_some() {
        return Ok(false);
    }
    let from = rows::older_of(bucket, key);
    let (mut found, mut others) = (false, false);
    each(rows, &from, &rows::behind(from.clone()), |_, value| {
        let older: Older = rows::decode(value, "version")?;
        match older.version().order == order {
            true => found = true,
            false => others = true,
        }
        Ok(if others {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    Ok(found && !others)
}

/// Removes what was found to be due, if it is still that: by the way of every deletion, so that versions and protection count.
pub(super) fn expire<R: Rows>(
    changes: &mut Changes<'_, R>,
    bucket: BucketId,
    key: &str,
    what: Expired,
) -> Result<Outcome, Error> {
    let rows = changes.rows;
    let current = objects::head(rows, bucket, key)?;
    let version = match what {
        Expired::Current { order, modified_ms } => {
            let same = current
                .is_some_and(|one| one.version.order == order && one.modified_ms == modified_ms);
            same.then_some(None)
        }
        Expired::Noncurrent { order } => {
            let row = rows::older_version(bucket, key, order);
            let older: Option<Older> = changes::get(rows, &row, "version")?;
            // With a delete marker on top there is something above each older version; without, the object is.
            let below = current.is_some() || !is_newest(rows, bucket, key, order)?;
            older
                .filter(|_| below)
                .map(|older| Some(older.version().id()))
        }
        Expired::Marker { order } => {
            let row = rows::older_version(bucket, key, order);
            let older: Option<Older> = changes::get(rows, &row, "version")?;
            let only = is_only_version(rows, bucket, key, order)?;
            older
                .filter(|older| only && matches!(older, Older::Marker { .. }))
                .map(|older| Some(older.version().id()))
        }
    };
    match version {
        Some(version) => {
            let deletion = objects::Deletion {
                version,
                precondition: &Precondition::None,
                bypass: false,
                by: By::Lifecycle,
            };
            objects::delete(changes, bucket, key, &deletion)
        }
        None => Ok(Ok(Reply::Done)),
    }
}

/// Whether the `v` row of that order is the first of its key.
fn is_newest<R: Rows>(rows: &R, bucket: BucketId, key: &str, order: u64) -> Result<bool, Error> {
    let from = rows::older_of(bucket, key);
    let mut newest = None;
    each(rows, &from, &rows::behind(from.clone()), |_, value| {
        let older: Older = rows::decode(value, "version")?;
        newest = Some(older.version().order);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(newest == Some(order))
}
