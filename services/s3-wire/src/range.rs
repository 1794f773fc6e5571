//! Byte ranges: the `Range` header of a read, `Content-Range` of its answer, and
//! `x-amz-copy-source-range`.
//!
//! Source: RFC 9110, section 14;
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>

use crate::error::{ErrorCode, S3Error};

/// One range as it was asked for, before the size of the object is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeSpec {
    /// `bytes=first-last`, both included, `first <= last`.
    FromTo {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte.
        last: u64,
    },
    /// `bytes=first-`: to the end.
    From {
        /// Offset of the first byte.
        first: u64,
    },
    /// `bytes=-count`: the last bytes.
    Last {
        /// How many.
        count: u64,
    },
}

/// A range within an object, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte, smaller than the size of the object.
    pub last: u64,
}

impl ByteRange {
    /// How many bytes.
    pub fn len(self) -> u64 {
        self.last - self.first + 1
    }

    /// Never: an empty range cannot be expressed in HTTP. Here because `len` is.
    pub fn is_empty(self) -> bool {
        false
    }

    /// The value of `Content-Range` in a 206 answer.
    pub fn content_range(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.first, self.last)
    }
}

impl RangeSpec {
    /// Reads a `Range` header. `None` means that the header is to be ignored and the whole object
    /// sent: another unit, bad syntax, or several ranges (which S3 does not serve).
    pub fn parse(header: &str) -> Option<RangeSpec> {
        let (unit, spec) = header.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = spec.trim().split_once('-')?;
        match (first.trim(), last.trim()) {
            ("", count) => Some(RangeSpec::Last {
                count: number(count)?,
            }),
            (first, "") => Some(RangeSpec::From {
                first: number(first)?,
            }),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(RangeSpec::FromTo { first, last })
            }
        }
    }

    /// The bytes meant in an object of `size` bytes.
    ///
    /// # Errors
    /// `InvalidRange` with the size when no byte of the object is in the range.
    pub fn resolve(self, size: u64) -> Result<ByteRange, S3Error> {
        let end = size.checked_sub(1);
        let range = match (self, end) {
            (RangeSpec::FromTo { first, last }, Some(end)) if first <= end => Some(ByteRange {
                first,
                last: last.min(end),
            }),
            (RangeSpec::From { first }, Some(end)) if first <= end => {
                Some(ByteRange { first, last: end })
            }
            (RangeSpec::Last { count }, Some(end)) if count > 0 => Some(ByteRange {
                first: size.saturating_sub(count),
                last: end,
            }),
            _ => None,
        };
        range.ok_or_else(|| {
            S3Error::new(ErrorCode::InvalidRange)
                .and("RangeRequested", self.to_string())
                .and("ActualObjectSize", size.to_string())
        })
    }
}

impl std::fmt::Display for RangeSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RangeSpec::FromTo { first, last } => write!(f, "bytes={first}-{last}"),
            RangeSpec::From { first } => write!(f, "bytes={first}-"),
            RangeSpec::Last { count } => write!(f, "bytes=-{count}"),
        }
    }
}

/// The value of `Content-Range` in a 416 answer.
pub fn content_range_unsatisfied(size: u64) -> String {
    format!("bytes */{size}")
}

/// Reads `x-amz-copy-source-range`, which must be `bytes=first-last` and lie within the source.
///
/// # Errors
/// `InvalidArgument`, as AWS answers both a wrong form and a range beyond the end.
pub fn copy_source_range(header: &str, source_size: u64) -> Result<ByteRange, S3Error> {
    let bad = |message: String| {
        Err(S3Error::argument(
            message,
            "x-amz-copy-source-range",
            header,
        ))
    };
    let strict = header.starts_with("bytes=") && !header.contains([' ', '\t']);
    match RangeSpec::parse(header) {
        Some(RangeSpec::FromTo { first, last }) if strict && last < source_size => {
            Ok(ByteRange { first, last })
        }
        Some(RangeSpec::FromTo { .. }) if strict => bad(format!(
            "Range specified is not valid for source object of size: {source_size}"
        )),
        _ => bad(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where \
                  first and last \
                  are the zero-based offsets of the first and last bytes to copy"
                .to_owned(),
        ),
    }
}

/// Digits only (`parse` would accept a sign); numbers beyond 64 bits count as the largest one.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
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

    #[test]
    fn ranges_are_cut_to_the_object() {
        let check = |header: &str, size: u64, first: u64, last: u64| {
            let range = RangeSpec::parse(header).unwrap().resolve(size).unwrap();
            assert_eq!(range, ByteRange { first, last }, "{header}");
        };
        check("bytes=0-9", 100, 0, 9);
        check("bytes=0-0", 1, 0, 0);
        check("bytes=90-200", 100, 90, 99);
        check("bytes=5-", 100, 5, 99);
        check("bytes=-7", 100, 93, 99);
        check("bytes=-700", 100, 0, 99);
        check("bytes=0-99999999999999999999999", 100, 0, 99);
        check("Bytes = 1 - 2", 100, 1, 2);
    }

    #[test]
    fn unsatisfiable_ranges_tell_the_size() {
        for (header, size) in [
            ("bytes=100-", 100),
            ("bytes=0-", 0),
            ("bytes=-0", 5),
            ("bytes=-5", 0),
        ] {
            let error = RangeSpec::parse(header).unwrap().resolve(size).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidRange, "{header}");
            assert!(
                error
                    .extra
                    .contains(&("ActualObjectSize", size.to_string()))
            );
        }
        assert_eq!(content_range_unsatisfied(5), "bytes */5");
    }

    #[test]
    fn what_is_no_single_range_is_ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-2",
            "bytes=0-1,3-4",
            "items=0-1",
            "bytes=+1-2",
            "bytes=1-+2",
            "bytes=--1",
        ] {
            assert_eq!(RangeSpec::parse(header), None, "{header}");
        }
    }

    #[test]
    fn copy_ranges_are_strict() {
        assert_eq!(copy_source_range("bytes=0-4", 5).unwrap().len(), 5);
        for header in [
            "bytes=0-5",
            "bytes=0-",
            "bytes=-1",
            "bytes=3-2",
            "0-4",
            "bytes= 0-4",
            "",
        ] {
            assert_eq!(
                copy_source_range(header, 5).unwrap_err().code,
                ErrorCode::InvalidArgument,
                "{header}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_resolved_range_lies_in_the_object(header in "bytes=[0-9]{0,21}-[0-9]{0,21}", size in any::<u64>()) {
            if let Some(Ok(range)) = RangeSpec::parse(&header).map(|spec| spec.resolve(size)) {
                prop_assert!(range.first <= range.last && range.last < size);
                prop_assert!(range.len() <= size);
            }
        }

        #[test]
        fn no_header_makes_the_parser_panic(header in any::<String>(), size in any::<u64>()) {
            let _ = RangeSpec::parse(&header).map(|spec| spec.resolve(size));
            let _ = copy_source_range(&header, size);
        }
    }
}
