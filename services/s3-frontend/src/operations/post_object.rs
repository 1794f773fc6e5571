//! PostObject: stores a file that a browser sends in a form. The form's policy is its signature's text and says what the form may hold; a form
//! without one is from nobody, and only the bucket's policy can allow it.
//!
//! The file's length is known when it ends, so its last blocks are small ones; otherwise the order is that of PutObject.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html>

use super::object_attributes::attributes_of;
use super::object_data::{DEFAULT_ALGORITHM, kept_checksum, kept_of, set_checksum};
use super::{quoted, version_id};
use crate::access::Need;
use crate::admission::{self, Admission, Proof};
use crate::answer::{self, Answer};
use crate::body::form::{FileChecks, FormHead, FormUpload};
use crate::encryption::{self, Cipher, ObjectWriter};
use crate::facts::Facts;
use crate::limits::{PUT_BYTES_MAX, UPLOAD_KIB};
use crate::metadata::unexpected;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::body::Incoming;
use protocol::metadata::{Change, EventKind, NewObject, Precondition, Reply};
use s3_wire::error::S3Error;
use s3_wire::form::{Fields, FormSignature, PostPolicy};
use s3_wire::headers::unsupported;
use s3_wire::names::{Resource, check_key};
use s3_wire::query::{Query, encode, encode_into};
use s3_wire::sigv4::PayloadHash;
use s3_wire::tags::{OBJECT_TAGS_MAX, Tag};
use s3_wire::xml::{Document, Tagging};
use std::rc::Rc;

/// Headers of an upload that a form may have as fields.
const AS_HEADERS: [&str; 7] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-type",
    "expires",
];
/// Fields that sign the form.
const SIGNING: [&str; 4] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-signature",
];

/// See the module.
pub(crate) async fn post_object(
    facts: &Rc<Facts>,
    query: &Query<'_>,
    body: &mut Incoming,
) -> Result<Answer, S3Error> {
    let worker = &facts.worker;
    let mut form = FormUpload::new(body, &facts.head.headers)?;
    let _share = worker.budget.take(UPLOAD_KIB).await?;
    let head = form.head().await?;
    let (admission, length, facts) = admit(facts, &head).await?;
    let admission = Rc::new(admission);
    let key = facts.resource.key.clone().unwrap_or_default();
    let headers = kept_of(&facts.head.headers, query)?;
    let attributes = attributes_of(&facts.head.headers, worker.now_s())?;
    let cipher = encryption::of_new_object(&facts.head.headers, &admission)?;
    let stream = cipher.as_ref().map(|cipher| &cipher.stream);
    let (bytes_min, bytes_max) = length.unwrap_or((0, PUT_BYTES_MAX));
    let bytes_max = bytes_max.min(PUT_BYTES_MAX);

    let bucket = admission.bucket()?.clone();
    let file_bytes_max = form.file_bytes_max();
    let mut writer = ObjectWriter::open_ended(worker, bucket.hash_key, file_bytes_max, stream)?;
    let mut checks = FileChecks::new(&facts.head.headers, DEFAULT_ALGORITHM)?;
    while let Some(data) = form.next().await? {
        checks.update(&data, bytes_max)?;
        writer.write(&data).await?;
    }
    let summary = checks.finish(bytes_min)?;
    let placed = writer.finish().await?;

    let etag = encryption::etag(&summary.md5, cipher.as_ref())?;
    let checksum = summary.checksum.as_ref().map(kept_checksum);
    let change = Change::PutObject {
        bucket: bucket.id,
        key: key.clone(),
        object: NewObject {
            size: summary.bytes,
            etag: etag.clone(),
            headers,
            checksum: checksum.clone(),
            attributes,
            encryption: cipher.as_ref().map(Cipher::row),
            content: placed.content,
        },
        precondition: Precondition::None,
        copied: false,
        event: EventKind::Post,
    };
    let version = match admission.write_held(change, placed.hold).await? {
        Reply::Written { version, .. } => version,
        other => return Err(unexpected(&other)),
    };
    let stored = Stored {
        bucket: &bucket.name,
        key: &key,
        etag: &etag,
    };
    let mut answer = stored.answer(&head.fields, &facts)?;
    set_checksum(&mut answer, checksum.as_ref());
    version_id::tell_made(&mut answer, version);
    encryption::tell(&mut answer, cipher.as_ref().map(|one| &one.shown));
    Ok(answer)
}

