//! CORS: the answer to a preflight, and the headers that a browser looks for on every other answer.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/cors.html>

use crate::answer::{self, Answer};
use crate::facts::Facts;
use crate::metadata::Failure;
use http::StatusCode;
use http::header::ORIGIN;
use protocol::metadata::MetadataError;
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::headers::single;
use s3_wire::names::check_bucket_name;
use s3_wire::settings::Preflight;

/// Answers OPTIONS, by the rules of the bucket as they are now. Needs no signature: browsers send none.
///
/// # Errors
/// `BadRequest`, and `AccessForbidden` with AWS's reasons.
pub async fn preflight(facts: &Facts) -> Result<Answer, S3Error> {
    let header = |name: &str| single(&facts.head.headers, name);
    let asked = Preflight::new(
        header("origin")?,
        header("access-control-request-method")?,
        header("access-control-request-headers")?,
    )?;
    let forbidden = |why: &str| {
        let message = format!("CORSResponse: {why}");
        S3Error::with(ErrorCode::AccessForbidden, message)
    };
    let bucket = facts.resource.bucket.as_deref().unwrap_or_default();
    if check_bucket_name(bucket).is_err() {
        return Err(forbidden("Bucket not found"));
    }
    let worker = &facts.worker;
    let rules = match worker
        .credentials
        .cors(&worker.metadata, bucket, true)
        .await
    {
        Ok(rules) => rules.ok_or_else(|| forbidden("CORS is not enabled for this bucket."))?,
        Err(MetadataError::NoSuchBucket) => return Err(forbidden("Bucket not found")),
        Err(error) => return Err(Failure::from(error).into()),
    };
    let headers = rules.preflight(&asked).ok_or(ErrorCode::AccessForbidden)?;
    let mut answer = answer::empty(StatusCode::OK);
    for (name, value) in headers {
        answer::set(&mut answer, name, &value);
    }
    Ok(answer)
}

/// Adds what the bucket's rules say to an answer whose request came from a page. Without rules, or where they cannot be had, nothing: the
/// browser then keeps the answer from the page.
pub async fn add(facts: &Facts, answer: &mut Answer) {
    let is_preflight = facts.head.method == http::Method::OPTIONS;
    let (Some(origin), Some(bucket), false) = (
        facts.head.headers.get(ORIGIN),
        facts.resource.bucket.as_deref(),
        is_preflight,
    ) else {
        return;
    };
    let Ok(origin) = origin.to_str() else { return };
    if check_bucket_name(bucket).is_err() {
        return;
    }
    let worker = &facts.worker;
    let rules = worker
        .credentials
        .cors(&worker.metadata, bucket, false)
        .await;
    let Ok(Some(rules)) = rules else { return };
    for (name, value) in rules
        .answer(origin, facts.head.method.as_str())
        .into_iter()
        .flatten()
    {
        answer::set(answer, name, &value);
    }
}
