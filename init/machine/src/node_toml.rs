//! `node.toml`: what the owner of a machine writes down about it, read with every mistake named by its line.
//!
//! ```toml
//! name = "attic"                # absent: a name is made up at the first boot
//! zone = "home"
//! [network]                     # absent: DHCP, and IPv6 autoconfiguration
//! addresses = ["192.168.1.20/24", "2001:db8::20/64"]
//! gateways = ["192.168.1.1"]
//! interface = "eth0"            # absent: the first wired one
//! [clock]
//! servers = ["192.168.1.1", "[2001:db8::1]:123"]
//! [s3]
//! listen = "[::]:3900"
//! region = "us-east-1"
//! hosts = ["s3.example.org"]    # buckets may stand before these in the Host header
//! access_key = "…"              # absent: a key is made; `ssh root@node first-key` shows it
//! secret_key = "…"
//! [web]                         # absent: buckets are not shown as web sites
//! listen = "[::]:80"
//! domains = ["web.example.org"] # buckets may stand before these in the Host header
//! [webhooks]                    # who may be told of a bucket's changes, by a name of your own
//! orders = "http://user:password@192.168.1.30:8080/events"
//! [cluster]                     # absent: the node is alone
//! mesh = "192.168.1.20:3901"    # where the other nodes reach this one: buses by TCP, gossip by UDP
//! gossip = "192.168.1.20:3902"  # absent: as mesh
//! join = "…"                    # what `trousseau invite` printed; absent at the first start: a cluster of its own
//! capacity = "500GB"            # absent: all of its disk; "0": a gateway
//! [ssh]
//! listen = "[::]:22"
//! admin = ["ssh-ed25519 AAAA… me@laptop"]
//! inspect = ["ssh-ed25519 AAAA… watch@monitor"]
//! ```

mod cluster;

pub use cluster::{Capacity, Cluster, Copies, Invitation, Reachable};

use crate::webhooks::{WEBHOOKS_MAX, Webhooks};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest file in bytes.
pub const FILE_BYTES_MAX: usize = 64 * 1024;
/// The longest name of a node or a zone in bytes: a DNS label (RFC 1035).
pub const NAME_BYTES_MAX: usize = 63;
/// The most entries of any list in the file.
pub const LIST_MAX: usize = 16;
/// The longest access or secret key in bytes.
pub const S3_KEY_BYTES_MAX: usize = 128;
/// The kinds of public keys that may stand in `[ssh]` (RFC 8709, RFC 5656, OpenSSH's PROTOCOL.u2f).
pub const SSH_KEY_KINDS: [&str; 5] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
];

/// Everything that the file can say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeToml {
    /// The node's name; `None`: made up at the first boot.
    pub name: Option<Name>,
    /// Its zone; `None`: `home`.
    pub zone: Option<Name>,
    /// Addresses.
    pub network: Network,
    /// Time servers.
    pub clock: Clock,
    /// The S3 service.
    pub s3: S3,
    /// Buckets as web sites.
    pub web: Web,
    /// The addresses outside of the node at which events are told.
    pub webhooks: Webhooks,
    /// The node among others.
    pub cluster: Cluster,
    /// Who may come in by ssh.
    pub ssh: Ssh,
}

/// How the node gets its addresses. No address: DHCP. IPv6 is autoconfigured in both cases.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Fixed addresses.
    pub addresses: Vec<Address>,
    /// Default routes, at most one of each family.
    pub gateways: Vec<IpAddr>,
    /// Only this interface is used; `None`: all wired ones (the first one for fixed addresses).
    pub interface: Option<Name>,
}

/// Where the time comes from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clock {
    /// SNTP servers (RFC 5905); none: the clock is left alone.
    pub servers: Vec<Server>,
}

/// The S3 service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3 {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The region that it answers for.
    pub region: String,
    /// Host names before which a bucket may stand.
    pub hosts: Vec<String>,
    /// The root key, together with `secret_key`; `None`: one is made at the first boot.
    pub access_key: Option<String>,
    /// Its secret.
    pub secret_key: Option<String>,
}

/// Buckets as web sites.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Web {
    /// Where they are served; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Host names before which a bucket may stand.
    pub domains: Vec<String>,
}

/// The ssh service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ssh {
    /// Where it listens.
    pub listen: SocketAddr,
    /// May look and change.
    pub admin: Vec<PublicKey>,
    /// May look.
    pub inspect: Vec<PublicKey>,
}

/// A name of a node, a zone or an interface: a-z, 0-9 and '-', beginning and ending with none of the last.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(String);

/// An address and the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// The prefix in bits.
    pub prefix: u8,
}

/// A time server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Server(pub SocketAddr);

/// A public key as ssh-keygen writes it: kind, base64, comment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PublicKey(String);

/// A file that cannot be used: where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeTomlError {
    /// From 1; 0 if it is about the whole file.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for NodeTomlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "node.toml: {}", self.what),
            line => write!(f, "node.toml:{line}: {}", self.what),
        }
    }
}

impl std::error::Error for NodeTomlError {}

