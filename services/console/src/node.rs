//! The node, as its operator sees it: what runs, what it holds, what is missing, what it said.

use crate::explain::{self, Known};
use crate::report::{Answer, Refusal, Report};
use crate::schedule;
use crate::verbs::{Daemon, Verbs, gone, odd};
use manifests::Manifest;
use protocol::block::{BlockAnswer, BlockCall, Usage};
use protocol::inspect::{
    ELSEWHERE, InspectAnswer, InspectCall, LIST_MAX, Node, Power, Process, Service,
};
use protocol::membership::{MembershipAnswer, MembershipCall};
use protocol::metadata::{Operation, Reply};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};

/// How long the sweep leaves unreferenced blocks of interrupted uploads alone, in milliseconds.
const SWEEP_GRACE_MS: u64 = 60_000;

pub(crate) async fn node(verbs: &Verbs) -> Result<Node, Refusal> {
    match verbs.inspect(Daemon::Init, InspectCall::Node).await? {
        InspectAnswer::Node(node) => Ok(node),
        _ => Err(odd("init")),
    }
}

pub(crate) async fn processes(verbs: &Verbs) -> Result<Vec<Process>, Refusal> {
    match verbs.inspect(Daemon::Init, InspectCall::Processes).await? {
        InspectAnswer::Processes(processes) => Ok(processes),
        _ => Err(odd("init")),
    }
}

/// The daemons and the services.
pub(crate) async fn supervised(verbs: &Verbs) -> Result<Vec<Service>, Refusal> {
    let mut all = Vec::new();
    for daemon in [Daemon::Init, Daemon::Orchestrator] {
        match verbs.inspect(daemon, InspectCall::Services).await? {
            InspectAnswer::Services(services) => all.extend(services),
            _ => return Err(odd("a daemon")),
        }
    }
    Ok(all)
}

pub(crate) async fn usage(verbs: &Verbs) -> Result<Usage, Refusal> {
    let (answer, _) = verbs
        .blocks
        .repeat(&BlockCall::Usage)
        .await
        .map_err(|error| gone("block-store", &error))?;
    match answer {
        Ok(BlockAnswer::Usage(usage)) => Ok(usage),
        Ok(_) => Err(odd("block-store")),
        Err(error) => Err(Refusal::Failed(error.to_string())),
    }
}

/// A service's line, with its process id as the host sees it (what `kill` takes).
fn row(service: &Service, processes: &[Process]) -> Value {
    let process = processes
        .iter()
        .find(|process| process.pid == service.pid && service.pid != 0);
    json!({
        "name": service.name,
        "pid": process.map(|process| process.host_pid),
        "state": service.state,
        "restarts": service.restarts,
        "last_reason": service.last_reason,
        "memory_kb": process.map(|process| process.proportional_bytes / 1024),
        "cpu_ms": process.map(|process| process.cpu_ms),
        "denied": service.denied.iter().map(|(call, count)| (call.clone(), json!(count))).collect::<serde_json::Map<_, _>>(),
    })
}

async fn rows(verbs: &Verbs) -> Result<Vec<Value>, Refusal> {
    let (services, processes) = (supervised(verbs).await?, processes(verbs).await?);
    let own = processes.iter().find(|process| process.pid == 1);
    let init = own.map(|process| {
        json!({
            "name": "init", "pid": process.host_pid, "state": "ready", "restarts": 0, "last_reason": "",
            "memory_kb": process.proportional_bytes / 1024, "cpu_ms": process.cpu_ms, "denied": {},
        })
    });
    Ok(init
        .into_iter()
        .chain(services.iter().map(|service| row(service, &processes)))
        .collect())
}

