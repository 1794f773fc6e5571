//! The command line.

use crate::error::Error;
use std::path::PathBuf;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Measures CPU time, memory and latency of a whole node per S3 operation.

usage: benches --binary PATH [options]
       benches --binary PATH --objects N | --idle N [--slow M] | --visitors N | --floors | --geo
       benches --attach HOST:PORT --access-key KEY --secret-key SECRET [--pid PID] [options]

  --binary PATH       start this `trousseau` on a new directory and a free port
  --data DIR          make the data directory below DIR (default: the directory for temporary files)
  --attach HOST:PORT  measure a running S3 server instead
  --pid PID           its first process; CPU and memory are of it and of all of its descendants
  --access-key, --secret-key, --region   its credentials (region: us-east-1)
  --connections N     keep-alive connections, one thread each (4)
  --passes N          how often everything is done; the table shows medians (3)
  --scale F           multiplies the number of operations (1.0)
  --payload KIND      signed: SHA-256 of the body, as SDKs do over http (default)
                      unsigned: UNSIGNED-PAYLOAD
                      chunked: aws-chunked with a CRC64NVME trailer, as over https
  --only NAMES        only these sizes, separated by commas: 4KiB,64KiB,1MiB,16MiB
  --objects N         instead: N objects of 128 bytes in one bucket; puts, listing, memory and start-up
                      at a tenth of them and at all
  --idle N            instead: latency and memory with N idle keep-alive connections …
  --slow M            … and M that send one byte of a request every five seconds
  --visitors N        instead: N visitors at a time of a web site, each fetching the 8 files of a page on a
                      connection of its own; from `web`, and from nginx (if there is one)
  --floors            instead: what cannot be undercut: hashes and a synced write, nginx (if there is one)
                      with the same bytes as files, and a signed request for nothing
  --geo               instead: five nodes in three zones with 100 ms between them: round trips of each operation,
                      and a large object over thin uplinks; as root
  --plot FILE         where --geo draws (geo.svg)
  --by-process        also show the CPU time of each process
  --json              print JSON instead of a table";

/// How the body of a PUT is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Signed,
    Unsigned,
    Chunked,
}

impl Payload {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Payload::Signed => "signed",
            Payload::Unsigned => "unsigned",
            Payload::Chunked => "chunked",
        }
    }
}

/// Which measurements are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The cost of each operation.
    Operations,
    /// One bucket with so many objects.
    Objects(usize),
    /// Connections that do nothing or little.
    Crowd { idle: usize, slow: usize },
    /// What no server could do cheaper.
    Floors,
    /// So many visitors of a web site at a time.
    Visitors(usize),
    /// Zones far from each other.
    Geo,
}

/// What to measure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Subject {
    /// A program to start.
    Binary(PathBuf),
    /// A server that runs already.
    Running {
        address: String,
        access_key: String,
        secret_key: String,
        pid: Option<i32>,
    },
}

/// The whole command line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) subject: Subject,
    pub(crate) mode: Mode,
    pub(crate) data: PathBuf,
    pub(crate) region: String,
    pub(crate) connections: usize,
    pub(crate) passes: usize,
    pub(crate) scale: f64,
    pub(crate) payload: Payload,
    pub(crate) only: Option<Vec<String>>,
    pub(crate) by_process: bool,
    pub(crate) json: bool,
    /// What [`Mode::Geo`] draws.
    pub(crate) plot: PathBuf,
}

