//! Quotas: how much a bucket may hold, judged at the instant of each write by the counts that stand in the bucket's row.

use super::Outcome;
use super::changes::Changes;
use super::registry::bucket_row;
use super::rows;
use super::store::Rows;
use crate::Error;
use protocol::metadata::{BucketId, BucketUsage, MetadataError, Quota, Reply};

pub(super) fn set<R: Rows>(
    changes: &mut Changes<'_, R>,
    bucket: BucketId,
    quota: Quota,
) -> Result<Outcome, Error> {
    let Some(mut row) = bucket_row(changes.rows, bucket)?.filter(|row| row.open) else {
        return Ok(Err(MetadataError::NoSuchBucket));
    };
    row.usage.quota = quota;
    changes.put(rows::bucket(bucket), &row)?;
    Ok(Ok(Reply::Done))
}

/// Whether a write may take a bucket from what it held to what it would hold. One that adds nothing may always happen, also in a bucket
/// that holds more than its quota since that was lowered: whoever is over it can still replace large objects by smaller ones.
pub(super) fn holds(before: &BucketUsage, after: &BucketUsage) -> Result<(), MetadataError> {
    let exceeds = |before: u64, after: u64, max: Option<u64>| {
        max.filter(|max| after > before && after > *max)
    };
    if let Some(max) = exceeds(before.objects, after.objects, after.quota.objects_max) {
        let why = format!("The bucket may hold at most {max} objects, older versions included");
        return Err(MetadataError::QuotaExceeded(why));
    }
    if let Some(max) = exceeds(before.bytes, after.bytes, after.quota.bytes_max) {
        let why = format!("The bucket may hold at most {max} bytes, older versions included");
        return Err(MetadataError::QuotaExceeded(why));
    }
    Ok(())
}
