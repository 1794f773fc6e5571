//! The policy of a form: what its fields may hold, how long the file may be, and until when.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html>

use super::Fields;
use crate::dates::parse_iso8601;
use crate::error::{ErrorCode, S3Error};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// Fields that no condition need name.
const EXEMPT: [&str; 3] = ["policy", "x-amz-signature", "file"];

/// A policy that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostPolicy {
    /// Seconds since 1970.
    expires_s: u64,
    conditions: Vec<Condition>,
    /// Bytes of the file.
    length: Option<(u64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    /// In lower case.
    field: String,
    value: String,
    starts_with: bool,
}

impl PostPolicy {
    /// Reads the field `policy`, in base64.
    ///
    /// # Errors
    /// `InvalidPolicyDocument` with the reason.
    pub fn parse(field: &str) -> Result<Self, S3Error> {
        let invalid = |why: &str| {
            let message = format!("Invalid Policy: {why}");
            S3Error::with(ErrorCode::InvalidPolicyDocument, message)
        };
        let compact: Vec<u8> = field.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        let json = BASE64_STANDARD
            .decode(compact)
            .map_err(|_| invalid("Invalid Base64."))?;
        let document: Value =
            serde_json::from_slice(&json).map_err(|_| invalid("Invalid JSON."))?;
        let fields = document
            .as_object()
            .ok_or_else(|| invalid("Invalid JSON."))?;
        if let Some(other) = fields
            .keys()
            .find(|name| !["expiration", "conditions"].contains(&name.as_str()))
        {
            return Err(invalid(&format!("Unexpected: '{other}'.")));
        }
        let expiration = fields.get("expiration").and_then(Value::as_str);
        let expires_s = expiration
            .ok_or_else(|| invalid("Policy missing expiration."))
            .and_then(|text| {
                parse_iso8601(text).ok_or_else(|| invalid("Invalid 'expiration' value"))
            })?;
        let written = fields.get("conditions").and_then(Value::as_array);
        let mut policy = Self {
            expires_s,
            conditions: Vec::new(),
            length: None,
        };
        for condition in written.ok_or_else(|| invalid("Policy missing conditions."))? {
            policy
                .add(condition)
                .ok_or_else(|| invalid(&format!("Invalid condition: {condition}")))?;
        }
        Ok(policy)
    }

    fn add(&mut self, written: &Value) -> Option<()> {
        match written {
            Value::Object(equal) => {
                for (field, value) in equal {
                    self.conditions.push(Condition {
                        field: field.to_ascii_lowercase(),
                        value: value.as_str()?.to_owned(),
                        starts_with: false,
                    });
                }
            }
            Value::Array(list) => {
                let [operator, first, second] = list.as_slice() else {
                    return None;
                };
                let operator = operator.as_str()?.to_ascii_lowercase();
                if operator == "content-length-range" {
                    let number = |value: &Value| match value {
                        Value::String(text) => text.parse().ok(),
                        other => other.as_u64(),
                    };
                    self.length = Some((number(first)?, number(second)?));
                    return Some(());
                }
                let starts_with = match operator.as_str() {
                    "eq" => false,
                    "starts-with" => true,
                    _ => return None,
                };
                self.conditions.push(Condition {
                    field: first.as_str()?.strip_prefix('$')?.to_ascii_lowercase(),
                    value: second.as_str()?.to_owned(),
                    starts_with,
                });
            }
            _ => return None,
        }
        Some(())
    }

    /// Whether a form may be: its fields, the bucket it goes to, and the key with the file's name in it.
    ///
    /// # Errors
    /// `AccessDenied` in AWS's words.
    pub fn check(
        &self,
        fields: &Fields,
        bucket: &str,
        key: &str,
        now_s: u64,
    ) -> Result<(), S3Error> {
        let denied = |why: String| {
            let message = format!("Invalid according to Policy: {why}");
            S3Error::with(ErrorCode::AccessDenied, message)
        };
        if now_s > self.expires_s {
            return Err(denied("Policy expired.".into()));
        }
        let value = |field: &str| match field {
            "bucket" => Some(bucket),
            "key" => Some(key),
            field => fields.get(field),
        };
        for condition in &self.conditions {
            let holds = value(&condition.field).is_some_and(|found| condition.holds(found));
            if !holds {
                let operator = if condition.starts_with {
                    "starts-with"
                } else {
                    "eq"
                };
                return Err(denied(format!(
                    "Policy Condition failed: [\"{operator}\", \"${}\", \"{}\"]",
                    condition.field, condition.value
                )));
            }
        }
        let named = |field: &str| {
            self.conditions
                .iter()
                .any(|condition| condition.field == field)
        };
        let mut extra = fields.iter().map(|(name, _)| name).filter(|name| {
            !EXEMPT.contains(name) && !name.starts_with("x-ignore-") && !named(name)
        });
        match extra.next() {
            Some(name) => Err(denied(format!("Extra input fields: {name}"))),
            None => Ok(()),
        }
    }

