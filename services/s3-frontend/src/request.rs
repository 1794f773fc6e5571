//! From hyper's request to one S3 operation with its authenticated caller, and from its result to
//! an answer.

use crate::activity::Activity;
use crate::admission::{self, Admission, Need};
use crate::answer::{self, Answer, AnswerBody};
use crate::body::incoming::{self, Upload};
use crate::operations;
use crate::worker::Worker;
use http::header::{CONNECTION, EXPECT, HOST, HeaderValue};
use http::request::Parts;
use http::{Method, Request as HttpRequest};
use hyper::body::Incoming;
use s3_wire::checksum::Algorithm;
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::headers::{self, RequestView};
use s3_wire::names::{Resource, split_host, split_path};
use s3_wire::query::Query;
use s3_wire::routing::{Operation, route};
use s3_wire::sigv4::{Authorization, Verified, parse_authorization};
use std::rc::Rc;

/// A request that may be done: its signature is right and its caller has the right that its
/// operation needs.
pub(crate) struct Request<'a> {
    /// Who asks, and everything that metadata is asked on their behalf.
    pub(crate) admission: Rc<Admission>,
    /// The thread that serves it.
    pub(crate) worker: &'a Rc<Worker>,
    /// Method, path and headers as they came.
    pub(crate) head: &'a Parts,
    /// The decoded query.
    pub(crate) query: &'a Query<'a>,
    /// Bucket and key, decoded.
    pub(crate) resource: &'a Resource,
    /// What the signature says about the body.
    verified: Verified,
    body: &'a mut Incoming,
}

impl Request<'_> {
    /// The bucket's name as written; empty for requests on none.
    pub(crate) fn bucket_name(&self) -> &str {
        self.resource.bucket.as_deref().unwrap_or_default()
    }

    /// The key; empty for requests on a bucket, which the router keeps apart.
    pub(crate) fn key(&self) -> &str {
        self.resource.key.as_deref().unwrap_or_default()
    }

    /// A header's value, `None` if absent.
    ///
    /// # Errors
    /// `InvalidRequest` where it is repeated or not text.
    pub(crate) fn header(&self, name: &str) -> Result<Option<&str>, S3Error> {
        headers::single(&self.head.headers, name)
    }

    /// The body as data; see [`Upload::new`].
    pub(crate) fn upload(&mut self, default: Option<Algorithm>) -> Result<Upload<'_>, S3Error> {
        Upload::new(self.body, &self.head.headers, &self.verified, default)
    }

    /// A guess at the memory that a document of at most `bytes_max` bytes takes with what it is
    /// parsed into, in KiB.
    pub(crate) fn document_kib(&self, bytes_max: usize) -> u32 {
        let announced = hyper::body::Body::size_hint(&*self.body).upper();
        let bytes = announced.unwrap_or(u64::MAX).min(bytes_max as u64);
        u32::try_from(64 + 4 * bytes / 1024).unwrap_or(u32::MAX)
    }

    /// The body as a document of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// See [`Upload::collect`].
    pub(crate) async fn document(&mut self, bytes_max: usize) -> Result<Vec<u8>, S3Error> {
        let upload = Upload::document(self.body, &self.head.headers, &self.verified)?;
        upload.collect(bytes_max).await
    }

    /// The same where `x-amz-checksum-*` headers speak of the object that the document completes, not of the document.
    ///
    /// # Errors
    /// See [`Upload::collect`].
    pub(crate) async fn document_about_object(
        &mut self,
        bytes_max: usize,
    ) -> Result<Vec<u8>, S3Error> {
        let mut headers = self.head.headers.clone();
        for algorithm in Algorithm::ALL {
            headers.remove(algorithm.header());
        }
        Upload::document(self.body, &headers, &self.verified)?
            .collect(bytes_max)
            .await
    }
}

