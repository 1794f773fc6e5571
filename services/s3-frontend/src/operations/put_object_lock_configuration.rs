//! PutObjectLockConfiguration: gives a bucket with versions an object lock, or another default retention. It cannot be taken away again.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectLockConfiguration.html>

use super::object_attributes::mode_kept;
use crate::answer::{self, Answer};
use crate::metadata::unexpected;
use crate::request::Request;
use http::StatusCode;
use protocol::metadata::{Change, ObjectLock, Reply, RetentionSpan};
use s3_wire::error::S3Error;
use s3_wire::xml::{LOCK_BYTES_MAX, LockSpan, ObjectLockConfiguration};

/// See the module.
pub(super) async fn put_object_lock_configuration(
    request: &mut Request<'_>,
) -> Result<Answer, S3Error> {
    let document = request.document(LOCK_BYTES_MAX).await?;
    let configuration = ObjectLockConfiguration::parse(&document)?;
    let default = configuration.default.map(|(mode, span)| {
        let span = match span {
            LockSpan::Days(days) => RetentionSpan::Days(days),
            LockSpan::Years(years) => RetentionSpan::Years(years),
        };
        (mode_kept(mode), span)
    });
    let bucket = request.admission.bucket()?.id;
    let lock = ObjectLock { default };
    let change = Change::PutObjectLock { bucket, lock };
    match request.admission.write(change).await? {
        Reply::Done => Ok(answer::empty(StatusCode::OK)),
        other => Err(unexpected(&other)),
    }
}
