//! GetBucketNotificationConfiguration: nobody is told of changes.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketNotificationConfiguration.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use s3_wire::error::S3Error;
use s3_wire::settings::notification_none;

/// See the module.
pub(crate) async fn get_bucket_notification_configuration(
    request: &mut Request<'_>,
) -> Result<Answer, S3Error> {
    request.admission.bucket()?;
    Ok(answer::xml(notification_none()))
}
