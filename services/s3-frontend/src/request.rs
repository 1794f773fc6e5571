//! From hyper's request to one S3 operation with its authenticated caller, and from its result to
//! an answer.

use crate::access::{Need, needs};
use crate::admission::{self, Admission, Proof, view};
use crate::answer::{self, Answer};
use crate::body::incoming::{self, Upload};
use crate::cors;
use crate::facts::Facts;
use crate::operations;
use crate::worker::Worker;
use http::header::{CONNECTION, EXPECT, HeaderValue};
use http::request::Parts;
use http::{Method, Request as HttpRequest};
use hyper::body::Incoming;
use object_http::server::Handler;
use s3_wire::checksum::Algorithm;
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::headers;
use s3_wire::names::Resource;
use s3_wire::query::Query;
use s3_wire::routing::Operation;
use s3_wire::sigv4::{Authorization, Verified, parse_authorization};
use std::net::IpAddr;
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
    /// The names of the webhooks that the operator has registered.
    pub(crate) webhooks: &'static [String],
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

/// S3, as what requests are answered by.
#[derive(Clone, Copy)]
pub(crate) struct S3 {
    /// The names of the webhooks that the operator has registered.
    pub(crate) webhooks: &'static [String],
}

impl Handler for S3 {
    fn answer(
        self,
        worker: Rc<Worker>,
        peer: IpAddr,
        request: HttpRequest<Incoming>,
        request_id: &str,
    ) -> impl Future<Output = Answer> {
        answer(self, worker, peer, request, request_id)
    }
}

async fn answer(
    s3: S3,
    worker: Rc<Worker>,
    peer: IpAddr,
    request: HttpRequest<Incoming>,
    request_id: &str,
) -> Answer {
    let (head, mut body) = request.into_parts();
    // A client that waits for "100 Continue" before a body of no bytes gets its answer instead. botocore keeps that answer's status
    // for the next one on the connection and then waits for ever, so this connection ends.
    let never_asked = hyper::body::Body::is_end_stream(&body) && head.headers.contains_key(EXPECT);
    let expects = head.headers.contains_key(EXPECT);
    let mut answer = match Facts::new(&worker, head, peer) {
        Ok(facts) => {
            let facts = Rc::new(facts);
            let handled = handle(s3, &facts, &mut body).await;
            let mut answer = handled.unwrap_or_else(|error| refuse(error, &facts.head, request_id));
            cors::add(&facts, &mut answer).await;
            answer
        }
        Err(refused) => {
            let (error, head) = *refused;
            refuse(error, &head, request_id)
        }
    };
    // A client that waits for "100 Continue" keeps its body, or sends it all the same: nobody
    // knows, so the connection ends.
    let goes_on = (hyper::body::Body::is_end_stream(&body) && !never_asked)
        || (!expects && incoming::drain(&mut body).await);
    if !goes_on {
        answer
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// A refusal as an answer.
fn refuse(error: S3Error, head: &Parts, request_id: &str) -> Answer {
    if error.status() >= 500 && error.code != ErrorCode::NotImplemented {
        runtime::warn!("{request_id} {} {}: {error}", head.method, head.uri.path());
    }
    let error = match error.resource {
        None => error.at(head.uri.path()),
        Some(_) => error,
    };
    answer::error(error, request_id, head.method == Method::HEAD)
}

async fn handle(s3: S3, facts: &Rc<Facts>, body: &mut Incoming) -> Result<Answer, S3Error> {
    let (worker, head, resource) = (&facts.worker, &facts.head, &facts.resource);
    let view = view(head);
    let query = Query::parse(view.query)?;
    // The signature is judged before the operation, as by AWS, but the right that is looked for
    // depends on the operation.
    let routed = &facts.routed;
    match routed {
        // Browsers ask without a signature, and sign forms within.
        Ok(Operation::CorsPreflight) => return cors::preflight(facts).await,
        Ok(Operation::PostObject) => return operations::post_object(facts, &query, body).await,
        _ => {}
    }
    let authorization = parse_authorization(&view)?;
    let proof = match &authorization {
        Authorization::Header(signed) | Authorization::Presigned(signed) => Proof::Signed(signed),
        Authorization::PresignedV2 { signature, payload } => Proof::SignedV2(signature, *payload),
        Authorization::Anonymous { payload } => {
            check_overrides(&query)?;
            Proof::Nobody(*payload)
        }
    };
    let (need, fresh) = routed
        .as_ref()
        .map_or((Need::Identity, false), |operation| needs(*operation));
    let admitted = admission::admit(facts, &proof, need, fresh).await;
    let (admission, verified) = match (routed, admitted) {
        (Err(refusal), Ok(_)) => return Err(refusal.clone()),
        (_, admitted) => admitted?,
    };
    let operation = routed.clone()?;
    let mut request = Request {
        admission: Rc::new(admission),
        worker,
        head,
        query: &query,
        resource,
        webhooks: s3.webhooks,
        verified,
        body,
    };
    let begun = runtime::trace::begin(protocol::trace::Side::Served, "s3", &operation);
    let done = operations::dispatch(operation, &mut request).await;
    begun.over(0, 0);
    match done {
        Err(error) if hides(operation, &error) && !request.admission.may_list().await => {
            Err(ErrorCode::AccessDenied.into())
        }
        done => done,
    }
}

/// Who does not sign does not choose what an object is taken for.
fn check_overrides(query: &Query<'_>) -> Result<(), S3Error> {
    match query.iter().find(|(name, _)| name.starts_with("response-")) {
        None => Ok(()),
        Some(_) => Err(S3Error::with(
            ErrorCode::InvalidRequest,
            "Request specific response headers cannot be used for anonymous GET requests.",
        )),
    }
}

/// Whether an error tells that a key does not exist, which only those may know who may list.
fn hides(operation: Operation, error: &S3Error) -> bool {
    use Operation as O;
    matches!(error.code, ErrorCode::NoSuchKey | ErrorCode::NoSuchVersion)
        && matches!(
            operation,
            O::GetObject
                | O::HeadObject
                | O::GetObjectAcl
                | O::GetObjectAttributes
                | O::GetObjectTagging
        )
}
