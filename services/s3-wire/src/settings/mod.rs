//! The documents of a bucket's settings: each parsed strictly, written as AWS writes it, and, where it decides something, asked.
//!
//! What AWS's schema does not have is `MalformedXML`; what it has and this server does not do is `NotImplemented`.

mod access;
mod cors;
mod encryption;
mod lifecycle;
mod notification;
mod probes;
mod website;

pub use access::{AccessControlPolicy, OwnershipControls, PublicAccessBlock, canned_acl};
pub use cors::{CorsConfiguration, CorsRule, Preflight};
pub use encryption::BucketEncryption;
pub use lifecycle::{lifecycle_to_xml, parse_lifecycle};
pub use notification::{check_destinations, notification_to_xml, parse_notification};
pub use probes::{
    accelerate_none, logging_none, parse_logging, parse_request_payment, policy_status,
    request_payment,
};
pub use website::{
    Elsewhere, Protocol, REDIRECT_LOCATION, Redirect, ReplaceKey, RoutingRule, Visit,
    WebsiteConfiguration, check_redirect_location, path_of,
};

use crate::error::S3Error;
use crate::xml::pull::{Pull, malformed};

/// Most bytes of any of these documents (S3 allows as much for CORS and less for most others).
pub const SETTING_BYTES_MAX: usize = 64 << 10;

/// Remembers an element that may come once.
fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), S3Error> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(malformed()),
    }
}

/// A document `root` of 1 to `max` rules, each in an element `name` that `rule` reads.
fn rules<T>(
    body: &[u8],
    root: &str,
    name: &str,
    max: usize,
    rule: impl Fn(&mut Pull<'_>) -> Result<T, S3Error>,
) -> Result<Vec<T>, S3Error> {
    let mut pull = Pull::begin(body, root)?;
    let mut rules = Vec::new();
    pull.children(|pull, found| {
        if found != name || rules.len() >= max {
            return Err(malformed());
        }
        rules.push(rule(pull)?);
        Ok(())
    })?;
    pull.finish()?;
    if rules.is_empty() {
        return Err(malformed());
    }
    Ok(rules)
}

fn boolean(text: &str) -> Result<bool, S3Error> {
    match text.trim() {
        "true" | "TRUE" | "True" | "1" => Ok(true),
        "false" | "FALSE" | "False" | "0" => Ok(false),
        _ => Err(malformed()),
    }
}
