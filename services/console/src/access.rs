//! Access keys, as their operator sees them.

use crate::report::{Answer, Refusal, Report};
use crate::verbs::{Daemon, Verbs, odd};
use protocol::inspect::{InspectAnswer, InspectCall};
use protocol::metadata::{AccessKey, Change, Operation, PAGE_MAX, Reply, Rights};
use rustix::rand::{GetRandomFlags, getrandom};
use serde_json::{Value, json};

/// The longest name of a key in bytes.
const KEY_NAME_BYTES_MAX: usize = 64;

/// The root key, made if there is none. For the launcher, which shows it to whoever started the node.
pub(crate) async fn first_key(verbs: &Verbs) -> Answer {
    let fresh = fresh_key("root", true, true)?;
    let Reply::Key(key) = verbs.change(Change::FirstKey { key: fresh }).await? else {
        return Err(odd("metadata"));
    };
    let InspectAnswer::Node(node) = verbs.inspect(Daemon::Init, InspectCall::Node).await? else {
        return Err(odd("init"));
    };
    Ok(Report::Facts(
        json!({"access_key": key.access_key, "secret_key": key.secret_key, "region": node.region}),
    ))
}

/// The root key that the node's owner wrote down, made if it is not there. Harmless to repeat.
pub(crate) async fn given_key(
    verbs: &Verbs,
    access_key: &str,
    secret_key: &str,
) -> Result<(), Refusal> {
    let all = all_keys(verbs).await?;
    if let Some((key, _)) = all.iter().find(|(key, _)| key.access_key == access_key) {
        if !key.root {
            runtime::warn!("key {access_key} of node.toml is not a root key, and stays what it is");
        }
        return Ok(());
    }
    let key = AccessKey {
        access_key: access_key.into(),
        secret_key: secret_key.into(),
        ..fresh_key(access_key, true, true)?
    };
    // Where there is no key yet, this one becomes the first: what `first-key` shows.
    let operation = if all.is_empty() {
        Change::FirstKey { key }
    } else {
        Change::CreateKey { key }
    };
    verbs.change(operation).await?;
    runtime::info!("key {access_key} of node.toml is made");
    Ok(())
}

/// `key create NAME [--create-buckets]`, `list`, `delete KEY`, `allow|deny KEY --bucket B [--read] [--write] [--owner]`.
pub(crate) async fn key(verbs: &Verbs, words: &[&str]) -> Answer {
    match words {
        ["create", name] => create_key(verbs, name, false).await,
        ["create", name, "--create-buckets"] | ["create", "--create-buckets", name] => create_key(verbs, name, true).await,
        ["list"] => list_keys(verbs).await,
        ["delete", access_key] => {
            verbs.change(Change::DeleteKey { access_key: (*access_key).into() }).await?;
            Ok(Report::Done(format!("key {access_key} is deleted"), json!({"deleted": access_key})))
        }
        ["allow", access_key, options @ ..] => set_rights(verbs, access_key, options, true).await,
        ["deny", access_key, options @ ..] => set_rights(verbs, access_key, options, false).await,
        _ => Err(Refusal::Words(
            "key create NAME [--create-buckets] | key list | key delete KEY | key allow|deny KEY --bucket B [--read] [--write] [--owner] | key policy KEY [--file F | --none]".into(),
        )),
    }
}

async fn create_key(verbs: &Verbs, name: &str, create_buckets: bool) -> Answer {
    let plain = |c: char| !c.is_control();
    if name.is_empty()
        || name.len() > KEY_NAME_BYTES_MAX
        || name.starts_with("--")
        || !name.chars().all(plain)
    {
        return Err(Refusal::Words(format!(
            "{name:?} is not a name of 1 to {KEY_NAME_BYTES_MAX} bytes"
        )));
    }
    let fresh = fresh_key(name, false, create_buckets)?;
    let Reply::Key(key) = verbs.change(Change::CreateKey { key: fresh }).await? else {
        return Err(odd("metadata"));
    };
    let sentence = format!(
        "key {name}\n  access key  {}\n  secret key  {}\nThe secret is shown this once only.",
        key.access_key, key.secret_key
    );
    let facts = json!({
        "name": key.name, "access_key": key.access_key, "secret_key": key.secret_key, "create_buckets": key.create_buckets,
    });
    Ok(Report::Done(sentence, facts))
}

async fn list_keys(verbs: &Verbs) -> Answer {
    let all = all_keys(verbs).await?;
    let rows = all.into_iter().map(|(key, rights)| {
        let rights: Vec<Value> = rights
            .into_iter()
            .map(|(bucket, rights)| json!({"bucket": bucket, "read": rights.read, "write": rights.write, "owner": rights.owner}))
            .collect();
        let short: Vec<String> = rights.iter().map(short_rights).collect();
        json!({
            "access_key": key.access_key, "name": key.name, "root": key.root, "create_buckets": key.create_buckets,
            "created_ms": key.created_ms, "rights": rights, "may": short.join(" "),
        })
    });
    Ok(Report::Table(
        &["access_key", "name", "root", "create_buckets", "may"],
        rows.collect(),
    ))
}

