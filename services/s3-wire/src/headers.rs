//! Request headers as this library reads them, and the ones whose presence must not be ignored.
//!
//! The rule (issue 2): a header that would change the meaning of a request is never ignored. So
//! every `x-amz-*` header is either known here, with the reason why it is harmless or where it is
//! honoured, or refused by name.

use crate::error::{ErrorCode, S3Error};
use crate::query::Query;
use crate::settings::canned_acl;

/// Most bytes of user metadata (names without `x-amz-meta-`, and values) that AWS allows.
pub const USER_METADATA_BYTES_MAX: usize = 2048;

/// The query parameters by which a signed GET overrides headers of the answer, and the headers that
/// they override.
pub const RESPONSE_OVERRIDES: [(&str, &str); 6] = [
    ("response-cache-control", "cache-control"),
    ("response-content-disposition", "content-disposition"),
    ("response-content-encoding", "content-encoding"),
    ("response-content-language", "content-language"),
    ("response-content-type", "content-type"),
    ("response-expires", "expires"),
];

/// The headers of a request, wherever they live. Names are given in lower case.
pub trait Headers: Sync {
    /// Calls `visit` with every value of `name`, in the order of arrival.
    fn values<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8]));

    /// Calls `visit` with every name and value; a repeated name is visited once per value.
    fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a str, &'a [u8]));

    /// The first value of `name`.
    fn first(&self, name: &str) -> Option<&[u8]> {
        let mut found = None;
        self.values(name, &mut |value| {
            if found.is_none() {
                found = Some(value);
            }
        });
        found
    }
}

impl Headers for http::HeaderMap {
    fn values<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        for value in self.get_all(name) {
            visit(value.as_bytes());
        }
    }

    fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a str, &'a [u8])) {
        for (name, value) in self {
            visit(name.as_str(), value.as_bytes());
        }
    }

    fn first(&self, name: &str) -> Option<&[u8]> {
        self.get(name).map(|value| value.as_bytes())
    }
}

/// Plain lists, for tests and clients. Names must be in lower case.
impl<N: AsRef<str> + Sync, V: AsRef<[u8]> + Sync> Headers for Vec<(N, V)> {
    fn values<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        for (_, value) in self.iter().filter(|(n, _)| n.as_ref() == name) {
            visit(value.as_ref());
        }
    }

    fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a str, &'a [u8])) {
        for (name, value) in self {
            visit(name.as_ref(), value.as_ref());
        }
    }
}

/// A request without its body, exactly as it came over the wire.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// The path of the request target, still percent-encoded, beginning with `/`.
    pub path: &'a str,
    /// The query of the request target without `?`, still percent-encoded; empty when there is
    /// none.
    pub query: &'a str,
    /// The headers.
    pub headers: &'a dyn Headers,
}

/// The value of a header that may come once and must be text.
///
/// # Errors
/// `InvalidRequest` when the header is repeated (a proxy and this server could otherwise pick
/// different ones) or is not UTF-8.
pub fn single<'a>(headers: &'a dyn Headers, name: &str) -> Result<Option<&'a str>, S3Error> {
    let (mut found, mut count) = (None, 0_usize);
    headers.values(name, &mut |value| {
        found = Some(value);
        count += 1;
    });
    if count > 1 {
        let message = format!("The header {name} was given more than once");
        return Err(S3Error::with(ErrorCode::InvalidRequest, message));
    }
    let Some(value) = found else { return Ok(None) };
    match std::str::from_utf8(value) {
        Ok(text) => Ok(Some(text.trim_matches([' ', '\t']))),
        Err(_) => {
            let message = format!("The header {name} is not valid UTF-8");
            Err(S3Error::with(ErrorCode::InvalidRequest, message))
        }
    }
}

