//! The canonical request: the form of a request that client and server both compute and sign.
//!
//! S3 differs from other services: the path is encoded once and not normalised.

use super::SignedRequest;
use crate::error::{ErrorCode, S3Error};
use crate::headers::{Headers, RequestView};
use crate::query::{PARAMETERS_MAX, hex_digit, hex_pair, is_unreserved};

/// How the path enters the canonical request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PathForm {
    /// Decoded, then encoded as AWS's `UriEncode` does.
    Canonical,
    /// Byte for byte.
    AsSent,
}

/// What is signed of a request beside its view.
pub(super) struct Signable<'a> {
    pub(super) signed_headers: &'a str,
    pub(super) payload_text: &'a str,
}

/// The canonical request of a parsed signature.
pub(super) fn request(
    request: &SignedRequest<'_>,
    view: &RequestView<'_>,
    form: PathForm,
) -> Result<Vec<u8>, S3Error> {
    let signable = Signable {
        signed_headers: &request.signed_headers,
        payload_text: &request.payload_text,
    };
    write(&signable, view, form)
}

/// Writes the canonical request.
///
/// # Errors
/// `InvalidURI` for a broken percent escape or too many parameters.
pub(super) fn write(
    signable: &Signable<'_>,
    view: &RequestView<'_>,
    form: PathForm,
) -> Result<Vec<u8>, S3Error> {
    let mut out = Vec::with_capacity(512 + view.path.len() + view.query.len());
    out.extend_from_slice(view.method.as_bytes());
    out.push(b'\n');
    match form {
        PathForm::Canonical => encode_again(&mut out, view.path, Component::Path)?,
        PathForm::AsSent => out.extend_from_slice(view.path.as_bytes()),
    }
    out.push(b'\n');
    canonical_query(&mut out, view.query)?;
    out.push(b'\n');
    for name in signable.signed_headers.split(';') {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        header_values(&mut out, view.headers, name);
        out.push(b'\n');
    }
    out.push(b'\n');
    out.extend_from_slice(signable.signed_headers.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(signable.payload_text.as_bytes());
    Ok(out)
}

/// Where an encoded text stands; decides about `/` and `+`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Component {
    Path,
    Query,
}

/// Decodes `raw` and encodes it as `UriEncode`, without an intermediate copy.
fn encode_again(out: &mut Vec<u8>, raw: &str, component: Component) -> Result<(), S3Error> {
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        let decoded = match byte {
            b'%' => {
                let high = bytes
                    .next()
                    .and_then(hex_digit)
                    .ok_or(ErrorCode::InvalidURI)?;
                let low = bytes
                    .next()
                    .and_then(hex_digit)
                    .ok_or(ErrorCode::InvalidURI)?;
                high << 4 | low
            }
            b'+' if component == Component::Query => b' ',
            other => other,
        };
        if is_unreserved(decoded) || (component == Component::Path && decoded == b'/') {
            out.push(decoded);
        } else {
            let [high, low] = hex_pair(decoded);
            out.extend_from_slice(&[b'%', high, low]);
        }
    }
    Ok(())
}

/// Writes the parameters sorted by encoded name, then value, without the signature itself.
fn canonical_query(out: &mut Vec<u8>, raw: &str) -> Result<(), S3Error> {
    if raw.is_empty() {
        return Ok(());
    }
    // All encoded names and values lie in one buffer: (start of name, end of name = start of value,
    // end of value).
    let mut encoded = Vec::with_capacity(raw.len() + 32);
    let mut spans: Vec<(usize, usize, usize)> = Vec::new();
    for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
        if spans.len() == PARAMETERS_MAX {
            return Err(S3Error::with(
                ErrorCode::InvalidURI,
                "Too many query parameters",
            ));
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let start = encoded.len();
        encode_again(&mut encoded, name, Component::Query)?;
        let middle = encoded.len();
        if encoded.get(start..middle) == Some(b"X-Amz-Signature") {
            encoded.truncate(start);
            continue;
        }
        encode_again(&mut encoded, value, Component::Query)?;
        spans.push((start, middle, encoded.len()));
    }
    let part = |from: usize, to: usize| encoded.get(from..to).unwrap_or_default();
    spans.sort_unstable_by(|a, b| {
        (part(a.0, a.1), part(a.1, a.2)).cmp(&(part(b.0, b.1), part(b.1, b.2)))
    });
    for (index, (start, middle, end)) in spans.into_iter().enumerate() {
        if index > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(part(start, middle));
        out.push(b'=');
        out.extend_from_slice(part(middle, end));
    }
    Ok(())
}

/// Writes the values of a header joined by commas, trimmed, with runs of spaces folded to one.
fn header_values(out: &mut Vec<u8>, headers: &dyn Headers, name: &str) {
    let mut first = true;
    headers.values(name, &mut |value| {
        if !first {
            out.push(b',');
        }
        first = false;
        let mut after_space = false;
        for &byte in value.trim_ascii() {
            if byte != b' ' || !after_space {
                out.push(byte);
            }
            after_space = byte == b' ';
        }
    });
}
