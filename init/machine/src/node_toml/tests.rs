#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]
use super::*;
use proptest::prelude::*;
use protocol::cluster::{ClusterId, NodeKey};
use protocol::token::Token;
use std::time::{Duration, Instant};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpcA0FYGbLPsyM8dSNjYvzvhhcqJpyFHoc4YlxsTz8J me@laptop";
const GOOD: &str = r#"name = "attic"
zone = "home"
[network]
addresses = ["192.168.1.20/24", "2001:db8::20/64"]
gateways = ["192.168.1.1"]
[clock]
servers = ["192.168.1.1", "[2001:db8::1]:1123"]
[s3]
region = "eu-north-1"
access_key = "ACCESS"
secret_key = "a-long-secret!"
[ssh]
admin = ["KEY"]
"#;

fn good() -> String {
    GOOD.replace("[\"KEY\"]", &format!("[\"{KEY}\"]"))
}

fn check(from: &str, to: &str, expected: &str) {
    let text = good();
    assert!(text.contains(from), "the case changes nothing: {from}");
    let error = NodeToml::parse(&text.replace(from, to))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn an_empty_file_is_a_node_with_defaults() {
    let node = NodeToml::parse("").unwrap();
    assert_eq!(node, NodeToml::default());
    assert_eq!(node.s3.listen.port(), 3900);
    assert!(node.network.addresses.is_empty() && !node.clock.servers.is_empty());
}

#[test]
fn each_mistake_is_named_with_its_line() {
    let node = NodeToml::parse(&good()).unwrap();
    assert_eq!(node.name.unwrap().as_str(), "attic");
    assert_eq!(node.clock.servers[1].0.port(), 1123);
    assert_eq!(node.ssh.admin[0].as_str(), KEY);
    check(
        "zone = \"home\"",
        "zoen = \"home\"",
        "node.toml:2: unknown field `zoen`",
    );
    check(
        "zone = \"home\"",
        "token = \"x\"",
        "node.toml:2: unknown field `token`",
    );
    check(
        "\"attic\"",
        "\"Attic\"",
        "node.toml:1: \"Attic\" is not a name",
    );
    check("\"attic\"", "\"attic", "node.toml:1");
    check(
        ".20/24",
        ".20",
        "node.toml:4: \"192.168.1.20\" is not an address with its prefix",
    );
    check(".20/24", ".20/33", "node.toml:4");
    check(
        "[\"192.168.1.1\"]",
        "[\"10.0.0.1\"]",
        "node.toml:5: gateway 10.0.0.1 is in none of the networks",
    );
    check(
        "gateways = [",
        "gateways = [\"192.168.1.2\", ",
        "node.toml:5: gateways: at most one",
    );
    check(
        "\"192.168.1.1\", \"[",
        "\"pool.ntp.org\", \"[",
        "node.toml:7: \"pool.ntp.org\" is not an IP address",
    );
    check("eu-north-1", "eu north", "node.toml:9: region");
    check(
        "secret_key = \"a-long-secret!\"\n",
        "",
        "node.toml:10: access_key stands without secret_key",
    );
    check(
        "[ssh]",
        "[web]\ndomains = [\"w.org\"]\n[ssh]",
        "node.toml:13: domains say nothing without `listen`",
    );
    check(
        "[ssh]",
        "[web]\nlisten = \"[::]:80\"\ndomains = [\"a b\"]\n[ssh]",
        "node.toml:14: \"a b\" is not a host name",
    );
    for (line, expected) in [
        ("join = \"AQ\"", "node.toml:13: this is not a whole token"),
        (
            "mesh = \"0.0.0.0:3901\"",
            "node.toml:13: \"0.0.0.0:3901\" is not an address at which",
        ),
        (
            "mesh = \"10.0.0.5\"",
            "node.toml:13: \"10.0.0.5\" is not an address at which",
        ),
        (
            "gossip = \"10.0.0.5:1\"",
            "node.toml:13: gossip says nothing without `mesh`",
        ),
        (
            "capacity = \"much\"",
            "node.toml:13: \"much\" is not a size",
        ),
        ("zone = \"a\"", "node.toml:13: unknown field `zone`"),
        (
            "copies = 4",
            "node.toml:13: 4 copies: there can be 1, 2, 3 or 5",
        ),
    ] {
        check("[ssh]", &format!("[cluster]\n{line}\n[ssh]"), expected);
    }
    for (url, expected) in [
        ("https://10.0.0.5/", "https is not possible yet"),
        ("http://hooks.org/", "\"hooks.org\" is not an IP address"),
    ] {
        check(
            "[ssh]",
            &format!("[webhooks]\nfine = \"http://10.0.0.5/\"\nhook = \"{url}\"\n[ssh]"),
            &format!("node.toml:14: {expected}"),
        );
    }
    check(
        "[ssh]",
        "[webhooks]\n\"a b\" = \"http://10.0.0.5/\"\n[ssh]",
        "node.toml:13: \"a b\" is not the name of a webhook",
    );
    let many: String = (0..17)
        .map(|number| format!("hook-{number} = \"http://10.0.0.5/\"\n"))
        .collect();
    check(
        "[ssh]",
        &format!("[webhooks]\n{many}[ssh]"),
        "node.toml:12: webhooks: at most 16, not 17",
    );
    check("\"ACCESS\"", "\"A\"", "node.toml:10: access_key: 3 to");
    check("a-long-secret!", "short", "node.toml:11: secret_key: 8 to");
    check(
        "\"ssh-ed25519 ",
        "\"ssh-dss ",
        "node.toml:13: not a public key: it begins with",
    );
    check(
        "\"ssh-ed25519 ",
        "\"ssh-rsa ",
        "node.toml:13: not a public key: its second word",
    );
    check(
        "admin = [",
        "root = [",
        "node.toml:13: unknown field `root`",
    );
}

#[test]
fn a_node_among_others_says_where_it_is_reached_and_what_it_gives() {
    let token = Token {
        cluster: ClusterId([1; 16]),
        secret: [2; 32],
        key: NodeKey([3; 32]),
        mesh: "192.168.1.1:3901".parse().unwrap(),
    };
    let text = format!(
        "[cluster]\nmesh = \"192.168.1.20:3901\"\njoin = \"{}\"\ncapacity = \"500GB\"\n",
        token.to_text()
    );
    let both = NodeToml::parse(&format!("{text}copies = 3\n"));
    let why = both.unwrap_err().to_string();
    assert!(
        why.contains("copies is said by who makes a cluster"),
        "{why}"
    );
    let cluster = NodeToml::parse(&text).unwrap().cluster;
    assert_eq!(cluster.join, Some(Invitation(token)));
    assert_eq!(cluster.capacity, Some(Capacity(500_000_000_000)));
    assert_eq!(cluster.copies, None);
    let founder = "[cluster]\nmesh = \"192.168.1.20:3901\"\ncopies = 3\n";
    let founder = NodeToml::parse(founder).unwrap().cluster;
    assert_eq!(founder.copies, Some(Copies(3)));
    assert_eq!(cluster.gossip(), Some("192.168.1.20:3901".parse().unwrap()));
    let text = text.replace("[cluster]", "[cluster]\ngossip = \"192.168.1.20:3902\"");
    let cluster = NodeToml::parse(&text).unwrap().cluster;
    assert_eq!(cluster.gossip(), Some("192.168.1.20:3902".parse().unwrap()));
    let alone = text.replace("mesh = \"192.168.1.20:3901\"\n", "");
    let error = NodeToml::parse(&alone).unwrap_err().to_string();
    assert!(
        error.contains("join says nothing without `mesh`"),
        "{error}"
    );
    let salvaged = NodeToml::salvage(&format!("name = 1\n{text}"));
    assert_eq!(salvaged.cluster, cluster);
}

#[test]
fn of_a_wrong_file_the_right_sections_and_keys_count() {
    let text = good()
        .replace(".20/24", ".20")
        .replace("admin = [", "root = 1\nadmin = [\"no key\", ")
        + "[webhooks]\nhook = \"http://u:p@10.0.0.5/events\"\n";
    assert!(NodeToml::parse(&text).is_err());
    let node = NodeToml::salvage(&text);
    assert_eq!(node.name.unwrap().as_str(), "attic");
    assert_eq!(node.network, Network::default());
    assert_eq!(node.s3.region, "eu-north-1");
    assert_eq!(node.webhooks.addresses(), "hook=10.0.0.5:80");
    assert_eq!(node.ssh.admin.len(), 1);
}

#[test]
fn keys_in_text_that_is_not_toml_get_the_lesser_role() {
    let text = good().replace("[clock]", "[clock");
    let node = NodeToml::salvage(&text);
    assert_eq!((node.ssh.admin.len(), node.ssh.inspect.len()), (0, 1));
    assert_eq!(node.name, None);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_in_bounded_time(text in "\\PC{0,2000}") {
        let started = Instant::now();
        let _ = NodeToml::parse(&text);
        let _ = NodeToml::salvage(&text);
        prop_assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_damaged_file_is_read_or_refused_and_never_gains_an_admin(at in 0usize..400, byte in any::<u8>()) {
        let mut bytes = good().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let node = NodeToml::parse(&text).unwrap_or_else(|_| NodeToml::salvage(&text));
        prop_assert!(node.ssh.admin.len() <= 1);
    }
}
