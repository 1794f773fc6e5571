//! `status` of a cluster: every node of every zone, what is unsafe now, and what to do. A node that is alone keeps to [`crate::node::status`].

use crate::node;
use crate::nodes::amount;
use crate::report::{Answer, Refusal, Report};
use crate::safety::{self, Finding, Level, Verdict};
use crate::verbs::{Verbs, odd};
use protocol::cluster::{NodeEntry, Standing};
use protocol::health::{Health, NodeReport, Sealing};
use protocol::membership::{Member, MemberState, MembershipAnswer, MembershipCall};
use protocol::metadata::{HEALTH_WITHIN_MS, Operation, Reply};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// How long metadata may take: what it grants the other nodes, and a moment.
const METADATA_WITHIN: Duration = Duration::from_millis(HEALTH_WITHIN_MS + 1_000);
/// How long membership may take.
const MEMBERSHIP_WITHIN: Duration = Duration::from_secs(1);

const COLUMNS: &[&str] = &[
    "zone",
    "node",
    "state",
    "address",
    "disk",
    "capacity",
    "leads",
    "behind",
    "last_scrub",
    "links",
    "version",
    "heard",
];

/// `status`.
pub(crate) async fn status(verbs: &Verbs) -> Answer {
    let (own, members) = tokio::join!(node::status(verbs), members(verbs));
    let own = own?;
    // Alone, or not to be found out: then what this node says of itself is all.
    if members.len() < 2 {
        return Ok(own);
    }
    let Report::Facts(mut facts) = own else {
        return Ok(own);
    };
    let (parts, cluster) = match health(verbs).await {
        Ok(health) => page(&health, &members),
        Err(Refusal::Failed(why) | Refusal::Words(why)) => {
            let line = format!("How the cluster is cannot be told: {why}");
            (vec![Report::Lines(vec![line])], json!({"unknown": why}))
        }
    };
    let own = Report::Facts(facts.clone());
    if let Some(facts) = facts.as_object_mut() {
        facts.insert("cluster".into(), cluster);
    }
    let heading = Report::Lines(vec![String::new(), "This node:".into()]);
    let parts = parts.into_iter().chain([heading, own]).collect();
    Ok(Report::Page(parts, facts))
}

async fn members(verbs: &Verbs) -> Vec<Member> {
    let call = MembershipCall::Members;
    match timeout(MEMBERSHIP_WITHIN, verbs.membership.repeat(&call)).await {
        Ok(Ok((MembershipAnswer::Members(members), _))) => members,
        _ => Vec::new(),
    }
}

/// What metadata knows of the cluster, within a bounded time.
pub(crate) async fn health(verbs: &Verbs) -> Result<Health, Refusal> {
    match timeout(METADATA_WITHIN, verbs.read(Operation::Health)).await {
        Ok(Ok(Reply::Health(health))) => Ok(*health),
        Ok(Ok(_)) => Err(odd("metadata")),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Refusal::Failed(
            "metadata of this node does not answer: see `trousseau services` and `trousseau logs metadata`".into(),
        )),
    }
}

fn page(health: &Health, members: &[Member]) -> (Vec<Report>, Value) {
    let verdict = safety::judge(health);
    let rows = rows(health, members);
    let head = format!(
        "The cluster is {}. {}",
        verdict.level.as_str(),
        verdict.summary
    );
    let mut parts = vec![
        Report::Lines(vec![head, String::new()]),
        Report::Table(COLUMNS, rows.clone()),
    ];
    let lines = lines(&verdict);
    if !lines.is_empty() {
        parts.push(Report::Lines(lines));
    }
    let findings: Vec<Value> = verdict.findings.iter().map(facts_of).collect();
    let shards = health.shards.iter().map(|shard| {
        json!({
            "shard": shard.shard, "leader": shard.leader.map(|number| name(health, number)), "wanted": shard.wanted,
            "voters": names(health, &shard.voters), "current": names(health, &shard.current),
        })
    });
    let facts = json!({
        "state": verdict.level.as_str(), "safe": verdict.level == Level::Note, "done": verdict.done, "summary": verdict.summary,
        "findings": findings, "nodes": rows, "shards": shards.collect::<Vec<_>>(),
        "copies": health.layout.as_ref().map(|layout| layout.placed.copies),
    });
    (parts, facts)
}

fn lines(verdict: &Verdict) -> Vec<String> {
    verdict
        .findings
        .iter()
        .flat_map(|finding| {
            let todo = match finding.todo.as_str() {
                "" => None,
                todo => Some(format!("  -> {todo}")),
            };
            [String::new(), finding.what.clone()]
                .into_iter()
                .chain(todo)
        })
        .collect()
}