/// The user metadata of an upload: names without `x-amz-meta-` in lower case, first those of the
/// headers in the order of arrival (repeats joined by a comma), then those of a presigned URL's
/// query that no header repeats.
///
/// # Errors
/// `MetadataTooLarge` beyond [`USER_METADATA_BYTES_MAX`]; `InvalidArgument` for a value that is not
/// UTF-8 or an empty name.
pub fn user_metadata(
    headers: &dyn Headers,
    query: &Query<'_>,
) -> Result<Vec<(String, String)>, S3Error> {
    let mut metadata = UserMetadata::default();
    headers.each(&mut |name, value| {
        if let Some(name) = name.strip_prefix("x-amz-meta-") {
            metadata.add(name, value);
        }
    });
    let from_headers = metadata.pairs.len();
    for (name, value) in query.iter() {
        let name = name.to_ascii_lowercase();
        let Some(name) = name.strip_prefix("x-amz-meta-") else {
            continue;
        };
        if !metadata
            .pairs
            .iter()
            .take(from_headers)
            .any(|(known, _)| known == name)
        {
            metadata.add(name, value.unwrap_or_default().as_bytes());
        }
    }
    metadata.finish()
}

/// User metadata under collection, and the first thing that is wrong with it.
#[derive(Default)]
struct UserMetadata {
    pairs: Vec<(String, String)>,
    bytes: usize,
    refusal: Option<S3Error>,
}

impl UserMetadata {
    fn add(&mut self, name: &str, value: &[u8]) {
        self.bytes = self
            .bytes
            .saturating_add(name.len())
            .saturating_add(value.len());
        let Ok(value) = std::str::from_utf8(value) else {
            let message = "User metadata must be valid UTF-8";
            let name = format!("x-amz-meta-{name}");
            self.refusal
                .get_or_insert_with(|| S3Error::argument(message, name, ""));
            return;
        };
        if name.is_empty() {
            let message = "Metadata key cannot be empty";
            self.refusal
                .get_or_insert_with(|| S3Error::argument(message, "x-amz-meta-", value));
        } else if self.bytes <= USER_METADATA_BYTES_MAX {
            let value = value.trim_matches([' ', '\t']);
            match self.pairs.iter_mut().find(|(known, _)| known == name) {
                Some((_, list)) => {
                    list.push(',');
                    list.push_str(value);
                }
                None => self.pairs.push((name.to_owned(), value.to_owned())),
            }
        }
    }

    fn finish(self) -> Result<Vec<(String, String)>, S3Error> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        if self.bytes > USER_METADATA_BYTES_MAX {
            return Err(S3Error::new(ErrorCode::MetadataTooLarge)
                .and("Size", self.bytes.to_string())
                .and("MaxSizeAllowed", USER_METADATA_BYTES_MAX.to_string()));
        }
        Ok(self.pairs)
    }
}

/// The `Content-Encoding` to store: the one that was sent without `aws-chunked`, which only
/// describes the transfer.
///
/// `None` when nothing remains.
pub fn stored_content_encoding(sent: &str) -> Option<String> {
    let kept: Vec<&str> = sent
        .split(',')
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    if kept.is_empty() {
        None
    } else {
        Some(kept.join(","))
    }
}

/// Refuses the first header that asks for something that this server does not do.
///
/// Every `x-amz-*` header passes through [`verdict`]; other headers either are HTTP's own and
/// honoured by the frontend, or have no meaning in S3. `None` means that nothing stands in the way.
pub fn unsupported(headers: &dyn Headers) -> Option<S3Error> {
    let mut refusal = None;
    headers.each(&mut |name, value| {
        if refusal.is_some() || !name.starts_with("x-amz-") {
            return;
        }
        let value = std::str::from_utf8(value).unwrap_or("").trim();
        if name == "x-amz-acl" {
            refusal = canned_acl(value).err();
        } else if name.starts_with("x-amz-grant-") {
            refusal = Some(ErrorCode::AccessControlListNotSupported.into());
        } else if !verdict(name, value) {
            refusal = Some(S3Error::not_implemented("Header", name));
        }
    });
    refusal
}

