//! CopyObject: another name for bytes that are here already.
//!
//! Within a bucket the copy refers to the same blocks. Into another bucket the bytes are read and
//! stored anew, because block names are keyed per bucket; so are they where another checksum is
//! asked for, and where either of the two is encrypted. How the copy is encrypted is not inherited.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>

use super::copy_source::{self, Source};
use super::object_attributes::attributes;
use super::object_data::{
    DEFAULT_ALGORITHM, check_size, copied_headers, copy_bytes, kept_checksum, kept_headers,
};
use super::put_object::check_early;
use super::{precondition, type_of, version_id};
use crate::answer::{self, Answer};
use crate::blocks::{Hold, ReadFailure, Reader};
use crate::encryption::{self, Cipher, ObjectWriter};
use crate::limits::{CHANGES_MAX, UPLOAD_KIB};
use crate::metadata::{Failure, unexpected};
use crate::request::Request;
use protocol::metadata::{Attributes, Change, Content, EventKind, MetadataError, NewObject, Reply};
use s3_wire::body::BodyChecks;
use s3_wire::checksum::{self, Algorithm, Expected};
use s3_wire::conditions::WriteCondition;
use s3_wire::encryption::{Requested, requested};
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::settings::REDIRECT_LOCATION;
use s3_wire::sigv4::PayloadHash;
use s3_wire::xml::CopyObjectResult;

/// What becomes of the source's headers, or of its tags. New ones beside `COPY` change nothing, as with AWS.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Directive {
    Copy,
    Replace,
}

/// See the module.
pub(super) async fn copy_object(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let metadata = directive(request, "x-amz-metadata-directive")?;
    let tagging = directive(request, "x-amz-tagging-directive")?;
    let attributes = attributes(request)?;
    let algorithm = checksum::chosen_algorithm(&request.head.headers)?;
    let replaced = kept_headers(request)?;
    let condition = precondition(WriteCondition::from_headers(&request.head.headers)?);
    let bucket = request.admission.bucket()?.clone();
    let place = copy_source::admit(request).await?;
    // An older version may be brought back so.
    let onto_itself =
        place.bucket.id == bucket.id && place.key == request.key() && place.version.is_none();
    let says_how = requested(&request.head.headers)? != Requested::Default
        || request.header(REDIRECT_LOCATION)?.is_some();
    if onto_itself && metadata == Directive::Copy && algorithm.is_none() && !says_how {
        let message = "This copy request is illegal because it is trying to copy an object to \
                       itself without changing the object's metadata, storage class, website \
                       redirect location or encryption attributes.";
        return Err(S3Error::with(ErrorCode::InvalidRequest, message));
    }
    check_early(&request.admission, bucket.id, request.key(), &condition).await?;

    for _ in 0..CHANGES_MAX {
        // Of each attempt: a salt is used once.
        let cipher = encryption::of_new_object(&request.head.headers, &request.admission)?;
        let source = copy_source::find(request, &place).await?;
        check_size(source.object.size)?;
        let headers = match metadata {
            Directive::Copy => copied_headers(&source.object.headers, &request.head.headers)?,
            Directive::Replace => replaced.clone(),
        };
        let refers = place.bucket.id == bucket.id
            && cipher.is_none()
            && source.stream.is_none()
            && !wants_other_checksum(&source, algorithm);
        let cipher = cipher.as_ref();
        let made = match refers {
            true => refer(request, &source).await,
            false => make_copy(request, &source, algorithm, cipher).await,
        };
        let (mut object, hold) = match made {
            Ok(made) => made,
            Err(ReadFailure::Gone) => continue,
            Err(ReadFailure::Error(error)) => return Err(error),
        };
        object.headers = headers;
        object.attributes = attributes.clone();
        if tagging == Directive::Copy {
            object
                .attributes
                .tags
                .clone_from(&source.object.attributes.tags);
        }
        let copied = refers && matches!(object.content, Content::Blocks(_));
        let (etag, checksum) = (object.etag.clone(), object.checksum.clone());
        let change = Change::PutObject {
            bucket: bucket.id,
            key: request.key().to_owned(),
            object,
            precondition: condition.clone(),
            copied,
            event: EventKind::Copy,
        };
        match request.admission.write_held(change, hold).await {
            Ok(Reply::Written {
                modified_ms,
                version,
                ..
            }) => {
                let result = CopyObjectResult {
                    modified_ms,
                    etag: &etag,
                    checksum: checksum.as_ref().and_then(|kept| {
                        let algorithm = Algorithm::from_name(&kept.algorithm)?;
                        Some((algorithm, kept.value.as_str(), type_of(kept.composite)))
                    }),
                };
                let mut answer = answer::xml(result.to_xml());
                version_id::tell_made(&mut answer, version);
                source.tell(&mut answer);
                encryption::tell(&mut answer, cipher.map(|one| &one.shown));
                return Ok(answer);
            }
            Ok(other) => return Err(unexpected(&other)),
            // The source was replaced meanwhile; its conditions must hold for what is there now.
            Err(Failure::Metadata(MetadataError::SourceChanged)) => continue,
            Err(error) => return Err(error.into()),
        }
    }
    Err(ReadFailure::Gone.into())
}

