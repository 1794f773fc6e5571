//! Answers about multipart uploads.

use super::listing::common_prefixes;
use super::{Document, EncodingType, Owner};
use crate::checksum::{Algorithm, Checksum, ChecksumType};

/// The answer to CreateMultipartUpload.
#[derive(Clone, Copy, Debug)]
pub struct InitiateMultipartUploadResult<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// The key.
    pub key: &'a str,
    /// The new upload.
    pub upload_id: &'a str,
}

impl InitiateMultipartUploadResult<'_> {
    /// The document.
    pub fn to_xml(&self) -> String {
        let mut document = Document::new("InitiateMultipartUploadResult");
        document.text("Bucket", self.bucket);
        document.text("Key", self.key);
        document.text("UploadId", self.upload_id);
        document.finish()
    }
}

/// The answer to CompleteMultipartUpload.
#[derive(Clone, Debug)]
pub struct CompleteMultipartUploadResult<'a> {
    /// The URL of the object.
    pub location: &'a str,
    /// The bucket.
    pub bucket: &'a str,
    /// The key.
    pub key: &'a str,
    /// Of the object, without quotes.
    pub etag: &'a str,
    /// Of the object, when the upload has an algorithm: the text of the value (a composite one ends
    /// in `-N`).
    pub checksum: Option<(Algorithm, &'a str, ChecksumType)>,
}

impl CompleteMultipartUploadResult<'_> {
    /// The document.
    pub fn to_xml(&self) -> String {
        let mut document = Document::new("CompleteMultipartUploadResult");
        document.text("Location", self.location);
        document.text("Bucket", self.bucket);
        document.text("Key", self.key);
        document.etag(self.etag);
        if let Some((algorithm, value, kind)) = &self.checksum {
            document.text(algorithm.element(), value);
            document.text("ChecksumType", kind.name());
        }
        document.finish()
    }
}

/// The answer to ListMultipartUploads.
#[derive(Clone, Debug)]
pub struct ListMultipartUploadsResult<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// As it was asked for; empty when it was not.
    pub key_marker: &'a str,
    /// As it was asked for; empty when it was not.
    pub upload_id_marker: &'a str,
    /// Where the next page begins: key and upload.
    pub next: Option<(&'a str, &'a str)>,
    /// As it was asked for.
    pub prefix: Option<&'a str>,
    /// As it was asked for.
    pub delimiter: Option<&'a str>,
    /// As it was asked for.
    pub encoding: EncodingType,
    /// As it was asked for, at most 1000.
    pub max_uploads: u32,
    /// Whether there is a next page.
    pub is_truncated: bool,
    /// In the order of key, then time.
    pub uploads: Vec<ListedUpload<'a>>,
    /// In the order of their bytes.
    pub common_prefixes: Vec<&'a str>,
}

/// One upload under way.
#[derive(Clone, Copy, Debug)]
pub struct ListedUpload<'a> {
    /// The key.
    pub key: &'a str,
    /// The upload.
    pub upload_id: &'a str,
    /// Who began it; also written as its owner.
    pub initiator: Owner<'a>,
    /// When it began.
    pub initiated_ms: u64,
    /// The algorithm and type that it was begun with.
    pub checksum: Option<(Algorithm, ChecksumType)>,
}

