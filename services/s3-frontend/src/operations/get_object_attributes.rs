//! GetObjectAttributes: what is known of an object beside its bytes, as far as it is asked for.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAttributes.html>

use super::find_object::find_object;
use super::list_parts::checksum_of;
use super::{type_of, version_id};
use crate::answer::{self, Answer};
use crate::encryption::{self, Side};
use crate::metadata::unexpected;
use crate::request::Request;
use protocol::metadata::{BucketId, Content, Object, Operation, PAGE_MAX, PARTS_MAX, Part, Reply};
use s3_wire::checksum::Algorithm;
use s3_wire::dates::http_date;
use s3_wire::error::S3Error;
use s3_wire::xml::{GetObjectAttributesResponse, ObjectParts, ObjectPartsPage};
use std::collections::BTreeMap;

const WANTED: &str = "x-amz-object-attributes";

/// What is asked for.
#[derive(Default)]
struct Wanted {
    etag: bool,
    checksum: bool,
    parts: bool,
    storage_class: bool,
    size: bool,
}

impl Wanted {
    fn parse(header: &str) -> Result<Self, S3Error> {
        let mut wanted = Self::default();
        for name in header.split(',').map(str::trim) {
            let slot = match name {
                "ETag" => &mut wanted.etag,
                "Checksum" => &mut wanted.checksum,
                "ObjectParts" => &mut wanted.parts,
                "StorageClass" => &mut wanted.storage_class,
                "ObjectSize" => &mut wanted.size,
                _ => {
                    let message = "Invalid attribute name specified.";
                    return Err(S3Error::argument(message, WANTED, name));
                }
            };
            *slot = true;
        }
        Ok(wanted)
    }
}

/// See the module.
pub(super) async fn get_object_attributes(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let wanted = Wanted::parse(request.header(WANTED)?.unwrap_or_default())?;
    let version = version_id::of_query(request)?;
    let bucket = request.admission.bucket()?;
    let object = find_object(&request.admission, bucket, request.key(), version).await?;
    encryption::unlock(&request.head.headers, &object, Side::Object)?;
    let parts = match &object.content {
        Content::Parts { upload, parts } if wanted.parts => {
            Some(object_parts(request, bucket.id, upload, parts).await?)
        }
        _ => None,
    };
    let attributes = GetObjectAttributesResponse {
        etag: wanted.etag.then_some(object.etag.as_str()),
        checksum: checksum(&object).filter(|_| wanted.checksum),
        parts,
        storage_class: wanted.storage_class.then_some("STANDARD"),
        size: wanted.size.then_some(object.size),
    };
    let mut answer = answer::xml(attributes.to_xml());
    let modified = http_date(object.modified_ms / 1_000);
    answer::set(&mut answer, "last-modified", &modified);
    version_id::tell(&mut answer, bucket, object.version);
    Ok(answer)
}

fn checksum(object: &Object) -> Option<(Algorithm, &str, s3_wire::checksum::ChecksumType)> {
    let kept = object.checksum.as_ref()?;
    let algorithm = Algorithm::from_name(&kept.algorithm)?;
    Some((algorithm, kept.value.as_str(), type_of(kept.composite)))
}

/// The page of parts that the headers ask for.
async fn object_parts(
    request: &Request<'_>,
    bucket: BucketId,
    upload: &str,
    all: &[(u16, u64)],
) -> Result<ObjectParts, S3Error> {
    let max_parts = number(request, "x-amz-max-parts", PAGE_MAX, PAGE_MAX)?;
    let marker = number(request, "x-amz-part-number-marker", 0, u32::from(PARTS_MAX))?;
    let behind = || all.iter().filter(|(one, _)| u32::from(*one) > marker);
    let page: Vec<(u16, u64)> = behind().take(max_parts as usize).copied().collect();
    let found = match page.last() {
        Some((last, _)) => find_parts(request, bucket, upload, marker, *last).await?,
        None => BTreeMap::new(),
    };
    let next_marker = page.last().map_or(marker, |(last, _)| u32::from(*last));
    let parts = page
        .iter()
        .map(|(one, size)| (*one, *size, found.get(one).and_then(checksum_of)));
    Ok(ObjectParts {
        total: all.len() as u64,
        page: Some(ObjectPartsPage {
            marker,
            next_marker,
            max_parts,
            is_truncated: behind().count() > page.len(),
            parts: parts.collect(),
        }),
    })
}

/// The parts of an upload behind `marker` and up to `last`. Parts that the object does not have may be among them until they are swept away.
async fn find_parts(
    request: &Request<'_>,
    bucket: BucketId,
    upload: &str,
    marker: u32,
    last: u16,
) -> Result<BTreeMap<u16, Part>, S3Error> {
    let mut after = u16::try_from(marker).unwrap_or(PARTS_MAX);
    let mut found = BTreeMap::new();
    while after < last {
        let operation = Operation::ListObjectParts {
            bucket,
            upload: upload.to_owned(),
            after,
            limit: PAGE_MAX,
        };
        let (parts, more) = match request.admission.read(operation).await {
            Ok(Reply::ObjectParts { parts, more }) => (parts, more),
            Ok(other) => return Err(unexpected(&other)),
            Err(failure) => return Err(failure.into()),
        };
        after = match parts.last() {
            Some((number, _)) if more => *number,
            _ => last,
        };
        found.extend(parts);
    }
    Ok(found)
}

/// A header with a number from 0; larger ones than `max` count as `max`.
fn number(
    request: &Request<'_>,
    name: &'static str,
    default: u32,
    max: u32,
) -> Result<u32, S3Error> {
    let Some(text) = request.header(name)? else {
        return Ok(default);
    };
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<u32>().ok().filter(|_| digits);
    number.map(|number| number.min(max)).ok_or_else(|| {
        let message = format!("Provided {name} not an integer or within integer range");
        S3Error::argument(message, name, text)
    })
}
