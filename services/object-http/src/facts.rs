//! What is known of a request before anything is done: its line and headers, who is at the other end, and, from these, the answers to
//! the conditions of policies.

use crate::version_id;
use crate::worker::Worker;
use http::header::HOST;
use http::request::Parts;
use protocol::metadata::VersionId;
use runtime::unix_ms;
use s3_wire::dates::{iso8601, parse_amz_date};
use s3_wire::encryption;
use s3_wire::error::S3Error;
use s3_wire::headers::{single, unsupported};
use s3_wire::names::{Resource, split_host, split_path};
use s3_wire::policy::{Context, Principal, action};
use s3_wire::query::Query;
use s3_wire::routing::{Operation, route};
use s3_wire::sigv2::PresignedV2;
use s3_wire::tags::Tag;
use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;

/// A request's own words.
pub struct Facts {
    /// Method, path and headers as they came.
    pub head: Parts,
    /// The bucket, where the host names it (virtual-host style).
    pub host_bucket: Option<String>,
    /// Bucket and key, decoded.
    pub resource: Resource,
    /// What it is, or why it is nothing.
    pub routed: Result<Operation, S3Error>,
    /// Who is at the other end of the connection.
    pub peer: IpAddr,
    /// The thread that serves it.
    pub worker: Rc<Worker>,
}

impl Facts {
    /// Reads where a request goes.
    ///
    /// # Errors
    /// With the head given back: `InvalidRequest`, `InvalidURI` and others for a host or path that cannot be.
    pub fn new(
        worker: &Rc<Worker>,
        head: Parts,
        peer: IpAddr,
    ) -> Result<Self, Box<(S3Error, Parts)>> {
        let (host_bucket, resource) = match resource(worker, &head) {
            Ok(found) => found,
            Err(error) => return Err(Box::new((error, head))),
        };
        let routed = Query::parse(head.uri.query().unwrap_or_default())
            .and_then(|query| route(head.method.as_str(), &resource, &query, &head.headers))
            .and_then(|operation| unsupported(&head.headers).map_or(Ok(operation), Err))
            .and_then(|operation| encryption::check(operation, &head.headers).map(|()| operation));
        Ok(Self {
            head,
            host_bucket,
            resource,
            routed,
            peer,
            worker: worker.clone(),
        })
    }

    /// What it is, if it is anything.
    pub fn operation(&self) -> Option<Operation> {
        self.routed.as_ref().ok().copied()
    }

    /// The raw query, empty without one.
    pub fn query(&self) -> &str {
        self.head.uri.query().unwrap_or_default()
    }

    fn is_signed_by_v2(&self) -> bool {
        Query::parse(self.query()).is_ok_and(|query| PresignedV2::is_in(&query))
    }

    fn header(&self, name: &str) -> Option<String> {
        single(&self.head.headers, name)
            .ok()
            .flatten()
            .map(str::to_owned)
    }

    fn parameter(&self, name: &str) -> Option<String> {
        let query = Query::parse(self.query()).ok()?;
        query
            .has(name)
            .then(|| query.get(name).unwrap_or_default().to_owned())
    }

    /// The version that the query names, if it names one.
    pub fn version(&self) -> Option<VersionId> {
        version_id::parse(&self.parameter("versionId")?).ok()
    }

    /// Every action that the request is, all of which must be allowed.
    pub fn actions(&self, operation: Operation) -> Vec<&'static str> {
        let versioned = self.parameter("versionId").is_some();
        let mut actions: Vec<_> = action(operation, versioned).into_iter().collect();
        let writes = matches!(
            operation,
            Operation::PutObject
                | Operation::CopyObject
                | Operation::CreateMultipartUpload
                | Operation::PostObject
        );
        let has = |name: &str| self.head.headers.contains_key(name);
        let by_header = [
            ("x-amz-tagging", "s3:PutObjectTagging"),
            ("x-amz-object-lock-mode", "s3:PutObjectRetention"),
            ("x-amz-object-lock-legal-hold", "s3:PutObjectLegalHold"),
        ];
        let with_header = by_header.iter().filter(|(name, _)| writes && has(name));
        actions.extend(with_header.map(|(_, action)| *action));
        actions
    }

    /// The tags that the request's header gives to an object.
    fn tags(&self) -> Vec<Tag> {
        let written = self.header("x-amz-tagging").unwrap_or_default();
        let Ok(tags) = Query::parse(&written) else {
            return Vec::new();
        };
        let pairs = tags.iter();
        pairs
            .map(|(key, value)| (key.to_owned(), value.unwrap_or_default().to_owned()))
            .collect()
    }
}