impl Options {
    /// Reads the arguments; `None` means that help was asked for.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, Error> {
        let (mut binary, mut address, mut pid) = (None, None, None);
        let (mut access_key, mut secret_key) = (None, None);
        let (mut objects, mut idle, mut slow, mut floors) = (None, None, None, false);
        let (mut visitors, mut geo) = (None, false);
        let mut options = Options {
            subject: Subject::Binary(PathBuf::new()),
            mode: Mode::Operations,
            data: std::env::temp_dir(),
            region: "us-east-1".to_owned(),
            connections: 4,
            passes: 3,
            scale: 1.0,
            payload: Payload::Signed,
            only: None,
            by_process: false,
            json: false,
            plot: PathBuf::from("geo.svg"),
        };
        while let Some(name) = args.next() {
            let mut value = || {
                args.next()
                    .ok_or_else(|| Error::Usage(format!("{name} needs a value")))
            };
            match name.as_str() {
                "--help" | "-h" => return Ok(None),
                "--json" => options.json = true,
                "--by-process" => options.by_process = true,
                "--binary" => binary = Some(PathBuf::from(value()?)),
                "--data" => options.data = PathBuf::from(value()?),
                "--attach" => address = Some(value()?),
                "--pid" => pid = Some(number(&name, &value()?)?),
                "--access-key" => access_key = Some(value()?),
                "--secret-key" => secret_key = Some(value()?),
                "--region" => options.region = value()?,
                "--connections" => options.connections = number::<usize>(&name, &value()?)?.max(1),
                "--passes" => options.passes = number::<usize>(&name, &value()?)?.max(1),
                "--scale" => options.scale = number(&name, &value()?)?,
                "--objects" => objects = Some(number(&name, &value()?)?),
                "--idle" => idle = Some(number(&name, &value()?)?),
                "--slow" => slow = Some(number(&name, &value()?)?),
                "--visitors" => visitors = Some(number::<usize>(&name, &value()?)?.max(1)),
                "--floors" => floors = true,
                "--geo" => geo = true,
                "--plot" => options.plot = PathBuf::from(value()?),
                "--only" => {
                    options.only = Some(value()?.split(',').map(str::to_owned).collect());
                }
                "--payload" => {
                    options.payload = match value()?.as_str() {
                        "signed" => Payload::Signed,
                        "unsigned" => Payload::Unsigned,
                        "chunked" => Payload::Chunked,
                        other => return Err(Error::Usage(format!("unknown payload {other}"))),
                    }
                }
                _ => return Err(Error::Usage(format!("unknown option {name}"))),
            }
        }
        options.mode = match (objects, idle, slow, floors, visitors, geo) {
            (None, None, None, false, None, false) => Mode::Operations,
            (Some(objects), None, None, false, None, false) => Mode::Objects(objects),
            (None, None, None, true, None, false) => Mode::Floors,
            (None, None, None, false, Some(visitors), false) => Mode::Visitors(visitors),
            (None, None, None, false, None, true) => Mode::Geo,
            (None, idle, slow, false, None, false) => Mode::Crowd {
                idle: idle.unwrap_or(0),
                slow: slow.unwrap_or(0),
            },
            _ => {
                let reason = "--objects, --idle with --slow, --visitors, --floors and --geo exclude each other";
                return Err(Error::Usage(reason.to_owned()));
            }
        };
        if options.mode != Mode::Operations && binary.is_none() {
            let reason = "--objects, --idle, --slow, --visitors, --floors and --geo need --binary";
            return Err(Error::Usage(reason.to_owned()));
        }
        options.subject = match (binary, address, access_key, secret_key) {
            (Some(binary), None, None, None) if pid.is_none() => Subject::Binary(binary),
            (None, Some(address), Some(access_key), Some(secret_key)) => Subject::Running {
                address,
                access_key,
                secret_key,
                pid,
            },
            _ => {
                let reason = "either --binary, or --attach with --access-key and --secret-key";
                return Err(Error::Usage(reason.to_owned()));
            }
        };
        Ok(Some(options))
    }
}

fn number<N: std::str::FromStr>(name: &str, text: &str) -> Result<N, Error> {
    text.parse()
        .map_err(|_| Error::Usage(format!("{name} needs a number, not {text}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, Error> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn every_option_counts_and_unknown_ones_are_refused() {
        let options = parse("--binary t --passes 5 --payload chunked --only 4KiB,1MiB --json")
            .unwrap()
            .unwrap();
        assert_eq!(options.subject, Subject::Binary(PathBuf::from("t")));
        assert_eq!(
            (options.passes, options.payload, options.json),
            (5, Payload::Chunked, true)
        );
        assert_eq!(
            options.only,
            Some(vec!["4KiB".to_owned(), "1MiB".to_owned()])
        );
        let mode = |line: &str| parse(line).unwrap().unwrap().mode;
        assert_eq!(mode("--binary t --objects 10"), Mode::Objects(10));
        let crowd = Mode::Crowd { idle: 5, slow: 2 };
        assert_eq!(mode("--binary t --slow 2 --idle 5"), crowd);
        assert_eq!(mode("--visitors 7 --binary t"), Mode::Visitors(7));
        let geo = parse("--geo --binary t --plot p").unwrap().unwrap();
        assert_eq!((geo.mode, geo.plot), (Mode::Geo, PathBuf::from("p")));
        assert!(parse("--help").unwrap().is_none());
        for wrong in [
            "",
            "--binary",
            "--binary t --fast",
            "--binary t --passes x",
            "--attach a",
            "--binary t --pid 1",
            "--binary t --objects 1 --floors",
            "--binary t --visitors 1 --idle 1",
            "--binary t --geo --floors",
            "--attach a --access-key k --secret-key s --objects 1",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
