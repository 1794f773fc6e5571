//! Two buses, as their nodes and as everybody else on the network sees them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod node;
mod placed;

use crate::mesh::Records;
use crate::tests::{answer, hears, open};
use node::{Node, ask_on, roster, say_as, two};
use protocol::bus::{BusError, Origin, REACH_WITHIN_MS};
use protocol::cluster::{NodeKey, Standing};
use protocol::membership::MembershipAnswer;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Long for a machine with other work, short for a person who waits.
const SOON: Duration = Duration::from_secs(60);

/// Whether the connection ends within a time, whatever comes before.
fn ends(stream: &UnixStream) -> bool {
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut bytes = [0; 4_096];
    loop {
        match (&*stream).read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}

/// As a service ends a connection: aloud, since the bus may hold a duplicate of this very end.
fn close(stream: UnixStream) {
    stream.shutdown(Shutdown::Both).unwrap();
}

/// Writes from one end and reads at the other, at the same time.
fn passes(from: &UnixStream, to: &UnixStream, bytes: &[u8]) {
    std::thread::scope(|scope| {
        scope.spawn(|| (&*from).write_all(bytes).unwrap());
        let mut found = vec![0; bytes.len()];
        (&*to).read_exact(&mut found).unwrap();
        assert!(found == bytes, "{} bytes came as others", bytes.len());
    });
}

fn megabytes(seed: u8) -> Vec<u8> {
    let step = |number: u32| (number.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed;
    (0..5 << 20).map(step).collect()
}

#[test]
fn a_service_talks_to_itself_on_another_node_and_megabytes_come_as_they_went() {
    let (a, b) = two();
    let client = a.open_when_there("b");
    let (accept, server) = b.welcome();
    assert_eq!(
        (accept.client.as_str(), accept.conversation.as_str()),
        ("metadata", "peers")
    );
    let name = "a".to_owned();
    assert_eq!(accept.origin, Origin::Member { name, key: a.key });
    std::thread::scope(|scope| {
        scope.spawn(|| passes(&client, &server, &megabytes(1)));
        passes(&server, &client, &megabytes(2));
    });
    // Each direction ends by itself.
    passes(&client, &server, b"last");
    client.shutdown(Shutdown::Write).unwrap();
    assert!(ends(&server));
    passes(&server, &client, b"still");
    close(server);
    assert!(ends(&client));
    // And the other way round.
    let back = b.open_when_there("a");
    let (accept, server) = a.welcome();
    assert!(matches!(accept.origin, Origin::Member { name, .. } if name == "b"));
    passes(&back, &server, b"hello");
    close(back);
    assert!(ends(&server), "the bus's duplicates keep nothing open");
}

#[test]
fn what_the_manifests_do_not_say_is_denied_on_either_side() {
    let (mut a, b) = two();
    drop(a.open_when_there("b"));
    for (service, conversation, expected) in [
        ("metadata", "metadata", BusError::Denied),
        ("metadata", "admission", BusError::Denied),
        ("block-store", "blocks", BusError::Denied),
        ("init", "inspect", BusError::Denied),
        ("nobody", "peers", BusError::Unknown),
    ] {
        let refused = a.open_on("b", service, conversation).unwrap_err();
        assert_eq!(refused, expected, "{service} {conversation}");
    }
    let refused = a.open_on("c", "metadata", "peers").unwrap_err();
    assert_eq!(refused, BusError::NoSuchNode);
    let front = a.bus_of("s3-frontend");
    ask_on(&front, "b", "metadata", "peers");
    assert_eq!(answer(&front).unwrap_err(), BusError::Denied);
    let here = open(&a.metadata["bus"], "metadata", "peers").unwrap_err();
    assert_eq!(
        here,
        BusError::Denied,
        "a service calls itself elsewhere only"
    );

    // A node whose bus says yes to everything.
    for (open, expected) in [
        (["metadata", "metadata", "metadata"], BusError::Denied),
        (["s3-frontend", "metadata", "metadata"], BusError::Denied),
        (["s3-frontend", "metadata", "peers"], BusError::Denied),
        (["bus", "relay", "relay"], BusError::Denied),
        (["console", "init", "inspect"], BusError::Denied),
        (["bus", "membership", "members"], BusError::Denied),
        (["metadata", "nobody", "peers"], BusError::Unknown),
        (["metadata", &"x".repeat(900), "peers"], BusError::Unknown),
    ] {
        let said = a.say_to(&b.mesh, b.key, open).unwrap();
        assert_eq!(said.unwrap_err(), expected, "{open:?}");
    }
    a.say_to(&b.mesh, b.key, ["metadata", "metadata", "peers"])
        .unwrap()
        .unwrap();
}

#[test]
fn a_stranger_may_ask_to_be_admitted_and_nothing_else() {
    let (a, b) = two();
    drop(a.open_when_there("b"));
    let (_, _) = b.welcome();
    // Nobody knows this key; that it is of another cluster says nothing more.
    let stranger = [9; 32];
    for (open, expected) in [
        // A member may ask for this, and it may be one by a roster that b has yet to hear.
        (["metadata", "metadata", "peers"], BusError::NotKnownThere),
        (["membership", "metadata", "metadata"], BusError::Denied),
        (["console", "init", "inspect"], BusError::Denied),
    ] {
        let said = say_as(stranger, &b.mesh, b.key, open).unwrap();
        assert_eq!(said.unwrap_err(), expected, "{open:?}");
    }
    let admission = ["membership", "metadata", "admission"];
    let held: Vec<_> = (0..8)
        .map(|_| {
            let said = say_as(stranger, &b.mesh, b.key, admission).unwrap();
            let held = said.unwrap();
            let (accept, end) = b.welcome();
            assert!(matches!(accept.origin, Origin::Stranger { .. }));
            (held, end)
        })
        .collect();
    let said = say_as(stranger, &b.mesh, b.key, admission).unwrap();
    assert_eq!(said.unwrap_err(), BusError::Quota, "a handful at a time");
    drop(held);
}

#[test]
fn a_node_with_another_key_than_the_expected_one_is_told_nothing() {
    let (a, b) = (Node::start("a", 1), Node::start("b", 2));
    let mut other = b.entry();
    other.key = NodeKey([3; 32]);
    a.tell(roster(1, vec![a.entry(), other]));
    let limit = Instant::now() + SOON;
    let refused = loop {
        match a.open_on("b", "metadata", "peers").unwrap_err() {
            BusError::NoSuchNode if Instant::now() < limit => {
                std::thread::sleep(Duration::from_millis(50));
            }
            error => break error,
        }
    };
    let expected = format!("b at {}: another node answers there", b.mesh);
    assert!(
        matches!(&refused, BusError::Unreachable(why) if why.starts_with(&expected)),
        "{refused}"
    );
}

/// Sends bytes to a bus and says whether it hangs up within a time, and after how long.
fn hung_up_on(mesh: &str, bytes: &[u8]) -> Duration {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(mesh).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut heard = Vec::new();
    if let Err(error) = stream.read_to_end(&mut heard) {
        assert_ne!(error.kind(), ErrorKind::WouldBlock, "it goes on");
    }
    begun.elapsed()
}

/// A ClientHello that offers TLS 1.2 and nothing newer (RFC 5246, 7.4.1.2).
fn hello_of_tls_12() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]); // random
    body.push(0); // no session
    body.extend([0, 2, 0xc0, 0x2b]); // one suite
    body.extend([1, 0]); // no compression
    let mut extensions = vec![0, 13, 0, 4, 0, 2, 8, 7]; // signature_algorithms: ed25519
    extensions.extend([0, 10, 0, 4, 0, 2, 0, 29]); // supported_groups: x25519
    body.extend([0, extensions.len() as u8]);
    body.extend(extensions);
    let mut record = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    record.extend(body);
    record
}

