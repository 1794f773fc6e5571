//! The `Condition` element of a statement: operators, keys, and when they hold.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html>

use super::pattern::{Pattern, variables};
use super::{Context, malformed};
use crate::dates::parse_iso8601;
use crate::error::S3Error;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use std::net::IpAddr;

/// The keys that a condition may name, in lower case; those that end in `/` have a tag's key behind them.
const KEYS: &[&str] = &[
    "aws:currenttime",
    "aws:epochtime",
    "aws:principalarn",
    "aws:principaltype",
    "aws:referer",
    "aws:requestedregion",
    "aws:securetransport",
    "aws:sourceip",
    "aws:useragent",
    "aws:userid",
    "aws:username",
    "s3:authtype",
    "s3:delimiter",
    "s3:existingobjecttag/",
    "s3:if-match",
    "s3:if-none-match",
    "s3:locationconstraint",
    "s3:max-keys",
    "s3:object-lock-legal-hold",
    "s3:object-lock-mode",
    "s3:object-lock-retain-until-date",
    "s3:prefix",
    "s3:requestobjecttag/",
    "s3:requestobjecttagkeys",
    "s3:signatureage",
    "s3:signatureversion",
    "s3:versionid",
    "s3:x-amz-acl",
    "s3:x-amz-content-sha256",
    "s3:x-amz-copy-source",
    "s3:x-amz-grant-full-control",
    "s3:x-amz-grant-read",
    "s3:x-amz-grant-read-acp",
    "s3:x-amz-grant-write",
    "s3:x-amz-grant-write-acp",
    "s3:x-amz-metadata-directive",
    "s3:x-amz-object-ownership",
    "s3:x-amz-server-side-encryption",
    "s3:x-amz-server-side-encryption-customer-algorithm",
    "s3:x-amz-storage-class",
    "s3:x-amz-website-redirect-location",
];

/// The start of the keys that need the tags of the object.
pub(super) const EXISTING_TAG: &str = "s3:existingobjecttag/";

