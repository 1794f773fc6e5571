//! `trousseau up --nodes N --zones Z`: a whole cluster on one machine, each node a process tree of its own, as on N machines.
//!
//! At the first start node 1 makes the cluster and invites the others, and the layout spreads the copies over the zones. Later starts find what each
//! node remembers. A node that ends is told of and left alone; the others go on.

use crate::up::{self, Cluster, Wish};
use crate::{ask, sys, words};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use protocol::token::Token;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The most nodes of one machine.
pub(crate) const NODES_MAX: u16 = 9;
/// The nodes' mesh addresses follow S3's first port at this distance.
const MESH_FROM_S3: u16 = 100;
/// A node is ready within this, or the start has failed.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// A fresh cluster needs moments until everybody knows everybody: a verb is tried again.
const SAY_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at what has ended.
const LOOK_EVERY: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// How many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) nodes: u16,
    pub(crate) zones: u16,
}

/// One node, from outside.
struct Node {
    name: String,
    zone: String,
    wish: Wish,
    launcher: Pid,
    /// Its ready line comes here.
    stdout: OwnedFd,
    ended: bool,
}

/// Runs the nodes until SIGTERM or SIGINT, or until the last has ended.
pub(crate) fn up(wish: &Wish, size: Size) -> ExitCode {
    match run(wish, size) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("trousseau: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(wish: &Wish, size: Size) -> Result<(), String> {
    let signals = up::catch_signals().map_err(|errno| format!("signalfd: {errno}"))?;
    let mut nodes = Vec::new();
    let started = start_all(wish, size, &mut nodes);
    let told = started.and_then(|ready| announce(wish, &nodes, &ready));
    let result = match told {
        Ok(()) => attend(&signals, &mut nodes),
        Err(why) => Err(why),
    };
    stop(&mut nodes);
    result
}

/// Starts all nodes and waits until each serves; the first one's ready line.
fn start_all(wish: &Wish, size: Size, nodes: &mut Vec<Node>) -> Result<Value, String> {
    let of = |number| node_wish(wish, size, number);
    if of(1)?.data.join("node").exists() {
        // They know each other, and none is ready before most are there.
        for number in 1..=size.nodes {
            nodes.push(start(of(number)?)?);
        }
        let ready = nodes
            .iter()
            .map(wait_until_ready)
            .collect::<Result<Vec<Value>, String>>()?;
        return ready.into_iter().next().ok_or_else(|| "no nodes".into());
    }
    nodes.push(start(of(1)?)?);
    let first = nodes
        .first()
        .map_or_else(|| Err("no nodes".into()), wait_until_ready)?;
    for number in 2..=size.nodes {
        let invitation = say(wish, &["invite"])?;
        let token = invitation
            .get("token")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let token: Token = token
            .parse()
            .map_err(|error| format!("the invitation: {error}"))?;
        let mut joining = of(number)?;
        joining.cluster.join = Some(token);
        let node = start(joining)?;
        let ready = wait_until_ready(&node);
        nodes.push(node);
        ready?;
    }
    if size.nodes > 1 {
        spread(wish, nodes, size)?;
    }
    Ok(first)
}

/// As many copies as were asked for, or as there are zones, at most three, over all nodes.
fn spread(wish: &Wish, nodes: &[Node], size: Size) -> Result<(), String> {
    for node in nodes {
        say(
            wish,
            &["layout", "assign", &node.name, "--zone", &node.zone],
        )?;
    }
    let usual = match size.zones.min(size.nodes) {
        1 if size.nodes >= 3 => 3,
        zones => zones.min(3),
    };
    let copies = wish.cluster.copies.map_or(usual, u16::from);
    say(wish, &["layout", "copies", &copies.to_string()])?;
    say(wish, &["layout", "apply"])?;
    // Until then each block has to be on the first node, too, and each shard's only voter is there.
    let until = Instant::now() + SAY_WITHIN;
    while !is_done(&say(wish, &["status"])?) {
        if Instant::now() >= until {
            return Err("blocks and votes did not come to all nodes in time".into());
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// Whether nothing is under way any more, by the words of `status`.
fn is_done(status: &Value) -> bool {
    let done = status
        .get("cluster")
        .and_then(|cluster| cluster.get("done"));
    done.and_then(Value::as_bool).unwrap_or(false)
}

/// What node `number`, from 1, is started with.
fn node_wish(wish: &Wish, size: Size, number: u16) -> Result<Wish, String> {
    let port = |base: u16| {
        let port = base.checked_add(number - 1);
        port.ok_or_else(|| format!("{}: no {} ports follow it", wish.s3, size.nodes))
    };
    let s3 = SocketAddr::new(wish.s3.ip(), port(wish.s3.port())?);
    let mesh = wish.s3.port().checked_add(MESH_FROM_S3);
    let mesh = port(mesh.ok_or("--s3: choose a lower port, the nodes' own follow it")?)?;
    Ok(Wish {
        data: wish.data.join(format!("n{number}")),
        s3,
        ssh: None,
        web: None,
        web_domains: wish.web_domains.clone(),
        webhooks: wish.webhooks.clone(),
        json: true,
        services: wish.services.clone(),
        cluster: Cluster {
            name: Some(format!("n{number}")),
            zone: Some(format!("z{}", (number - 1) % size.zones + 1)),
            capacity: wish.cluster.capacity,
            join: None,
            mesh: Some(SocketAddr::from(([127, 0, 0, 1], mesh))),
            gossip: None,
            copies: wish.cluster.copies.filter(|_| number == 1),
        },
    })
}

/// A node in a process of its own, as if somebody had typed `trousseau up`.
fn start(wish: Wish) -> Result<Node, String> {
    let fails = |errno: rustix::io::Errno| format!("pipe: {errno}");
    let (stdout, theirs) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(fails)?;
    match sys::divide().map_err(|errno| format!("fork: {errno}"))? {
        Some(launcher) => Ok(Node {
            name: wish.cluster.name.clone().unwrap_or_default(),
            zone: wish.cluster.zone.clone().unwrap_or_default(),
            wish,
            launcher,
            stdout,
            ended: false,
        }),
        None => {
            // The node stops with the cluster that it is of.
            let terminate = Some(rustix::process::Signal::TERM);
            let _ = rustix::process::set_parent_process_death_signal(terminate);
            let _ = rustix::stdio::dup2_stdout(&theirs);
            drop((stdout, theirs));
            std::process::exit(match up::up(&wish) {
                code if code == ExitCode::SUCCESS => 0,
                _ => 1,
            });
        }
    }
}

fn wait_until_ready(node: &Node) -> Result<Value, String> {
    let until = Instant::now() + READY_WITHIN;
    let mut line = Vec::new();
    let fails = |why: &str| format!("node {} was not ready: {why}; see above", node.name);
    let mut stdout = File::from(node.stdout.try_clone().map_err(|error| error.to_string())?);
    while line.last() != Some(&b'\n') {
        let mut set = [PollFd::new(&node.stdout, PollFlags::IN)];
        match poll(&mut set, Some(&LOOK_EVERY)) {
            Ok(0) if Instant::now() < until => continue,
            Ok(0) => return Err(fails("it took too long")),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(fails(&errno.to_string())),
        }
        let mut byte = [0];
        match stdout.read(&mut byte) {
            Ok(0) => return Err(fails("it has ended")),
            Ok(_) => line.extend(byte),
            Err(error) => return Err(fails(&error.to_string())),
        }
    }
    serde_json::from_slice(&line).map_err(|error| fails(&error.to_string()))
}

/// A verb of node 1, until it is obeyed.
fn say(wish: &Wish, verb: &[&str]) -> Result<Value, String> {
    let until = Instant::now() + SAY_WITHIN;
    let data = wish.data.join("n1");
    let verb: Vec<String> = verb.iter().map(|word| (*word).to_owned()).collect();
    loop {
        let why = match ask::say(&data, &verb, true, None) {
            Ok((0, text)) => {
                let document = serde_json::from_str(&text);
                return document.map_err(|error| format!("{}: {error}", verb.join(" ")));
            }
            Ok((_, text)) => text,
            Err(why) => why,
        };
        if Instant::now() >= until {
            return Err(format!("{}: {}", verb.join(" "), why.trim_end()));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The cluster serves.
fn announce(wish: &Wish, nodes: &[Node], first: &Value) -> Result<(), String> {
    let all: Vec<Value> = nodes
        .iter()
        .map(|node| {
            let s3 = format!("http://{}", node.wish.s3);
            json!({"name": node.name, "zone": node.zone, "s3": s3, "pid": node.launcher.as_raw()})
        })
        .collect();
    if wish.json {
        let mut line = first.clone();
        if let Some(line) = line.as_object_mut() {
            line.insert("nodes".into(), all.into());
        }
        words::print(&format!("{line}\n"));
        return Ok(());
    }
    let field = |name: &str| first.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut text = format!(
        "Trousseau runs {} nodes, data in {}.\n\n",
        nodes.len(),
        wish.data.display()
    );
    for node in nodes {
        text.push_str(&format!(
            "  {}  {}  http://{}\n",
            node.name, node.zone, node.wish.s3
        ));
    }
    text.push_str(&format!(
        "\n  access key  {}\n  secret key  {}\n\n`trousseau --data {} members` and `layout` tell how they are; Ctrl-C stops all.\n",
        field("access_key"),
        field("secret_key"),
        wish.data.join("n1").display(),
    ));
    words::print(&text);
    Ok(())
}

/// Until it is told to stop, or nobody is left.
fn attend(signals: &SignalFd, nodes: &mut [Node]) -> Result<(), String> {
    loop {
        let mut set = [PollFd::new(signals, PollFlags::IN)];
        match poll(&mut set, Some(&LOOK_EVERY)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(format!("poll: {errno}")),
        }
        for node in nodes.iter_mut().filter(|node| !node.ended) {
            if has_ended(node.launcher, WaitPidFlag::WNOHANG) {
                node.ended = true;
                eprintln!("trousseau: node {} has ended; the others go on", node.name);
            }
        }
        if nodes.iter().all(|node| node.ended) {
            return Err("all nodes have ended".into());
        }
    }
}

/// All at once: a node that stops first would make the others elect and repair for nothing.
fn stop(nodes: &mut [Node]) {
    for node in nodes.iter().filter(|node| !node.ended) {
        let _ = kill(node.launcher, Signal::SIGTERM);
    }
    for node in nodes.iter_mut().filter(|node| !node.ended) {
        node.ended = has_ended(node.launcher, WaitPidFlag::empty());
    }
}

fn has_ended(process: Pid, how: WaitPidFlag) -> bool {
    !matches!(waitpid(process, Some(how)), Ok(WaitStatus::StillAlive))
}
