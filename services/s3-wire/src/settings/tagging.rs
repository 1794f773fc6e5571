//! Tags of buckets, and the rules that every tag keeps.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketTagging.html>

use super::once;
use crate::error::{ErrorCode, S3Error};
use crate::xml::Document;
use crate::xml::pull::{Pull, malformed};

/// Most tags of a bucket.
const BUCKET_TAGS_MAX: usize = 50;
/// Longest key of a tag, in characters.
const TAG_KEY_MAX: usize = 128;
/// Longest value of a tag, in characters.
const TAG_VALUE_MAX: usize = 256;

/// The `Tagging` document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tagging {
    /// Keys and values, in the order of the document.
    pub tags: Vec<(String, String)>,
}

impl Tagging {
    /// Parses a bucket's tags.
    ///
    /// # Errors
    /// `MalformedXML`, and those of [`check_tags`].
    pub fn parse(body: &[u8]) -> Result<Tagging, S3Error> {
        let mut pull = Pull::begin(body, "Tagging")?;
        let mut set = None;
        pull.children(|pull, name| match name {
            "TagSet" => {
                let mut tags = Vec::new();
                pull.children(|pull, name| match name {
                    "Tag" => {
                        tags.push(tag(pull)?);
                        Ok(())
                    }
                    _ => Err(malformed()),
                })?;
                once(&mut set, tags)
            }
            _ => Err(malformed()),
        })?;
        pull.finish()?;
        let tags = set.ok_or_else(malformed)?;
        check_tags(&tags, BUCKET_TAGS_MAX)?;
        Ok(Tagging { tags })
    }

    /// The document.
    pub fn to_xml(&self) -> String {
        let mut document = Document::new("Tagging");
        document.open("TagSet");
        for (key, value) in &self.tags {
            write_tag(&mut document, key, value);
        }
        document.finish()
    }
}

/// One `Tag` element.
pub(super) fn tag(pull: &mut Pull<'_>) -> Result<(String, String), S3Error> {
    let (mut key, mut value) = (None, None);
    pull.children(|pull, name| match name {
        "Key" => once(&mut key, pull.text()?),
        "Value" => once(&mut value, pull.text()?),
        _ => Err(malformed()),
    })?;
    Ok((key.ok_or_else(malformed)?, value.ok_or_else(malformed)?))
}

/// Writes one.
pub(super) fn write_tag(document: &mut Document, key: &str, value: &str) {
    document.open("Tag");
    document.text("Key", key);
    document.text("Value", value);
    document.close();
}

/// Whether tags keep to AWS's rules.
///
/// # Errors
/// `BadRequest` for more than `tags_max`; `InvalidTag` for keys and values that are too long, of other characters, AWS's own, or twice.
pub fn check_tags(tags: &[(String, String)], tags_max: usize) -> Result<(), S3Error> {
    let invalid = |message: &str| Err(S3Error::with(ErrorCode::InvalidTag, message));
    if tags.len() > tags_max {
        let message = format!("Tag count cannot be greater than {tags_max}");
        return Err(S3Error::with(ErrorCode::BadRequest, message));
    }
    let allowed = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c);
    for (at, (key, value)) in tags.iter().enumerate() {
        let length = key.chars().count();
        if length == 0 || length > TAG_KEY_MAX || !key.chars().all(allowed) {
            return invalid("The TagKey you have provided is invalid");
        }
        if value.chars().count() > TAG_VALUE_MAX || !value.chars().all(allowed) {
            return invalid("The TagValue you have provided is invalid");
        }
        if key
            .get(..4)
            .is_some_and(|start| start.eq_ignore_ascii_case("aws:"))
        {
            return invalid("System tags cannot be added/updated by requester");
        }
        if tags.iter().take(at).any(|(other, _)| other == key) {
            return invalid("Cannot provide multiple Tags with the same key");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tags_keep_to_the_rules() {
        let parse = |tags: &str| {
            Tagging::parse(format!("<Tagging><TagSet>{tags}</TagSet></Tagging>").as_bytes())
        };
        let tag =
            |key: &str, value: &str| format!("<Tag><Key>{key}</Key><Value>{value}</Value></Tag>");
        assert_eq!(
            parse(&tag("a b", "ü/1")).unwrap().tags,
            [("a b".into(), "ü/1".into())]
        );
        assert!(parse("").unwrap().tags.is_empty());
        let code = |tags: &str| parse(tags).unwrap_err().code;
        assert_eq!(code(&tag("", "x")), ErrorCode::InvalidTag);
        assert_eq!(code(&tag("aws:x", "x")), ErrorCode::InvalidTag);
        assert_eq!(code(&tag("a&lt;", "x")), ErrorCode::InvalidTag);
        assert_eq!(code(&tag(&"k".repeat(129), "x")), ErrorCode::InvalidTag);
        assert_eq!(code(&tag("k", &"v".repeat(257))), ErrorCode::InvalidTag);
        assert_eq!(
            code(&(tag("a", "1") + &tag("a", "2"))),
            ErrorCode::InvalidTag
        );
        let many: String = (0..51).map(|n| tag(&format!("k{n}"), "")).collect();
        assert_eq!(code(&many), ErrorCode::BadRequest);
        assert_eq!(code("<Tag><Key>a</Key></Tag>"), ErrorCode::MalformedXML);
        assert_eq!(
            Tagging::parse(b"<Tagging></Tagging>").unwrap_err().code,
            ErrorCode::MalformedXML
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(pairs in proptest::collection::btree_map("[a-zA-Z0-9 _.:/=+@-]{1,20}", "[a-zA-Z0-9 _.:/=+@-]{0,20}", 0..5)) {
            let tagging = Tagging { tags: pairs.into_iter().collect() };
            prop_assume!(check_tags(&tagging.tags, 50).is_ok());
            prop_assert_eq!(Tagging::parse(tagging.to_xml().as_bytes()).unwrap(), tagging);
        }

        #[test]
        fn no_document_makes_the_reader_panic(text in any::<String>()) {
            let _ = Tagging::parse(text.as_bytes());
        }
    }
}