/// Answers one request. Never fails: what goes wrong becomes an answer, or an answer whose body
/// breaks off.
pub(crate) async fn answer(
    worker: Rc<Worker>,
    activity: Rc<Activity>,
    request: HttpRequest<Incoming>,
) -> HttpAnswer {
    activity.request_begins();
    let (head, mut body) = request.into_parts();
    // A client that waits for "100 Continue" before a body of no bytes gets its answer instead. botocore keeps that answer's status
    // for the next one on the connection and then waits for ever, so this connection ends.
    let never_asked = hyper::body::Body::is_end_stream(&body) && head.headers.contains_key(EXPECT);
    let request_id = worker.request_id();
    let mut answer = match handle(&worker, &head, &mut body).await {
        Ok(answer) => answer,
        Err(error) => {
            if error.status() >= 500 && error.code != ErrorCode::NotImplemented {
                runtime::warn!("{request_id} {} {}: {error}", head.method, head.uri.path());
            }
            let error = match error.resource {
                None => error.at(head.uri.path()),
                Some(_) => error,
            };
            answer::error(error, &request_id, head.method == Method::HEAD)
        }
    };
    // A client that waits for "100 Continue" keeps its body, or sends it all the same: nobody
    // knows, so the connection ends.
    let goes_on = (hyper::body::Body::is_end_stream(&body) && !never_asked)
        || (!head.headers.contains_key(EXPECT) && incoming::drain(&mut body).await);
    if !goes_on {
        answer
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer::sign_off(&mut answer, &request_id);
    answer.body_mut().attach(activity);
    answer
}

/// What hyper is given.
pub(crate) type HttpAnswer = http::Response<AnswerBody>;

async fn handle(worker: &Rc<Worker>, head: &Parts, body: &mut Incoming) -> Result<Answer, S3Error> {
    let view = RequestView {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        headers: &head.headers,
    };
    // An absolute request target names the host; RFC 9112 (3.2.2) lets it win over the header.
    let host = match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => headers::single(&head.headers, HOST.as_str())?,
    };
    let host_bucket = host.and_then(|host| split_host(host, &worker.hosts));
    let resource = split_path(view.path, host_bucket.as_deref())?;
    let query = Query::parse(view.query)?;
    let authorization = parse_authorization(&view)?;
    let (Authorization::Header(signed) | Authorization::Presigned(signed)) = &authorization else {
        // There is no public access: no bucket has a policy that could allow it.
        return Err(ErrorCode::AccessDenied.into());
    };
    // The signature is judged before the operation, as by AWS, but the right that is looked for
    // depends on the operation.
    let routed = route(view.method, &resource, &query, &head.headers)
        .and_then(|operation| headers::unsupported(&head.headers).map_or(Ok(operation), Err));
    let (need, fresh) = routed
        .as_ref()
        .map_or((Need::Identity, false), |operation| needs(*operation));
    let bucket = resource
        .bucket
        .as_deref()
        .filter(|_| need != Need::Identity);
    let admitted = admission::admit(worker, signed, &view, bucket, need, fresh).await;
    let (admission, verified) = match (&routed, admitted) {
        (Err(refusal), Ok(_)) => return Err(refusal.clone()),
        (_, admitted) => admitted?,
    };
    let mut request = Request {
        admission: Rc::new(admission),
        worker,
        head,
        query: &query,
        resource: &resource,
        verified,
        body,
    };
    operations::dispatch(routed?, &mut request).await
}

/// The right that an operation needs, and whether it must be known as of now because metadata is
/// asked nothing else.
fn needs(operation: Operation) -> (Need, bool) {
    use Operation as O;
    match operation {
        O::CreateBucket => (Need::CreateBuckets, false),
        O::DeleteBucket | O::PutBucketVersioning | O::PutObjectLockConfiguration => {
            (Need::Owner, false)
        }
        O::HeadBucket | O::GetBucketLocation => (Need::Any, true),
        O::GetBucketVersioning | O::GetObjectLockConfiguration => (Need::Any, false),
        O::GetObject
        | O::HeadObject
        | O::GetObjectAttributes
        | O::GetObjectTagging
        | O::GetObjectRetention
        | O::GetObjectLegalHold
        | O::ListObjects
        | O::ListObjectsV2
        | O::ListObjectVersions => (Need::Read, false),
        O::PutObject
        | O::CopyObject
        | O::DeleteObject
        | O::DeleteObjects
        | O::PutObjectTagging
        | O::DeleteObjectTagging
        | O::PutObjectRetention
        | O::PutObjectLegalHold
        | O::RenameObject
        | O::CreateMultipartUpload
        | O::UploadPart
        | O::UploadPartCopy
        | O::CompleteMultipartUpload
        | O::AbortMultipartUpload
        | O::ListMultipartUploads
        | O::ListParts => (Need::Write, false),
        // ListBuckets shows only what the caller may see; everything else is not implemented.
        _ => (Need::Identity, false),
    }
}
