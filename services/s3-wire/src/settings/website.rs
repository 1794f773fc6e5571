//! Website configuration: how a bucket answers browsers, and where its rules send them.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketWebsite.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/how-to-page-redirect.html>

use super::once;
use crate::error::{ErrorCode, S3Error};
use crate::query::encode_into;
use crate::xml::Document;
use crate::xml::pull::{Pull, malformed};

/// Most routing rules of a bucket (S3).
const RULES_MAX: usize = 50;
/// The header by which an object is a redirect to elsewhere.
pub const REDIRECT_LOCATION: &str = "x-amz-website-redirect-location";
/// Longest value of [`REDIRECT_LOCATION`], in bytes (S3: 2 KB).
const LOCATION_BYTES_MAX: usize = 2048;
/// The status of a redirect whose rule names none.
const MOVED: u16 = 301;

/// The `WebsiteConfiguration` document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebsiteConfiguration {
    /// Every request goes elsewhere.
    RedirectAll {
        /// To this host.
        host: String,
        /// By this protocol; `None`: the request's own.
        protocol: Option<Protocol>,
    },
    /// Pages.
    Pages {
        /// What stands behind a key that ends with `/`, or behind none.
        index: String,
        /// The key of the page for errors of the 4xx class.
        error: Option<String>,
        /// At most [`RULES_MAX`]; the first that fits decides.
        rules: Vec<RoutingRule>,
    },
}

/// How a redirect's address begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `http`.
    Http,
    /// `https`.
    Https,
}

/// Sends some requests elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutingRule {
    /// Keys that start so.
    pub prefix: Option<String>,
    /// Requests that would end with this status.
    pub error_code: Option<u16>,
    /// Where.
    pub redirect: Redirect,
}

/// Where a rule sends to; what is not said stays as in the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// By this protocol.
    pub protocol: Option<Protocol>,
    /// To this host.
    pub host: Option<String>,
    /// What becomes of the key.
    pub key: ReplaceKey,
    /// 301 to 399, but 304; [`MOVED`] where it is not said.
    pub code: Option<u16>,
}

/// What becomes of a redirected request's key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ReplaceKey {
    /// It stays.
    #[default]
    Keep,
    /// This takes the place of the prefix of the rule's condition.
    Prefix(String),
    /// This takes its place.
    Whole(String),
}

/// A request as redirects see it.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// `Host`, with its port.
    pub host: &'a str,
    /// How the browser came.
    pub protocol: Protocol,
    /// Decoded, without the slash in front.
    pub key: &'a str,
}

/// An answer that sends elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// The status.
    pub code: u16,
    /// `Location`: ASCII, no control characters.
    pub location: String,
}

impl Protocol {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn named(name: &str) -> Result<Self, S3Error> {
        match name.trim() {
            "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            _ => Err(invalid(
                "Invalid protocol, protocol can be http or https. If not defined the protocol will be selected automatically.",
            )),
        }
    }
}

impl WebsiteConfiguration {
    /// Parses a body.
    ///
    /// # Errors
    /// `MalformedXML`; `InvalidArgument` and `InvalidRequest` in AWS's words for what does not go together.
    pub fn parse(body: &[u8]) -> Result<Self, S3Error> {
        let (mut all, mut index, mut error, mut rules) = (None, None, None, None);
        let mut pull = Pull::begin(body, "WebsiteConfiguration")?;
        pull.children(|pull, name| match name {
            "RedirectAllRequestsTo" => once(&mut all, redirect_all(pull)?),
            "IndexDocument" => once(&mut index, only_child(pull, "Suffix")?),
            "ErrorDocument" => once(&mut error, only_child(pull, "Key")?),
            "RoutingRules" => once(&mut rules, routing_rules(pull)?),
            _ => Err(malformed()),
        })?;
        pull.finish()?;
        if let Some((host, protocol)) = all {
            if index.is_some() || error.is_some() || rules.is_some() {
                return Err(argument(
                    "RedirectAllRequestsTo cannot be provided in conjunction with other Routing Rules.",
                    "RedirectAllRequestsTo",
                ));
            }
            return Ok(Self::RedirectAll { host, protocol });
        }
        let index = index.ok_or_else(|| {
            let message = "A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty";
            argument(message, "IndexDocument")
        })?;
        if index.is_empty() || index.contains('/') {
            let message = "The IndexDocument Suffix is not well formed";
            return Err(argument(message, "IndexDocument"));
        }
        if error.as_deref() == Some("") {
            let message = "The ErrorDocument Key is not well formed";
            return Err(argument(message, "ErrorDocument"));
        }
        Ok(Self::Pages {
            index,
            error,
            rules: rules.unwrap_or_default(),
        })
    }

