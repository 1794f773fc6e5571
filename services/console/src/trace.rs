//! `trace SERVICE`: what a service does for a while, counted by itself and by its supervisor.

use crate::report::{Answer, Refusal, Report};
use crate::verbs::{Verbs, odd};
use protocol::inspect::{InspectAnswer, InspectCall};
use protocol::trace::{TRACE_MS_MAX, Trace};
use serde_json::{Value, json};
use std::time::Duration;

/// Unless told otherwise, in seconds.
const SECONDS: u64 = 5;
/// How often the supervisor is asked whether it is over.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// A trace takes longer than was asked for by the heartbeats at its begin and its end; then it is told as far as it came.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn trace(verbs: &Verbs, service: &str, options: &[&str]) -> Answer {
    let most = TRACE_MS_MAX / 1_000;
    let seconds = match options {
        [] => SECONDS,
        ["--seconds", text] => text
            .parse()
            .ok()
            .filter(|seconds| (1..=most).contains(seconds))
            .ok_or_else(|| {
                Refusal::Words(format!("--seconds {text}: a number from 1 to {most}"))
            })?,
        _ => return Err(Refusal::Words("trace SERVICE [--seconds N]".into())),
    };
    let daemon = verbs.supervisor(service).await?;
    let begin = InspectCall::Trace {
        service: service.into(),
        for_ms: seconds * 1_000,
    };
    verbs.inspect(daemon, begin).await?;
    let asked = tokio::time::Instant::now();
    let until = asked + Duration::from_secs(seconds);
    tokio::time::sleep_until(until).await;
    loop {
        let service = service.into();
        let call = InspectCall::Traced { service };
        let InspectAnswer::Traced(trace) = verbs.inspect(daemon, call).await? else {
            return Err(odd("a supervisor"));
        };
        if trace.over || tokio::time::Instant::now() > until + PATIENCE {
            return Ok(Report::Page(page(&trace), document(&trace)));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn rows(trace: &Trace) -> Vec<Value> {
    let row = |row: &protocol::trace::Row| {
        json!({
            "side": row.side.as_str(), "conversation": row.conversation, "call": row.call, "count": row.count,
            "mean_us": row.total_us.checked_div(row.count), "longest_us": row.longest_us,
            "descriptors_received": row.received, "descriptors_given": row.given,
        })
    };
    let mut rows: Vec<&protocol::trace::Row> = trace.rows.iter().collect();
    rows.sort_by_key(|row| (row.side, std::cmp::Reverse(row.count)));
    rows.into_iter().map(row).collect()
}

fn denied(trace: &Trace) -> Vec<Value> {
    let denied = trace.denied.iter();
    denied
        .map(|(call, count)| json!({"system_call": call, "count": count}))
        .collect()
}

fn document(trace: &Trace) -> Value {
    json!({
        "covered_ms": trace.covered_ms, "calls": rows(trace), "denied": denied(trace), "ended": trace.ended,
    })
}

/// For people: three parts, each said even where it is empty, since "nothing" is an answer here.
fn page(trace: &Trace) -> Vec<Report> {
    let columns = &[
        "side",
        "conversation",
        "call",
        "count",
        "mean_us",
        "longest_us",
        "descriptors_received",
        "descriptors_given",
    ];
    let seconds = format!("{:.1} s", trace.covered_ms as f64 / 1_000.0);
    let denied = match &trace.denied[..] {
        [] => vec!["denied system calls: none".to_owned()],
        all => {
            let line =
                |(call, count): &(String, u32)| format!("denied system call {call}: {count}");
            all.iter().map(line).collect()
        }
    };
    let ended = trace.ended.iter().map(|why| format!("ended: {why}"));
    let calls = match trace.rows.is_empty() {
        true => Report::Lines(vec![format!("no call in {seconds}")]),
        false => Report::Table(columns, rows(trace)),
    };
    let covered = Report::Lines(vec![format!("counted for {seconds}")]);
    vec![
        covered,
        calls,
        Report::Lines(denied.into_iter().chain(ended).collect()),
    ]
}
