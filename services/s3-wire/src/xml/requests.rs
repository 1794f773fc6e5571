//! The documents that requests carry: CreateBucketConfiguration, Delete, CompleteMultipartUpload.
//!
//! Strict: an element that S3's schema does not have is `MalformedXML`, one that it has and we do
//! not support is `NotImplemented`. Nothing is skipped.

use super::pull::{Pull, malformed};
use crate::checksum::{Algorithm, Checksum};
use crate::conditions::unquoted;
use crate::error::{ErrorCode, S3Error};

/// Most bytes of a CreateBucketConfiguration; longer bodies get `MaxMessageLengthExceeded`.
pub const CREATE_BUCKET_BYTES_MAX: usize = 64 << 10;
/// Most bytes of a Delete: 1000 keys of 1024 bytes, with room for escapes.
pub const DELETE_BYTES_MAX: usize = 4 << 20;
/// Most objects in a Delete.
pub const DELETE_OBJECTS_MAX: usize = 1000;
/// Most bytes of a CompleteMultipartUpload: 10,000 parts with an entity tag and a checksum each.
pub const COMPLETE_BYTES_MAX: usize = 6 << 20;
/// Most parts of an upload, and the largest part number.
pub const PARTS_MAX: u32 = 10_000;

/// The body of CreateBucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateBucketConfiguration {
    /// The region where the bucket shall be; `None` when it is not said.
    pub location_constraint: Option<String>,
}

impl CreateBucketConfiguration {
    /// Parses a body; an empty one says nothing.
    ///
    /// # Errors
    /// `MalformedXML`, `MaxMessageLengthExceeded`; `NotImplemented` for directory buckets and tags.
    pub fn parse(body: &[u8]) -> Result<CreateBucketConfiguration, S3Error> {
        check_size(body, CREATE_BUCKET_BYTES_MAX)?;
        let mut configuration = CreateBucketConfiguration::default();
        if body.trim_ascii().is_empty() {
            return Ok(configuration);
        }
        let mut pull = Pull::begin(body, "CreateBucketConfiguration")?;
        pull.children(|pull, name| match name {
            "LocationConstraint" => {
                let region = pull.text()?.trim().to_owned();
                once(&mut configuration.location_constraint, region)
            }
            "Location" | "Bucket" | "Tags" => Err(S3Error::not_implemented("Element", name)),
            _ => Err(malformed()),
        })?;
        pull.finish()?;
        configuration.location_constraint = configuration
            .location_constraint
            .filter(|region| !region.is_empty());
        Ok(configuration)
    }
}

/// The body of DeleteObjects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRequest {
    /// Whether only errors shall be answered.
    pub quiet: bool,
    /// 1 to [`DELETE_OBJECTS_MAX`].
    pub objects: Vec<DeleteObject>,
}

/// One object to delete, with its conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteObject {
    /// The key: not empty, otherwise unchecked, because a key that is too long is an error of this
    /// object only.
    pub key: String,
    /// The version to delete.
    pub version_id: Option<String>,
    /// Delete only an object with this entity tag (without quotes; `*` is any). Directory buckets
    /// only, in AWS.
    pub etag: Option<String>,
    /// Delete only an object that was stored then; the text as it came.
    pub last_modified: Option<String>,
    /// Delete only an object of so many bytes.
    pub size: Option<u64>,
}

impl DeleteRequest {
    /// Parses a body.
    ///
    /// # Errors
    /// `MalformedXML` (also for no objects or more than [`DELETE_OBJECTS_MAX`]),
    /// `MaxMessageLengthExceeded`.
    pub fn parse(body: &[u8]) -> Result<DeleteRequest, S3Error> {
        check_size(body, DELETE_BYTES_MAX)?;
        let mut pull = Pull::begin(body, "Delete")?;
        let mut quiet = None;
        let mut objects = Vec::new();
        pull.children(|pull, name| match name {
            "Quiet" => once(&mut quiet, boolean(&pull.text()?)?),
            "Object" if objects.len() < DELETE_OBJECTS_MAX => {
                objects.push(delete_object(pull)?);
                Ok(())
            }
            _ => Err(malformed()),
        })?;
        pull.finish()?;
        if objects.is_empty() {
            return Err(malformed());
        }
        Ok(DeleteRequest {
            quiet: quiet.unwrap_or(false),
            objects,
        })
    }
}