impl Default for Clock {
    /// Two public services of well-known, stable addresses, since a node resolves no names: Cloudflare's and Google's, each over both protocols.
    fn default() -> Self {
        let servers = [
            IpAddr::V4(Ipv4Addr::new(162, 159, 200, 1)),
            IpAddr::V4(Ipv4Addr::new(216, 239, 35, 0)),
            IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0xf1, 0, 0, 0, 0, 1)),
            IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4806, 0, 0, 0, 0, 0)),
        ];
        Self {
            servers: servers
                .map(|ip| Server(SocketAddr::new(ip, NTP_PORT)))
                .into(),
        }
    }
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 3900),
            region: "us-east-1".into(),
            hosts: Vec::new(),
            access_key: None,
            secret_key: None,
        }
    }
}

impl Default for Ssh {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 22),
            admin: Vec::new(),
            inspect: Vec::new(),
        }
    }
}

const NTP_PORT: u16 = 123;

impl NodeToml {
    /// Reads the file; the first mistake is an error.
    pub fn parse(text: &str) -> Result<Self, NodeTomlError> {
        if text.len() > FILE_BYTES_MAX {
            let what = format!("longer than {FILE_BYTES_MAX} bytes");
            return Err(NodeTomlError { line: 0, what });
        }
        let node: Self = toml::from_str(text).map_err(|error| NodeTomlError {
            line: error.span().map_or(0, |span| line_at(text, span.start)),
            what: error.message().replace('\n', " "),
        })?;
        match node.broken_rule() {
            None => Ok(node),
            Some((word, what)) => {
                let line = text.find(word).map_or(0, |at| line_at(text, at));
                Err(NodeTomlError { line, what })
            }
        }
    }

    /// What can be used of a file that [`NodeToml::parse`] refuses, so that a machine with a wrong file can still be reached.
    ///
    /// In good TOML each section counts that is right by itself, and in `[ssh]` each key. In text that is not TOML nothing can be trusted
    /// to stand where it was meant to: the public keys in it get the lesser role, `inspect`, and all else has its default.
    pub fn salvage(text: &str) -> Self {
        let Ok(table) = toml::from_str::<toml::Table>(text) else {
            let mut node = Self::default();
            let keys = text
                .split(['"', '\''])
                .filter_map(|part| PublicKey::new(part).ok());
            node.ssh.inspect = keys.take(LIST_MAX).collect();
            return node;
        };
        let mut node = Self::default();
        for (section, value) in table {
            if section == "ssh" {
                node.ssh = Ssh::salvage(&value);
                continue;
            }
            let alone = toml::Table::from_iter([(section.clone(), value)]);
            let Ok(text) = toml::to_string(&alone) else {
                continue;
            };
            let Ok(right) = Self::parse(&text) else {
                continue;
            };
            match section.as_str() {
                "name" => node.name = right.name,
                "zone" => node.zone = right.zone,
                "network" => node.network = right.network,
                "clock" => node.clock = right.clock,
                "s3" => node.s3 = right.s3,
                "web" => node.web = right.web,
                "webhooks" => node.webhooks = right.webhooks,
                "cluster" => node.cluster = right.cluster,
                _ => {}
            }
        }
        node
    }

    /// The first rule that is broken over several values: the word to find the line by, and the rule.
    fn broken_rule(&self) -> Option<(&'static str, String)> {
        let lists = [
            ("addresses", self.network.addresses.len()),
            ("gateways", self.network.gateways.len()),
            ("servers", self.clock.servers.len()),
            ("hosts", self.s3.hosts.len()),
            ("domains", self.web.domains.len()),
            ("admin", self.ssh.admin.len()),
            ("inspect", self.ssh.inspect.len()),
        ];
        for (word, length) in lists {
            if length > LIST_MAX {
                return Some((word, format!("{word}: at most {LIST_MAX}, not {length}")));
            }
        }
        if self.webhooks.len() > WEBHOOKS_MAX {
            let what = format!(
                "webhooks: at most {WEBHOOKS_MAX}, not {}",
                self.webhooks.len()
            );
            return Some(("webhooks", what));
        }
        let Network {
            addresses,
            gateways,
            ..
        } = &self.network;
        for gateway in gateways {
            let family = |ip: &IpAddr| ip.is_ipv4() == gateway.is_ipv4();
            if gateways.iter().filter(|ip| family(ip)).count() > 1 {
                return Some(("gateways", "gateways: at most one of each family".into()));
            }
            if !addresses.iter().any(|address| address.contains(*gateway)) {
                let what = format!("gateway {gateway} is in none of the networks of `addresses`");
                return Some(("gateways", what));
            }
        }
        let sections = self.s3.broken_rule().or_else(|| self.web.broken_rule());
        sections.or_else(|| self.cluster.broken_rule())
    }
}

impl Web {
    fn broken_rule(&self) -> Option<(&'static str, String)> {
        if self.listen.is_some_and(|address| address.port() == 0) {
            return Some(("listen", "listen: a port from 1 to 65535".into()));
        }
        if self.listen.is_none() && !self.domains.is_empty() {
            let what = "domains say nothing without `listen`, as \"[::]:80\"";
            return Some(("domains", what.into()));
        }
        let wrong = self.domains.iter().find(|name| !is_host(name))?;
        Some(("domains", format!("{wrong:?} is not a host name")))
    }
}

