//! AWS Signature Version 4 as S3 uses it: by header, by presigned URL, and the seed of signed
//! chunks.
//!
//! A server calls [`parse_authorization`], looks the secret of [`SignedRequest::access_key`] up,
//! takes the [`SigningKey`] of [`SignedRequest::scope_date`] from its cache (or derives it) and
//! calls [`verify`]. What remains to be checked about the body is in [`Verified`]. The client's
//! side is in [`client`].
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html>

mod canonical;
mod chunks;
pub mod client;
mod form;
mod parse;
#[cfg(test)]
mod tests;

pub use chunks::ChunkContext;
pub use form::FormSignature;
pub use parse::parse_authorization;

use crate::dates;
use crate::error::{ErrorCode, S3Error};
use crate::headers::RequestView;
use crate::sigv2::PresignedV2;
use canonical::PathForm;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use subtle::ConstantTimeEq;

/// Most seconds that a request's date may differ from ours, before or after.
pub const SKEW_S_MAX: u64 = 15 * 60;
/// Longest life of a presigned URL, in seconds: one week.
pub const EXPIRES_S_MAX: u64 = 604_800;
/// Most headers that a signature may list.
pub const SIGNED_HEADERS_MAX: usize = 128;
/// Most bytes of an access key in a request.
pub const ACCESS_KEY_BYTES_MAX: usize = 128;

/// The name of the algorithm, which begins the header and the string to sign.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What the request says about its body: the value of `x-amz-content-sha256`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadHash {
    /// `UNSIGNED-PAYLOAD`: the body is not covered.
    Unsigned,
    /// The SHA-256 of the whole body.
    Signed([u8; 32]),
    /// The body is `aws-chunked`.
    Streaming {
        /// Each chunk (and the trailer) carries a signature.
        signed: bool,
        /// Checksums follow the last chunk.
        trailer: bool,
    },
}

/// How a request authenticates itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorization<'a> {
    /// Not at all.
    Anonymous {
        /// What it says about its body all the same; never signed chunks.
        payload: PayloadHash,
    },
    /// By the `Authorization` header.
    Header(SignedRequest<'a>),
    /// By parameters of its URL.
    Presigned(SignedRequest<'a>),
    /// By parameters of its URL, in Signature Version 2.
    PresignedV2 {
        /// The signature and what belongs to it.
        signature: PresignedV2,
        /// What it says about its body, which this version does not sign; never signed chunks.
        payload: PayloadHash,
    },
}

impl<'a> Authorization<'a> {
    /// The signature of Version 4 and what belongs to it; `None` for other requests.
    pub fn signed(&self) -> Option<&SignedRequest<'a>> {
        match self {
            Authorization::Anonymous { .. } | Authorization::PresignedV2 { .. } => None,
            Authorization::Header(signed) | Authorization::Presigned(signed) => Some(signed),
        }
    }

    /// The access key; `None` for an anonymous request.
    pub fn access_key(&self) -> Option<&str> {
        match self {
            Authorization::PresignedV2 { signature, .. } => Some(signature.access_key()),
            _ => self.signed().map(SignedRequest::access_key),
        }
    }

    /// What the request says about its body.
    pub fn payload(&self) -> PayloadHash {
        match self {
            Authorization::Anonymous { payload } | Authorization::PresignedV2 { payload, .. } => {
                *payload
            }
            Authorization::Header(signed) | Authorization::Presigned(signed) => signed.payload,
        }
    }
}

/// A parsed signature, not verified. All of its fields are within bounds and well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRequest<'a> {
    access_key: Cow<'a, str>,
    scope: Scope<'a>,
    /// Lower case, joined by `;`.
    signed_headers: Cow<'a, str>,
    signature: [u8; 32],
    /// `20130524T000000Z`, and the same in seconds.
    timestamp: Cow<'a, str>,
    signed_at_s: u64,
    payload: PayloadHash,
    /// The payload as it was written, which is a line of the canonical request.
    payload_text: Cow<'a, str>,
    /// Seconds; only of a presigned request.
    expires_s: Option<u64>,
}

/// The credential scope without the access key. Service (`s3`) and end (`aws4_request`) have been
/// checked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Scope<'a> {
    date: Cow<'a, str>,
    region: Cow<'a, str>,
}

impl SignedRequest<'_> {
    /// The access key that the request claims.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The day for which the signing key must be derived, `YYYYMMDD`.
    pub fn scope_date(&self) -> &str {
        &self.scope.date
    }

    /// The region for which the request was signed; [`verify`] compares it.
    pub fn region(&self) -> &str {
        &self.scope.region
    }

    /// When it was signed, by the client's clock.
    pub fn signed_at_s(&self) -> u64 {
        self.signed_at_s
    }
}

