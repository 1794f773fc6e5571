//! The bounds of the protocol, checked where calls come in: what passes here may enter the log.

use super::rows::{self, UPLOAD_BYTES_MAX};
use object_encryption::sealed_bytes;
use protocol::block::{BLOCK_BYTES_MAX, BlockRef};
use protocol::metadata::{
    AccessKey, AttributeChange, BLOCKS_MAX, Change, Checksum, Content, EVENTS_PAGE_MAX, Encryption,
    EventKind, HEADERS_BYTES_MAX, INLINE_BYTES_MAX, INVITATION_MS_MAX, INVITATION_MS_MIN,
    KEY_BYTES_MAX, KeySource, MetadataError, NOTIFICATION_RULES_MAX, NewObject, Notification,
    Operation, PARTS_MAX, Part, Precondition, TAG_NAME_BYTES_MAX, TAG_VALUE_BYTES_MAX, TAGS_MAX,
    TOKEN_BYTES_MAX, Versioning, is_webhook_name,
};
use protocol::settings::{
    LIFECYCLE_RULES_MAX, Lifecycle, POLICY_BYTES_MAX, SETTING_BYTES_MAX, SettingKind,
};

/// The longest name of a bucket or a key, and the longest access key, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// The longest name of a notification's rule: S3's 255 characters of UTF-8.
const RULE_NAME_BYTES_MAX: usize = 255 * 4;
/// The most events that one rule may list: there are fewer to tell apart.
const EVENT_PATTERNS_MAX: usize = 32;
/// The longest ETag or checksum, in bytes.
const DIGEST_BYTES_MAX: usize = 128;

/// Whether a call keeps to the bounds; [`MetadataError::Refused`] says which one it breaks.
pub fn check(operation: &Operation) -> Result<(), MetadataError> {
    match operation {
        Operation::CreateBucket { name, .. } => self::name(name, "bucket name"),
        Operation::PutVersioning { versioning, .. } => bound(
            *versioning != Versioning::Off,
            "versioning, which can be suspended and not be undone,",
        ),
        Operation::NextEvents { webhook } => self::webhook(webhook),
        Operation::ForgetEvents { webhook, events } => {
            self::webhook(webhook)?;
            bound(events.len() <= EVENTS_PAGE_MAX, "count of events")
        }
        Operation::Invite { for_ms } => bound(
            (INVITATION_MS_MIN..=INVITATION_MS_MAX).contains(for_ms),
            "time of an invitation",
        ),
        Operation::Change(change) => check_change(change),
        _ => Ok(()),
    }
}