impl ListMultipartUploadsResult<'_> {
    /// The document.
    pub fn to_xml(&self) -> String {
        let bytes = 1024 + self.uploads.len() * 512;
        let mut document = Document::with_capacity("ListMultipartUploadsResult", bytes);
        let encoding = self.encoding;
        document.text("Bucket", self.bucket);
        encoding.write(&mut document, "KeyMarker", self.key_marker);
        document.text("UploadIdMarker", self.upload_id_marker);
        if let Some((key, upload_id)) = self.next {
            encoding.write(&mut document, "NextKeyMarker", key);
            document.text("NextUploadIdMarker", upload_id);
        }
        encoding.write_optional(&mut document, "Prefix", self.prefix);
        encoding.write_optional(&mut document, "Delimiter", self.delimiter);
        encoding.write_itself(&mut document);
        document.number("MaxUploads", u64::from(self.max_uploads));
        document.boolean("IsTruncated", self.is_truncated);
        for upload in &self.uploads {
            document.open("Upload");
            encoding.write(&mut document, "Key", upload.key);
            document.text("UploadId", upload.upload_id);
            document.owner("Initiator", &upload.initiator);
            document.owner("Owner", &upload.initiator);
            document.text("StorageClass", "STANDARD");
            document.date("Initiated", upload.initiated_ms);
            write_algorithm(&mut document, upload.checksum);
            document.close();
        }
        common_prefixes(&mut document, &self.common_prefixes, encoding);
        document.finish()
    }
}

/// The answer to ListParts.
#[derive(Clone, Debug)]
pub struct ListPartsResult<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// The key.
    pub key: &'a str,
    /// The upload.
    pub upload_id: &'a str,
    /// Who began the upload; also written as its owner.
    pub initiator: Owner<'a>,
    /// As it was asked for; zero when it was not.
    pub part_number_marker: u32,
    /// The last part of this page, when there is a next one.
    pub next_part_number_marker: Option<u32>,
    /// As it was asked for, at most 1000.
    pub max_parts: u32,
    /// Whether there is a next page.
    pub is_truncated: bool,
    /// The algorithm and type that the upload was begun with.
    pub checksum: Option<(Algorithm, ChecksumType)>,
    /// In the order of their numbers.
    pub parts: Vec<ListedPart<'a>>,
}

/// One part of an upload.
#[derive(Clone, Copy, Debug)]
pub struct ListedPart<'a> {
    /// From 1 to 10,000.
    pub number: u32,
    /// When it was stored.
    pub modified_ms: u64,
    /// Without quotes.
    pub etag: &'a str,
    /// Bytes.
    pub size: u64,
    /// When the upload has an algorithm.
    pub checksum: Option<Checksum>,
}

impl ListPartsResult<'_> {
    /// The document.
    pub fn to_xml(&self) -> String {
        let bytes = 1024 + self.parts.len() * 256;
        let mut document = Document::with_capacity("ListPartsResult", bytes);
        document.text("Bucket", self.bucket);
        document.text("Key", self.key);
        document.text("UploadId", self.upload_id);
        document.owner("Initiator", &self.initiator);
        document.owner("Owner", &self.initiator);
        document.text("StorageClass", "STANDARD");
        document.number("PartNumberMarker", u64::from(self.part_number_marker));
        if let Some(next) = self.next_part_number_marker {
            document.number("NextPartNumberMarker", u64::from(next));
        }
        document.number("MaxParts", u64::from(self.max_parts));
        document.boolean("IsTruncated", self.is_truncated);
        write_algorithm(&mut document, self.checksum);
        for part in &self.parts {
            document.open("Part");
            document.number("PartNumber", u64::from(part.number));
            document.date("LastModified", part.modified_ms);
            document.etag(part.etag);
            document.number("Size", part.size);
            if let Some(checksum) = &part.checksum {
                document.checksum(checksum);
            }
            document.close();
        }
        document.finish()
    }
}