    /// The document.
    pub fn to_xml(&self) -> String {
        let mut document = Document::new("WebsiteConfiguration");
        match self {
            Self::RedirectAll { host, protocol } => {
                document.open("RedirectAllRequestsTo");
                document.text("HostName", host);
                document.optional("Protocol", protocol.map(Protocol::as_str));
                document.close();
            }
            Self::Pages {
                index,
                error,
                rules,
            } => {
                document.open("IndexDocument");
                document.text("Suffix", index);
                document.close();
                if let Some(key) = error {
                    document.open("ErrorDocument");
                    document.text("Key", key);
                    document.close();
                }
                if !rules.is_empty() {
                    document.open("RoutingRules");
                    rules.iter().for_each(|rule| rule.write(&mut document));
                    document.close();
                }
            }
        }
        document.finish()
    }

    /// Where a request goes before anything is looked for.
    pub fn before(&self, visit: Visit<'_>) -> Option<Elsewhere> {
        match self {
            Self::RedirectAll { host, protocol } => Some(Elsewhere {
                code: MOVED,
                location: address(protocol.unwrap_or(visit.protocol), host, visit.key),
            }),
            Self::Pages { rules, .. } => rules
                .iter()
                .find(|rule| rule.error_code.is_none() && rule.has_prefix(visit.key))
                .map(|rule| rule.elsewhere(visit)),
        }
    }

    /// Where a request goes that would end with an error of this status.
    pub fn after(&self, visit: Visit<'_>, status: u16) -> Option<Elsewhere> {
        let Self::Pages { rules, .. } = self else {
            return None;
        };
        rules
            .iter()
            .find(|rule| rule.error_code == Some(status) && rule.has_prefix(visit.key))
            .map(|rule| rule.elsewhere(visit))
    }
}

impl RoutingRule {
    fn has_prefix(&self, key: &str) -> bool {
        self.prefix
            .as_deref()
            .is_none_or(|prefix| key.starts_with(prefix))
    }

    fn elsewhere(&self, visit: Visit<'_>) -> Elsewhere {
        let prefix = self.prefix.as_deref().unwrap_or_default();
        let key = match &self.redirect.key {
            ReplaceKey::Keep => visit.key.to_owned(),
            ReplaceKey::Whole(key) => key.clone(),
            ReplaceKey::Prefix(new) => {
                [new, visit.key.strip_prefix(prefix).unwrap_or(visit.key)].concat()
            }
        };
        let host = self.redirect.host.as_deref().unwrap_or(visit.host);
        Elsewhere {
            code: self.redirect.code.unwrap_or(MOVED),
            location: address(self.redirect.protocol.unwrap_or(visit.protocol), host, &key),
        }
    }

    fn write(&self, document: &mut Document) {
        document.open("RoutingRule");
        if self.prefix.is_some() || self.error_code.is_some() {
            document.open("Condition");
            document.optional("KeyPrefixEquals", self.prefix.as_deref());
            let code = self.error_code.map(|code| code.to_string());
            document.optional("HttpErrorCodeReturnedEquals", code.as_deref());
            document.close();
        }
        let Redirect {
            protocol,
            host,
            key,
            code,
        } = &self.redirect;
        document.open("Redirect");
        document.optional("Protocol", protocol.map(Protocol::as_str));
        document.optional("HostName", host.as_deref());
        match key {
            ReplaceKey::Keep => {}
            ReplaceKey::Prefix(prefix) => document.text("ReplaceKeyPrefixWith", prefix),
            ReplaceKey::Whole(key) => document.text("ReplaceKeyWith", key),
        }
        let code = code.map(|code| code.to_string());
        document.optional("HttpRedirectCode", code.as_deref());
        document.close();
        document.close();
    }
}

/// The path of a key as an address has it: everything escaped that is not plain.
pub fn path_of(key: &str) -> String {
    let mut path = String::from("/");
    encode_into(&mut path, key, true);
    path
}

/// Checks a value of [`REDIRECT_LOCATION`].
///
/// # Errors
/// `InvalidRedirectLocation` for what is neither a path nor an address, or is too long.
pub fn check_redirect_location(value: &str) -> Result<(), S3Error> {
    let begins = ["/", "http://", "https://"]
        .iter()
        .any(|start| value.starts_with(start));
    if !begins {
        let message =
            "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.";
        return Err(S3Error::with(ErrorCode::InvalidRedirectLocation, message));
    }
    if value.len() > LOCATION_BYTES_MAX {
        let message = "The length of website redirect location cannot exceed 2,048 characters.";
        return Err(S3Error::with(ErrorCode::InvalidRedirectLocation, message));
    }
    Ok(())
}

fn address(protocol: Protocol, host: &str, key: &str) -> String {
    format!("{}://{host}{}", protocol.as_str(), path_of(key))
}

fn invalid(message: impl Into<String>) -> S3Error {
    S3Error::with(ErrorCode::InvalidRequest, message)
}

fn argument(message: &str, name: &str) -> S3Error {
    S3Error::argument(message, name, "null")
}

