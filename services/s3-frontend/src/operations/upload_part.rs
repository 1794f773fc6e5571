//! UploadPart: stores a body as one part of an upload, in place of one with the same number.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html>

use super::algorithm_of;
use super::object_data::{DEFAULT_ALGORITHM, check_size, kept_checksum, receive, stored_answer};
use crate::admission::Admission;
use crate::answer::Answer;
use crate::encryption;
use crate::metadata::unexpected;
use crate::request::Request;
use protocol::metadata::{Change, Content, Operation, PARTS_MAX, Part, Reply, Upload};
use s3_wire::checksum::{Algorithm, Expected};
use s3_wire::error::{ErrorCode, S3Error};

/// See the module.
pub(super) async fn upload_part(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let admission = request.admission.clone();
    let worker = request.worker.clone();
    let bucket = admission.bucket()?.clone();
    let number = part_number(request)?;
    let upload = find_upload(request).await?;
    let cipher = encryption::of_part(&request.head.headers, &upload)?;
    let algorithm = upload
        .checksum
        .as_ref()
        .and_then(algorithm_of)
        .map(|(one, _)| one);
    check_algorithm(
        algorithm,
        Expected::from_headers(&request.head.headers)?.algorithm(),
    )?;

    let body = request.upload(Some(algorithm.unwrap_or(DEFAULT_ALGORITHM)))?;
    check_size(body.length())?;
    let (placed, summary) = receive(&worker, &bucket, body, false, cipher.as_ref()).await?;

    let etag = encryption::etag(&summary.md5, cipher.as_ref())?;
    let checksum = summary.checksum.as_ref().map(kept_checksum);
    let part = Part {
        size: summary.bytes,
        etag: etag.clone(),
        checksum: checksum.clone(),
        modified_ms: 0, // set by metadata
        salt: cipher.as_ref().map(|cipher| cipher.stream.salt),
        blocks: blocks_of(placed.content),
    };
    let change = Change::PutPart {
        bucket: bucket.id,
        key: upload.key,
        upload: upload.upload,
        number,
        part,
        copied: false,
    };
    match admission.write_held(change, placed.hold).await? {
        Reply::Done | Reply::Written { .. } => {
            let mut answer = stored_answer(&etag, checksum.as_ref());
            encryption::tell(&mut answer, cipher.as_ref().map(|one| &one.shown));
            Ok(answer)
        }
        other => Err(unexpected(&other)),
    }
}

/// The parameter `partNumber`.
///
/// # Errors
/// `InvalidArgument`.
pub(super) fn part_number(request: &Request<'_>) -> Result<u16, S3Error> {
    let text = request.query.get("partNumber").unwrap_or_default();
    let number = text
        .parse()
        .ok()
        .filter(|number| (1..=PARTS_MAX).contains(number))
        // "+1" is a number to Rust, and none to S3.
        .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    number.ok_or_else(|| {
        let message = "Part number must be an integer between 1 and 10000, inclusive";
        S3Error::argument(message, "partNumber", text)
    })
}

/// The upload that the request names.
///
/// # Errors
/// `NoSuchUpload`.
pub(super) async fn find_upload(request: &Request<'_>) -> Result<Upload, S3Error> {
    let admission: &Admission = &request.admission;
    let operation = Operation::GetUpload {
        bucket: admission.bucket()?.id,
        key: request.key().to_owned(),
        upload: upload_id(request).to_owned(),
    };
    match admission.read(operation).await? {
        Reply::Upload(upload) => Ok(upload),
        other => Err(unexpected(&other)),
    }
}

/// The parameter `uploadId`, as the router has found it.
pub(super) fn upload_id<'a>(request: &'a Request<'_>) -> &'a str {
    request.query.get("uploadId").unwrap_or_default()
}

/// The blocks of a part, which is never inlined.
pub(super) fn blocks_of(content: Content) -> Vec<protocol::block::BlockRef> {
    match content {
        Content::Blocks(blocks) => blocks,
        Content::Inline(_) | Content::Parts { .. } => Vec::new(),
    }
}

/// All parts of an upload have checksums of one algorithm, or they could not be put together.
fn check_algorithm(upload: Option<Algorithm>, part: Option<Algorithm>) -> Result<(), S3Error> {
    match (upload, part) {
        (Some(expected), Some(actual)) if expected != actual => {
            let message = format!(
                "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum \
                 Type: {}",
                expected.name().to_lowercase(),
                actual.name().to_lowercase()
            );
            Err(S3Error::with(ErrorCode::InvalidRequest, message))
        }
        _ => Ok(()),
    }
}
