//! Configurations as clients write them, what is refused, and what comes back.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
use super::*;
use proptest::prelude::*;

fn queue(inner: &str) -> String {
    format!(
        "<QueueConfiguration><Queue>arn:trousseau:sqs::hook:webhook</Queue>{inner}</QueueConfiguration>"
    )
}

fn parse(inner: &str) -> Result<Notification, S3Error> {
    let body = format!("<NotificationConfiguration>{inner}</NotificationConfiguration>");
    parse_notification(body.as_bytes())
}

const CREATED: &str = "<Event>s3:ObjectCreated:*</Event>";

fn filter_rule(name: &str, value: &str) -> String {
    format!("<FilterRule><Name>{name}</Name><Value>{value}</Value></FilterRule>")
}

fn filter(prefix: &str, suffix: &str) -> String {
    let rules = filter_rule("prefix", prefix) + &filter_rule("Suffix", suffix);
    format!("<Filter><S3Key>{rules}</S3Key></Filter>")
}

#[test]
fn a_configuration_comes_back_as_it_was_written_and_means_its_keys() {
    let written = parse(
        &(queue(&format!("{CREATED}{}", filter("a/", ".jpg")))
            + "<TopicConfiguration><Id>t</Id><Topic>arn:trousseau:sns::two:webhook</Topic>\
               <Event>s3:ObjectRemoved:Delete</Event></TopicConfiguration>\
               <CloudFunctionConfiguration><CloudFunction>arn:trousseau:lambda::three:webhook</CloudFunction>\
               <Event>s3:LifecycleExpiration:*</Event></CloudFunctionConfiguration>"),
    )
    .unwrap();
    let xml = notification_to_xml(&written);
    assert_eq!(parse_notification(xml.as_bytes()).unwrap(), written);
    let [images, removed, expired] = written.rules.as_slice() else {
        panic!("{written:?}")
    };
    let ids = [images, removed, expired].map(|rule| rule.id.as_str());
    assert_eq!(ids, ["notification-1", "t", "notification-2"]);
    let webhooks = [images, removed, expired].map(|rule| rule.webhook.as_str());
    assert_eq!(webhooks, ["hook", "two", "three"]);
    assert!(images.matches(EventKind::Copy, "a/b.jpg"));
    assert!(!images.matches(EventKind::Copy, "a/b.png"));
    assert!(!images.matches(EventKind::Copy, "b.jpg"));
    assert!(!images.matches(EventKind::Delete, "a/b.jpg"));
    assert!(removed.matches(EventKind::Delete, "any"));
    assert!(!removed.matches(EventKind::DeleteMarkerCreated, "any"));
    assert!(expired.matches(EventKind::LifecycleDelete, "any"));
    assert_eq!(parse("").unwrap(), Notification::default());
    let none = notification_to_xml(&Notification::default());
    assert_eq!(parse_notification(none.as_bytes()).unwrap().rules, []);
}

#[test]
fn every_event_is_understood_as_it_is_written() {
    for kind in EventKind::ALL.iter().copied() {
        for pattern in [EventPattern::One(kind), EventPattern::Family(kind)] {
            let parsed = EventPattern::parse(&pattern.to_text()).unwrap();
            let meant = |pattern: &EventPattern| -> Vec<EventKind> {
                let all = EventKind::ALL.iter().copied();
                all.filter(|kind| pattern.matches(*kind)).collect()
            };
            assert_eq!(meant(&parsed), meant(&pattern), "{}", pattern.to_text());
        }
    }
    for text in [
        "s3:ObjectCreated",
        "s3:*",
        "ObjectCreated:*",
        "s3:ObjectCreated:Pu",
        "s3::*",
        "",
    ] {
        assert_eq!(EventPattern::parse(text), None, "{text}");
    }
}

#[test]
fn what_cannot_be_told_is_refused() {
    let check = |inner: &str, code, message: &str| {
        let error = parse(inner).unwrap_err();
        assert_eq!(error.code, code, "{inner}: {}", error.message);
        assert!(error.message.contains(message), "{}", error.message);
    };
    use ErrorCode::{InvalidArgument, MalformedXML, NotImplemented};
    check(&queue(""), MalformedXML, "");
    check(&queue(&CREATED.repeat(33)), MalformedXML, "");
    check("<QueueConfiguration/>", MalformedXML, "");
    check(
        &queue(&format!("{CREATED}<Topic>t</Topic>")),
        MalformedXML,
        "",
    );
    check(
        &queue(&format!("{CREATED}<Id>a</Id><Id>b</Id>")),
        MalformedXML,
        "",
    );
    check("<EventBridgeConfiguration/>", NotImplemented, "EventBridge");
    for event in ["s3:Replication:*", "s3:ObjectAcl:Put", "s3:TestEvent", " "] {
        let unknown = queue(&format!("<Event>{event}</Event>"));
        check(&unknown, InvalidArgument, "not supported for notifications");
    }
    for (wrong, arn) in [
        ("trousseau", "aws"),
        ("hook:", ":"),
        ("sqs", "sns"),
        ("hook", "a b"),
        ("::", ":x:"),
    ] {
        let elsewhere = queue(CREATED).replace(wrong, arn);
        check(&elsewhere, InvalidArgument, "not well formed");
    }
    let filtered =
        |rules: &str| queue(&format!("{CREATED}<Filter><S3Key>{rules}</S3Key></Filter>"));
    check(
        &filtered(&filter_rule("infix", "a")),
        InvalidArgument,
        "either prefix or suffix",
    );
    let twice = filter_rule("suffix", "a") + &filter_rule("Suffix", "b");
    check(
        &filtered(&twice),
        InvalidArgument,
        "more than one suffix rule",
    );
    let long = filter_rule("prefix", &"p".repeat(1_025));
    check(&filtered(&long), InvalidArgument, "1024 bytes");
    let named = format!("<Id>{}</Id>{CREATED}", "i".repeat(256));
    check(&queue(&named), InvalidArgument, "ID length");
}

