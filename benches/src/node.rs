//! The node that is measured: started for this run, or found running.

use crate::error::Error;
use crate::options::{Mode, Options, Subject};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Longest time from start to the ready line, and from SIGTERM to the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where requests go and who signs them.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// `127.0.0.1:3900`
    pub(crate) address: String,
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    pub(crate) region: String,
}

/// A node, and what must be cleaned up after it.
pub(crate) struct Node {
    target: Target,
    root_pid: Option<i32>,
    started: Option<Started>,
}

struct Started {
    child: Child,
    binary: PathBuf,
    /// Where web sites are, if anywhere.
    web: Option<String>,
    /// Removed at the end; the log of the node is in it until then.
    directory: PathBuf,
}

impl Node {
    /// Starts the binary, or takes the running server as it was described.
    pub(crate) fn start_or_attach(options: &Options) -> Result<Node, Error> {
        match &options.subject {
            Subject::Binary(binary) => Node::start(options, binary.clone()),
            Subject::Running {
                address,
                access_key,
                secret_key,
                pid,
            } => Ok(Node {
                target: Target {
                    address: address.clone(),
                    access_key: access_key.clone(),
                    secret_key: secret_key.clone(),
                    region: options.region.clone(),
                },
                root_pid: *pid,
                started: None,
            }),
        }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The first process of the node, when it is known.
    pub(crate) fn root_pid(&self) -> Option<i32> {
        self.root_pid
    }

    /// Where web sites are; only a node that is started for visitors has them.
    pub(crate) fn web(&self) -> Option<&str> {
        self.started.as_ref()?.web.as_deref()
    }

    fn start(options: &Options, binary: PathBuf) -> Result<Node, Error> {
        let directory = options
            .data
            .join(format!("trousseau-bench-{}", std::process::id()));
        let shown = directory.display().to_string();
        fs::create_dir_all(&directory).map_err(Error::world(shown))?;
        let address = free_address()?;
        let web = match options.mode {
            Mode::Visitors(_) => Some(free_address()?),
            _ => None,
        };
        let mut child = spawn(
            Command::new(&binary),
            &directory,
            &address,
            words_for(web.as_deref()),
        )?;
        let root_pid = i32::try_from(child.id()).ok();
        let line = first_line(&mut child);
        let node = |target| Node {
            target,
            root_pid,
            started: Some(Started {
                child,
                binary,
                web,
                directory,
            }),
        };
        let nobody = Target {
            address: String::new(),
            access_key: String::new(),
            secret_key: String::new(),
            region: String::new(),
        };
        match line.and_then(|line| parse_ready(&line)) {
            Ok(target) => Ok(node(target)),
            Err(error) => {
                // Nothing that was started may stay; the log says more than we can.
                let mut node = node(nobody);
                let log = node.log_end();
                let _ = node.stop();
                Err(Error::Node(format!("{error}\nthe end of its log:\n{log}")))
            }
        }
    }

    /// The last lines that the node wrote.
    fn log_end(&self) -> String {
        let Some(started) = &self.started else {
            return String::new();
        };
        log_end(&started.directory)
    }

    /// Where the data of a node that was started is.
    pub(crate) fn data(&self) -> Option<PathBuf> {
        let started = self.started.as_ref()?;
        Some(started.directory.join("data"))
    }

    /// Stops what was started and starts it again on the same data; answers how long it took from its start to its ready line.
    pub(crate) fn restart(&mut self) -> Result<Duration, Error> {
        let Some(mut started) = self.started.take() else {
            return Err(Error::Node("it was not started by us".to_owned()));
        };
        let stopped = end(&mut started.child);
        let begin = Instant::now();
        let begun = spawn(
            Command::new(&started.binary),
            &started.directory,
            &self.target.address,
            words_for(started.web.as_deref()),
        );
        let begun = begun.map(|child| started.child = child);
        self.root_pid = i32::try_from(started.child.id()).ok();
        let line = begun.and_then(|()| first_line(&mut started.child));
        let elapsed = begin.elapsed();
        self.started = Some(started);
        parse_ready(&line?)?;
        match stopped {
            true => Ok(elapsed),
            false => Err(Error::Node("it did not stop on SIGTERM".to_owned())),
        }
    }

    /// Stops what was started and removes its data; leaves a server that ran before alone.
    pub(crate) fn stop(&mut self) -> Result<(), Error> {
        let Some(mut started) = self.started.take() else {
            return Ok(());
        };
        let stopped = end(&mut started.child);
        let shown = started.directory.display().to_string();
        fs::remove_dir_all(&started.directory).map_err(Error::world(shown))?;
        if stopped {
            Ok(())
        } else {
            Err(Error::Node("it did not stop on SIGTERM".to_owned()))
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// The last lines of the log of a node that was started on `directory`.
pub(crate) fn log_end(directory: &Path) -> String {
    let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines
        .get(lines.len().saturating_sub(20)..)
        .unwrap_or_default()
        .join("\n")
}

/// What `up` is told of web sites.
fn words_for(web: Option<&str>) -> impl Iterator<Item = &str> {
    web.into_iter().flat_map(|web| ["--web", web])
}

/// Starts a node on `directory` by a `command` that lacks only the program's words; `more` are those besides where data and S3 are. The log goes to `directory`, too.
pub(crate) fn spawn<'a>(
    mut command: Command,
    directory: &Path,
    address: &str,
    more: impl IntoIterator<Item = &'a str>,
) -> Result<Child, Error> {
    let log = directory.join("log");
    let log = File::options().create(true).append(true).open(log);
    command
        .arg("up")
        .arg("--data")
        .arg(directory.join("data"))
        .args(["--s3", address, "--json"])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.map_err(Error::world("the log file"))?);
    let begun = command.spawn();
    begun.map_err(Error::world(command.get_program().to_string_lossy()))
}

/// Asks a process to end, waits for it, and ends it if it does not; whether it did.
pub(crate) fn end(child: &mut Child) -> bool {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    let patience_ends = Instant::now() + PATIENCE;
    let stopped = loop {
        match child.try_wait() {
            Ok(Some(_)) => break true,
            Ok(None) if Instant::now() < patience_ends => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(None) | Err(_) => break false,
        }
    };
    if !stopped {
        let _ = child.kill();
        let _ = child.wait();
    }
    stopped
}

/// A port that nobody uses now; `up` takes none of its own choice.
pub(crate) fn free_address() -> Result<String, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Error::world("a free port"))?;
    let address = listener.local_addr().map_err(Error::world("a free port"))?;
    Ok(address.to_string())
}

