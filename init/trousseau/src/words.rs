//! The command line: which words mean what. Everything but `up` and `caps --can` is asked of the running node.

use crate::{ask, extra, image, nodes, up};
use machine::Webhooks;
use machine::node_toml::{Copies, Name, Reachable};
use protocol::token::{Token, TokenError};
use protocol::verbs::{self, Role};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// What a person is told who asks for it, or asks for what is not there: this, the verbs, and [`OPTIONS`].
const USAGE: &str = "\
usage: trousseau [up] [--data DIR] [--s3 ADDRESS:PORT] [--ssh ADDRESS:PORT] [--web ADDRESS:PORT]
                      [--web-domain NAME]... [--webhook NAME=URL]... [--json] [--service MANIFEST]...
                      [--nodes N [--zones Z]]
                      [--name NAME] [--zone ZONE] [--capacity SIZE] [--mesh ADDRESS:PORT] [--gossip ADDRESS:PORT]
                      [--join TOKEN | --copies N]
       trousseau [--data DIR] VERB... [--json]
       trousseau image --node FILE -o IMAGE [--size SIZE] [--efi FILE] [--kernel DIR] [--service MANIFEST]... [--json]

  up                                  run one node in the foreground (also what no word at all means)
  image                               a disk image that boots as the node that FILE (node.toml) describes
";

/// What follows the verbs.
const OPTIONS: &str = "
  --data DIR             the node's data directory (default ./trousseau-data)
  --s3 ADDRESS:PORT      where S3 is served (default 127.0.0.1:3900)
  --ssh ADDRESS:PORT     where the verbs are said by ssh, too (default: nowhere); the keys: DIR/ssh/authorized_keys
  --web ADDRESS:PORT     where buckets are shown as web sites (default: nowhere; 127.0.0.1:3902 is usual)
  --web-domain NAME      a bucket's site is bucket.NAME (also a site: a host that is a bucket's name or alias; *.localhost always)
  --webhook NAME=URL     who may be told of a bucket's changes: http://[USER:PASSWORD@]IP:PORT/PATH, under a name of your own
  --nodes N              a cluster of N nodes on this machine, S3 of node i on the given port + i - 1 (1 to 9)
  --zones Z              which stand in so many zones (default: each in its own)
  --name NAME            what the node is called, at its first start (default: a name is made up)
  --zone ZONE            where it stands: nodes of one zone fail together (default home, or what it was)
  --capacity SIZE        what it gives to the cluster, as 500GB; 0: a gateway, which stores nothing (default: all of its disk)
  --mesh ADDRESS:PORT    where other nodes reach this one (default: nowhere, it stays alone)
  --gossip ADDRESS:PORT  where their datagrams reach it (default: as --mesh)
  --join TOKEN           join the cluster whose node printed TOKEN (`trousseau invite`), at the first start
  --copies N             as many copies of each block and each shard, in a cluster that this node makes: 1, 2, 3 or 5; they are made
                         when its first layout is applied (later: `trousseau layout copies N`)
  --service MANIFEST     also run the service of this manifest (docs/ARCHITECTURE.md); before `caps --can`: it counts, too
  --node FILE            what the owner writes down about a machine (docs/MACHINE.md)
  -o IMAGE               the disk image: for a USB stick, a disk or a virtual machine
  --size SIZE            its size, as 512M, 2GiB or 8GB (default 512M; a boot uses the disk to its end whatever this was)
  --efi FILE             also, or only, the EFI file that is in it
  --kernel DIR           a kernel built before (default: init/kernel/build builds it, or finds it in the cache)
  --json                 one JSON document on the standard output
exit status: 0 done, 1 refused or failed, 2 wrong words
";

/// All of it.
fn help() -> String {
    [USAGE, &verbs::help(Role::Admin), OPTIONS].concat()
}

/// What stands before the verb, or anywhere.
struct Options {
    data: PathBuf,
    s3: SocketAddr,
    ssh: Option<SocketAddr>,
    web: Option<SocketAddr>,
    web_domains: Vec<String>,
    webhooks: Webhooks,
    json: bool,
    services: Vec<PathBuf>,
    cluster: up::Cluster,
    nodes: Option<u16>,
    zones: Option<u16>,
    /// Options that only `up` understands, as they were given.
    of_up: Vec<&'static str>,
    rest: Vec<String>,
}

