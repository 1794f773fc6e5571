//! Tags of objects and buckets: the header that carries them, and S3's rules for them.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html>

use crate::error::{ErrorCode, S3Error};
use crate::query::decode;

/// The most tags of an object.
pub const OBJECT_TAGS_MAX: usize = 10;
/// The most tags of a bucket.
pub const BUCKET_TAGS_MAX: usize = 50;
/// The longest name of a tag, in characters.
pub const NAME_CHARACTERS_MAX: usize = 128;
/// The longest value of a tag, in characters.
pub const VALUE_CHARACTERS_MAX: usize = 256;

/// A tag: name and value.
pub type Tag = (String, String);

/// Reads `x-amz-tagging`: the tags of an object as the query of a URL.
///
/// # Errors
/// `InvalidArgument` for what is not such a query or names a tag twice; those of [`check`].
pub fn from_header(header: &str) -> Result<Vec<Tag>, S3Error> {
    let bad = || {
        let message = "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL \
                       query parameters without tag name duplicates.";
        S3Error::argument(message, "x-amz-tagging", header)
    };
    let mut tags: Vec<Tag> = Vec::new();
    for pair in header.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name, true).map_err(|_| bad())?.into_owned();
        let value = decode(value, true).map_err(|_| bad())?.into_owned();
        if tags.iter().any(|(known, _)| *known == name) {
            return Err(bad());
        }
        tags.push((name, value));
        // Enough to be refused: a header of many tags is not compared with itself.
        if tags.len() > OBJECT_TAGS_MAX {
            break;
        }
    }
    check(&tags, OBJECT_TAGS_MAX)?;
    Ok(tags)
}

/// Checks tags by S3's rules.
///
/// # Errors
/// `BadRequest` for more than `tags_max`; `InvalidTag` for a name or value that is too long or has other characters than letters,
/// digits, spaces and `+-=._:/@`, a name that begins with `aws:`, and a name that is there twice.
pub fn check(tags: &[Tag], tags_max: usize) -> Result<(), S3Error> {
    if tags.len() > tags_max {
        let whose = match tags_max {
            OBJECT_TAGS_MAX => "Object",
            _ => "Bucket",
        };
        let message = format!("{whose} tags cannot be greater than {tags_max}");
        return Err(S3Error::with(ErrorCode::BadRequest, message));
    }
    let wrong = |message: &str| Err(S3Error::with(ErrorCode::InvalidTag, message));
    for (at, (name, value)) in tags.iter().enumerate() {
        if name.is_empty() || !is_text(name, NAME_CHARACTERS_MAX) {
            return wrong("The TagKey you have provided is invalid");
        }
        if !is_text(value, VALUE_CHARACTERS_MAX) {
            return wrong("The TagValue you have provided is invalid");
        }
        if name.starts_with("aws:") {
            return wrong("System tags cannot be added/updated by requester");
        }
        if tags.iter().take(at).any(|(known, _)| known == name) {
            return wrong("Cannot provide multiple Tags with the same key");
        }
    }
    Ok(())
}

fn is_text(text: &str, characters_max: usize) -> bool {
    let allowed = |character: char| {
        character.is_alphanumeric() || character == ' ' || "+-=._:/@".contains(character)
    };
    text.chars().count() <= characters_max && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use proptest::prelude::*;

    fn tag(name: &str, value: &str) -> Tag {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn the_header_is_a_query() {
        let check = |header: &str, expected: &[Tag]| {
            assert_eq!(from_header(header).unwrap(), expected, "{header}");
        };
        check("", &[]);
        check("a=1&b=2", &[tag("a", "1"), tag("b", "2")]);
        check("a+b=%C3%BC%2F&c", &[tag("a b", "ü/"), tag("c", "")]);
        check("a=b=c", &[tag("a", "b=c")]);
    }

    #[test]
    fn what_breaks_the_rules_is_refused() {
        let check = |header: &str, code| {
            assert_eq!(from_header(header).unwrap_err().code, code, "{header}");
        };
        check("a=1&a=2", ErrorCode::InvalidArgument);
        check("a=%zz", ErrorCode::InvalidArgument);
        check("=1", ErrorCode::InvalidTag);
        check("a=%3C", ErrorCode::InvalidTag);
        check("aws%3Aa=1", ErrorCode::InvalidTag);
        check(&format!("{}=1", "k".repeat(129)), ErrorCode::InvalidTag);
        check(&format!("k={}", "v".repeat(257)), ErrorCode::InvalidTag);
        let many: Vec<String> = (0..11).map(|number| format!("k{number}=v")).collect();
        check(&many.join("&"), ErrorCode::BadRequest);
        let twice = [tag("a", "1"), tag("a", "2")];
        let refused = super::check(&twice, BUCKET_TAGS_MAX).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidTag);
        let longest = tag(&"ü".repeat(128), &"ü".repeat(256));
        assert!(super::check(&[longest], OBJECT_TAGS_MAX).is_ok());
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(header in any::<String>()) {
            let _ = from_header(&header);
        }
    }
}
