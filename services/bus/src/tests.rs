//! The bus as its neighbours see it: an orchestrator that packs, services that ask, and some that misbehave.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

use crate::across::Others;
use crate::mesh::{Identity, Records};
use crate::sockets::{Addresses, Sockets};
use crate::switchboard::Switchboard;
use manifests::{BUILT_IN, Policy};
use protocol::Channel;
use protocol::bus::{
    Accept, BusError, CONNECTIONS_MAX, Connect, ConnectAnswer, ConnectCall, Door, Supply,
    SupplyAnswer, SupplyCall,
};
use protocol::channel::ReceiveBuffer;
use protocol::membership::{Membership, MembershipCall};
use protocol::start::{Order, Packed, Start};
use protocol::wire::{Conversation, Numbered};
use runtime::Given;
use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvFlags, SendFlags};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

/// A running bus, seen by init and the orchestrator.
pub(crate) struct Home {
    init: Channel,
    supply: Channel,
    pub(crate) membership: Channel,
    ssh: Channel,
    thread: Option<JoinHandle<()>>,
    _directory: tempfile::TempDir,
    buffer: ReceiveBuffer,
}

impl Home {
    fn start() -> Self {
        Self::start_with("")
    }

    /// With these webhooks: `NAME=IP:PORT`, separated by spaces.
    fn start_with(webhooks: &str) -> Self {
        Self::start_as(webhooks, None, &[])
    }

    /// With other nodes, to whom it is the node of this seed, and with guests: the files and texts of their manifests.
    pub(crate) fn start_meshed(seed: [u8; 32], guests: &[(&str, &str)]) -> Self {
        Self::start_as("", Some(seed), guests)
    }

    fn start_as(webhooks: &str, seed: Option<[u8; 32]>, guests: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let control = directory.path().join("control.sock");
        let addresses = Addresses {
            s3: "127.0.0.1:0".into(),
            gossip: "127.0.0.1:0".into(),
            control: control.to_str().unwrap().into(),
            web: None,
            ssh: Some("127.0.0.1:0".into()),
            webhooks: webhooks.into(),
            mesh: seed.map(|_| "127.0.0.1:0".into()),
        };
        let sockets = Sockets::open(&addresses).unwrap();
        let manifests = BUILT_IN.iter().chain(guests).copied();
        let policy = Policy::parse(manifests).unwrap();
        let (init, theirs) = Channel::pair().unwrap();
        let (supply, bus_supply) = Channel::pair().unwrap();
        let (membership, bus_membership) = Channel::pair().unwrap();
        let (ssh, bus_ssh) = Channel::pair().unwrap();
        let clients = vec![("debug-ssh", bus_ssh)];
        let doors = [
            ("init", Channel::pair().unwrap().0),
            ("orchestrator", Channel::pair().unwrap().0),
        ];
        let packed = Packed {
            service: "bus".into(),
            grants: vec![],
            settings: vec![],
        };
        init.send_message::<Start>(&Order::Packed(packed), &[], SendFlags::empty())
            .unwrap();
        let thread = std::thread::spawn(move || {
            let supervisor = Given::over(theirs).unwrap().finish().unwrap();
            let [first, second] = doors;
            let doors = [first, second, ("membership", bus_membership)];
            let others = seed.map(|seed| {
                let identity = Identity::from_seed(&seed).unwrap();
                Others::new(identity, Records::of_this_host())
            });
            Switchboard::new(policy, sockets, doors, bus_supply, clients, others)
                .serve(&supervisor)
                .unwrap();
        });
        Self {
            init,
            supply,
            membership,
            ssh,
            thread: Some(thread),
            _directory: directory,
            buffer: ReceiveBuffer::new(),
        }
    }

