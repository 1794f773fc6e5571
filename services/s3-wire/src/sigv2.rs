//! AWS Signature Version 2 in presigned addresses, and nowhere else: `boto3`, `aws s3 presign` in us-east-1 and
//! `s3cmd signurl` still make these unless told otherwise.
//!
//! Weaker than Version 4 in one respect that matters here: parameters that it does not know are not signed. So a
//! request with any parameter beyond those that are signed is refused.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/RESTAuthentication.html>

use crate::dates;
use crate::error::{ErrorCode, S3Error};
use crate::headers::RequestView;
use crate::query::Query;
use crate::sigv4::ACCESS_KEY_BYTES_MAX;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use std::collections::BTreeMap;

/// The parameters that carry the signature.
const OWN: [&str; 3] = ["AWSAccessKeyId", "Expires", "Signature"];
/// The parameters that are signed, where they occur.
const SIGNED: [&str; 16] = [
    "acl",
    "cors",
    "lifecycle",
    "location",
    "partNumber",
    "policy",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "tagging",
    "uploadId",
    "uploads",
    "versionId",
];

/// A parsed signature, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresignedV2 {
    access_key: String,
    signature: Vec<u8>,
    expires: String,
    expires_at_s: u64,
    /// The signed parameters as the string to sign has them, `?` included; empty if there are none.
    parameters: String,
}

impl PresignedV2 {
    /// Whether the query is signed by this version.
    pub fn is_in(query: &Query<'_>) -> bool {
        query.has("Signature") && query.has("AWSAccessKeyId")
    }

    /// Takes the signature out of a query.
    ///
    /// # Errors
    /// `AccessDenied` for a missing or odd `Expires` and for a parameter that is not signed, with its name;
    /// `InvalidAccessKeyId` for one that is too long; `SignatureDoesNotMatch` for one that is not in base64.
    pub fn parse(query: &Query<'_>) -> Result<Self, S3Error> {
        let denied = |message: &str| S3Error::with(ErrorCode::AccessDenied, message);
        let access_key = query.get("AWSAccessKeyId").unwrap_or_default();
        if access_key.len() > ACCESS_KEY_BYTES_MAX {
            return Err(ErrorCode::InvalidAccessKeyId.into());
        }
        let expires = query.get("Expires").ok_or_else(|| {
            denied("Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters")
        })?;
        let expires_at_s = expires.parse().map_err(|_| {
            denied("Invalid date (should be seconds since epoch)").and("Expires", expires)
        })?;
        let signature = query.get("Signature").unwrap_or_default();
        let signature = BASE64.decode(signature).map_err(|_| {
            S3Error::new(ErrorCode::SignatureDoesNotMatch).and("SignatureProvided", signature)
        })?;
        let mut signed = BTreeMap::new();
        for (name, value) in query.iter().filter(|(name, _)| !OWN.contains(name)) {
            if !SIGNED.contains(&name) || signed.insert(name, value).is_some() {
                let message = "Signature Version 2 does not cover a parameter of this request; sign with Version 4";
                return Err(denied(message).and("Parameter", name));
            }
        }
        let mut parameters = String::new();
        for (name, value) in signed {
            parameters.push(if parameters.is_empty() { '?' } else { '&' });
            parameters.push_str(name);
            if let Some(value) = value {
                parameters.push('=');
                parameters.push_str(value);
            }
        }
        Ok(Self {
            access_key: access_key.to_owned(),
            signature,
            expires: expires.to_owned(),
            expires_at_s,
            parameters,
        })
    }

    /// The access key that the request claims.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// Verifies the signature of the request that this was parsed from. `host_bucket` is the bucket that its host
    /// names, if it does; `now_s` is our clock. Signatures are compared in constant time.
    ///
    /// # Errors
    /// `AccessDenied` after its end, `SignatureDoesNotMatch` with the string that we signed.
    pub fn verify(
        &self,
        view: &RequestView<'_>,
        host_bucket: Option<&str>,
        secret_key: &str,
        now_s: u64,
    ) -> Result<(), S3Error> {
        if now_s > self.expires_at_s {
            let server_time = dates::iso8601(now_s.saturating_mul(1000));
            let expired = S3Error::with(ErrorCode::AccessDenied, "Request has expired");
            return Err(expired
                .and(
                    "Expires",
                    dates::iso8601(self.expires_at_s.saturating_mul(1000)),
                )
                .and("ServerTime", server_time));
        }
        let to_sign = self.string_to_sign(view, host_bucket);
        #[allow(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha1>::new_from_slice(secret_key.as_bytes())
            .expect("HMAC takes keys of every length");
        mac.update(to_sign.as_bytes());
        mac.verify_slice(&self.signature).map_err(|_| {
            S3Error::new(ErrorCode::SignatureDoesNotMatch)
                .and("AWSAccessKeyId", self.access_key.as_str())
                .and("StringToSign", to_sign)
                .and("SignatureProvided", BASE64.encode(&self.signature))
        })
    }

