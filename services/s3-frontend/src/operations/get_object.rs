//! GetObject and HeadObject: an object's headers, and all or some of its bytes.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>

use super::find_object::find_object;
use super::object_data::set_checksum;
use super::{object_attributes, version_id};
use crate::answer::{self, Answer};
use crate::blocks::ReadFailure;
use crate::encryption::{self, Side};
use crate::limits::CHANGES_MAX;
use crate::reading::{self, Selection, Wanted, set_kept, set_validators};
use crate::request::Request;
use http::StatusCode;
use protocol::metadata::{Object, VersionId};
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::headers::RESPONSE_OVERRIDES;
use s3_wire::range::RangeSpec;

/// See the module.
pub(super) async fn get_object(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let wanted = wanted(request)?;
    let version = version_id::of_query(request)?;
    for _ in 0..CHANGES_MAX {
        let object = find(request, version).await?;
        let unlocked = encryption::unlock(&request.head.headers, &object, Side::Object)?;
        let selection = match begin(request, &object, &wanted)? {
            Ok(selection) => selection,
            Err(not_modified) => return Ok(not_modified),
        };
        let range = selection.range.clone();
        let stream = unlocked.stream.as_ref();
        match reading::body(&request.admission, &object, range, stream).await {
            Ok(body) => {
                let mut answer = describe(request, &object, &selection)?;
                encryption::tell(&mut answer, unlocked.shown.as_ref());
                *answer.body_mut() = body;
                return Ok(answer);
            }
            // Replaced between the two questions: ask for what is there now.
            Err(ReadFailure::Gone) => continue,
            Err(error) => return Err(error.into()),
        }
    }
    Err(ReadFailure::Gone.into())
}

/// The same without the bytes.
pub(super) async fn head_object(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let wanted = wanted(request)?;
    let object = find(request, version_id::of_query(request)?).await?;
    let unlocked = encryption::unlock(&request.head.headers, &object, Side::Object)?;
    let selection = match begin(request, &object, &wanted)? {
        Ok(selection) => selection,
        Err(not_modified) => return Ok(not_modified),
    };
    let mut answer = describe(request, &object, &selection)?;
    encryption::tell(&mut answer, unlocked.shown.as_ref());
    let length = selection.range.end - selection.range.start;
    answer::set(&mut answer, "content-length", &length.to_string());
    Ok(answer)
}

fn wanted(request: &Request<'_>) -> Result<Wanted, S3Error> {
    let range = request.header("range")?.and_then(RangeSpec::parse);
    match (range, request.query.get("partNumber")) {
        (None, None) => Ok(Wanted::All),
        (Some(range), None) => Ok(Wanted::Range(range)),
        (None, Some(_)) => Ok(Wanted::Part(super::upload_part::part_number(request)?)),
        (Some(_), Some(_)) => {
            let message = "Cannot specify both Range header and partNumber query parameter";
            Err(S3Error::with(ErrorCode::InvalidRequest, message))
        }
    }
}

async fn find(request: &Request<'_>, version: Option<VersionId>) -> Result<Object, S3Error> {
    let bucket = request.admission.bucket()?;
    find_object(&request.admission, bucket, request.key(), version).await
}

/// See [`reading::begin`].
fn begin(
    request: &Request<'_>,
    object: &Object,
    wanted: &Wanted,
) -> Result<Result<Selection, Answer>, S3Error> {
    let bucket = request.admission.bucket()?;
    reading::begin(&request.head.headers, bucket, object, wanted)
}

/// The headers of the answer.
fn describe(
    request: &Request<'_>,
    object: &Object,
    selection: &Selection,
) -> Result<Answer, S3Error> {
    let partial = selection.content_range.is_some();
    let mut answer = answer::empty(if partial {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    });
    for (name, value) in &object.headers {
        set_kept(&mut answer, name, value);
    }
    for (parameter, header) in RESPONSE_OVERRIDES {
        if let Some(value) = request.query.get(parameter) {
            answer::set(&mut answer, header, value);
        }
    }
    set_validators(&mut answer, object);
    version_id::tell(&mut answer, request.admission.bucket()?, object.version);
    object_attributes::tell(&mut answer, &object.attributes);
    answer::set(&mut answer, "accept-ranges", "bytes");
    if let Some(content_range) = &selection.content_range {
        answer::set(&mut answer, "content-range", content_range);
    }
    if let Some(count) = selection.parts_count {
        answer::set(&mut answer, "x-amz-mp-parts-count", &count.to_string());
    }
    // The kept checksum is of the whole object; a client would compare it with the part that it
    // gets.
    let asked = request.header("x-amz-checksum-mode")?;
    if !partial && asked.is_some_and(|mode| mode.eq_ignore_ascii_case("ENABLED")) {
        set_checksum(&mut answer, object.checksum.as_ref());
    }
    Ok(answer)
}