/// One line of a `Condition`: an operator, a key, and the values that it is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    test: Test,
    /// The condition holds where the test does not.
    negated: bool,
    /// Holds where the request has no such key.
    if_exists: bool,
    set: Set,
    /// In lower case but for a tag's key.
    pub(super) key: String,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    /// The key has one value.
    One,
    ForAll,
    ForAny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Equals,
    EqualsIgnoreCase,
    Like,
    Number(Comparison),
    Date(Comparison),
    Bool,
    Binary,
    Ip,
    Null,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    fn holds<T: PartialOrd>(self, left: T, right: T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

/// The test that an operator's name means, and whether it is negated.
fn operator(name: &str) -> Option<(Test, bool)> {
    use Comparison as C;
    Some(match name {
        "StringEquals" => (Test::Equals, false),
        "StringNotEquals" => (Test::Equals, true),
        "StringEqualsIgnoreCase" => (Test::EqualsIgnoreCase, false),
        "StringNotEqualsIgnoreCase" => (Test::EqualsIgnoreCase, true),
        // ARNs may hold wildcards in both operators.
        "StringLike" | "ArnLike" | "ArnEquals" => (Test::Like, false),
        "StringNotLike" | "ArnNotLike" | "ArnNotEquals" => (Test::Like, true),
        "NumericEquals" => (Test::Number(C::Equal), false),
        "NumericNotEquals" => (Test::Number(C::Equal), true),
        "NumericLessThan" => (Test::Number(C::Less), false),
        "NumericLessThanEquals" => (Test::Number(C::LessOrEqual), false),
        "NumericGreaterThan" => (Test::Number(C::Greater), false),
        "NumericGreaterThanEquals" => (Test::Number(C::GreaterOrEqual), false),
        "DateEquals" => (Test::Date(C::Equal), false),
        "DateNotEquals" => (Test::Date(C::Equal), true),
        "DateLessThan" => (Test::Date(C::Less), false),
        "DateLessThanEquals" => (Test::Date(C::LessOrEqual), false),
        "DateGreaterThan" => (Test::Date(C::Greater), false),
        "DateGreaterThanEquals" => (Test::Date(C::GreaterOrEqual), false),
        "Bool" => (Test::Bool, false),
        "BinaryEquals" => (Test::Binary, false),
        "IpAddress" => (Test::Ip, false),
        "NotIpAddress" => (Test::Ip, true),
        "Null" => (Test::Null, false),
        _ => return None,
    })
}

impl Condition {
    /// Reads a whole `Condition` element.
    pub(super) fn parse_all(element: &Value) -> Result<Vec<Self>, S3Error> {
        let operators = element
            .as_object()
            .ok_or_else(|| malformed("Condition must be an object"))?;
        let mut conditions = Vec::new();
        for (operator, keys) in operators {
            let keys = keys
                .as_object()
                .ok_or_else(|| malformed("A condition's operator must hold an object"))?;
            for (key, values) in keys {
                conditions.push(Self::parse(operator, key, values)?);
            }
        }
        Ok(conditions)
    }

    fn parse(written: &str, key: &str, values: &Value) -> Result<Self, S3Error> {
        let (set, name) = match written.split_once(':') {
            None => (Set::One, written),
            Some(("ForAllValues", name)) => (Set::ForAll, name),
            Some(("ForAnyValue", name)) => (Set::ForAny, name),
            Some(_) => return Err(wrong_operator(written)),
        };
        let (name, if_exists) = match name.strip_suffix("IfExists") {
            Some("Null") => return Err(wrong_operator(written)),
            Some(name) => (name, true),
            None => (name, false),
        };
        let (test, negated) = operator(name).ok_or_else(|| wrong_operator(written))?;
        let condition = Self {
            test,
            negated,
            if_exists,
            set,
            key: known_key(key)?,
            values: strings(values)?,
        };
        condition.check()?;
        Ok(condition)
    }

    /// Values that the test could never understand are refused now.
    fn check(&self) -> Result<(), S3Error> {
        for value in &self.values {
            let names = variables(value);
            for name in &names {
                check_variable(name)?;
            }
            let fine = match self.test {
                Test::Number(_) => number(value).is_some(),
                Test::Date(_) => date(value).is_some(),
                Test::Bool | Test::Null => boolean(value).is_some(),
                Test::Binary => BASE64_STANDARD.decode(value).is_ok(),
                Test::Ip => Network::parse(value).is_some(),
                Test::Equals | Test::EqualsIgnoreCase | Test::Like => true,
            };
            if !fine && names.is_empty() {
                return Err(malformed(format!("Invalid value in a condition: {value}")));
            }
        }
        Ok(())
    }

    /// Whether it holds for a request.
    pub(super) fn holds(&self, context: &dyn Context) -> bool {
        let found = context.values(&self.key);
        if self.test == Test::Null {
            let absent = found.is_empty();
            return self
                .values
                .iter()
                .any(|value| boolean(value) == Some(absent));
        }
        if found.is_empty() {
            return match self.set {
                Set::ForAll => true,
                Set::ForAny => self.if_exists,
                Set::One => self.if_exists || self.negated,
            };
        }
        let one = |value: &String| {
            let any = self
                .values
                .iter()
                .any(|wanted| self.compare(wanted, value, context));
            any != self.negated
        };
        match self.set {
            Set::One | Set::ForAll => found.iter().all(one),
            Set::ForAny => found.iter().any(one),
        }
    }

    fn compare(&self, wanted: &str, found: &str, context: &dyn Context) -> bool {
        let replaced = || with_variables(wanted, context);
        let test = || match self.test {
            Test::Equals => Some(replaced()? == found),
            Test::EqualsIgnoreCase => Some(replaced()?.to_lowercase() == found.to_lowercase()),
            Test::Like => {
                let pattern = Pattern::with_variables(wanted, |name| single(context, name))?;
                Some(pattern.matches(found))
            }
            Test::Number(comparison) => {
                Some(comparison.holds(number(found)?, number(&replaced()?)?))
            }
            Test::Date(comparison) => Some(comparison.holds(date(found)?, date(&replaced()?)?)),
            Test::Bool => Some(boolean(&replaced()?)? == boolean(found)?),
            Test::Binary => Some(
                BASE64_STANDARD.decode(replaced()?).ok()? == BASE64_STANDARD.decode(found).ok()?,
            ),
            Test::Ip => Some(Network::parse(&replaced()?)?.has(found.parse().ok()?)),
            Test::Null => None,
        };
        test().unwrap_or(false)
    }

    /// Whether it narrows a statement for everybody to known callers, as AWS judges it when it looks whether a policy is public: the
    /// caller's address in networks of which none is wide, or the caller's fixed name.
    pub(super) fn is_restricting(&self) -> bool {
        if self.negated || self.if_exists || self.set == Set::ForAll {
            return false;
        }
        let fixed = |value: &String| variables(value).is_empty() && !value.contains(['*', '?']);
        match (self.key.as_str(), self.test) {
            ("aws:sourceip", Test::Ip) => self
                .values
                .iter()
                .all(|value| Network::parse(value).is_some_and(|network| !network.is_wide())),
            (
                "aws:principalarn" | "aws:userid" | "aws:username",
                Test::Equals | Test::EqualsIgnoreCase | Test::Like,
            ) => self.values.iter().all(fixed),
            _ => false,
        }
    }
}

/// A key as it is known, or why not.
fn known_key(key: &str) -> Result<String, S3Error> {
    let lower = key.to_ascii_lowercase();
    let known = match lower.split_once('/') {
        None => KEYS.contains(&lower.as_str()).then(|| lower.clone()),
        Some((start, tag)) => {
            let start = format!("{start}/");
            let tag = key.get(key.len() - tag.len()..).unwrap_or_default();
            (KEYS.contains(&start.as_str()) && !tag.is_empty()).then(|| format!("{start}{tag}"))
        }
    };
    known.ok_or_else(|| malformed(format!("Policy has an invalid condition key: {key}")))
}

/// Whether a variable names something that a request can have.
pub(super) fn check_variable(name: &str) -> Result<(), S3Error> {
    match name {
        "*" | "?" | "$" => Ok(()),
        name => known_key(name).map(drop),
    }
}

/// The one value of a key.
pub(super) fn single(context: &dyn Context, name: &str) -> Option<String> {
    let mut values = context.values(&known_key(name).ok()?);
    if values.len() == 1 {
        values.pop()
    } else {
        None
    }
}

/// Text with the values of its variables.
fn with_variables(text: &str, context: &dyn Context) -> Option<String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, behind)) = after.split_once('}') else {
            break;
        };
        out.push_str(before);
        match name {
            "*" | "?" | "$" => out.push_str(name),
            name => out.push_str(&single(context, name)?),
        }
        rest = behind;
    }
    out.push_str(rest);
    Some(out)
}