    pub(crate) fn supply(
        &mut self,
        call: SupplyCall,
    ) -> (Result<SupplyAnswer, BusError>, Vec<OwnedFd>) {
        self.supply
            .send_message::<Supply>(&Numbered { id: 1, body: call }, &[], SendFlags::empty())
            .unwrap();
        let answer = self
            .supply
            .receive_message::<Supply, Numbered<_>>(&mut self.buffer, RecvFlags::empty());
        let (Numbered { body, .. }, descriptors) = answer.unwrap().unwrap();
        (body, descriptors)
    }

    /// What the orchestrator would put into the service's hands.
    pub(crate) fn pack(&mut self, service: &str) -> BTreeMap<String, Channel> {
        match self.supply(SupplyCall::Pack {
            service: service.into(),
        }) {
            (Ok(SupplyAnswer::Packed(names)), descriptors) => {
                assert_eq!(names.len(), descriptors.len());
                names
                    .into_iter()
                    .zip(descriptors.into_iter().map(Channel::from))
                    .collect()
            }
            (other, _) => panic!("{service} was not packed: {other:?}"),
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self
            .init
            .send_message::<Start>(&Order::Stop, &[], SendFlags::empty());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))));
    }
}

pub(crate) fn ask(bus: &Channel, service: &str, conversation: &str) {
    let body = ConnectCall::Open {
        service: service.into(),
        conversation: conversation.into(),
    };
    bus.send_message::<Connect>(&Numbered { id: 7, body }, &[], SendFlags::empty())
        .unwrap();
}

pub(crate) fn answer(bus: &Channel) -> Result<Channel, BusError> {
    answer_and_how(bus).map(|(_, end)| end)
}

pub(crate) fn answer_and_how(bus: &Channel) -> Result<(ConnectAnswer, Channel), BusError> {
    let mut buffer = ReceiveBuffer::new();
    let answer = bus.receive_message::<Connect, Numbered<<Connect as Conversation>::Answer>>(
        &mut buffer,
        RecvFlags::empty(),
    );
    let (Numbered { id, body }, mut descriptors) = answer.unwrap().unwrap();
    assert_eq!(id, 7);
    body.map(|how| (how, descriptors.pop().unwrap().into()))
}

pub(crate) fn open(bus: &Channel, service: &str, conversation: &str) -> Result<Channel, BusError> {
    ask(bus, service, conversation);
    answer(bus)
}

pub(crate) fn come_in(door: &Channel) -> (Accept, Channel) {
    let mut buffer = ReceiveBuffer::new();
    let accept = door
        .receive_message::<Door, Accept>(&mut buffer, RecvFlags::empty())
        .unwrap();
    let (accept, mut descriptors) = accept.unwrap();
    (accept, descriptors.pop().unwrap().into())
}

pub(crate) fn hears(channel: &Channel) -> Option<Vec<u8>> {
    let mut buffer = ReceiveBuffer::new();
    channel
        .receive(&mut buffer, RecvFlags::empty())
        .unwrap()
        .map(|packet| packet.bytes)
}

#[test]
fn two_processes_talk_without_the_bus_once_it_has_connected_them() {
    let mut home = Home::start();
    let (front, meta) = (home.pack("s3-frontend"), home.pack("metadata"));
    assert_eq!(front.keys().collect::<Vec<_>>(), ["bus", "s3"]);
    assert_eq!(meta.keys().collect::<Vec<_>>(), ["bus", "door"]);
    let client = open(&front["bus"], "metadata", "metadata").unwrap();
    let (accept, server) = come_in(&meta["door"]);
    assert_eq!(
        (accept.client.as_str(), accept.conversation.as_str()),
        ("s3-frontend", "metadata")
    );
    client.send(b"question", &[], SendFlags::empty()).unwrap();
    assert_eq!(hears(&server).unwrap(), b"question");
    server.send(b"answer", &[], SendFlags::empty()).unwrap();
    assert_eq!(hears(&client).unwrap(), b"answer");
    drop(client);
    assert_eq!(
        hears(&server),
        None,
        "the bus's duplicate does not keep a closed connection open"
    );
}