/// Does what the words say. 0 done, 1 refused or failed, 2 wrong words.
pub(crate) fn obey(words: Vec<String>) -> ExitCode {
    if let Some((first, rest)) = words.split_first()
        && first == "image"
    {
        return match image::Wish::parse(rest.iter().cloned()) {
            Ok(wish) => image::image(&wish),
            Err(wrong) => usage(&wrong),
        };
    }
    let options = match Options::parse(words) {
        Ok(options) => options,
        Err(wrong) => return usage(&wrong),
    };
    let rest: Vec<&str> = options.rest.iter().map(String::as_str).collect();
    match rest.as_slice() {
        [] | ["up"] => {
            let Options {
                data,
                s3,
                ssh,
                web,
                web_domains,
                webhooks,
                json,
                services,
                cluster,
                nodes,
                zones,
                ..
            } = options;
            let wish = up::Wish {
                data,
                s3,
                ssh,
                web,
                web_domains,
                webhooks,
                json,
                services,
                cluster,
            };
            match nodes {
                None => up::up(&wish),
                Some(count) => {
                    let zones = zones.unwrap_or(count);
                    let size = nodes::Size {
                        nodes: count,
                        zones,
                    };
                    nodes::up(&wish, size)
                }
            }
        }
        ["up", extra, ..] => usage(&format!("`up` takes no word `{extra}`")),
        ["help" | "--help" | "-h"] => print(&help()),
        ["version" | "--version"] => print(concat!("trousseau ", env!("CARGO_PKG_VERSION"), "\n")),
        [verb, ..] => {
            // What one's own services can reach is asked of their manifests, which no node need run.
            let asks_manifests = matches!(rest.as_slice(), ["caps", "--can", ..]);
            let mut of_up = options.of_up.iter();
            if let Some(option) = of_up.find(|one| **one != "--service" || !asks_manifests) {
                return usage(&format!("{option} belongs to `up`, not to `{verb}`"));
            }
            match rest.as_slice() {
                ["caps", "--can", from, to] => match extra::read(&options.services) {
                    Ok((_, policy)) => {
                        let (status, text) = console::can(&policy, from, to, options.json);
                        ask::show(status, &text)
                    }
                    Err(why) => ask::show(1, &format!("trousseau: {why}\n")),
                },
                ["caps", "--can", ..] => usage("caps --can takes two names"),
                // Which words go with a verb is judged by the console.
                [verb, ..]
                    if !verbs::VERBS
                        .iter()
                        .any(|form| form.words.first() == Some(verb)) =>
                {
                    usage(&format!("`{verb}` is not a verb"))
                }
                _ => ask::ask(&options.data, &options.rest, options.json),
            }
        }
    }
}

