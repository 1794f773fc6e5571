//! Buckets, as their operator sees them: made, listed and deleted, their further names, their quotas, and what makes one a web site.

mod website;

use crate::access::random;
use crate::report::{Answer, Refusal, Report};
use crate::verbs::{Verbs, odd};
use protocol::block::HashKey;
use protocol::metadata::{Bucket, BucketUsage, Change, Operation, PAGE_MAX, Quota, Reply};
use protocol::settings::SettingKinds;
use serde_json::{Value, json};

/// All forms of the verb, for those who say another.
const FORMS: &str = "bucket create NAME | bucket list | bucket info NAME | bucket delete NAME | bucket alias add|remove NAME ALIAS | \
                     bucket quota NAME [--max-size SIZE] [--max-objects N] [--none] | \
                     bucket website NAME [--index KEY] [--error KEY] [--public] | bucket website NAME --none";

/// What stands behind `bucket`.
pub(crate) async fn bucket(verbs: &Verbs, words: &[&str]) -> Answer {
    match words {
        ["create", name] => create(verbs, name).await,
        ["list"] => list(verbs).await,
        ["info", name] => info(verbs, name).await,
        ["delete", name] => delete(verbs, name).await,
        ["alias", "add", name, alias] => add_alias(verbs, name, alias).await,
        ["alias", "remove", name, alias] => remove_alias(verbs, name, alias).await,
        ["quota", name, options @ ..] => set_quota(verbs, name, options).await,
        ["website", name, options @ ..] => website::website(verbs, name, options).await,
        _ => Err(Refusal::Words(FORMS.into())),
    }
}

fn check_name(name: &str) -> Result<(), Refusal> {
    s3_wire::names::check_bucket_name(name)
        .map_err(|error| Refusal::Failed(format!("{name:?}: {}", error.message)))
}

async fn create(verbs: &Verbs, name: &str) -> Answer {
    check_name(name)?;
    let mut hash_key = [0; 32];
    random(&mut hash_key)?;
    let operation = Operation::CreateBucket {
        name: name.into(),
        owner: String::new(),
        hash_key: HashKey(hash_key),
        locked: false,
    };
    verbs.change(operation).await?;
    Ok(Report::Done(
        format!(
            "bucket {name} is created; `trousseau key allow KEY --bucket {name} --read --write` opens it"
        ),
        json!({"created": name}),
    ))
}

async fn delete(verbs: &Verbs, name: &str) -> Answer {
    let operation = Operation::DeleteBucket { name: name.into() };
    verbs.change(operation).await?;
    Ok(Report::Done(
        format!("bucket {name} is deleted"),
        json!({"deleted": name}),
    ))
}

async fn add_alias(verbs: &Verbs, name: &str, alias: &str) -> Answer {
    check_name(alias)?;
    let change = Change::AddAlias {
        name: name.into(),
        alias: alias.into(),
    };
    verbs.change(change).await?;
    Ok(Report::Done(
        format!("{alias} is bucket {name}, too"),
        json!({"bucket": name, "alias": alias}),
    ))
}

async fn remove_alias(verbs: &Verbs, name: &str, alias: &str) -> Answer {
    let change = Change::RemoveAlias {
        name: name.into(),
        alias: alias.into(),
    };
    verbs.change(change).await?;
    Ok(Report::Done(
        format!("{alias} is no name of bucket {name} any more"),
        json!({"bucket": name, "removed": alias}),
    ))
}

/// What is said of a quota; what is not said stays.
#[derive(Default)]
struct Said {
    none: bool,
    bytes_max: Option<u64>,
    objects_max: Option<u64>,
}

impl Said {
    fn parse(options: &[&str]) -> Result<Self, Refusal> {
        let mut said = Self::default();
        let mut options = options.iter();
        while let Some(option) = options.next() {
            let mut value = || {
                let value = options.next().copied();
                value.ok_or_else(|| Refusal::Words(format!("{option} needs a value")))
            };
            match *option {
                "--none" => said.none = true,
                "--max-size" => {
                    let size = protocol::verbs::size(value()?);
                    said.bytes_max =
                        Some(size.map_err(|why| Refusal::Words(format!("{option} {why}")))?);
                }
                "--max-objects" => {
                    let text = value()?;
                    let wrong = |_| Refusal::Words(format!("{option} {text:?}: expected a number"));
                    said.objects_max = Some(text.parse().map_err(wrong)?);
                }
                other => {
                    return Err(Refusal::Words(format!(
                        "{other} is none of --max-size SIZE, --max-objects N, --none"
                    )));
                }
            }
        }
        Ok(said)
    }

