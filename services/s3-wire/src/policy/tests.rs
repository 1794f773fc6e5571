//! What policies allow and forbid, and what is refused when they are put.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use super::*;
use proptest::prelude::*;

/// Pairs of a key and a value.
impl Context for Vec<(&str, &str)> {
    fn values(&self, key: &str) -> Vec<String> {
        let found = self.iter().filter(|(name, _)| *name == key);
        found.map(|(_, value)| (*value).to_owned()).collect()
    }
}

const APP: Principal<'_> = Principal {
    access_key: "TRAPP",
    name: "app",
};

fn bucket_policy(text: &str) -> Result<Policy, S3Error> {
    Policy::parse(text.as_bytes(), Whose::Bucket("b"))
}

/// A policy of one statement from its fields.
fn one(fields: &str) -> Policy {
    let text = format!("{{\"Version\":\"2012-10-17\",\"Statement\":[{{{fields}}}]}}");
    bucket_policy(&text).unwrap()
}

fn ask(
    policy: &Policy,
    principal: Option<Principal<'_>>,
    action: &str,
    key: Option<&str>,
    context: &[(&str, &str)],
) -> Verdict {
    policy.judge(&Question {
        principal,
        action,
        resource: ("b", key),
        context: &context.to_vec(),
    })
}

#[test]
fn public_read_is_what_its_statement_says_and_no_more() {
    let policy = one(
        r#""Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::b/pub/*""#,
    );
    let check = |action: &str, key: Option<&str>, expected: Verdict| {
        assert_eq!(
            ask(&policy, None, action, key, &[]),
            expected,
            "{action} {key:?}"
        );
    };
    check("s3:GetObject", Some("pub/x"), Verdict::Allow);
    check("s3:getobject", Some("pub/x/y"), Verdict::Allow);
    check("s3:GetObject", Some("private"), Verdict::Silent);
    check("s3:GetObjectVersion", Some("pub/x"), Verdict::Silent);
    check("s3:PutObject", Some("pub/x"), Verdict::Silent);
    check("s3:ListBucket", None, Verdict::Silent);
    assert!(policy.is_public());
}

#[test]
fn deny_wins_wherever_it_stands() {
    let text = r#"{"Statement":[
        {"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::b","arn:aws:s3:::b/*"]},
        {"Effect":"Deny","Principal":{"AWS":"TRAPP"},"Action":"s3:Delete*","Resource":"arn:aws:s3:::b/keep/*"},
        {"Effect":"Allow","Principal":"*","Action":"s3:DeleteObject","Resource":"arn:aws:s3:::b/keep/*"}]}"#;
    let policy = bucket_policy(text).unwrap();
    let delete = |who, key| ask(&policy, who, "s3:DeleteObject", Some(key), &[]);
    assert_eq!(delete(Some(APP), "keep/x"), Verdict::Deny);
    assert_eq!(delete(Some(APP), "x"), Verdict::Allow);
    assert_eq!(delete(None, "keep/x"), Verdict::Allow);
}

#[test]
fn principals_are_keys_and_users() {
    let named = |who: &str| {
        let text = format!(
            r#""Effect":"Allow","Principal":{{"AWS":["{who}"]}},"Action":"s3:*","Resource":"arn:aws:s3:::b/*""#
        );
        ask(&one(&text), Some(APP), "s3:GetObject", Some("k"), &[])
    };
    assert_eq!(named("TRAPP"), Verdict::Allow);
    assert_eq!(named("arn:aws:iam:::user/app"), Verdict::Allow);
    assert_eq!(named("arn:aws:iam::123456789012:user/app"), Verdict::Allow);
    assert_eq!(named("TROTHER"), Verdict::Silent);
    assert_eq!(named("arn:aws:iam:::user/other"), Verdict::Silent);
    let but = one(
        r#""Effect":"Deny","NotPrincipal":{"AWS":"TRAPP"},"Action":"s3:*","Resource":"arn:aws:s3:::b/*""#,
    );
    assert_eq!(
        ask(&but, Some(APP), "s3:GetObject", Some("k"), &[]),
        Verdict::Silent
    );
    assert_eq!(
        ask(&but, None, "s3:GetObject", Some("k"), &[]),
        Verdict::Deny
    );
}

