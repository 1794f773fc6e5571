//! Which site a request is for: from the host name to a bucket and its website configuration.

use http::request::Parts;
use object_http::credentials::Authorized;
use object_http::metadata::Failure;
use object_http::worker::Worker;
use protocol::metadata::MetadataError;
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::headers::single;
use s3_wire::names::{check_bucket_name, split_host};
use s3_wire::settings::WebsiteConfiguration;
use std::rc::Rc;

/// A bucket that is a web site.
pub(crate) struct Site {
    /// What metadata said of the bucket to somebody without a key.
    pub(crate) authorized: Rc<Authorized>,
    /// How it answers.
    pub(crate) website: Rc<WebsiteConfiguration>,
}

/// The `Host` of a request, with its port.
///
/// # Errors
/// `InvalidRequest` for none or more than one.
pub(crate) fn host(head: &Parts) -> Result<String, S3Error> {
    // An absolute request target names the host; RFC 9112 (3.2.2) lets it win over the header.
    if let Some(authority) = head.uri.authority() {
        return Ok(authority.as_str().to_owned());
    }
    let host = single(&head.headers, "host")?;
    host.filter(|host| !host.is_empty())
        .map(str::to_owned)
        .ok_or_else(|| S3Error::with(ErrorCode::InvalidRequest, "A Host header is needed."))
}

/// The bucket's name or alias that a host stands for: what stands before one of `domains`, or else all of it.
pub(crate) fn bucket_of(host: &str, domains: &[String]) -> String {
    split_host(host, domains).unwrap_or_else(|| {
        let name = match host.starts_with('[') {
            true => host,
            false => host.split_once(':').map_or(host, |(name, _)| name),
        };
        name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
    })
}

impl Site {
    /// The site of a bucket's name or alias, as of what this thread knows, or as of now where `fresh`.
    ///
    /// # Errors
    /// `NoSuchBucket`, `NoSuchWebsiteConfiguration`.
    pub(crate) async fn find(worker: &Worker, name: &str, fresh: bool) -> Result<Self, S3Error> {
        let missing = |code| S3Error::new(code).and("BucketName", name);
        if check_bucket_name(name).is_err() {
            return Err(missing(ErrorCode::NoSuchBucket));
        }
        let found = worker
            .credentials
            .website(&worker.metadata, name, fresh)
            .await;
        match found {
            Ok((authorized, Some(website))) => Ok(Self {
                authorized,
                website,
            }),
            Ok((_, None)) => Err(missing(ErrorCode::NoSuchWebsiteConfiguration)),
            Err(MetadataError::NoSuchBucket) => Err(missing(ErrorCode::NoSuchBucket)),
            Err(error) => Err(Failure::from(error).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_bucket_below_a_domain_or_a_name_of_its_own() {
        let domains = ["web.localhost".to_owned(), "localhost".to_owned()];
        let check = |host: &str, expected: &str| assert_eq!(bucket_of(host, &domains), expected);
        check("site.localhost:3902", "site");
        check("site.web.localhost", "site");
        check("a.b.localhost", "a.b");
        check("WWW.Example.ORG:80", "www.example.org");
        check("www.example.org.", "www.example.org");
        check("localhost", "localhost");
        check("127.0.0.1:3902", "127.0.0.1");
        check("[::1]:3902", "[::1]:3902");
        check("", "");
    }
}
