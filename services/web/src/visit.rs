//! From a browser's request to what is shown: the site, its redirects, the page, or what is shown in place of a page that is not there.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/WebsiteHosting.html>

use crate::object::{Shown, is_there, object};
use crate::page::page;
use crate::site::{Site, bucket_of, host};
use http::header::{ALLOW, CONNECTION, HeaderValue, LOCATION, ORIGIN};
use http::request::Parts;
use http::{Method, Request as HttpRequest, StatusCode, Uri};
use hyper::body::{Body, Incoming};
use object_http::answer::{self, Answer};
use object_http::cors;
use object_http::facts::Facts;
use object_http::limits::CHANGES_MAX;
use object_http::server::Handler;
use object_http::worker::Worker;
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::headers::single;
use s3_wire::names::{Resource, check_key, split_path};
use s3_wire::routing::Operation;
use s3_wire::settings::{Elsewhere, Protocol, Visit, WebsiteConfiguration, path_of};
use std::net::IpAddr;
use std::rc::Rc;

/// Web sites, as what requests are answered by.
#[derive(Clone, Copy)]
pub(crate) struct Web;

impl Handler for Web {
    async fn answer(
        self,
        worker: Rc<Worker>,
        peer: IpAddr,
        request: HttpRequest<Incoming>,
        request_id: &str,
    ) -> Answer {
        let (head, body) = request.into_parts();
        let method = head.method.clone();
        let begun = runtime::trace::begin(protocol::trace::Side::Served, "web", &method);
        let mut answer = match Visitor::new(&worker, head, peer, request_id) {
            Ok(visitor) => visitor.answer().await,
            Err(error) => page(&error, None, request_id, &method),
        };
        begun.over(0, 0);
        // Nothing here wants a body, so whoever sends one is not read to its end.
        if !body.is_end_stream() {
            answer
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

/// One request.
struct Visitor<'a> {
    worker: &'a Rc<Worker>,
    /// Without its query, which a web site does not look at.
    head: Parts,
    peer: IpAddr,
    request_id: &'a str,
    /// As it came, for redirects.
    host: String,
    protocol: Protocol,
    /// The name or alias of a bucket.
    bucket: String,
    /// Decoded; empty for the site itself.
    key: String,
}

impl<'a> Visitor<'a> {
    /// # Errors
    /// `InvalidRequest` without a host; `InvalidURI`, `KeyTooLongError`.
    fn new(
        worker: &'a Rc<Worker>,
        mut head: Parts,
        peer: IpAddr,
        request_id: &'a str,
    ) -> Result<Self, S3Error> {
        let host = host(&head)?;
        let bucket = bucket_of(&host, &worker.hosts);
        let key = split_path(head.uri.path(), Some(&bucket))?.key;
        let path = head.uri.path().to_owned();
        head.uri = Uri::try_from(path).map_err(|_| S3Error::from(ErrorCode::InvalidURI))?;
        // Only the visitor's own redirects depend on what a proxy says, or whoever claims to be one.
        let protocol = match single(&head.headers, "x-forwarded-proto")? {
            Some("https") => Protocol::Https,
            _ => Protocol::Http,
        };
        Ok(Self {
            worker,
            head,
            peer,
            request_id,
            host,
            protocol,
            bucket,
            key: key.unwrap_or_default(),
        })
    }

    async fn answer(&self) -> Answer {
        let mut answer = match self.head.method {
            Method::GET | Method::HEAD => self.visit().await,
            Method::OPTIONS => match cors::preflight(&self.facts(&self.key)).await {
                Ok(answer) => answer,
                Err(error) => self.page(&error, None),
            },
            _ => {
                let mut answer = self.page(&ErrorCode::MethodNotAllowed.into(), None);
                let allowed = HeaderValue::from_static("GET, HEAD, OPTIONS");
                answer.headers_mut().insert(ALLOW, allowed);
                answer
            }
        };
        if self.head.headers.contains_key(ORIGIN) {
            cors::add(&self.facts(&self.key), &mut answer).await;
        }
        answer
    }

    /// Begins anew while what this thread remembered of the site turns out to be old. Where nothing asked metadata (a redirect, no
    /// site), what is remembered does not suffice.
    async fn visit(&self) -> Answer {
        let mut fresh = false;
        for _ in 0..CHANGES_MAX {
            let site = match Site::find(self.worker, &self.bucket, fresh).await {
                Ok(site) => site,
                Err(_) if !fresh => {
                    fresh = true;
                    continue;
                }
                Err(error) => return self.page(&error, None),
            };
            if let Some(elsewhere) = site.website.before(self.seen()) {
                match fresh {
                    true => return redirect(&elsewhere),
                    false => fresh = true,
                }
                continue;
            }
            let WebsiteConfiguration::Pages { index, error, .. } = &*site.website else {
                continue; // unreachable: such a site sends everybody elsewhere
            };
            let answer = match self.get(index).await {
                Ok(answer) => answer,
                Err(failed) => self.instead(&site, index, error.as_deref(), failed).await,
            };
            if self.worker.credentials.revision() == site.authorized.revision {
                return answer;
            }
        }
        self.page(&ErrorCode::ServiceUnavailable.into(), None)
    }

    /// The object that is asked for.
    async fn get(&self, index: &str) -> Result<Answer, S3Error> {
        let key = match self.key.is_empty() || self.key.ends_with('/') {
            true => [&self.key, index].concat(),
            false => self.key.clone(),
        };
        check_key(&key)?;
        object(&self.facts(&key), Shown::Asked).await
    }

    /// What is shown in place of a page that cannot be.
    async fn instead(
        &self,
        site: &Site,
        index: &str,
        error_key: Option<&str>,
        failed: S3Error,
    ) -> Answer {
        let status = failed.status();
        if failed.code == ErrorCode::NoSuchKey && self.is_directory(index).await {
            return redirect(&Elsewhere {
                code: 302,
                location: format!("{}/", path_of(&self.key)),
            });
        }
        if let Some(elsewhere) = site.website.after(self.seen(), status) {
            return redirect(&elsewhere);
        }
        // Those of conditions and ranges are answers about a page that is there.
        let is_about_page = matches!(
            failed.code,
            ErrorCode::PreconditionFailed | ErrorCode::InvalidRange
        );
        let Some(key) = error_key.filter(|_| (400..500).contains(&status) && !is_about_page) else {
            return self.page(&failed, None);
        };
        match object(&self.facts(key), Shown::Instead).await {
            Ok(mut answer) => {
                *answer.status_mut() =
                    StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_FOUND);
                answer::set(&mut answer, "x-amz-error-code", failed.code.as_str());
                answer::set(&mut answer, "x-amz-error-message", &failed.message);
                answer
            }
            Err(of_page) => self.page(&failed, Some(&of_page)),
        }
    }

    /// Whether the key with a slash behind it has an index.
    async fn is_directory(&self, index: &str) -> bool {
        if self.key.is_empty() || self.key.ends_with('/') {
            return false;
        }
        let key = format!("{}/{index}", self.key);
        check_key(&key).is_ok() && is_there(&self.facts(&key)).await
    }

    /// The request as if it were one for the object `key`, by somebody without a key.
    fn facts(&self, key: &str) -> Rc<Facts> {
        Rc::new(Facts {
            head: self.head.clone(),
            host_bucket: Some(self.bucket.clone()),
            resource: Resource {
                bucket: Some(self.bucket.clone()),
                key: Some(key.to_owned()),
            },
            routed: Ok(Operation::GetObject),
            peer: self.peer,
            worker: self.worker.clone(),
        })
    }

    fn seen(&self) -> Visit<'_> {
        Visit {
            host: &self.host,
            protocol: self.protocol,
            key: &self.key,
        }
    }

    fn page(&self, error: &S3Error, of_page: Option<&S3Error>) -> Answer {
        if error.status() >= 500 {
            let (method, path) = (&self.head.method, self.head.uri.path());
            runtime::warn!("{} {method} {path}: {error}", self.request_id);
        }
        page(error, of_page, self.request_id, &self.head.method)
    }
}

fn redirect(elsewhere: &Elsewhere) -> Answer {
    let status = StatusCode::from_u16(elsewhere.code).unwrap_or(StatusCode::FOUND);
    let mut answer = answer::empty(status);
    if let Ok(location) = HeaderValue::from_str(&elsewhere.location) {
        answer.headers_mut().insert(LOCATION, location);
    }
    answer
}
