//! ListParts: the parts of an upload by number.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html>

use super::upload_part::upload_id;
use super::{OWNER, algorithm_of};
use crate::admission::Admission;
use crate::answer::{self, Answer};
use crate::encryption;
use crate::metadata::{Failure, unexpected};
use crate::request::Request;
use protocol::metadata::{Operation, PAGE_MAX, PARTS_MAX, Part, Reply, Upload};
use s3_wire::checksum::{Algorithm, Checksum};
use s3_wire::error::S3Error;
use s3_wire::xml::{ListPartsResult, ListedPart};

/// See the module.
pub(super) async fn list_parts(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let max_parts = request.query.number("max-parts", PAGE_MAX, PAGE_MAX)?;
    let marker = request
        .query
        .number("part-number-marker", 0, u32::from(PARTS_MAX))?;
    let after = u16::try_from(marker).unwrap_or(PARTS_MAX);
    let (key, name) = (request.key(), upload_id(request));
    // One more than wanted tells whether there is a next page.
    let wanted = max_parts as usize + 1;
    let found = find_parts(&request.admission, key, name, after, wanted).await;
    let (upload, mut parts) = match found {
        Ok(found) => found,
        Err(Found::Failure(failure)) => return Err(failure.into()),
        Err(Found::Error(error)) => return Err(error),
    };
    encryption::of_whole_upload(&request.head.headers, &upload)?;
    let is_truncated = parts.len() > max_parts as usize && max_parts > 0;
    parts.truncate(max_parts as usize);
    let last = parts.last().map(|(number, _)| u32::from(*number));
    let result = ListPartsResult {
        bucket: request.bucket_name(),
        key,
        upload_id: name,
        initiator: OWNER,
        part_number_marker: marker,
        next_part_number_marker: last.filter(|_| is_truncated),
        max_parts,
        is_truncated,
        checksum: upload.checksum.as_ref().and_then(algorithm_of),
        parts: parts
            .iter()
            .map(|(number, part)| ListedPart {
                number: u32::from(*number),
                modified_ms: part.modified_ms,
                etag: &part.etag,
                size: part.size,
                checksum: checksum_of(part).filter(|_| upload.checksum.is_some()),
            })
            .collect(),
    };
    Ok(answer::xml(result.to_xml()))
}

/// Why parts were not found.
pub(super) enum Found {
    /// Metadata's refusal, or no answer.
    Failure(Failure),
    /// Everything else.
    Error(S3Error),
}

/// The upload, and at most `wanted` of its parts behind `after`, blocks left out.
pub(super) async fn find_parts(
    admission: &Admission,
    key: &str,
    name: &str,
    mut after: u16,
    wanted: usize,
) -> Result<(Upload, Vec<(u16, Part)>), Found> {
    let bucket = admission.bucket().map_err(Found::Error)?.id;
    let mut found = Vec::new();
    loop {
        let missing = wanted.saturating_sub(found.len()).min(PAGE_MAX as usize);
        let operation = Operation::ListParts {
            bucket,
            key: key.to_owned(),
            upload: name.to_owned(),
            after,
            limit: missing as u32, // at most PAGE_MAX
        };
        let (upload, parts, more) = match admission.read(operation).await {
            Ok(Reply::Parts {
                upload,
                parts,
                more,
            }) => (upload, parts, more),
            Ok(other) => return Err(Found::Error(unexpected(&other))),
            Err(failure) => return Err(Found::Failure(failure)),
        };
        let last = parts.last().map(|(number, _)| *number);
        found.extend(parts);
        match last {
            Some(last) if more && found.len() < wanted => after = last,
            _ => return Ok((upload, found)),
        }
    }
}

/// A part's checksum in S3's types.
pub(super) fn checksum_of(part: &Part) -> Option<Checksum> {
    let kept = part.checksum.as_ref()?;
    Checksum::from_base64(Algorithm::from_name(&kept.algorithm)?, &kept.value)
}