/// The key of one secret for one day and region. Worth caching: deriving it costs more than a
/// signature.
#[derive(Clone)]
pub struct SigningKey {
    /// The hash states after the inner and outer padding: two compressions less per signature.
    mac: Hmac<Sha256>,
}

impl SigningKey {
    /// Derives the key for `date` (`YYYYMMDD`) in `region`.
    pub fn derive(secret_key: &str, date: &str, region: &str) -> SigningKey {
        let mut secret = Vec::with_capacity(4 + secret_key.len());
        secret.extend_from_slice(b"AWS4");
        secret.extend_from_slice(secret_key.as_bytes());
        let mut key = SigningKey::new(&secret);
        for step in [date, region, "s3", "aws4_request"] {
            key = SigningKey::new(&key.sign(step.as_bytes()));
        }
        key
    }

    fn new(key: &[u8]) -> SigningKey {
        #[allow(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mac = Hmac::new_from_slice(key).expect("HMAC takes keys of every length");
        SigningKey { mac }
    }

    /// HMAC-SHA-256 of `text` under this key.
    fn sign(&self, text: &[u8]) -> [u8; 32] {
        let mut mac = self.mac.clone();
        mac.update(text);
        mac.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey") // never the key
    }
}

/// What is known after the signature was found right, and what is still to be checked about the
/// body.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Compare the body with it.
    pub payload: PayloadHash,
    /// For signed chunks: what [`crate::aws_chunked::Decoder`] needs to check them.
    pub chunks: Option<ChunkContext>,
}

/// Verifies the signature of `request`, which must have been parsed from `view`.
///
/// `key` must be derived for [`SignedRequest::scope_date`] and `region`; `now_s` is our clock.
/// Signatures are compared in constant time.
///
/// # Errors
/// In this order, as AWS: the region is not ours (`AuthorizationHeaderMalformed` or
/// `AuthorizationQueryParametersError`, with `Region`, which SDKs follow), the date is too far off
/// (`RequestTimeTooSkewed`) or the URL has expired or is not yet valid (`AccessDenied`), a header
/// that counts is not signed (`AccessDenied` with `HeadersNotSigned`), and `SignatureDoesNotMatch`
/// with the canonical request and string that we computed.
pub fn verify(
    request: &SignedRequest<'_>,
    view: &RequestView<'_>,
    key: &SigningKey,
    region: &str,
    now_s: u64,
) -> Result<Verified, S3Error> {
    check_region(request, region)?;
    match request.expires_s {
        None => check_skew(request, now_s)?,
        Some(expires_s) => check_expiry(request, expires_s, now_s)?,
    }
    check_coverage(request, view)?;

    let mut canonical = canonical::request(request, view, PathForm::Canonical)?;
    let mut to_sign = string_to_sign(&request.timestamp, &request.scope, &canonical);
    let mut matches = key.sign(to_sign.as_bytes()).ct_eq(&request.signature);
    if !bool::from(matches) {
        // Some clients sign the path as they send it, where it is not encoded as AWS writes it
        // (`!`, `%7E`, lower-case hexadecimal digits). The signature then covers the very bytes
        // that came, so it is as good.
        let as_sent = canonical::request(request, view, PathForm::AsSent)?;
        if as_sent != canonical {
            let other = string_to_sign(&request.timestamp, &request.scope, &as_sent);
            matches = key.sign(other.as_bytes()).ct_eq(&request.signature);
        }
    }
    if !bool::from(matches) {
        return Err(mismatch(
            request,
            std::mem::take(&mut to_sign),
            std::mem::take(&mut canonical),
        ));
    }
    let chunks = match request.payload {
        PayloadHash::Streaming { signed: true, .. } => Some(ChunkContext::new(
            key.clone(),
            &request.timestamp,
            &scope_text(&request.scope),
            request.signature,
        )),
        _ => None,
    };
    Ok(Verified {
        payload: request.payload,
        chunks,
    })
}

/// The region of the scope must be ours.
fn check_region(request: &SignedRequest<'_>, region: &str) -> Result<(), S3Error> {
    if request.scope.region == region {
        return Ok(());
    }
    let wrong = format!(
        "the region '{}' is wrong; expecting '{region}'",
        request.scope.region
    );
    let error = match request.expires_s {
        None => S3Error::with(
            ErrorCode::AuthorizationHeaderMalformed,
            format!("The authorization header is malformed; {wrong}"),
        ),
        Some(_) => S3Error::with(
            ErrorCode::AuthorizationQueryParametersError,
            format!("Error parsing the X-Amz-Credential parameter; {wrong}"),
        ),
    };
    Err(error.and("Region", region))
}

