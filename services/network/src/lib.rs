//! network: gives the machine its addresses, by DHCP or as its owner wrote them down.
//!
//! Given: `routes` (a route socket), `dhcp` (a UDP socket on the client's port). Serves and calls nobody. A single-threaded poll loop. The only
//! process beside init that keeps CAP_NET_ADMIN. Absent: making sockets; IPv6, which the kernel configures by itself from the routers' word.
#![forbid(unsafe_code)]

mod datagrams;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod lease;
mod packet;
mod routes;
#[cfg(any(test, feature = "fuzz"))]
mod samples;

use datagrams::Datagrams;
use lease::{Action, Client};
use protocol::channel::ReceiveBuffer;
use protocol::start::{HEARTBEAT_MS, Order};
use routes::{Link, News, Routes};
use runtime::{Given, Supervisor};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Without an address after this long, the node goes on without one. It is still looked for.
const SETTLED_AFTER: Duration = Duration::from_secs(10);
/// So many datagrams are read in one turn, so that a flood cannot keep heartbeats waiting.
const DATAGRAMS_PER_TURN_MAX: usize = 64;
/// For ever, in the kernel's words.
const FOR_EVER: u32 = u32::MAX;

/// Why the network daemon ends.
#[derive(Debug)]
pub enum Error {
    /// It was not packed as its manifest says, or its supervisor has gone.
    Runtime(runtime::Error),
    /// No randomness.
    Random(Errno),
    /// The route socket does not work.
    Routes(Errno),
    /// poll(2) failed.
    Poll(Errno),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => error.fmt(f),
            Self::Random(errno) => write!(f, "getrandom: {errno}"),
            Self::Routes(errno) => write!(f, "route socket: {errno}"),
            Self::Poll(errno) => write!(f, "poll: {errno}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Self {
        Self::Runtime(error)
    }
}

/// Takes the sockets, brings interfaces up, keeps their addresses until its supervisor says stop. Addresses outlive it: the next one takes them over.
pub fn run(mut given: Given) -> Result<(), Error> {
    let routes = Routes::new(given.descriptor("routes")?);
    let dhcp = Datagrams::new(given.descriptor("dhcp")?);
    let wish = Wish {
        addresses: words(&mut given, "addresses", parse_address)?,
        gateways: words(&mut given, "gateways", |word| word.parse().ok())?,
        interface: given.setting("interface")?,
    };
    let host = given.setting("node")?;
    let supervisor = given.finish()?;
    let mut seed = [0; 8];
    getrandom(&mut seed, GetRandomFlags::empty()).map_err(Error::Random)?;
    let network = Network {
        routes,
        dhcp,
        wish,
        host,
        seed: u64::from_ne_bytes(seed),
        interfaces: BTreeMap::new(),
        settled: false,
    };
    network.serve(&supervisor)
}

