//! `caps --can A B`: from the manifests alone, without a node.

use manifests::{BUILT_IN, Policy, Reach};
use std::process::ExitCode;

/// Answers whether `from` can ever reach `to`: exit status 0 for yes and for no, 1 for names that no manifest mentions.
pub(crate) fn can(from: &str, to: &str, json: bool) -> ExitCode {
    let reach = match Policy::parse(BUILT_IN.iter().copied()) {
        Ok(policy) => policy.can(from, to),
        Err(error) => {
            eprintln!("trousseau: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Reach::Unknown(_) = reach {
        eprint!("trousseau: {reach}");
        return ExitCode::FAILURE;
    }
    if !json {
        return crate::words::print(&format!("can {from} reach {to}? {reach}"));
    }
    let document = match &reach {
        Reach::Path(steps) => {
            serde_json::json!({"from": from, "to": to, "can": true, "path": steps})
        }
        Reach::Never(all) => {
            serde_json::json!({"from": from, "to": to, "can": false, "reachable": all})
        }
        Reach::Unknown(_) => return ExitCode::FAILURE,
    };
    crate::words::print(&format!("{document}\n"))
}
