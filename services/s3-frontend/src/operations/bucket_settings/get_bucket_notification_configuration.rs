//! GetBucketNotificationConfiguration: who is told of the bucket's changes.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketNotificationConfiguration.html>

use crate::answer::{self, Answer};
use crate::metadata::unexpected;
use crate::request::Request;
use protocol::metadata::{Operation, Reply};
use s3_wire::error::S3Error;
use s3_wire::settings::notification_to_xml;

/// See the module.
pub(crate) async fn get_bucket_notification_configuration(
    request: &mut Request<'_>,
) -> Result<Answer, S3Error> {
    let bucket = request.admission.bucket()?.id;
    let operation = Operation::GetNotification { bucket };
    match request.admission.read(operation).await? {
        Reply::Notification(notification) => Ok(answer::xml(notification_to_xml(&notification))),
        other => Err(unexpected(&other)),
    }
}