/// A request and who asks: what conditions are judged by.
pub struct Asked<'a> {
    /// The request.
    pub facts: &'a Facts,
    /// Of the object that is asked for.
    pub tags: &'a [Tag],
    /// What it is to have, where the request's body says that and not a header.
    pub given: Option<&'a [Tag]>,
    /// Who; `None` for somebody without a key.
    pub principal: Option<Principal<'a>>,
}

impl Context for Asked<'_> {
    fn values(&self, key: &str) -> Vec<String> {
        let values = |tags: &[Tag], wanted: &str| {
            let found = tags.iter().filter(|(key, _)| key == wanted);
            found.map(|(_, value)| value.clone()).collect()
        };
        if let Some(tag) = key.strip_prefix("s3:requestobjecttag/") {
            return values(&self.given(), tag);
        }
        if let Some(tag) = key.strip_prefix("s3:existingobjecttag/") {
            return values(self.tags, tag);
        }
        if key == "s3:requestobjecttagkeys" {
            return self.given().iter().map(|(key, _)| key.clone()).collect();
        }
        self.value(key).into_iter().collect()
    }
}

impl Asked<'_> {
    fn given(&self) -> Cow<'_, [Tag]> {
        match self.given {
            Some(tags) => Cow::Borrowed(tags),
            None => Cow::Owned(self.facts.tags()),
        }
    }

    fn value(&self, key: &str) -> Option<String> {
        let facts = self.facts;
        let lists = matches!(
            facts.operation(),
            Some(
                Operation::ListObjects
                    | Operation::ListObjectsV2
                    | Operation::ListObjectVersions
                    | Operation::ListMultipartUploads
            )
        );
        match key {
            "aws:sourceip" => Some(facts.peer.to_canonical().to_string()),
            // The listener of this process speaks no TLS.
            "aws:securetransport" => Some("false".to_owned()),
            "aws:useragent" => facts.header("user-agent"),
            "aws:referer" => facts.header("referer"),
            "aws:requestedregion" => Some(facts.worker.region.clone()),
            "aws:currenttime" => Some(iso8601(unix_ms())),
            "aws:epochtime" => Some((unix_ms() / 1000).to_string()),
            "aws:username" => self.principal.map(|one| one.name.to_owned()),
            "aws:userid" => Some(match self.principal {
                Some(one) => one.access_key.to_owned(),
                None => "anonymous".to_owned(),
            }),
            "aws:principalarn" => {
                let arn = |one: Principal<'_>| format!("arn:aws:iam:::user/{}", one.name);
                self.principal.map(arn)
            }
            "aws:principaltype" => Some(match self.principal {
                Some(_) => "User".to_owned(),
                None => "Anonymous".to_owned(),
            }),
            "s3:authtype" => self.principal.map(|_| self.form().to_owned()),
            "s3:signatureversion" => self.principal.map(|_| {
                let v2 = self.facts.is_signed_by_v2();
                if v2 { "AWS" } else { "AWS4-HMAC-SHA256" }.to_owned()
            }),
            "s3:signatureage" => {
                let signed_s = parse_amz_date(&facts.parameter("X-Amz-Date")?)?;
                Some(unix_ms().saturating_sub(signed_s * 1000).to_string())
            }
            "s3:versionid" => facts.parameter("versionId"),
            "s3:prefix" | "s3:delimiter" | "s3:max-keys" if lists => {
                facts.parameter(key.strip_prefix("s3:")?)
            }
            "s3:if-match" | "s3:if-none-match" => facts.header(key.strip_prefix("s3:")?),
            "s3:object-lock-mode"
            | "s3:object-lock-legal-hold"
            | "s3:object-lock-retain-until-date" => {
                facts.header(&format!("x-amz-{}", key.strip_prefix("s3:")?))
            }
            other => facts.header(
                other
                    .strip_prefix("s3:")
                    .filter(|name| name.starts_with("x-amz-"))?,
            ),
        }
    }

    /// How the request is signed.
    fn form(&self) -> &'static str {
        match self.facts.operation() {
            Some(Operation::PostObject) => "POST",
            _ if self.facts.parameter("X-Amz-Signature").is_some()
                || self.facts.is_signed_by_v2() =>
            {
                "REST-QUERY-STRING"
            }
            _ => "REST-HEADER",
        }
    }
}

fn resource(worker: &Worker, head: &Parts) -> Result<(Option<String>, Resource), S3Error> {
    // An absolute request target names the host; RFC 9112 (3.2.2) lets it win over the header.
    let host = match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => single(&head.headers, HOST.as_str())?,
    };
    let bucket = host.and_then(|host| split_host(host, &worker.hosts));
    let resource = split_path(head.uri.path(), bucket.as_deref())?;
    Ok((bucket, resource))
}
