//! `LifecycleConfiguration`: what is removed when, between S3's XML and the rules that metadata acts on.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLifecycleConfiguration.html>

use super::{once, rules};
use crate::dates::{iso8601, parse_iso8601};
use crate::error::{ErrorCode, S3Error};
use crate::tags::{self, OBJECT_TAGS_MAX};
use crate::xml::Document;
use crate::xml::pull::{Pull, malformed};
use protocol::settings::{
    Expiration, FilterForm, LIFECYCLE_RULES_MAX, Lifecycle, LifecycleFilter, LifecycleRule,
    NoncurrentExpiration,
};

/// Longest name of a rule, in characters.
const ID_MAX: usize = 255;
/// Most noncurrent versions that a rule can keep (S3).
const KEEP_MAX: u32 = 100;
const DAY_S: u64 = 24 * 60 * 60;

/// Parses a body.
///
/// # Errors
/// `MalformedXML`; `InvalidRequest` and `InvalidArgument` in AWS's words; `NotImplemented` for transitions, since there is one storage class.
pub fn parse_lifecycle(body: &[u8]) -> Result<Lifecycle, S3Error> {
    let root = "LifecycleConfiguration";
    let mut rules = rules(body, root, "Rule", LIFECYCLE_RULES_MAX, rule)?;
    name_all(&mut rules)?;
    Ok(Lifecycle { rules })
}

/// Names the rules that have no name, and refuses names that come twice.
fn name_all(rules: &mut [LifecycleRule]) -> Result<(), S3Error> {
    let mut names: Vec<String> = rules.iter().map(|rule| rule.id.clone()).collect();
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    if names.windows(2).any(|pair| pair.first() == pair.last()) {
        let message = "Rule ID must be unique. Found same ID for more than one rule";
        return Err(S3Error::with(ErrorCode::InvalidArgument, message));
    }
    let mut number = 0_usize;
    for rule in rules.iter_mut().filter(|rule| rule.id.is_empty()) {
        loop {
            number += 1;
            let name = format!("rule-{number}");
            if !names.contains(&name) {
                rule.id = name;
                break;
            }
        }
    }
    Ok(())
}

fn rule(pull: &mut Pull<'_>) -> Result<LifecycleRule, S3Error> {
    let (mut id, mut status, mut filter, mut prefix) = (None, None, None, None);
    let (mut expiration, mut noncurrent, mut abort) = (None, None, None);
    pull.children(|pull, name| match name {
        "ID" => once(&mut id, pull.text()?),
        "Status" => once(&mut status, pull.text()?),
        "Prefix" => once(&mut prefix, pull.text()?),
        "Filter" => once(&mut filter, self::filter(pull)?),
        "Expiration" => once(&mut expiration, self::expiration(pull)?),
        "NoncurrentVersionExpiration" => once(&mut noncurrent, self::noncurrent(pull)?),
        "AbortIncompleteMultipartUpload" => once(&mut abort, self::abort(pull)?),
        "Transition" | "NoncurrentVersionTransition" => {
            Err(S3Error::not_implemented("Element", name))
        }
        _ => Err(malformed()),
    })?;
    let filter = match (filter, prefix) {
        (Some(filter), None) => filter,
        (None, Some(prefix)) => LifecycleFilter {
            prefix,
            form: FilterForm::Rule,
            ..LifecycleFilter::default()
        },
        _ => return Err(malformed()),
    };
    let enabled = match status.as_deref() {
        Some("Enabled") => true,
        Some("Disabled") => false,
        _ => return Err(malformed()),
    };
    let rule = LifecycleRule {
        id: id.unwrap_or_default(),
        enabled,
        filter,
        expiration,
        noncurrent,
        abort_uploads_days: abort,
    };
    check(&rule)?;
    Ok(rule)
}