#[test]
fn whoever_does_not_speak_the_protocol_is_hung_up_and_the_members_are_not_held_up() {
    let (a, b) = two();
    drop(a.open_when_there("b"));
    let silent = TcpStream::connect(&b.mesh).unwrap();
    let since = Instant::now();
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: b\r\n\r\n".to_vec(),
        hello_of_tls_12(),
        vec![0xff; 40_000],
        vec![22, 3, 1, 0, 4, 2, 0, 0, 0],
        vec![0; 100],
    ] {
        let after = hung_up_on(&b.mesh, &bytes);
        let late = Duration::from_millis(REACH_WITHIN_MS);
        assert!(
            after < late,
            "{after:?} {:?}",
            &bytes[..10.min(bytes.len())]
        );
        drop(a.open_on("b", "metadata", "peers").unwrap());
    }
    // Who says nothing at all has its time.
    silent.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!((&silent).read(&mut [0]).unwrap(), 0);
    let after = since.elapsed();
    assert!(after >= Duration::from_millis(REACH_WITHIN_MS), "{after:?}");
}

#[test]
fn strangers_take_a_bounded_number_of_places_and_none_of_the_members() {
    let b = Node::start("b", 2);
    let crowd: Vec<TcpStream> = (0..4)
        .map(|_| TcpStream::connect(&b.mesh).unwrap())
        .collect();
    // One more of the same address is turned away at once; of the others none.
    assert!(hung_up_on(&b.mesh, b"") < Duration::from_millis(REACH_WITHIN_MS));
    for one in &crowd {
        one.set_nonblocking(true).unwrap();
        let still = (&*one).read(&mut [0]).unwrap_err();
        assert_eq!(still.kind(), ErrorKind::WouldBlock);
    }
    // A member of that address comes in nevertheless.
    let a = Node::start("a", 1);
    for node in [&a, &b] {
        node.tell(roster(1, vec![a.entry(), b.entry()]));
    }
    drop(a.open_when_there("b"));
}

