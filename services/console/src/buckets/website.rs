//! `bucket website`: makes a bucket a web site in one step, and lets everybody read it where that is wanted.

use super::find;
use crate::report::{Answer, Refusal, Report};
use crate::verbs::{Verbs, odd};
use protocol::metadata::{Bucket, Change, Operation, Reply};
use protocol::settings::{SettingKind, SettingKinds};
use s3_wire::policy::{Policy, Whose};
use s3_wire::settings::{PublicAccessBlock, WebsiteConfiguration};
use serde_json::{Value, json};

/// The name of the statement that lets everybody read.
const SID: &str = "TrousseauPublicWebsite";

/// `bucket website NAME [--index KEY] [--error KEY] [--public]`, or `--none`.
pub(super) async fn website(verbs: &Verbs, name: &str, options: &[&str]) -> Answer {
    if options == ["--none"] {
        let (bucket, _) = find(verbs, name).await?;
        set(verbs, &bucket, SettingKind::Website, None).await?;
        let sentence = format!(
            "bucket {} is no web site any more; who may read it stays as it is",
            bucket.name
        );
        return Ok(Report::Done(
            sentence,
            json!({"bucket": bucket.name, "website": null}),
        ));
    }
    let (mut index, mut error, mut public) = ("index.html", None, false);
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let mut value = || {
            let value = options.next().copied();
            value.ok_or_else(|| Refusal::Words(format!("{option} needs a key")))
        };
        match *option {
            "--index" => index = value()?,
            "--error" => error = Some(value()?.to_owned()),
            "--public" => public = true,
            other => {
                return Err(Refusal::Words(format!(
                    "{other} is none of --index KEY, --error KEY, --public, --none"
                )));
            }
        }
    }
    let website = WebsiteConfiguration::Pages {
        index: index.to_owned(),
        error,
        rules: Vec::new(),
    };
    // What the parser refuses is never stored.
    let document = website.to_xml();
    WebsiteConfiguration::parse(document.as_bytes())
        .map_err(|error| Refusal::Failed(error.message))?;
    let (bucket, kinds) = find(verbs, name).await?;
    if public {
        make_public(verbs, &bucket, kinds).await?;
    }
    set(verbs, &bucket, SettingKind::Website, Some(document)).await?;
    let who = match public {
        true => "everybody may read it",
        false => "it shows what its policy lets everybody get (`--public`: all of it)",
    };
    let names: Vec<&String> = std::iter::once(&bucket.name)
        .chain(&bucket.aliases)
        .collect();
    Ok(Report::Done(
        format!("bucket {} is a web site; {who}", bucket.name),
        json!({"bucket": bucket.name, "names": names, "index": index, "public": public}),
    ))
}

/// The bucket's website configuration for `bucket info`.
pub(super) async fn shown(
    verbs: &Verbs,
    bucket: &Bucket,
    kinds: SettingKinds,
) -> Result<Value, Refusal> {
    let Some(document) = get(verbs, bucket, kinds, SettingKind::Website).await? else {
        return Ok(Value::Null);
    };
    Ok(match WebsiteConfiguration::parse(&document) {
        Ok(WebsiteConfiguration::RedirectAll { host, .. }) => json!({"redirects_to": host}),
        Ok(WebsiteConfiguration::Pages {
            index,
            error,
            rules,
        }) => json!({"index": index, "error": error, "routing_rules": rules.len()}),
        Err(error) => json!({"damaged": error.message}),
    })
}

/// Adds a statement to the bucket's policy that lets everybody get its objects.
async fn make_public(verbs: &Verbs, bucket: &Bucket, kinds: SettingKinds) -> Result<(), Refusal> {
    let block = get(verbs, bucket, kinds, SettingKind::PublicAccessBlock).await?;
    let blocked = block.is_some_and(|block| {
        PublicAccessBlock::parse(&block).map_or(true, |block| {
            block.block_public_policy || block.restrict_public_buckets
        })
    });
    if blocked {
        return Err(Refusal::Failed(format!(
            "bucket {} has a PublicAccessBlock; remove it first (`aws s3api delete-public-access-block`)",
            bucket.name
        )));
    }
    let before = get(verbs, bucket, kinds, SettingKind::Policy).await?;
    let policy = with_statement(before.as_deref(), &bucket.name)?;
    set(verbs, bucket, SettingKind::Policy, Some(policy)).await
}

/// A bucket's policy with the statement, in place of one of the same name.
fn with_statement(before: Option<&[u8]>, bucket: &str) -> Result<String, Refusal> {
    let unreadable = || {
        Refusal::Failed(format!(
            "bucket {bucket} has a policy that cannot be read; put it anew"
        ))
    };
    let mut policy: Value = match before {
        Some(text) => serde_json::from_slice(text).map_err(|_| unreadable())?,
        None => json!({"Version": "2012-10-17"}),
    };
    let document = policy.as_object_mut().ok_or_else(unreadable)?;
    let mut statements = match document.remove("Statement") {
        Some(Value::Array(statements)) => statements,
        Some(one) => vec![one],
        None => Vec::new(),
    };
    statements.retain(|statement| statement.get("Sid").and_then(Value::as_str) != Some(SID));
    statements.push(json!({
        "Sid": SID, "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": format!("arn:aws:s3:::{bucket}/*"),
    }));
    document.insert("Statement".into(), statements.into());
    let text = policy.to_string();
    Policy::parse(text.as_bytes(), Whose::Bucket(bucket))
        .map_err(|error| Refusal::Failed(error.message))?;
    Ok(text)
}

async fn get(
    verbs: &Verbs,
    bucket: &Bucket,
    kinds: SettingKinds,
    kind: SettingKind,
) -> Result<Option<Vec<u8>>, Refusal> {
    if !kinds.has(kind) {
        return Ok(None);
    }
    let operation = Operation::GetBucketSetting {
        bucket: bucket.id,
        kind,
    };
    match verbs.read(operation).await? {
        Reply::Setting(document) => Ok(document),
        _ => Err(odd("metadata")),
    }
}

async fn set(
    verbs: &Verbs,
    bucket: &Bucket,
    kind: SettingKind,
    document: Option<String>,
) -> Result<(), Refusal> {
    let change = Change::SetBucketSetting {
        name: bucket.name.clone(),
        bucket: bucket.id,
        kind,
        document: document.map(String::into_bytes),
    };
    verbs.change(change).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test that fails may panic"
    )]
    use super::*;

    #[test]
    fn a_policy_keeps_its_statements_and_gets_one_more_only_once() {
        let text = |answer: Result<String, Refusal>| answer.map_err(|_| "refused").unwrap();
        let first = text(with_statement(None, "site"));
        let own = r#"{"Version":"2012-10-17","Statement":{"Sid":"mine","Effect":"Deny","Principal":"*","Action":"s3:DeleteObject","Resource":"arn:aws:s3:::site/*"}}"#;
        let second = text(with_statement(Some(own.as_bytes()), "site"));
        for again in [&first, &second] {
            assert_eq!(&text(with_statement(Some(again.as_bytes()), "site")), again);
        }
        let second: Value = serde_json::from_str(&second).unwrap();
        assert_eq!(second["Statement"][0]["Sid"], "mine");
        assert_eq!(second["Statement"][1]["Effect"], "Allow");
        assert!(with_statement(Some(b"[]"), "site").is_err());
    }
}