fn check_change(change: &Change) -> Result<(), MetadataError> {
    match change {
        Change::FirstKey { key } | Change::CreateKey { key } => access_key(key),
        Change::AddAlias { name, alias } | Change::RemoveAlias { name, alias } => {
            self::name(name, "bucket name")?;
            self::name(alias, "alias")
        }
        Change::SetKeyPolicy { access_key, policy } => {
            self::name(access_key, "access key")?;
            let bytes = policy.as_ref().map_or(0, String::len);
            bound(bytes <= POLICY_BYTES_MAX, "policy")
        }
        Change::SetBucketSetting {
            name,
            kind,
            document,
            ..
        } => {
            self::name(name, "bucket name")?;
            setting(*kind, document.as_deref())
        }
        Change::PutObject {
            key,
            object: new,
            precondition,
            event,
            ..
        } => {
            object_key(key)?;
            let puts = [EventKind::Put, EventKind::Post, EventKind::Copy];
            bound(puts.contains(event), "event of a put")?;
            self::precondition(precondition)?;
            object(new)
        }
        Change::DeleteObject {
            key, precondition, ..
        } => {
            object_key(key)?;
            self::precondition(precondition)
        }
        Change::ChangeAttributes { key, change, .. } => {
            object_key(key)?;
            match change {
                AttributeChange::Tags(list) => tags(list),
                AttributeChange::Retention { .. } | AttributeChange::LegalHold(_) => Ok(()),
            }
        }
        Change::RenameObject {
            source,
            key,
            source_conditions,
            conditions,
            token,
            ..
        } => {
            object_key(source)?;
            object_key(key)?;
            let etags = [source_conditions, conditions]
                .into_iter()
                .flat_map(|conditions| [&conditions.if_match, &conditions.if_none_match]);
            let longest = etags.flatten().map(String::len).max();
            bound(longest.unwrap_or(0) <= KEY_BYTES_MAX, "ETag of a condition")?;
            let token = token.as_ref().map_or(0, String::len);
            bound(token <= TOKEN_BYTES_MAX, "client token")
        }
        Change::CreateUpload { upload, .. } => {
            object_key(&upload.key)?;
            headers(&upload.headers)?;
            tags(&upload.attributes.tags)?;
            encryption(upload.encryption.as_ref())?;
            let algorithm = upload
                .checksum
                .as_ref()
                .map(|(algorithm, _)| algorithm.len());
            bound(
                algorithm.unwrap_or(0) <= DIGEST_BYTES_MAX,
                "checksum algorithm",
            )?;
            upload_name(&upload.upload)
        }
        Change::PutPart {
            key,
            upload,
            number,
            part,
            ..
        } => {
            object_key(key)?;
            upload_name(upload)?;
            bound((1..=PARTS_MAX).contains(number), "part number")?;
            self::part(part)
        }
        Change::CompleteUpload {
            key,
            upload,
            parts,
            etag,
            checksum: sum,
            precondition,
            ..
        } => {
            object_key(key)?;
            upload_name(upload)?;
            bound(
                !parts.is_empty() && parts.len() <= usize::from(PARTS_MAX),
                "count of parts",
            )?;
            bound(parts.is_sorted_by(|one, next| one < next), "order of parts")?;
            bound(etag.len() <= DIGEST_BYTES_MAX, "ETag")?;
            checksum(sum.as_ref())?;
            self::precondition(precondition)
        }
        Change::AbortUpload { key, upload, .. } => {
            object_key(key)?;
            upload_name(upload)
        }
        Change::PutNotification { notification, .. } => self::notification(notification),
        Change::DeleteKey { .. }
        | Change::SetRights { .. }
        | Change::PutObjectLock { .. }
        | Change::SetQuota { .. } => Ok(()),
    }
}

/// What travels in an answer to Authorize is text within its own bounds, and what metadata acts on can be read.
fn setting(kind: SettingKind, document: Option<&[u8]>) -> Result<(), MetadataError> {
    let Some(document) = document else {
        return Ok(());
    };
    bound(document.len() <= SETTING_BYTES_MAX, "setting")?;
    match kind {
        SettingKind::Policy | SettingKind::PublicAccessBlock => {
            bound(document.len() <= POLICY_BYTES_MAX, "policy")?;
            bound(std::str::from_utf8(document).is_ok(), "text of a policy")
        }
        SettingKind::Lifecycle => {
            let lifecycle = rows::decode::<Lifecycle>(document, "lifecycle");
            let rules = lifecycle.map_or(usize::MAX, |lifecycle| lifecycle.rules.len());
            bound(rules <= LIFECYCLE_RULES_MAX, "lifecycle")
        }
        _ => Ok(()),
    }
}

/// As a whole it is bounded as other settings are, so that it fits a message.
fn notification(notification: &Notification) -> Result<(), MetadataError> {
    let rules = &notification.rules;
    bound(
        rules.len() <= NOTIFICATION_RULES_MAX,
        "count of notifications",
    )?;
    for rule in rules {
        webhook(&rule.webhook)?;
        bound(
            rule.id.len() <= RULE_NAME_BYTES_MAX,
            "name of a notification",
        )?;
        let events = 1..=EVENT_PATTERNS_MAX;
        bound(
            events.contains(&rule.events.len()),
            "count of a notification's events",
        )?;
        let filters = [&rule.prefix, &rule.suffix].into_iter().flatten();
        let longest = filters.map(String::len).max();
        bound(
            longest.unwrap_or(0) <= KEY_BYTES_MAX,
            "filter of a notification",
        )?;
    }
    let encoded = rows::encode(notification).map_or(usize::MAX, |bytes| bytes.len());
    bound(encoded <= SETTING_BYTES_MAX, "notification")
}

fn webhook(name: &str) -> Result<(), MetadataError> {
    bound(is_webhook_name(name), "name of a webhook")
}

fn bound(holds: bool, what: &str) -> Result<(), MetadataError> {
    if holds {
        Ok(())
    } else {
        Err(MetadataError::Refused(format!("{what} out of bounds")))
    }
}

