//! The query of a request as a small bounded list, and percent-encoding both ways.

use crate::error::{ErrorCode, S3Error};
use std::borrow::Cow;

/// Most parameters that one request may carry. The largest real one, a presigned GET with all
/// overrides, has 15.
pub const PARAMETERS_MAX: usize = 64;

/// Decoded query parameters in the order of arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query<'a> {
    parameters: Vec<(Cow<'a, str>, Option<Cow<'a, str>>)>,
}

impl<'a> Query<'a> {
    /// Parses a raw query (without `?`). `a` and `a=` are told apart by [`Query::iter`] only. `+`
    /// is a space.
    ///
    /// # Errors
    /// `InvalidURI` for a broken percent escape, bytes that are not UTF-8, or more than
    /// [`PARAMETERS_MAX`] parameters.
    pub fn parse(raw: &'a str) -> Result<Query<'a>, S3Error> {
        let mut parameters = Vec::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            if parameters.len() == PARAMETERS_MAX {
                return Err(S3Error::with(
                    ErrorCode::InvalidURI,
                    "Too many query parameters",
                ));
            }
            let (name, value) = match pair.split_once('=') {
                Some((name, value)) => (name, Some(decode(value, true)?)),
                None => (pair, None),
            };
            parameters.push((decode(name, true)?, value));
        }
        Ok(Query { parameters })
    }

    /// The first value of `name`; the empty string when it came without one.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.parameters.iter().find(|(known, _)| known == name)?;
        Some(value.as_deref().unwrap_or(""))
    }

    /// Whether `name` is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.parameters.iter().any(|(known, _)| known == name)
    }

    /// All parameters in the order of arrival; `None` where there was no `=`.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.parameters
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_deref()))
    }

    /// A number from 0 to `max` in the parameter `name`; larger ones count as `max`, as AWS does
    /// for `max-keys`.
    ///
    /// # Errors
    /// `InvalidArgument` naming the parameter when it is not a number from 0 to 2147483647.
    pub fn number(&self, name: &str, default: u32, max: u32) -> Result<u32, S3Error> {
        let Some(text) = self.get(name).filter(|text| !text.is_empty()) else {
            return Ok(default.min(max));
        };
        match text.parse::<u32>() {
            Ok(number) if number <= i32::MAX.unsigned_abs() => Ok(number.min(max)),
            _ => {
                let message =
                    format!("Argument {name} must be an integer between 0 and 2147483647");
                Err(S3Error::argument(message, name, text))
            }
        }
    }
}

/// Undoes percent-encoding; `plus_is_space` is the rule in queries and in `x-amz-copy-source`.
///
/// # Errors
/// `InvalidURI` for a broken escape or when the result is not UTF-8.
pub fn decode(raw: &str, plus_is_space: bool) -> Result<Cow<'_, str>, S3Error> {
    if !raw
        .bytes()
        .any(|byte| byte == b'%' || (plus_is_space && byte == b'+'))
    {
        return Ok(Cow::Borrowed(raw));
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let high = bytes
                    .next()
                    .and_then(hex_digit)
                    .ok_or(ErrorCode::InvalidURI)?;
                let low = bytes
                    .next()
                    .and_then(hex_digit)
                    .ok_or(ErrorCode::InvalidURI)?;
                high << 4 | low
            }
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    match String::from_utf8(decoded) {
        Ok(text) => Ok(Cow::Owned(text)),
        Err(_) => Err(ErrorCode::InvalidURI.into()),
    }
}

/// Appends `text` percent-encoded as AWS's `UriEncode`: all but `A-Za-z0-9-._~`, and `/` where
/// `keep_slash`.
pub fn encode_into(out: &mut String, text: &str, keep_slash: bool) {
    let keep = |byte: u8| is_unreserved(byte) || (keep_slash && byte == b'/');
    let mut rest = text;
    // Runs that stay as they are go in one piece: most keys are one run.
    while let Some(at) = rest.bytes().position(|byte| !keep(byte)) {
        // Everything before `at` is ASCII, so `at` is the beginning of a character.
        let (plain, from) = rest.split_at(at);
        out.push_str(plain);
        let mut characters = from.chars();
        if let Some(character) = characters.next() {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                let [high, low] = hex_pair(byte);
                for digit in [b'%', high, low] {
                    out.push(char::from(digit));
                }
            }
        }
        rest = characters.as_str();
    }
    out.push_str(rest);
}

/// Percent-encodes for `encoding-type=url`. Space becomes `%20`, which clients that decode `+`
/// understand, too.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    encode_into(&mut out, text, true);
    out
}

/// The characters that `UriEncode` leaves alone (RFC 3986, unreserved).
pub(crate) fn is_unreserved(byte: u8) -> bool {
    UNRESERVED.get(usize::from(byte)).copied().unwrap_or(false)
}

/// For each byte whether it is unreserved.
const UNRESERVED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        #[allow(clippy::indexing_slicing, reason = "a byte is smaller than 256")]
        {
            table[byte as usize] =
                byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        }
        byte += 1;
    }
    table
};

/// The value of a hexadecimal digit in either case.
pub(crate) fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Two capital hexadecimal digits.
pub(crate) fn hex_pair(byte: u8) -> [u8; 2] {
    let digit = |value: u8| {
        if value < 10 {
            b'0' + value
        } else {
            b'A' + value - 10
        }
    };
    [digit(byte >> 4), digit(byte & 15)]
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
    fn parameters_are_decoded_and_told_apart() {
        let query = Query::parse("uploads&prefix=a%2Fb+c&max-keys=&x=1&x=2").unwrap();
        assert_eq!(query.get("prefix"), Some("a/b c"));
        assert_eq!(query.get("uploads"), Some(""));
        assert_eq!(query.get("x"), Some("1"));
        assert_eq!(query.iter().next(), Some(("uploads", None)));
        assert!(query.has("max-keys") && !query.has("key"));
    }

    #[test]
    fn broken_escapes_and_floods_are_refused() {
        for raw in ["a=%", "a=%2", "a=%zz", "%ff=1", "a=%C3%28"] {
            assert_eq!(
                Query::parse(raw).unwrap_err().code,
                ErrorCode::InvalidURI,
                "{raw}"
            );
        }
        assert!(Query::parse(&"a&".repeat(PARAMETERS_MAX)).is_ok());
        assert!(Query::parse(&"a&".repeat(PARAMETERS_MAX + 1)).is_err());
    }

    #[test]
    fn numbers_are_bounded_and_named_when_wrong() {
        let query = Query::parse("a=5&b=-1&c=99999999999&d=5000&e=").unwrap();
        assert_eq!(query.number("a", 1000, 1000).unwrap(), 5);
        assert_eq!(query.number("d", 1000, 1000).unwrap(), 1000);
        assert_eq!(query.number("e", 1000, 1000).unwrap(), 1000);
        assert_eq!(query.number("f", 7, 1000).unwrap(), 7);
        for name in ["b", "c"] {
            assert_eq!(
                query.number(name, 1, 9).unwrap_err().code,
                ErrorCode::InvalidArgument
            );
        }
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(text in any::<String>()) {
            let mut encoded = String::new();
            encode_into(&mut encoded, &text, false);
            prop_assert_eq!(decode(&encoded, true).unwrap(), text.as_str());
            let encoded = encode(&text);
            prop_assert_eq!(decode(&encoded, false).unwrap(), text.as_str());
        }

        #[test]
        fn no_query_makes_the_parser_panic(raw in any::<String>()) {
            let _ = Query::parse(&raw);
        }
    }
}
