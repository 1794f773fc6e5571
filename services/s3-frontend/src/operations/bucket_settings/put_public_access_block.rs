//! PutPublicAccessBlock: closes what no policy may open.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutPublicAccessBlock.html>

use crate::answer::{self, Answer};
use crate::request::Request;
use http::StatusCode;
use protocol::settings::SettingKind;
use s3_wire::error::S3Error;
use s3_wire::settings::PublicAccessBlock;

/// See the module.
pub(crate) async fn put_public_access_block(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let document = super::body(request).await?;
    let document = PublicAccessBlock::parse(&document)?.to_xml().into_bytes();
    super::write(request, SettingKind::PublicAccessBlock, Some(document)).await?;
    Ok(answer::empty(StatusCode::OK))
}
