//! Pages: objects, uploads, parts, buckets and keys in order, each page bounded by entries and by the bytes of a message.

use super::changes::each;
use super::objects::absent;
use super::registry::{find_bucket, find_key, is_open};
use super::rows::{self, ListedHead, OBJECT_KEY_AT, PartHead, UploadRow};
use super::store::Rows;
use super::uploads::{find, show};
use super::{Outcome, changes};
use crate::Error;
use protocol::metadata::{
    AccessKey, After, Bucket, BucketId, BucketUsage, Entries, Entry, MetadataError, PAGE_MAX, Part,
    Reply, Rights, Upload,
};
use protocol::wire::MESSAGE_BYTES_MAX;
use std::ops::ControlFlow::{self, Break, Continue};

/// What the entries of one page may take of a message. The rest is for the header and for `next`, which is a key.
pub(super) const PAGE_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 4 * 1024;
/// The most rights that are shown of one key.
const RIGHTS_SHOWN_MAX: usize = 1_000;
/// So many keys behind a common prefix are walked over; if it goes on, the next key is sought. A seek costs as much as about ten steps.
const WALK_MAX: usize = 16;

/// Counts what a page holds.
pub(crate) struct Room {
    entries: usize,
    bytes: usize,
}

impl Room {
    fn of(limit: u32) -> Self {
        Self::new(limit, PAGE_BYTES_MAX)
    }

    pub(super) fn new(limit: u32, bytes: usize) -> Self {
        Self {
            entries: limit.min(PAGE_MAX) as usize,
            bytes,
        }
    }

    /// For so many entries, as long as they fit a message.
    pub(crate) fn of_page(entries_max: usize) -> Self {
        Self {
            entries: entries_max,
            bytes: PAGE_BYTES_MAX,
        }
    }

    /// Takes place for an entry with so many bytes of text, if there is.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        // Numbers, lengths and tags of an entry are below 64 bytes.
        let bytes = bytes + 64;
        if self.entries == 0 || self.bytes < bytes {
            return false;
        }
        self.entries -= 1;
        self.bytes -= bytes;
        true
    }
}

/// Which objects a listing shows.
pub(super) struct Which<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: &'a str,
}

pub(super) fn objects<R: Rows>(
    rows: &R,
    bucket: BucketId,
    which: &Which<'_>,
    after: Option<&After>,
    limit: u32,
) -> Result<Outcome, Error> {
    if !is_open(rows, bucket)? {
        return Ok(Err(MetadataError::NoSuchBucket));
    }
    let mut page = Page {
        // So that it need not grow: about what a thousand short keys take.
        entries: Entries::with_capacity((limit.min(PAGE_MAX) as usize) * 96),
        entries_max: limit.min(PAGE_MAX) as usize,
        next: None,
        last: None,
        within: None,
    };
    let start = rows::object(bucket, which.prefix);
    let end = rows::behind(start.clone());
    let mut from = match after {
        None => start,
        Some(After::Key(key)) => start.max(rows::next(rows::object(bucket, key))),
        Some(After::Prefix(prefix)) => start.max(rows::behind(rows::object(bucket, prefix))),
    };
    if limit == 0 {
        return Ok(Ok(Reply::Page {
            entries: Entries::default(),
            next: None,
        }));
    }
    loop {
        let mut walked = 0;
        let mut sought = None;
        each(rows, &from, &end, |key, value| {
            let name = key.get(OBJECT_KEY_AT..).unwrap_or_default();
            let name = std::str::from_utf8(name).map_err(|_| Error::Damaged("object key"))?;
            if let Some(prefix) = page
                .within
                .as_deref()
                .filter(|prefix| name.starts_with(*prefix))
            {
                walked += 1;
                if walked < WALK_MAX {
                    return Ok(Continue(()));
                }
                sought = Some(rows::behind(rows::object(bucket, prefix)));
                return Ok(Break(()));
            }
            page.show(which, name, value)
        })?;
        match sought {
            Some(behind) => from = behind,
            None => break,
        }
    }
    Ok(Ok(Reply::Page {
        entries: page.entries,
        next: page.next,
    }))
}

/// The common prefix in which a key is that starts with `prefix`: up to and with the first delimiter behind it.
pub(super) fn rolled_up<'n>(name: &'n str, prefix: &str, delimiter: &str) -> Option<&'n str> {
    if delimiter.is_empty() {
        return None;
    }
    let at = name.get(prefix.len()..)?.find(delimiter)?;
    name.get(..prefix.len() + at + delimiter.len())
}

/// A page of objects in the making.
struct Page {
    entries: Entries,
    entries_max: usize,
    /// Where the last entry ends.
    last: Option<After>,
    /// The same once it is known that more follow.
    next: Option<After>,
    /// The common prefix that was shown last: keys in it are passed over.
    within: Option<String>,
}