/// A connection from `a` to `b` and one back, each by its two ends.
fn both_ways(a: &Node, b: &Node) -> [UnixStream; 4] {
    let client = a.open_when_there("b");
    let (_, server) = b.welcome();
    let back = b.open_when_there("a");
    let (_, theirs) = a.welcome();
    passes(&client, &server, b"hello");
    passes(&back, &theirs, b"hello");
    [client, server, back, theirs]
}

#[test]
fn a_revoked_node_loses_every_connection_on_both_sides() {
    let (a, b) = two();
    let [client, server, back, theirs] = both_ways(&a, &b);
    let mut revoked = a.entry();
    revoked.standing = Standing::Revoked;
    b.tell(roster(2, vec![revoked, b.entry()]));
    // b has learnt it, and a has not.
    for end in [&client, &server, &back, &theirs] {
        assert!(ends(end));
    }
    let refused = a.open_on("b", "metadata", "peers").unwrap_err();
    assert_eq!(refused, BusError::Denied);
    assert_eq!(
        b.open_on("a", "metadata", "peers").unwrap_err(),
        BusError::NoSuchNode
    );
    // A roster that is older than the known one brings nobody back.
    b.tell(roster(1, vec![a.entry(), b.entry()]));
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(
        b.open_on("a", "metadata", "peers").unwrap_err(),
        BusError::NoSuchNode
    );
}

/// Passes on between whoever comes and `to`, and keeps every byte.
fn recorder(to: &str) -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (seen, to) = (Arc::new(Mutex::new(Vec::new())), to.to_owned());
    let kept = seen.clone();
    std::thread::spawn(move || {
        while let Ok((here, _)) = listener.accept() {
            let there = TcpStream::connect(&to).unwrap();
            for (mut from, mut into) in [
                (here.try_clone().unwrap(), there.try_clone().unwrap()),
                (there, here),
            ] {
                let kept = kept.clone();
                std::thread::spawn(move || {
                    let mut bytes = [0; 16_384];
                    while let Ok(count @ 1..) = from.read(&mut bytes) {
                        kept.lock().unwrap().extend_from_slice(&bytes[..count]);
                        if into.write_all(&bytes[..count]).is_err() {
                            break;
                        }
                    }
                    let _ = into.shutdown(Shutdown::Write);
                });
            }
        }
    });
    (address, seen)
}

