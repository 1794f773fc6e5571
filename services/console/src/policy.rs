//! The policy of an access key: what an application may do, said by the operator.

use crate::report::{Answer, Refusal, Report};
use crate::verbs::{Verbs, odd};
use protocol::metadata::{Change, Operation, Reply};
use s3_wire::policy::{Policy, Whose};
use serde_json::{Value, json};

/// `key policy KEY` shows, `--file F` sets, `--none` removes.
pub(crate) async fn key_policy(verbs: &Verbs, words: &[&str], input: Option<&str>) -> Answer {
    match (words, input) {
        ([access_key], None) => show(verbs, access_key).await,
        ([access_key, "--file", _], Some(text)) => {
            Policy::parse(text.as_bytes(), Whose::Key)
                .map_err(|error| Refusal::Failed(format!("the policy: {}", error.message)))?;
            set(verbs, access_key, Some(text.to_owned())).await?;
            Ok(Report::Done(
                format!(
                    "{access_key} may do what the policy says; its rights (key allow) do not count while it has one"
                ),
                json!({"access_key": access_key, "policy": true}),
            ))
        }
        ([access_key, "--none"], None) => {
            set(verbs, access_key, None).await?;
            Ok(Report::Done(
                format!("{access_key} has no policy; its rights (key list) count again"),
                json!({"access_key": access_key, "policy": false}),
            ))
        }
        _ => Err(Refusal::Words(
            "key policy KEY | key policy KEY --file F | key policy KEY --none".into(),
        )),
    }
}

async fn show(verbs: &Verbs, access_key: &str) -> Answer {
    let operation = Operation::GetKeyPolicy {
        access_key: access_key.into(),
    };
    let Reply::Setting(policy) = verbs.read(operation).await? else {
        return Err(odd("metadata"));
    };
    let Some(policy) = policy else {
        return Ok(Report::Done(
            format!("{access_key} has no policy; `trousseau key list` shows its rights"),
            Value::Null,
        ));
    };
    let text = String::from_utf8_lossy(&policy).into_owned();
    let facts = serde_json::from_str(&text).unwrap_or(Value::String(text.clone()));
    Ok(Report::Done(text, facts))
}

async fn set(verbs: &Verbs, access_key: &str, policy: Option<String>) -> Result<(), Refusal> {
    let change = Change::SetKeyPolicy {
        access_key: access_key.into(),
        policy,
    };
    match verbs.change(change).await? {
        Reply::Done => Ok(()),
        _ => Err(odd("metadata")),
    }
}
