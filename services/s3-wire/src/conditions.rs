//! Conditional requests: which of `If-Match` and its relatives hold for an object.
//!
//! Source: RFC 9110, section 13.2.2 (precedence);
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html>

use crate::dates::{parse_http_date, parse_iso8601};
use crate::error::{ErrorCode, S3Error};
use crate::headers::{Headers, single};

/// What the conditions of a read come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All conditions hold.
    Proceed,
    /// The client has this version already: 304 without a body.
    NotModified,
    /// 412.
    PreconditionFailed,
}

/// The list of entity tags of one header, or `*`. Compared in place, never copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tags<'a>(&'a str);

impl Tags<'_> {
    /// Whether `etag` (without quotes) is in the list. A weak tag counts only where `weak` allows
    /// it.
    fn contain(self, etag: &str, weak: bool) -> bool {
        if self.0.trim() == "*" {
            return true;
        }
        // Splitting at commas is safe: the entity tags of S3 are hexadecimal digits and `-`.
        self.0
            .split(',')
            .any(|tag| match tag.trim().strip_prefix("W/") {
                Some(tag) => weak && unquoted(tag) == etag,
                None => unquoted(tag) == etag,
            })
    }
}

/// An entity tag without its quotes; clients of S3 also send it bare, and AWS accepts that.
pub fn unquoted(tag: &str) -> &str {
    let tag = tag.trim();
    tag.strip_prefix('"')
        .and_then(|tag| tag.strip_suffix('"'))
        .unwrap_or(tag)
}

/// The conditions that a GET, a HEAD or the source of a copy carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadConditions<'a> {
    if_match: Option<Tags<'a>>,
    if_none_match: Option<Tags<'a>>,
    if_modified_since: Option<u64>,
    if_unmodified_since: Option<u64>,
}