#[test]
fn nothing_of_what_is_said_can_be_read_on_the_way() {
    let (a, b) = (Node::start("anna", 1), Node::start("berta", 2));
    let (address, seen) = recorder(&b.mesh);
    let mut on_the_way = b.entry();
    on_the_way.mesh = address;
    a.tell(roster(1, vec![a.entry(), on_the_way]));
    b.tell(roster(1, vec![a.entry(), b.entry()]));
    let client = a.open_when_there("berta");
    let (_, server) = b.welcome();
    let secret = b"a secret between the voters ".repeat(4_000);
    passes(&client, &server, &secret);
    passes(&server, &client, &secret);
    close(client);
    assert!(ends(&server));
    let seen = seen.lock().unwrap();
    assert!(seen.len() > 2 * secret.len(), "{} bytes seen", seen.len());
    let key = a.key.0;
    for plain in [
        b"a secret between".as_slice(),
        b"metadata",
        b"peers",
        b"anna",
        b"berta",
        &key,
        &key[..8],
    ] {
        let found = seen.windows(plain.len()).any(|part| part == plain);
        assert!(!found, "{:?}", String::from_utf8_lossy(plain));
    }
}

#[test]
fn a_touched_byte_ends_the_connection_and_reaches_nobody() {
    let (a, b) = two();
    drop(a.open_when_there("b"));
    let (_, _) = b.welcome();
    let peers = ["metadata", "metadata", "peers"];
    let (socket, _) = a.say_to(&b.mesh, b.key, peers).unwrap().unwrap();
    let (_, server) = b.welcome();
    // A record of the right form under no key.
    let mut record = vec![23, 3, 3, 0, 30];
    record.extend([5; 30]);
    let mut stream = TcpStream::from(socket);
    stream.set_nonblocking(false).unwrap();
    stream.write_all(&record).unwrap();
    let mut heard = Vec::new();
    server.set_read_timeout(Some(SOON)).unwrap();
    let ended = (&server).read_to_end(&mut heard);
    assert!(
        heard.is_empty() && !matches!(&ended, Err(error) if error.kind() == ErrorKind::WouldBlock)
    );
}

#[test]
fn a_newcomer_is_connected_to_the_node_of_its_token_until_it_is_admitted() {
    let (a, b) = (Node::start("a", 1), Node::start("b", 2));
    b.tell(roster(1, vec![b.entry()]));
    a.tell(MembershipAnswer::Wanting {
        mesh: b.mesh.clone(),
        key: b.key,
    });
    let ours = a.joins.recv_timeout(SOON).unwrap();
    let (accept, theirs) = b.welcome();
    assert_eq!(accept.conversation, "admission");
    assert_eq!(accept.origin, Origin::Stranger { key: a.key });
    let ours = UnixStream::from(ours);
    ours.set_nonblocking(false).unwrap();
    passes(&ours, &theirs, b"let me in");
    passes(&theirs, &ours, b"come in");
    // One attempt at a time.
    let again = a.joins.recv_timeout(Duration::from_millis(2_500));
    assert!(again.is_err());
    for node in [&a, &b] {
        node.tell(roster(2, vec![b.entry(), a.entry()]));
    }
    drop(ours);
    let client = a.open_when_there("b");
    let (_, server) = b.welcome();
    passes(&client, &server, b"hello");
}

#[test]
fn a_relay_that_ends_takes_its_connections_along_and_the_next_works_again() {
    if matches!(Records::of_this_host(), Records::Kernel) {
        return; // the kernel does the records here
    }
    let (mut a, b) = two();
    let client = a.open_when_there("b");
    let (_, server) = b.welcome();
    passes(&client, &server, b"hello");
    a.kill_relay();
    assert!(ends(&client) && ends(&server));
    a.start_relay();
    let client = a.open_when_there("b");
    let (_, server) = b.welcome();
    passes(&client, &server, b"again");
}

