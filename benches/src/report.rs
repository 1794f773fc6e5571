//! The report: a Markdown table for people, JSON for programs.

use crate::load::{Case, Measured};
use crate::options::Options;
use crate::tree::Memory;
use serde_json::{Map, Value, json};
use std::fmt::Write;

const MIB: f64 = 1_048_576.0;

/// Median, or `None` without values.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2)?;
    match sorted.len() % 2 {
        1 => Some(*upper),
        _ => sorted
            .get(sorted.len() / 2 - 1)
            .map(|lower| (lower + upper) / 2.0),
    }
}

/// The value below which a share (in thousandths) of the sorted values lies, in microseconds.
fn quantile_us(sorted_ns: &[u64], thousandths: usize) -> Option<f64> {
    let index = sorted_ns.len().saturating_mul(thousandths) / 1000;
    let value = sorted_ns.get(index.min(sorted_ns.len().saturating_sub(1)))?;
    #[allow(
        clippy::cast_precision_loss,
        reason = "latencies are far below 2^52 ns"
    )]
    Some(*value as f64 / 1000.0)
}

fn mib(bytes: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
    let bytes = bytes as f64;
    bytes / MIB
}

fn size_mib(bytes: usize) -> f64 {
    mib(u64::try_from(bytes).unwrap_or(u64::MAX))
}

/// A number as short as it is meaningful, or a dash.
fn shown(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value.abs() < 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

/// Sums over the processes: RSS and PSS.
fn totals(list: &[Memory]) -> (u64, u64) {
    list.iter().fold((0, 0), |(rss, pss), memory| {
        (rss + memory.rss_bytes, pss + memory.pss_bytes)
    })
}

/// CPU per MiB, where an object is at least that large.
fn cpu_us_per_mib(case: &Case) -> Option<f64> {
    let size = size_mib(case.bytes);
    median(&case.cpu_us)
        .filter(|_| size >= 1.0)
        .map(|cpu| cpu / size)
}

/// The machine, in words: figures of another one are not comparable.
fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("unknown CPU");
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores of {model}, Linux {}", kernel.trim())
}

/// The table.
pub(crate) fn markdown(options: &Options, measured: &Measured) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "{}; {} connections, {} passes (medians), {} payload. CPU is of the whole node.\n",
        machine(),
        options.connections,
        options.passes,
        options.payload.name()
    );
    out.push_str(
        "| operation | CPU µs | CPU µs per MiB | p50 µs | p99 µs | per second | written KiB |\n",
    );
    out.push_str("|---|---:|---:|---:|---:|---:|---:|\n");
    for case in &measured.cases {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            case.name,
            shown(median(&case.cpu_us)),
            shown(cpu_us_per_mib(case)),
            shown(quantile_us(&case.latency_ns, 500)),
            shown(quantile_us(&case.latency_ns, 990)),
            shown(median(&case.rate)),
            shown(median(&case.written_bytes).map(|bytes| bytes / 1024.0)),
        );
    }
    if options.by_process {
        by_process(&mut out, options, measured);
    }
    if !measured.memory_idle.is_empty() {
        memory(&mut out, measured);
    }
    out
}

/// CPU of each process per operation.
fn by_process(out: &mut String, options: &Options, measured: &Measured) {
    #[allow(clippy::cast_precision_loss, reason = "a handful of passes")]
    let passes = options.passes as f64;
    out.push_str("\nCPU µs by process (means of the passes):\n\n");
    for case in &measured.cases {
        let parts: Vec<String> = case
            .cpu_us_by_process
            .iter()
            .map(|(name, cpu_us)| format!("{name} {}", shown(Some(cpu_us / passes))))
            .collect();
        let _ = writeln!(out, "- {}: {}", case.name, parts.join(", "));
    }
}

fn memory(out: &mut String, measured: &Measured) {
    out.push_str(
        "\n| memory, MiB | idle RSS | idle PSS | RSS after the load | PSS after the load |\n",
    );
    out.push_str("|---|---:|---:|---:|---:|\n");
    for (index, idle) in measured.memory_idle.iter().enumerate() {
        // Both lists are sorted by name; a process that was restarted under the same name still
        // lines up.
        let after = measured
            .memory_after
            .get(index)
            .filter(|after| after.name == idle.name);
        let after = after.cloned().unwrap_or_default();
        let _ = writeln!(
            out,
            "| {} | {:.1} | {:.1} | {:.1} | {:.1} |",
            idle.name,
            mib(idle.rss_bytes),
            mib(idle.pss_bytes),
            mib(after.rss_bytes),
            mib(after.pss_bytes)
        );
    }
    let ((idle_rss, idle_pss), (rss, pss)) = (
        totals(&measured.memory_idle),
        totals(&measured.memory_after),
    );
    let _ = writeln!(
        out,
        "| all | {:.1} | {:.1} | {:.1} | {:.1} |",
        mib(idle_rss),
        mib(idle_pss),
        mib(rss),
        mib(pss)
    );
    if let Some(idle) = measured.idle_cpu_us_per_s {
        let _ = writeln!(out, "\nThe idle node uses {idle:.0} µs of CPU per second.");
    }
}

/// The same as one JSON object, unrounded.
pub(crate) fn json(options: &Options, measured: &Measured) -> Value {
    #[allow(clippy::cast_precision_loss, reason = "a handful of passes")]
    let passes = options.passes as f64;
    let operations: Vec<Value> = measured
        .cases
        .iter()
        .map(|case| {
            let by_process: Map<String, Value> = case
                .cpu_us_by_process
                .iter()
                .map(|(name, cpu_us)| (name.clone(), json!(cpu_us / passes)))
                .collect();
            json!({
                "name": case.name,
                "bytes": case.bytes,
                "count": case.count,
                "cpu_us": median(&case.cpu_us),
                "cpu_us_per_mib": cpu_us_per_mib(case),
                "cpu_us_passes": case.cpu_us,
                "cpu_us_by_process": by_process,
                "p50_us": quantile_us(&case.latency_ns, 500),
                "p99_us": quantile_us(&case.latency_ns, 990),
                "per_second": median(&case.rate),
                "written_bytes": median(&case.written_bytes),
            })
        })
        .collect();
    let memory = |list: &[Memory]| {
        let (rss_bytes, pss_bytes) = totals(list);
        let processes: Vec<Value> = list
            .iter()
            .map(|one| json!({"name": one.name, "rss_bytes": one.rss_bytes, "pss_bytes": one.pss_bytes}))
            .collect();
        json!({"rss_bytes": rss_bytes, "pss_bytes": pss_bytes, "processes": processes})
    };
    json!({
        "machine": machine(),
        "connections": options.connections,
        "passes": options.passes,
        "payload": options.payload.name(),
        "operations": operations,
        "memory_idle": memory(&measured.memory_idle),
        "memory_after": memory(&measured.memory_after),
        "idle_cpu_us_per_s": measured.idle_cpu_us_per_s,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quantiles_are_of_sorted_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        let latencies: Vec<u64> = (0..1000).map(|n| n * 1000).collect();
        assert_eq!(quantile_us(&latencies, 500), Some(500.0));
        assert_eq!(quantile_us(&latencies, 990), Some(990.0));
        assert_eq!(quantile_us(&[7000], 990), Some(7.0));
        assert_eq!(quantile_us(&[], 500), None);
        assert_eq!(
            (shown(Some(0.26)), shown(Some(1234.5)), shown(None)),
            ("0.3".into(), "1234".into(), "–".into())
        );
    }
}
