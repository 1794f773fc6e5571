//! ListObjectVersions: all versions of keys in byte order, those of one key from the newest to the oldest.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html>

use super::list_objects::{KIB, Question};
use super::{OWNER, algorithm_of, version_id};
use crate::answer::{self, Answer};
use crate::metadata::unexpected;
use crate::request::Request;
use protocol::metadata::{After, AfterVersion, Operation, Reply, VersionEntry};
use s3_wire::error::S3Error;
use s3_wire::xml::{ListVersionsResult, ListedVersion, ListedVersionObject};

/// See the module.
pub(super) async fn list_object_versions(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let question = Question::from_query(request.query)?;
    let key_marker = request.query.get("key-marker").unwrap_or_default();
    let version_marker = request.query.get("version-id-marker").unwrap_or_default();
    let after = after(&question, key_marker, version_marker)?;
    let _share = request.worker.budget.take(KIB).await?;
    let (entries, next) = ask(request, &question, after).await?;

    // The texts of versions, which are not in the entries.
    let names: Vec<String> = entries.iter().map(name).collect();
    let (mut versions, mut common_prefixes) = (Vec::with_capacity(entries.len()), Vec::new());
    for (entry, version_id) in entries.iter().zip(&names) {
        match shown(entry, version_id) {
            Some(version) => versions.push(version),
            None => common_prefixes.extend(match entry {
                VersionEntry::Prefix(prefix) => Some(prefix.as_str()),
                _ => None,
            }),
        }
    }
    let next_version = match &next {
        Some(AfterVersion::Version(_, version)) => Some(version_id::text(*version)),
        _ => None,
    };
    let next = next.as_ref().map(|next| match next {
        AfterVersion::Key(key) | AfterVersion::Version(key, _) | AfterVersion::Prefix(key) => {
            (key.as_str(), next_version.as_deref())
        }
    });
    let result = ListVersionsResult {
        name: request.bucket_name(),
        prefix: question.prefix,
        key_marker,
        version_id_marker: version_marker,
        next,
        max_keys: question.max_keys,
        delimiter: question.delimiter,
        encoding: question.encoding,
        versions,
        common_prefixes,
    };
    Ok(answer::xml(result.to_xml()))
}

/// Where to go on behind what the client names.
fn after(
    question: &Question<'_>,
    key: &str,
    version: &str,
) -> Result<Option<AfterVersion>, S3Error> {
    match (key, version) {
        ("", "") => Ok(None),
        ("", version) => {
            let message = "A version-id marker cannot be specified without a key marker.";
            Err(S3Error::argument(message, "version-id-marker", version))
        }
        (key, "") => Ok(Some(match question.behind(key) {
            After::Key(key) => AfterVersion::Key(key),
            After::Prefix(prefix) => AfterVersion::Prefix(prefix),
        })),
        (key, version) => {
            let version = version_id::parse(version)?;
            Ok(Some(AfterVersion::Version(key.to_owned(), version)))
        }
    }
}

/// Asks until there are `max_keys` entries or no more: metadata's pages may be shorter than wanted.
async fn ask(
    request: &Request<'_>,
    question: &Question<'_>,
    mut after: Option<AfterVersion>,
) -> Result<(Vec<VersionEntry>, Option<AfterVersion>), S3Error> {
    let bucket = request.admission.bucket()?.id;
    let mut found = Vec::new();
    loop {
        let missing = (question.max_keys as usize).saturating_sub(found.len());
        if missing == 0 {
            // Nothing was asked for (`max-keys=0`), so nothing is left out.
            return Ok((found, after.filter(|_| question.max_keys > 0)));
        }
        let operation = Operation::ListVersions {
            bucket,
            prefix: question.prefix.to_owned(),
            delimiter: question.delimiter.unwrap_or_default().to_owned(),
            after: after.clone(),
            limit: missing as u32, // at most PAGE_MAX
        };
        match request.admission.read(operation).await? {
            Reply::Versions { entries, next } => {
                found.extend(entries);
                if next.is_none() {
                    return Ok((found, None));
                }
                after = next;
            }
            other => return Err(unexpected(&other)),
        }
    }
}

/// The text of an entry's version.
fn name(entry: &VersionEntry) -> String {
    match entry {
        VersionEntry::Object { version, .. } | VersionEntry::Marker { version, .. } => {
            version_id::text(*version)
        }
        VersionEntry::Prefix(_) => String::new(),
    }
}

/// An entry as the document shows it; `None` for a common prefix.
fn shown<'a>(entry: &'a VersionEntry, version_id: &'a str) -> Option<ListedVersion<'a>> {
    let (key, latest, modified_ms, object) = match entry {
        VersionEntry::Object {
            key,
            latest,
            size,
            etag,
            modified_ms,
            checksum,
            ..
        } => {
            let object = ListedVersionObject {
                etag,
                size: *size,
                checksum: checksum.as_ref().and_then(algorithm_of),
            };
            (key, latest, modified_ms, Some(object))
        }
        VersionEntry::Marker {
            key,
            latest,
            modified_ms,
            ..
        } => (key, latest, modified_ms, None),
        VersionEntry::Prefix(_) => return None,
    };
    Some(ListedVersion {
        key,
        version_id,
        is_latest: *latest,
        modified_ms: *modified_ms,
        owner: OWNER,
        object,
    })
}