#[test]
fn a_node_that_does_not_answer_holds_up_nobody() {
    let (mut a, b) = two();
    drop(a.open_when_there("b"));
    // It accepts in the kernel, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut entry = b.entry();
    entry.mesh = silent.local_addr().unwrap().to_string();
    entry.name = "c".into();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut closed = b.entry();
    closed.mesh = nobody.local_addr().unwrap().to_string();
    closed.name = "d".into();
    drop(nobody);
    let mut entries = vec![a.entry(), b.entry(), entry, closed];
    for (number, entry) in entries.iter_mut().enumerate().skip(2) {
        entry.key = NodeKey([number as u8 + 50; 32]);
    }
    a.tell(roster(2, entries));
    let limit = Instant::now() + SOON;
    let refused = loop {
        match a.open_on("d", "metadata", "peers").unwrap_err() {
            BusError::NoSuchNode if Instant::now() < limit => {
                std::thread::sleep(Duration::from_millis(50));
            }
            error => break error,
        }
    };
    assert!(
        matches!(&refused, BusError::Unreachable(why) if why.contains("onnection refused")),
        "{refused:?}"
    );
    let begun = Instant::now();
    a.ask_on("c", "metadata", "peers");
    // Everybody else goes on meanwhile.
    let front = a.bus_of("s3-frontend");
    let here = open(&front, "metadata", "metadata").unwrap();
    let other = a.bus_of("console");
    open(&other, "metadata", "metadata").unwrap();
    assert!(begun.elapsed() < Duration::from_millis(REACH_WITHIN_MS / 2));
    let refused = answer(&a.metadata["bus"]).unwrap_err();
    assert!(
        matches!(&refused, BusError::Unreachable(why) if why.contains("no answer")),
        "{refused:?}"
    );
    a.restart_metadata();
    assert_eq!(hears(&here), None);
}

#[test]
fn what_was_opened_to_an_address_that_a_node_has_left_is_over_at_once() {
    let (a, b) = two();
    let [client, server, back, theirs] = both_ways(&a, &b);
    let mut elsewhere = b.entry();
    elsewhere.mesh = "127.0.0.1:1".into();
    a.tell(roster(2, vec![a.entry(), elsewhere]));
    assert!(ends(&client) && ends(&server));
    // That b has come from there is no reason to hang up on it.
    passes(&back, &theirs, b"still");
    // What has not changed is not cut.
    a.tell(roster(3, vec![a.entry(), b.entry()]));
    let client = a.open_when_there("b");
    let (_, server) = b.welcome();
    a.tell(roster(4, vec![a.entry(), b.entry()]));
    std::thread::sleep(Duration::from_millis(1_500));
    passes(&client, &server, b"still");
}

#[test]
fn whoever_waits_for_a_node_that_is_revoked_is_told_so_at_once() {
    let (a, b) = two();
    drop(a.open_when_there("b"));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut entry = b.entry();
    entry.mesh = silent.local_addr().unwrap().to_string();
    a.tell(roster(2, vec![a.entry(), entry]));
    // The bus dials the new address as soon as it has learnt it.
    silent.set_nonblocking(true).unwrap();
    let limit = Instant::now() + SOON;
    let _held = loop {
        a.ask_on("b", "metadata", "peers");
        std::thread::sleep(Duration::from_millis(300));
        if let Ok(accepted) = silent.accept() {
            break accepted;
        }
        assert!(Instant::now() < limit, "the bus keeps to the old address");
        drop(answer(&a.metadata["bus"]));
    };
    let begun = Instant::now();
    a.tell(roster(3, vec![a.entry()]));
    let refused = answer(&a.metadata["bus"]).unwrap_err();
    assert_eq!(refused, BusError::NoSuchNode);
    assert!(begun.elapsed() < Duration::from_millis(REACH_WITHIN_MS / 2));
}

#[test]
fn a_service_that_restarts_over_there_is_waited_for() {
    let (a, mut b) = two();
    drop(a.open_when_there("b"));
    let (_, _) = b.welcome();
    b.metadata.clear();
    a.ask_on("b", "metadata", "peers");
    std::thread::sleep(Duration::from_millis(300));
    b.restart_metadata();
    let client = crate::mesh::tests::node::blocking(answer(&a.metadata["bus"]).unwrap());
    let (_, server) = b.welcome();
    passes(&client, &server, b"hello");
}
