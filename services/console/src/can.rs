//! `caps --can A B`: from the manifests alone, a node's or those that the command line has read.

use crate::report::{Answer, Refusal, Report};
use manifests::{Policy, Reach};
use serde_json::json;

/// The whole answer: exit status and text. 0 for yes and for no, 1 for names that no manifest mentions.
pub fn can(policy: &Policy, from: &str, to: &str, json: bool) -> (u8, String) {
    Refusal::rendered(reach(policy, from, to), json)
}

pub(crate) fn reach(policy: &Policy, from: &str, to: &str) -> Answer {
    let reach = policy.can(from, to);
    let facts = match &reach {
        Reach::Path(steps) => json!({"from": from, "to": to, "can": true, "path": steps}),
        Reach::Never(all) => json!({"from": from, "to": to, "can": false, "reachable": all}),
        Reach::Unknown(_) => return Err(Refusal::Failed(reach.to_string().trim_end().to_owned())),
    };
    let text = format!("can {from} reach {to}? {reach}");
    Ok(Report::Done(text.trim_end().to_owned(), facts))
}