pub(crate) async fn services(verbs: &Verbs) -> Answer {
    let columns = &[
        "name",
        "pid",
        "state",
        "runs_on",
        "restarts",
        "memory_kb",
        "cpu_ms",
        "denied",
        "last_reason",
    ];
    let (known, rows) = tokio::join!(schedule::known(verbs), rows(verbs));
    let mut rows = rows?;
    for row in &mut rows {
        let name = row.get("name").and_then(Value::as_str).unwrap_or_default();
        let nodes = schedule::nodes_of(known.as_ref(), name);
        if let Some(row) = row.as_object_mut() {
            row.insert("runs_on".into(), json!(nodes));
        }
    }
    Ok(Report::Table(columns, rows))
}

/// Whether a service is as it should be: it serves, or the cluster has it run elsewhere.
pub(crate) fn is_well(state: &str) -> bool {
    state == "ready" || state.starts_with(ELSEWHERE)
}

pub(crate) async fn status(verbs: &Verbs) -> Answer {
    let node = node(verbs).await?;
    let (rows, known) = tokio::join!(rows(verbs), schedule::known(verbs));
    let rows = rows?;
    let not_ready: Vec<&str> = rows
        .iter()
        .filter(|row| {
            !row.get("state")
                .and_then(Value::as_str)
                .is_some_and(is_well)
        })
        .filter_map(|row| row.get("name")?.as_str())
        .collect();
    let memory_kb: u64 = rows
        .iter()
        .filter_map(|row| row.get("memory_kb")?.as_u64())
        .sum();
    // A store that does not answer is what the operator wants to see here, not the end of the verb.
    let disk = match usage(verbs).await {
        Ok(usage) => {
            json!({"capacity_bytes": usage.capacity_bytes, "free_bytes": usage.free_bytes, "damaged_blocks": usage.damaged})
        }
        Err(Refusal::Failed(why) | Refusal::Words(why)) => json!(why),
    };
    let mut facts = json!({
        "node": node.name, "zone": node.zone, "s3": format!("http://{}", node.s3), "region": node.region, "version": node.version,
        "uptime_ms": node.uptime_ms, "ready": node.ready && not_ready.is_empty(), "not_ready": not_ready,
        "memory_kb": memory_kb, "disk": disk, "limits_missing": node.missing, "services": rows,
    });
    let rolling = match known {
        Some(known) => schedule::progress(&known),
        None => Some("not known at the moment: nobody leads shard 0 of metadata".into()),
    };
    if let (Some(rolling), Some(facts)) = (rolling, facts.as_object_mut()) {
        facts.insert("rolling_restart".into(), json!(rolling));
    }
    if let (Some(machine), Some(facts)) = (node.machine, facts.as_object_mut()) {
        let used = machine
            .memory_bytes
            .saturating_sub(machine.memory_available_bytes);
        let memory =
            json!({"memory_kb": machine.memory_bytes / 1024, "memory_used_kb": used / 1024});
        facts.insert("machine".into(), memory);
        facts.insert("addresses".into(), json!(machine.addresses));
    }
    Ok(Report::Facts(facts))
}

/// One node keeps everything: where the blocks are is no question yet, how many fit is.
pub(crate) async fn layout(verbs: &Verbs) -> Answer {
    let (node, usage) = (node(verbs).await?, usage(verbs).await?);
    let row = json!({
        "zone": node.zone, "node": node.name, "copies": 1,
        "capacity_bytes": usage.capacity_bytes, "free_bytes": usage.free_bytes,
    });
    Ok(Report::Table(
        &["zone", "node", "copies", "capacity_bytes", "free_bytes"],
        vec![row],
    ))
}

pub(crate) async fn shards(verbs: &Verbs) -> Answer {
    let Reply::Shards(shards) = verbs.read(Operation::Shards).await? else {
        return Err(odd("metadata"));
    };
    let rows = shards.into_iter().map(|shard| {
        json!({"shard": shard.number, "leader": shard.leader, "term": shard.term, "applied": shard.applied, "voters": shard.voters})
    });
    Ok(Report::Table(
        &["shard", "leader", "term", "applied", "voters"],
        rows.collect(),
    ))
}