fn delete_object(pull: &mut Pull<'_>) -> Result<DeleteObject, S3Error> {
    let (mut key, mut object) = (None, DeleteObject::default());
    pull.children(|pull, name| {
        let text = pull.text()?;
        match name {
            "Key" => once(&mut key, text),
            "VersionId" => once(&mut object.version_id, text),
            "ETag" => once(&mut object.etag, unquoted(&text).to_owned()),
            "LastModifiedTime" => once(&mut object.last_modified, text),
            "Size" => once(&mut object.size, number(&text)?),
            _ => Err(malformed()),
        }
    })?;
    object.key = key.filter(|key| !key.is_empty()).ok_or_else(malformed)?;
    Ok(object)
}

/// The body of CompleteMultipartUpload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompleteMultipartUpload {
    /// 1 to [`PARTS_MAX`], in the order of the document.
    pub parts: Vec<CompletedPart>,
}

/// One part that the client wants in the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletedPart {
    /// From 1 to [`PARTS_MAX`].
    pub number: u32,
    /// Without quotes.
    pub etag: String,
    /// The checksum that the client knows of it.
    pub checksum: Option<Checksum>,
}

impl CompleteMultipartUpload {
    /// Parses a body.
    ///
    /// # Errors
    /// `MalformedXML` (also for no parts or more than [`PARTS_MAX`]), `MaxMessageLengthExceeded`,
    /// `InvalidArgument` for a part number out of range, `InvalidRequest` for a bad checksum.
    pub fn parse(body: &[u8]) -> Result<CompleteMultipartUpload, S3Error> {
        check_size(body, COMPLETE_BYTES_MAX)?;
        let parts_max = usize::try_from(PARTS_MAX).unwrap_or(usize::MAX);
        let mut pull = Pull::begin(body, "CompleteMultipartUpload")?;
        let mut parts = Vec::new();
        pull.children(|pull, name| match name {
            "Part" if parts.len() < parts_max => {
                parts.push(completed_part(pull)?);
                Ok(())
            }
            _ => Err(malformed()),
        })?;
        pull.finish()?;
        if parts.is_empty() {
            return Err(malformed());
        }
        Ok(CompleteMultipartUpload { parts })
    }

    /// Checks that the numbers ascend. Apart from `parse`, because AWS looks for the upload first.
    ///
    /// # Errors
    /// `InvalidPartOrder`.
    pub fn check_order(&self) -> Result<(), S3Error> {
        if self.parts.is_sorted_by(|a, b| a.number < b.number) {
            Ok(())
        } else {
            Err(ErrorCode::InvalidPartOrder.into())
        }
    }
}

fn completed_part(pull: &mut Pull<'_>) -> Result<CompletedPart, S3Error> {
    let (mut number_text, mut etag, mut checksum) = (None, None, None);
    pull.children(|pull, name| {
        let text = pull.text()?;
        match name {
            "PartNumber" => once(&mut number_text, text),
            "ETag" => once(&mut etag, unquoted(&text).to_owned()),
            _ => {
                let known = Algorithm::ALL
                    .into_iter()
                    .find(|known| known.element() == name);
                let algorithm = known.ok_or_else(malformed)?;
                let value = Checksum::from_base64(algorithm, text.trim()).ok_or_else(|| {
                    let message = format!("Value for {name} is invalid.");
                    S3Error::with(ErrorCode::InvalidRequest, message)
                })?;
                once(&mut checksum, value)
            }
        }
    })?;
    let number_text = number_text.ok_or_else(malformed)?;
    let number = number(&number_text)?;
    match u32::try_from(number) {
        Ok(number) if (1..=PARTS_MAX).contains(&number) => Ok(CompletedPart {
            number,
            etag: etag.ok_or_else(malformed)?,
            checksum,
        }),
        _ => Err(S3Error::argument(
            "Part number must be an integer between 1 and 10000, inclusive",
            "PartNumber",
            number_text,
        )),
    }
}

/// Puts a value where none may be yet.
pub(super) fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), S3Error> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(malformed()),
    }
}

fn boolean(text: &str) -> Result<bool, S3Error> {
    match text.trim() {
        text if text.eq_ignore_ascii_case("true") || text == "1" => Ok(true),
        text if text.eq_ignore_ascii_case("false") || text == "0" => Ok(false),
        _ => Err(malformed()),
    }
}

pub(super) fn number(text: &str) -> Result<u64, S3Error> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(malformed)
}

