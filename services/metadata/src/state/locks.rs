//! Object lock: which versions are kept from deletion, and which changes of that are allowed.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html>

use super::Outcome;
use super::changes::Changes;
use super::registry::bucket_row;
use super::rows;
use super::store::Rows;
use super::versions;
use crate::Error;
use protocol::metadata::{
    AttributeChange, Attributes, BucketId, MetadataError, ObjectLock, Reply, Retention,
    RetentionMode, VersionId, Versioning,
};

/// Whether a version may not be deleted at `at_ms`.
pub(super) fn protect(attributes: &Attributes, at_ms: u64, bypass: bool) -> bool {
    let retained = attributes.retention.is_some_and(|retention| {
        let bypassed = bypass && retention.mode == RetentionMode::Governance;
        at_ms < retention.until_ms && !bypassed
    });
    retained || attributes.legal_hold == Some(true)
}

/// Gives a version that is being written the bucket's default retention, or refuses a protection that the bucket does not know.
pub(super) fn begin(
    attributes: &mut Attributes,
    lock: Option<ObjectLock>,
    at_ms: u64,
) -> Result<(), MetadataError> {
    let is_protected = attributes.retention.is_some() || attributes.legal_hold.is_some();
    match lock {
        None if is_protected => Err(MetadataError::NoObjectLock),
        None => Ok(()),
        Some(lock) => {
            let default = lock.default.map(|(mode, span)| Retention {
                mode,
                until_ms: at_ms.saturating_add(span.ms()),
            });
            attributes.retention = attributes.retention.or(default);
            Ok(())
        }
    }
}

/// Whether one retention may take the place of another: it may be made longer and, by whoever may bypass governance, anything else
/// but in compliance mode.
fn may_replace(old: Option<Retention>, new: Option<Retention>, at_ms: u64, bypass: bool) -> bool {
    let Some(old) = old.filter(|old| at_ms < old.until_ms) else {
        return true;
    };
    let extends = new.is_some_and(|new| new.mode == old.mode && new.until_ms >= old.until_ms);
    extends || (bypass && old.mode == RetentionMode::Governance)
}

pub(super) fn put_versioning<R: Rows>(
    changes: &mut Changes<'_, R>,
    bucket: BucketId,
    versioning: Versioning,
) -> Result<Outcome, Error> {
    let Some(mut row) = bucket_row(changes.rows, bucket)?.filter(|row| row.open) else {
        return Ok(Err(MetadataError::NoSuchBucket));
    };
    if row.lock.is_some() && versioning != Versioning::Enabled {
        let why = "An Object Lock configuration is present on this bucket, so the versioning state \
                   cannot be changed.";
        return Ok(Err(MetadataError::WrongBucketState(why.into())));
    }
    row.versioning = versioning;
    changes.put(rows::bucket(bucket), &row)?;
    Ok(Ok(Reply::Done))
}

pub(super) fn get_versioning<R: Rows>(rows: &R, bucket: BucketId) -> Result<Outcome, Error> {
    let row = bucket_row(rows, bucket)?.filter(|row| row.open);
    Ok(row
        .map(|row| Reply::Versioning {
            versioning: row.versioning,
            lock: row.lock,
        })
        .ok_or(MetadataError::NoSuchBucket))
}

pub(super) fn put_lock<R: Rows>(
    changes: &mut Changes<'_, R>,
    bucket: BucketId,
    lock: ObjectLock,
) -> Result<Outcome, Error> {
    let Some(mut row) = bucket_row(changes.rows, bucket)?.filter(|row| row.open) else {
        return Ok(Err(MetadataError::NoSuchBucket));
    };
    if row.versioning != Versioning::Enabled {
        let why = "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration";
        return Ok(Err(MetadataError::WrongBucketState(why.into())));
    }
    row.lock = Some(lock);
    changes.put(rows::bucket(bucket), &row)?;
    Ok(Ok(Reply::Done))
}