#[test]
fn what_the_manifests_do_not_say_is_denied() {
    let mut home = Home::start();
    let (front, clock) = (home.pack("s3-frontend"), home.pack("clock"));
    let _meta = home.pack("metadata");
    for (service, conversation, expected) in [
        ("orchestrator", "inspect", BusError::Denied),
        ("init", "inspect", BusError::Denied),
        ("membership", "members", BusError::Denied),
        ("metadata", "blocks", BusError::Denied),
        ("s3-frontend", "metadata", BusError::Denied),
        ("bus", "supply", BusError::Denied),
        ("nobody", "metadata", BusError::Unknown),
    ] {
        assert_eq!(
            open(&front["bus"], service, conversation).unwrap_err(),
            expected,
            "{service} {conversation}"
        );
    }
    assert!(
        !clock.contains_key("bus"),
        "the clock calls nobody and has nothing to ask with"
    );
    let (refused, descriptors) = home.supply(SupplyCall::Pack {
        service: "nobody".into(),
    });
    assert_eq!((refused, descriptors.len()), (Err(BusError::Unknown), 0));
}

#[test]
fn a_server_that_dies_hangs_up_on_its_clients_and_is_waited_for() {
    let mut home = Home::start();
    let (front, meta) = (home.pack("s3-frontend"), home.pack("metadata"));
    let client = open(&front["bus"], "metadata", "metadata").unwrap();
    drop(meta);
    assert_eq!(hears(&client), None);
    ask(&front["bus"], "metadata", "metadata");
    let meta = home.pack("metadata");
    let again = answer(&front["bus"]).unwrap();
    let (accept, server) = come_in(&meta["door"]);
    assert_eq!(accept.client, "s3-frontend");
    server.send(b"back", &[], SendFlags::empty()).unwrap();
    assert_eq!(hears(&again).unwrap(), b"back");
}

#[test]
fn a_client_holds_a_bounded_number_of_connections_and_gets_them_back_by_closing() {
    let mut home = Home::start();
    let (front, _meta) = (home.pack("s3-frontend"), home.pack("metadata"));
    let mut held: Vec<Channel> = (0..CONNECTIONS_MAX)
        .map(|_| open(&front["bus"], "metadata", "metadata").unwrap())
        .collect();
    assert_eq!(
        open(&front["bus"], "metadata", "metadata").unwrap_err(),
        BusError::Quota
    );
    held.truncate(CONNECTIONS_MAX / 2);
    // The bus learns of closed ends when it turns: ask until it has.
    while open(&front["bus"], "metadata", "metadata").is_err() {}
}

#[test]
fn a_revoked_service_loses_every_connection_at_once() {
    let mut home = Home::start();
    let (front, meta) = (home.pack("s3-frontend"), home.pack("metadata"));
    let client = open(&front["bus"], "metadata", "metadata").unwrap();
    let (_, server) = come_in(&meta["door"]);
    let (answer, _) = home.supply(SupplyCall::Revoke {
        service: "s3-frontend".into(),
    });
    assert_eq!(answer, Ok(SupplyAnswer::Revoked(1)));
    assert_eq!((hears(&client), hears(&server)), (None, None));
}

#[test]
fn a_client_that_speaks_nonsense_loses_what_it_holds_and_nobody_else_does() {
    let mut home = Home::start();
    let (front, meta, console) = (
        home.pack("s3-frontend"),
        home.pack("metadata"),
        home.pack("console"),
    );
    let client = open(&front["bus"], "metadata", "metadata").unwrap();
    let other = open(&console["bus"], "metadata", "metadata").unwrap();
    front["bus"]
        .send(
            b"\x03\x01garbage that is no call at all",
            &[],
            SendFlags::empty(),
        )
        .unwrap();
    assert_eq!(hears(&client), None);
    assert_eq!(hears(&front["bus"]), None);
    let (_, _) = come_in(&meta["door"]);
    let (_, server) = come_in(&meta["door"]);
    server.send(b"still here", &[], SendFlags::empty()).unwrap();
    assert_eq!(hears(&other).unwrap(), b"still here");
}

