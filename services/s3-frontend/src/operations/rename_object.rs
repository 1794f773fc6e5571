//! RenameObject: gives an object another key of the same bucket, in one step. AWS has it for directory buckets; here it works in every
//! bucket that never had versions.
//!
//! The source is a URL-encoded key. Clients that write it as `/bucket/key` are understood, too.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_RenameObject.html>

use crate::answer::{self, Answer};
use crate::metadata::{Failure, unexpected};
use crate::request::Request;
use http::StatusCode;
use protocol::metadata::{Change, Conditions, MetadataError, Reply, TOKEN_BYTES_MAX};
use s3_wire::conditions::unquoted;
use s3_wire::dates::parse_http_date;
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::names::check_key;
use s3_wire::query::decode;

const SOURCE: &str = "x-amz-rename-source";
const TOKEN: &str = "x-amz-client-token";
/// `If-Match`, `If-None-Match`, `If-Modified-Since`, `If-Unmodified-Since`.
type ConditionNames = [&'static str; 4];
const OF_SOURCE: ConditionNames = [
    "x-amz-rename-source-if-match",
    "x-amz-rename-source-if-none-match",
    "x-amz-rename-source-if-modified-since",
    "x-amz-rename-source-if-unmodified-since",
];
const OF_DESTINATION: ConditionNames = [
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
];

/// See the module.
pub(super) async fn rename_object(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let source = source(request)?;
    let change = Change::RenameObject {
        bucket: request.admission.bucket()?.id,
        source: source.clone(),
        key: request.key().to_owned(),
        source_conditions: conditions(request, OF_SOURCE)?,
        conditions: conditions(request, OF_DESTINATION)?,
        token: token(request)?,
    };
    match request.admission.write(change).await {
        Ok(Reply::Written { .. }) => Ok(answer::empty(StatusCode::OK)),
        Ok(other) => Err(unexpected(&other)),
        Err(Failure::Metadata(MetadataError::NoSuchKey)) => {
            Err(S3Error::new(ErrorCode::NoSuchKey).and("Key", source))
        }
        Err(failure) => Err(failure.into()),
    }
}

fn source(request: &Request<'_>) -> Result<String, S3Error> {
    let header = request.header(SOURCE)?.unwrap_or_default();
    let bad = || {
        let message =
            "The header x-amz-rename-source must hold the URL-encoded key of the object to rename";
        S3Error::argument(message, SOURCE, header)
    };
    let decoded = decode(header, false).map_err(|_| bad())?;
    let with_bucket = decoded
        .strip_prefix('/')
        .and_then(|path| path.strip_prefix(request.bucket_name())?.strip_prefix('/'));
    let key = with_bucket.unwrap_or(&decoded);
    if key.is_empty() {
        return Err(bad());
    }
    check_key(key)?;
    Ok(key.to_owned())
}

fn conditions(request: &Request<'_>, names: ConditionNames) -> Result<Conditions, S3Error> {
    let [matching, none, modified, unmodified] = names;
    let etag = |name: &'static str| match request.header(name)? {
        // One of several: AWS knows no such condition of a write.
        Some(list) if list.contains(',') => Err(S3Error::not_implemented("Header", name)),
        tag => Ok(tag.map(|tag| unquoted(tag).to_owned())),
    };
    let date = |name: &'static str| {
        let text = request.header(name)?;
        text.map(|text| {
            parse_http_date(text)
                .ok_or_else(|| S3Error::argument("This is not a date of HTTP", name, text))
        })
        .transpose()
    };
    Ok(Conditions {
        if_match: etag(matching)?,
        if_none_match: etag(none)?,
        if_modified_since_s: date(modified)?,
        if_unmodified_since_s: date(unmodified)?,
    })
}

fn token(request: &Request<'_>) -> Result<Option<String>, S3Error> {
    let Some(token) = request.header(TOKEN)? else {
        return Ok(None);
    };
    let is_token =
        token.len() <= TOKEN_BYTES_MAX && token.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_token {
        let message = "A client token has at most 64 printable ASCII characters";
        return Err(S3Error::argument(message, TOKEN, token));
    }
    Ok(Some(token.to_owned()).filter(|token| !token.is_empty()))
}
