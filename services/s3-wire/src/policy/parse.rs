//! From JSON to a policy.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html>

use super::actions::{ACTIONS, On};
use super::conditions::{Condition, check_variable};
use super::pattern::{matches, variables};
use super::{ARN, Matcher, POLICY_BYTES_MAX, Policy, Principals, Statement, Whose, malformed};
use crate::error::S3Error;
use serde_json::{Map, Value};

impl Policy {
    /// Understands a document.
    ///
    /// # Errors
    /// `MalformedPolicy` with what is wrong, mostly in AWS's words.
    pub fn parse(document: &[u8], whose: Whose<'_>) -> Result<Self, S3Error> {
        if document.len() > POLICY_BYTES_MAX {
            let bytes = document.len();
            return Err(malformed(format!(
                "The policy has {bytes} bytes; at most {POLICY_BYTES_MAX} are allowed"
            )));
        }
        let value: Value = serde_json::from_slice(document)
            .map_err(|error| malformed(format!("This policy contains invalid Json: {error}")))?;
        let Value::Object(policy) = value else {
            return Err(malformed(
                "Policies must be valid JSON and the first byte must be '{'",
            ));
        };
        only(&policy, &["Version", "Id", "Statement"])?;
        match policy.get("Version").map(|version| version.as_str()) {
            None | Some(Some("2012-10-17" | "2008-10-17")) => {}
            Some(_) => return Err(malformed("The policy must contain a valid version string")),
        }
        if policy.get("Id").is_some_and(|id| !id.is_string()) {
            return Err(malformed("Id must be a string"));
        }
        let written = match policy.get("Statement") {
            Some(Value::Array(list)) if !list.is_empty() => list.as_slice(),
            Some(one @ Value::Object(_)) => std::slice::from_ref(one),
            _ => return Err(malformed("Missing required field Statement")),
        };
        let statements: Result<Vec<_>, _> =
            written.iter().map(|one| statement(one, whose)).collect();
        Ok(Self {
            statements: statements?,
        })
    }
}

fn statement(value: &Value, whose: Whose<'_>) -> Result<Statement, S3Error> {
    let fields = value
        .as_object()
        .ok_or_else(|| malformed("A statement must be an object"))?;
    only(
        fields,
        &[
            "Sid",
            "Effect",
            "Principal",
            "NotPrincipal",
            "Action",
            "NotAction",
            "Resource",
            "NotResource",
            "Condition",
        ],
    )?;
    if fields.get("Sid").is_some_and(|sid| !sid.is_string()) {
        return Err(malformed("Sid must be a string"));
    }
    let allow = match fields.get("Effect").and_then(Value::as_str) {
        Some("Allow") => true,
        Some("Deny") => false,
        Some(other) => return Err(malformed(format!("Invalid effect: {other}"))),
        None => return Err(malformed("Missing required field Effect")),
    };
    let actions = matcher(fields, "Action", "NotAction")?;
    let resources = matcher(fields, "Resource", "NotResource")?;
    check_actions(&actions)?;
    check_resources(&resources, whose)?;
    if !actions.negated && !resources.negated {
        check_pairs(&actions, &resources)?;
    }
    let conditions = match fields.get("Condition") {
        Some(element) => Condition::parse_all(element)?,
        None => Vec::new(),
    };
    Ok(Statement {
        allow,
        principals: principals(fields, allow, whose)?,
        actions,
        resources,
        conditions,
    })
}

fn only(fields: &Map<String, Value>, known: &[&str]) -> Result<(), S3Error> {
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(malformed(format!("Unknown field {name}"))),
        None => Ok(()),
    }
}

/// One of the two fields, as a list.
fn matcher(
    fields: &Map<String, Value>,
    plain: &'static str,
    negated: &'static str,
) -> Result<Matcher, S3Error> {
    let (name, value, negated) = match (fields.get(plain), fields.get(negated)) {
        (Some(value), None) => (plain, value, false),
        (None, Some(value)) => (negated, value, true),
        (None, None) => return Err(malformed(format!("Missing required field {plain}"))),
        (Some(_), Some(_)) => {
            let message = format!("{plain} and {negated} exclude each other");
            return Err(malformed(message));
        }
    };
    Ok(Matcher {
        patterns: texts(value, name)?,
        negated,
    })
}

/// A string or a list of strings, at least one.
fn texts(value: &Value, name: &str) -> Result<Vec<String>, S3Error> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let list: Option<Vec<String>> = match value {
        Value::Array(list) => list.iter().map(text).collect(),
        one => text(one).map(|one| vec![one]),
    };
    list.filter(|list| !list.is_empty())
        .ok_or_else(|| malformed(format!("{name} must be a string or a list of strings")))
}

