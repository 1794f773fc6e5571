//! The addresses outside of the node that its operator has named: where events are told. Of `--webhook NAME=URL` and of `[webhooks]`.
//!
//! Read once, before anything starts, and handed on in three pieces, so that each process learns no more than it needs: the bus the
//! addresses, the frontend the names, the notifier what a request is made of. Only the last has a secret in it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use protocol::metadata::{WEBHOOK_NAME_BYTES_MAX, is_webhook_name};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The most webhooks of a node.
pub const WEBHOOKS_MAX: usize = 16;
/// The longest URL in bytes.
pub const URL_BYTES_MAX: usize = 1_024;

/// The port of `http://` where the URL names none (RFC 9110, 4.2.1).
const HTTP_PORT: u16 = 80;

/// All webhooks of a node, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct Webhooks(BTreeMap<WebhookName, Url>);

/// What the operator calls it, and what a bucket's rules name it by (in an ARN, therefore these few characters).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct WebhookName(String);

/// `http://[USER:PASSWORD@]HOST[:PORT][/PATH][?QUERY]`, taken apart. No piece has a space or a control character in it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Url {
    /// Where the bus connects to.
    address: SocketAddr,
    /// The header `Host`: as the operator wrote it.
    host: String,
    /// What is asked for: path and query.
    target: String,
    /// Of HTTP's Basic scheme (RFC 7617), base64 already.
    credentials: Option<String>,
}

/// Without what may be a secret: services like to put tokens into paths, too.
impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}/…", self.address)
    }
}

impl Webhooks {
    /// Adds one, as `--webhook` has it: `NAME=URL`.
    ///
    /// # Errors
    /// What is wrong and what to do, without any part of the URL that may be a secret.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let (name, url) = text
            .split_once('=')
            .ok_or("expected NAME=URL, for example orders=http://192.168.1.5:8080/events")?;
        let name = WebhookName::try_from(name.to_owned())?;
        let url = Url::parse(url).map_err(|why| format!("{}: {why}", name.0))?;
        if self.0.contains_key(&name) {
            return Err(format!("two webhooks are named {:?}", name.0));
        }
        if self.0.len() >= WEBHOOKS_MAX {
            return Err(format!("at most {WEBHOOKS_MAX} webhooks"));
        }
        self.0.insert(name, url);
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `NAME=IP:PORT`, separated by spaces: where the bus may connect to.
    pub fn addresses(&self) -> String {
        let each = |(name, url): (&WebhookName, &Url)| format!("{}={}", name.0, url.address);
        self.0.iter().map(each).collect::<Vec<_>>().join(" ")
    }

    /// The names, separated by spaces: whom a bucket's rules may name.
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.0.keys().map(|name| name.0.as_str()).collect();
        names.join(" ")
    }

    /// A line for each: `NAME HOST TARGET CREDENTIALS`, the last of them `-` where there are none. Secret.
    pub fn requests(&self) -> String {
        let each = |(name, url): (&WebhookName, &Url)| {
            let credentials = url.credentials.as_deref().unwrap_or("-");
            format!("{} {} {} {credentials}\n", name.0, url.host, url.target)
        };
        self.0.iter().map(each).collect()
    }
}

impl TryFrom<String> for WebhookName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match is_webhook_name(&name) {
            true => Ok(Self(name)),
            false => Err(format!(
                "{name:?} is not the name of a webhook: a-z, A-Z, 0-9, '-', '_' and '.', at most {WEBHOOK_NAME_BYTES_MAX}"
            )),
        }
    }
}

impl TryFrom<String> for Url {
    type Error = String;

    fn try_from(url: String) -> Result<Self, String> {
        Self::parse(&url)
    }
}