/// Whether it may stand in a Host header.
fn is_host(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    !name.is_empty() && name.len() <= 253 && name.bytes().all(plain)
}

impl S3 {
    fn broken_rule(&self) -> Option<(&'static str, String)> {
        let plain = |text: &str, more: &[u8]| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
        };
        if self.listen.port() == 0 {
            return Some(("listen", "listen: a port from 1 to 65535".into()));
        }
        if !plain(&self.region, b"-") || self.region.len() > NAME_BYTES_MAX {
            let what = format!("region {:?}: letters, digits and '-'", self.region);
            return Some(("region", what));
        }
        for host in &self.hosts {
            if !is_host(host) {
                return Some(("hosts", format!("{host:?} is not a host name")));
            }
        }
        match (&self.access_key, &self.secret_key) {
            (None, None) => None,
            (Some(access), Some(secret)) => {
                let right = |key: &str, least: usize| {
                    (least..=S3_KEY_BYTES_MAX).contains(&key.len())
                        && key.bytes().all(|byte| byte.is_ascii_graphic())
                };
                if !plain(access, b"-_") || !right(access, 3) {
                    let what =
                        format!("access_key: 3 to {S3_KEY_BYTES_MAX} letters, digits, '-' and '_'");
                    return Some(("access_key", what));
                }
                if !right(secret, 8) {
                    let what =
                        format!("secret_key: 8 to {S3_KEY_BYTES_MAX} visible ASCII characters");
                    return Some(("secret_key", what));
                }
                None
            }
            (Some(_), None) => Some(("access_key", "access_key stands without secret_key".into())),
            (None, Some(_)) => Some(("secret_key", "secret_key stands without access_key".into())),
        }
    }
}

impl Ssh {
    fn salvage(value: &toml::Value) -> Self {
        let keys = |role: &str| {
            let list = value.get(role).and_then(toml::Value::as_array);
            let keys = list.into_iter().flatten().filter_map(toml::Value::as_str);
            let keys = keys.filter_map(|key| PublicKey::new(key).ok());
            keys.take(LIST_MAX).collect()
        };
        let listen = value.get("listen").and_then(toml::Value::as_str);
        let default = Self::default();
        Self {
            listen: listen
                .and_then(|listen| listen.parse().ok())
                .unwrap_or(default.listen),
            admin: keys("admin"),
            inspect: keys("inspect"),
        }
    }
}

impl Name {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let right = (1..=NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(allowed)
            && !name.starts_with('-')
            && !name.ends_with('-');
        if right {
            return Ok(Self(name));
        }
        Err(format!(
            "{name:?} is not a name: a-z, 0-9 and '-' (not at the ends), at most {NAME_BYTES_MAX}"
        ))
    }
}

impl Address {
    /// Whether `ip` is in the address's network.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let common = |own: u128, other: u128, bits: u32| {
            let host_bits = bits.saturating_sub(u32::from(self.prefix));
            own.checked_shr(host_bits) == other.checked_shr(host_bits)
        };
        match (self.ip, ip) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                common(u128::from(own.to_bits()), u128::from(other.to_bits()), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => common(own.to_bits(), other.to_bits(), 128),
            _ => false,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an address with its prefix, as 192.168.1.20/24");
        let (ip, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        if !(1..=most).contains(&prefix) || ip.is_unspecified() || ip.is_multicast() {
            return Err(wrong());
        }
        Ok(Self { ip, prefix })
    }
}

impl TryFrom<String> for Server {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let with_port = text.parse::<SocketAddr>().ok();
        let alone = || text.parse::<IpAddr>().ok();
        with_port
            .or_else(|| Some(SocketAddr::new(alone()?, NTP_PORT)))
            .filter(|server| server.port() != 0 && !server.ip().is_unspecified())
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not an IP address (a node resolves no names)"))
    }
}

impl PublicKey {
    fn new(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let (kind, body) = (words.next(), words.next());
        let wrong = |what: &str| format!("not a public key: {what}");
        let kind = kind
            .filter(|kind| SSH_KEY_KINDS.contains(kind))
            .ok_or_else(|| {
                wrong(&format!(
                    "it begins with one of {}",
                    SSH_KEY_KINDS.join(", ")
                ))
            })?;
        let body = body.and_then(|body| STANDARD.decode(body).ok());
        let body = body.ok_or_else(|| wrong("the second word is base64"))?;
        // The blob repeats the kind, as a string with its length before it (RFC 4253, 6.6).
        let mut expected = (kind.len() as u32).to_be_bytes().to_vec();
        expected.extend_from_slice(kind.as_bytes());
        if !body.starts_with(&expected) || body.len() <= expected.len() {
            return Err(wrong("its second word is of another kind, or cut"));
        }
        Ok(Self(line.trim().to_owned()))
    }

    /// The whole line.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PublicKey {
    type Error = String;

    fn try_from(line: String) -> Result<Self, String> {
        Self::new(&line)
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    let before = text.bytes().take(offset);
    1 + before.filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests;
