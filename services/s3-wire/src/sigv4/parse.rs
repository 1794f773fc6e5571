//! Reads the signature out of a request, from the `Authorization` header or from the query.

use super::{
    ACCESS_KEY_BYTES_MAX, ALGORITHM, Authorization, EXPIRES_S_MAX, PayloadHash, SIGNED_HEADERS_MAX,
    Scope, SignedRequest,
};
use crate::dates::{self, parse_amz_date, parse_http_date};
use crate::error::{ErrorCode, S3Error};
use crate::headers::{RequestView, single};
use crate::query::Query;
use crate::sigv2::PresignedV2;
use std::borrow::Cow;

/// Finds out how a request authenticates itself.
///
/// # Errors
/// AWS's: `AuthorizationHeaderMalformed` or `AuthorizationQueryParametersError` with the reason,
/// `AccessDenied` without a date, `InvalidArgument` for two mechanisms at once or a bad
/// `x-amz-content-sha256`, `InvalidRequest` for Signature Version 2 in the header and for a missing
/// `x-amz-content-sha256`, `NotImplemented` for Version 4A, `InvalidToken` for a session token
/// (there are no temporary credentials here), `InvalidURI` for a query that cannot be decoded.
pub fn parse_authorization<'a>(view: &RequestView<'a>) -> Result<Authorization<'a>, S3Error> {
    let header = single(view.headers, "authorization")?;
    // A name that is written with percent escapes is not recognised here: the request then is
    // anonymous, and refused.
    let in_query = view.query.contains("X-Amz-") || view.query.contains("Signature=");
    let query = if in_query {
        Query::parse(view.query)?
    } else {
        Query::default()
    };
    let presigned = query.has("X-Amz-Algorithm")
        || query.has("X-Amz-Credential")
        || query.has("X-Amz-Signature");
    let version_2 = PresignedV2::is_in(&query);
    match header {
        Some(header) if presigned || version_2 => Err(S3Error::argument(
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature \
             query string parameter or the Authorization header should be specified",
            "Authorization",
            header,
        )),
        Some(header) => from_header(header, view).map(Authorization::Header),
        None if presigned => from_query(&query, view).map(Authorization::Presigned),
        None if version_2 => Ok(Authorization::PresignedV2 {
            signature: PresignedV2::parse(&query)?,
            payload: unsigned_payload(view)?,
        }),
        None => Ok(Authorization::Anonymous {
            payload: unsigned_payload(view)?,
        }),
    }
}

/// What a request says about its body whose signature, if it has one, does not cover that.
fn unsigned_payload(view: &RequestView<'_>) -> Result<PayloadHash, S3Error> {
    match payload(content_sha256(view)?.unwrap_or("UNSIGNED-PAYLOAD"))? {
        PayloadHash::Streaming { signed: true, .. } => Err(S3Error::with(
            ErrorCode::InvalidRequest,
            "Signed chunks need a signed request",
        )),
        payload => Ok(payload),
    }
}

/// `Authorization: AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`
fn from_header<'a>(header: &'a str, view: &RequestView<'a>) -> Result<SignedRequest<'a>, S3Error> {
    let malformed = |reason: &str| {
        let message = format!("The authorization header is malformed; {reason}");
        S3Error::with(ErrorCode::AuthorizationHeaderMalformed, message)
    };
    let (algorithm, fields) = header.split_once([' ', '\t']).unwrap_or((header, ""));
    match algorithm {
        ALGORITHM => {}
        "AWS" => return Err(unsupported_version()),
        other if other.starts_with("AWS4-ECDSA-") => return Err(version_4a()),
        _ => {
            return Err(S3Error::argument(
                "Unsupported Authorization Type",
                "Authorization",
                algorithm,
            ));
        }
    }
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    for field in fields
        .split(',')
        .map(str::trim)
        .filter(|field| !field.is_empty())
    {
        let (name, value) = field
            .split_once('=')
            .ok_or_else(|| malformed("a field of it is not of the form name=value"))?;
        let slot = match name.trim() {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut signed_headers,
            "Signature" => &mut signature,
            _ => return Err(malformed("a field of it is unknown")),
        };
        if slot.replace(value.trim()).is_some() {
            return Err(malformed("a field of it is repeated"));
        }
    }
    let credential = credential.ok_or_else(|| malformed("missing Credential"))?;
    let signed_headers = signed_headers.ok_or_else(|| malformed("missing SignedHeaders"))?;
    let signature = signature.ok_or_else(|| malformed("missing Signature"))?;
    let (access_key, scope) =
        parse_credential(Cow::Borrowed(credential)).map_err(|r| malformed(&r))?;
    check_signed_headers(signed_headers).map_err(malformed)?;
    let signature = parse_signature(signature).ok_or_else(|| {
        // AWS compares texts, so to it a signature of another form is just a wrong one.
        S3Error::new(ErrorCode::SignatureDoesNotMatch).and("SignatureProvided", signature)
    })?;
    let (timestamp, signed_at_s) = header_date(view)?;
    check_day(&timestamp, &scope).map_err(|reason| malformed(&reason))?;
    if single(view.headers, "x-amz-security-token")?.is_some() {
        return Err(ErrorCode::InvalidToken.into());
    }
    let payload_text = content_sha256(view)?.ok_or_else(|| {
        let message = "Missing required header for this request: x-amz-content-sha256";
        S3Error::with(ErrorCode::InvalidRequest, message)
    })?;
    Ok(SignedRequest {
        access_key,
        scope,
        signed_headers: Cow::Borrowed(signed_headers),
        signature,
        timestamp,
        signed_at_s,
        payload: payload(payload_text)?,
        payload_text: Cow::Borrowed(payload_text),
        expires_s: None,
    })
}

