//! `NotificationConfiguration`: who is told of which changes, between S3's XML and the rules that metadata acts on.
//!
//! A destination is the ARN of a webhook that the operator has registered: `arn:trousseau:sqs::NAME:webhook`. `sns` and `lambda` stand in the
//! place of `sqs` where the element is about a topic or a function; all three mean the same, and are shown as they were written.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketNotificationConfiguration.html>

use super::once;
use crate::error::{ErrorCode, S3Error};
use crate::xml::Document;
use crate::xml::pull::{Pull, malformed};
use protocol::metadata::{
    Destination, EventKind, EventPattern, NOTIFICATION_RULES_MAX, Notification, NotificationRule,
    is_webhook_name,
};
use std::collections::HashSet;

/// Longest name of a configuration, in characters.
const ID_MAX: usize = 255;
/// Longest prefix or suffix, in bytes: the longest key.
const FILTER_BYTES_MAX: usize = 1_024;
/// Most events of one configuration; there are not so many kinds.
const EVENTS_MAX: usize = 32;
/// What AWS says where nobody can be told.
const NOT_VALID: &str = "Unable to validate the following destination configurations";

/// How a destination is written.
struct Form {
    destination: Destination,
    element: &'static str,
    /// The child with the ARN.
    child: &'static str,
    /// In that ARN.
    service: &'static str,
}

const QUEUE: Form = Form {
    destination: Destination::Queue,
    element: "QueueConfiguration",
    child: "Queue",
    service: "sqs",
};
const TOPIC: Form = Form {
    destination: Destination::Topic,
    element: "TopicConfiguration",
    child: "Topic",
    service: "sns",
};
const CLOUD_FUNCTION: Form = Form {
    destination: Destination::CloudFunction,
    element: "CloudFunctionConfiguration",
    child: "CloudFunction",
    service: "lambda",
};

impl Form {
    fn of(destination: Destination) -> &'static Self {
        match destination {
            Destination::Queue => &QUEUE,
            Destination::Topic => &TOPIC,
            Destination::CloudFunction => &CLOUD_FUNCTION,
        }
    }

    fn of_element(name: &str) -> Option<&'static Self> {
        [&QUEUE, &TOPIC, &CLOUD_FUNCTION]
            .into_iter()
            .find(|form| form.element == name)
    }

    fn arn(&self, webhook: &str) -> String {
        format!("arn:trousseau:{}::{webhook}:webhook", self.service)
    }

    /// The name in an ARN.
    fn webhook(&self, arn: &str) -> Result<String, S3Error> {
        let name = arn
            .strip_prefix("arn:trousseau:")
            .and_then(|rest| rest.strip_prefix(self.service))
            .and_then(|rest| rest.strip_prefix("::"))
            .and_then(|rest| rest.strip_suffix(":webhook"))
            .filter(|name| is_webhook_name(name));
        let message = "The ARN is not well formed";
        name.map(str::to_owned)
            .ok_or_else(|| S3Error::argument(message, self.child, arn))
    }
}

/// Parses a body. A document without configurations turns notification off.
///
/// # Errors
/// `MalformedXML`; `InvalidArgument` in AWS's words; `NotImplemented` for EventBridge.
pub fn parse_notification(body: &[u8]) -> Result<Notification, S3Error> {
    let mut pull = Pull::begin(body, "NotificationConfiguration")?;
    let mut rules: Vec<NotificationRule> = Vec::new();
    pull.children(|pull, name| {
        if name == "EventBridgeConfiguration" {
            return Err(S3Error::not_implemented("Element", name));
        }
        let form = Form::of_element(name).ok_or_else(malformed)?;
        if rules.len() >= NOTIFICATION_RULES_MAX {
            return Err(malformed());
        }
        rules.push(rule(pull, form)?);
        Ok(())
    })?;
    pull.finish()?;
    name_all(&mut rules)?;
    check_overlaps(&rules)?;
    Ok(Notification { rules })
}

/// Refuses a document that tells somebody who is not there: every webhook must be one of `webhooks`.
///
/// # Errors
/// `InvalidArgument`, which names the destinations that are not there, as AWS does.
pub fn check_destinations(notification: &Notification, webhooks: &[String]) -> Result<(), S3Error> {
    let mut missing: Vec<String> = Vec::new();
    for rule in &notification.rules {
        let arn = Form::of(rule.destination).arn(&rule.webhook);
        if !webhooks.contains(&rule.webhook) && !missing.contains(&arn) {
            missing.push(arn);
        }
    }
    match missing.is_empty() {
        true => Ok(()),
        false => {
            let why = "The operator has not registered this webhook";
            Err(S3Error::argument(NOT_VALID, missing.join(", "), why))
        }
    }
}

fn rule(pull: &mut Pull<'_>, form: &Form) -> Result<NotificationRule, S3Error> {
    let (mut id, mut arn, mut filter) = (None, None, None);
    let mut events = Vec::new();
    pull.children(|pull, name| match name {
        "Id" => once(&mut id, pull.text()?),
        "Filter" => once(&mut filter, self::filter(pull)?),
        "Event" if events.len() < EVENTS_MAX => {
            events.push(event(&pull.text()?)?);
            Ok(())
        }
        name if name == form.child => once(&mut arn, pull.text()?),
        _ => Err(malformed()),
    })?;
    let id = id.unwrap_or_default();
    let arn = arn.ok_or_else(malformed)?;
    if events.is_empty() {
        return Err(malformed());
    }
    if id.chars().count() > ID_MAX {
        let message = format!("ID length should not exceed allowed limit of {ID_MAX}");
        return Err(S3Error::argument(message, "Id", id));
    }
    let (prefix, suffix) = filter.unwrap_or_default();
    Ok(NotificationRule {
        id,
        destination: form.destination,
        webhook: form.webhook(&arn)?,
        events,
        prefix,
        suffix,
    })
}