/// The actions that a pattern means.
fn meant(pattern: &str) -> impl Iterator<Item = On> {
    let pattern = pattern.to_ascii_lowercase();
    ACTIONS
        .iter()
        .filter(move |(name, _)| matches(&pattern, &name.to_ascii_lowercase()))
        .map(|(_, on)| *on)
}

fn check_actions(actions: &Matcher) -> Result<(), S3Error> {
    for pattern in &actions.patterns {
        if meant(pattern).next().is_none() {
            return Err(malformed(format!("Policy has invalid action: {pattern}")));
        }
    }
    Ok(())
}

fn check_resources(resources: &Matcher, whose: Whose<'_>) -> Result<(), S3Error> {
    for pattern in &resources.patterns {
        let invalid = || malformed(format!("Policy has invalid resource: {pattern}"));
        for name in variables(pattern) {
            check_variable(name)?;
        }
        let within = match (pattern.strip_prefix(ARN), whose) {
            (None, Whose::Key) => pattern == "*",
            (None, Whose::Bucket(_)) => false,
            (Some(rest), Whose::Key) => !rest.is_empty(),
            (Some(rest), Whose::Bucket(bucket)) => {
                let name = rest.split_once('/').map_or(rest, |(name, _)| name);
                // `arn:aws:s3:::bucket*` is AWS's, too: it means the bucket and its objects.
                matches(name, bucket)
            }
        };
        if !within {
            return Err(invalid());
        }
    }
    Ok(())
}

/// An action that none of the resources can have is a mistake, which AWS points out.
fn check_pairs(actions: &Matcher, resources: &Matcher) -> Result<(), S3Error> {
    let (mut bucket, mut object, mut service) = (false, false, false);
    for pattern in &resources.patterns {
        match pattern.strip_prefix(ARN) {
            None => (bucket, object, service) = (true, true, true),
            Some(rest) => match rest.split_once('/') {
                Some(_) => object = true,
                None => {
                    bucket = true;
                    object |= rest.contains('*');
                    service |= rest == "*";
                }
            },
        }
    }
    for pattern in &actions.patterns {
        let applies = |on: On| match on {
            On::Service => service,
            On::Bucket => bucket,
            On::Object => object,
        };
        if !meant(pattern).any(applies) {
            return Err(malformed(
                "Action does not apply to any resource(s) in statement",
            ));
        }
    }
    Ok(())
}

fn principals(
    fields: &Map<String, Value>,
    allow: bool,
    whose: Whose<'_>,
) -> Result<Principals, S3Error> {
    let (value, negated) = match (fields.get("Principal"), fields.get("NotPrincipal"), whose) {
        (None, None, Whose::Key) => return Ok(Principals::Everybody),
        (_, _, Whose::Key) => {
            return Err(malformed(
                "A key's policy is the key's: it names no principal",
            ));
        }
        (Some(value), None, _) => (value, false),
        (None, Some(_), _) if allow => {
            return Err(malformed("Allow with NotPrincipal is not allowed"));
        }
        (None, Some(value), _) => (value, true),
        (None, None, _) => return Err(malformed("Missing required field Principal")),
        (Some(_), Some(_), _) => {
            return Err(malformed("Principal and NotPrincipal exclude each other"));
        }
    };
    let names = match value {
        Value::String(name) if name == "*" => vec!["*".to_owned()],
        Value::Object(kinds) => {
            only(kinds, &["AWS"])
                .map_err(|_| malformed("Invalid principal in policy: only AWS is known here"))?;
            let list = kinds.get("AWS");
            texts(list.unwrap_or(&Value::Null), "Principal")?
        }
        _ => return Err(malformed("Invalid principal in policy")),
    };
    for name in &names {
        let is_key =
            (3..=128).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric());
        if name != "*" && !is_key && user_of_arn(name).is_none() {
            return Err(malformed(format!(
                "Invalid principal in policy: {name} is neither *, an access key nor arn:aws:iam:::user/NAME"
            )));
        }
    }
    let everybody = names.iter().any(|name| name == "*");
    match (everybody, negated) {
        (true, false) => Ok(Principals::Everybody),
        (true, true) => Err(malformed("NotPrincipal * means nobody")),
        (false, false) => Ok(Principals::Named(names)),
        (false, true) => Ok(Principals::AllBut(names)),
    }
}

/// The key's name in `arn:aws:iam::ACCOUNT:user/NAME`. There is one account, so it may be left out and its number is not looked at.
pub(super) fn user_of_arn(arn: &str) -> Option<&str> {
    let rest = arn.strip_prefix("arn:aws:iam::")?;
    let (account, name) = rest.split_once(":user/")?;
    let numeric = account.bytes().all(|byte| byte.is_ascii_digit());
    (numeric && !name.is_empty()).then_some(name)
}
