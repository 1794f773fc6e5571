//! Versions as clients name them: opaque text, or `null`.

use crate::answer::{self, Answer};
use protocol::metadata::{Bucket, VersionId};
use s3_wire::error::S3Error;

/// The header that names a version in an answer.
pub const HEADER: &str = "x-amz-version-id";

/// A version as text: 16 hexadecimal digits that mean nothing to a client, or `null`.
pub fn text(version: VersionId) -> String {
    version.to_string()
}

/// A version out of a client's text.
///
/// # Errors
/// `InvalidArgument` for what cannot be a version.
pub fn parse(text: &str) -> Result<VersionId, S3Error> {
    if text == "null" {
        return Ok(VersionId::Null);
    }
    let is_ours = text.len() == 16
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    u64::from_str_radix(text, 16)
        .ok()
        .filter(|_| is_ours)
        .map(VersionId::Number)
        .ok_or_else(|| S3Error::argument("Invalid version id specified", "versionId", text))
}

/// Names the version of an object in an answer; a bucket that never had versions has none to name.
pub fn tell(answer: &mut Answer, bucket: &Bucket, version: VersionId) {
    if bucket.versioned || version != VersionId::Null {
        answer::set(answer, HEADER, &text(version));
    }
}

/// Names the version that a write made, if it made one.
pub fn tell_made(answer: &mut Answer, version: Option<VersionId>) {
    if let Some(version) = version {
        answer::set(answer, HEADER, &text(version));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;

    #[test]
    fn a_version_comes_back_from_its_text() {
        for version in [
            VersionId::Null,
            VersionId::Number(0),
            VersionId::Number(u64::MAX),
        ] {
            assert_eq!(parse(&text(version)).unwrap(), version);
        }
        for bad in [
            "",
            "NULL",
            "+00000000000000f",
            "000000000000000F",
            "0",
            "3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