#[test]
fn negated_actions_and_resources_mean_all_others() {
    let policy = one(
        r#""Effect":"Allow","Principal":"*","NotAction":"s3:Delete*","NotResource":"arn:aws:s3:::b/secret/*""#,
    );
    let check = |action: &str, key: &str, expected: Verdict| {
        assert_eq!(ask(&policy, None, action, Some(key), &[]), expected);
    };
    check("s3:GetObject", "x", Verdict::Allow);
    check("s3:DeleteObject", "x", Verdict::Silent);
    check("s3:GetObject", "secret/x", Verdict::Silent);
}

#[test]
fn conditions_hold_as_iam_says() {
    let check = |condition: &str, context: &[(&str, &str)], holds: bool| {
        let policy = one(&format!(
            r#""Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::b/*","Condition":{condition}"#
        ));
        let verdict = ask(&policy, Some(APP), "s3:GetObject", Some("k"), context);
        assert_eq!(verdict == Verdict::Allow, holds, "{condition} {context:?}");
    };
    let ip = r#"{"IpAddress":{"aws:SourceIp":["192.168.1.0/24","2001:db8::/32"]}}"#;
    check(ip, &[("aws:sourceip", "192.168.1.77")], true);
    check(ip, &[("aws:sourceip", "::ffff:192.168.1.77")], true);
    check(ip, &[("aws:sourceip", "2001:db8::1")], true);
    check(ip, &[("aws:sourceip", "192.168.2.1")], false);
    check(ip, &[], false);
    let not_ip = r#"{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}}"#;
    check(not_ip, &[("aws:sourceip", "10.1.1.1")], false);
    check(not_ip, &[("aws:sourceip", "11.1.1.1")], true);
    check(not_ip, &[], true);
    let secure = r#"{"Bool":{"aws:SecureTransport":"false"}}"#;
    check(secure, &[("aws:securetransport", "false")], true);
    check(secure, &[("aws:securetransport", "true")], false);
    let prefix = r#"{"StringLike":{"s3:prefix":["home/${aws:username}/*",""]}}"#;
    check(
        prefix,
        &[("s3:prefix", "home/app/x"), ("aws:username", "app")],
        true,
    );
    check(
        prefix,
        &[("s3:prefix", "home/b/x"), ("aws:username", "app")],
        false,
    );
    check(prefix, &[("s3:prefix", ""), ("aws:username", "app")], true);
    check(prefix, &[("s3:prefix", "home/app/x")], false);
    let not_equals = r#"{"StringNotEquals":{"s3:x-amz-acl":["private","x"]}}"#;
    check(not_equals, &[("s3:x-amz-acl", "private")], false);
    check(not_equals, &[("s3:x-amz-acl", "public-read")], true);
    check(not_equals, &[], true);
    let if_exists = r#"{"StringEqualsIfExists":{"s3:delimiter":"/"}}"#;
    check(if_exists, &[], true);
    check(if_exists, &[("s3:delimiter", "/")], true);
    check(if_exists, &[("s3:delimiter", "x")], false);
    let case = r#"{"StringEqualsIgnoreCase":{"aws:UserAgent":"Curl"}}"#;
    check(case, &[("aws:useragent", "cURL")], true);
    let number = r#"{"NumericLessThanEquals":{"s3:max-keys":"10"}}"#;
    check(number, &[("s3:max-keys", "10")], true);
    check(number, &[("s3:max-keys", "9")], true);
    check(number, &[("s3:max-keys", "100")], false);
    check(number, &[("s3:max-keys", "x")], false);
    check(number, &[], false);
    let date = r#"{"DateLessThan":{"aws:CurrentTime":"2030-01-01T00:00:00Z"},"DateGreaterThan":{"aws:CurrentTime":"2020-01-01"}}"#;
    check(date, &[("aws:currenttime", "2026-05-05T00:00:00Z")], true);
    check(date, &[("aws:currenttime", "2031-05-05T00:00:00Z")], false);
    check(
        r#"{"DateGreaterThan":{"aws:EpochTime":"1000"}}"#,
        &[("aws:epochtime", "1001")],
        true,
    );
    let epoch = r#"{"DateLessThan":{"aws:EpochTime":"2030-01-01T00:00:00Z"}}"#;
    check(epoch, &[("aws:epochtime", "1790000000")], true);
    check(epoch, &[("aws:epochtime", "1900000000")], false);
    let tag = r#"{"StringEquals":{"s3:ExistingObjectTag/Team":"red"}}"#;
    check(tag, &[("s3:existingobjecttag/Team", "red")], true);
    check(tag, &[("s3:existingobjecttag/team", "red")], false);
    check(r#"{"Null":{"s3:x-amz-acl":"true"}}"#, &[], true);
    check(
        r#"{"Null":{"s3:x-amz-acl":"true"}}"#,
        &[("s3:x-amz-acl", "private")],
        false,
    );
    check(
        r#"{"Null":{"s3:x-amz-acl":false}}"#,
        &[("s3:x-amz-acl", "private")],
        true,
    );
    let all = r#"{"ForAllValues:StringEquals":{"s3:RequestObjectTagKeys":["a","b"]}}"#;
    check(
        all,
        &[
            ("s3:requestobjecttagkeys", "a"),
            ("s3:requestobjecttagkeys", "b"),
        ],
        true,
    );
    check(
        all,
        &[
            ("s3:requestobjecttagkeys", "a"),
            ("s3:requestobjecttagkeys", "c"),
        ],
        false,
    );
    check(all, &[], true);
    let any = r#"{"ForAnyValue:StringLike":{"s3:RequestObjectTagKeys":"a*"}}"#;
    check(
        any,
        &[
            ("s3:requestobjecttagkeys", "x"),
            ("s3:requestobjecttagkeys", "ab"),
        ],
        true,
    );
    check(any, &[("s3:requestobjecttagkeys", "x")], false);
    check(any, &[], false);
    // Several keys and operators must all hold.
    let two = r#"{"StringEquals":{"s3:prefix":"a","s3:delimiter":"/"}}"#;
    check(two, &[("s3:prefix", "a"), ("s3:delimiter", "/")], true);
    check(two, &[("s3:prefix", "a")], false);
}

#[test]
fn public_is_what_aws_calls_public() {
    let check = |condition: &str, principal: &str, expected: bool| {
        let policy = one(&format!(
            r#""Effect":"Allow","Principal":{principal},"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*","Condition":{condition}"#
        ));
        assert_eq!(policy.is_public(), expected, "{condition}");
    };
    check("{}", "\"*\"", true);
    check("{}", r#"{"AWS":"*"}"#, true);
    check("{}", r#"{"AWS":"TRAPP"}"#, false);
    check(
        r#"{"IpAddress":{"aws:SourceIp":"192.168.0.0/16"}}"#,
        "\"*\"",
        false,
    );
    check(
        r#"{"IpAddress":{"aws:SourceIp":"0.0.0.0/1"}}"#,
        "\"*\"",
        true,
    );
    check(
        r#"{"NotIpAddress":{"aws:SourceIp":"192.168.0.0/16"}}"#,
        "\"*\"",
        true,
    );
    check(r#"{"StringEquals":{"aws:username":"app"}}"#, "\"*\"", false);
    check(r#"{"StringLike":{"aws:username":"*"}}"#, "\"*\"", true);
    check(r#"{"Bool":{"aws:SecureTransport":"true"}}"#, "\"*\"", true);
    let deny = one(
        r#""Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*""#,
    );
    assert!(!deny.is_public());
}

#[test]
fn what_is_not_understood_is_refused_when_it_is_put() {
    let check = |text: &str, word: &str| {
        let error = bucket_policy(text).unwrap_err();
        assert_eq!(error.code, ErrorCode::MalformedPolicy);
        assert!(error.message.contains(word), "{text}: {}", error.message);
    };
    check("", "Json");
    check("[]", "JSON");
    check("{}", "Statement");
    check(r#"{"Statement":[]}"#, "Statement");
    check(r#"{"Version":"2020","Statement":[]}"#, "version");
    check(r#"{"Statement":[],"Wish":1}"#, "Wish");
    let statement = |fields: &str| format!(r#"{{"Statement":[{{{fields}}}]}}"#);
    let wrong = |fields: &str, word: &str| check(&statement(fields), word);
    wrong(r#""Effect":"Perhaps""#, "effect");
    wrong(
        r#""Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::b""#,
        "Principal",
    );
    wrong(
        r#""Effect":"Allow","Principal":"*","Resource":"arn:aws:s3:::b""#,
        "Action",
    );
    wrong(
        r#""Effect":"Allow","Principal":"*","Action":"s3:*""#,
        "Resource",
    );
    wrong(
        r#""Effect":"Allow","Principal":"*","Action":"s3:Frobnicate","Resource":"arn:aws:s3:::b""#,
        "invalid action",
    );
    wrong(
        r#""Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::other/*""#,
        "invalid resource",
    );
    wrong(
        r#""Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*""#,
        "invalid resource",
    );
    wrong(
        r#""Effect":"Allow","Principal":"*","Action":["s3:GetObject","s3:ListBucket"],"Resource":"arn:aws:s3:::b/*""#,
        "does not apply",
    );
    wrong(
        r#""Effect":"Allow","Principal":{"Service":"x"},"Action":"s3:*","Resource":"arn:aws:s3:::b/*""#,
        "principal",
    );
    wrong(
        r#""Effect":"Allow","Principal":{"AWS":"arn:aws:iam::1:root"},"Action":"s3:*","Resource":"arn:aws:s3:::b/*""#,
        "principal",
    );
    wrong(
        r#""Effect":"Allow","NotPrincipal":{"AWS":"TRAPP"},"Action":"s3:*","Resource":"arn:aws:s3:::b/*""#,
        "NotPrincipal",
    );
    let condition = |text: &str, word: &str| {
        let fields = format!(
            r#""Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::b/*","Condition":{text}"#
        );
        wrong(&fields, word);
    };
    condition(r#"{"StringIs":{"s3:prefix":"a"}}"#, "Condition type");
    condition(r#"{"StringEquals":{"s3:colour":"a"}}"#, "condition key");
    condition(
        r#"{"StringEquals":{"s3:ExistingObjectTag":"a"}}"#,
        "condition key",
    );
    condition(r#"{"IpAddress":{"aws:SourceIp":"house"}}"#, "Invalid value");
    condition(
        r#"{"IpAddress":{"aws:SourceIp":"1.2.3.4/33"}}"#,
        "Invalid value",
    );
    condition(
        r#"{"NumericEquals":{"s3:max-keys":"many"}}"#,
        "Invalid value",
    );
    condition(
        r#"{"StringLike":{"s3:prefix":"${aws:colour}"}}"#,
        "condition key",
    );
    let key = br#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}}"#;
    assert!(
        Policy::parse(key, Whose::Key)
            .unwrap_err()
            .message
            .contains("principal")
    );
    assert!(bucket_policy(&" ".repeat(POLICY_BYTES_MAX + 1)).is_err());
}

#[test]
fn a_key_policy_speaks_of_every_bucket() {
    let text = br#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":["s3:*"],"Resource":["arn:aws:s3:::photos*"]}}"#;
    let policy = Policy::parse(text, Whose::Key).unwrap();
    let ask = |bucket: &str, key: Option<&str>| {
        policy.judge(&Question {
            principal: Some(APP),
            action: "s3:GetObject",
            resource: (bucket, key),
            context: &Vec::<(&str, &str)>::new(),
        })
    };
    assert_eq!(ask("photos", Some("k")), Verdict::Allow);
    assert_eq!(ask("photos-2", Some("k")), Verdict::Allow);
    assert_eq!(ask("other", Some("photos")), Verdict::Silent);
}

#[test]
fn a_policy_that_cannot_be_read_forbids_everything() {
    let policy = Policy::deny_all();
    assert_eq!(
        ask(&policy, Some(APP), "s3:GetObject", Some("k"), &[]),
        Verdict::Deny
    );
    assert_eq!(
        ask(&policy, None, "s3:ListBucket", None, &[]),
        Verdict::Deny
    );
}

proptest! {
    #[test]
    fn no_document_makes_the_reader_panic(text in any::<String>()) {
        let _ = bucket_policy(&text);
    }

    #[test]
    fn no_statement_makes_the_judge_panic(
        principal in "[*a-zA-Z:/\\$\\{\\}]{0,20}",
        action in "s3:[A-Za-z*?]{0,8}",
        resource in "[b*?/\\$\\{\\}a-z:]{0,12}",
        operator in "(ForAnyValue:)?(String|Numeric|Date|Ip|Bool|Null|Arn)(Not)?(Equals|Like|Address|LessThan)?(IfExists)?",
        value in any::<String>(),
        key in any::<String>(),
    ) {
        let text = serde_json::json!({"Statement": {
            "Effect": "Allow", "Principal": {"AWS": principal}, "Action": action,
            "Resource": format!("arn:aws:s3:::b{resource}"),
            "Condition": {operator: {"s3:prefix": [value.clone()]}},
        }});
        if let Ok(policy) = bucket_policy(&text.to_string()) {
            let verdict = ask(&policy, Some(APP), "s3:GetObject", Some(&key), &[("s3:prefix", &value)]);
            prop_assert_ne!(verdict, Verdict::Deny);
            policy.is_public();
        }
    }
}