#[test]
fn membership_gets_its_udp_descriptor_on_a_connection_of_the_bus() {
    let mut home = Home::start();
    let (accept, connection) = come_in(&home.membership);
    assert_eq!(accept.client, "bus");
    let call = connection.receive_message::<Membership, Numbered<MembershipCall>>(
        &mut home.buffer,
        RecvFlags::empty(),
    );
    let (Numbered { body, .. }, descriptors) = call.unwrap().unwrap();
    assert!(
        matches!(body, MembershipCall::Use { address, mesh } if mesh.is_empty() && address.starts_with("127.0.0.1:"))
    );
    assert_eq!(descriptors.len(), 1);
}

/// One question of a daemon that init has packed, on its restricted channel.
fn ask_as_daemon(
    channel: &Channel,
    call: ConnectCall,
) -> (Result<ConnectAnswer, BusError>, Vec<OwnedFd>) {
    let call = Numbered { id: 3, body: call };
    channel
        .send_message::<Connect>(&call, &[], SendFlags::empty())
        .unwrap();
    let mut buffer = ReceiveBuffer::new();
    let answer = channel
        .receive_message::<Connect, Numbered<_>>(&mut buffer, RecvFlags::empty())
        .unwrap()
        .unwrap();
    (answer.0.body, answer.1)
}

#[test]
fn a_daemon_gets_the_listener_of_its_manifest_and_no_other() {
    let home = Home::start();
    let listen = |name: &str| ask_as_daemon(&home.ssh, ConnectCall::Listen { name: name.into() });
    let (answer, descriptors) = listen("ssh");
    assert_eq!(answer, Ok(ConnectAnswer::Opened));
    let listener = std::net::TcpListener::from(descriptors.into_iter().next().unwrap());
    std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    for name in ["s3", "control", "host-key", "bus", ""] {
        assert_eq!(listen(name).0, Err(BusError::Denied), "{name}");
    }
    let open = |service: &str, conversation: &str| {
        let (service, conversation) = (service.into(), conversation.into());
        ask_as_daemon(
            &home.ssh,
            ConnectCall::Open {
                service,
                conversation,
            },
        )
        .0
    };
    assert_eq!(open("metadata", "metadata"), Err(BusError::Denied));
    assert_eq!(open("init", "inspect"), Err(BusError::Denied));
}

fn dial(bus: &Channel, kind: &str, name: &str) -> Result<OwnedFd, BusError> {
    let body = ConnectCall::Dial {
        kind: kind.into(),
        name: name.into(),
    };
    let (answer, descriptors) = ask_as_daemon(bus, body);
    answer.map(|_| descriptors.into_iter().next().unwrap())
}

/// Waits until the connecting is over, as the notifier does, and says how it went.
fn connected(socket: OwnedFd) -> std::io::Result<TcpStream> {
    let mut set = [PollFd::new(&socket, PollFlags::OUT)];
    rustix::event::poll(&mut set, None).unwrap();
    let stream = TcpStream::from(socket);
    match stream.take_error().unwrap() {
        None => Ok(stream),
        Some(error) => Err(error),
    }
}

