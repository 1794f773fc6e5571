//! The load: which operations are done, how often, in which order, and what is measured around
//! them.

pub(crate) mod worker;

use crate::client::Connection;
use crate::error::Error;
use crate::node::Target;
use crate::options::{Options, Payload};
use crate::tree::{self, Memory, Usage};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use worker::{Job, LIST_KEYS, Verb, Worker, plain, run_job};

/// Time for the node to come to rest before memory is measured or a case begins; what it does in it
/// (a flush, a compaction) is counted to the case before.
const REST: Duration = Duration::from_millis(300);
/// How long an idle node is watched.
const IDLE: Duration = Duration::from_secs(3);
/// A size of objects, with the numbers of operations per pass.
struct Size {
    name: &'static str,
    bytes: usize,
    puts: usize,
    gets: usize,
}

const SIZES: [Size; 4] = [
    Size {
        name: "4KiB",
        bytes: 4 << 10,
        puts: 2000,
        gets: 4000,
    },
    Size {
        name: "64KiB",
        bytes: 64 << 10,
        puts: 500,
        gets: 2000,
    },
    Size {
        name: "1MiB",
        bytes: 1 << 20,
        puts: 100,
        gets: 300,
    },
    Size {
        name: "16MiB",
        bytes: 16 << 20,
        puts: 12,
        gets: 24,
    },
];

/// The measurements of one operation over all passes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Case {
    /// `put 4KiB`
    pub(crate) name: String,
    /// Of one object; zero where there is no body.
    pub(crate) bytes: usize,
    /// Operations per pass.
    pub(crate) count: usize,
    /// Of the whole node, per operation, one value per pass. Empty when the process id is unknown.
    pub(crate) cpu_us: Vec<f64>,
    /// The same for each process name, summed over the passes.
    pub(crate) cpu_us_by_process: BTreeMap<String, f64>,
    /// Bytes written to storage per operation, one value per pass.
    pub(crate) written_bytes: Vec<f64>,
    /// Operations per second, one value per pass.
    pub(crate) rate: Vec<f64>,
    /// Of all passes, sorted.
    pub(crate) latency_ns: Vec<u64>,
}

/// All measurements.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) cases: Vec<Case>,
    /// Before the first request.
    pub(crate) memory_idle: Vec<Memory>,
    /// After the last pass and a rest.
    pub(crate) memory_after: Vec<Memory>,
    /// CPU time of the idle node, microseconds per second.
    pub(crate) idle_cpu_us_per_s: Option<f64>,
}

/// Drives the node and measures.
pub(crate) fn run(
    options: &Options,
    target: &Target,
    root: Option<i32>,
) -> Result<Measured, Error> {
    let mut measured = Measured::default();
    if let Some(root) = root {
        std::thread::sleep(IDLE);
        measured.memory_idle = tree::memory(root);
        let before = tree::usage(root);
        std::thread::sleep(IDLE);
        let cpu_us: f64 = difference(&before, &tree::usage(root)).1.values().sum();
        measured.idle_cpu_us_per_s = Some(cpu_us / IDLE.as_secs_f64());
    }
    let mut driver = Driver::new(options, target, root)?;
    let result = driver.passes();
    let cleaned = driver.clean();
    result?;
    cleaned?;
    measured.cases = driver.cases;
    if let Some(root) = root {
        std::thread::sleep(IDLE);
        measured.memory_after = tree::memory(root);
    }
    for case in &mut measured.cases {
        case.latency_ns.sort_unstable();
    }
    Ok(measured)
}

struct Driver<'a> {
    options: &'a Options,
    root: Option<i32>,
    bucket: String,
    workers: Vec<Worker>,
    cases: Vec<Case>,
    /// Keys that exist, by size, for the cleaning after an error.
    stored: Vec<(String, usize)>,
}

