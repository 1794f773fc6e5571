//! PutObjectRetention: keeps a version until a date, or longer than before. Governance can be bypassed by who may change the bucket, compliance by
//! nobody; metadata decides at the instant of the change.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectRetention.html>

use super::change_attributes::change_attributes;
use super::object_attributes::{bypass, check_future, mode_kept};
use crate::answer::Answer;
use crate::request::Request;
use http::StatusCode;
use protocol::metadata::{AttributeChange, Retention as KeptRetention};
use s3_wire::error::S3Error;
use s3_wire::xml::{LOCK_BYTES_MAX, Retention};

/// See the module. An empty document takes the retention away, where that is allowed.
pub(super) async fn put_object_retention(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let bypass = bypass(request).await?;
    let document = request.document(LOCK_BYTES_MAX).await?;
    let asked = Retention::parse(&document)?;
    if let Some(asked) = &asked {
        check_future(request, asked.until_s)?;
    }
    let retention = asked.map(|asked| KeptRetention {
        mode: mode_kept(asked.mode),
        until_ms: asked.until_s.saturating_mul(1_000),
    });
    let change = AttributeChange::Retention { retention, bypass };
    change_attributes(request, change, StatusCode::OK).await
}