/// The words of a setting.
fn words<T>(
    given: &mut Given,
    name: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, Error> {
    let text = given.setting(name)?;
    let parsed: Option<Vec<T>> = text.split_whitespace().map(parse).collect();
    parsed.ok_or(Error::Runtime(runtime::Error::Setting(name.into(), text)))
}

fn parse_address(word: &str) -> Option<(IpAddr, u8)> {
    let (ip, prefix) = word.split_once('/')?;
    Some((ip.parse().ok()?, prefix.parse().ok()?))
}

/// What the owner wrote down.
struct Wish {
    /// None: DHCP.
    addresses: Vec<(IpAddr, u8)>,
    gateways: Vec<IpAddr>,
    /// Empty: any.
    interface: String,
}

struct Interface {
    link: Link,
    /// Where addresses are not fixed.
    client: Option<Client>,
}

struct Network {
    routes: Routes,
    dhcp: Datagrams,
    wish: Wish,
    host: String,
    seed: u64,
    interfaces: BTreeMap<u32, Interface>,
    settled: bool,
}

impl Network {
    fn serve(mut self, supervisor: &Supervisor) -> Result<(), Error> {
        let mut buffer = ReceiveBuffer::new();
        let started = Instant::now();
        let (mut beat, mut said_ready) = (started, false);
        self.routes.ask_links().map_err(Error::Routes)?;
        loop {
            let now = Instant::now();
            if beat <= now {
                supervisor.alive()?;
                beat = now + Duration::from_millis(HEARTBEAT_MS);
            }
            if !said_ready && (self.settled || now >= started + SETTLED_AFTER) {
                said_ready = true;
                let about = if self.settled {
                    ""
                } else {
                    "without an address yet"
                };
                supervisor.ready(about)?;
            }
            self.wait(supervisor, beat)?;
            while let Some((order, _)) = supervisor.order(&mut buffer)? {
                if order == Order::Stop {
                    return Ok(());
                }
            }
            for news in self.routes.news() {
                self.take(news);
            }
            self.listen();
            self.turn();
        }
    }

    fn wait(&self, supervisor: &Supervisor, beat: Instant) -> Result<(), Error> {
        let descriptors = [supervisor.as_fd(), self.routes.as_fd(), self.dhcp.as_fd()];
        let due = self
            .active()
            .filter_map(|one| Some(one.client.as_ref()?.deadline()));
        runtime::wait(descriptors, due.fold(beat, Instant::min)).map_err(Error::Poll)
    }

    /// Those with somebody at the other end.
    fn active(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.values().filter(|one| one.link.carrier)
    }

    fn take(&mut self, news: News) {
        match news {
            News::Link(link) => self.take_link(link),
            News::Gone(index) => {
                if let Some(gone) = self.interfaces.remove(&index) {
                    runtime::warn!("{} has gone", gone.link.name);
                }
            }
            News::Refused(errno) => runtime::warn!("the kernel refuses: {errno}"),
        }
    }

    fn take_link(&mut self, link: Link) {
        let is_wanted = self.wish.interface.is_empty() || self.wish.interface == link.name;
        if !is_wanted {
            return;
        }
        let now = Instant::now();
        let (index, carrier) = (link.index, link.carrier);
        if let Some(known) = self.interfaces.get_mut(&index) {
            let regained = carrier && !known.link.carrier;
            if carrier != known.link.carrier {
                let what = if carrier {
                    "is connected"
                } else {
                    "is disconnected"
                };
                runtime::info!("{} {what}", link.name);
            }
            known.link = link;
            if let (true, Some(client)) = (regained, &mut known.client) {
                client.start_again(now);
            }
            return;
        }
        let [a, b, c, d, e, f] = link.mac;
        runtime::info!(
            "{} is {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}, {}",
            link.name,
            if carrier {
                "connected"
            } else {
                "not connected yet"
            }
        );
        if !link.up {
            let raised = self.routes.raise(index);
            self.note("switching it on", raised);
        }
        let is_fixed = !self.wish.addresses.is_empty();
        let is_first = self.interfaces.is_empty();
        let seed = self.seed ^ u64::from(index);
        let client = (!is_fixed).then(|| Client::new(link.mac, &self.host, now, seed));
        let name = link.name.clone();
        self.interfaces.insert(index, Interface { link, client });
        // Two interfaces with one address would be none.
        if is_fixed && is_first {
            self.fix_addresses(index, &name);
        }
    }

    fn fix_addresses(&mut self, index: u32, name: &str) {
        for (ip, prefix) in self.wish.addresses.clone() {
            let added = self.routes.add_address(index, ip, prefix, FOR_EVER);
            self.note("the address", added);
            runtime::info!("{name} has {ip}/{prefix}, as node.toml says");
        }
        for gateway in self.wish.gateways.clone() {
            let added = self.routes.add_default_route(index, gateway);
            self.note("the default route", added);
        }
        self.settled = true;
    }

    fn listen(&mut self) {
        let now = Instant::now();
        for _ in 0..DATAGRAMS_PER_TURN_MAX {
            let Some((index, bytes)) = self.dhcp.receive() else {
                return;
            };
            let client = self.interfaces.get_mut(&index);
            let client = client.and_then(|interface| interface.client.as_mut());
            let actions = client.map(|client| client.hear(&bytes, now));
            self.act(index, actions.unwrap_or_default());
        }
    }

    fn turn(&mut self) {
        let now = Instant::now();
        let active: Vec<u32> = self.active().map(|one| one.link.index).collect();
        for index in active {
            let client = self.interfaces.get_mut(&index);
            let client = client.and_then(|interface| interface.client.as_mut());
            let actions = client.map(|client| client.turn(now));
            self.act(index, actions.unwrap_or_default());
        }
    }

    fn act(&mut self, index: u32, actions: Vec<Action>) {
        let name = self.interfaces.get(&index);
        let name = name.map_or_else(String::new, |interface| interface.link.name.clone());
        for action in actions {
            match action {
                Action::Send(bytes, to) => self.dhcp.send(index, &bytes, to),
                Action::Configure(terms) => {
                    let (ip, prefix) = (IpAddr::V4(terms.ip), terms.prefix);
                    let seconds = terms.lease_seconds;
                    let added = self.routes.add_address(index, ip, prefix, seconds);
                    self.note("the address", added);
                    if let Some(router) = terms.router {
                        let added = self.routes.add_default_route(index, router.into());
                        self.note("the default route", added);
                    }
                    let server = terms.server;
                    runtime::info!("{name} has {ip}/{prefix} for {seconds} s, says {server}");
                    self.settled = true;
                }
                Action::Withdraw(terms) => {
                    runtime::warn!("{name} has lost {}", terms.ip);
                    let (ip, prefix) = (IpAddr::V4(terms.ip), terms.prefix);
                    let removed = self.routes.remove_address(index, ip, prefix);
                    self.note("taking the address back", removed);
                }
            }
        }
    }

    fn note(&self, what: &str, result: Result<(), Errno>) {
        if let Err(errno) = result {
            runtime::warn!("{what}: {errno}");
        }
    }
}
