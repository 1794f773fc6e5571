//! `trousseau up`: one node in the foreground. The same init as in the booted image, as PID 1 of a PID namespace of its own.

use crate::ask::Heard;
use crate::{ask, extra, sys};
use init::{Config, DataDir, Reach, Ssh};
use machine::Webhooks;
use manifests::Policy;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use protocol::Channel;
use protocol::channel::ReceiveBuffer;
use protocol::start::{Say, Start};
use protocol::token::Token;
use rustix::net::RecvFlags;
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The region that S3 answers for.
const REGION: &str = "us-east-1";
/// Where a node that is alone gossips: nobody else is there, so any free port of the loopback will do.
const GOSSIP: &str = "127.0.0.1:0";
/// Virtual-host style: `bucket.localhost`.
const HOSTS: &str = "localhost,s3.localhost";

/// After this time a node that does not know its first key yet is asked again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Between two looks when nothing is to be asked: only what happens is waited for.
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);

/// What a person asked for.
pub(crate) struct Wish {
    pub(crate) data: PathBuf,
    pub(crate) s3: SocketAddr,
    pub(crate) ssh: Option<SocketAddr>,
    pub(crate) web: Option<SocketAddr>,
    pub(crate) web_domains: Vec<String>,
    pub(crate) webhooks: Webhooks,
    pub(crate) json: bool,
    pub(crate) services: Vec<PathBuf>,
    pub(crate) cluster: Cluster,
}

/// The node among others.
#[derive(Default)]
pub(crate) struct Cluster {
    /// The node's name, if this is its first start.
    pub(crate) name: Option<String>,
    pub(crate) zone: Option<String>,
    /// What it gives, in bytes.
    pub(crate) capacity: Option<u64>,
    /// The invitation.
    pub(crate) join: Option<Token>,
    /// Where the other nodes reach its bus.
    pub(crate) mesh: Option<SocketAddr>,
    /// Where they reach its gossip; `None`: as its bus.
    pub(crate) gossip: Option<SocketAddr>,
    /// How many copies there are to be in a cluster that it makes.
    pub(crate) copies: Option<u8>,
}

/// Runs the node until SIGTERM or SIGINT, or until it cannot go on.
pub(crate) fn up(wish: &Wish) -> ExitCode {
    match start(wish).and_then(|node| node.attend(wish)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("trousseau: {why}");
            ExitCode::FAILURE
        }
    }
}

/// A started node, seen from outside.
struct Node {
    init: Pid,
    channel: Channel,
    signals: SignalFd,
}

fn start(wish: &Wish) -> Result<Node, String> {
    let (manifests, programs, policy) = seal_services(&wish.services)?;
    let data = DataDir::open(&wish.data).map_err(|error| match error {
        init::OpenError::InUse => format!(
            "{} is in use by another node: stop it first, or choose another directory with --data",
            wish.data.display()
        ),
        init::OpenError::System(errno) => format!("{}: {errno}", wish.data.display()),
    })?;
    let itself =
        File::open("/proc/self/exe").map_err(|error| format!("/proc/self/exe: {error}"))?;
    let program = sandbox_profiles::program(init::PROGRAM, itself.as_fd())
        .map_err(|error| error.to_string())?;
    let (ours, theirs) = Channel::pair().map_err(|errno| errno.to_string())?;
    let signals = catch_signals().map_err(|errno| format!("signalfd: {errno}"))?;
    let root = rustix::process::geteuid().is_root();
    enter_namespaces(root)?;
    let cluster = &wish.cluster;
    let gossip = cluster.gossip.or(cluster.mesh);
    let config = Config {
        data,
        program,
        s3: wish.s3.to_string(),
        gossip: gossip.map_or_else(|| GOSSIP.into(), |address| address.to_string()),
        mesh: cluster.mesh.map(|address| address.to_string()),
        reach: Reach::default(),
        web: wish.web.map(|address| address.to_string()),
        web_domains: init::web_domains(&wish.web_domains),
        webhooks: wish.webhooks.clone(),
        ssh: wish.ssh.map(|address| Ssh {
            address: address.to_string(),
            keys: None,
        }),
        region: REGION.into(),
        hosts: HOSTS.into(),
        policy,
        manifests,
        programs,
        wish: init::Wish {
            name: cluster.name.clone(),
            zone: cluster.zone.clone(),
            capacity_bytes: cluster.capacity,
            join: cluster.join.clone(),
            copies: cluster.copies,
        },
        settings: ["access_key", "secret_key"]
            .map(|name| (name, String::new()))
            .into(),
        launcher: Some(theirs),
        devices: None,
        root,
    };
    match sys::divide().map_err(|errno| format!("fork: {errno}"))? {
        Some(init) => Ok(Node {
            init,
            channel: ours,
            signals,
        }),
        None => {
            drop(ours);
            std::process::exit(be_init(config));
        }
    }
}