fn facts_of(finding: &Finding) -> Value {
    let level = match finding.level {
        Level::Note => "note",
        level => level.as_str(),
    };
    json!({"level": level, "what": finding.what, "do": finding.todo})
}

fn name(health: &Health, number: u64) -> String {
    let entry = health
        .numbered(number)
        .and_then(|node| health.entry(&node.key));
    entry.map_or_else(|| number.to_string(), |entry| entry.name.clone())
}

fn names(health: &Health, numbers: &[u64]) -> Vec<String> {
    numbers.iter().map(|number| name(health, *number)).collect()
}

/// By zone and name.
fn rows(health: &Health, members: &[Member]) -> Vec<Value> {
    let mut rows: Vec<(String, String, Value)> = health
        .nodes
        .iter()
        .filter_map(|node| {
            let entry = health.entry(&node.key)?;
            let row = row(health, node, entry, members);
            Some((entry.zone.clone(), entry.name.clone(), row))
        })
        .collect();
    rows.sort_by(|(zone, name, _), (other_zone, other, _)| (zone, name).cmp(&(other_zone, other)));
    rows.into_iter().map(|(_, _, row)| row).collect()
}

fn row(health: &Health, node: &NodeReport, entry: &NodeEntry, members: &[Member]) -> Value {
    let member = members.iter().find(|member| member.key == node.key);
    let said = node.said.as_ref();
    let usage = said.and_then(|said| said.usage.as_ref().ok());
    let leads = health
        .shards
        .iter()
        .filter(|shard| shard.leader == Some(node.number));
    let scrubbed_ms = said.map_or(0, |said| said.scrubbed_ms);
    let links = match said.and_then(|said| said.sealing) {
        Some(Sealing::Kernel) => Some("kernel TLS"),
        Some(Sealing::Relay) => Some("relay"),
        None => None,
    };
    let heard = match (&node.silent, said) {
        (None, _) => "now".into(),
        (Some(_), Some(said)) => format!("{} ago", safety::span(said.ago_ms)),
        (Some(_), None) => "not since the start".into(),
    };
    let used = usage.map(|usage| usage.capacity_bytes.saturating_sub(usage.free_bytes));
    let disk = usage
        .zip(used)
        .map(|(usage, used)| format!("{} of {}", amount(used), amount(usage.capacity_bytes)));
    json!({
        "zone": entry.zone, "node": entry.name, "state": state(node, entry, member), "gateway": entry.capacity_bytes == 0,
        "address": member.map_or(&entry.mesh, |member| &member.mesh), "disk": disk,
        "disk_bytes": usage.map(|usage| usage.capacity_bytes), "used_bytes": used,
        "capacity": match entry.capacity_bytes { 0 => "none".into(), bytes => amount(bytes) }, "capacity_bytes": entry.capacity_bytes,
        "leads": leads.map(|shard| shard.shard).collect::<Vec<u16>>(),
        "behind": node.lacking_blocks, "behind_bytes": node.lacking_bytes, "owes": usage.map(|usage| usage.behind),
        "damaged": usage.map(|usage| usage.damaged),
        "last_scrub": scrubbed(scrubbed_ms), "scrubbed_ms": (scrubbed_ms > 0).then_some(scrubbed_ms), "links": links,
        "version": member.map(|member| member.version.clone()).filter(|version| !version.is_empty()),
        "heard": heard, "silent": node.silent, "key": node.key.to_string(),
    })
}

fn state(node: &NodeReport, entry: &NodeEntry, member: Option<&Member>) -> String {
    let state = match (entry.standing, member.map(|member| member.state)) {
        (Standing::Revoked, _) => "revoked",
        (Standing::Left, _) | (_, Some(MemberState::Left)) => "left",
        (_, Some(MemberState::Suspect)) => "suspect",
        (_, Some(MemberState::Gone) | None) => "gone",
        // Its gossip is heard, but its metadata says nothing.
        (_, Some(MemberState::Alive)) if node.silent.is_some() => "no answer",
        (_, Some(MemberState::Alive)) => "alive",
    };
    match entry.capacity_bytes {
        0 => format!("{state}, gateway"),
        _ => state.into(),
    }
}

fn scrubbed(at_ms: u64) -> String {
    match at_ms {
        0 => "not yet".into(),
        at_ms => format!(
            "{} ago",
            safety::span(runtime::unix_ms().saturating_sub(at_ms))
        ),
    }
}
