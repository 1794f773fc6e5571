//! The nodes of the cluster, as their operator sees them: who is there, who is invited, who is put out.

use crate::report::{Answer, Refusal, Report};
use crate::schedule;
use crate::verbs::{Verbs, gone, odd};
use crate::{leaving, status};
use protocol::cluster::{INVITATION_MS, NodeEntry, Roster, Standing};
use protocol::membership::{Member, MemberState, MembershipAnswer, MembershipCall};
use protocol::metadata::{INVITATION_MS_MAX, INVITATION_MS_MIN, Operation, Reply};
use serde_json::{Value, json};

/// Everybody, as this node sees them.
pub(crate) async fn members(verbs: &Verbs) -> Answer {
    let call = MembershipCall::Members;
    let (answer, _) = verbs
        .membership
        .repeat(&call)
        .await
        .map_err(|error| gone("membership", &error))?;
    let MembershipAnswer::Members(members) = answer else {
        return Err(odd("membership"));
    };
    let known = schedule::known(verbs).await;
    let draining = known.map_or_else(Vec::new, |known| known.draining);
    let columns = &[
        "name", "zone", "state", "draining", "address", "capacity", "version", "services",
    ];
    let rows = members.iter().map(|member| row(member, &draining));
    Ok(Report::Table(columns, rows.collect()))
}

fn row(member: &Member, draining: &[String]) -> Value {
    let state = match member.state {
        MemberState::Alive => "alive",
        MemberState::Suspect => "suspect",
        MemberState::Gone => "gone",
        MemberState::Left => "left",
    };
    // Where other nodes reach it; a node that is alone has but its gossip.
    let address = match member.mesh.as_str() {
        "" => &member.address,
        mesh => mesh,
    };
    json!({
        "name": member.name, "zone": member.zone, "state": state, "address": address, "gossip": member.address, "mesh": member.mesh,
        "capacity_bytes": member.capacity_bytes, "capacity": amount(member.capacity_bytes), "version": member.version,
        "draining": draining.contains(&member.name),
        "services": member.services, "incarnation": member.incarnation, "key": member.key.to_string(),
    })
}

