//! Services that run on some nodes only, nodes that are being drained, and restarts of all nodes, as their operator sees them.

use crate::nodes;
use crate::report::{Answer, Report};
use crate::verbs::{Verbs, odd};
use protocol::metadata::{Operation, Reply};
use protocol::schedule::ScheduleReport;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// How long a verb that shows other things, too, waits for the schedule: shard 0 may have no leader, and then they must be seen all the more.
const WAIT_MAX: Duration = Duration::from_millis(1_500);

/// The schedule, if shard 0 has a leader that says it.
pub(crate) async fn known(verbs: &Verbs) -> Option<ScheduleReport> {
    match timeout(WAIT_MAX, verbs.read(Operation::Schedule)).await {
        Ok(Ok(Reply::Schedule(schedule))) => Some(schedule),
        _ => None,
    }
}

/// Where a service runs: the nodes, if it is placed.
pub(crate) fn nodes_of(schedule: Option<&ScheduleReport>, service: &str) -> Vec<String> {
    let services = schedule.into_iter().flat_map(|known| &known.services);
    let mut found = services.filter(|(name, _)| name == service);
    found
        .next()
        .map_or_else(Vec::new, |(_, nodes)| nodes.clone())
}

/// A sentence on the rolling restart that is under way, or on why the last one stopped; `None`: neither.
pub(crate) fn progress(schedule: &ScheduleReport) -> Option<String> {
    let Some(rolling) = &schedule.rolling else {
        return schedule.stopped.clone();
    };
    let all = rolling.done.len() + usize::from(rolling.now.is_some()) + rolling.next.len();
    let now = match &rolling.now {
        Some(name) => format!(", now {name}"),
        None => String::new(),
    };
    let waits = match rolling.waits.as_str() {
        "" => String::new(),
        why => format!(" ({why})"),
    };
    Some(format!(
        "rolling restart: {} of {all} nodes are back{now}{waits}",
        rolling.done.len()
    ))
}

fn facts(schedule: &ScheduleReport) -> Value {
    let rolling = schedule.rolling.as_ref();
    json!({
        "services": schedule.services.iter().map(|(service, nodes)| (service.clone(), json!(nodes))).collect::<serde_json::Map<_, _>>(),
        "draining": schedule.draining,
        "rolling": rolling.map(|rolling| json!({
            "done": rolling.done, "now": rolling.now, "next": rolling.next, "waits": rolling.waits,
        })),
        "stopped": schedule.stopped,
    })
}

/// `restart --rolling`: begins it, or says how far it is.
pub(crate) async fn restart(verbs: &Verbs) -> Answer {
    let Reply::Schedule(schedule) = verbs.change(Operation::RestartRolling).await? else {
        return Err(odd("metadata"));
    };
    let hint = "said again, this shows how far it is";
    let sentence = progress(&schedule).map_or_else(
        || "all nodes are being restarted".to_owned(),
        |sentence| format!("{sentence}; {hint}"),
    );
    Ok(Report::Done(sentence, facts(&schedule)))
}

/// `node drain NAME`, `node undrain NAME`.
pub(crate) async fn drain(verbs: &Verbs, name: &str, draining: bool) -> Answer {
    let key = nodes::entry_of(verbs, name).await?.key;
    let operation = Operation::Drain { key, draining };
    let Reply::Schedule(schedule) = verbs.change(operation).await? else {
        return Err(odd("metadata"));
    };
    let sentence = match draining {
        true => format!(
            "{name} is being drained: services that other nodes can run move away, and so do its leads of shards; it goes on keeping blocks and serving S3"
        ),
        false => format!("{name} takes services and leads of shards again"),
    };
    Ok(Report::Done(sentence, facts(&schedule)))
}