/// `bucket:rwo`.
fn short_rights(rights: &Value) -> String {
    let has = |name: &str| rights.get(name).and_then(Value::as_bool).unwrap_or(false);
    let letters = [("read", 'r'), ("write", 'w'), ("owner", 'o')];
    let letters: String = letters
        .into_iter()
        .map(|(name, letter)| if has(name) { letter } else { '-' })
        .collect();
    format!(
        "{}:{letters}",
        rights
            .get("bucket")
            .and_then(Value::as_str)
            .unwrap_or_default()
    )
}

async fn all_keys(verbs: &Verbs) -> Result<Vec<(AccessKey, Vec<(String, Rights)>)>, Refusal> {
    let mut all: Vec<(AccessKey, Vec<(String, Rights)>)> = Vec::new();
    loop {
        let after = all.last().map(|(key, _)| key.access_key.clone());
        match verbs
            .read(Operation::ListKeys {
                after,
                limit: PAGE_MAX,
            })
            .await?
        {
            Reply::Keys { keys, more } => {
                let ended = keys.is_empty() || !more;
                all.extend(keys);
                if ended {
                    return Ok(all);
                }
            }
            _ => return Err(odd("metadata")),
        }
    }
}

/// `allow` adds to the rights there are, `deny` takes from them.
async fn set_rights(verbs: &Verbs, access_key: &str, options: &[&str], value: bool) -> Answer {
    let (mut bucket, mut named) = (None, Rights::default());
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match *option {
            "--bucket" => bucket = options.next(),
            "--read" => named.read = true,
            "--write" => named.write = true,
            "--owner" => named.owner = true,
            other => {
                return Err(Refusal::Words(format!(
                    "{other} is none of --bucket B, --read, --write, --owner"
                )));
            }
        }
    }
    let (Some(bucket), true) = (bucket, named != Rights::default()) else {
        return Err(Refusal::Words(
            "name a bucket (--bucket B) and at least one of --read, --write, --owner".into(),
        ));
    };
    let _turn = verbs.changing_rights.lock().await;
    let all = all_keys(verbs).await?;
    let Some((_, held)) = all
        .into_iter()
        .find(|(key, _)| key.access_key == access_key)
    else {
        return Err(Refusal::Failed(format!(
            "no access key {access_key}; see `trousseau key list`"
        )));
    };
    let held = held
        .into_iter()
        .find(|(name, _)| name == bucket)
        .map(|(_, rights)| rights)
        .unwrap_or_default();
    let change = |held: bool, named: bool| if named { value } else { held };
    let rights = Rights {
        read: change(held.read, named.read),
        write: change(held.write, named.write),
        owner: change(held.owner, named.owner),
    };
    let change = Change::SetRights {
        access_key: access_key.into(),
        bucket: (*bucket).into(),
        rights,
    };
    verbs.change(change).await?;
    let facts = json!({"access_key": access_key, "bucket": bucket, "read": rights.read, "write": rights.write, "owner": rights.owner});
    Ok(Report::Done(
        format!("{access_key} may now {}", short_rights(&facts)),
        facts,
    ))
}

/// In AWS's shape: 20 characters of capital letters and digits, 40 of those, small letters, `-` and `_`.
fn fresh_key(name: &str, root: bool, create_buckets: bool) -> Result<AccessKey, Refusal> {
    const CAPITALS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"; // 32: each character is 5 even bits
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"; // 64
    let mut bytes = [0; 58];
    random(&mut bytes)?;
    let draw = |bytes: &[u8], from: &[u8]| -> String {
        bytes
            .iter()
            .filter_map(|byte| from.get(usize::from(*byte) % from.len()))
            .map(|byte| char::from(*byte))
            .collect()
    };
    let (short, long) = bytes.split_at(18);
    Ok(AccessKey {
        access_key: format!("TR{}", draw(short, CAPITALS)),
        secret_key: draw(long, LETTERS),
        name: name.into(),
        root,
        create_buckets,
        created_ms: runtime::unix_ms(),
    })
}

/// Fills `bytes` with what nobody can guess.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), Refusal> {
    match getrandom(&mut *bytes, GetRandomFlags::empty()) {
        Ok(count) if count == bytes.len() => Ok(()),
        Ok(_) => Err(Refusal::Failed("getrandom gave too little".into())),
        Err(errno) => Err(Refusal::Failed(format!("getrandom: {errno}"))),
    }
}