impl Options {
    fn parse(words: Vec<String>) -> Result<Self, String> {
        let mut options = Self {
            data: PathBuf::from("./trousseau-data"),
            s3: SocketAddr::from(([127, 0, 0, 1], 3900)),
            ssh: None,
            web: None,
            web_domains: Vec::new(),
            webhooks: Webhooks::default(),
            json: false,
            services: Vec::new(),
            cluster: up::Cluster::default(),
            nodes: None,
            zones: None,
            of_up: Vec::new(),
            rest: Vec::new(),
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--data" => options.data = value()?.into(),
                "--json" => options.json = true,
                "--s3" => {
                    options.of_up.push("--s3");
                    options.s3 = address("--s3", &value()?, 3900)?;
                }
                "--ssh" => {
                    options.of_up.push("--ssh");
                    options.ssh = Some(address("--ssh", &value()?, 2222)?);
                }
                "--web" => {
                    options.of_up.push("--web");
                    options.web = Some(address("--web", &value()?, 3902)?);
                }
                "--web-domain" => {
                    options.of_up.push("--web-domain");
                    options.web_domains.push(domain(value()?)?);
                }
                "--webhook" => {
                    options.of_up.push("--webhook");
                    let added = options.webhooks.add(&value()?);
                    added.map_err(|why| format!("--webhook: {why}"))?;
                }
                "--name" | "--zone" | "--capacity" | "--mesh" | "--gossip" | "--join"
                | "--copies"
                    if options.rest.first().is_none_or(|verb| verb == "up") =>
                {
                    options.among_others(&word, value()?)?;
                }
                "--nodes" => {
                    options.of_up.push("--nodes");
                    options.nodes = Some(count("--nodes", &value()?, nodes::NODES_MAX)?);
                }
                "--zones" => {
                    options.of_up.push("--zones");
                    options.zones = Some(count("--zones", &value()?, nodes::NODES_MAX)?);
                }
                // `logs --service S` is the running node's; `--service` before any verb, or behind `up`, is ours.
                "--service" if options.rest.first().is_none_or(|verb| verb == "up") => {
                    options.of_up.push("--service");
                    options.services.push(value()?.into());
                }
                option
                    if option.starts_with("--")
                        && options.rest.first().is_none_or(|verb| verb == "up")
                        && !matches!(option, "--help" | "--version") =>
                {
                    return Err(format!("{option} is not an option of `up`"));
                }
                _ => options.rest.push(word),
            }
        }
        if options.web.is_none() && !options.web_domains.is_empty() {
            return Err("--web-domain says nothing without --web ADDRESS:PORT".into());
        }
        options.fit_together()?;
        let cluster = &options.cluster;
        if cluster.copies.is_some() && cluster.join.is_some() {
            let why = "--copies is said by who makes a cluster, not by who joins one; there `trousseau layout copies N` changes it";
            return Err(why.into());
        }
        if cluster.mesh.is_none() && (cluster.gossip.is_some() || cluster.join.is_some()) {
            let why = "--join and --gossip say nothing without --mesh ADDRESS:PORT: where the other nodes reach this one";
            return Err(why.into());
        }
        Ok(options)
    }

    /// Whether the words of a whole cluster go with the others.
    fn fit_together(&self) -> Result<(), String> {
        let Some(nodes) = self.nodes else {
            return match self.zones {
                None => Ok(()),
                Some(_) => Err("--zones says nothing without --nodes".into()),
            };
        };
        if self.zones.is_some_and(|zones| zones > nodes) {
            return Err(format!(
                "--zones: {nodes} nodes stand in at most {nodes} zones"
            ));
        }
        if let Some(copies) = self
            .cluster
            .copies
            .filter(|copies| u16::from(*copies) > nodes)
        {
            return Err(format!(
                "--copies: {nodes} nodes keep at most {nodes} copies, not {copies}"
            ));
        }
        let of_one = |option: &&&str| {
            matches!(
                **option,
                "--ssh" | "--web" | "--name" | "--zone" | "--mesh" | "--gossip" | "--join"
            )
        };
        match self.of_up.iter().find(of_one) {
            None => Ok(()),
            Some(option) => Err(format!(
                "{option} is of one node: it does not go with --nodes"
            )),
        }
    }

    /// An option of the node among others.
    fn among_others(&mut self, option: &str, value: String) -> Result<(), String> {
        let wrong = |why: String| format!("{option}: {why}");
        let name = |value| Name::try_from(value).map(|name| name.as_str().to_owned());
        let address = |value| Reachable::try_from(value).map(|Reachable(address)| address);
        let cluster = &mut self.cluster;
        self.of_up.push(match option {
            "--name" => {
                cluster.name = Some(name(value).map_err(wrong)?);
                "--name"
            }
            "--zone" => {
                cluster.zone = Some(name(value).map_err(wrong)?);
                "--zone"
            }
            "--capacity" => {
                cluster.capacity = Some(verbs::size(&value).map_err(wrong)?);
                "--capacity"
            }
            "--mesh" => {
                cluster.mesh = Some(address(value).map_err(wrong)?);
                "--mesh"
            }
            "--gossip" => {
                cluster.gossip = Some(address(value).map_err(wrong)?);
                "--gossip"
            }
            "--copies" => {
                cluster.copies = Some(copies(&value).map_err(wrong)?);
                "--copies"
            }
            _ => {
                let token: Result<Token, TokenError> = value.parse();
                cluster.join = Some(token.map_err(|error| wrong(error.to_string()))?);
                "--join"
            }
        });
        Ok(())
    }
}

/// How many copies of each block, as a person wrote it.
fn copies(text: &str) -> Result<u8, String> {
    Copies::try_from(text.to_owned()).map(|Copies(count)| count)
}

/// A small number, as a person wrote it.
fn count(option: &str, text: &str, most: u16) -> Result<u16, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| format!("{option} {text:?}: expected a number from 1 to {most}"))
}

/// A host name, as a person wrote it.
fn domain(text: String) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    match !text.is_empty() && text.len() <= 253 && text.bytes().all(plain) {
        true => Ok(text),
        false => Err(format!(
            "--web-domain {text:?}: expected a host name, for example web.example.org"
        )),
    }
}

/// Where to listen, as a person wrote it.
fn address(option: &str, text: &str, example: u16) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| {
        format!("{option} {text:?}: expected ADDRESS:PORT, for example 127.0.0.1:{example} or [::]:{example}")
    })?;
    match address.port() {
        0 => Err(format!(
            "{option}: port 0 means none in particular; name one"
        )),
        _ => Ok(address),
    }
}

fn usage(wrong: &str) -> ExitCode {
    eprint!("trousseau: {wrong}\n\n{}", help());
    ExitCode::from(2)
}

/// On the standard output; a reader that has gone (a closed pipe) is no error of ours.
pub(crate) fn print(text: &str) -> ExitCode {
    use std::io::Write;
    let _ = std::io::stdout()
        .write_all(text.as_bytes())
        .and_then(|()| std::io::stdout().flush());
    ExitCode::SUCCESS
}