/// The first line of the child's output, waited for with patience.
pub(crate) fn first_line(child: &mut Child) -> Result<String, Error> {
    let Some(output) = child.stdout.take() else {
        return Err(Error::Node("it has no standard output".to_owned()));
    };
    let (sender, receiver) = mpsc::channel();
    // The thread keeps the pipe open, because the node must not meet a closed one; it ends with the
    // node.
    std::thread::spawn(move || {
        let mut lines = BufReader::new(output).lines();
        let _ = sender.send(lines.next());
        lines.for_each(drop);
    });
    match receiver.recv_timeout(PATIENCE) {
        Ok(Some(Ok(line))) => Ok(line),
        Ok(_) => Err(Error::Node("it ended before it was ready".to_owned())),
        Err(_) => Err(Error::Node("it was not ready in time".to_owned())),
    }
}

/// `{"ready":true,"s3":"http://…","access_key":"…","secret_key":"…","region":"…"}`
pub(crate) fn parse_ready(line: &str) -> Result<Target, Error> {
    let broken = || Error::Node(format!("its ready line is not as agreed: {line}"));
    let value: Value = serde_json::from_str(line).map_err(|_| broken())?;
    let text = |name: &str| {
        value
            .get(name)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(broken)
    };
    if value.get("ready") != Some(&Value::Bool(true)) {
        return Err(broken());
    }
    let url = text("s3")?;
    let address = url
        .strip_prefix("http://")
        .ok_or_else(broken)?
        .trim_end_matches('/')
        .to_owned();
    Ok(Target {
        address,
        access_key: text("access_key")?,
        secret_key: text("secret_key")?,
        region: text("region")?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;

    #[test]
    fn the_ready_line_is_read_as_agreed() {
        let line = r#"{"ready":true,"s3":"http://127.0.0.1:3900","access_key":"a","secret_key":"s","region":"r"}"#;
        let target = parse_ready(line).unwrap();
        assert_eq!(
            (target.address.as_str(), target.region.as_str()),
            ("127.0.0.1:3900", "r")
        );
        for wrong in [
            "",
            "{}",
            "ready",
            &line.replace("true", "false"),
            &line.replace("http:", "https:"),
        ] {
            assert!(parse_ready(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_program_that_ends_at_once_is_reported_and_leaves_nothing() {
        let data = std::env::temp_dir().join(format!("benches-test-{}", std::process::id()));
        let arguments = format!("--binary /bin/false --data {}", data.display());
        let options = Options::parse(arguments.split(' ').map(str::to_owned))
            .unwrap()
            .unwrap();
        assert!(matches!(
            Node::start_or_attach(&options),
            Err(Error::Node(_))
        ));
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
        fs::remove_dir(&data).unwrap();
    }
}
