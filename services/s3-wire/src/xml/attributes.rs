//! The answer to GetObjectAttributes.

use super::Document;
use crate::checksum::{Algorithm, Checksum, ChecksumType};

/// The answer to GetObjectAttributes. What was not asked for is `None`.
#[derive(Clone, Debug, Default)]
pub struct GetObjectAttributesResponse<'a> {
    /// Without quotes, which AWS leaves out here.
    pub etag: Option<&'a str>,
    /// Of the object: the text of the value (a composite one ends in `-N`).
    pub checksum: Option<(Algorithm, &'a str, ChecksumType)>,
    /// Of an object that was uploaded in parts.
    pub parts: Option<ObjectParts>,
    /// `STANDARD`.
    pub storage_class: Option<&'a str>,
    /// Bytes.
    pub size: Option<u64>,
}

/// The parts of an object.
#[derive(Clone, Debug, Default)]
pub struct ObjectParts {
    /// How many there are in all.
    pub total: u64,
    /// The page of them that was asked for, where AWS shows them.
    pub page: Option<ObjectPartsPage>,
}

/// Some of the parts of an object.
#[derive(Clone, Debug, Default)]
pub struct ObjectPartsPage {
    /// As it was asked for.
    pub marker: u32,
    /// The last one of the page.
    pub next_marker: u32,
    /// As it was asked for.
    pub max_parts: u32,
    /// Whether more follow.
    pub is_truncated: bool,
    /// Number, bytes and checksum of each.
    pub parts: Vec<(u16, u64, Option<Checksum>)>,
}

impl GetObjectAttributesResponse<'_> {
    /// The document.
    pub fn to_xml(&self) -> String {
        let mut document = Document::new("GetObjectAttributesResponse");
        document.optional("ETag", self.etag);
        if let Some((algorithm, value, kind)) = &self.checksum {
            document.open("Checksum");
            document.text(algorithm.element(), value);
            document.text("ChecksumType", kind.name());
            document.close();
        }
        if let Some(parts) = &self.parts {
            document.open("ObjectParts");
            parts.write(&mut document);
            document.close();
        }
        document.optional("StorageClass", self.storage_class);
        if let Some(size) = self.size {
            document.number("ObjectSize", size);
        }
        document.finish()
    }
}

impl ObjectParts {
    fn write(&self, document: &mut Document) {
        // Named so in the document, and TotalPartsCount in SDKs.
        document.number("PartsCount", self.total);
        let Some(page) = &self.page else { return };
        document.number("PartNumberMarker", u64::from(page.marker));
        document.number("NextPartNumberMarker", u64::from(page.next_marker));
        document.number("MaxParts", u64::from(page.max_parts));
        document.boolean("IsTruncated", page.is_truncated);
        for (number, size, checksum) in &page.parts {
            document.open("Part");
            document.number("PartNumber", u64::from(*number));
            document.number("Size", *size);
            if let Some(checksum) = checksum {
                document.checksum(checksum);
            }
            document.close();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use crate::checksum::of;
    use crate::xml::NAMESPACE;

    #[test]
    fn attributes_have_the_elements_of_aws_and_only_those_asked_for() {
        let check = |attributes: GetObjectAttributesResponse<'_>, inside: &str| {
            let name = "GetObjectAttributesResponse";
            let expected = format!("<{name} xmlns=\"{NAMESPACE}\">{inside}</{name}>");
            assert_eq!(attributes.to_xml().split_once('\n').unwrap().1, expected);
        };
        check(GetObjectAttributesResponse::default(), "");
        let page = ObjectPartsPage {
            marker: 0,
            next_marker: 1,
            max_parts: 1,
            is_truncated: true,
            parts: vec![(1, 9, Some(of(Algorithm::Crc32, b"123456789")))],
        };
        let all = GetObjectAttributesResponse {
            etag: Some("e-2"),
            checksum: Some((Algorithm::Crc32, "AAAAAA==-2", ChecksumType::Composite)),
            parts: Some(ObjectParts {
                total: 2,
                page: Some(page),
            }),
            storage_class: Some("STANDARD"),
            size: Some(12),
        };
        check(
            all,
            "<ETag>e-2</ETag><Checksum><ChecksumCRC32>AAAAAA==-2</ChecksumCRC32><ChecksumType>COMPOSITE</ChecksumType>\
             </Checksum><ObjectParts><PartsCount>2</PartsCount><PartNumberMarker>0</PartNumberMarker>\
             <NextPartNumberMarker>1</NextPartNumberMarker><MaxParts>1</MaxParts><IsTruncated>true</IsTruncated>\
             <Part><PartNumber>1</PartNumber><Size>9</Size><ChecksumCRC32>y/Q5Jg==</ChecksumCRC32></Part></ObjectParts>\
             <StorageClass>STANDARD</StorageClass><ObjectSize>12</ObjectSize>",
        );
    }
}