pub(crate) async fn sweep(verbs: &Verbs) -> Answer {
    let operation = Operation::Sweep {
        grace_ms: SWEEP_GRACE_MS,
    };
    let Reply::Swept { seen, removed } = verbs.change(operation).await? else {
        return Err(odd("metadata"));
    };
    Ok(Report::Done(
        format!("{seen} blocks looked at, {removed} removed"),
        json!({"seen": seen, "removed": removed}),
    ))
}

/// Runs the lifecycle of all buckets now instead of at its next hour.
pub(crate) async fn lifecycle(verbs: &Verbs) -> Answer {
    let Reply::Expired { looked, removed } = verbs.change(Operation::RunLifecycle).await? else {
        return Err(odd("metadata"));
    };
    Ok(Report::Done(
        format!("{looked} versions and uploads looked at, {removed} removed"),
        json!({"looked": looked, "removed": removed}),
    ))
}

pub(crate) async fn logs(verbs: &Verbs, options: &[&str]) -> Answer {
    let (mut service, mut lines) = (None, 100);
    let options = match options {
        [name, rest @ ..] if !name.starts_with("--") => {
            service = Some((*name).to_owned());
            rest
        }
        all => all,
    };
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match (*option, options.next()) {
            ("--service", Some(name)) => service = Some((*name).to_owned()),
            ("--lines", Some(count)) => {
                lines = count
                    .parse()
                    .ok()
                    .filter(|count| (1..=LIST_MAX as u32).contains(count))
                    .ok_or_else(|| {
                        Refusal::Words(format!("--lines {count}: a number from 1 to {LIST_MAX}"))
                    })?;
            }
            _ => return Err(Refusal::Words("logs [[--service] S] [--lines N]".into())),
        }
    }
    match verbs
        .inspect(Daemon::Init, InspectCall::Logs { service, lines })
        .await?
    {
        InspectAnswer::Logs(lines) => Ok(Report::Lines(lines)),
        _ => Err(odd("init")),
    }
}

pub(crate) async fn restart(verbs: &Verbs, service: &str) -> Answer {
    let daemon = verbs.supervisor(service).await?;
    let call = InspectCall::Restart {
        service: service.into(),
    };
    verbs.order(daemon, call).await?;
    Ok(Report::Done(
        format!("{service} is being restarted"),
        json!({"restarted": service}),
    ))
}

pub(crate) async fn power(verbs: &Verbs, then: Power) -> Answer {
    verbs.order(Daemon::Init, InspectCall::Power(then)).await?;
    let (what, fact) = match then {
        Power::Off => ("the node stops", "poweroff"),
        Power::Reboot => ("the node stops and starts again", "reboot"),
    };
    Ok(Report::Done(what.into(), json!({"stopping": fact})))
}

pub(crate) async fn descriptors(verbs: &Verbs, service: Option<&str>) -> Answer {
    let processes = processes(verbs).await?;
    let rows: Vec<Value> = processes
        .iter()
        .filter(|process| service.is_none_or(|service| process.name == service))
        .flat_map(|process| {
            process.descriptors.iter().map(|(number, what)| {
                json!({"name": process.name, "pid": process.host_pid, "descriptor": number, "what": what})
            })
        })
        .collect();
    match (service, rows.is_empty()) {
        (Some(service), true) => Err(Refusal::Failed(format!("no process is named {service:?}"))),
        _ => Ok(Report::Table(&["name", "descriptor", "what"], rows)),
    }
}