impl Url {
    /// # Errors
    /// What is wrong and what to do; of the URL's own text it has the host at most.
    fn parse(url: &str) -> Result<Self, String> {
        if url.len() > URL_BYTES_MAX {
            return Err(format!("a URL of more than {URL_BYTES_MAX} bytes"));
        }
        let (scheme, rest) = url
            .split_once("://")
            .ok_or("expected http://HOST:PORT/path")?;
        if scheme.eq_ignore_ascii_case("https") {
            return Err("https is not possible yet, because a node has no TLS to the outside: name the application's own http port, or a forwarder beside it that speaks TLS".into());
        }
        if !scheme.eq_ignore_ascii_case("http") {
            return Err("expected http://HOST:PORT/path, and no other scheme".into());
        }
        let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (credentials, host) = match authority.rsplit_once('@') {
            None => (None, authority),
            Some((user, host)) => (Some(basic(user)?), host),
        };
        let (ip, host, port) = host_of(host)?;
        Ok(Self {
            address: SocketAddr::new(ip, port.unwrap_or(HTTP_PORT)),
            host: port.map_or(host.clone(), |port| format!("{host}:{port}")),
            target: target_of(target)?,
            credentials,
        })
    }
}

/// `USER:PASSWORD`, in which `%` stands before what a URL cannot hold, as HTTP's Basic scheme wants it.
fn basic(user: &str) -> Result<String, String> {
    if !has_only(user, b"!$&'()*+,;=:-._~") {
        return Err("in USER:PASSWORD only letters, digits and -._~!$&'()*+,;= stand for themselves: write others as %XX".into());
    }
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let [user, password] = [user, password].map(|part| percent_decode_str(part).collect());
    let both: Vec<u8> = [user, vec![b':'], password].concat();
    if both.iter().any(u8::is_ascii_control) {
        return Err("USER:PASSWORD has a control character (RFC 7617)".into());
    }
    Ok(STANDARD.encode(both))
}

/// The address, the host as it is written in the header, and the port if one was named.
fn host_of(text: &str) -> Result<(IpAddr, String, Option<u16>), String> {
    let end = match text.starts_with('[') {
        true => text.find(']').map_or(text.len(), |at| at + 1),
        false => text.find(':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at(end);
    let port = port_of(port)?;
    if host.eq_ignore_ascii_case("localhost") {
        return Ok((Ipv4Addr::LOCALHOST.into(), "localhost".into(), port));
    }
    let within = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let ip: Option<IpAddr> = match within {
        Some(v6) => v6.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::from),
    };
    let ip = ip.ok_or_else(|| {
        format!("{host:?} is not an IP address, as 192.168.1.5 or [2001:db8::5], nor localhost: a node has no DNS, so write the address that the name has")
    })?;
    let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if ip.is_unspecified() || ip.is_multicast() || ip == Ipv4Addr::BROADCAST || link_local {
        return Err(format!("{host} is not the address of one machine"));
    }
    Ok((ip, host.to_ascii_lowercase(), port))
}

/// The port of `:PORT`; none of nothing.
fn port_of(text: &str) -> Result<Option<u16>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text
        .strip_prefix(':')
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let port = digits.and_then(|digits| digits.parse().ok());
    port.filter(|port| *port != 0)
        .map(Some)
        .ok_or_else(|| "behind HOST: expected :PORT, from 1 to 65535".into())
}

/// Path and query as they stand in a request's first line (RFC 9112, 3.2.1).
fn target_of(text: &str) -> Result<String, String> {
    if text.contains('#') {
        return Err("a fragment (#…) is never sent: leave it out".into());
    }
    if !has_only(text, b"/?:@!$&'()*+,;=-._~") {
        return Err("in PATH?QUERY only letters, digits and /?:@!$&'()*+,;=-._~ stand for themselves: write others as %XX".into());
    }
    Ok(match text.starts_with('/') {
        true => text.to_owned(),
        false => format!("/{text}"),
    })
}

/// Whether a piece of a URL has only letters, digits, `marks`, and `%` with two digits (RFC 3986, 2).
fn has_only(text: &str, marks: &[u8]) -> bool {
    let mut pieces = text.split('%');
    let plain = |piece: &str| {
        let mut bytes = piece.bytes();
        bytes.all(|byte| byte.is_ascii_alphanumeric() || marks.contains(&byte))
    };
    let escaped = |piece: &str| {
        let digits = piece.as_bytes().first_chunk::<2>();
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) && plain(piece)
    };
    pieces.next().is_none_or(plain) && pieces.all(escaped)
}

#[cfg(test)]
mod tests;
