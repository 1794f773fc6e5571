//! The answer to ListObjectVersions.

use super::listing::common_prefixes;
use super::{Document, EncodingType, Owner};
use crate::checksum::{Algorithm, ChecksumType};

/// One version of a listing, `Version` or `DeleteMarker`.
#[derive(Clone, Copy, Debug)]
pub struct ListedVersion<'a> {
    /// The key, not encoded.
    pub key: &'a str,
    /// Opaque, or `null`.
    pub version_id: &'a str,
    /// Whether it is the current one.
    pub is_latest: bool,
    /// When it was stored.
    pub modified_ms: u64,
    /// Whose.
    pub owner: Owner<'a>,
    /// `None`: a delete marker.
    pub object: Option<ListedVersionObject<'a>>,
}

/// What a delete marker does not have.
#[derive(Clone, Copy, Debug)]
pub struct ListedVersionObject<'a> {
    /// Without quotes.
    pub etag: &'a str,
    /// Bytes.
    pub size: u64,
    /// Its checksum's algorithm and type, when it has one.
    pub checksum: Option<(Algorithm, ChecksumType)>,
}

impl ListedVersion<'_> {
    fn write(&self, document: &mut Document, encoding: EncodingType) {
        document.open(match self.object {
            Some(_) => "Version",
            None => "DeleteMarker",
        });
        encoding.write(document, "Key", self.key);
        document.text("VersionId", self.version_id);
        document.boolean("IsLatest", self.is_latest);
        document.date("LastModified", self.modified_ms);
        if let Some(object) = &self.object {
            document.etag(object.etag);
            if let Some((algorithm, kind)) = object.checksum {
                document.text("ChecksumAlgorithm", algorithm.name());
                document.text("ChecksumType", kind.name());
            }
            document.number("Size", object.size);
        }
        document.owner("Owner", &self.owner);
        if self.object.is_some() {
            document.text("StorageClass", "STANDARD");
        }
        document.close();
    }
}

/// The answer to ListObjectVersions, `ListVersionsResult`.
#[derive(Clone, Debug)]
pub struct ListVersionsResult<'a> {
    /// The bucket.
    pub name: &'a str,
    /// As it was asked for; empty when it was not.
    pub prefix: &'a str,
    /// As it was asked for; empty when it was not.
    pub key_marker: &'a str,
    /// As it was asked for; empty when it was not.
    pub version_id_marker: &'a str,
    /// Where the next page begins, if there is one: a key, and a version of it unless the key is a common prefix.
    pub next: Option<(&'a str, Option<&'a str>)>,
    /// As it was asked for, at most 1000.
    pub max_keys: u32,
    /// As it was asked for.
    pub delimiter: Option<&'a str>,
    /// As it was asked for.
    pub encoding: EncodingType,
    /// By key and from the newest to the oldest.
    pub versions: Vec<ListedVersion<'a>>,
    /// In the order of their bytes.
    pub common_prefixes: Vec<&'a str>,
}

impl ListVersionsResult<'_> {
    /// The document.
    pub fn to_xml(&self) -> String {
        let keys: usize = self.versions.iter().map(|version| version.key.len()).sum();
        let bytes = 1024 + keys * 2 + self.versions.len() * 480 + self.common_prefixes.len() * 128;
        let mut document = Document::with_capacity("ListVersionsResult", bytes);
        let encoding = self.encoding;
        document.text("Name", self.name);
        encoding.write(&mut document, "Prefix", self.prefix);
        encoding.write(&mut document, "KeyMarker", self.key_marker);
        document.text("VersionIdMarker", self.version_id_marker);
        if let Some((key, version)) = self.next {
            encoding.write(&mut document, "NextKeyMarker", key);
            document.optional("NextVersionIdMarker", version);
        }
        document.number("MaxKeys", u64::from(self.max_keys));
        encoding.write_optional(&mut document, "Delimiter", self.delimiter);
        encoding.write_itself(&mut document);
        document.boolean("IsTruncated", self.next.is_some());
        for version in &self.versions {
            version.write(&mut document, encoding);
        }
        common_prefixes(&mut document, &self.common_prefixes, encoding);
        document.finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use crate::xml::NAMESPACE;

    #[test]
    fn versions_and_markers_have_the_elements_of_aws() {
        let owner = Owner {
            id: "1",
            display_name: "me",
        };
        let marker = ListedVersion {
            key: "a b",
            version_id: "2",
            is_latest: true,
            modified_ms: 1_255_369_830_000,
            owner,
            object: None,
        };
        let object = ListedVersionObject {
            etag: "e",
            size: 5,
            checksum: Some((Algorithm::Crc32, ChecksumType::FullObject)),
        };
        let version = ListedVersion {
            version_id: "null",
            is_latest: false,
            object: Some(object),
            ..marker
        };
        let list = ListVersionsResult {
            name: "b",
            prefix: "",
            key_marker: "",
            version_id_marker: "",
            next: Some(("a b", Some("null"))),
            max_keys: 2,
            delimiter: Some("/"),
            encoding: EncodingType::Url,
            versions: vec![marker, version],
            common_prefixes: vec!["p/"],
        };
        let owner = "<Owner><ID>1</ID><DisplayName>me</DisplayName></Owner>";
        let date = "<LastModified>2009-10-12T17:50:30.000Z</LastModified>";
        let expected = format!(
            "<ListVersionsResult xmlns=\"{NAMESPACE}\"><Name>b</Name><Prefix></Prefix><KeyMarker></KeyMarker>\
             <VersionIdMarker></VersionIdMarker><NextKeyMarker>a%20b</NextKeyMarker>\
             <NextVersionIdMarker>null</NextVersionIdMarker><MaxKeys>2</MaxKeys><Delimiter>/</Delimiter>\
             <EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
             <DeleteMarker><Key>a%20b</Key><VersionId>2</VersionId><IsLatest>true</IsLatest>{date}{owner}</DeleteMarker>\
             <Version><Key>a%20b</Key><VersionId>null</VersionId><IsLatest>false</IsLatest>{date}\
             <ETag>&quot;e&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>\
             <Size>5</Size>{owner}<StorageClass>STANDARD</StorageClass></Version>\
             <CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes></ListVersionsResult>"
        );
        assert_eq!(list.to_xml().split_once('\n').unwrap().1, expected);
    }
}
