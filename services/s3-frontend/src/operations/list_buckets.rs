//! ListBuckets: the buckets on which the caller has a right.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListBuckets.html>

use super::OWNER;
use crate::answer::{self, Answer};
use crate::metadata::unexpected;
use crate::request::Request;
use protocol::metadata::{Bucket, Operation, PAGE_MAX, Reply};
use s3_wire::error::S3Error;
use s3_wire::xml::{BucketEntry, ListBucketsResult};

/// The most buckets in one answer (S3: 10,000).
const BUCKETS_MAX: u32 = 10_000;

/// See the module. Paged only where `max-buckets` is given, as by AWS.
pub(super) async fn list_buckets(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let asked = request
        .query
        .number("max-buckets", BUCKETS_MAX, BUCKETS_MAX)?
        .max(1) as usize;
    let prefix = request
        .query
        .get("prefix")
        .filter(|prefix| !prefix.is_empty());
    let mut after = request.query.get("continuation-token").map(str::to_owned);
    let region = request.query.get("bucket-region");
    let mut found: Vec<Bucket> = Vec::new();
    let mut more = true;
    while more && found.len() <= asked {
        let access_key = request.admission.lists_buckets_of();
        let operation = Operation::ListBuckets {
            access_key,
            after: after.clone(),
            limit: PAGE_MAX,
        };
        let (page, follows) = match request.admission.read(operation).await? {
            Reply::Buckets { buckets, more } => (buckets, more),
            other => return Err(unexpected(&other)),
        };
        after = page.last().map(|(bucket, _)| bucket.name.clone());
        more = follows && after.is_some();
        let wanted = |bucket: &Bucket| {
            prefix.is_none_or(|prefix| bucket.name.starts_with(prefix))
                && region.is_none_or(|region| region == request.worker.region)
        };
        found.extend(page.into_iter().map(|(bucket, _)| bucket).filter(wanted));
    }
    let is_truncated = found.len() > asked;
    found.truncate(asked);
    let paged = request.query.has("max-buckets");
    let result = ListBucketsResult {
        owner: OWNER,
        buckets: found
            .iter()
            .map(|bucket| BucketEntry {
                name: &bucket.name,
                created_ms: bucket.created_ms,
                region: paged.then_some(request.worker.region.as_str()),
            })
            .collect(),
        // The last name itself: bucket names need no encoding and are not secret to who sees them.
        continuation_token: found
            .last()
            .filter(|_| is_truncated)
            .map(|last| last.name.as_str()),
        prefix,
    };
    Ok(answer::xml(result.to_xml()))
}