pub(super) fn check_size(body: &[u8], bytes_max: usize) -> Result<(), S3Error> {
    if body.len() <= bytes_max {
        return Ok(());
    }
    Err(S3Error::new(ErrorCode::MaxMessageLengthExceeded)
        .and("MaxMessageLengthBytes", bytes_max.to_string()))
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
    use crate::xml::Document;
    use proptest::prelude::*;

    #[test]
    fn documents_of_sdks_are_read() {
        let location = |body: &str| {
            CreateBucketConfiguration::parse(body.as_bytes())
                .unwrap()
                .location_constraint
        };
        assert_eq!(location(""), None);
        assert_eq!(
            location(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                      <LocationConstraint>eu-1</LocationConstraint></CreateBucketConfiguration>"
            ),
            Some("eu-1".to_owned())
        );
        assert_eq!(location("<CreateBucketConfiguration/>"), None);

        let delete = "\u{FEFF}<Delete><Quiet>true</Quiet><Object><Key> a&amp;b&#x1;&#65;<![CDATA[<c>]]></Key></Object>\n\
                      <Object><VersionId>v</VersionId><Key>k</Key><ETag>\"e\"</ETag><Size>5</Size></Object><!-- x --></Delete>\n";
        let request = DeleteRequest::parse(delete.as_bytes()).unwrap();
        assert!(request.quiet);
        assert_eq!(request.objects[0].key, " a&b\u{1}A<c>");
        let second = DeleteObject {
            key: "k".to_owned(),
            version_id: Some("v".to_owned()),
            etag: Some("e".to_owned()),
            last_modified: None,
            size: Some(5),
        };
        assert_eq!(request.objects[1], second);

        let complete = "<s3:CompleteMultipartUpload xmlns:s3=\"http://s3.amazonaws.com/doc/2006-03-01/\"><s3:Part><s3:ETag>&quot;e&quot;</s3:ETag>\
                        <s3:PartNumber>2</s3:PartNumber><s3:ChecksumCRC32>y/Q5Jg==</s3:ChecksumCRC32></s3:Part></s3:CompleteMultipartUpload>";
        let request = CompleteMultipartUpload::parse(complete.as_bytes()).unwrap();
        let sum = of(Algorithm::Crc32, b"123456789");
        assert_eq!(
            request.parts,
            [CompletedPart {
                number: 2,
                etag: "e".to_owned(),
                checksum: Some(sum)
            }]
        );
    }

    #[test]
    fn what_the_schema_does_not_have_is_malformed() {
        let check = |body: &str| {
            assert_eq!(
                DeleteRequest::parse(body.as_bytes()).unwrap_err().code,
                ErrorCode::MalformedXML,
                "{body}"
            );
        };
        let object = "<Object><Key>k</Key></Object>";
        for body in [
            "",
            " ",
            "text",
            "<",
            "<Delete>",
            "<Delete></Delete>",
            "<Delete/>",
            "<Other/>",
            "<Delete><Object></Object></Delete>",
            "<Delete><Object><Key></Key></Object></Delete>",
            "<Delete><Object><Key>a\0</Key></Object></Delete>",
            "<Delete><Object><Key>a&#0;</Key></Object></Delete>",
            "<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>",
            "<Delete><Object><Key><Deep>k</Deep></Key></Object></Delete>",
            "<Delete><Object><Key>k</Object></Key></Delete>",
            "<Delete><Object><Key>&unknown;</Key></Object></Delete>",
            "<Delete><Object><Key>&#0;</Key></Object></Delete>",
            "<Delete><Object><Key>&#xD800;</Key></Object></Delete>",
            "<Delete><Object><Key>a & b</Key></Object></Delete>",
            "<Delete><Object><Key>k</Key><Size>-5</Size></Object></Delete>",
        ] {
            check(body);
        }
        check(&format!("<Delete>{object}"));
        check(&format!("<Delete>{object}</Delete><Delete/>"));
        check(&format!("<Delete>{object}<Other/></Delete>"));
        check(&format!("<Delete>{object}text</Delete>"));
        check(&format!("<Delete><Quiet>maybe</Quiet>{object}</Delete>"));
        check(&format!("<Delete><Quiet/>{object}</Delete>"));
        check(&format!("<Delete a=\"1\" a=\"2\">{object}</Delete>"));
        check(&format!(
            "<Delete a=\"{}\">{object}</Delete>",
            "x".repeat(2000)
        ));
        check(&format!(
            "<!DOCTYPE d [<!ENTITY e \"k\">]><Delete>{object}</Delete>"
        ));
        check(&format!("<?php ?><Delete>{object}</Delete>"));
        check(&format!(
            "<?xml version=\"1.0\" encoding=\"UTF-16\"?><Delete>{object}</Delete>"
        ));
        check(&format!("<Delete>{}</Delete>", object.repeat(1001)));
        check(&format!(
            "<Delete><Object><Key>{}</Key></Object></Delete>",
            "k".repeat(5000)
        ));
        check(&"<Delete>".repeat(100));
        assert!(
            DeleteRequest::parse(format!("<Delete>{}</Delete>", object.repeat(1000)).as_bytes())
                .is_ok()
        );
        assert!(DeleteRequest::parse(b"<Delete>\xFF</Delete>").is_err());
        let large = vec![b' '; DELETE_BYTES_MAX + 1];
        assert_eq!(
            DeleteRequest::parse(&large).unwrap_err().code,
            ErrorCode::MaxMessageLengthExceeded
        );
    }

    #[test]
    fn parts_are_checked() {
        let check = |parts: &str| {
            let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
            CompleteMultipartUpload::parse(body.as_bytes()).map_err(|error| error.code)
        };
        let part =
            |number: &str| format!("<Part><PartNumber>{number}</PartNumber><ETag>e</ETag></Part>");
        assert!(
            check(&(part("1") + &part("2")))
                .unwrap()
                .check_order()
                .is_ok()
        );
        for wrong in [part("2") + &part("1"), part("1") + &part("1")] {
            assert_eq!(
                check(&wrong).unwrap().check_order().unwrap_err().code,
                ErrorCode::InvalidPartOrder
            );
        }
        for number in ["0", "10001", "99999999999"] {
            assert_eq!(
                check(&part(number)).unwrap_err(),
                ErrorCode::InvalidArgument
            );
        }
        for wrong in [
            "",
            "<Part><PartNumber>1</PartNumber></Part>",
            "<Part><ETag>e</ETag></Part>",
            &part("-1"),
            &part("one"),
        ] {
            assert_eq!(
                check(wrong).unwrap_err(),
                ErrorCode::MalformedXML,
                "{wrong}"
            );
        }
        let wrong =
            "<Part><PartNumber>1</PartNumber><ETag>e</ETag><ChecksumSHA1>x</ChecksumSHA1></Part>";
        assert_eq!(check(wrong).unwrap_err(), ErrorCode::InvalidRequest);
        assert_eq!(
            check(&part("1").repeat(10_001)).unwrap_err(),
            ErrorCode::MalformedXML
        );
    }

    #[test]
    fn what_aws_has_and_we_lack_is_named() {
        let body = b"<CreateBucketConfiguration><Bucket><Type>Directory</Type></Bucket></CreateBucketConfiguration>";
        let error = CreateBucketConfiguration::parse(body).unwrap_err();
        assert_eq!(
            (error.code, error.extra),
            (
                ErrorCode::NotImplemented,
                vec![("Element", "Bucket".to_owned())]
            )
        );
    }

    proptest! {
        #[test]
        fn every_key_survives_writing_and_reading(key in "[^\0\u{FFFE}\u{FFFF}]{1,40}") {
            let mut document = Document::new("Delete");
            document.open("Object");
            document.text("Key", &key);
            let xml = document.finish();
            let parsed = DeleteRequest::parse(xml.as_bytes());
            prop_assert!(parsed.is_ok(), "{xml}");
            prop_assert_eq!(&parsed.unwrap().objects[0].key, &key);
        }

        #[test]
        fn no_bytes_make_the_parsers_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = CreateBucketConfiguration::parse(&body);
            let _ = DeleteRequest::parse(&body);
            let _ = CompleteMultipartUpload::parse(&body);
        }

        #[test]
        fn no_tags_in_any_order_make_the_parsers_panic(body in "(</?(Delete|Object|Key|Quiet|CompleteMultipartUpload|Part|PartNumber|ETag)/?>|[a-z0-9&;#]{0,5}|<!\\[CDATA\\[|\\]\\]>|<!--|-->|<\\?|\\?>){0,20}") {
            for root in ["Delete", "CompleteMultipartUpload"] {
                let body = format!("<{root}>{body}");
                let _ = DeleteRequest::parse(body.as_bytes());
                let _ = CompleteMultipartUpload::parse(body.as_bytes());
            }
        }
    }
}