/// The date of a request signed by header: `x-amz-date`, else `Date`, in either form.
fn header_date<'a>(view: &RequestView<'a>) -> Result<(Cow<'a, str>, u64), S3Error> {
    let missing = || {
        let message = "AWS authentication requires a valid Date or x-amz-date header";
        S3Error::with(ErrorCode::AccessDenied, message)
    };
    let amz_date = single(view.headers, "x-amz-date")?;
    let text = match amz_date {
        Some(text) => text,
        None => single(view.headers, "date")?.ok_or_else(missing)?,
    };
    if let Some(seconds) = parse_amz_date(text) {
        return Ok((Cow::Borrowed(text), seconds));
    }
    let seconds = parse_http_date(text).ok_or_else(missing)?;
    Ok((Cow::Owned(dates::amz_date(seconds)), seconds))
}

/// `?X-Amz-Algorithm=…&X-Amz-Credential=…&X-Amz-Date=…&X-Amz-Expires=…` and so on.
fn from_query<'a>(query: &Query<'a>, view: &RequestView<'a>) -> Result<SignedRequest<'a>, S3Error> {
    let malformed =
        |message: &str| S3Error::with(ErrorCode::AuthorizationQueryParametersError, message);
    let field = |name: &str| {
        query
            .get(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| {
                malformed(
                    "Query-string authentication version 4 requires the X-Amz-Algorithm, \
                 X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and \
                 X-Amz-Expires parameters.",
                )
            })
    };
    let (algorithm, credential) = (field("X-Amz-Algorithm")?, field("X-Amz-Credential")?);
    let (signature, timestamp) = (field("X-Amz-Signature")?, field("X-Amz-Date")?);
    let (signed_headers, expires) = (field("X-Amz-SignedHeaders")?, field("X-Amz-Expires")?);
    match algorithm {
        ALGORITHM => {}
        other if other.starts_with("AWS4-ECDSA-") => return Err(version_4a()),
        _ => {
            let message = "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"";
            return Err(malformed(message));
        }
    }
    let (access_key, scope) =
        parse_credential(Cow::Owned(credential.to_owned())).map_err(|reason| {
            malformed(&format!(
                "Error parsing the X-Amz-Credential parameter; {reason}"
            ))
        })?;
    check_signed_headers(signed_headers).map_err(malformed)?;
    let signed_at_s = parse_amz_date(timestamp).ok_or_else(|| {
        malformed("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
    })?;
    check_day(timestamp, &scope).map_err(|reason| malformed(&reason))?;
    let expires_s = parse_expires(expires).map_err(malformed)?;
    if query.has("X-Amz-Security-Token") || single(view.headers, "x-amz-security-token")?.is_some()
    {
        return Err(ErrorCode::InvalidToken.into());
    }
    let signature = parse_signature(signature).ok_or_else(|| {
        S3Error::new(ErrorCode::SignatureDoesNotMatch).and("SignatureProvided", signature)
    })?;
    // Whoever presigns seldom knows the body. Those who do put its hash in the query or sign the
    // header.
    let payload_text = match query.get("X-Amz-Content-Sha256") {
        Some(text) => Cow::Owned(text.to_owned()),
        None => Cow::Borrowed(content_sha256(view)?.unwrap_or("UNSIGNED-PAYLOAD")),
    };
    Ok(SignedRequest {
        access_key,
        scope,
        signed_headers: Cow::Owned(signed_headers.to_owned()),
        signature,
        timestamp: Cow::Owned(timestamp.to_owned()),
        signed_at_s,
        payload: payload(&payload_text)?,
        payload_text,
        expires_s: Some(expires_s),
    })
}

/// Takes `AKID/20130524/us-east-1/s3/aws4_request` apart, from the right. Errors are the reason in
/// AWS's words.
pub(super) fn parse_credential(
    credential: Cow<'_, str>,
) -> Result<(Cow<'_, str>, Scope<'_>), String> {
    let expected = || {
        "the Credential is mal-formed; expecting \
         \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\"."
            .to_owned()
    };
    let mut parts = credential.rsplitn(5, '/');
    let (end, service) = (parts.next(), parts.next());
    let (region, date, access_key) = (parts.next(), parts.next(), parts.next());
    let (Some(end), Some(service), Some(region), Some(date), Some(access_key)) =
        (end, service, region, date, access_key)
    else {
        return Err(expected());
    };
    let key_fits = (1..=ACCESS_KEY_BYTES_MAX).contains(&access_key.len());
    let date_fits = date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
    if !key_fits || region.is_empty() || region.len() > 64 {
        return Err(expected());
    }
    if !date_fits {
        return Err(format!(
            "incorrect date format \"{date}\". This date in the credential must be in the format \
             \"yyyyMMdd\"."
        ));
    }
    if service != "s3" {
        return Err(format!(
            "incorrect service \"{service}\". This endpoint belongs to \"s3\"."
        ));
    }
    if end != "aws4_request" {
        return Err(format!(
            "incorrect terminal \"{end}\". This endpoint uses \"aws4_request\"."
        ));
    }
    // The same offsets for a borrowed and for an owned text.
    let date_start = access_key.len() + 1;
    let region_start = date_start + 9;
    let region_end = region_start + region.len();
    let cut = |from: usize, to: usize| match &credential {
        Cow::Borrowed(text) => text.get(from..to).map(Cow::Borrowed),
        Cow::Owned(text) => text.get(from..to).map(|part| Cow::Owned(part.to_owned())),
    };
    let access_key = cut(0, date_start - 1).ok_or_else(expected)?;
    let date = cut(date_start, region_start - 1).ok_or_else(expected)?;
    let region = cut(region_start, region_end).ok_or_else(expected)?;
    Ok((access_key, Scope { date, region }))
}

/// The key is derived for the day of the scope, so it must be the day of the request.
pub(super) fn check_day(timestamp: &str, scope: &Scope<'_>) -> Result<(), String> {
    match timestamp.get(..8) {
        Some(day) if day == scope.date => Ok(()),
        day => Err(format!(
            "Invalid credential date \"{}\". This date is not the same as X-Amz-Date: \"{}\".",
            scope.date,
            day.unwrap_or_default()
        )),
    }
}

/// The list must be of header names in lower case, and not too long: each costs a look-up.
fn check_signed_headers(list: &str) -> Result<(), &'static str> {
    let token = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
    };
    let mut count = 0_usize;
    for name in list.split(';') {
        count += 1;
        if name.is_empty() || !name.bytes().all(token) {
            return Err(
                "SignedHeaders must be header names in lower case, separated by semicolons",
            );
        }
    }
    if count > SIGNED_HEADERS_MAX {
        Err("SignedHeaders has too many names")
    } else {
        Ok(())
    }
}

