//! Clients of a service that runs on some nodes only, and may be on its way to another.

use super::node::{Node, blocking, roster};
use super::{close, ends, passes};
use crate::tests::{answer_and_how, ask, come_in};
use protocol::Channel;
use protocol::bus::{Accept, BusError, ConnectAnswer, Origin, REACH_WITHIN_MS, SupplyCall};
use protocol::cluster::{NodeEntry, NodeKey, Standing};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The manifests of the greeter, which is placed, and of its client.
fn manifests(client: &str) -> [(&'static str, String); 2] {
    let limits = "[limits]\nmemory_mb = 1\nprocesses = 1\nopen_files = 16\n";
    let greeter = format!(
        "name = \"greeter\"\nabout = \"x\"\nrank = 90\nprofile = \"console\"\nprogram = \"x\"\n\
         placement = {{ count = 1, zones = \"any\" }}\n\
         grant = [{{ name = \"door\", kind = \"door\", why = \"x\" }}]\n\
         serves = [{{ conversation = \"greeting\", to = [{client:?}], across = true, why = \"x\" }}]\n{limits}"
    );
    let client = format!(
        "name = {client:?}\nabout = \"x\"\nrank = 91\nprofile = \"console\"\nprogram = \"x\"\n\
         grant = [{{ name = \"bus\", kind = \"bus\", why = \"x\" }}]\n\
         calls = [{{ service = \"greeter\", conversation = \"greeting\", across = true, why = \"x\" }}]\n{limits}"
    );
    [("greeter.toml", greeter), ("client.toml", client)]
}

/// A node with the greeter's manifest, which serves `client` there.
fn node(name: &str, seed: u8, client: &str) -> Node {
    let manifests = manifests(client);
    let guests: Vec<_> = manifests
        .iter()
        .map(|(file, text)| (*file, text.as_str()))
        .collect();
    Node::start_with(name, seed, &guests)
}

/// Two such nodes that know each other, and the bus channel of the client on the first.
fn two() -> (Node, Node, Channel) {
    two_of("caller")
}

/// The same, where the second one's greeter serves `client`.
fn two_of(client: &str) -> (Node, Node, Channel) {
    let (mut a, b) = (node("a", 1, "caller"), node("b", 2, client));
    for node in [&a, &b] {
        node.tell(roster(1, vec![a.entry(), b.entry()]));
    }
    // b must have heard of a, too, if a test is to be about something else.
    drop(a.open_when_there("b"));
    let caller = a.bus_of("caller");
    (a, b, caller)
}

impl Node {
    /// The greeter runs on these other nodes; `None`: it is to run here.
    fn greeter_is_on(&mut self, nodes: Option<&[&str]>) {
        let nodes = nodes.map(|nodes| nodes.iter().map(|node| (*node).to_owned()).collect());
        let services = nodes.map(|nodes| ("greeter".to_owned(), nodes));
        self.supply(SupplyCall::Elsewhere {
            services: services.into_iter().collect(),
        });
    }
}

fn ask_for_greeter(caller: &Channel) {
    ask(caller, "greeter", "greeting");
}

/// The stream to another node that the bus has answered with.
fn stream(caller: &Channel) -> UnixStream {
    match answer_and_how(caller).unwrap() {
        (ConnectAnswer::OpenedAcross(_), end) => blocking(end),
        (ConnectAnswer::Opened, _) => panic!("it does not run here"),
    }
}

/// Who has come to a greeter.
fn welcome(greeter: &BTreeMap<String, Channel>) -> (Accept, UnixStream) {
    let (accept, end) = come_in(&greeter["door"]);
    (accept, blocking(end))
}

/// What the roster has of a node `c` at which somebody listens and says nothing.
fn silent(like: &Node) -> (NodeEntry, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let entry = NodeEntry {
        name: "c".into(),
        key: NodeKey([9; 32]),
        mesh: listener.local_addr().unwrap().to_string(),
        ..like.entry()
    };
    (entry, listener)
}

#[test]
fn a_client_is_connected_to_a_placed_service_wherever_it_runs() {
    let (mut a, mut b, caller) = two();
    let greeter = b.pack("greeter");
    a.greeter_is_on(Some(&["b"]));
    ask_for_greeter(&caller);
    let client = stream(&caller);
    let (accept, server) = welcome(&greeter);
    assert_eq!(
        (accept.client.as_str(), accept.conversation.as_str()),
        ("caller", "greeting")
    );
    let name = "a".to_owned();
    assert_eq!(accept.origin, Origin::Member { name, key: a.key });
    passes(&client, &server, b"hello");
    // Its own node comes first as soon as it is to run there; the connection that there is goes on.
    a.greeter_is_on(None);
    let own = a.pack("greeter");
    ask_for_greeter(&caller);
    let (how, _end) = answer_and_how(&caller).unwrap();
    assert_eq!(how, ConnectAnswer::Opened);
    assert_eq!(come_in(&own["door"]).0.origin, Origin::Here);
    passes(&server, &client, b"still");
    // And one that is about to end here is not waited for.
    a.greeter_is_on(Some(&["b"]));
    ask_for_greeter(&caller);
    let again = stream(&caller);
    passes(&again, &welcome(&greeter).1, b"hello");
    close(client);
    assert!(ends(&server));
}

#[test]
fn who_asks_while_the_service_moves_is_connected_where_it_arrives() {
    let (mut a, mut b, caller) = two();
    // Nobody knows yet, then it is on a node that does not have it yet.
    ask_for_greeter(&caller);
    a.greeter_is_on(Some(&[]));
    a.greeter_is_on(Some(&["b"]));
    std::thread::sleep(Duration::from_millis(500));
    let greeter = b.pack("greeter");
    let client = stream(&caller);
    let (_, server) = welcome(&greeter);
    passes(&client, &server, b"hello");
    // It ends there, which its clients see at once, and begins here.
    drop(greeter);
    assert!(ends(&client));
    ask_for_greeter(&caller);
    std::thread::sleep(Duration::from_millis(500));
    a.greeter_is_on(None);
    let _own = a.pack("greeter");
    assert_eq!(answer_and_how(&caller).unwrap().0, ConnectAnswer::Opened);
}

#[test]
fn a_node_that_has_not_heard_of_the_callers_is_asked_again() {
    let (mut a, mut b) = (node("a", 1, "caller"), node("b", 2, "caller"));
    let (caller, greeter) = (a.bus_of("caller"), b.pack("greeter"));
    a.tell(roster(1, vec![a.entry(), b.entry()]));
    b.tell(roster(1, vec![b.entry()]));
    a.greeter_is_on(Some(&["b"]));
    let limit = Instant::now() + Duration::from_secs(60);
    while a.open_on("b", "metadata", "peers").unwrap_err() != BusError::NotKnownThere {
        assert!(
            Instant::now() < limit,
            "b never says that it does not know a"
        );
    }
    ask_for_greeter(&caller);
    std::thread::sleep(Duration::from_millis(500));
    b.tell(roster(2, vec![a.entry(), b.entry()]));
    passes(&stream(&caller), &welcome(&greeter).1, b"hello");
}

#[test]
fn who_waits_in_vain_is_told_so_in_the_end() {
    let (mut a, _b, caller) = two();
    a.greeter_is_on(Some(&["b"]));
    ask_for_greeter(&caller);
    assert_eq!(answer_and_how(&caller).unwrap_err(), BusError::Unavailable);
}

#[test]
fn the_callees_node_judges_by_its_own_manifests() {
    let (mut a, mut b, caller) = two_of("friend");
    let _greeter = b.pack("greeter");
    a.greeter_is_on(Some(&["b"]));
    ask_for_greeter(&caller);
    assert_eq!(answer_and_how(&caller).unwrap_err(), BusError::Denied);
    // A service that has no placement is nowhere else, whatever the orchestrator may say.
    a.supply(SupplyCall::Elsewhere {
        services: vec![("block-store".into(), vec!["b".into()])],
    });
    let (front, _store) = (a.bus_of("s3-frontend"), a.pack("block-store"));
    ask(&front, "block-store", "blocks");
    assert_eq!(answer_and_how(&front).unwrap().0, ConnectAnswer::Opened);
}

#[test]
fn a_node_that_does_not_answer_is_not_the_last_word_where_another_runs_it() {
    let (mut a, mut b, caller) = two();
    let (dead, _listener) = silent(&a);
    let all = vec![a.entry(), b.entry(), dead];
    a.tell(roster(2, all));
    let greeter = b.pack("greeter");
    a.greeter_is_on(Some(&["c", "b"]));
    for _ in 0..2 {
        ask_for_greeter(&caller);
        let client = stream(&caller);
        passes(&client, &welcome(&greeter).1, b"hello");
    }
}

#[test]
fn clients_of_a_service_that_does_not_answer_take_few_places_and_turn_round_when_it_moves() {
    let (mut a, b, caller) = two();
    let (dead, listener) = silent(&a);
    a.tell(roster(2, vec![a.entry(), b.entry(), dead]));
    a.greeter_is_on(Some(&["c"]));
    let begun = Instant::now();
    (0..40).for_each(|_| ask_for_greeter(&caller));
    let mut under_way = vec![listener.accept().unwrap()];
    std::thread::sleep(Duration::from_millis(500));
    listener.set_nonblocking(true).unwrap();
    under_way.extend(std::iter::from_fn(|| listener.accept().ok()));
    assert!(under_way.len() <= 4, "{} at a time", under_way.len());
    // Nobody waits for the silent one any longer, not even those who are on their way to it.
    a.greeter_is_on(None);
    let _own = a.pack("greeter");
    for _ in 0..40 {
        assert_eq!(answer_and_how(&caller).unwrap().0, ConnectAnswer::Opened);
    }
    let after = begun.elapsed();
    assert!(
        after < Duration::from_millis(REACH_WITHIN_MS),
        "they turned round: {after:?}"
    );
}

#[test]
fn a_connection_to_a_placed_service_ends_with_the_rights_of_either_end() {
    let (mut a, mut b, mut caller) = two();
    let mut greeter = b.pack("greeter");
    a.greeter_is_on(Some(&["b"]));
    let connect = |caller: &Channel, greeter: &BTreeMap<String, Channel>| {
        ask_for_greeter(caller);
        let both = (stream(caller), welcome(greeter).1);
        passes(&both.0, &both.1, b"hello");
        both
    };
    let both_end = |(client, server): (UnixStream, UnixStream)| ends(&client) && ends(&server);
    let of = |service: &str| SupplyCall::Revoke {
        service: service.into(),
    };

    let connection = connect(&caller, &greeter);
    a.supply(of("caller"));
    assert!(both_end(connection), "its client is revoked");

    let connection = connect(&caller, &greeter);
    b.supply(of("greeter"));
    assert!(both_end(connection), "it is revoked itself");

    let connection = connect(&caller, &greeter);
    caller = a.bus_of("caller");
    assert!(both_end(connection), "its client is another process");

    let connection = connect(&caller, &greeter);
    greeter = b.pack("greeter");
    assert!(both_end(connection), "it is another process itself");

    let connection = connect(&caller, &greeter);
    let mut revoked = a.entry();
    revoked.standing = Standing::Revoked;
    b.tell(roster(2, vec![revoked, b.entry()]));
    assert!(both_end(connection), "its client's node does not belong");
    ask_for_greeter(&caller);
    assert_eq!(answer_and_how(&caller).unwrap_err(), BusError::Denied);
}