/// What an upload was begun with.
fn write_algorithm(document: &mut Document, checksum: Option<(Algorithm, ChecksumType)>) {
    if let Some((algorithm, kind)) = checksum {
        document.text("ChecksumAlgorithm", algorithm.name());
        document.text("ChecksumType", kind.name());
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
    use crate::checksum::of;
    use crate::xml::NAMESPACE;

    const ME: Owner<'_> = Owner {
        id: "1",
        display_name: "me",
    };

    fn check(xml: &str, root: &str, inside: &str) {
        let expected = format!("<{root} xmlns=\"{NAMESPACE}\">{inside}</{root}>");
        assert_eq!(xml.split_once('\n').unwrap().1, expected);
    }

    #[test]
    fn upload_documents_are_those_of_aws() {
        let begun = InitiateMultipartUploadResult {
            bucket: "b",
            key: "k",
            upload_id: "u",
        };
        check(
            &begun.to_xml(),
            "InitiateMultipartUploadResult",
            "<Bucket>b</Bucket><Key>k</Key><UploadId>u</UploadId>",
        );
        let done = CompleteMultipartUploadResult {
            location: "http://h/b/k",
            bucket: "b",
            key: "k",
            etag: "e-1",
            checksum: Some((Algorithm::Crc32c, "AAAAAA==", ChecksumType::FullObject)),
        };
        check(
            &done.to_xml(),
            "CompleteMultipartUploadResult",
            "<Location>http://h/b/k</Location><Bucket>b</Bucket><Key>k</Key><ETag>&quot;e-1&quot;</ETag>\
             <ChecksumCRC32C>AAAAAA==</ChecksumCRC32C><ChecksumType>FULL_OBJECT</ChecksumType>",
        );
    }

    #[test]
    fn lists_of_uploads_and_parts_are_those_of_aws() {
        let owners = "<Initiator><ID>1</ID><DisplayName>me</DisplayName></Initiator>\
                      <Owner><ID>1</ID><DisplayName>me</DisplayName></Owner>";
        let uploads = ListMultipartUploadsResult {
            bucket: "b",
            key_marker: "",
            upload_id_marker: "",
            next: Some(("k k", "u")),
            prefix: Some("p"),
            delimiter: Some("/"),
            encoding: EncodingType::Url,
            max_uploads: 1,
            is_truncated: true,
            uploads: vec![ListedUpload {
                key: "k k",
                upload_id: "u",
                initiator: ME,
                initiated_ms: 0,
                checksum: Some((Algorithm::Sha1, ChecksumType::Composite)),
            }],
            common_prefixes: vec!["q/"],
        };
        check(
            &uploads.to_xml(),
            "ListMultipartUploadsResult",
            &format!(
                "<Bucket>b</Bucket><KeyMarker></KeyMarker><UploadIdMarker></UploadIdMarker>\
                 <NextKeyMarker>k%20k</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker><Prefix>p</Prefix>\
                 <Delimiter>/</Delimiter><EncodingType>url</EncodingType><MaxUploads>1</MaxUploads>\
                 <IsTruncated>true</IsTruncated><Upload><Key>k%20k</Key><UploadId>u</UploadId>{owners}\
                 <StorageClass>STANDARD</StorageClass><Initiated>1970-01-01T00:00:00.000Z</Initiated>\
                 <ChecksumAlgorithm>SHA1</ChecksumAlgorithm><ChecksumType>COMPOSITE</ChecksumType></Upload>\
                 <CommonPrefixes><Prefix>q/</Prefix></CommonPrefixes>"
            ),
        );
        let parts = ListPartsResult {
            bucket: "b",
            key: "k",
            upload_id: "u",
            initiator: ME,
            part_number_marker: 0,
            next_part_number_marker: Some(1),
            max_parts: 1,
            is_truncated: true,
            checksum: None,
            parts: vec![ListedPart {
                number: 1,
                modified_ms: 0,
                etag: "e",
                size: 9,
                checksum: Some(of(Algorithm::Crc32, b"123456789")),
            }],
        };
        check(
            &parts.to_xml(),
            "ListPartsResult",
            &format!(
                "<Bucket>b</Bucket><Key>k</Key><UploadId>u</UploadId>{owners}<StorageClass>STANDARD</StorageClass>\
                 <PartNumberMarker>0</PartNumberMarker><NextPartNumberMarker>1</NextPartNumberMarker>\
                 <MaxParts>1</MaxParts><IsTruncated>true</IsTruncated><Part><PartNumber>1</PartNumber>\
                 <LastModified>1970-01-01T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>9</Size>\
                 <ChecksumCRC32>y/Q5Jg==</ChecksumCRC32></Part>"
            ),
        );
    }
}