#[test]
fn who_dials_is_connected_to_what_the_operator_named_and_to_nothing_else() {
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = outside.local_addr().unwrap();
    let six = TcpListener::bind("[::1]:0").unwrap();
    let mut home = Home::start_with(&format!(
        "orders={address} six={}",
        six.local_addr().unwrap()
    ));
    let (notifier, front) = (home.pack("notifier"), home.pack("s3-frontend"));
    let mut stream = connected(dial(&notifier["bus"], "webhook", "orders").unwrap()).unwrap();
    let (mut there, _) = outside.accept().unwrap();
    stream.write_all(b"hello").unwrap();
    let mut heard = [0; 5];
    there.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    connected(dial(&notifier["bus"], "webhook", "six").unwrap()).unwrap();
    six.accept().unwrap();

    for (kind, name, expected) in [
        ("webhook", "others", BusError::Unknown),
        ("webhook", "", BusError::Unknown),
        ("webhook", &address.to_string(), BusError::Unknown),
        ("listener", "orders", BusError::Denied),
        ("", "orders", BusError::Denied),
        ("s3", "s3", BusError::Denied),
    ] {
        let refused = dial(&notifier["bus"], kind, name).unwrap_err();
        assert_eq!(refused, expected, "{kind} {name}");
    }
    for (service, conversation) in [("block-store", "blocks"), ("init", "inspect")] {
        let refused = open(&notifier["bus"], service, conversation).unwrap_err();
        assert_eq!(refused, BusError::Denied, "{service}");
    }
    let refused = dial(&front["bus"], "webhook", "orders").unwrap_err();
    assert_eq!(refused, BusError::Denied, "its manifest has no `dials`");
    let refused = dial(&home.ssh, "webhook", "orders").unwrap_err();
    assert_eq!(refused, BusError::Denied, "nor has a daemon's");
}

#[test]
fn a_dialled_connection_is_taken_back_and_a_closed_one_is_forgotten() {
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut home = Home::start_with(&format!("orders={}", outside.local_addr().unwrap()));
    let notifier = home.pack("notifier");
    let mut stream = connected(dial(&notifier["bus"], "webhook", "orders").unwrap()).unwrap();
    let (mut there, _) = outside.accept().unwrap();
    let (answer, _) = home.supply(SupplyCall::Revoke {
        service: "notifier".into(),
    });
    assert_eq!(answer, Ok(SupplyAnswer::Revoked(1)));
    let mut byte = [0];
    assert_eq!(there.read(&mut byte).unwrap(), 0, "hung up for the one");
    assert!(matches!(stream.read(&mut byte), Ok(0)), "and for the other");

    // As many as it likes, as long as each is shut down before the next.
    for _ in 0..3 * CONNECTIONS_MAX {
        let stream = connected(dial(&notifier["bus"], "webhook", "orders").unwrap()).unwrap();
        stream.shutdown(std::net::Shutdown::Both).unwrap();
        let _ = outside.accept().unwrap();
    }
    // Not more than that at a time.
    let held: Vec<_> = std::iter::from_fn(|| dial(&notifier["bus"], "webhook", "orders").ok())
        .take(2 * CONNECTIONS_MAX)
        .collect();
    assert!(held.len() <= CONNECTIONS_MAX, "{}", held.len());
    assert_eq!(
        dial(&notifier["bus"], "webhook", "orders").unwrap_err(),
        BusError::Quota
    );
}

#[test]
fn where_nobody_listens_the_socket_says_so_and_the_bus_forgets_it() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let mut home = Home::start_with(&format!("orders={address}"));
    let notifier = home.pack("notifier");
    for _ in 0..2 * CONNECTIONS_MAX {
        let refused = connected(dial(&notifier["bus"], "webhook", "orders").unwrap());
        let kind = refused.unwrap_err().kind();
        assert_eq!(kind, std::io::ErrorKind::ConnectionRefused);
    }
}

#[test]
fn addresses_that_are_none_keep_the_bus_from_starting() {
    let directory = tempfile::tempdir().unwrap();
    let control = directory.path().join("control.sock");
    let open = |webhooks: &str| {
        let addresses = Addresses {
            s3: "127.0.0.1:0".into(),
            gossip: "127.0.0.1:0".into(),
            control: control.to_str().unwrap().into(),
            web: None,
            ssh: None,
            webhooks: webhooks.into(),
            mesh: None,
        };
        Sockets::open(&addresses)
    };
    assert!(open("orders=127.0.0.1:80").is_ok());
    for wrong in [
        "orders",
        "orders=",
        "orders=localhost:80",
        "orders=127.0.0.1",
    ] {
        assert!(open(wrong).is_err(), "{wrong}");
    }
}