/// Whether a header that begins with `x-amz-` may be let through with this value.
fn verdict(name: &str, value: &str) -> bool {
    // Honoured elsewhere: signatures, checksums, metadata, copying.
    if name.starts_with("x-amz-meta-") || name.starts_with("x-amz-checksum-") {
        return true; // `checksum::Expected` refuses algorithms that it does not know.
    }
    match name {
        "x-amz-date"
        | "x-amz-content-sha256"
        | "x-amz-security-token" // refused by sigv4 with InvalidToken
        | "x-amz-decoded-content-length"
        | "x-amz-trailer"
        | "x-amz-sdk-checksum-algorithm"
        | "x-amz-copy-source"
        | "x-amz-copy-source-range"
        | "x-amz-copy-source-if-match"
        | "x-amz-copy-source-if-none-match"
        | "x-amz-copy-source-if-modified-since"
        | "x-amz-copy-source-if-unmodified-since"
        | "x-amz-metadata-directive"
        | "x-amz-mp-object-size" // compared by CompleteMultipartUpload
        | "x-amz-tagging"
        | "x-amz-tagging-directive"
        | "x-amz-object-lock-mode"
        | "x-amz-object-lock-retain-until-date"
        | "x-amz-object-lock-legal-hold"
        | "x-amz-bypass-governance-retention"
        | "x-amz-bucket-object-lock-enabled"
        | "x-amz-skip-destination-validation" // of PutBucketNotificationConfiguration
        | "x-amz-website-redirect-location"
        | "x-amz-rename-source"
        | "x-amz-rename-source-if-match"
        | "x-amz-rename-source-if-none-match"
        | "x-amz-rename-source-if-modified-since"
        | "x-amz-rename-source-if-unmodified-since"
        | "x-amz-client-token" // of RenameObject
        | "x-amz-server-side-encryption" // `encryption::check` says where each of these may be
        | "x-amz-server-side-encryption-customer-algorithm"
        | "x-amz-server-side-encryption-customer-key"
        | "x-amz-server-side-encryption-customer-key-md5"
        | "x-amz-copy-source-server-side-encryption-customer-algorithm"
        | "x-amz-copy-source-server-side-encryption-customer-key"
        | "x-amz-copy-source-server-side-encryption-customer-key-md5"
        | "x-amz-object-attributes" // only GetObjectAttributes reads it
        | "x-amz-max-parts"
        | "x-amz-part-number-marker" => true,

        // Say who is asking or how the request came here.
        "x-amz-user-agent" | "x-amz-cf-id" | "x-amz-api-version" | "x-amz-te" => true,

        // The requester agrees to be charged; AWS, too, ignores it on a bucket whose owner pays, as
        // all of ours are.
        "x-amz-request-payer" => value.eq_ignore_ascii_case("requester"),

        // Asks to add RestoreStatus to listings, which AWS leaves out for objects that were never
        // archived.
        "x-amz-optional-object-attributes" => value.eq_ignore_ascii_case("RestoreStatus"),

        // The only access control list of a bucket whose owner owns everything. s3cmd sends
        // `private` each time, and `bucket-owner-full-control` is what AWS tells people to send.
        "x-amz-acl" => matches!(value, "private" | "bucket-owner-full-control"),

        // s3cmd sends STANDARD each time. Other classes promise another price or durability.
        "x-amz-storage-class" => value == "STANDARD",

        // What a bucket is like anyway.
        "x-amz-object-ownership" => value == "BucketOwnerEnforced",
        "x-amz-bucket-namespace" => value == "global",

        // Everything else promises something: x-amz-server-side-encryption-aws-kms-key-id and other
        // words of AWS's key management service, x-amz-mfa (protection against deletion), x-amz-grant-* (rights),
        // x-amz-expected-bucket-owner and x-amz-source-expected-bucket-owner (a condition that we
        // cannot check: there are no AWS accounts here),
        // x-amz-write-offset-bytes,
        // x-amz-if-match-* (conditions of directory buckets), and whatever
        // AWS invents next.
        _ => false,
    }
}

