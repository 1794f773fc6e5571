//! Policies: who may do what with which objects, as JSON documents of buckets and of access keys.
//!
//! Pure: a document becomes a [`Policy`], and a [`Question`] becomes a [`Verdict`]. What a verdict means beside the rights of a key is
//! decided where requests are admitted. What this reader does not understand it refuses when the policy is put, so that nothing in
//! a stored policy is without effect.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>

mod actions;
mod conditions;
mod parse;
mod pattern;
#[cfg(test)]
mod tests;

pub use actions::action;
pub use pattern::matches;

use crate::error::{ErrorCode, S3Error};
use conditions::{Condition, EXISTING_TAG};
use pattern::Pattern;

/// The most bytes of a document (S3).
pub const POLICY_BYTES_MAX: usize = 20 * 1024;

/// What every resource starts with.
const ARN: &str = "arn:aws:s3:::";

/// Whose a policy is, which decides what may stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose<'a> {
    /// Of the bucket of this name: every statement names principals, and resources in this bucket.
    Bucket(&'a str),
    /// Of an access key: no statement names principals.
    Key,
}

/// A policy that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Statement {
    allow: bool,
    principals: Principals,
    actions: Matcher,
    resources: Matcher,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Principals {
    Everybody,
    /// As written: access keys, or the ARNs of keys' names.
    Named(Vec<String>),
    /// `NotPrincipal`.
    AllBut(Vec<String>),
}

/// `Action` and `Resource`, or `NotAction` and `NotResource`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Matcher {
    patterns: Vec<String>,
    negated: bool,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal<'a> {
    /// As in a signature.
    pub access_key: &'a str,
    /// The operator's name for it.
    pub name: &'a str,
}

/// What a request has beside who, what and where.
pub trait Context {
    /// The values of a condition's key, which is in lower case but for a tag's key; empty if the request has none.
    fn values(&self, key: &str) -> Vec<String>;
}

/// May this be done?
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// Who asks; `None` for somebody without a key.
    pub principal: Option<Principal<'a>>,
    /// As AWS spells it: `s3:GetObject`.
    pub action: &'a str,
    /// Bucket and key; an empty bucket is the whole service.
    pub resource: (&'a str, Option<&'a str>),
    /// For conditions.
    pub context: &'a dyn Context,
}

/// What one policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A statement forbids it, whatever else may allow it.
    Deny,
    /// A statement allows it.
    Allow,
    /// Nothing.
    Silent,
}

impl Policy {
    /// What stands in for a stored policy that cannot be understood (any more): everything is forbidden.
    pub fn deny_all() -> Self {
        let everything = || Matcher {
            patterns: vec!["*".into()],
            negated: false,
        };
        Self {
            statements: vec![Statement {
                allow: false,
                principals: Principals::Everybody,
                actions: everything(),
                resources: everything(),
                conditions: Vec::new(),
            }],
        }
    }

    /// The policy's answer. A statement that forbids wins over those that allow.
    pub fn judge(&self, question: &Question<'_>) -> Verdict {
        let mut verdict = Verdict::Silent;
        for statement in &self.statements {
            if verdict == Verdict::Allow && statement.allow {
                continue;
            }
            if statement.applies(question) {
                match statement.allow {
                    true => verdict = Verdict::Allow,
                    false => return Verdict::Deny,
                }
            }
        }
        verdict
    }

    /// Whether it opens something to everybody, by AWS's meaning of public.
    pub fn is_public(&self) -> bool {
        self.statements.iter().any(|statement| {
            statement.allow
                && !matches!(statement.principals, Principals::Named(_))
                && !statement.conditions.iter().any(Condition::is_restricting)
        })
    }

    /// Whether an object's tags must be known to judge.
    pub fn asks_for_tags(&self) -> bool {
        let mut conditions = self.statements.iter().flat_map(|one| &one.conditions);
        conditions.any(|condition| condition.key.starts_with(EXISTING_TAG))
    }
}

impl Statement {
    fn applies(&self, question: &Question<'_>) -> bool {
        self.principals.include(question.principal)
            && self.acts(question.action)
            && self.is_about(question)
            && self
                .conditions
                .iter()
                .all(|condition| condition.holds(question.context))
    }

    fn acts(&self, action: &str) -> bool {
        let action = action.to_ascii_lowercase();
        let mut patterns = self.actions.patterns.iter();
        let found = patterns.any(|pattern| matches(&pattern.to_ascii_lowercase(), &action));
        found != self.actions.negated
    }

    fn is_about(&self, question: &Question<'_>) -> bool {
        let arn = match question.resource {
            ("", _) => "*".to_owned(),
            (bucket, None) => format!("{ARN}{bucket}"),
            (bucket, Some(key)) => format!("{ARN}{bucket}/{key}"),
        };
        let mut patterns = self.resources.patterns.iter();
        let found = patterns.any(|pattern| {
            let variable = |name: &str| conditions::single(question.context, name);
            Pattern::with_variables(pattern, variable).is_some_and(|pattern| pattern.matches(&arn))
        });
        found != self.resources.negated
    }
}

impl Principals {
    fn include(&self, asking: Option<Principal<'_>>) -> bool {
        match self {
            Self::Everybody => true,
            Self::Named(names) => asking.is_some_and(|one| names.iter().any(|n| is(n, one))),
            Self::AllBut(names) => asking.is_none_or(|one| !names.iter().any(|n| is(n, one))),
        }
    }
}

/// Whether a principal as written means who asks.
fn is(written: &str, asking: Principal<'_>) -> bool {
    match parse::user_of_arn(written) {
        Some(name) => name == asking.name,
        None => written == asking.access_key,
    }
}

/// The one error of this reader.
fn malformed(why: impl Into<String>) -> S3Error {
    S3Error::with(ErrorCode::MalformedPolicy, why)
}