/// A host as it may stand in an address: no byte that could end it.
fn host(text: String) -> Result<String, S3Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    match !text.is_empty() && text.len() <= 255 && text.bytes().all(plain) {
        true => Ok(text),
        false => Err(argument("The HostName is not well formed", "HostName")),
    }
}

fn redirect_all(pull: &mut Pull<'_>) -> Result<(String, Option<Protocol>), S3Error> {
    let (mut name, mut protocol) = (None, None);
    pull.children(|pull, child| match child {
        "HostName" => once(&mut name, host(pull.text()?)?),
        "Protocol" => once(&mut protocol, Protocol::named(&pull.text()?)?),
        _ => Err(malformed()),
    })?;
    Ok((name.ok_or_else(malformed)?, protocol))
}

fn only_child(pull: &mut Pull<'_>, wanted: &str) -> Result<String, S3Error> {
    let mut text = None;
    pull.children(|pull, child| match child == wanted {
        true => once(&mut text, pull.text()?),
        false => Err(malformed()),
    })?;
    text.ok_or_else(malformed)
}

fn routing_rules(pull: &mut Pull<'_>) -> Result<Vec<RoutingRule>, S3Error> {
    let mut rules = Vec::new();
    pull.children(|pull, child| {
        if child != "RoutingRule" {
            return Err(malformed());
        }
        if rules.len() >= RULES_MAX {
            return Err(invalid(format!(
                "The number of routing rules in a website configuration is limited to {RULES_MAX}."
            )));
        }
        rules.push(routing_rule(pull)?);
        Ok(())
    })?;
    Ok(rules)
}

fn routing_rule(pull: &mut Pull<'_>) -> Result<RoutingRule, S3Error> {
    let (mut condition, mut redirect) = (None, None);
    pull.children(|pull, child| match child {
        "Condition" => once(&mut condition, read_condition(pull)?),
        "Redirect" => once(&mut redirect, read_redirect(pull)?),
        _ => Err(malformed()),
    })?;
    let (prefix, error_code) = condition.unwrap_or_default();
    Ok(RoutingRule {
        prefix,
        error_code,
        redirect: redirect.ok_or_else(malformed)?,
    })
}

fn read_condition(pull: &mut Pull<'_>) -> Result<(Option<String>, Option<u16>), S3Error> {
    let (mut prefix, mut code) = (None, None);
    pull.children(|pull, child| match child {
        "KeyPrefixEquals" => once(&mut prefix, pull.text()?),
        "HttpErrorCodeReturnedEquals" => {
            let text = pull.text()?;
            let number = text.trim().parse().ok();
            let number = number.filter(|code| (400..600).contains(code));
            let number = number.ok_or_else(|| {
                invalid(format!(
                    "The provided HTTP error code ({text}) is not valid. Valid codes are 4XX or 5XX."
                ))
            })?;
            once(&mut code, number)
        }
        _ => Err(malformed()),
    })?;
    match (&prefix, code) {
        (None, None) => Err(invalid(
            "Condition cannot be empty. To redirect all requests without a condition, the condition element shouldn't be present.",
        )),
        _ => Ok((prefix, code)),
    }
}

fn read_redirect(pull: &mut Pull<'_>) -> Result<Redirect, S3Error> {
    let (mut protocol, mut name, mut code) = (None, None, None);
    let (mut prefix, mut whole) = (None, None);
    pull.children(|pull, child| match child {
        "Protocol" => once(&mut protocol, Protocol::named(&pull.text()?)?),
        "HostName" => once(&mut name, host(pull.text()?)?),
        "ReplaceKeyPrefixWith" => once(&mut prefix, pull.text()?),
        "ReplaceKeyWith" => once(&mut whole, pull.text()?),
        "HttpRedirectCode" => {
            let text = pull.text()?;
            let number = text.trim().parse().ok();
            // 304 would tell a browser to show what it does not have.
            let number = number.filter(|code| (301..400).contains(code) && *code != 304);
            let number = number.ok_or_else(|| {
                invalid(format!(
                    "The provided HTTP redirect code ({text}) is not valid. Valid codes are 3XX except 300."
                ))
            })?;
            once(&mut code, number)
        }
        _ => Err(malformed()),
    })?;
    let key = match (prefix, whole) {
        (None, None) => ReplaceKey::Keep,
        (Some(prefix), None) => ReplaceKey::Prefix(prefix),
        (None, Some(key)) => ReplaceKey::Whole(key),
        (Some(_), Some(_)) => {
            return Err(invalid(
                "You can only define ReplaceKeyPrefix or ReplaceKey but not both.",
            ));
        }
    };
    if protocol.is_none() && name.is_none() && code.is_none() && key == ReplaceKey::Keep {
        return Err(malformed());
    }
    Ok(Redirect {
        protocol,
        host: name,
        key,
        code,
    })
}

#[cfg(test)]
mod tests;
