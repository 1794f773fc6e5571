//! CreateMultipartUpload: a place for the parts of an object that will come, with its headers.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html>

use super::object_attributes::attributes;
use super::object_data::kept_headers;
use crate::answer::{self, Answer};
use crate::encryption::{self, Cipher};
use crate::metadata::unexpected;
use crate::request::Request;
use protocol::metadata::{Change, Reply, Upload};
use s3_wire::checksum::{ChecksumType, chosen_algorithm};
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::xml::InitiateMultipartUploadResult;

/// See the module.
pub(super) async fn create(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let asked_type = request.header("x-amz-checksum-type")?;
    let checksum = match chosen_algorithm(&request.head.headers)? {
        Some(algorithm) => Some((algorithm, ChecksumType::of_upload(algorithm, asked_type)?)),
        None if asked_type.is_some() => {
            let message = "The x-amz-checksum-type header can only be used with the \
                           x-amz-checksum-algorithm header.";
            return Err(S3Error::with(ErrorCode::InvalidRequest, message));
        }
        None => None,
    };
    let mut name = [0; 16];
    getrandom::fill(&mut name).map_err(|_| ErrorCode::InternalError)?;
    // Not to be guessed: whoever may write to the bucket could otherwise meddle with others'
    // uploads.
    let name = format!("{:032x}", u128::from_be_bytes(name));
    let cipher = encryption::of_new_object(&request.head.headers, &request.admission)?;
    let upload = Upload {
        upload: name.clone(),
        key: request.key().to_owned(),
        headers: kept_headers(request)?,
        checksum: checksum.map(|(algorithm, kind)| {
            (algorithm.name().to_owned(), kind == ChecksumType::Composite)
        }),
        attributes: attributes(request)?,
        encryption: cipher.as_ref().map(Cipher::row),
        initiated_ms: 0, // set by metadata
    };
    let bucket = request.admission.bucket()?.id;
    match request
        .admission
        .write(Change::CreateUpload { bucket, upload })
        .await?
    {
        Reply::Done => {}
        other => return Err(unexpected(&other)),
    }
    let result = InitiateMultipartUploadResult {
        bucket: request.bucket_name(),
        key: request.key(),
        upload_id: &name,
    };
    let mut answer = answer::xml(result.to_xml());
    encryption::tell(&mut answer, cipher.as_ref().map(|one| &one.shown));
    if let Some((algorithm, kind)) = checksum {
        answer::set(&mut answer, "x-amz-checksum-algorithm", algorithm.name());
        answer::set(&mut answer, "x-amz-checksum-type", kind.name());
    }
    Ok(answer)
}
