//! The nodes: each in its zone, started as a person would start them, and joined to one cluster.

use super::zones::{Zones, address};
use crate::error::Error;
use crate::node::{self, Target};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the cluster may take for each step of its making.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// The ports of each node.
const S3_PORT: u16 = 4500;
const MESH_PORT: u16 = 4510;

/// One node.
pub(crate) struct Home {
    pub(crate) name: String,
    /// Counted from 0.
    pub(crate) zone: usize,
    pub(crate) target: Target,
    child: Child,
    directory: PathBuf,
}

/// One shard of metadata, as one node sees it.
pub(crate) struct Shard {
    pub(crate) leads: bool,
    pub(crate) applied: u64,
}

/// The whole cluster; its processes and data are gone when this is.
pub(crate) struct Homes<'a> {
    zones: &'a Zones,
    binary: PathBuf,
    directory: PathBuf,
    all: Vec<Home>,
}

impl<'a> Homes<'a> {
    /// Nodes `n1`, `n2`, … in the zones named, with three copies of every block in as many zones.
    pub(crate) fn start(
        zones: &'a Zones,
        places: &[usize],
        binary: &Path,
        data: &Path,
    ) -> Result<Homes<'a>, Error> {
        let directory = data.join(format!("trousseau-geo-{}", std::process::id()));
        fs::create_dir_all(&directory).map_err(Error::world(directory.display().to_string()))?;
        let mut homes = Homes {
            zones,
            binary: binary.to_owned(),
            directory,
            all: Vec::new(),
        };
        for zone in places {
            homes.add(*zone, None)?;
        }
        homes.spread()?;
        Ok(homes)
    }

    pub(crate) fn all(&self) -> &[Home] {
        &self.all
    }

    /// One more node, invited by the first; `capacity` as `--capacity` takes it.
    pub(crate) fn add(&mut self, zone: usize, capacity: Option<&str>) -> Result<(), Error> {
        let name = format!("n{}", self.all.len() + 1);
        let neighbours = self.all.iter().filter(|home| home.zone == zone).count();
        let ip = address(zone, u8::try_from(neighbours + 1).unwrap_or(u8::MAX));
        let directory = self.directory.join(&name);
        fs::create_dir_all(&directory).map_err(Error::world(directory.display().to_string()))?;
        let (in_zone, mesh) = (zone_name(zone), format!("{ip}:{MESH_PORT}"));
        let mut words = vec!["--name", &name, "--zone", &in_zone, "--mesh", &mesh];
        words.extend(capacity.into_iter().flat_map(|bytes| ["--capacity", bytes]));
        let token = match self.all.first() {
            Some(first) => Some(first.invitation(&self.binary)?),
            None => None,
        };
        words.extend(token.iter().flat_map(|token| ["--join", token]));
        let command = self.zones.command(zone, &self.binary);
        let s3 = format!("{ip}:{S3_PORT}");
        let mut child = node::spawn(command, &directory, &s3, words)?;
        let target = node::first_line(&mut child).and_then(|line| node::parse_ready(&line));
        let target = match target {
            Ok(target) => target,
            Err(error) => {
                node::end(&mut child);
                let log = node::log_end(&directory);
                return Err(Error::Node(format!(
                    "{name}: {error}\nthe end of its log:\n{log}"
                )));
            }
        };
        // A joiner's own key is not the cluster's; all nodes know that of the first.
        let target = match self.all.first() {
            Some(first) => Target {
                address: target.address,
                ..first.target.clone()
            },
            None => target,
        };
        self.all.push(Home {
            name,
            zone,
            target,
            child,
            directory,
        });
        Ok(())
    }

    /// Three copies of each block, and of each shard, over all nodes.
    fn spread(&self) -> Result<(), Error> {
        for home in &self.all {
            until(&format!("a role for {}", home.name), || {
                self.say(&["layout", "assign", &home.name]).map(Some)
            })?;
        }
        for words in [&["layout", "copies", "3"][..], &["layout", "apply"]] {
            until(&words.join(" "), || self.say(words).map(Some))?;
        }
        until("blocks and votes where they belong", || {
            let status = self.say(&["status"])?;
            let done = status.pointer("/cluster/done");
            Ok((done == Some(&Value::Bool(true))).then_some(()))
        })
    }

    /// Asks the first node.
    fn say(&self, words: &[&str]) -> Result<Value, Error> {
        let first = self
            .all
            .first()
            .ok_or_else(|| Error::Node("no node".to_owned()))?;
        first.ask(&self.binary, words)
    }

    /// What each node says of each shard.
    pub(crate) fn shards(&self) -> Result<Vec<Vec<Shard>>, Error> {
        let asked = self.all.iter().map(|home| {
            let shards = home.ask(&self.binary, &["shards"])?;
            let shards = shards.as_array().cloned().unwrap_or_default();
            let read = shards.iter().map(|shard| Shard {
                leads: shard.get("leader").and_then(Value::as_bool) == Some(true),
                applied: shard.get("applied").and_then(Value::as_u64).unwrap_or(0),
            });
            Ok(read.collect())
        });
        asked.collect()
    }

    /// The node that leads a shard, by its place in [`Homes::all`].
    pub(crate) fn leader(&self, shard: usize) -> Result<usize, Error> {
        until("a leader", || {
            let shards = self.shards()?;
            Ok(shards
                .iter()
                .position(|node| node.get(shard).is_some_and(|one| one.leads)))
        })
    }
}

impl Drop for Homes<'_> {
    fn drop(&mut self) {
        for home in &mut self.all {
            node::end(&mut home.child);
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Home {
    /// The token for the next node, as soon as the cluster is made.
    fn invitation(&self, binary: &Path) -> Result<String, Error> {
        until("an invitation", || {
            let invited = self.ask(binary, &["invite"])?;
            let token = invited.get("token").and_then(Value::as_str);
            Ok(token.map(str::to_owned))
        })
    }

    /// What the node answers to a verb. An error where it refuses.
    fn ask(&self, binary: &Path, words: &[&str]) -> Result<Value, Error> {
        let said = || format!("{}: {}", self.name, words.join(" "));
        let mut command = Command::new(binary);
        command
            .arg("--data")
            .arg(self.directory.join("data"))
            .args(words)
            .arg("--json");
        let done = command
            .stdin(Stdio::null())
            .output()
            .map_err(Error::world(said()))?;
        if !done.status.success() {
            let why = String::from_utf8_lossy(&done.stderr).trim().to_owned();
            return Err(Error::Node(format!("{}: {why}", said())));
        }
        serde_json::from_slice(&done.stdout)
            .map_err(|error| Error::Node(format!("{}: {error}", said())))
    }
}

/// As it is shown.
pub(crate) fn zone_name(zone: usize) -> String {
    format!("z{}", zone + 1)
}

/// Asks again and again, with patience.
pub(crate) fn until<T>(
    what: &str,
    mut ask: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    let ends = Instant::now() + PATIENCE;
    loop {
        let asked = ask();
        if let Ok(Some(found)) = asked {
            return Ok(found);
        }
        if Instant::now() >= ends {
            let why = asked
                .err()
                .map_or(String::new(), |error| format!(": {error}"));
            let seconds = PATIENCE.as_secs();
            return Err(Error::Node(format!("not within {seconds} s: {what}{why}")));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