/// Names stand in rows' keys with a 0 behind them.
fn name(name: &str, what: &str) -> Result<(), MetadataError> {
    let bounded = !name.is_empty() && name.len() <= NAME_BYTES_MAX;
    bound(bounded && !name.contains('\0'), what)
}

fn access_key(key: &AccessKey) -> Result<(), MetadataError> {
    name(&key.access_key, "access key")?;
    name(&key.name, "name of the key")?;
    name(&key.secret_key, "secret key")
}

fn object_key(key: &str) -> Result<(), MetadataError> {
    bound((1..=KEY_BYTES_MAX).contains(&key.len()), "object key")
}

fn upload_name(upload: &str) -> Result<(), MetadataError> {
    bound(
        (1..=UPLOAD_BYTES_MAX).contains(&upload.len()),
        "name of the upload",
    )
}

fn precondition(precondition: &Precondition) -> Result<(), MetadataError> {
    match precondition {
        Precondition::Etag(etag) => bound(etag.len() <= KEY_BYTES_MAX, "ETag of the precondition"),
        _ => Ok(()),
    }
}

fn headers(headers: &[(String, String)]) -> Result<(), MetadataError> {
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    bound(bytes <= HEADERS_BYTES_MAX, "headers")
}

fn tags(tags: &[(String, String)]) -> Result<(), MetadataError> {
    let short = tags.iter().all(|(name, value)| {
        name.len() <= TAG_NAME_BYTES_MAX && value.len() <= TAG_VALUE_BYTES_MAX
    });
    bound(tags.len() <= TAGS_MAX && short, "tags")
}

fn checksum(checksum: Option<&Checksum>) -> Result<(), MetadataError> {
    let longest = checksum.map(|sum| sum.algorithm.len().max(sum.value.len()));
    bound(longest.unwrap_or(0) <= DIGEST_BYTES_MAX, "checksum")
}

fn object(object: &NewObject) -> Result<(), MetadataError> {
    headers(&object.headers)?;
    tags(&object.attributes.tags)?;
    checksum(object.checksum.as_ref())?;
    bound(object.etag.len() <= DIGEST_BYTES_MAX, "ETag")?;
    let held = match &object.content {
        Content::Inline(bytes) => {
            bound(bytes.len() <= INLINE_BYTES_MAX, "inline content")?;
            bytes.len() as u64
        }
        Content::Blocks(list) => blocks(list)?,
        Content::Parts { .. } => {
            return Err(MetadataError::Refused(
                "parts come by CompleteUpload".into(),
            ));
        }
    };
    encryption(object.encryption.as_ref())?;
    bound(
        held == stored_bytes(object.size, object.encryption.is_some()),
        "size, which is not the content's,",
    )
}

/// Keys come in clear, and are wrapped on the way to the log.
fn encryption(encryption: Option<&Encryption>) -> Result<(), MetadataError> {
    let wrapped = encryption.is_some_and(|one| matches!(one.source, KeySource::Wrapped { .. }));
    bound(!wrapped, "wrapped data key")
}

/// How many bytes are stored for so many of an object.
fn stored_bytes(size: u64, encrypted: bool) -> u64 {
    match encrypted {
        true => sealed_bytes(size),
        false => size,
    }
}

fn part(part: &Part) -> Result<(), MetadataError> {
    checksum(part.checksum.as_ref())?;
    // The ETag of the whole is computed from these.
    let is_md5 = part.etag.len() == 32 && part.etag.bytes().all(|byte| byte.is_ascii_hexdigit());
    bound(is_md5, "ETag of the part")?;
    bound(
        blocks(&part.blocks)? == stored_bytes(part.size, part.salt.is_some()),
        "size, which is not the blocks',",
    )
}

/// How many bytes the blocks hold together.
fn blocks(blocks: &[BlockRef]) -> Result<u64, MetadataError> {
    bound(blocks.len() <= BLOCKS_MAX, "count of blocks")?;
    let lengths = || blocks.iter().map(|block| u64::from(block.length));
    bound(
        lengths().all(|length| (1..=BLOCK_BYTES_MAX).contains(&length)),
        "length of a block",
    )?;
    Ok(lengths().sum())
}
