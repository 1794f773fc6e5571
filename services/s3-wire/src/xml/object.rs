//! Answers about single objects: copies and deletions.

use super::Document;
use crate::checksum::{Checksum, ChecksumType};
use crate::error::ErrorCode;

/// The answer to CopyObject.
#[derive(Clone, Debug)]
pub struct CopyObjectResult<'a> {
    /// When the copy was stored.
    pub modified_ms: u64,
    /// Of the copy, without quotes.
    pub etag: &'a str,
    /// Of the copy, when it has one: the text of the value (a composite one ends in `-N`).
    pub checksum: Option<(crate::checksum::Algorithm, &'a str, ChecksumType)>,
}

impl CopyObjectResult<'_> {
    /// The document.
    pub fn to_xml(&self) -> String {
        let mut document = Document::new("CopyObjectResult");
        document.date("LastModified", self.modified_ms);
        document.etag(self.etag);
        if let Some((algorithm, value, kind)) = &self.checksum {
            document.text("ChecksumType", kind.name());
            document.text(algorithm.element(), value);
        }
        document.finish()
    }
}

/// The answer to UploadPartCopy.
#[derive(Clone, Debug)]
pub struct CopyPartResult<'a> {
    /// When the part was stored.
    pub modified_ms: u64,
    /// Of the part, without quotes.
    pub etag: &'a str,
    /// Of the part, when the upload has an algorithm.
    pub checksum: Option<Checksum>,
}

impl CopyPartResult<'_> {
    /// The document.
    pub fn to_xml(&self) -> String {
        let mut document = Document::new("CopyPartResult");
        document.date("LastModified", self.modified_ms);
        document.etag(self.etag);
        if let Some(checksum) = &self.checksum {
            document.checksum(checksum);
        }
        document.finish()
    }
}

/// The answer to DeleteObjects.
#[derive(Clone, Debug, Default)]
pub struct DeleteResult<'a> {
    /// What was deleted; leave it empty for a quiet request.
    pub deleted: Vec<Deleted<'a>>,
    /// What was not.
    pub errors: Vec<DeleteError<'a>>,
}

/// A key that is gone (or never was: deleting that succeeds, too).
#[derive(Clone, Copy, Debug)]
pub struct Deleted<'a> {
    /// The key.
    pub key: &'a str,
    /// The version that was asked for.
    pub version_id: Option<&'a str>,
    /// The delete marker that was made or removed.
    pub delete_marker_version_id: Option<&'a str>,
}

/// A key that is still there, and why.
#[derive(Clone, Debug)]
pub struct DeleteError<'a> {
    /// The key.
    pub key: &'a str,
    /// The version that was asked for.
    pub version_id: Option<&'a str>,
    /// The code.
    pub code: ErrorCode,
    /// A sentence for people.
    pub message: &'a str,
}

impl DeleteResult<'_> {
    /// The document.
    pub fn to_xml(&self) -> String {
        let bytes = 256 + self.deleted.len() * 96 + self.errors.len() * 256;
        let mut document = Document::with_capacity("DeleteResult", bytes);
        for deleted in &self.deleted {
            document.open("Deleted");
            document.text("Key", deleted.key);
            document.optional("VersionId", deleted.version_id);
            if let Some(marker) = deleted.delete_marker_version_id {
                document.boolean("DeleteMarker", true);
                document.text("DeleteMarkerVersionId", marker);
            }
            document.close();
        }
        for error in &self.errors {
            document.open("Error");
            document.text("Key", error.key);
            document.optional("VersionId", error.version_id);
            document.text("Code", error.code.as_str());
            document.text("Message", error.message);
            document.close();
        }
        document.finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test that fails may panic"
    )]
    use super::*;
    use crate::checksum::{Algorithm, of};
    use crate::xml::NAMESPACE;

    fn check(xml: &str, root: &str, inside: &str) {
        let expected = format!("<{root} xmlns=\"{NAMESPACE}\">{inside}</{root}>");
        assert_eq!(xml.split_once('\n').unwrap().1, expected);
    }

    #[test]
    fn object_documents_are_those_of_aws() {
        let date =
            "<LastModified>2009-10-12T17:50:30.000Z</LastModified><ETag>&quot;e&quot;</ETag>";
        let copy = CopyObjectResult {
            modified_ms: 1_255_369_830_000,
            etag: "e",
            checksum: Some((Algorithm::Sha256, "abc=-2", ChecksumType::Composite)),
        };
        let sum = "<ChecksumType>COMPOSITE</ChecksumType><ChecksumSHA256>abc=-2</ChecksumSHA256>";
        check(&copy.to_xml(), "CopyObjectResult", &format!("{date}{sum}"));
        let part = CopyPartResult {
            modified_ms: 1_255_369_830_000,
            etag: "e",
            checksum: Some(of(Algorithm::Crc32, b"123456789")),
        };
        let sum = "<ChecksumCRC32>y/Q5Jg==</ChecksumCRC32>";
        check(&part.to_xml(), "CopyPartResult", &format!("{date}{sum}"));
        let deletion = DeleteResult {
            deleted: vec![Deleted {
                key: "a&b",
                version_id: None,
                delete_marker_version_id: None,
            }],
            errors: vec![DeleteError {
                key: "c",
                version_id: Some("v"),
                code: ErrorCode::AccessDenied,
                message: "Access Denied",
            }],
        };
        check(
            &deletion.to_xml(),
            "DeleteResult",
            "<Deleted><Key>a&amp;b</Key></Deleted><Error><Key>c</Key><VersionId>v</VersionId>\
             <Code>AccessDenied</Code><Message>Access Denied</Message></Error>",
        );
    }
}
