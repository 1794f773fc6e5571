//! PutBucketNotificationConfiguration: says who is told of which changes of the bucket, from the instant of the answer on. Metadata
//! queues what is to be told along with each change; the notifier tells it.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketNotificationConfiguration.html>

use crate::answer::{self, Answer};
use crate::metadata::{Failure, unexpected};
use crate::request::Request;
use http::StatusCode;
use protocol::metadata::{Change, MetadataError, Reply};
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::settings::{check_destinations, parse_notification};

/// By which an owner says that a destination may be registered later.
const SKIP_VALIDATION: &str = "x-amz-skip-destination-validation";

/// See the module.
pub(crate) async fn put_bucket_notification_configuration(
    request: &mut Request<'_>,
) -> Result<Answer, S3Error> {
    let bucket = request.admission.bucket()?.id;
    let document = super::body(request).await?;
    let notification = parse_notification(&document)?;
    let skipped = request.header(SKIP_VALIDATION)?;
    if !skipped.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        check_destinations(&notification, request.webhooks)?;
    }
    let change = Change::PutNotification {
        bucket,
        notification,
    };
    match request.admission.write(change).await {
        Ok(Reply::Done) => Ok(answer::empty(StatusCode::OK)),
        Ok(other) => Err(unexpected(&other)),
        // What was parsed keeps to all bounds of metadata but that of webhooks in use.
        Err(Failure::Metadata(MetadataError::Refused(why))) => {
            Err(S3Error::with(ErrorCode::InvalidArgument, why))
        }
        Err(failure) => Err(failure.into()),
    }
}