impl<'a> Driver<'a> {
    fn new(options: &'a Options, target: &Target, root: Option<i32>) -> Result<Driver<'a>, Error> {
        let mut workers = Vec::new();
        for _ in 0..options.connections {
            let connection = Connection::open(target)?;
            workers.push(Worker {
                connection,
                data: Vec::new(),
                latency_ns: Vec::new(),
            });
        }
        let bucket = format!("bench-{}", std::process::id());
        let mut driver = Driver {
            options,
            root,
            bucket,
            workers,
            cases: Vec::new(),
            stored: Vec::new(),
        };
        driver.bucket_request("PUT", &[200])?;
        Ok(driver)
    }

    /// Makes or removes the bucket.
    fn bucket_request(&mut self, method: &str, statuses: &[u16]) -> Result<(), Error> {
        let path = format!("/{}", self.bucket);
        let Some(worker) = self.workers.first_mut() else {
            return Ok(());
        };
        worker
            .connection
            .expect(&plain(method, &path, ""), statuses)
            .map(drop)
    }

    fn passes(&mut self) -> Result<(), Error> {
        let sizes: Vec<&Size> = SIZES
            .iter()
            .filter(|size| {
                let only = self.options.only.as_ref();
                only.is_none_or(|names| {
                    names
                        .iter()
                        .any(|name| name.eq_ignore_ascii_case(size.name))
                })
            })
            .collect();
        if sizes.is_empty() {
            return Err(Error::Usage("--only names no size".to_owned()));
        }
        for pass in 0..self.options.passes {
            for size in &sizes {
                self.one_size(pass, size)?;
            }
        }
        Ok(())
    }

    /// Puts, reads and deletes the objects of one size. HEAD and listing are measured where objects
    /// are smallest: they do not depend on the size.
    fn one_size(&mut self, pass: usize, size: &Size) -> Result<(), Error> {
        let scaled = |count: usize| {
            // A count is small and positive, so nothing is lost or cut.
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "as said"
            )]
            let scaled = (count as f64 * self.options.scale) as usize;
            scaled.max(self.options.connections)
        };
        let prefix = format!("pass-{pass}/{}/", size.name);
        let smallest = size.bytes == 4 << 10;
        // The listing needs its thousand keys however small the scale is.
        let puts = if smallest {
            scaled(size.puts).max(LIST_KEYS)
        } else {
            scaled(size.puts)
        };
        let gets = scaled(size.gets);
        self.stored.push((prefix.clone(), puts));
        self.case(Verb::Put, size, &prefix, puts, puts)?;
        self.case(Verb::Get, size, &prefix, puts, gets)?;
        if smallest {
            self.case(Verb::Head, size, &prefix, puts, gets)?;
            self.case(Verb::List, size, &prefix, puts, scaled(40))?;
        }
        self.case(Verb::Delete, size, &prefix, puts, puts)?;
        self.stored.pop();
        Ok(())
    }

    /// Runs one case on all connections and adds its measurements to those of the other passes.
    fn case(
        &mut self,
        verb: Verb,
        size: &Size,
        prefix: &str,
        keys: usize,
        count: usize,
    ) -> Result<(), Error> {
        let job = Job {
            verb,
            bucket: &self.bucket,
            prefix,
            keys,
            count,
            payload: self.options.payload,
        };
        for worker in &mut self.workers {
            worker.prepare(size.bytes);
        }
        std::thread::sleep(REST);
        let before = self.root.map(tree::usage);
        let begin = Instant::now();
        run_job(&mut self.workers, &job)?;
        let elapsed = begin.elapsed();
        std::thread::sleep(REST);
        let (name, bytes) = describe(verb, size);
        let position = self.cases.iter().position(|case| case.name == name);
        let index = position.unwrap_or(self.cases.len());
        if position.is_none() {
            self.cases.push(Case {
                name,
                bytes,
                count,
                ..Case::default()
            });
        }
        let Some(case) = self.cases.get_mut(index) else {
            return Ok(());
        };
        #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let operations = count as f64;
        case.rate.push(operations / elapsed.as_secs_f64());
        for worker in &mut self.workers {
            case.latency_ns.append(&mut worker.latency_ns);
        }
        if let (Some(root), Some(before)) = (self.root, before) {
            let (written_bytes, by_process) = difference(&before, &tree::usage(root));
            case.cpu_us
                .push(by_process.values().sum::<f64>() / operations);
            case.written_bytes.push(written_bytes / operations);
            for (process, cpu_us) in by_process {
                *case.cpu_us_by_process.entry(process).or_default() += cpu_us / operations;
            }
        }
        Ok(())
    }

    /// Removes what a failed pass left, then the bucket.
    fn clean(&mut self) -> Result<(), Error> {
        for (prefix, keys) in std::mem::take(&mut self.stored) {
            let job = Job {
                verb: Verb::Delete,
                bucket: &self.bucket,
                prefix: &prefix,
                keys,
                count: keys,
                payload: Payload::Unsigned,
            };
            run_job(&mut self.workers, &job)?;
        }
        self.bucket_request("DELETE", &[204])
    }
}

