//! CompleteMultipartUpload: puts the listed parts together to an object. No byte is moved.
//!
//! Repeating it after success succeeds as long as the object is still the one that it made, so a
//! client whose connection broke may ask again.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>

use super::list_parts::{Found, checksum_of, find_parts};
use super::upload_part::upload_id;
use super::{algorithm_of, precondition, type_of, version_id};
use crate::answer::{self, Answer};
use crate::encryption;
use crate::metadata::{Failure, unexpected};
use crate::request::Request;
use protocol::metadata::{
    Change, Checksum as KeptChecksum, MetadataError, PART_BYTES_MIN, PARTS_MAX, Part, Reply, Upload,
};
use s3_wire::checksum::{self, Algorithm, Checksum, ChecksumType};
use s3_wire::conditions::WriteCondition;
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::query;
use s3_wire::xml::{
    COMPLETE_BYTES_MAX, CompleteMultipartUpload, CompleteMultipartUploadResult, CompletedPart,
};
use std::collections::HashMap;

/// See the module.
pub(super) async fn complete(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let admission = request.admission.clone();
    let condition = precondition(WriteCondition::from_headers(&request.head.headers)?);
    let kib = request.document_kib(COMPLETE_BYTES_MAX);
    let _share = request.worker.budget.take(kib).await?;
    let document = request.document_about_object(COMPLETE_BYTES_MAX).await?;
    let wanted = CompleteMultipartUpload::parse(&document)?;
    drop(document);

    let (key, name) = (request.key(), upload_id(request));
    let mut shown = None;
    let (etag, checksum) = match find_parts(&admission, key, name, 0, usize::from(PARTS_MAX)).await
    {
        Ok((upload, parts)) => {
            shown = encryption::of_whole_upload(&request.head.headers, &upload)?;
            put_together(request, &upload, &wanted, &parts)?
        }
        // Completed before, perhaps: metadata knows whether the object is still the one of these
        // parts.
        Err(Found::Failure(Failure::Metadata(MetadataError::NoSuchUpload))) => {
            wanted.check_order()?;
            (claimed_etag(&wanted)?, None)
        }
        Err(Found::Failure(failure)) => return Err(failure.into()),
        Err(Found::Error(error)) => return Err(error),
    };

    let change = Change::CompleteUpload {
        bucket: admission.bucket()?.id,
        key: key.to_owned(),
        upload: name.to_owned(),
        parts: wanted.parts.iter().map(number_of).collect(),
        etag,
        checksum: checksum.clone(),
        precondition: condition,
    };
    let (etag, version) = match admission.write(change).await? {
        Reply::Written { etag, version, .. } => (etag, version),
        other => return Err(unexpected(&other)),
    };
    let location = format!("/{}/{}", request.bucket_name(), query::encode(key));
    let result = CompleteMultipartUploadResult {
        location: &location,
        bucket: request.bucket_name(),
        key,
        etag: &etag,
        checksum: checksum.as_ref().and_then(|kept| {
            let algorithm = Algorithm::from_name(&kept.algorithm)?;
            Some((algorithm, kept.value.as_str(), type_of(kept.composite)))
        }),
    };
    let mut answer = answer::xml(result.to_xml());
    version_id::tell_made(&mut answer, version);
    encryption::tell(&mut answer, shown.as_ref());
    Ok(answer)
}

/// Compares what the client lists with what was uploaded; the entity tag and the checksum of the
/// whole.
fn put_together(
    request: &Request<'_>,
    upload: &Upload,
    wanted: &CompleteMultipartUpload,
    parts: &[(u16, Part)],
) -> Result<(String, Option<KeptChecksum>), S3Error> {
    wanted.check_order()?;
    let by_number: HashMap<u16, &Part> =
        parts.iter().map(|(number, part)| (*number, part)).collect();
    let mut chosen: Vec<&Part> = Vec::with_capacity(wanted.parts.len());
    for (index, listed) in wanted.parts.iter().enumerate() {
        let part = by_number
            .get(&number_of(listed))
            .filter(|part| is_same(listed, part));
        let part = part.ok_or_else(|| {
            S3Error::new(ErrorCode::InvalidPart)
                .and("UploadId", upload.upload.as_str())
                .and("PartNumber", listed.number.to_string())
                .and("ETag", listed.etag.as_str())
        })?;
        let is_last = index + 1 == wanted.parts.len();
        if part.size < PART_BYTES_MIN && !is_last {
            return Err(S3Error::new(ErrorCode::EntityTooSmall)
                .and("ProposedSize", part.size.to_string())
                .and("MinSizeAllowed", PART_BYTES_MIN.to_string())
                .and("PartNumber", listed.number.to_string())
                .and("ETag", part.etag.as_str()));
        }
        chosen.push(part);
    }
    let bytes: u64 = chosen.iter().map(|part| part.size).sum();
    check_object_size(request, bytes)?;
    let checksum = whole_checksum(upload, &chosen);
    check_claimed_checksum(request, checksum.as_ref())?;
    let md5s: Option<Vec<[u8; 16]>> = chosen.iter().map(|part| md5_of(&part.etag)).collect();
    let md5s = md5s.ok_or(ErrorCode::InternalError)?;
    Ok((checksum::multipart_etag(&md5s), checksum))
}