/// A request signed by header must be recent, so that it cannot be replayed for long.
fn check_skew(request: &SignedRequest<'_>, now_s: u64) -> Result<(), S3Error> {
    if now_s.abs_diff(request.signed_at_s) <= SKEW_S_MAX {
        return Ok(());
    }
    Err(S3Error::new(ErrorCode::RequestTimeTooSkewed)
        .and("RequestTime", request.timestamp.as_ref())
        .and("ServerTime", dates::iso8601(now_s.saturating_mul(1000)))
        .and(
            "MaxAllowedSkewMilliseconds",
            (SKEW_S_MAX * 1000).to_string(),
        ))
}

/// A presigned request must be within its life.
fn check_expiry(request: &SignedRequest<'_>, expires_s: u64, now_s: u64) -> Result<(), S3Error> {
    if request.signed_at_s > now_s.saturating_add(SKEW_S_MAX) {
        return Err(
            S3Error::with(ErrorCode::AccessDenied, "Request is not yet valid")
                .and("X-Amz-Date", request.timestamp.as_ref())
                .and("ServerTime", dates::iso8601(now_s.saturating_mul(1000))),
        );
    }
    let end_s = request.signed_at_s.saturating_add(expires_s);
    if now_s > end_s {
        return Err(
            S3Error::with(ErrorCode::AccessDenied, "Request has expired")
                .and("X-Amz-Expires", expires_s.to_string())
                .and("Expires", dates::iso8601(end_s.saturating_mul(1000)))
                .and("ServerTime", dates::iso8601(now_s.saturating_mul(1000))),
        );
    }
    Ok(())
}

/// `host` and every `x-amz-*` header must be signed, or someone on the way could have added it.
///
/// Two are exempt because the signature covers them anyway: `x-amz-content-sha256` is the last line
/// of the canonical request, `x-amz-date` is a line of the string to sign.
fn check_coverage(request: &SignedRequest<'_>, view: &RequestView<'_>) -> Result<(), S3Error> {
    let is_signed = |name: &str| {
        request
            .signed_headers
            .split(';')
            .any(|signed| signed == name)
    };
    let mut unsigned: Vec<&str> = Vec::new();
    if !is_signed("host") {
        unsigned.push("host");
    }
    view.headers.each(&mut |name, _| {
        let counts =
            name.starts_with("x-amz-") && !matches!(name, "x-amz-content-sha256" | "x-amz-date");
        if counts && unsigned.len() < SIGNED_HEADERS_MAX && !is_signed(name) {
            unsigned.push(name);
        }
    });
    if unsigned.is_empty() {
        return Ok(());
    }
    let message = "There were headers present in the request which were not signed";
    Err(S3Error::with(ErrorCode::AccessDenied, message)
        .and("HeadersNotSigned", unsigned.join(", ")))
}

/// `20130524/us-east-1/s3/aws4_request`.
fn scope_text(scope: &Scope<'_>) -> String {
    format!("{}/{}/s3/aws4_request", scope.date, scope.region)
}

/// The text whose HMAC is the signature.
fn string_to_sign(timestamp: &str, scope: &Scope<'_>, canonical: &[u8]) -> String {
    let mut text = String::with_capacity(160);
    for part in [
        ALGORITHM,
        "\n",
        timestamp,
        "\n",
        &scope.date,
        "/",
        &scope.region,
    ] {
        text.push_str(part);
    }
    text.push_str("/s3/aws4_request\n");
    push_hex(&mut text, &Sha256::digest(canonical));
    text
}

/// Appends lower-case hexadecimal digits.
fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for value in [byte >> 4, byte & 15] {
            text.push(char::from(if value < 10 {
                b'0' + value
            } else {
                b'a' + value - 10
            }));
        }
    }
}

/// The error that shows the client what we signed, so that it can find the difference. AWS does the
/// same.
fn mismatch(request: &SignedRequest<'_>, to_sign: String, canonical: Vec<u8>) -> S3Error {
    S3Error::new(ErrorCode::SignatureDoesNotMatch)
        .and("AWSAccessKeyId", request.access_key.as_ref())
        .and("StringToSign", to_sign)
        .and("SignatureProvided", hex::encode(request.signature))
        .and("CanonicalRequest", String::from_utf8_lossy(&canonical))
}
