//! The client's side of signing, for tests and benchmarks.

use super::canonical::{self, PathForm, Signable};
use super::{ALGORITHM, ChunkContext, PayloadHash, Scope, SigningKey, scope_text, string_to_sign};
use crate::dates::amz_date;
use crate::error::S3Error;
use crate::headers::{Headers, RequestView};
use crate::query::encode_into;
use std::borrow::Cow;

/// Who signs, and for which region.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// The public half.
    pub access_key: &'a str,
    /// The secret half.
    pub secret_key: &'a str,
    /// The region that the server expects.
    pub region: &'a str,
}

/// What signing a request yields.
#[derive(Clone, Debug)]
pub struct Signature {
    /// The headers to add: `x-amz-date`, `x-amz-content-sha256`, `authorization`.
    pub headers: [(&'static str, String); 3],
    /// For signed chunks: what signs them.
    pub chunks: ChunkContext,
}

/// The value of `x-amz-content-sha256` for a payload.
pub fn payload_text(payload: PayloadHash) -> Cow<'static, str> {
    match payload {
        PayloadHash::Unsigned => Cow::Borrowed("UNSIGNED-PAYLOAD"),
        PayloadHash::Signed(hash) => Cow::Owned(hex::encode(hash)),
        PayloadHash::Streaming {
            signed: true,
            trailer: false,
        } => Cow::Borrowed("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
        PayloadHash::Streaming {
            signed: true,
            trailer: true,
        } => Cow::Borrowed("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
        PayloadHash::Streaming { signed: false, .. } => {
            Cow::Borrowed("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        }
    }
}

/// Signs by header. All headers of `view` are signed; they must contain `host` and none of the
/// three that are added.
///
/// # Errors
/// `InvalidURI` when path or query have broken percent escapes.
pub fn sign_request(
    credentials: &Credentials<'_>,
    view: &RequestView<'_>,
    payload: PayloadHash,
    now_s: u64,
) -> Result<Signature, S3Error> {
    let timestamp = amz_date(now_s);
    let date = timestamp.get(..8).unwrap_or_default();
    let key = SigningKey::derive(credentials.secret_key, date, credentials.region);
    sign_with_key(credentials, &key, view, payload, now_s)
}

/// The same with a key that was derived before, for the day of `now_s`.
///
/// # Errors
/// `InvalidURI` when path or query have broken percent escapes.
pub fn sign_with_key(
    credentials: &Credentials<'_>,
    key: &SigningKey,
    view: &RequestView<'_>,
    payload: PayloadHash,
    now_s: u64,
) -> Result<Signature, S3Error> {
    let timestamp = amz_date(now_s);
    let payload_text = payload_text(payload);
    let with_date = Extended {
        headers: view.headers,
        added: [
            ("x-amz-date", &timestamp),
            ("x-amz-content-sha256", &payload_text),
        ],
    };
    let view = RequestView {
        headers: &with_date,
        ..*view
    };
    let signed_headers = header_list(&with_date);
    let signable = Signable {
        signed_headers: &signed_headers,
        payload_text: &payload_text,
    };
    let canonical = canonical::write(&signable, &view, PathForm::Canonical)?;
    let scope = Scope {
        date: Cow::Borrowed(timestamp.get(..8).unwrap_or_default()),
        region: Cow::Borrowed(credentials.region),
    };
    let signature = key.sign(string_to_sign(&timestamp, &scope, &canonical).as_bytes());
    let scope = scope_text(&scope);
    let authorization = format!(
        "{ALGORITHM} Credential={}/{scope},SignedHeaders={signed_headers},Signature={}",
        credentials.access_key,
        hex::encode(signature)
    );
    let chunks = ChunkContext::new(key.clone(), &timestamp, &scope, signature);
    Ok(Signature {
        headers: [
            ("x-amz-content-sha256", payload_text.into_owned()),
            ("authorization", authorization),
            ("x-amz-date", timestamp),
        ],
        chunks,
    })
}

/// Makes the query of a presigned URL: that of `view`, the signing parameters and the signature.
///
/// # Errors
/// `InvalidURI` when path or query have broken percent escapes.
pub fn presign(
    credentials: &Credentials<'_>,
    view: &RequestView<'_>,
    expires_s: u64,
    now_s: u64,
) -> Result<String, S3Error> {
    let timestamp = amz_date(now_s);
    let scope = Scope {
        date: Cow::Borrowed(timestamp.get(..8).unwrap_or_default()),
        region: Cow::Borrowed(credentials.region),
    };
    let signed_headers = header_list(view.headers);
    let credential = format!("{}/{}", credentials.access_key, scope_text(&scope));
    let mut query = view.query.to_owned();
    for (name, value) in [
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", &credential),
        ("X-Amz-Date", &timestamp),
        ("X-Amz-Expires", &expires_s.to_string()),
        ("X-Amz-SignedHeaders", &signed_headers),
    ] {
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str(name);
        query.push('=');
        encode_into(&mut query, value, false);
    }
    let view = RequestView {
        query: &query,
        ..*view
    };
    let signable = Signable {
        signed_headers: &signed_headers,
        payload_text: "UNSIGNED-PAYLOAD",
    };
    let canonical = canonical::write(&signable, &view, PathForm::Canonical)?;
    let key = SigningKey::derive(credentials.secret_key, &scope.date, credentials.region);
    let signature = key.sign(string_to_sign(&timestamp, &scope, &canonical).as_bytes());
    Ok(format!(
        "{query}&X-Amz-Signature={}",
        hex::encode(signature)
    ))
}

/// The names of all headers, sorted, once each, joined by `;`.
fn header_list(headers: &dyn Headers) -> String {
    let mut names: Vec<&str> = Vec::new();
    headers.each(&mut |name, _| names.push(name));
    names.sort_unstable();
    names.dedup();
    names.join(";")
}

/// Headers with two more.
struct Extended<'a> {
    headers: &'a dyn Headers,
    added: [(&'a str, &'a str); 2],
}

impl Headers for Extended<'_> {
    fn values<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        self.headers.values(name, visit);
        for (_, value) in self.added.iter().filter(|(added, _)| *added == name) {
            visit(value.as_bytes());
        }
    }

    fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a str, &'a [u8])) {
        self.headers.each(visit);
        for (name, value) in &self.added {
            visit(name, value.as_bytes());
        }
    }
}
