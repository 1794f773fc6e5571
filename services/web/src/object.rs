//! One object as a browser gets it: with its own headers, a range of it, or nothing but its validators; or the redirect that it is.

use http::header::{IF_RANGE, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use object_http::access::Need;
use object_http::admission::{self, Proof};
use object_http::answer::{self, Answer};
use object_http::blocks::ReadFailure;
use object_http::encryption::{self, Side};
use object_http::facts::Facts;
use object_http::find_object::find_object;
use object_http::limits::CHANGES_MAX;
use object_http::reading::{self, Selection, Wanted};
use protocol::metadata::Object;
use s3_wire::error::S3Error;
use s3_wire::headers::single;
use s3_wire::range::RangeSpec;
use s3_wire::settings::REDIRECT_LOCATION;
use s3_wire::sigv4::PayloadHash;
use std::rc::Rc;

/// How an object is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// As the request asks: its range and conditions count, and a redirect is one.
    Asked,
    /// All of it, in place of something else.
    Instead,
}

/// The object that `facts` name.
///
/// # Errors
/// `AccessDenied` where the bucket's policy does not let everybody get it; `NoSuchKey`: unlike AWS also where nobody may list, because whoever
/// may get every key that there is learns nothing by it, and a missing page is a 404 to everybody else on the web. Those of
/// conditions and ranges.
pub(crate) async fn object(facts: &Rc<Facts>, shown: Shown) -> Result<Answer, S3Error> {
    let proof = Proof::Nobody(PayloadHash::Unsigned);
    let (admission, _) = admission::admit(facts, &proof, Need::Read, false).await?;
    let admission = Rc::new(admission);
    let key = facts.resource.key.as_deref().unwrap_or_default();
    let none = HeaderMap::new();
    let headers = match shown {
        Shown::Asked => &facts.head.headers,
        Shown::Instead => &none,
    };
    for _ in 0..CHANGES_MAX {
        let bucket = admission.bucket()?;
        let object = find_object(&admission, bucket, key, None).await?;
        if let (Shown::Asked, Some(redirect)) = (shown, redirect(&object)) {
            return Ok(redirect);
        }
        // A visitor has no key of its own: what was stored under one is not shown.
        let unlocked = encryption::unlock(&none, &object, Side::Object)?;
        let wanted = wanted(headers, &object)?;
        let selection = match reading::begin(headers, bucket, &object, &wanted)? {
            Ok(selection) => selection,
            Err(not_modified) => return Ok(not_modified),
        };
        let mut answer = describe(&object, &selection);
        if facts.head.method == Method::HEAD {
            let length = selection.range.end - selection.range.start;
            answer::set(&mut answer, "content-length", &length.to_string());
            return Ok(answer);
        }
        let stream = unlocked.stream.as_ref();
        match reading::body(&admission, &object, selection.range, stream).await {
            Ok(body) => {
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

/// Whether everybody may get the object that `facts` name, and it is there.
pub(crate) async fn is_there(facts: &Rc<Facts>) -> bool {
    let proof = Proof::Nobody(PayloadHash::Unsigned);
    let Ok((admission, _)) = admission::admit(facts, &proof, Need::Read, false).await else {
        return false;
    };
    let key = facts.resource.key.as_deref().unwrap_or_default();
    match admission.bucket() {
        Ok(bucket) => find_object(&admission, bucket, key, None).await.is_ok(),
        Err(_) => false,
    }
}

fn redirect(object: &Object) -> Option<Answer> {
    let (_, location) = object
        .headers
        .iter()
        .find(|(name, _)| name == REDIRECT_LOCATION)?;
    let location = HeaderValue::from_bytes(location.as_bytes()).ok()?;
    let mut answer = answer::empty(StatusCode::MOVED_PERMANENTLY);
    answer.headers_mut().insert(LOCATION, location);
    Some(answer)
}

/// The range that is asked for. One that is meant for another state of the object (`If-Range`, RFC 9110, 13.1.5) is not.
fn wanted(headers: &HeaderMap, object: &Object) -> Result<Wanted, S3Error> {
    let range = single(headers, "range")?.and_then(RangeSpec::parse);
    let is_meant = match headers.get(IF_RANGE) {
        None => true,
        Some(validator) => validator.as_bytes() == format!("\"{}\"", object.etag).as_bytes(),
    };
    Ok(match range.filter(|_| is_meant) {
        Some(range) => Wanted::Range(range),
        None => Wanted::All,
    })
}

fn describe(object: &Object, selection: &Selection) -> Answer {
    let mut answer = answer::empty(match selection.content_range {
        Some(_) => StatusCode::PARTIAL_CONTENT,
        None => StatusCode::OK,
    });
    let shown = object
        .headers
        .iter()
        .filter(|(name, _)| name != REDIRECT_LOCATION);
    for (name, value) in shown {
        reading::set_kept(&mut answer, name, value);
    }
    reading::set_validators(&mut answer, object);
    answer::set(&mut answer, "accept-ranges", "bytes");
    if let Some(content_range) = &selection.content_range {
        answer::set(&mut answer, "content-range", content_range);
    }
    answer
}