    fn string_to_sign(&self, view: &RequestView<'_>, host_bucket: Option<&str>) -> String {
        let first = |name: &str| trimmed(view.headers.first(name).unwrap_or_default());
        let (md5, content_type) = (first("content-md5"), first("content-type"));
        let mut text = [view.method, &md5, &content_type, &self.expires].join("\n");
        text.push('\n');
        let mut amz: BTreeMap<String, String> = BTreeMap::new();
        view.headers.each(&mut |name, value| {
            if name.starts_with("x-amz-") {
                let values = amz.entry(name.to_owned()).or_default();
                if !values.is_empty() {
                    values.push(',');
                }
                values.push_str(&trimmed(value));
            }
        });
        for (name, value) in amz {
            text.push_str(&format!("{name}:{value}\n"));
        }
        if let Some(bucket) = host_bucket {
            text.push('/');
            text.push_str(bucket);
        }
        text.push_str(view.path);
        text.push_str(&self.parameters);
        text
    }
}

fn trimmed(value: &[u8]) -> String {
    String::from_utf8_lossy(value.trim_ascii()).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use proptest::prelude::*;

    /// Of AWS's documentation ("RESTAuthentication"); the key pair is the documentation's.
    const ACCESS: &str = "AKIAIOSFODNN7EXAMPLE";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    const NOW_S: u64 = 1_141_889_000;

    type Headers = Vec<(&'static str, &'static str)>;

    fn parse(query: &str) -> Result<PresignedV2, S3Error> {
        let query = Query::parse(query).unwrap();
        assert!(PresignedV2::is_in(&query));
        PresignedV2::parse(&query)
    }

    fn verify(
        method: &str,
        target: &str,
        headers: &Headers,
        host_bucket: Option<&str>,
    ) -> Result<(), S3Error> {
        let (path, query) = target.split_once('?').unwrap();
        let view = RequestView {
            method,
            path,
            query,
            headers,
        };
        parse(query)?.verify(&view, host_bucket, SECRET, NOW_S)
    }

    #[test]
    fn the_example_of_the_documentation_is_right() {
        let query = format!(
            "AWSAccessKeyId={ACCESS}&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620"
        );
        let good = format!("/photos/puppy.jpg?{query}");
        for (target, bucket) in [
            (good.as_str(), Some("johnsmith")),
            (&format!("/johnsmith{good}"), None),
        ] {
            verify("GET", target, &Vec::new(), bucket).unwrap();
            let code = |method, headers: &Headers, bucket| {
                verify(method, target, headers, bucket).unwrap_err().code
            };
            let wrong = ErrorCode::SignatureDoesNotMatch;
            assert_eq!(code("PUT", &Vec::new(), bucket), wrong);
            assert_eq!(code("GET", &vec![("x-amz-acl", "private")], bucket), wrong);
            assert_eq!(
                code("GET", &vec![("content-type", "text/plain")], bucket),
                wrong
            );
            assert_eq!(code("GET", &Vec::new(), Some("other")), wrong);
        }
    }

    #[test]
    fn its_end_is_its_end() {
        let query = format!(
            "AWSAccessKeyId={ACCESS}&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620"
        );
        let view = RequestView {
            method: "GET",
            path: "/photos/puppy.jpg",
            query: &query,
            headers: &Headers::new(),
        };
        let presigned = parse(&query).unwrap();
        let at = |now_s| presigned.verify(&view, Some("johnsmith"), SECRET, now_s);
        assert!(at(1_175_139_620).is_ok());
        assert_eq!(at(1_175_139_621).unwrap_err().code, ErrorCode::AccessDenied);
    }

    #[test]
    fn what_is_not_signed_is_refused() {
        for (query, code) in [
            ("AWSAccessKeyId=a&Signature=YQ==", ErrorCode::AccessDenied),
            (
                "AWSAccessKeyId=a&Signature=YQ==&Expires=soon",
                ErrorCode::AccessDenied,
            ),
            (
                "AWSAccessKeyId=a&Signature=YQ==&Expires=1&prefix=x",
                ErrorCode::AccessDenied,
            ),
            (
                "AWSAccessKeyId=a&Signature=YQ==&Expires=1&attributes",
                ErrorCode::AccessDenied,
            ),
            (
                "AWSAccessKeyId=a&Signature=YQ==&Expires=1&acl&acl",
                ErrorCode::AccessDenied,
            ),
            (
                "AWSAccessKeyId=a&Signature=%&Expires=1",
                ErrorCode::SignatureDoesNotMatch,
            ),
        ] {
            let Ok(parsed) = Query::parse(query) else {
                continue;
            };
            assert_eq!(
                PresignedV2::parse(&parsed).unwrap_err().code,
                code,
                "{query}"
            );
        }
    }

    #[test]
    fn signed_parameters_are_sorted_and_decoded() {
        let presigned = parse("versionId=x%20y&AWSAccessKeyId=a&Signature=YQ==&Expires=9&response-content-type=a%2Fb&acl").unwrap();
        assert_eq!(
            presigned.parameters,
            "?acl&response-content-type=a/b&versionId=x y"
        );
    }

    proptest! {
        #[test]
        fn no_query_breaks_the_parser(query in "[A-Za-z0-9%&=+/]{0,80}") {
            if let Ok(query) = Query::parse(&query) {
                let _ = PresignedV2::parse(&query);
            }
        }
    }
}