#[test]
fn two_configurations_that_mean_the_same_event_of_a_key_are_refused() {
    let pair = |one: (&str, &str, &str), other: (&str, &str, &str)| {
        let write = |(event, prefix, suffix): (&str, &str, &str)| {
            queue(&format!(
                "<Event>s3:{event}</Event>{}",
                filter(prefix, suffix)
            ))
        };
        parse(&(write(one) + &write(other)))
    };
    let refused = |one, other| {
        let error = pair(one, other).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        assert!(error.message.contains("ambiguously"), "{}", error.message);
    };
    let (all, put, removed) = ("ObjectCreated:*", "ObjectCreated:Put", "ObjectRemoved:*");
    refused((all, "", ""), (put, "", ""));
    refused((all, "a", ""), (put, "ab", ""));
    refused((all, "a", "jpg"), (put, "a", "g"));
    refused((put, "a", ""), (all, "", ".jpg"));
    assert!(pair((all, "", ""), (removed, "", "")).is_ok());
    assert!(pair((all, "a/", ""), (all, "b/", "")).is_ok());
    assert!(pair((all, "", ".jpg"), (all, "", ".png")).is_ok());
    assert!(pair((put, "", ""), ("ObjectCreated:Copy", "", "")).is_ok());
    let named =
        |id: &str, prefix: &str| queue(&format!("<Id>{id}</Id>{CREATED}{}", filter(prefix, "")));
    let same = parse(&(named("x", "a") + &named("x", "b"))).unwrap_err();
    assert!(same.message.contains("IDs must be unique"));
    // Names that are given do not meet those that are made up.
    let parsed = parse(&(named("", "a") + &named("notification-1", "b"))).unwrap();
    let ids: Vec<&str> = parsed.rules.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(ids, ["notification-2", "notification-1"]);
    let many = |count: usize| {
        let rules = (0..count).map(|number| named("", &format!("{number:03}")));
        parse(&rules.collect::<String>())
    };
    assert_eq!(many(100).unwrap().rules.len(), 100);
    assert_eq!(many(101).unwrap_err().code, ErrorCode::MalformedXML);
}

#[test]
fn only_registered_webhooks_are_destinations() {
    let notification = parse(&queue(CREATED)).unwrap();
    let check = |webhooks: &[&str]| {
        let webhooks: Vec<String> = webhooks.iter().map(|name| (*name).into()).collect();
        check_destinations(&notification, &webhooks)
    };
    check(&["other", "hook"]).unwrap();
    for webhooks in [&[][..], &["hoo", "Hook"]] {
        let error = check(webhooks).unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (ErrorCode::InvalidArgument, NOT_VALID)
        );
        let culprit = ("ArgumentName", "arn:trousseau:sqs::hook:webhook".to_owned());
        assert!(error.extra.contains(&culprit), "{error:?}");
    }
    check_destinations(&Notification::default(), &[]).unwrap();
}

fn events() -> impl Strategy<Value = Vec<EventPattern>> {
    let kinds = prop::sample::select(EventKind::ALL);
    // Of a family, the first is what its text is read as.
    let pattern = (kinds, any::<bool>()).prop_map(|(kind, one)| match one {
        true => EventPattern::One(kind),
        false => EventPattern::parse(&EventPattern::Family(kind).to_text()).unwrap(),
    });
    prop::collection::vec(pattern, 1..5)
}

fn rules() -> impl Strategy<Value = NotificationRule> {
    let destinations = [
        Destination::Queue,
        Destination::Topic,
        Destination::CloudFunction,
    ];
    let text = prop::option::of("[^\0]{0,9}");
    let rule = (
        prop::sample::select(destinations.to_vec()),
        "[a-zA-Z0-9._-]{1,9}",
        events(),
        text.clone(),
        text,
    );
    rule.prop_map(
        |(destination, webhook, events, prefix, suffix)| NotificationRule {
            id: String::new(),
            destination,
            webhook,
            events,
            prefix,
            suffix,
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_again_or_refused_as_ambiguous(
        rules in prop::collection::vec(rules(), 0..4),
        ids in prop::collection::hash_set("[^\0]{1,5}", 4),
    ) {
        let rules: Vec<NotificationRule> = rules
            .into_iter()
            .zip(ids)
            .map(|(rule, id)| NotificationRule { id, ..rule })
            .collect();
        let notification = Notification { rules };
        let overlap = check_overlaps(&notification.rules).is_err();
        match parse_notification(notification_to_xml(&notification).as_bytes()) {
            Ok(again) => prop_assert_eq!(again, notification),
            Err(error) => prop_assert!(overlap, "{error}"),
        }
    }

    #[test]
    fn any_text_is_a_document_or_an_error(inner in ".{0,200}") {
        let _ = parse(&inner);
        let _ = parse(&queue(&inner));
    }
}
