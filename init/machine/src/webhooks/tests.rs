//! URLs of webhooks: what is understood, what is refused and why, and that nothing tells the password.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use super::*;
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn read(url: &str) -> Result<Webhooks, String> {
    let mut webhooks = Webhooks::default();
    webhooks.add(&format!("hook={url}")).map(|()| webhooks)
}

#[test]
fn a_url_is_taken_apart_for_those_who_need_its_pieces() {
    let check = |url: &str, address: &str, request: &str| {
        let webhooks = read(url).unwrap();
        assert_eq!(webhooks.addresses(), format!("hook={address}"), "{url}");
        assert_eq!(webhooks.requests(), format!("hook {request}\n"), "{url}");
        assert_eq!(webhooks.names(), "hook");
    };
    check("http://10.0.0.5", "10.0.0.5:80", "10.0.0.5 / -");
    check(
        "HTTP://10.0.0.5:8080/a/b?c=d%20e",
        "10.0.0.5:8080",
        "10.0.0.5:8080 /a/b?c=d%20e -",
    );
    check(
        "http://[2001:DB8::5]?x",
        "[2001:db8::5]:80",
        "[2001:db8::5] /?x -",
    );
    check("http://[::1]:81/", "[::1]:81", "[::1]:81 / -");
    check(
        "http://LocalHost:4200/e",
        "127.0.0.1:4200",
        "localhost:4200 /e -",
    );
    // RFC 7617, 2.
    check(
        "http://Aladdin:open%20sesame@10.0.0.5/",
        "10.0.0.5:80",
        "10.0.0.5 / QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
    );
    check(
        "http://user@10.0.0.5/",
        "10.0.0.5:80",
        "10.0.0.5 / dXNlcjo=",
    );
    check(
        "http://u:p:q@10.0.0.5/@b:c",
        "10.0.0.5:80",
        "10.0.0.5 /@b:c dTpwOnE=",
    );
}

#[test]
fn what_a_node_cannot_reach_is_refused_with_what_to_do() {
    for (url, expected) in [
        ("https://10.0.0.5/", "no TLS to the outside"),
        ("HTTPS://10.0.0.5/", "no TLS to the outside"),
        ("ftp://10.0.0.5/", "no other scheme"),
        ("10.0.0.5:80", "expected http://"),
        ("http://", "is not an IP address"),
        (
            "http://example.org/",
            "\"example.org\" is not an IP address",
        ),
        ("http://10.0.0.5.example/", "a node has no DNS"),
        ("http://2001:db8::5/", "behind HOST"),
        ("http://[10.0.0.5]/", "is not an IP address"),
        ("http://[fe80::1%25eth0]/", "is not an IP address"),
        ("http://[fe80::1]/", "not the address of one machine"),
        ("http://[::1", "is not an IP address"),
        ("http://[::1]x", "behind HOST"),
        ("http://0.0.0.0/", "not the address of one machine"),
        ("http://255.255.255.255/", "not the address of one machine"),
        ("http://[ff02::1]/", "not the address of one machine"),
        ("http://10.0.0.5:0/", "from 1 to 65535"),
        ("http://10.0.0.5:/", "from 1 to 65535"),
        ("http://10.0.0.5:+80/", "from 1 to 65535"),
        ("http://10.0.0.5:65536/", "from 1 to 65535"),
        ("http://10.0.0.5/#top", "a fragment"),
        ("http://10.0.0.5#top", "a fragment"),
        ("http://10.0.0.5/a b", "write others as %XX"),
        ("http://10.0.0.5/ä", "write others as %XX"),
        ("http://10.0.0.5/%zz", "write others as %XX"),
        ("http://10.0.0.5/%4", "write others as %XX"),
        ("http://10.0.0.5/a\r\nX-Evil: 1", "write others as %XX"),
        ("http://u:p%0Aq@10.0.0.5/", "control character"),
        ("http://u:p q@10.0.0.5/", "write others as %XX"),
        ("http://10.0.0.5\\@evil/", "write others as %XX"),
    ] {
        let why = read(url).unwrap_err();
        assert!(why.starts_with("hook: "), "{why}");
        assert!(why.contains(expected), "{url}: {why}");
    }
    let long = format!("http://10.0.0.5/{}", "a".repeat(URL_BYTES_MAX));
    assert!(read(&long).unwrap_err().contains("more than 1024 bytes"));
}

#[test]
fn names_are_bounded_and_given_once() {
    let mut webhooks = Webhooks::default();
    for text in [
        "",
        "hook",
        "=http://10.0.0.5/",
        "a b=http://10.0.0.5/",
        "a:b=http://10.0.0.5/",
    ] {
        webhooks.add(text).unwrap_err();
    }
    for number in 0..WEBHOOKS_MAX {
        webhooks
            .add(&format!(
                "hook-{number:02}=http://10.0.0.5:{}/",
                80 + number
            ))
            .unwrap();
        let again = webhooks.add(&format!("hook-{number:02}=http://10.0.0.6/"));
        assert!(again.unwrap_err().contains("two webhooks"));
    }
    assert!(
        webhooks
            .add("more=http://10.0.0.5/")
            .unwrap_err()
            .contains("at most 16")
    );
    assert!(
        webhooks
            .addresses()
            .starts_with("hook-00=10.0.0.5:80 hook-01=10.0.0.5:81 ")
    );
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_and_what_is_read_stays_in_its_line(
        text in prop_oneof!["\\PC{0,300}", "(a|hook)=https?://[a-z0-9:%@\\[\\]\\.]{0,20}[\\PC\\n ]{0,40}"],
    ) {
        let begun = Instant::now();
        let mut webhooks = Webhooks::default();
        if webhooks.add(&text).is_ok() {
            let requests = webhooks.requests();
            let line = requests.strip_suffix('\n').unwrap();
            prop_assert!(!line.contains(|byte: char| byte.is_control()), "{line:?}");
            prop_assert_eq!(line.split(' ').count(), 4);
            let addresses = webhooks.addresses();
            let (name, address) = addresses.split_once('=').unwrap();
            prop_assert!(is_webhook_name(name) && address.parse::<SocketAddr>().is_ok());
        }
        prop_assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_url_comes_back_from_its_pieces(
        ip in any::<IpAddr>().prop_filter("one machine", |ip| {
            host_of(&match ip { IpAddr::V4(v4) => v4.to_string(), IpAddr::V6(v6) => format!("[{v6}]") }).is_ok()
        }),
        port in 1u16..,
        target in "/[a-z/]{0,30}(\\?[a-z=&]{0,20})?",
        password in "[ -~]{0,30}",
    ) {
        let host = SocketAddr::new(ip, port).to_string();
        let escaped: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let webhooks = read(&format!("http://user:{escaped}@{host}{target}")).unwrap();
        let credentials = STANDARD.encode(format!("user:{password}"));
        prop_assert_eq!(webhooks.addresses(), format!("hook={}", host));
        prop_assert_eq!(webhooks.requests(), format!("hook {host} {target} {credentials}\n"));
    }

    #[test]
    fn neither_an_error_nor_what_is_shown_tells_the_password(rest in "[\\PC]{0,60}") {
        let mut webhooks = Webhooks::default();
        let told = match webhooks.add(&format!("hook=http://user:seSame@10.0.0.5/{rest}")) {
            Ok(()) => format!("{webhooks:?} {} {}", webhooks.addresses(), webhooks.names()),
            Err(why) => why,
        };
        prop_assert!(!told.contains("seSame"), "{}", told);
    }
}