/// Whether a query parameter that begins with `x-amz-` (in lower case) may be let through.
///
/// Presigners of SDKs move headers into the query, and S3 treats them one by one: it takes
/// `x-amz-meta-*` from there (as [`user_metadata`] does), ignores checksums (of an empty body:
/// nobody knew the real one), and wants others as headers. What would promise something is refused
/// here as in a header.
pub(crate) fn parameter_verdict(name: &str, value: &str) -> bool {
    let signature = matches!(
        name,
        "x-amz-algorithm"
            | "x-amz-content-sha256"
            | "x-amz-credential"
            | "x-amz-date"
            | "x-amz-expires"
            | "x-amz-security-token"
            | "x-amz-signature"
            | "x-amz-signedheaders"
            | "x-amz-sdk-checksum-algorithm"
    );
    let honoured_only_as_header = [
        "x-amz-copy-source",
        "x-amz-tagging",
        "x-amz-object-lock-",
        "x-amz-server-side-encryption", // a key does not belong in an address
        "x-amz-rename-source",
    ]
    .iter()
    .any(|start| name.starts_with(start))
        || matches!(
            name,
            "x-amz-metadata-directive"
                | "x-amz-mp-object-size"
                | "x-amz-trailer"
                | "x-amz-bypass-governance-retention"
                | "x-amz-bucket-object-lock-enabled"
                | "x-amz-skip-destination-validation"
                | "x-amz-client-token"
        );
    signature || (!honoured_only_as_header && verdict(name, value))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test that fails may panic"
    )]
    use super::*;

    fn list(pairs: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        pairs.to_vec()
    }

    #[test]
    fn headers_that_promise_something_are_refused_by_name() {
        let check = |name: &'static str, value: &'static str| unsupported(&list(&[(name, value)]));
        for (name, value) in [
            ("x-amz-server-side-encryption-aws-kms-key-id", "a"),
            ("x-amz-server-side-encryption-context", "e30="),
            ("x-amz-storage-class", "GLACIER"),
            ("x-amz-expected-bucket-owner", "123456789012"),
            ("x-amz-mfa", "1 2"),
            ("x-amz-write-offset-bytes", "5"),
            ("x-amz-invented-tomorrow", "yes"),
        ] {
            let refusal = check(name, value).unwrap();
            assert_eq!(refusal.code, ErrorCode::NotImplemented);
            assert_eq!(refusal.extra, [("Header", name.to_owned())]);
        }
        for (name, value) in [("x-amz-acl", "public-read"), ("x-amz-grant-read", "id=1")] {
            let code = check(name, value).unwrap().code;
            assert_eq!(code, ErrorCode::AccessControlListNotSupported);
        }
        for (name, value) in [
            ("x-amz-acl", "private"),
            ("x-amz-storage-class", "STANDARD"),
            ("x-amz-request-payer", "requester"),
            ("x-amz-meta-anything", "at all"),
            ("x-amzn-trace-id", "Root=1"),
            ("content-type", "text/plain"),
        ] {
            assert_eq!(check(name, value), None, "{name}");
        }
    }

    #[test]
    fn a_repeated_header_is_refused_where_one_is_expected() {
        let twice = list(&[("range", "a"), ("range", "a")]);
        assert_eq!(
            single(&twice, "range").unwrap_err().code,
            ErrorCode::InvalidRequest
        );
        assert_eq!(
            single(&list(&[("range", " a ")]), "range").unwrap(),
            Some("a")
        );
        assert_eq!(single(&twice, "host").unwrap(), None);
    }

    #[test]
    fn user_metadata_is_joined_and_bounded() {
        let none = Query::default();
        let headers = list(&[
            ("x-amz-meta-a", "1"),
            ("etag", "x"),
            ("x-amz-meta-a", " 2 "),
        ]);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(user_metadata(&headers, &none).unwrap(), [pair("a", "1,2")]);
        let query = Query::parse("X-Amz-Meta-B=3&x-amz-meta-a=4&x-id=PutObject").unwrap();
        assert_eq!(
            user_metadata(&headers, &query).unwrap(),
            [pair("a", "1,2"), pair("b", "3")]
        );
        let large = vec![("x-amz-meta-k", "v".repeat(2048))];
        let error = user_metadata(&large, &none).unwrap_err();
        assert_eq!(error.code, ErrorCode::MetadataTooLarge);
        let fits = vec![("x-amz-meta-k", "v".repeat(2047))];
        assert!(user_metadata(&fits, &none).is_ok());
        let nameless = list(&[("x-amz-meta-", "v")]);
        assert!(user_metadata(&nameless, &none).is_err());
    }

    #[test]
    fn aws_chunked_is_not_stored_as_content_encoding() {
        assert_eq!(stored_content_encoding("aws-chunked"), None);
        assert_eq!(
            stored_content_encoding("aws-chunked, gzip"),
            Some("gzip".to_owned())
        );
        assert_eq!(
            stored_content_encoding("gzip,br"),
            Some("gzip,br".to_owned())
        );
    }
}
