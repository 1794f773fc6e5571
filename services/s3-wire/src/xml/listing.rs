//! Answers that list objects: ListObjects and ListObjectsV2.

use super::{Document, Owner, escape_into};
use crate::checksum::{Algorithm, ChecksumType};
use crate::dates::write_iso8601;
use crate::error::S3Error;
use crate::query::{Query, encode_into};

/// How names are written in a listing: `encoding-type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncodingType {
    /// As XML text.
    #[default]
    Plain,
    /// Percent-encoded, so that every key survives XML.
    Url,
}

impl EncodingType {
    /// Reads the parameter `encoding-type`.
    ///
    /// # Errors
    /// `InvalidArgument` for anything but `url`.
    pub fn from_query(query: &Query<'_>) -> Result<EncodingType, S3Error> {
        match query.get("encoding-type") {
            None | Some("") => Ok(EncodingType::Plain),
            Some(text) if text.eq_ignore_ascii_case("url") => Ok(EncodingType::Url),
            Some(text) => {
                let message = "Invalid Encoding Method specified in Request";
                Err(S3Error::argument(message, "encoding-type", text))
            }
        }
    }

    /// An element with a name in it.
    pub(super) fn write(self, document: &mut Document, element: &'static str, name: &str) {
        document.around(element, |out| self.write_name(out, name));
    }

    /// A name, as it may stand in XML.
    fn write_name(self, out: &mut String, name: &str) {
        match self {
            EncodingType::Plain => escape_into(out, name),
            // What percent-encoding leaves needs no escaping.
            EncodingType::Url => encode_into(out, name, true),
        }
    }

    /// The same for what may be absent.
    pub(super) fn write_optional(
        self,
        document: &mut Document,
        element: &'static str,
        name: Option<&str>,
    ) {
        if let Some(name) = name {
            self.write(document, element, name);
        }
    }

    /// The `EncodingType` element.
    pub(super) fn write_itself(self, document: &mut Document) {
        if self == EncodingType::Url {
            document.text("EncodingType", "url");
        }
    }
}

/// One object of a listing, `Contents`.
#[derive(Clone, Copy, Debug)]
pub struct ListedObject<'a> {
    /// The key, not encoded.
    pub key: &'a str,
    /// When it was stored.
    pub modified_ms: u64,
    /// Without quotes.
    pub etag: &'a str,
    /// Bytes.
    pub size: u64,
    /// Its checksum's algorithm and type, when it has one.
    pub checksum: Option<(Algorithm, ChecksumType)>,
    /// Version 1 always tells it, version 2 only with `fetch-owner=true`.
    pub owner: Option<Owner<'a>>,
}

impl ListedObject<'_> {
    /// There may be a thousand, so the markup between two values goes in as one piece.
    fn write(&self, document: &mut Document, encoding: EncodingType) {
        let out = &mut document.out;
        out.push_str("<Contents><Key>");
        encoding.write_name(out, self.key);
        out.push_str("</Key><LastModified>");
        write_iso8601(out, self.modified_ms);
        out.push_str("</LastModified><ETag>&quot;");
        escape_into(out, self.etag);
        out.push_str("&quot;</ETag>");
        if let Some((algorithm, kind)) = self.checksum {
            out.push_str("<ChecksumAlgorithm>");
            out.push_str(algorithm.name());
            out.push_str("</ChecksumAlgorithm><ChecksumType>");
            out.push_str(kind.name());
            out.push_str("</ChecksumType>");
        }
        document.number("Size", self.size);
        if let Some(owner) = &self.owner {
            document.owner("Owner", owner);
        }
        let end = "<StorageClass>STANDARD</StorageClass></Contents>";
        document.out.push_str(end);
    }
}

/// A guess at the size of a listing, so that its text grows once.
fn capacity(objects: &[ListedObject<'_>], prefixes: usize) -> usize {
    let keys: usize = objects.iter().map(|object| object.key.len()).sum();
    1024 + keys * 2 + objects.len() * 380 + prefixes * 128
}

/// The prefixes under which keys were rolled up.
pub(super) fn common_prefixes(document: &mut Document, prefixes: &[&str], encoding: EncodingType) {
    for prefix in prefixes {
        document.open("CommonPrefixes");
        encoding.write(document, "Prefix", prefix);
        document.close();
    }
}

/// The answer to ListObjects, `ListBucketResult`.
#[derive(Clone, Debug)]
pub struct ListObjectsResult<'a> {
    /// The bucket.
    pub name: &'a str,
    /// As it was asked for; empty when it was not.
    pub prefix: &'a str,
    /// As it was asked for; empty when it was not.
    pub marker: &'a str,
    /// Where the next page begins. AWS writes it only when there is a delimiter.
    pub next_marker: Option<&'a str>,
    /// As it was asked for, at most 1000.
    pub max_keys: u32,
    /// As it was asked for.
    pub delimiter: Option<&'a str>,
    /// As it was asked for.
    pub encoding: EncodingType,
    /// Whether there is a next page.
    pub is_truncated: bool,
    /// In the order of their keys' bytes.
    pub objects: Vec<ListedObject<'a>>,
    /// In the order of their bytes.
    pub common_prefixes: Vec<&'a str>,
}