fn directive(request: &Request<'_>, name: &'static str) -> Result<Directive, S3Error> {
    match request.header(name)? {
        None | Some("COPY") => Ok(Directive::Copy),
        Some("REPLACE") => Ok(Directive::Replace),
        Some(other) => Err(S3Error::argument("Unknown directive.", name, other)),
    }
}

fn wants_other_checksum(source: &Source, wanted: Option<Algorithm>) -> bool {
    let kept = source.object.checksum.as_ref();
    wanted.is_some_and(|wanted| {
        kept.is_none_or(|kept| kept.algorithm != wanted.name() || kept.composite)
    })
}

/// A copy that is the source's own blocks, without headers and attributes.
async fn refer(request: &Request<'_>, source: &Source) -> Result<(NewObject, Hold), ReadFailure> {
    let Source { bucket, object, .. } = source;
    let content = match &object.content {
        Content::Inline(bytes) => Content::Inline(bytes.clone()),
        content => {
            let reader = Reader::new(&request.admission, bucket.id, content, 0..object.size);
            Content::Blocks(reader.all_blocks().await?)
        }
    };
    let copy = NewObject {
        size: object.size,
        etag: object.etag.clone(),
        headers: Vec::new(),
        checksum: object.checksum.clone(),
        attributes: Attributes::default(),
        encryption: None,
        content,
    };
    Ok((copy, Hold::default()))
}

/// A copy with bytes of its own, without headers and attributes, and what keeps its blocks until it is visible.
async fn make_copy(
    request: &Request<'_>,
    source: &Source,
    algorithm: Option<Algorithm>,
    cipher: Option<&Cipher>,
) -> Result<(NewObject, Hold), ReadFailure> {
    let object = &source.object;
    let own = request.admission.bucket().map_err(ReadFailure::Error)?;
    let _share = request
        .worker
        .budget
        .take(UPLOAD_KIB)
        .await
        .map_err(ReadFailure::Error)?;
    let kept = object
        .checksum
        .as_ref()
        .and_then(|kept| Algorithm::from_name(&kept.algorithm));
    let algorithm = algorithm.or(kept).unwrap_or(DEFAULT_ALGORITHM);
    let mut checks = BodyChecks::new(Expected::default(), PayloadHash::Unsigned, Some(algorithm));
    let stream = cipher.map(|cipher| &cipher.stream);
    let writer = ObjectWriter::new(request.worker, own.hash_key, object.size, true, stream);
    let mut writer = writer.map_err(ReadFailure::Error)?;
    copy_bytes(request, source, 0..object.size, &mut writer, &mut checks).await?;
    let summary = checks.finish(None).map_err(ReadFailure::Error)?;
    let placed = writer.finish().await.map_err(ReadFailure::Error)?;
    let copy = NewObject {
        size: summary.bytes,
        etag: encryption::etag(&summary.md5, cipher).map_err(ReadFailure::Error)?,
        headers: Vec::new(),
        checksum: summary.checksum.as_ref().map(kept_checksum),
        attributes: Attributes::default(),
        encryption: cipher.map(Cipher::row),
        content: placed.content,
    };
    Ok((copy, placed.hold))
}