impl Page {
    /// Shows the object of that key, or the common prefix in which it is.
    fn show(
        &mut self,
        which: &Which<'_>,
        name: &str,
        value: &[u8],
    ) -> Result<ControlFlow<()>, Error> {
        if let Some(common) = rolled_up(name, which.prefix, which.delimiter) {
            let flow = self.add(&Entry::Prefix(common));
            if flow.is_continue() {
                self.within = Some(common.into());
            }
            return Ok(flow);
        }
        let head: ListedHead<'_> = rows::decode_listed(value)?;
        Ok(self.add(&Entry::Object {
            key: name,
            size: head.size,
            etag: head.etag,
            modified_ms: head.modified_ms,
            checksum: head.checksum.map(|sum| (sum.algorithm, sum.composite)),
        }))
    }

    fn add(&mut self, entry: &Entry<&str>) -> ControlFlow<()> {
        let has_room = self.entries.count() < self.entries_max;
        if has_room && self.entries.push(entry, PAGE_BYTES_MAX) {
            // Only the last entry of a page is where the next one begins.
            if self.entries.count() == self.entries_max {
                self.last = Some(entry.after());
            }
            return Continue(());
        }
        self.next = match self.last.take() {
            Some(last) => Some(last),
            // The page is full of bytes before it is full of entries, which is rare: the last one is looked for.
            None => self
                .entries
                .iter()
                .filter_map(Result::ok)
                .last()
                .map(|last| last.after()),
        };
        Break(())
    }
}

pub(super) fn uploads<R: Rows>(
    rows: &R,
    bucket: BucketId,
    prefix: &str,
    after: Option<(&str, &str)>,
    limit: u32,
) -> Result<Outcome, Error> {
    if !is_open(rows, bucket)? {
        return Ok(Err(MetadataError::NoSuchBucket));
    }
    let start = rows::listed_uploads(bucket, prefix);
    let end = rows::behind(start.clone());
    let from = match after {
        None => start,
        Some((key, "")) => start.max(rows::behind(rows::listed_uploads_of(bucket, key))),
        Some((key, upload)) => start.max(match find(rows, bucket, key, upload)? {
            Some(row) => rows::next(rows::listed_upload(bucket, key, row.initiated_ms, upload)),
            // It ended since the page before, and with it the place where it stood. Showing an upload of that key twice
            // is better than passing one over.
            None => rows::listed_uploads_of(bucket, key),
        }),
    };
    let mut room = Room::of(limit);
    let (mut uploads, mut more): (Vec<Upload>, bool) = (Vec::new(), false);
    each(rows, &from, &end, |key, _| {
        let name = rows::upload_of_listed(key)?;
        let row: UploadRow = changes::get(rows, &rows::upload(bucket, name), "upload")?
            .ok_or(Error::Damaged("upload, which is missing"))?;
        let headers: usize = row
            .headers
            .iter()
            .chain(&row.attributes.tags)
            .map(|(name, value)| name.len() + value.len() + 4)
            .sum();
        if !room.take(name.len() + row.key.len() + headers) {
            more = limit > 0;
            return Ok(Break(()));
        }
        uploads.push(show(row, name));
        Ok(Continue(()))
    })?;
    Ok(Ok(Reply::Uploads { uploads, more }))
}

pub(super) fn parts<R: Rows>(
    rows: &R,
    bucket: BucketId,
    (key, upload): (&str, &str),
    after: u16,
    limit: u32,
) -> Result<Outcome, Error> {
    let Some(row) = find(rows, bucket, key, upload)? else {
        return absent(rows, bucket, MetadataError::NoSuchUpload);
    };
    let upload_shown = show(row, upload);
    // The upload itself goes along.
    let room = Room::new(limit, PAGE_BYTES_MAX - 16 * 1024);
    let (parts, more) = parts_behind(rows, bucket, upload, after, room)?;
    Ok(Ok(Reply::Parts {
        upload: upload_shown,
        parts,
        more: more && limit > 0,
    }))
}

/// The parts of an upload that was completed.
pub(super) fn object_parts<R: Rows>(
    rows: &R,
    bucket: BucketId,
    upload: &str,
    after: u16,
    limit: u32,
) -> Result<Outcome, Error> {
    let (parts, more) = parts_behind(rows, bucket, upload, after, Room::of(limit))?;
    Ok(Ok(Reply::ObjectParts {
        parts,
        more: more && limit > 0,
    }))
}

