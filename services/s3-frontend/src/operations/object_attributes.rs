//! What hangs on a version beside its bytes: tags and object lock, out of a request's headers and into an answer's.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>

use super::version_id;
use crate::access::{Need, Target};
use crate::admission::Admission;
use crate::answer::{self, Answer};
use crate::request::Request;
use http::HeaderMap;
use protocol::metadata::{Attributes, Retention, RetentionMode, VersionId};
use s3_wire::checksum::Expected;
use s3_wire::dates::{iso8601, parse_iso8601};
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::headers::single;
use s3_wire::tags::{self, Tag};
use s3_wire::xml::{LegalHold, LockMode};

const MODE: &str = "x-amz-object-lock-mode";
const UNTIL: &str = "x-amz-object-lock-retain-until-date";
const HOLD: &str = "x-amz-object-lock-legal-hold";
const BYPASS: &str = "x-amz-bypass-governance-retention";

/// The tags and the protection that a request gives to the version that it makes.
///
/// # Errors
/// `InvalidArgument` for values that cannot be, or one of mode and date without the other; those of [`tags::from_header`].
pub(super) fn attributes(request: &Request<'_>) -> Result<Attributes, S3Error> {
    attributes_of(&request.head.headers, request.worker.now_s())
}

/// The same out of headers.
///
/// # Errors
/// As [`attributes`].
pub(super) fn attributes_of(headers: &HeaderMap, now_s: u64) -> Result<Attributes, S3Error> {
    Ok(Attributes {
        tags: tags_of(headers)?,
        retention: retention(headers, now_s)?,
        legal_hold: legal_hold(headers)?,
    })
}

fn tags_of(headers: &HeaderMap) -> Result<Vec<Tag>, S3Error> {
    match single(headers, "x-amz-tagging")? {
        Some(header) => tags::from_header(header),
        None => Ok(Vec::new()),
    }
}

fn retention(headers: &HeaderMap, now_s: u64) -> Result<Option<Retention>, S3Error> {
    let (mode, until) = match (single(headers, MODE)?, single(headers, UNTIL)?) {
        (None, None) => return Ok(None),
        (Some(mode), Some(until)) => (mode, until),
        (mode, _) => {
            let message = "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied";
            let missing = if mode.is_some() { UNTIL } else { MODE };
            return Err(S3Error::argument(message, missing, ""));
        }
    };
    let known = LockMode::from_name(mode);
    let known =
        known.ok_or_else(|| S3Error::argument("Unknown wormMode directive.", MODE, mode))?;
    let until_s = parse_iso8601(until).ok_or_else(|| {
        let message = "The retain until date must be provided in ISO 8601 format";
        S3Error::argument(message, UNTIL, until)
    })?;
    check_after(now_s, until_s)?;
    Ok(Some(Retention {
        mode: mode_kept(known),
        until_ms: until_s.saturating_mul(1_000),
    }))
}

/// # Errors
/// `InvalidArgument` for a retention that has ended before it begins.
pub(super) fn check_future(request: &Request<'_>, until_s: u64) -> Result<(), S3Error> {
    check_after(request.worker.now_s(), until_s)
}

fn check_after(now_s: u64, until_s: u64) -> Result<(), S3Error> {
    if until_s > now_s {
        return Ok(());
    }
    let message = "The retain until date must be in the future!";
    let until = iso8601(until_s.saturating_mul(1_000));
    Err(S3Error::argument(message, UNTIL, until))
}

fn legal_hold(headers: &HeaderMap) -> Result<Option<bool>, S3Error> {
    let Some(header) = single(headers, HOLD)? else {
        return Ok(None);
    };
    match LegalHold::from_name(header) {
        Some(hold) => Ok(Some(hold.on)),
        None => Err(S3Error::argument(
            "Legal Hold must be either of 'ON' or 'OFF'",
            HOLD,
            header,
        )),
    }
}

/// What is to be kept must have arrived as it was sent.
///
/// # Errors
/// `InvalidRequest` for an upload with protection and without a digest.
pub(super) fn check_digest(request: &Request<'_>, attributes: &Attributes) -> Result<(), S3Error> {
    let expected = Expected::from_headers(&request.head.headers)?;
    let has_digest = expected.content_md5.is_some() || expected.algorithm().is_some();
    let is_protected = attributes.retention.is_some() || attributes.legal_hold.is_some();
    if has_digest || !is_protected {
        return Ok(());
    }
    let message = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with \
                   Object Lock parameters";
    Err(S3Error::with(ErrorCode::InvalidRequest, message))
}

/// Whether the caller wants to bypass governance retention, and may.
///
/// # Errors
/// `AccessDenied`: it takes the right to change the bucket. `InvalidArgument`.
pub(super) async fn bypass(request: &Request<'_>) -> Result<bool, S3Error> {
    let asked = bypass_asked(request)?;
    if asked {
        let version = version_id::of_query(request)?;
        may_bypass(&request.admission, request.key(), version).await?;
    }
    Ok(asked)
}

/// Whether the caller may bypass governance retention of this object.
///
/// # Errors
/// `AccessDenied`.
pub(super) async fn may_bypass(
    admission: &Admission,
    key: &str,
    version: Option<VersionId>,
) -> Result<(), S3Error> {
    let target = Target::Object {
        action: "s3:BypassGovernanceRetention",
        key: Some(key.to_owned()),
        version,
    };
    admission.also(target, Need::Owner).await
}

/// Whether the caller wants to.
///
/// # Errors
/// `InvalidArgument`.
pub(super) fn bypass_asked(request: &Request<'_>) -> Result<bool, S3Error> {
    match request.header(BYPASS)? {
        None => Ok(false),
        Some(no) if no.eq_ignore_ascii_case("false") => Ok(false),
        Some(yes) if yes.eq_ignore_ascii_case("true") => Ok(true),
        Some(other) => Err(S3Error::argument(
            "The header must be 'true' or 'false'",
            BYPASS,
            other,
        )),
    }
}

/// Tells of a version's tags and protection.
pub(super) fn tell(answer: &mut Answer, attributes: &Attributes) {
    if !attributes.tags.is_empty() {
        let count = attributes.tags.len().to_string();
        answer::set(answer, "x-amz-tagging-count", &count);
    }
    if let Some(retention) = attributes.retention {
        answer::set(answer, MODE, mode_shown(retention.mode).name());
        answer::set(answer, UNTIL, &iso8601(retention.until_ms));
    }
    if let Some(on) = attributes.legal_hold {
        answer::set(answer, HOLD, LegalHold { on }.name());
    }
}

/// As metadata keeps it.
pub(super) fn mode_kept(mode: LockMode) -> RetentionMode {
    match mode {
        LockMode::Governance => RetentionMode::Governance,
        LockMode::Compliance => RetentionMode::Compliance,
    }
}

/// As S3 shows it.
pub(super) fn mode_shown(mode: RetentionMode) -> LockMode {
    match mode {
        RetentionMode::Governance => LockMode::Governance,
        RetentionMode::Compliance => LockMode::Compliance,
    }
}
