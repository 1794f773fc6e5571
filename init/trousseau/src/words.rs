//! The command line: which words mean what. Everything but `up` and `caps --can` is asked of the running node.

use crate::{ask, caps, image, up};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// What a person is told who asks for it, or asks for what is not there.
pub(crate) const USAGE: &str = "\
usage: trousseau [up] [--data DIR] [--s3 ADDRESS:PORT] [--json] [--service MANIFEST]...
       trousseau [--data DIR] VERB... [--json]
       trousseau image --node FILE -o IMAGE [--size SIZE] [--efi FILE] [--kernel DIR] [--service MANIFEST]... [--json]

  up                     run one node in the foreground (also what no word at all means)
  status                 the node: what serves, what this host could not give
  members                the nodes of the cluster
  services               each process: state, restarts, why it ended last
  caps                   each process: what it was given and what it really holds
  caps --can A B         can A ever reach B? answered from the manifests alone
  key create NAME [--create-buckets]
  key list | key delete KEY | key allow|deny KEY --bucket B [--read] [--write] [--owner]
  key policy KEY [--file POLICY.json | --none]   show, set or remove what a key's policy allows
  bucket create NAME | bucket list | bucket delete NAME
  layout show            zones, nodes and capacity
  sweep | lifecycle      remove now what no object needs | what buckets' lifecycles say
  logs [--service S] [--lines N]
  restart SERVICE
  image                  a disk image that boots as the node that FILE (node.toml) describes

  --data DIR             the node's data directory (default ./trousseau-data)
  --s3 ADDRESS:PORT      where S3 is served (default 127.0.0.1:3900)
  --service MANIFEST     also run the service of this manifest (docs/ARCHITECTURE.md)
  --node FILE            what the owner writes down about a machine (docs/MACHINE.md)
  -o IMAGE               the disk image: for a USB stick, a disk or a virtual machine
  --size SIZE            its size, as 512M or 2G (default 512M; a boot uses the disk to its end whatever this was)
  --efi FILE             also, or only, the EFI file that is in it
  --kernel DIR           a kernel built before (default: init/kernel/build builds it, or finds it in the cache)
  --json                 one JSON document on the standard output
exit status: 0 done, 1 refused or failed, 2 wrong words
";

/// The verbs that a running node answers; it judges their words itself.
const VERBS: [&str; 14] = [
    "status",
    "members",
    "services",
    "caps",
    "fds",
    "key",
    "bucket",
    "layout",
    "shards",
    "sweep",
    "lifecycle",
    "logs",
    "restart",
    "first-key",
];

/// What stands before the verb, or anywhere.
struct Options {
    data: PathBuf,
    s3: SocketAddr,
    json: bool,
    services: Vec<PathBuf>,
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
                json,
                services,
                ..
            } = options;
            up::up(&up::Wish {
                data,
                s3,
                json,
                services,
            })
        }
        ["up", extra, ..] => usage(&format!("`up` takes no word `{extra}`")),
        ["help" | "--help" | "-h"] => print(USAGE),
        ["version" | "--version"] => print(concat!("trousseau ", env!("CARGO_PKG_VERSION"), "\n")),
        [verb, ..] => {
            if let Some(option) = options.of_up.first() {
                return usage(&format!("{option} belongs to `up`, not to `{verb}`"));
            }
            match rest.as_slice() {
                ["caps", "--can", from, to] => caps::can(from, to, options.json),
                ["caps", "--can", ..] => usage("caps --can takes two names"),
                [verb, ..] if !VERBS.contains(verb) => usage(&format!("`{verb}` is not a verb")),
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
            json: false,
            services: Vec::new(),
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
                    let text = value()?;
                    options.s3 = text.parse().map_err(|_| {
                        format!("--s3 {text:?}: expected ADDRESS:PORT, for example 127.0.0.1:3900 or [::]:3900")
                    })?;
                    if options.s3.port() == 0 {
                        return Err("--s3: port 0 means none in particular; name one".into());
                    }
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
        Ok(options)
    }
}

fn usage(wrong: &str) -> ExitCode {
    eprint!("trousseau: {wrong}\n\n{USAGE}");
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