impl<'a> ReadConditions<'a> {
    /// The conditions of a GET or HEAD. Dates that cannot be read are ignored, as RFC 9110 demands.
    ///
    /// # Errors
    /// `InvalidRequest` when one of the headers is repeated.
    pub fn of_read(headers: &'a dyn Headers) -> Result<ReadConditions<'a>, S3Error> {
        let names = [
            "if-match",
            "if-none-match",
            "if-modified-since",
            "if-unmodified-since",
        ];
        ReadConditions::from_headers(headers, names)
    }

    /// The conditions `x-amz-copy-source-if-*` of CopyObject and UploadPartCopy.
    ///
    /// # Errors
    /// `InvalidRequest` when one of the headers is repeated.
    pub fn of_copy_source(headers: &'a dyn Headers) -> Result<ReadConditions<'a>, S3Error> {
        let names = [
            "x-amz-copy-source-if-match",
            "x-amz-copy-source-if-none-match",
            "x-amz-copy-source-if-modified-since",
            "x-amz-copy-source-if-unmodified-since",
        ];
        ReadConditions::from_headers(headers, names)
    }

    fn from_headers(headers: &'a dyn Headers, names: [&str; 4]) -> Result<Self, S3Error> {
        let [matching, none, modified, unmodified] = names;
        let date = |name: &str| -> Result<Option<u64>, S3Error> {
            let value = single(headers, name)?;
            Ok(value.and_then(|text| parse_http_date(text).or_else(|| parse_iso8601(text))))
        };
        Ok(ReadConditions {
            if_match: single(headers, matching)?.map(Tags),
            if_none_match: single(headers, none)?.map(Tags),
            if_modified_since: date(modified)?,
            if_unmodified_since: date(unmodified)?,
        })
    }

    /// Whether there is nothing to evaluate.
    pub fn is_empty(&self) -> bool {
        *self == ReadConditions::default()
    }

    /// Evaluates for a GET or HEAD of an existing object. `etag` is without quotes; `modified_s`
    /// counts whole seconds, because that is what `Last-Modified` told the client.
    pub fn evaluate(&self, etag: &str, modified_s: u64) -> Outcome {
        // A tag says more than a date, so where both are given the date is not looked at.
        let precondition = match (self.if_match, self.if_unmodified_since) {
            (Some(tags), _) => tags.contain(etag, false),
            (None, Some(date)) => modified_s <= date,
            (None, None) => true,
        };
        if !precondition {
            return Outcome::PreconditionFailed;
        }
        let changed = match (self.if_none_match, self.if_modified_since) {
            (Some(tags), _) => !tags.contain(etag, true),
            (None, Some(date)) => modified_s > date,
            (None, None) => true,
        };
        if changed {
            Outcome::Proceed
        } else {
            Outcome::NotModified
        }
    }

    /// Evaluates for the source of a copy, where everything that does not hold is a failed
    /// precondition.
    ///
    /// # Errors
    /// `PreconditionFailed`.
    pub fn evaluate_copy(&self, etag: &str, modified_s: u64) -> Result<(), S3Error> {
        match self.evaluate(etag, modified_s) {
            Outcome::Proceed => Ok(()),
            Outcome::NotModified | Outcome::PreconditionFailed => {
                Err(ErrorCode::PreconditionFailed.into())
            }
        }
    }
}

/// The condition of a write (PutObject, CopyObject, CompleteMultipartUpload) or of a DeleteObject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WriteCondition {
    /// None.
    #[default]
    Always,
    /// `If-None-Match: *`: the key must not exist.
    Absent,
    /// `If-Match: *`: the key must exist.
    Exists,
    /// `If-Match: "etag"`: the key must exist with this entity tag (without quotes).
    Matches(String),
}

impl WriteCondition {
    /// Reads `If-Match` and `If-None-Match` of a write.
    ///
    /// # Errors
    /// `NotImplemented` naming the header for what AWS does not offer either: `If-None-Match` with
    /// a tag, lists of tags, both headers at once, and the date conditions, which would be silently
    /// without effect. `InvalidRequest` for repeats.
    pub fn from_headers(headers: &dyn Headers) -> Result<WriteCondition, S3Error> {
        for name in ["if-modified-since", "if-unmodified-since"] {
            if headers.first(name).is_some() {
                return Err(S3Error::not_implemented("Header", name));
            }
        }
        let none = single(headers, "if-none-match")?;
        let matching = single(headers, "if-match")?;
        match (matching, none) {
            (None, None) => Ok(WriteCondition::Always),
            (None, Some("*")) => Ok(WriteCondition::Absent),
            (_, Some(_)) => Err(S3Error::not_implemented("Header", "If-None-Match")),
            (Some("*"), None) => Ok(WriteCondition::Exists),
            (Some(tag), None) if tag.contains(',') || tag.starts_with("W/") => {
                Err(S3Error::not_implemented("Header", "If-Match"))
            }
            (Some(tag), None) => Ok(WriteCondition::Matches(unquoted(tag).to_owned())),
        }
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
    use proptest::prelude::*;

    const NEW: &str = "Fri, 01 Jan 2100 00:00:00 GMT";
    const OLD: &str = "Thu, 01 Jan 1970 00:00:10 GMT";

    #[test]
    fn reads_follow_the_precedence_of_rfc_9110() {
        let check = |pairs: &[(&'static str, &'static str)], expected: Outcome| {
            let headers = pairs.to_vec();
            let conditions = ReadConditions::of_read(&headers).unwrap();
            assert_eq!(conditions.evaluate("abc", 1000), expected, "{pairs:?}");
        };
        check(&[], Outcome::Proceed);
        check(&[("if-match", "\"abc\"")], Outcome::Proceed);
        check(&[("if-match", "abc")], Outcome::Proceed);
        check(&[("if-match", "*")], Outcome::Proceed);
        check(&[("if-match", "\"x\", \"abc\"")], Outcome::Proceed);
        check(&[("if-match", "W/\"abc\"")], Outcome::PreconditionFailed);
        check(&[("if-match", "\"x\"")], Outcome::PreconditionFailed);
        check(&[("if-none-match", "\"abc\"")], Outcome::NotModified);
        check(&[("if-none-match", "W/\"abc\"")], Outcome::NotModified);
        check(&[("if-none-match", "\"x\"")], Outcome::Proceed);
        check(&[("if-modified-since", NEW)], Outcome::NotModified);
        check(&[("if-modified-since", OLD)], Outcome::Proceed);
        check(&[("if-modified-since", "yesterday")], Outcome::Proceed);
        check(&[("if-unmodified-since", OLD)], Outcome::PreconditionFailed);
        check(&[("if-unmodified-since", NEW)], Outcome::Proceed);
        check(
            &[("if-match", "abc"), ("if-unmodified-since", OLD)],
            Outcome::Proceed,
        );
        check(
            &[("if-none-match", "abc"), ("if-modified-since", OLD)],
            Outcome::NotModified,
        );
        check(
            &[("if-none-match", "x"), ("if-modified-since", NEW)],
            Outcome::Proceed,
        );
        check(
            &[("if-match", "x"), ("if-none-match", "abc")],
            Outcome::PreconditionFailed,
        );
    }

    #[test]
    fn a_copy_fails_where_a_read_would_be_not_modified() {
        let headers = vec![("x-amz-copy-source-if-none-match", "abc")];
        let conditions = ReadConditions::of_copy_source(&headers).unwrap();
        assert_eq!(
            conditions.evaluate_copy("abc", 1).unwrap_err().code,
            ErrorCode::PreconditionFailed
        );
        assert!(conditions.evaluate_copy("other", 1).is_ok());
    }

    #[test]
    fn writes_know_three_conditions_and_refuse_the_rest() {
        let check =
            |pairs: &[(&'static str, &'static str)]| WriteCondition::from_headers(&pairs.to_vec());
        assert_eq!(check(&[]).unwrap(), WriteCondition::Always);
        assert_eq!(
            check(&[("if-none-match", "*")]).unwrap(),
            WriteCondition::Absent
        );
        assert_eq!(check(&[("if-match", "*")]).unwrap(), WriteCondition::Exists);
        assert_eq!(
            check(&[("if-match", "\"e\"")]).unwrap(),
            WriteCondition::Matches("e".to_owned())
        );
        for pairs in [
            &[("if-none-match", "\"e\"")][..],
            &[("if-none-match", "*"), ("if-match", "e")],
            &[("if-match", "a,b")],
            &[("if-unmodified-since", OLD)],
        ] {
            assert_eq!(
                check(pairs).unwrap_err().code,
                ErrorCode::NotImplemented,
                "{pairs:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_the_evaluation_panic(a in any::<String>(), b in any::<String>(), etag in any::<String>()) {
            let headers = vec![("if-match", a.clone()), ("if-none-match", b.clone()), ("if-modified-since", a)];
            let _ = ReadConditions::of_read(&headers).unwrap().evaluate(&etag, 5);
            let _ = WriteCondition::from_headers(&vec![("if-match", b)]);
        }
    }
}