    fn is_nothing(&self) -> bool {
        !self.none && self.bytes_max.is_none() && self.objects_max.is_none()
    }
}

/// Sets a quota, or shows it where nothing is said.
async fn set_quota(verbs: &Verbs, name: &str, options: &[&str]) -> Answer {
    let said = Said::parse(options)?;
    let (bucket, _) = find(verbs, name).await?;
    let before = match said.none {
        true => Quota::default(),
        false => usage(verbs, &bucket).await?.quota,
    };
    let quota = Quota {
        objects_max: said.objects_max.or(before.objects_max),
        bytes_max: said.bytes_max.or(before.bytes_max),
    };
    if !said.is_nothing() {
        let change = Change::SetQuota {
            bucket: bucket.id,
            quota,
        };
        verbs.change(change).await?;
    }
    let shown =
        |max: Option<u64>| max.map_or("any number of".into(), |max| format!("at most {max}"));
    Ok(Report::Done(
        format!(
            "bucket {} may hold {} objects and {} bytes",
            bucket.name,
            shown(quota.objects_max),
            shown(quota.bytes_max)
        ),
        json!({"bucket": bucket.name, "max_objects": quota.objects_max, "max_bytes": quota.bytes_max}),
    ))
}

/// The bucket of that name or alias, and which settings it has.
async fn find(verbs: &Verbs, name: &str) -> Result<(Bucket, SettingKinds), Refusal> {
    let operation = Operation::Authorize {
        access_key: None,
        bucket: Some(name.into()),
    };
    match verbs.read(operation).await? {
        Reply::Authorized {
            bucket: Some(bucket),
            documents,
            ..
        } => Ok((bucket, documents.kinds)),
        Reply::Authorized { .. } => Err(Refusal::Failed(format!(
            "no bucket {name}; see `trousseau bucket list`"
        ))),
        _ => Err(odd("metadata")),
    }
}

async fn usage(verbs: &Verbs, bucket: &Bucket) -> Result<BucketUsage, Refusal> {
    let operation = Operation::GetUsage { bucket: bucket.id };
    match verbs.read(operation).await? {
        Reply::Usage(usage) => Ok(usage),
        _ => Err(odd("metadata")),
    }
}

fn facts(bucket: &Bucket, usage: &BucketUsage) -> Value {
    json!({
        "name": bucket.name, "aliases": bucket.aliases, "objects": usage.objects, "bytes": usage.bytes,
        "max_objects": usage.quota.objects_max, "max_bytes": usage.quota.bytes_max, "owner": bucket.owner,
        "created_ms": bucket.created_ms,
    })
}

async fn info(verbs: &Verbs, name: &str) -> Answer {
    let (bucket, kinds) = find(verbs, name).await?;
    let usage = usage(verbs, &bucket).await?;
    let mut facts = facts(&bucket, &usage);
    let website = website::shown(verbs, &bucket, kinds).await?;
    if let Some(facts) = facts.as_object_mut() {
        facts.insert("versioned".into(), bucket.versioned.into());
        facts.insert("website".into(), website);
    }
    Ok(Report::Facts(facts))
}

async fn list(verbs: &Verbs) -> Answer {
    let mut rows: Vec<Value> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let operation = Operation::ListBuckets {
            access_key: None,
            after: after.take(),
            limit: PAGE_MAX,
        };
        let Reply::Buckets { buckets, more } = verbs.read(operation).await? else {
            return Err(odd("metadata"));
        };
        after = buckets.last().map(|(bucket, _)| bucket.name.clone());
        rows.extend(buckets.iter().map(|(bucket, usage)| facts(bucket, usage)));
        if !more || after.is_none() {
            let columns = &[
                "name",
                "aliases",
                "objects",
                "bytes",
                "max_objects",
                "max_bytes",
                "owner",
            ];
            return Ok(Report::Table(columns, rows));
        }
    }
}