fn check(rule: &LifecycleRule) -> Result<(), S3Error> {
    let invalid = |message: &str| Err(S3Error::with(ErrorCode::InvalidRequest, message));
    if rule.id.chars().count() > ID_MAX {
        let message = "ID length should not exceed allowed limit of 255";
        return Err(S3Error::with(ErrorCode::InvalidArgument, message));
    }
    let (filter, aborts) = (&rule.filter, rule.abort_uploads_days.is_some());
    if rule.expiration.is_none() && rule.noncurrent.is_none() && !aborts {
        return invalid("At least one action needs to be specified in a rule");
    }
    let sized = filter.larger_than.is_some() || filter.smaller_than.is_some();
    if aborts && (!filter.tags.is_empty() || sized) {
        return invalid(
            "AbortIncompleteMultipartUpload cannot be specified with Tags or ObjectSize",
        );
    }
    let markers = rule.expiration == Some(Expiration::DeleteMarker);
    if markers && (!filter.tags.is_empty() || sized) {
        return invalid("ExpiredObjectDeleteMarker cannot be specified with Tags or ObjectSize");
    }
    if let (Some(larger), Some(smaller)) = (filter.larger_than, filter.smaller_than)
        && smaller <= larger.saturating_add(1)
    {
        return invalid(
            "'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'",
        );
    }
    tags::check(&filter.tags, OBJECT_TAGS_MAX)
}

fn filter(pull: &mut Pull<'_>) -> Result<LifecycleFilter, S3Error> {
    let (mut filter, mut conditions, mut and) = (LifecycleFilter::default(), 0_usize, false);
    let mut prefix = None;
    pull.children(|pull, name| match name {
        "And" if conditions == 0 && !and => {
            and = true;
            pull.children(|pull, name| condition(pull, name, &mut filter, &mut prefix))
        }
        name if !and => {
            conditions += 1;
            condition(pull, name, &mut filter, &mut prefix)
        }
        _ => Err(malformed()),
    })?;
    filter.form = match (and, conditions) {
        (true, 0) => FilterForm::And,
        (false, 0) => FilterForm::Empty,
        (false, 1) => FilterForm::One,
        _ => return Err(malformed()),
    };
    filter.prefix = prefix.unwrap_or_default();
    Ok(filter)
}

fn condition(
    pull: &mut Pull<'_>,
    name: &str,
    filter: &mut LifecycleFilter,
    prefix: &mut Option<String>,
) -> Result<(), S3Error> {
    match name {
        "Prefix" => once(prefix, pull.text()?),
        "Tag" => {
            let (mut key, mut value) = (None, None);
            pull.children(|pull, name| match name {
                "Key" => once(&mut key, pull.text()?),
                "Value" => once(&mut value, pull.text()?),
                _ => Err(malformed()),
            })?;
            let tag = (key.ok_or_else(malformed)?, value.ok_or_else(malformed)?);
            filter.tags.push(tag);
            Ok(())
        }
        "ObjectSizeGreaterThan" => once(&mut filter.larger_than, number(&pull.text()?)?),
        "ObjectSizeLessThan" => once(&mut filter.smaller_than, number(&pull.text()?)?),
        _ => Err(malformed()),
    }
}

fn expiration(pull: &mut Pull<'_>) -> Result<Expiration, S3Error> {
    let mut found = None;
    pull.children(|pull, name| {
        let text = pull.text()?;
        let one = match name {
            "Days" => Expiration::Days(days(&text, "Expiration")?),
            "Date" => Expiration::Date(midnight(&text)?),
            "ExpiredObjectDeleteMarker" if super::boolean(&text)? => Expiration::DeleteMarker,
            _ => return Err(malformed()),
        };
        once(&mut found, one)
    })?;
    found.ok_or_else(malformed)
}

fn noncurrent(pull: &mut Pull<'_>) -> Result<NoncurrentExpiration, S3Error> {
    let (mut found, mut keep) = (None, None);
    pull.children(|pull, name| {
        let text = pull.text()?;
        match name {
            "NoncurrentDays" => once(&mut found, days(&text, "NoncurrentVersionExpiration")?),
            "NewerNoncurrentVersions" => once(&mut keep, number::<u32>(&text)?),
            _ => Err(malformed()),
        }
    })?;
    if keep.is_some_and(|keep| !(1..=KEEP_MAX).contains(&keep)) {
        let message = "'NewerNoncurrentVersions' for NoncurrentVersionExpiration action must be between 1 and 100";
        return Err(S3Error::with(ErrorCode::InvalidArgument, message));
    }
    let days = found.ok_or_else(malformed)?;
    Ok(NoncurrentExpiration { days, keep })
}