impl ListObjectsResult<'_> {
    /// The document.
    pub fn to_xml(&self) -> String {
        let bytes = capacity(&self.objects, self.common_prefixes.len());
        let mut document = Document::with_capacity("ListBucketResult", bytes);
        let encoding = self.encoding;
        document.text("Name", self.name);
        encoding.write(&mut document, "Prefix", self.prefix);
        encoding.write(&mut document, "Marker", self.marker);
        encoding.write_optional(&mut document, "NextMarker", self.next_marker);
        document.number("MaxKeys", u64::from(self.max_keys));
        encoding.write_optional(&mut document, "Delimiter", self.delimiter);
        encoding.write_itself(&mut document);
        document.boolean("IsTruncated", self.is_truncated);
        for object in &self.objects {
            object.write(&mut document, encoding);
        }
        common_prefixes(&mut document, &self.common_prefixes, encoding);
        document.finish()
    }
}

/// The answer to ListObjectsV2, also `ListBucketResult`.
#[derive(Clone, Debug)]
pub struct ListObjectsV2Result<'a> {
    /// The bucket.
    pub name: &'a str,
    /// As it was asked for; empty when it was not.
    pub prefix: &'a str,
    /// As it was asked for.
    pub start_after: Option<&'a str>,
    /// As it was asked for.
    pub continuation_token: Option<&'a str>,
    /// Where the next page begins, if there is one. Opaque, never encoded.
    pub next_continuation_token: Option<&'a str>,
    /// As it was asked for, at most 1000.
    pub max_keys: u32,
    /// As it was asked for.
    pub delimiter: Option<&'a str>,
    /// As it was asked for.
    pub encoding: EncodingType,
    /// Whether there is a next page.
    pub is_truncated: bool,
    /// In the order of their keys' bytes.
    pub objects: Vec<ListedObject<'a>>,
    /// In the order of their bytes.
    pub common_prefixes: Vec<&'a str>,
}

impl ListObjectsV2Result<'_> {
    /// The document. `KeyCount` counts objects and common prefixes.
    pub fn to_xml(&self) -> String {
        let bytes = capacity(&self.objects, self.common_prefixes.len());
        let mut document = Document::with_capacity("ListBucketResult", bytes);
        let encoding = self.encoding;
        let count = self
            .objects
            .len()
            .saturating_add(self.common_prefixes.len());
        document.text("Name", self.name);
        encoding.write(&mut document, "Prefix", self.prefix);
        encoding.write_optional(&mut document, "StartAfter", self.start_after);
        document.optional("ContinuationToken", self.continuation_token);
        document.optional("NextContinuationToken", self.next_continuation_token);
        document.number("KeyCount", u64::try_from(count).unwrap_or(u64::MAX));
        document.number("MaxKeys", u64::from(self.max_keys));
        encoding.write_optional(&mut document, "Delimiter", self.delimiter);
        encoding.write_itself(&mut document);
        document.boolean("IsTruncated", self.is_truncated);
        for object in &self.objects {
            object.write(&mut document, encoding);
        }
        common_prefixes(&mut document, &self.common_prefixes, encoding);
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
    use crate::xml::NAMESPACE;

    fn object(key: &str) -> ListedObject<'_> {
        ListedObject {
            key,
            modified_ms: 1_255_369_830_000,
            etag: "e",
            size: 5,
            checksum: Some((Algorithm::Crc32, ChecksumType::FullObject)),
            owner: None,
        }
    }

    #[test]
    fn version_2_has_the_elements_of_aws_in_their_order() {
        let list = ListObjectsV2Result {
            name: "b",
            prefix: "p/",
            start_after: Some("a"),
            continuation_token: Some("t1"),
            next_continuation_token: Some("t2"),
            max_keys: 2,
            delimiter: Some("/"),
            encoding: EncodingType::Plain,
            is_truncated: true,
            objects: vec![object("p/<k>")],
            common_prefixes: vec!["p/q/"],
        };
        let expected = format!(
            "<ListBucketResult xmlns=\"{NAMESPACE}\"><Name>b</Name><Prefix>p/</Prefix><StartAfter>a</StartAfter>\
             <ContinuationToken>t1</ContinuationToken><NextContinuationToken>t2</NextContinuationToken>\
             <KeyCount>2</KeyCount><MaxKeys>2</MaxKeys><Delimiter>/</Delimiter><IsTruncated>true</IsTruncated>\
             <Contents><Key>p/&lt;k&gt;</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified>\
             <ETag>&quot;e&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm>\
             <ChecksumType>FULL_OBJECT</ChecksumType><Size>5</Size><StorageClass>STANDARD</StorageClass></Contents>\
             <CommonPrefixes><Prefix>p/q/</Prefix></CommonPrefixes></ListBucketResult>"
        );
        assert_eq!(list.to_xml().split_once('\n').unwrap().1, expected);
    }

    #[test]
    fn version_1_encodes_names_when_asked() {
        let list = ListObjectsResult {
            name: "b",
            prefix: "",
            marker: "a b",
            next_marker: Some("ü"),
            max_keys: 1000,
            delimiter: Some("+"),
            encoding: EncodingType::Url,
            is_truncated: false,
            objects: vec![object("a/\u{1}")],
            common_prefixes: vec![],
        };
        let xml = list.to_xml();
        for part in [
            "<Prefix></Prefix><Marker>a%20b</Marker><NextMarker>%C3%BC</NextMarker><MaxKeys>1000</MaxKeys>",
            "<Delimiter>%2B</Delimiter><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>",
            "<Key>a/%01</Key>",
        ] {
            assert!(xml.contains(part), "{part} is not in {xml}");
        }
    }

    #[test]
    fn only_url_is_an_encoding() {
        let check = |raw| EncodingType::from_query(&Query::parse(raw).unwrap());
        assert_eq!(check("").unwrap(), EncodingType::Plain);
        assert_eq!(check("encoding-type=url").unwrap(), EncodingType::Url);
        assert!(check("encoding-type=base64").is_err());
    }
}