pub(super) fn change_attributes<R: Rows>(
    changes: &mut Changes<'_, R>,
    bucket: BucketId,
    key: &str,
    version: Option<VersionId>,
    change: &AttributeChange,
) -> Result<Outcome, Error> {
    let mut head = match versions::find(changes.rows, bucket, key, version)? {
        Ok(head) => head,
        Err(error) => return Ok(Err(error)),
    };
    let locks = matches!(
        change,
        AttributeChange::Retention { .. } | AttributeChange::LegalHold(_)
    );
    if locks && bucket_row(changes.rows, bucket)?.is_none_or(|row| row.lock.is_none()) {
        return Ok(Err(MetadataError::NoObjectLock));
    }
    let attributes = &mut head.attributes;
    match change {
        AttributeChange::Tags(tags) => attributes.tags.clone_from(tags),
        AttributeChange::LegalHold(on) => attributes.legal_hold = Some(*on),
        AttributeChange::Retention { retention, bypass } => {
            let at_ms = changes.at_ms;
            if !may_replace(attributes.retention, *retention, at_ms, *bypass) {
                return Ok(Err(MetadataError::Locked));
            }
            attributes.retention = *retention;
        }
    }
    let version = head.version.id();
    versions::put_back(changes, bucket, key, head)?;
    Ok(Ok(Reply::Changed { version }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

    fn until(mode: RetentionMode, until_ms: u64) -> Option<Retention> {
        Some(Retention { mode, until_ms })
    }

    #[test]
    fn a_version_is_protected_until_its_time_and_by_a_hold_for_ever() {
        use RetentionMode::{Compliance, Governance};
        let check = |retention, legal_hold, bypass, expected| {
            let attributes = Attributes {
                tags: Vec::new(),
                retention,
                legal_hold,
            };
            assert_eq!(
                protect(&attributes, 100, bypass),
                expected,
                "{attributes:?}"
            );
        };
        check(None, None, false, false);
        check(None, Some(false), false, false);
        check(None, Some(true), true, true);
        check(until(Governance, 101), None, false, true);
        check(until(Governance, 101), None, true, false);
        check(until(Governance, 101), Some(true), true, true);
        check(until(Compliance, 101), None, true, true);
        check(until(Compliance, 100), None, false, false);
    }

    #[test]
    fn a_retention_is_only_made_longer_unless_governance_is_bypassed() {
        use RetentionMode::{Compliance, Governance};
        let check = |old, new, bypass, expected| {
            assert_eq!(
                may_replace(old, new, 100, bypass),
                expected,
                "{old:?} {new:?}"
            );
        };
        for bypass in [false, true] {
            check(None, until(Compliance, 200), bypass, true);
            check(until(Compliance, 200), until(Compliance, 200), bypass, true);
            check(
                until(Compliance, 200),
                until(Compliance, 199),
                bypass,
                false,
            );
            check(
                until(Compliance, 200),
                until(Governance, 300),
                bypass,
                false,
            );
            check(until(Compliance, 200), None, bypass, false);
            check(until(Compliance, 100), None, bypass, true);
            check(until(Governance, 200), until(Governance, 300), bypass, true);
            check(
                until(Governance, 200),
                until(Governance, 150),
                bypass,
                bypass,
            );
            check(
                until(Governance, 200),
                until(Compliance, 300),
                bypass,
                bypass,
            );
            check(until(Governance, 200), None, bypass, bypass);
        }
    }

    #[test]
    fn the_default_retention_counts_from_the_write_and_yields_to_an_explicit_one() {
        use protocol::metadata::RetentionSpan;
        let lock = Some(ObjectLock {
            default: Some((RetentionMode::Governance, RetentionSpan::Days(2))),
        });
        let mut attributes = Attributes::default();
        assert_eq!(begin(&mut attributes, lock, 100), Ok(()));
        let expected = until(RetentionMode::Governance, 100 + 2 * DAY_MS);
        assert_eq!(attributes.retention, expected);
        attributes.retention = until(RetentionMode::Compliance, 500);
        assert_eq!(begin(&mut attributes, lock, 100), Ok(()));
        assert_eq!(attributes.retention, until(RetentionMode::Compliance, 500));
        assert_eq!(
            begin(&mut attributes, None, 100),
            Err(MetadataError::NoObjectLock)
        );
        assert_eq!(RetentionSpan::Years(1).ms(), 365 * DAY_MS);
    }
}
