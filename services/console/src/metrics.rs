//! `metrics`: every number that the node knows about itself, one a line, for people and for whoever draws curves.

use crate::node::{is_well, node, processes, supervised, usage};
use crate::report::{Answer, Refusal, Report};
use crate::verbs::Verbs;
use protocol::inspect::{Process, Service};
use serde_json::{Value, json};

pub(crate) async fn metrics(verbs: &Verbs) -> Answer {
    let (node, processes) = (node(verbs).await?, processes(verbs).await?);
    let services = supervised(verbs).await?;
    let mut rows = vec![
        number("uptime_ms", &node.name, node.uptime_ms),
        number("ready", &node.name, u64::from(node.ready)),
    ];
    rows.extend(processes.iter().flat_map(of_process));
    rows.extend(services.iter().flat_map(of_service));
    // A store that does not answer has no numbers; that it does not is in `status` and `services`.
    match usage(verbs).await {
        Ok(usage) => rows.extend([
            number("disk_capacity_bytes", "block-store", usage.capacity_bytes),
            number("disk_free_bytes", "block-store", usage.free_bytes),
            number("block_files", "block-store", usage.files),
            number("block_packs", "block-store", usage.packs),
            number("blocks_damaged", "block-store", usage.damaged),
        ]),
        Err(Refusal::Failed(_) | Refusal::Words(_)) => {}
    }
    Ok(Report::Table(&["metric", "of", "value"], rows))
}

fn number(metric: &str, of: &str, value: u64) -> Value {
    json!({"metric": metric, "of": of, "value": value})
}

fn of_process(process: &Process) -> [Value; 5] {
    let of = |metric, value| number(metric, &process.name, value);
    [
        of("memory_resident_bytes", process.resident_bytes),
        of("memory_proportional_bytes", process.proportional_bytes),
        of("processor_ms", process.cpu_ms),
        of("threads", u64::from(process.threads)),
        of("descriptors", process.descriptors.len() as u64),
    ]
}

fn of_service(service: &Service) -> [Value; 3] {
    let of = |metric, value| number(metric, &service.name, value);
    let denied = service.denied.iter().map(|(_, count)| u64::from(*count));
    [
        of("ready", u64::from(is_well(&service.state))),
        of("restarts", u64::from(service.restarts)),
        of("denied_system_calls", denied.sum()),
    ]
}
