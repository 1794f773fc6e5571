//! Settings of buckets and policies of keys: documents in the registry, which only the lifecycle's worker reads.

use super::Outcome;
use super::changes::{Changes, each};
use super::registry::{find_bucket, find_key, revised};
use super::rows;
use super::store::Rows;
use crate::Error;
use protocol::metadata::{Bucket, BucketId, MetadataError, Reply};
use protocol::settings::{AccessDocuments, Lifecycle, SettingKind};
use std::ops::ControlFlow;

/// Everything beside rights that decides who may do what.
pub(super) fn access_documents<R: Rows>(
    rows: &R,
    access_key: Option<&str>,
    bucket: Option<&Bucket>,
) -> Result<AccessDocuments, Error> {
    let mut documents = AccessDocuments::default();
    if let Some(access_key) = access_key {
        documents.key_policy = text(rows, &rows::key_policy(access_key))?;
    }
    let Some(bucket) = bucket else {
        return Ok(documents);
    };
    let from = rows::settings(bucket.id);
    each(rows, &from, &rows::behind(from.clone()), |key, value| {
        let kind = rows::setting_of(key)?;
        documents.kinds.insert(kind);
        match kind {
            SettingKind::Policy => documents.bucket_policy = Some(text_of(value)?),
            SettingKind::PublicAccessBlock => {
                documents.public_access_block = Some(text_of(value)?);
            }
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(documents)
}

pub(super) fn set_key_policy<R: Rows>(
    changes: &mut Changes<'_, R>,
    access_key: &str,
    policy: Option<&str>,
) -> Result<Outcome, Error> {
    match find_key(changes.rows, access_key)? {
        None => return Ok(Err(MetadataError::NoSuchAccessKey)),
        Some(key) if key.root && policy.is_some() => {
            let why = "a root key may do everything and has no policy";
            return Ok(Err(MetadataError::Refused(why.into())));
        }
        Some(_) => {}
    }
    let row = rows::key_policy(access_key);
    match policy {
        Some(policy) => changes.put_bytes(row, policy.as_bytes()),
        None => changes.delete(row),
    }
    revised(changes)
}

pub(super) fn get_key_policy<R: Rows>(rows: &R, access_key: &str) -> Result<Outcome, Error> {
    if find_key(rows, access_key)?.is_none() {
        return Ok(Err(MetadataError::NoSuchAccessKey));
    }
    let policy = rows.get(&rows::key_policy(access_key))?;
    Ok(Ok(Reply::Setting(
        policy.map(|policy| policy.as_ref().to_vec()),
    )))
}

pub(super) fn set<R: Rows>(
    changes: &mut Changes<'_, R>,
    (name, bucket): (&str, BucketId),
    kind: SettingKind,
    document: Option<&[u8]>,
) -> Result<Outcome, Error> {
    if find_bucket(changes.rows, name)?.is_none_or(|found| found.id != bucket) {
        return Ok(Err(MetadataError::NoSuchBucket));
    }
    let row = rows::setting(bucket, kind);
    match document {
        Some(document) => changes.put_bytes(row, document),
        // Nothing changes, so nobody has to learn anything.
        None if !changes.has(&row)? => return Ok(Ok(Reply::Done)),
        None => changes.delete(row),
    }
    revised(changes)
}

pub(super) fn get<R: Rows>(
    rows: &R,
    bucket: BucketId,
    kind: SettingKind,
) -> Result<Outcome, Error> {
    let document = rows.get(&rows::setting(bucket, kind))?;
    Ok(Ok(Reply::Setting(
        document.map(|document| document.as_ref().to_vec()),
    )))
}

/// The bucket is being deleted.
pub(super) fn forget<R: Rows>(changes: &mut Changes<'_, R>, bucket: BucketId) -> Result<(), Error> {
    let from = rows::settings(bucket);
    let mut settings = Vec::new();
    each(
        changes.rows,
        &from,
        &rows::behind(from.clone()),
        |key, _| {
            settings.push(key.to_vec());
            Ok(ControlFlow::Continue(()))
        },
    )?;
    for row in settings {
        changes.delete(row);
    }
    Ok(())
}

/// Every bucket that has a lifecycle, in order of the names.
pub fn lifecycles<R: Rows>(rows: &R) -> Result<Vec<(Bucket, Lifecycle)>, Error> {
    let mut found = Vec::new();
    let mut buckets = Vec::new();
    super::registry::registered(rows, |bucket| buckets.push(bucket))?;
    for bucket in buckets {
        if let Some(document) = rows.get(&rows::setting(bucket.id, SettingKind::Lifecycle))? {
            found.push((bucket, rows::decode(document.as_ref(), "lifecycle")?));
        }
    }
    Ok(found)
}

fn text<R: Rows>(rows: &R, row: &[u8]) -> Result<Option<String>, Error> {
    rows.get(row)?
        .map(|value| text_of(value.as_ref()))
        .transpose()
}

fn text_of(value: &[u8]) -> Result<String, Error> {
    String::from_utf8(value.to_vec()).map_err(|_| Error::Damaged("policy"))
}