    /// How many bytes the file may have, at least and at most.
    pub fn length(&self) -> Option<(u64, u64)> {
        self.length
    }
}

impl Condition {
    fn holds(&self, found: &str) -> bool {
        match self.starts_with {
            false => found == self.value,
            // A form may name several types, and each must be allowed.
            true if self.field == "content-type" => found
                .split(',')
                .all(|one| one.trim_start().starts_with(&self.value)),
            true => found.starts_with(&self.value),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use proptest::prelude::*;

    fn policy(json: &str) -> Result<PostPolicy, S3Error> {
        PostPolicy::parse(&BASE64_STANDARD.encode(json))
    }

    #[test]
    fn a_form_holds_what_its_policy_says_and_nothing_else() {
        let policy = policy(
            r#"{"expiration":"2030-01-01T00:00:00.000Z","conditions":[{"bucket":"b"},["starts-with","$key","user/"],
            ["eq","$success_action_status","201"],["starts-with","$Content-Type","image/"],["content-length-range",1,"10"]]}"#,
        )
        .unwrap();
        assert_eq!(policy.length(), Some((1, 10)));
        let check = |pairs: &[(&str, &str)], bucket: &str, key: &str, now: u64| {
            let mut fields = Fields::default();
            for (name, value) in pairs {
                fields.add(name, (*value).into()).unwrap();
            }
            policy
                .check(&fields, bucket, key, now)
                .map_err(|error| error.message)
        };
        let form = [
            ("key", "x"),
            ("Success_Action_Status", "201"),
            ("content-type", "image/png, image/x"),
            ("x-ignore-a", ""),
            ("policy", ""),
        ];
        check(&form, "b", "user/x", 0).unwrap();
        let failed = |result: Result<(), String>, word: &str| {
            let message = result.unwrap_err();
            assert!(message.contains(word), "{message}");
        };
        failed(check(&form, "other", "user/x", 0), "bucket");
        failed(check(&form, "b", "other/x", 0), "$key");
        check(&form, "b", "user/x", 1_893_456_000).unwrap();
        failed(check(&form, "b", "user/x", 1_893_456_001), "expired");
        failed(check(&form[..2], "b", "user/x", 0), "$content-type");
        let more = [&form[..], &[("x-amz-meta-a", "b")]].concat();
        failed(
            check(&more, "b", "user/x", 0),
            "Extra input fields: x-amz-meta-a",
        );
        let types = [
            ("key", "x"),
            ("success_action_status", "201"),
            ("content-type", "image/png, text/html"),
        ];
        failed(check(&types, "b", "user/x", 0), "$content-type");
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        assert!(PostPolicy::parse("!").is_err());
        for json in [
            "",
            "[]",
            "{}",
            r#"{"expiration":"soon","conditions":[]}"#,
            r#"{"expiration":"2030-01-01T00:00:00Z"}"#,
            r#"{"expiration":"2030-01-01T00:00:00Z","conditions":[["is","$key","a"]]}"#,
            r#"{"expiration":"2030-01-01T00:00:00Z","conditions":[["eq","key","a"]]}"#,
            r#"{"expiration":"2030-01-01T00:00:00Z","conditions":[["content-length-range",-1,2]]}"#,
            r#"{"expiration":"2030-01-01T00:00:00Z","conditions":[1]}"#,
            r#"{"expiration":"2030-01-01T00:00:00Z","conditions":[],"more":1}"#,
        ] {
            assert_eq!(
                policy(json).unwrap_err().code,
                ErrorCode::InvalidPolicyDocument,
                "{json}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in any::<String>()) {
            let _ = (PostPolicy::parse(&text), policy(&text));
        }
    }
}