/// As many parts behind the number `after` as there is room for, without their blocks, and whether more follow.
fn parts_behind<R: Rows>(
    rows: &R,
    bucket: BucketId,
    upload: &str,
    after: u16,
    mut room: Room,
) -> Result<(Vec<(u16, Part)>, bool), Error> {
    let end = rows::behind(rows::parts(bucket, upload));
    let from = rows::next(rows::part(bucket, upload, after));
    let (mut parts, mut more) = (Vec::new(), false);
    each(rows, &from, &end, |key, value| {
        let head: PartHead = rows::decode(value, "part")?;
        let checksum = head
            .checksum
            .as_ref()
            .map_or(0, |sum| sum.algorithm.len() + sum.value.len());
        if !room.take(head.etag.len() + checksum) {
            more = true;
            return Ok(Break(()));
        }
        let part = Part {
            size: head.size,
            etag: head.etag,
            checksum: head.checksum,
            modified_ms: head.modified_ms,
            salt: head.salt,
            blocks: Vec::new(),
        };
        parts.push((rows::part_number(key)?, part));
        Ok(Continue(()))
    })?;
    Ok((parts, more))
}

pub(super) fn buckets<R: Rows>(
    rows: &R,
    access_key: Option<&str>,
    after: Option<&str>,
    limit: u32,
) -> Result<Outcome, Error> {
    let restricted = match access_key {
        None => None,
        Some(id) => match find_key(rows, id)? {
            None => return Ok(Err(MetadataError::NoSuchAccessKey)),
            Some(key) => Some(id).filter(|_| !key.root),
        },
    };
    let mut room = Room::of(limit);
    let (mut buckets, mut more): (Vec<(Bucket, BucketUsage)>, bool) = (Vec::new(), false);
    let mut show = |bucket: Bucket| {
        // The hash key, and four numbers of usage.
        let aliases: usize = bucket.aliases.iter().map(|alias| alias.len() + 2).sum();
        if !room.take(bucket.name.len() + bucket.owner.len() + aliases + 96) {
            more = limit > 0;
            return Break(());
        }
        buckets.push((bucket, BucketUsage::default()));
        Continue(())
    };
    let start = match restricted {
        None => rows::bucket_name(""),
        Some(id) => rows::rights(id, ""),
    };
    let end = rows::behind(start.clone());
    let from = match (after, restricted) {
        (None, _) => start.clone(),
        (Some(after), None) => rows::next(rows::bucket_name(after)),
        (Some(after), Some(id)) => rows::next(rows::rights(id, after)),
    };
    each(rows, &from, &end, |key, value| {
        if restricted.is_none() {
            return Ok(show(rows::decode(value, "bucket")?));
        }
        let name = key.get(start.len()..).unwrap_or_default();
        let name = std::str::from_utf8(name).map_err(|_| Error::Damaged("rights"))?;
        // Rights go with their bucket, so it is there.
        let bucket = find_bucket(rows, name)?.ok_or(Error::Damaged("bucket of a right"))?;
        Ok(show(bucket))
    })?;
    Ok(Ok(Reply::Buckets { buckets, more }))
}

pub(super) fn keys<R: Rows>(rows: &R, after: Option<&str>, limit: u32) -> Result<Outcome, Error> {
    let start = rows::access_key("");
    let end = rows::behind(start.clone());
    let from = after.map_or(start, |after| rows::next(rows::access_key(after)));
    let mut room = Room::of(limit);
    let (mut keys, mut more): (Vec<(AccessKey, Vec<(String, Rights)>)>, bool) = (Vec::new(), false);
    each(rows, &from, &end, |_, value| {
        let mut key: AccessKey = rows::decode(value, "access key")?;
        key.secret_key.clear();
        let rights = rights_of(rows, &key.access_key)?;
        let bytes: usize = rights.iter().map(|(bucket, _)| bucket.len() + 8).sum();
        if !room.take(key.access_key.len() + key.name.len() + bytes) {
            more = limit > 0;
            return Ok(Break(()));
        }
        keys.push((key, rights));
        Ok(Continue(()))
    })?;
    Ok(Ok(Reply::Keys { keys, more }))
}

/// A key's rights in order of the buckets, as many as are shown.
fn rights_of<R: Rows>(rows: &R, access_key: &str) -> Result<Vec<(String, Rights)>, Error> {
    let start = rows::rights(access_key, "");
    let mut room = Room::of(PAGE_MAX);
    // The key itself goes along.
    room.bytes -= 1024;
    let mut rights = Vec::new();
    each(rows, &start, &rows::behind(start.clone()), |key, value| {
        let bucket = key.get(start.len()..).unwrap_or_default();
        let bucket = std::str::from_utf8(bucket).map_err(|_| Error::Damaged("rights"))?;
        if rights.len() == RIGHTS_SHOWN_MAX || !room.take(bucket.len()) {
            return Ok(Break(()));
        }
        rights.push((bucket.to_owned(), rows::decode(value, "rights")?));
        Ok(Continue(()))
    })?;
    Ok(rights)
}