/// Bytes for a person, in the largest unit of which there is one.
pub(crate) fn amount(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.iter().find(|(_, bits)| bytes >> bits > 0);
    match unit {
        Some((unit, bits)) => {
            let tenths = (u128::from(bytes) * 10) >> bits;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => bytes.to_string(),
    }
}

/// `invite [--for 24h]`: a token, and what to type on the new node.
pub(crate) async fn invite(verbs: &Verbs, words: &[&str]) -> Answer {
    let for_ms = match words {
        [] => INVITATION_MS,
        ["--for", time] => duration_ms(time).map_err(Refusal::Words)?,
        _ => return Err(Refusal::Words("invite [--for 24h]".into())),
    };
    let Reply::Invited { token, expires_ms } = verbs.change(Operation::Invite { for_ms }).await?
    else {
        return Err(odd("metadata"));
    };
    let command = format!("trousseau up --join {token} --mesh ADDRESS:PORT --zone ZONE");
    let sentence = format!(
        "{token}\n\nOn the new node, with its own address that the other nodes reach and the zone that it stands in:\n  {command}\n\
         or in its node.toml: [cluster] with join = \"…\" and mesh = \"ADDRESS:PORT\".\n\
         The token admits one node, within {}; whoever has it can join, so send it as you would a password.",
        span(for_ms)
    );
    let facts = json!({"token": token, "expires_ms": expires_ms, "command": command});
    Ok(Report::Done(sentence, facts))
}

/// `node revoke NAME`, at once; `node leave NAME`, when nothing depends on it any more; `node drain NAME` and `node undrain NAME`.
pub(crate) async fn node(verbs: &Verbs, words: &[&str]) -> Answer {
    let (name, standing, forced) = match words {
        ["revoke", name] => (name, Standing::Revoked, true),
        ["leave", name] => (name, Standing::Left, false),
        ["leave", name, "--force"] | ["leave", "--force", name] => (name, Standing::Left, true),
        ["drain", name] => return schedule::drain(verbs, name, true).await,
        ["undrain", name] => return schedule::drain(verbs, name, false).await,
        _ => {
            let usage = "node revoke NAME | node leave NAME [--force] | node drain NAME | node undrain NAME";
            return Err(Refusal::Words(usage.into()));
        }
    };
    let node = entry_of(verbs, name).await?;
    let key = node.key;
    if !forced && node.standing == Standing::Member {
        let health = status::health(verbs).await?;
        if let Some(why) = leaving::reason_to_stay(&health, &key, name) {
            return Err(Refusal::Failed(why));
        }
    }
    verbs
        .change(Operation::SetStanding { key, standing })
        .await?;
    let (sentence, word) = match standing {
        Standing::Revoked => (
            format!(
                "{name} is revoked: no node speaks with it any more, and it can only come back with a new identity; `trousseau status` says what is to be repaired"
            ),
            "revoked",
        ),
        _ => (
            format!("{name} has left: it can come back by a new invitation"),
            "left",
        ),
    };
    let facts = json!({"name": name, "key": key.to_string(), "standing": word});
    Ok(Report::Done(sentence, facts))
}

/// The node that is called so.
pub(crate) async fn entry_of(verbs: &Verbs, name: &str) -> Result<NodeEntry, Refusal> {
    let roster = known(verbs).await?;
    let node = named(&roster, name).ok_or_else(|| unknown(&roster, name))?;
    Ok(node.clone())
}

/// Who belongs, where that has to be known.
pub(crate) async fn known(verbs: &Verbs) -> Result<Roster, Refusal> {
    let roster = roster(verbs).await?;
    roster.ok_or_else(|| Refusal::Failed("this node belongs to no cluster yet".into()))
}

/// Of a name that nobody has.
pub(crate) fn unknown(roster: &Roster, name: &str) -> Refusal {
    let names: Vec<&str> = roster.members().map(|node| node.name.as_str()).collect();
    Refusal::Failed(format!(
        "no node is named {name:?}; there are {}",
        names.join(", ")
    ))
}

/// Who belongs; `None`: this node belongs to no cluster yet.
pub(crate) async fn roster(verbs: &Verbs) -> Result<Option<Roster>, Refusal> {
    match verbs.read(Operation::Roster).await? {
        Reply::Roster(roster) => Ok(roster),
        _ => Err(odd("metadata")),
    }
}

/// The node that is called so: one that belongs, or the last that did. A name may have been given again.
fn named<'a>(roster: &'a Roster, name: &str) -> Option<&'a NodeEntry> {
    let mut others = roster.nodes.iter().rev();
    roster
        .named(name)
        .or_else(|| others.find(|node| node.name == name))
}

/// A time as a person writes it: `30m`, `24h`, `7d`.
fn duration_ms(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!(
            "{text:?} is not a time for an invitation: write 30m, 24h or 7d, from {} to {}",
            span(INVITATION_MS_MIN),
            span(INVITATION_MS_MAX)
        )
    };
    let units = [("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let found = units.into_iter().find_map(|(unit, ms)| {
        let number = text.strip_suffix(unit)?;
        let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let number: u64 = plain.then(|| number.parse().ok())??;
        number.checked_mul(ms)
    });
    let bounds = INVITATION_MS_MIN..=INVITATION_MS_MAX;
    found.filter(|ms| bounds.contains(ms)).ok_or_else(wrong)
}

/// Milliseconds for a person, in the largest unit that divides them.
fn span(ms: u64) -> String {
    match ms {
        ms if ms % 86_400_000 == 0 => format!("{} d", ms / 86_400_000),
        ms if ms % 3_600_000 == 0 => format!("{} h", ms / 3_600_000),
        ms => format!("{} min", ms / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them_within_their_bounds() {
        for (text, expected) in [
            ("1m", Some(60_000)),
            ("90m", Some(5_400_000)),
            ("24h", Some(INVITATION_MS)),
            ("30d", Some(INVITATION_MS_MAX)),
            ("31d", None),
            ("0m", None),
            ("h", None),
            ("24", None),
            ("-1h", None),
            ("+1h", None),
            ("1.5h", None),
            ("99999999999999999999d", None),
            ("9999999999999999d", None),
            ("", None),
        ] {
            assert_eq!(duration_ms(text).ok(), expected, "{text}");
        }
        assert_eq!(span(INVITATION_MS), "1 d");
        assert_eq!(span(5_400_000), "90 min");
    }

    #[test]
    fn amounts_are_shown_in_a_unit_that_people_know() {
        for (bytes, expected) in [
            (0, "0"),
            (1_023, "1023"),
            (1_536, "1.5 KiB"),
            (500_000_000_000, "465.6 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(amount(bytes), expected);
        }
    }
}
