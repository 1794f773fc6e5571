//! The document `Tagging`, which requests and answers share.

use super::Document;
use super::pull::{Pull, malformed};
use super::requests::{check_size, once};
use crate::error::S3Error;
use crate::tags::{self, Tag};

/// Most bytes of a Tagging; longer bodies get `MaxMessageLengthExceeded`.
pub const TAGGING_BYTES_MAX: usize = 128 << 10;

/// A set of tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tagging {
    /// In the order of the document.
    pub tags: Vec<Tag>,
}

impl Tagging {
    /// Parses a body. `tags_max` says what it is about, see [`tags::check`].
    ///
    /// # Errors
    /// `MalformedXML`, `MaxMessageLengthExceeded`, those of [`tags::check`].
    pub fn parse(body: &[u8], tags_max: usize) -> Result<Tagging, S3Error> {
        check_size(body, TAGGING_BYTES_MAX)?;
        let mut pull = Pull::begin(body, "Tagging")?;
        let mut set: Option<Vec<Tag>> = None;
        pull.children(|pull, name| match name {
            "TagSet" => {
                let mut tags = Vec::new();
                pull.children(|pull, name| match name {
                    // One too many is enough to be refused.
                    "Tag" if tags.len() <= tags_max => {
                        tags.push(tag(pull)?);
                        Ok(())
                    }
                    "Tag" => tag(pull).map(drop),
                    _ => Err(malformed()),
                })?;
                once(&mut set, tags)
            }
            _ => Err(malformed()),
        })?;
        pull.finish()?;
        let tags = set.ok_or_else(malformed)?;
        tags::check(&tags, tags_max)?;
        Ok(Tagging { tags })
    }

    /// The document.
    pub fn to_xml(&self) -> String {
        let mut document = Document::new("Tagging");
        document.open("TagSet");
        for (name, value) in &self.tags {
            document.open("Tag");
            document.text("Key", name);
            document.text("Value", value);
            document.close();
        }
        document.close();
        document.finish()
    }
}

fn tag(pull: &mut Pull<'_>) -> Result<Tag, S3Error> {
    let (mut name, mut value) = (None, None);
    pull.children(|pull, element| match element {
        "Key" => once(&mut name, pull.text()?),
        "Value" => once(&mut value, pull.text()?),
        _ => Err(malformed()),
    })?;
    Ok((name.ok_or_else(malformed)?, value.ok_or_else(malformed)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use crate::error::ErrorCode;
    use crate::tags::OBJECT_TAGS_MAX;
    use proptest::prelude::*;

    #[test]
    fn tags_come_back_as_they_were_written() {
        let tagging = Tagging {
            tags: vec![
                ("a b".to_owned(), String::new()),
                ("ü".to_owned(), "+-=._:/@".to_owned()),
            ],
        };
        let xml = tagging.to_xml();
        assert_eq!(
            Tagging::parse(xml.as_bytes(), OBJECT_TAGS_MAX).unwrap(),
            tagging
        );
        let empty = Tagging::parse(b"<Tagging><TagSet/></Tagging>", OBJECT_TAGS_MAX);
        assert_eq!(empty.unwrap(), Tagging::default());
    }

    #[test]
    fn other_documents_are_malformed_and_other_tags_refused() {
        let check = |body: &str, code| {
            let refused = Tagging::parse(body.as_bytes(), OBJECT_TAGS_MAX).unwrap_err();
            assert_eq!(refused.code, code, "{body}");
        };
        for body in [
            "",
            "<Tagging/>",
            "<TagSet/>",
            "<Tagging><TagSet/><TagSet/></Tagging>",
            "<Tagging><TagSet><Tag><Key>k</Key></Tag></TagSet></Tagging>",
            "<Tagging><TagSet><Tag><Value>k</Value></Tag></TagSet></Tagging>",
            "<Tagging><TagSet><Other/></TagSet></Tagging>",
        ] {
            check(body, ErrorCode::MalformedXML);
        }
        let tag = "<Tag><Key>k</Key><Value>v</Value></Tag>";
        let set = |tags: &str| format!("<Tagging><TagSet>{tags}</TagSet></Tagging>");
        check(&set(&tag.repeat(2)), ErrorCode::InvalidTag);
        check(&set(&tag.repeat(11)), ErrorCode::BadRequest);
        check(&set(&tag.repeat(1_000)), ErrorCode::BadRequest);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Tagging::parse(&body, OBJECT_TAGS_MAX);
        }
    }
}