/// A number that the parser has checked: 1 to 10,000.
fn number_of(listed: &CompletedPart) -> u16 {
    u16::try_from(listed.number).unwrap_or(u16::MAX)
}

/// Whether the client means the part that we have.
fn is_same(listed: &CompletedPart, part: &Part) -> bool {
    let checksum = checksum_of(part);
    listed.etag == part.etag
        && listed.checksum.is_none_or(|claimed| {
            // A checksum of an algorithm that we did not compute cannot be compared.
            checksum.is_none_or(|ours| ours.algorithm() != claimed.algorithm() || ours == claimed)
        })
}

/// The MD5 in a part's entity tag.
fn md5_of(etag: &str) -> Option<[u8; 16]> {
    if etag.len() != 32 {
        return None;
    }
    u128::from_str_radix(etag, 16).ok().map(u128::to_be_bytes)
}

/// The entity tag of the whole, by what the client says of its parts.
fn claimed_etag(wanted: &CompleteMultipartUpload) -> Result<String, S3Error> {
    let md5s: Option<Vec<[u8; 16]>> = wanted
        .parts
        .iter()
        .map(|listed| md5_of(&listed.etag))
        .collect();
    md5s.map(|md5s| checksum::multipart_etag(&md5s))
        .ok_or_else(|| ErrorCode::NoSuchUpload.into())
}

/// The checksum of the whole. An upload that was begun without an algorithm gets one of the whole
/// object, where its parts' are of one algorithm that can be combined, as with AWS.
fn whole_checksum(upload: &Upload, parts: &[&Part]) -> Option<KeptChecksum> {
    let sums: Option<Vec<Checksum>> = parts.iter().map(|part| checksum_of(part)).collect();
    let sums = sums?;
    let (algorithm, kind) = match upload.checksum.as_ref().and_then(algorithm_of) {
        Some(chosen) => chosen,
        None => (sums.first()?.algorithm(), ChecksumType::FullObject),
    };
    let value = match kind {
        ChecksumType::Composite => checksum::composite(algorithm, &sums)?,
        ChecksumType::FullObject => {
            let pieces = sums.iter().zip(parts).map(|(sum, part)| (sum, part.size));
            let whole = checksum::full_object(pieces)?;
            Some(whole)
                .filter(|whole| whole.algorithm() == algorithm)?
                .to_base64()
        }
    };
    let algorithm = algorithm.name().to_owned();
    Some(KeptChecksum {
        algorithm,
        composite: kind == ChecksumType::Composite,
        value,
    })
}

/// `x-amz-mp-object-size` must be what the parts sum up to.
fn check_object_size(request: &Request<'_>, bytes: u64) -> Result<(), S3Error> {
    match request.header("x-amz-mp-object-size")? {
        Some(claimed) if claimed.parse() != Ok(bytes) => {
            let message =
                "The provided 'x-amz-mp-object-size' header does not match what was computed.";
            Err(S3Error::with(ErrorCode::InvalidRequest, message))
        }
        _ => Ok(()),
    }
}

/// `x-amz-checksum-*` of the whole object must be ours.
fn check_claimed_checksum(
    request: &Request<'_>,
    computed: Option<&KeptChecksum>,
) -> Result<(), S3Error> {
    let headers = &request.head.headers;
    let Some((algorithm, claimed)) = checksum::checksum_header(headers)? else {
        return Ok(());
    };
    let asked_type = request.header("x-amz-checksum-type")?;
    let agrees = computed.is_some_and(|computed| {
        let bare = |value: &str| value.split('-').next().unwrap_or_default().to_owned();
        computed.algorithm == algorithm.name()
            && (computed.value == claimed || bare(&computed.value) == claimed)
            && asked_type.is_none_or(|kind| kind == type_of(computed.composite).name())
    });
    if agrees {
        return Ok(());
    }
    let message = format!(
        "The {} you specified did not match the calculated checksum.",
        algorithm.name()
    );
    Err(S3Error::with(ErrorCode::BadDigest, message))
}