/// The child: from here on PID 1 of the node.
fn be_init(config: Config) -> i32 {
    // The node dies with whoever started it, however that ends.
    let bound =
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    // A session of its own: the terminal's Ctrl-C goes to the launcher only, which stops the node in order.
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"init");
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
    }
    match bound
        .map_err(|errno| errno.to_string())
        .and_then(|()| init::run(config).map_err(|error| error.to_string()))
    {
        Ok(_) => 0,
        Err(_) => 1, // the launcher has been told
    }
}

/// New PID, mount, IPC and UTS namespaces; for an ordinary user inside a user namespace in which it is uid 0.
fn enter_namespaces(root: bool) -> Result<(), String> {
    let (user, group) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let mut flags = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    if !root {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).map_err(|errno| {
        format!("unshare: {errno}; this host does not let you make namespaces (see user_namespaces(7)), run as root")
    })?;
    if !root {
        for (file, text) in [
            ("setgroups", "deny".to_owned()),
            ("uid_map", format!("0 {user} 1")),
            ("gid_map", format!("0 {group} 1")),
        ] {
            std::fs::write(format!("/proc/self/{file}"), text)
                .map_err(|error| format!("/proc/self/{file}: {error}"))?;
        }
    }
    let private =
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)
        .map_err(|errno| format!("making mounts private: {errno}"))
}

/// The manifests of extra services, their sealed programs, and the policy that they are part of.
type Services = (Vec<(String, String)>, Vec<(String, OwnedFd)>, Policy);

fn seal_services(paths: &[PathBuf]) -> Result<Services, String> {
    let (services, policy) = extra::read(paths)?;
    let (mut manifests, mut programs) = (Vec::new(), Vec::new());
    for service in services {
        let fails = |what: String| format!("{}: {what}", service.program.display());
        let opened = File::open(&service.program).map_err(|error| fails(error.to_string()))?;
        let sealed = sandbox_profiles::program(&service.name, opened.as_fd())
            .map_err(|error| fails(error.to_string()))?;
        programs.push((service.name, sealed));
        manifests.push((service.file, service.manifest));
    }
    Ok((manifests, programs, policy))
}

pub(crate) fn catch_signals() -> Result<SignalFd, nix::errno::Errno> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

impl Node {
    /// Passes signals on, tells when the node is ready, and returns when it has ended.
    fn attend(self, wish: &Wish) -> Result<(), String> {
        let mut buffer = ReceiveBuffer::new();
        let mut failed = None;
        let mut announcement = Announcement::default();
        loop {
            self.wait(&announcement)?;
            while let Ok(Some(_)) = self.signals.read_signal() {
                let _ = kill(self.init, Signal::SIGTERM);
            }
            match self
                .channel
                .receive_message::<Start, Say>(&mut buffer, RecvFlags::DONTWAIT)
            {
                Ok(Some((Say::Ready { .. }, _))) => announcement.next = Some(Instant::now()),
                Ok(Some((Say::Failed { reason }, _))) => failed = Some(reason),
                Ok(Some((Say::Alive | Say::Traced { .. }, _))) => {}
                Err(error) if error.would_block() => {}
                Ok(None) | Err(_) => break,
            }
            announcement.turn(wish);
        }
        match (waitpid(self.init, None), failed) {
            (_, Some(reason)) => Err(reason),
            (Ok(WaitStatus::Exited(_, 0)), None) => Ok(()),
            (Ok(status), None) => Err(format!("the node has ended: {status:?}")),
            (Err(errno), None) => Err(format!("the node has ended: {errno}")),
        }
    }