fn abort(pull: &mut Pull<'_>) -> Result<u32, S3Error> {
    let mut found = None;
    pull.children(|pull, name| match name {
        "DaysAfterInitiation" => once(
            &mut found,
            days(&pull.text()?, "AbortIncompleteMultipartUpload")?,
        ),
        _ => Err(malformed()),
    })?;
    found.ok_or_else(malformed)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, S3Error> {
    text.trim().parse().map_err(|_| malformed())
}

fn days(text: &str, action: &str) -> Result<u32, S3Error> {
    match text.trim().parse::<u32>() {
        Ok(days) if (1..=i32::MAX as u32).contains(&days) => Ok(days),
        _ => {
            let message = format!("'Days' for {action} action must be a positive integer");
            Err(S3Error::with(ErrorCode::InvalidArgument, message))
        }
    }
}

/// A day, as ISO 8601 with or without a time, which must be midnight; milliseconds since 1970.
fn midnight(text: &str) -> Result<u64, S3Error> {
    let text = text.trim();
    let seconds = parse_iso8601(text).or_else(|| parse_iso8601(&format!("{text}T00:00:00Z")));
    match seconds.ok_or_else(malformed)? {
        seconds if seconds.is_multiple_of(DAY_S) => Ok(seconds * 1000),
        _ => Err(S3Error::with(
            ErrorCode::InvalidArgument,
            "'Date' must be at midnight GMT",
        )),
    }
}

/// The document.
pub fn lifecycle_to_xml(lifecycle: &Lifecycle) -> String {
    let mut document = Document::new("LifecycleConfiguration");
    for rule in &lifecycle.rules {
        document.open("Rule");
        document.text("ID", &rule.id);
        write_filter(&mut document, &rule.filter);
        let status = if rule.enabled { "Enabled" } else { "Disabled" };
        document.text("Status", status);
        if let Some(expiration) = rule.expiration {
            document.open("Expiration");
            match expiration {
                Expiration::Days(days) => document.number("Days", u64::from(days)),
                Expiration::Date(ms) => document.text("Date", &iso8601(ms)),
                Expiration::DeleteMarker => document.boolean("ExpiredObjectDeleteMarker", true),
            }
            document.close();
        }
        if let Some(noncurrent) = rule.noncurrent {
            document.open("NoncurrentVersionExpiration");
            document.number("NoncurrentDays", u64::from(noncurrent.days));
            if let Some(keep) = noncurrent.keep {
                document.number("NewerNoncurrentVersions", u64::from(keep));
            }
            document.close();
        }
        if let Some(days) = rule.abort_uploads_days {
            document.open("AbortIncompleteMultipartUpload");
            document.number("DaysAfterInitiation", u64::from(days));
            document.close();
        }
        document.close();
    }
    document.finish()
}

fn write_filter(document: &mut Document, filter: &LifecycleFilter) {
    let inner = match filter.form {
        FilterForm::Rule => return document.text("Prefix", &filter.prefix),
        FilterForm::Empty | FilterForm::One => false,
        FilterForm::And => true,
    };
    document.open("Filter");
    if inner {
        document.open("And");
    }
    let other = !filter.tags.is_empty()
        || filter.larger_than.is_some()
        || filter.smaller_than.is_some()
        || filter.form == FilterForm::Empty;
    if !filter.prefix.is_empty() || !other {
        document.text("Prefix", &filter.prefix);
    }
    for (key, value) in &filter.tags {
        document.open("Tag");
        document.text("Key", key);
        document.text("Value", value);
        document.close();
    }
    if let Some(bytes) = filter.larger_than {
        document.number("ObjectSizeGreaterThan", bytes);
    }
    if let Some(bytes) = filter.smaller_than {
        document.number("ObjectSizeLessThan", bytes);
    }
    if inner {
        document.close();
    }
    document.close();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use proptest::prelude::*;

    fn parse(rules: &str) -> Result<Lifecycle, S3Error> {
        let text = format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>");
        parse_lifecycle(text.as_bytes())
    }

    fn one(rest: &str) -> String {
        format!("<Rule><Status>Enabled</Status>{rest}</Rule>")
    }

    const ALL: &str = "<Rule><ID>all</ID><Filter><And><Prefix>a/</Prefix><Tag><Key>k</Key><Value>v</Value></Tag>\
        <ObjectSizeGreaterThan>5</ObjectSizeGreaterThan><ObjectSizeLessThan>50</ObjectSizeLessThan></And></Filter>\
        <Status>Enabled</Status><Expiration><Days>3</Days></Expiration><NoncurrentVersionExpiration>\
        <NoncurrentDays>2</NoncurrentDays><NewerNoncurrentVersions>4</NewerNoncurrentVersions></NoncurrentVersionExpiration></Rule>";

    #[test]
    fn every_form_is_shown_as_it_was_written() {
        let forms = [
            ALL,
            "<Rule><ID>a</ID><Prefix>p</Prefix><Status>Disabled</Status><Expiration><Date>2030-01-01T00:00:00.000Z</Date></Expiration></Rule>",
            "<Rule><ID>b</ID><Filter></Filter><Status>Enabled</Status><AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>",
            "<Rule><ID>c</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status><Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration></Rule>",
            "<Rule><ID>d</ID><Filter><Tag><Key>k</Key><Value></Value></Tag></Filter><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule>",
            "<Rule><ID>e</ID><Filter><ObjectSizeGreaterThan>0</ObjectSizeGreaterThan></Filter><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule>",
        ];
        for form in forms {
            let xml = lifecycle_to_xml(&parse(form).unwrap());
            assert!(xml.contains(form), "{form}\n{xml}");
        }
        let both =
            parse(&(one("<Filter/><Expiration><Days>1</Days></Expiration>").repeat(2))).unwrap();
        let names: Vec<&str> = both.rules.iter().map(|rule| rule.id.as_str()).collect();
        assert_eq!(names, ["rule-1", "rule-2"]);
    }

    #[test]
    fn rules_that_cannot_be_are_refused() {
        let check = |rule: &str, code: ErrorCode| {
            let error = parse(rule).unwrap_err();
            assert_eq!(error.code, code, "{rule}: {error}");
        };
        use ErrorCode as E;
        check("", E::MalformedXML);
        check("<Rule/>", E::MalformedXML);
        let days = "<Expiration><Days>1</Days></Expiration>";
        check(&one(days), E::MalformedXML);
        check(&one("<Filter/>"), E::InvalidRequest);
        check(&one(&format!("<Prefix/><Filter/>{days}")), E::MalformedXML);
        check(
            &one("<Filter/><Expiration><Days>0</Days></Expiration>"),
            E::InvalidArgument,
        );
        check(
            &one("<Filter/><Expiration><Date>2030-01-01T01:00:00Z</Date></Expiration>"),
            E::InvalidArgument,
        );
        check(
            &one("<Filter/><Expiration><Days>1</Days><Date>2030-01-01</Date></Expiration>"),
            E::MalformedXML,
        );
        check(
            &one("<Filter/><Transition><Days>1</Days></Transition>"),
            E::NotImplemented,
        );
        check(
            &one(&format!(
                "<Filter><Prefix>a</Prefix><Prefix>b</Prefix></Filter>{days}"
            )),
            E::MalformedXML,
        );
        check(
            &one(&format!(
                "<Filter><Prefix>a</Prefix><ObjectSizeLessThan>4</ObjectSizeLessThan></Filter>{days}"
            )),
            E::MalformedXML,
        );
        check(
            &one(&format!(
                "<Filter><And><ObjectSizeLessThan>4</ObjectSizeLessThan><ObjectSizeGreaterThan>4</ObjectSizeGreaterThan></And></Filter>{days}"
            )),
            E::InvalidRequest,
        );
        let tagged = "<Filter><Tag><Key>a</Key><Value>b</Value></Tag></Filter>";
        check(
            &one(&format!(
                "{tagged}<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
            )),
            E::InvalidRequest,
        );
        check(
            &one(&format!(
                "{tagged}<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"
            )),
            E::InvalidRequest,
        );
        check(
            &one(
                "<Filter/><NoncurrentVersionExpiration><NewerNoncurrentVersions>1</NewerNoncurrentVersions></NoncurrentVersionExpiration>",
            ),
            E::MalformedXML,
        );
        let named = format!("<Rule><ID>x</ID><Status>Enabled</Status><Filter/>{days}</Rule>");
        check(&named.repeat(2), E::InvalidArgument);
    }

    proptest! {
        #[test]
        fn no_document_makes_the_reader_panic(text in any::<String>()) {
            let _ = (parse(&text), parse(&one(&text)));
        }
    }
}