fn wrong_operator(name: &str) -> S3Error {
    malformed(format!("Invalid Condition type : {name}"))
}

/// One string (or number or truth value) or a list of them.
fn strings(value: &Value) -> Result<Vec<String>, S3Error> {
    let one = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        _ => Err(malformed("A condition's values must be strings")),
    };
    match value {
        Value::Array(list) => list.iter().map(one).collect(),
        single => Ok(vec![one(single)?]),
    }
}

fn number(text: &str) -> Option<f64> {
    text.trim()
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
}

/// Seconds since 1970, from ISO 8601 (also a date alone) or a count of seconds.
fn date(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    parse_iso8601(text).or_else(|| parse_iso8601(&format!("{text}T00:00:00Z")))
}

fn boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// A range of addresses, as CIDR writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    /// IPv4 in its mapped form.
    address: u128,
    /// Of 128 bits.
    prefix: u32,
    v4: bool,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let (v4, bits) = (address.is_ipv4(), if address.is_ipv4() { 32 } else { 128 });
        let prefix = prefix.unwrap_or(bits);
        if prefix > bits {
            return None;
        }
        Some(Self {
            address: mapped(address),
            prefix: prefix + 128 - bits,
            v4,
        })
    }

    fn has(self, address: IpAddr) -> bool {
        let mask = match self.prefix {
            0 => 0,
            prefix => u128::MAX << (128 - prefix),
        };
        mapped(address) & mask == self.address & mask
    }

    /// Below /8 of IPv4 or /32 of IPv6, which AWS takes for everybody.
    fn is_wide(self) -> bool {
        self.prefix < if self.v4 { 96 + 8 } else { 32 }
    }
}

fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}