/// For each process: what its manifest declares, what it was given, what it really holds, what its filter allows.
pub(crate) async fn caps(verbs: &Verbs) -> Answer {
    let policy = &verbs.policy;
    let (services, processes) = (supervised(verbs).await?, processes(verbs).await?);
    let nodes = other_nodes(verbs).await;
    let known = Known {
        named: &verbs.named,
        nodes: &nodes,
    };
    let rows = processes.iter().map(|process| {
        let service = services.iter().find(|service| service.pid == process.pid);
        let manifest = policy.get(&process.name);
        let profile = manifest.and_then(|manifest| sandbox_profiles::profile(&manifest.profile));
        let allowed: Vec<&str> = profile.map(|profile| {
            let mut names: Vec<&str> = profile.allow.iter().map(|rule| rule.syscall).collect();
            names.dedup();
            names
        }).unwrap_or_default();
        let unexplained: Vec<String> = process
            .descriptors
            .iter()
            .filter(|(number, what)| !explain::is_explained(policy, known, process, *number, what))
            .map(|(number, what)| format!("{number} {what}"))
            .collect();
        json!({
            "name": process.name,
            "pid": process.host_pid,
            "declared": manifest.map(declared).unwrap_or_default(),
            "given": service.map(given).unwrap_or_default(),
            "outside": manifest.map(|manifest| outside(verbs, manifest)).unwrap_or_default(),
            "actual": process.descriptors.iter().map(|(number, what)| format!("{number} {what}")).collect::<Vec<_>>(),
            "unexplained": unexplained,
            "alarm": !unexplained.is_empty(),
            "descriptors": process.descriptors.len(),
            "system_calls": allowed,
            "allowed_calls": allowed.len(),
            "seccomp": process.seccomp,
            "no_new_privs": process.no_new_privs,
            "capabilities": format!("{:x}", process.capabilities),
            "limits": manifest.map(|manifest| json!({
                "memory_mb": manifest.limits.memory_mb, "processes": manifest.limits.processes,
                "open_files": manifest.limits.open_files, "cpu_weight": manifest.limits.cpu_weight,
            })),
        })
    });
    let columns = &[
        "name",
        "pid",
        "declared",
        "descriptors",
        "allowed_calls",
        "seccomp",
        "capabilities",
        "alarm",
    ];
    Ok(Report::Table(columns, rows.collect()))
}

/// The addresses of the other nodes; none where membership does not say, so that every connection to one is an alarm.
async fn other_nodes(verbs: &Verbs) -> Vec<IpAddr> {
    let answer = verbs.membership.repeat(&MembershipCall::Members).await;
    let Ok((MembershipAnswer::Members(members), _)) = answer else {
        return Vec::new();
    };
    // This node stands first.
    let others = members.iter().skip(1);
    others
        .filter_map(|member| member.address.parse().ok())
        .map(|address: SocketAddr| address.ip())
        .collect()
}

fn declared(manifest: &Manifest) -> Vec<String> {
    let grants = manifest.grants.iter();
    let dials = manifest.dials.iter();
    // Whom it may call on other nodes, and whom it answers who is on one.
    let calls = manifest.calls.iter().filter(|call| call.across);
    let serves = manifest.serves.iter();
    let reached = serves.filter_map(|serve| match (serve.across, serve.strangers) {
        (true, _) => Some(format!("{}:across", serve.conversation)),
        (_, true) => Some(format!("{}:strangers", serve.conversation)),
        _ => None,
    });
    grants
        .map(|grant| format!("{}:{}", grant.name, grant.kind.as_str()))
        .chain(dials.map(|dial| format!("{}:outside", dial.kind.as_str())))
        .chain(calls.map(|call| format!("{}/{}:across", call.service, call.conversation)))
        .chain(reached)
        .collect()
}

/// The addresses outside of the node that the bus may connect it to, by the operator's names.
fn outside(verbs: &Verbs, manifest: &Manifest) -> Vec<String> {
    let named = verbs.named.of(manifest);
    named
        .map(|(name, address)| format!("{name}={address}"))
        .collect()
}

fn given(service: &Service) -> Vec<String> {
    service
        .grants
        .iter()
        .map(|(name, kind)| format!("{name}:{kind}"))
        .collect()
}