/// Judges the form: its signature, its policy, and whether who signed it may store this object. Answers the bounds of the file's length,
/// and the request as if the fields had been its headers.
async fn admit(
    facts: &Rc<Facts>,
    head: &FormHead,
) -> Result<(Admission, Option<(u64, u64)>, Rc<Facts>), S3Error> {
    let fields = &head.fields;
    let bucket = facts.resource.bucket.clone().unwrap_or_default();
    let key = fields.key(&head.filename)?;
    check_key(&key)?;
    let signature = FormSignature::parse(|name| fields.get(name))?;
    let policy = fields.get("policy").map(PostPolicy::parse).transpose()?;
    let headers = headers_of(&facts.head.headers, head)?;
    if let Some(refusal) = unsupported(&headers) {
        return Err(refusal);
    }
    s3_wire::encryption::check(s3_wire::routing::Operation::PostObject, &headers)?;
    let mut parts = facts.head.clone();
    parts.headers = headers;
    let facts = Rc::new(Facts {
        head: parts,
        host_bucket: facts.host_bucket.clone(),
        resource: Resource {
            bucket: Some(bucket.clone()),
            key: Some(key.clone()),
        },
        routed: facts.routed.clone(),
        peer: facts.peer,
        worker: facts.worker.clone(),
    });
    let proof = match &signature {
        Some(signature) => Proof::Form(signature),
        None => Proof::Nobody(PayloadHash::Unsigned),
    };
    let (admission, _) = admission::admit(&facts, &proof, Need::Write, false).await?;
    if let Some(policy) = &policy {
        policy.check(fields, &bucket, &key, facts.worker.now_s())?;
    }
    let length = policy.as_ref().and_then(PostPolicy::length);
    Ok((admission, length, facts))
}

/// The headers that a PUT of the same object would have. What the browser's own headers say about the object does not count: no policy
/// covers it.
fn headers_of(sent: &HeaderMap, form: &FormHead) -> Result<HeaderMap, S3Error> {
    let about_object = |name: &str| AS_HEADERS.contains(&name) || name.starts_with("x-amz-");
    let mut headers: HeaderMap = sent
        .iter()
        .filter(|(name, _)| !about_object(name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut set = |name: &str, value: &str| {
        let invalid = || S3Error::argument("This field cannot be a header", name, value);
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| invalid())?;
        headers.insert(header, value);
        Ok::<_, S3Error>(())
    };
    for (name, value) in form.fields.iter() {
        match name {
            "acl" => set("x-amz-acl", value)?,
            "tagging" => {
                let tags = Tagging::parse(value.as_bytes(), OBJECT_TAGS_MAX)?.tags;
                let pair = |(key, value): &Tag| format!("{}={}", encode(key), encode(value));
                let pairs: Vec<String> = tags.iter().map(pair).collect();
                set("x-amz-tagging", &pairs.join("&"))?;
            }
            name if SIGNING.contains(&name) => {}
            name if about_object(name) => set(name, value)?,
            _ => {}
        }
    }
    if form.fields.get("content-type").is_none()
        && let Some(guess) = &form.content_type
    {
        set(CONTENT_TYPE.as_str(), guess)?;
    }
    Ok(headers)
}

/// What the answer tells.
struct Stored<'a> {
    bucket: &'a str,
    key: &'a str,
    etag: &'a str,
}

impl Stored<'_> {
    /// In the form that the fields ask for: a redirection, a document, or nothing.
    fn answer(&self, fields: &Fields, facts: &Facts) -> Result<Answer, S3Error> {
        let redirect = fields
            .get("success_action_redirect")
            .or_else(|| fields.get("redirect"))
            .filter(|url| is_web_address(url));
        let mut path = format!("/{}/", self.bucket);
        encode_into(&mut path, self.key, true);
        let host = facts
            .head
            .headers
            .get(HOST)
            .and_then(|host| host.to_str().ok());
        let location = format!("http://{}{path}", host.unwrap_or_default());
        let mut answer = match (redirect, fields.get("success_action_status")) {
            (Some(url), _) => self.redirection(url),
            (None, Some("200")) => answer::empty(StatusCode::OK),
            (None, Some("201")) => {
                let mut document = Document::without_namespace("PostResponse");
                document.text("Location", &location);
                document.text("Bucket", self.bucket);
                document.text("Key", self.key);
                document.etag(self.etag);
                let mut answer = answer::xml(document.finish());
                *answer.status_mut() = StatusCode::CREATED;
                answer
            }
            _ => answer::empty(StatusCode::NO_CONTENT),
        };
        if redirect.is_none() {
            answer::set(&mut answer, "location", &location);
        }
        answer::set(&mut answer, "etag", &quoted(self.etag));
        Ok(answer)
    }

    fn redirection(&self, url: &str) -> Answer {
        let (url, fragment) = url
            .split_once('#')
            .map_or((url, None), |(u, f)| (u, Some(f)));
        let join = if url.contains('?') { '&' } else { '?' };
        let mut to = format!(
            "{url}{join}bucket={}&key={}&etag={}",
            encode(self.bucket),
            encode(self.key),
            encode(&quoted(self.etag))
        );
        if let Some(fragment) = fragment {
            to.push('#');
            to.push_str(fragment);
        }
        let mut answer = answer::empty(StatusCode::SEE_OTHER);
        answer::set(&mut answer, "location", &to);
        answer
    }
}

/// What cannot be an address is ignored, as by AWS.
fn is_web_address(url: &str) -> bool {
    let http = url.starts_with("http://") || url.starts_with("https://");
    http && url.bytes().all(|byte| byte.is_ascii_graphic())
}