/// 64 lower-case hexadecimal digits.
pub(super) fn parse_signature(text: &str) -> Option<[u8; 32]> {
    let mut signature = [0; 32];
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    hex::decode_to_slice(text, &mut signature).ok()?;
    Some(signature)
}

/// `X-Amz-Expires`, from 1 to [`EXPIRES_S_MAX`].
fn parse_expires(text: &str) -> Result<u64, &'static str> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("X-Amz-Expires should be a number");
    }
    if digits.len() < text.len() {
        return Err("X-Amz-Expires must be non-negative");
    }
    match text.parse::<u64>() {
        Ok(0) => Err("X-Amz-Expires must be at least 1"),
        Ok(seconds) if seconds <= EXPIRES_S_MAX => Ok(seconds),
        _ => Err(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given \
                  X-Amz-Expires must be less than 604800 seconds",
        ),
    }
}

/// The header, which a client may give once.
fn content_sha256<'a>(view: &RequestView<'a>) -> Result<Option<&'a str>, S3Error> {
    single(view.headers, "x-amz-content-sha256")
}

/// Reads the value of `x-amz-content-sha256`.
fn payload(text: &str) -> Result<PayloadHash, S3Error> {
    match text {
        "UNSIGNED-PAYLOAD" => Ok(PayloadHash::Unsigned),
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Ok(PayloadHash::Streaming {
            signed: true,
            trailer: false,
        }),
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => Ok(PayloadHash::Streaming {
            signed: true,
            trailer: true,
        }),
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Ok(PayloadHash::Streaming {
            signed: false,
            trailer: true,
        }),
        other if other.starts_with("STREAMING-AWS4-ECDSA-") => Err(version_4a()),
        other => {
            let mut hash = [0; 32];
            match hex::decode_to_slice(other, &mut hash) {
                Ok(()) => Ok(PayloadHash::Signed(hash)),
                Err(_) => Err(S3Error::argument(
                    "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, \
                     STREAMING-AWS4-HMAC-SHA256-PAYLOAD, \
                     STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, \
                     STREAMING-UNSIGNED-PAYLOAD-TRAILER or a valid sha256 value.",
                    "x-amz-content-sha256",
                    other,
                )),
            }
        }
    }
}

/// Version 2, by header or query. AWS answers this in the regions that never had it.
pub(super) fn unsupported_version() -> S3Error {
    S3Error::with(
        ErrorCode::InvalidRequest,
        "The authorization mechanism you have provided is not supported. Please use \
         AWS4-HMAC-SHA256.",
    )
}

/// Version 4A signs for several regions by elliptic curve.
fn version_4a() -> S3Error {
    S3Error::not_implemented("Algorithm", "AWS4-ECDSA-P256-SHA256")
}