fn event(text: &str) -> Result<EventPattern, S3Error> {
    EventPattern::parse(text).ok_or_else(|| {
        let message = "The event is not supported for notifications";
        S3Error::argument(message, "Event", text)
    })
}

/// Prefix and suffix of the keys that are meant.
type Filter = (Option<String>, Option<String>);

fn filter(pull: &mut Pull<'_>) -> Result<Filter, S3Error> {
    let mut found = None;
    pull.children(|pull, name| match name {
        "S3Key" => once(&mut found, filter_of_key(pull)?),
        _ => Err(malformed()),
    })?;
    Ok(found.unwrap_or_default())
}

fn filter_of_key(pull: &mut Pull<'_>) -> Result<Filter, S3Error> {
    let mut found = Filter::default();
    pull.children(|pull, name| match name {
        "FilterRule" => filter_rule(pull, &mut found),
        _ => Err(malformed()),
    })?;
    Ok(found)
}

fn filter_rule(pull: &mut Pull<'_>, found: &mut Filter) -> Result<(), S3Error> {
    let (mut name, mut value) = (None, None);
    pull.children(|pull, element| match element {
        "Name" => once(&mut name, pull.text()?),
        "Value" => once(&mut value, pull.text()?),
        _ => Err(malformed()),
    })?;
    let (name, value) = (name.ok_or_else(malformed)?, value.unwrap_or_default());
    // AWS writes them with a capital letter, and takes them in any case.
    let (slot, kind) = match name.to_ascii_lowercase().as_str() {
        "prefix" => (&mut found.0, "prefix"),
        "suffix" => (&mut found.1, "suffix"),
        _ => {
            let message = "filter rule name must be either prefix or suffix";
            return Err(S3Error::argument(message, "FilterRule.Name", name));
        }
    };
    if value.len() > FILTER_BYTES_MAX {
        let message = "Size of filter rule value cannot exceed 1024 bytes in UTF-8 representation";
        return Err(S3Error::argument(message, "FilterRule.Value", value));
    }
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => {
            let message = format!("Cannot specify more than one {kind} rule in a filter.");
            Err(S3Error::argument(message, "FilterRule.Name", name))
        }
    }
}

/// Names the configurations that have no name, and refuses names that come twice.
fn name_all(rules: &mut [NotificationRule]) -> Result<(), S3Error> {
    let mut names = HashSet::new();
    for rule in rules.iter().filter(|rule| !rule.id.is_empty()) {
        if !names.insert(rule.id.clone()) {
            let message = "Same ID used for multiple configurations. IDs must be unique";
            return Err(S3Error::argument(message, "Id", &rule.id));
        }
    }
    let mut fresh = (1..)
        .map(|number: u64| format!("notification-{number}"))
        .filter(|name| !names.contains(name));
    for rule in rules.iter_mut().filter(|rule| rule.id.is_empty()) {
        rule.id = fresh.next().unwrap_or_default();
    }
    Ok(())
}

/// No event of a key may be meant by two configurations.
fn check_overlaps(rules: &[NotificationRule]) -> Result<(), S3Error> {
    for (at, one) in rules.iter().enumerate() {
        for other in rules.iter().skip(at + 1) {
            if share_events(one, other) && share_keys(one, other) {
                let message = "Configuration is ambiguously defined. Cannot have overlapping suffixes in two rules \
                               if the prefixes are overlapping for the same event type.";
                return Err(S3Error::with(ErrorCode::InvalidArgument, message));
            }
        }
    }
    Ok(())
}

fn share_events(one: &NotificationRule, other: &NotificationRule) -> bool {
    let means = |rule: &NotificationRule, kind| rule.events.iter().any(|event| event.matches(kind));
    let mut kinds = EventKind::ALL.iter().copied();
    kinds.any(|kind| means(one, kind) && means(other, kind))
}

/// Whether there is a key that both mean: if their prefixes and their suffixes fit, one that is long enough.
fn share_keys(one: &NotificationRule, other: &NotificationRule) -> bool {
    let text = |filter: &Option<String>| filter.clone().unwrap_or_default();
    let (prefix, suffix) = (text(&one.prefix), text(&one.suffix));
    let (other_prefix, other_suffix) = (text(&other.prefix), text(&other.suffix));
    let starts = prefix.starts_with(&other_prefix) || other_prefix.starts_with(&prefix);
    let ends = suffix.ends_with(&other_suffix) || other_suffix.ends_with(&suffix);
    starts && ends
}

/// As GetBucketNotificationConfiguration shows it; empty for none.
pub fn notification_to_xml(notification: &Notification) -> String {
    let mut document = Document::new("NotificationConfiguration");
    for rule in &notification.rules {
        let form = Form::of(rule.destination);
        document.open(form.element);
        document.text("Id", &rule.id);
        document.text(form.child, &form.arn(&rule.webhook));
        for event in &rule.events {
            document.text("Event", &event.to_text());
        }
        if rule.prefix.is_some() || rule.suffix.is_some() {
            document.open("Filter");
            document.open("S3Key");
            for (name, value) in [("Prefix", &rule.prefix), ("Suffix", &rule.suffix)] {
                if let Some(value) = value {
                    document.open("FilterRule");
                    document.text("Name", name);
                    document.text("Value", value);
                    document.close();
                }
            }
            document.close();
            document.close();
        }
        document.close();
    }
    document.finish()
}

#[cfg(test)]
mod tests;
