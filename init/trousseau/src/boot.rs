//! The program as the first process of a machine: from the kernel to a running node, and back to the firmware.

use init::{Config, DataDir, Devices, Reach, Ssh, Wish};
use machine::boot::{self, DATA};
use machine::node_toml::{Capacity, Cluster, Copies, Invitation, Name, NodeToml, Reachable};
use machine::{Console, End, Machine};
use manifests::{BUILT_IN, Policy};
use protocol::inspect::Power;
use std::fs::File;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Where a node that is alone gossips: nobody else is there, so any free port of the loopback will do.
const GOSSIP: &str = "127.0.0.1:0";

/// As the kernel starts it. Becomes the second stage.
pub(crate) fn first_stage() -> ! {
    let error = boot::first_stage(|file| {
        sandbox_profiles::program(init::PROGRAM, file.as_fd()).map_err(|error| error.to_string())
    });
    boot::fail(&mut Console::open(), &error)
}

/// As the first stage executes it. Runs the node until the machine shall end.
pub(crate) fn second_stage(began: Option<&str>) -> ! {
    let _ = rustix::thread::set_name(c"init");
    // The console is for lines that are meant for it; what a library prints goes nowhere.
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
    }
    let mut console = Console::open();
    console.line(concat!("trousseau ", env!("CARGO_PKG_VERSION")));
    match boot::second_stage(&mut console, began)
        .map_err(|error| error.to_string())
        .and_then(run)
    {
        Ok(Power::Off) => boot::end(&mut console, End::PowerOff),
        Ok(Power::Reboot) => boot::end(&mut console, End::Reboot),
        Err(why) => boot::fail(&mut console, &why),
    }
}

fn run(machine: Machine) -> Result<Power, String> {
    let Machine {
        node,
        buttons,
        watchdog,
        begun,
        ..
    } = machine;
    let data = DataDir::open(Path::new(DATA)).map_err(|error| match error {
        init::OpenError::InUse => format!("{DATA} is in use"),
        init::OpenError::System(errno) => format!("{DATA}: {errno}"),
    })?;
    // The second stage is the sealed copy that the first one made.
    let program = File::open("/proc/self/exe").map_err(|error| format!("program: {error}"))?;
    let (manifests, programs) = guests()?;
    let extra = manifests
        .iter()
        .map(|(file, text)| (file.as_str(), text.as_str()));
    let policy =
        Policy::parse(BUILT_IN.iter().copied().chain(extra)).map_err(|error| error.to_string())?;
    let mut console = Console::open();
    match &watchdog {
        Some(watchdog) => console.line(&format!("trousseau: watchdog {}", watchdog.about)),
        None => console.line("trousseau: this machine has no watchdog"),
    }
    let owned = |name: &Option<Name>| name.as_ref().map(|name| name.as_str().to_owned());
    let Outward {
        gossip,
        mesh,
        reach,
    } = Outward::of(&node.cluster);
    init::run(Config {
        data,
        program: program.into(),
        s3: node.s3.listen.to_string(),
        gossip,
        mesh,
        reach,
        region: node.s3.region.clone(),
        hosts: node.s3.hosts.join(","),
        web: node.web.listen.map(|address| address.to_string()),
        web_domains: init::web_domains(&node.web.domains),
        webhooks: node.webhooks.clone(),
        policy,
        manifests,
        programs,
        wish: Wish {
            name: owned(&node.name),
            zone: owned(&node.zone),
            capacity_bytes: node.cluster.capacity.map(|Capacity(bytes)| bytes),
            join: node.cluster.join.clone().map(|Invitation(token)| token),
            copies: node.cluster.copies.map(|Copies(count)| count),
        },
        settings: settings(&node),
        ssh: Some(Ssh {
            address: node.ssh.listen.to_string(),
            keys: Some(authorized_keys(&node)),
        }),
        launcher: None,
        devices: Some(Devices {
            console,
            buttons,
            watchdog,
            begun,
        }),
        root: true,
    })
    .map_err(|error| error.to_string())
}

/// Where the node is bound for others, and where they reach it.
struct Outward {
    gossip: String,
    mesh: Option<String>,
    reach: Reach,
}

impl Outward {
    /// A machine's addresses come later than its sockets, so these are bound to all addresses.
    fn of(cluster: &Cluster) -> Self {
        let every = |port: u16| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).to_string();
        let (Some(Reachable(mesh)), Some(gossip)) = (cluster.mesh, cluster.gossip()) else {
            return Self {
                gossip: GOSSIP.into(),
                mesh: None,
                reach: Reach::default(),
            };
        };
        Self {
            gossip: every(gossip.port()),
            mesh: Some(every(mesh.port())),
            reach: Reach {
                mesh: mesh.to_string(),
                gossip: gossip.to_string(),
            },
        }
    }
}

/// The keys of `node.toml`, as debug-ssh reads them: a line for each, its role first.
fn authorized_keys(node: &NodeToml) -> String {
    let admin = node.ssh.admin.iter().map(|key| ("admin", key));
    let inspect = node.ssh.inspect.iter().map(|key| ("inspect", key));
    let lines = admin.chain(inspect);
    lines
        .map(|(role, key)| format!("{role} {}\n", key.as_str()))
        .collect()
}

/// The services that came with the image (`trousseau image --service`): manifests, and sealed programs.
fn guests() -> Result<Guests, String> {
    let (mut manifests, mut programs) = (Vec::new(), Vec::new());
    for guest in machine::guests::take().map_err(|error| error.to_string())? {
        let sealed = sandbox_profiles::program(&guest.name, guest.program.as_fd())
            .map_err(|error| format!("{}: {error}", guest.name))?;
        manifests.push((format!("{}/manifest.toml", guest.name), guest.manifest));
        programs.push((guest.name, sealed));
    }
    Ok((manifests, programs))
}

/// File name and text of each manifest; name and program of each service.
type Guests = (Vec<(String, String)>, Vec<(String, OwnedFd)>);

/// What the daemons and services of a machine are told of `node.toml`; lists as words.
fn settings(node: &NodeToml) -> Vec<(&'static str, String)> {
    let network = &node.network;
    let interface = network.interface.as_ref().map_or("", Name::as_str);
    vec![
        ("addresses", words(&network.addresses)),
        ("gateways", words(&network.gateways)),
        ("interface", interface.to_owned()),
        ("access_key", node.s3.access_key.clone().unwrap_or_default()),
        ("secret_key", node.s3.secret_key.clone().unwrap_or_default()),
        ("servers", words(node.clock.servers.iter().map(|one| one.0))),
    ]
}

fn words(all: impl IntoIterator<Item = impl ToString>) -> String {
    let all: Vec<String> = all.into_iter().map(|one| one.to_string()).collect();
    all.join(" ")
}