/// The name of a case and the bytes that one operation moves.
fn describe(verb: Verb, size: &Size) -> (String, usize) {
    match verb {
        Verb::Put => (format!("put {}", size.name), size.bytes),
        Verb::Get => (format!("get {}", size.name), size.bytes),
        Verb::Delete => (format!("delete {}", size.name), 0),
        Verb::Head => ("head".to_owned(), 0),
        Verb::List => (format!("list {LIST_KEYS} keys"), 0),
    }
}

/// Bytes written and CPU microseconds by name between two looks.
pub(crate) fn difference(
    before: &BTreeMap<i32, Usage>,
    after: &BTreeMap<i32, Usage>,
) -> (f64, BTreeMap<String, f64>) {
    #[allow(
        clippy::cast_precision_loss,
        reason = "nanoseconds of a run are far below 2^52"
    )]
    let float = |number: u64| number as f64;
    let mut by_process: BTreeMap<String, f64> = BTreeMap::new();
    let mut written = 0.0;
    for (pid, usage) in after {
        let earlier = before.get(pid).cloned().unwrap_or_default();
        let cpu_ns = float(usage.cpu_ns) - float(earlier.cpu_ns);
        let reaped_ns = float(usage.reaped_cpu_ns) - float(earlier.reaped_cpu_ns);
        written += float(usage.written_bytes) - float(earlier.written_bytes);
        *by_process.entry(usage.name.clone()).or_default() += cpu_ns / 1000.0;
        if reaped_ns > 0.0 {
            *by_process.entry("(ended)".to_owned()).or_default() += reaped_ns / 1000.0;
        }
    }
    // A process that ended is now in its parent's `reaped`, with all that it had used before we
    // began.
    for (pid, usage) in before {
        if !after.contains_key(pid) {
            let used_ns = usage.cpu_ns.saturating_add(usage.reaped_cpu_ns);
            *by_process.entry("(ended)".to_owned()).or_default() -= float(used_ns) / 1000.0;
        }
    }
    (written, by_process)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(name: &str, cpu_ns: u64, reaped_cpu_ns: u64) -> Usage {
        Usage {
            name: name.to_owned(),
            cpu_ns,
            reaped_cpu_ns,
            written_bytes: 0,
        }
    }

    #[test]
    fn the_work_of_a_process_that_ended_is_neither_lost_nor_counted_twice() {
        let before = BTreeMap::from([
            (1, usage("init", 1_000, 0)),
            (2, usage("worker", 20_000_000, 0)),
        ]);
        // The worker used 10 ms more, ended, and its parent has waited for it.
        let after = BTreeMap::from([(1, usage("init", 3_000, 30_000_000))]);
        let (_, by_process) = difference(&before, &after);
        assert_eq!(by_process.get("init"), Some(&2.0));
        assert_eq!(by_process.get("(ended)"), Some(&10_000.0));
    }
}