    /// Until there is something to do.
    fn wait(&self, announcement: &Announcement) -> Result<(), String> {
        let question = announcement.question.iter().map(AsFd::as_fd);
        let descriptors = [self.signals.as_fd(), self.channel.as_fd()];
        let until = announcement
            .next
            .unwrap_or_else(|| Instant::now() + LOOK_AGAIN);
        runtime::wait(descriptors.into_iter().chain(question), until)
            .map_err(|errno| format!("poll: {errno}"))
    }
}

/// Telling that the node serves, as soon as it knows its first key. Among other nodes that takes a majority, which may be away for as long as it likes:
/// the node runs meanwhile, and is asked again.
#[derive(Default)]
struct Announcement {
    /// When the node is asked, if it is to be.
    next: Option<Instant>,
    /// It is being asked.
    question: Option<ask::Question>,
    failures: u32,
}

impl Announcement {
    /// Asks if it is time, and tells what was answered.
    fn turn(&mut self, wish: &Wish) {
        if self.next.is_some_and(|next| next <= Instant::now()) {
            self.next = None;
            match ask::Question::ask(&wish.data, &["first-key".into()], true, None) {
                Ok(question) => self.question = Some(question),
                Err(why) => self.put_off(&why),
            }
        }
        let Some(question) = &mut self.question else {
            return;
        };
        let why = match question.hear(RecvFlags::DONTWAIT) {
            Ok(Heard::Nothing | Heard::Piece) => return,
            Ok(Heard::All(0, text)) => match serde_json::from_str(&text) {
                Ok(key) => {
                    self.question = None;
                    return announce(wish, &key);
                }
                Err(error) => format!("the console's answer: {error}"),
            },
            Ok(Heard::All(_, text)) => text,
            Err(why) => why,
        };
        self.put_off(why.trim_end());
    }

    fn put_off(&mut self, why: &str) {
        self.question = None;
        self.next = Some(Instant::now() + AGAIN_AFTER);
        self.failures = self.failures.saturating_add(1);
        // Once, and not the first: a process may be restarted between "ready" and the question.
        if self.failures == 2 {
            eprintln!("trousseau: the node runs, but cannot tell its access key yet: {why}");
        }
    }
}

/// The node serves: one line for a program, or what a person needs to try it.
fn announce(wish: &Wish, key: &serde_json::Value) {
    let field = |name: &str| {
        key.get(name)
            .and_then(|value| value.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    let (access, secret, s3) = (
        field("access_key"),
        field("secret_key"),
        format!("http://{}", wish.s3),
    );
    if wish.json {
        let mut line = serde_json::json!({
            "ready": true, "s3": s3, "access_key": access, "secret_key": secret, "region": REGION,
        });
        if let Some(line) = line.as_object_mut() {
            let ssh = wish.ssh.map(|address| ("ssh", address.to_string()));
            let web = wish.web.map(|address| ("web", format!("http://{address}")));
            let also = ssh.into_iter().chain(web);
            line.extend(also.map(|(name, value)| (name.to_owned(), value.into())));
        }
        crate::words::print(&format!("{line}\n"));
        return;
    }
    crate::words::print(&format!(
        "Trousseau serves S3 on {s3}, data in {data}.\n\n  \
         access key  {access}\n  secret key  {secret}\n  region      {REGION}\n\n\
         Try it:\n  export AWS_ACCESS_KEY_ID={access} AWS_SECRET_ACCESS_KEY={secret} AWS_DEFAULT_REGION={REGION}\n  \
         aws --endpoint-url {s3} s3 mb s3://hello\n  \
         aws --endpoint-url {s3} s3 cp README.md s3://hello/\n  \
         aws --endpoint-url {s3} s3 ls s3://hello\n\n\
         `trousseau status` tells how it is; Ctrl-C stops it.\n",
        data = wish.data.display(),
    ));
    if let Some(address) = wish.web {
        crate::words::print(&format!(
            "Web sites: http://BUCKET.localhost:{}, after `trousseau bucket website BUCKET --public`.\n",
            address.port(),
        ));
    }
    if let Some(address) = wish.ssh {
        crate::words::print(&format!(
            "By ssh: `ssh -p {} root@{} status`, with a key of {}/ssh/authorized_keys\n  \
             (a line `admin ssh-ed25519 AAAA…` or `inspect ssh-ed25519 AAAA…` for each; `trousseau restart debug-ssh` takes changed ones).\n",
            address.port(),
            address.ip(),
            wish.data.display(),
        ));
    }
}
