//! The whole service on a thread: the test is its supervisor, its bus and its clients.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

use super::*;
use proptest::prelude::*;
use protocol::Channel;
use protocol::bus::{Accept, Door, Origin};
use protocol::cluster::{Admission, AdmissionCall, AdmissionError, ClusterId, NodeEntry, Standing};
use protocol::membership::{Member, MemberState};
use protocol::start::{Packed, Say, Start};
use protocol::stream::{Frames, frame};
use protocol::wire::{self, Conversation, Numbered};
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// The node of that number: its key is that byte 32 times, and so is its secret.
pub(crate) fn entry(number: u8) -> NodeEntry {
    let key = NodeKey([number; 32]);
    NodeEntry {
        key,
        gossip_key: Envelope::new(key, [number; 32]).public(),
        name: format!("node{number}"),
        zone: "home".into(),
        capacity_bytes: 1 << 30,
        mesh: String::new(),
        gossip: format!("127.0.0.1:{}", 1_000 + u16::from(number)),
        standing: Standing::Member,
    }
}

/// All of these, in their first version.
pub(crate) fn roster(nodes: impl IntoIterator<Item = NodeEntry>) -> Roster {
    Roster {
        cluster: ClusterId([7; 16]),
        version: 1,
        nodes: nodes.into_iter().collect(),
    }
}

fn invitation() -> Token {
    Token {
        cluster: roster([]).cluster,
        secret: [9; 32],
        key: entry(1).key,
        mesh: "127.0.0.1:4100".parse().unwrap(),
    }
}

struct Service {
    supervisor: Channel,
    door: Channel,
    thread: JoinHandle<Result<(), Error>>,
}

impl Service {
    fn start() -> Self {
        Self::start_as(1, &tempfile::tempfile().unwrap().into(), "")
    }

    /// The node of that number, with this file for its roster.
    fn start_as(number: u8, kept: &OwnedFd, join: &str) -> Self {
        let (supervisor, start) = Channel::pair().unwrap();
        let (door, theirs) = Channel::pair().unwrap();
        let mut secret = tempfile::tempfile().unwrap();
        secret.write_all(&[number; 32]).unwrap();
        let entry = entry(number);
        let settings = [
            ("node", entry.name),
            ("node_key", entry.key.to_string()),
            ("zone", entry.zone),
            ("capacity", entry.capacity_bytes.to_string()),
            ("reach_mesh", String::new()),
            ("reach_gossip", String::new()),
            ("join", join.into()),
            ("version", "0.1.0".into()),
            ("services", "metadata block-store".into()),
        ];
        let packed = Order::Packed(Packed {
            service: "membership".into(),
            grants: vec!["door".into(), "gossip-key".into(), "roster".into()],
            settings: settings.map(|(name, value)| (name.into(), value)).into(),
        });
        supervisor
            .send_message::<Start>(
                &packed,
                &[theirs.as_fd(), secret.as_fd(), kept.as_fd()],
                SendFlags::empty(),
            )
            .unwrap();
        drop(theirs);
        let thread = std::thread::spawn(move || run(Given::over(start).unwrap()));
        let service = Self {
            supervisor,
            door,
            thread,
        };
        let said = service.hear();
        assert!(
            matches!(&said, Say::Ready { about } if about.starts_with("seed ")),
            "{said:?}"
        );
        service
    }

    fn hear(&self) -> Say {
        let mut buffer = ReceiveBuffer::new();
        let said = self
            .supervisor
            .receive_message::<Start, Say>(&mut buffer, RecvFlags::empty());
        said.unwrap().unwrap().0
    }

    fn order(&self, order: &Order, descriptors: &[BorrowedFd<'_>]) {
        self.supervisor
            .send_message::<Start>(order, descriptors, SendFlags::empty())
            .unwrap();
    }

    fn stop(self) -> Result<(), Error> {
        self.order(&Order::Stop, &[]);
        self.thread.join().unwrap()
    }
}

fn connect(door: &Channel, client: &str) -> Channel {
    let (ours, theirs) = Channel::pair().unwrap();
    let accept = Accept {
        client: client.into(),
        conversation: Membership::NAME.into(),
        origin: Origin::Here,
    };
    door.send_message::<Door>(&accept, &[theirs.as_fd()], SendFlags::empty())
        .unwrap();
    ours
}

fn call(
    connection: &Channel,
    body: MembershipCall,
    descriptors: &[BorrowedFd<'_>],
) -> MembershipAnswer {
    connection
        .send_message::<Membership>(&Numbered { id: 7, body }, descriptors, SendFlags::empty())
        .unwrap();
    let mut buffer = ReceiveBuffer::new();
    let (Numbered { id, body }, _) = connection
        .receive_message::<Membership, _>(&mut buffer, RecvFlags::empty())
        .unwrap()
        .unwrap();
    assert_eq!(id, 7);
    body
}

fn use_udp(udp: &UdpSocket) -> MembershipCall {
    let address = udp.local_addr().unwrap().to_string();
    let mesh = String::new();
    MembershipCall::Use { address, mesh }
}

fn learn(roster: &Roster) -> MembershipCall {
    let roster = roster.clone();
    MembershipCall::Learn { roster }
}

fn members(connection: &Channel) -> Vec<Member> {
    match call(connection, MembershipCall::Members, &[]) {
        MembershipAnswer::Members(members) => members,
        other => panic!("{other:?}"),
    }
}

/// Asks until it holds. A minute is far more than it takes.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < limit, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn it_answers_members_and_takes_its_descriptor_from_the_bus_only() {
    let service = Service::start();
    let own = |address: String| {
        MembershipAnswer::Members(vec![Member {
            key: entry(1).key,
            name: "node1".into(),
            zone: "home".into(),
            address,
            mesh: String::new(),
            capacity_bytes: 1 << 30,
            state: MemberState::Alive,
            incarnation: 0,
            version: "0.1.0".into(),
            services: "metadata block-store".into(),
        }])
    };
    let console = connect(&service.door, "console");
    let before = call(&console, MembershipCall::Members, &[]);
    assert_eq!(before, own(String::new()));
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let stolen = call(&console, use_udp(&udp), &[udp.as_fd()]);
    assert_eq!(stolen, MembershipAnswer::Refused);
    let bus = connect(&service.door, "bus");
    assert_eq!(call(&bus, use_udp(&udp), &[]), MembershipAnswer::Refused);
    let nowhere = MembershipCall::Use {
        address: "nowhere".into(),
        mesh: String::new(),
    };
    let refused = call(&bus, nowhere, &[udp.as_fd()]);
    assert_eq!(refused, MembershipAnswer::Refused);
    for _ in 0..2 {
        let used = call(&bus, use_udp(&udp), &[udp.as_fd()]);
        assert_eq!(used, MembershipAnswer::Using);
        let after = call(&console, MembershipCall::Members, &[]);
        assert_eq!(after, own(udp.local_addr().unwrap().to_string()));
    }
    service.stop().unwrap();
}

#[test]
fn each_client_is_answered_what_is_its_own() {
    let service = Service::start();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let calls = [
        ("bus", use_udp(&udp)),
        ("bus", MembershipCall::Roster { newer_than: 0 }),
        ("metadata", MembershipCall::Own),
        ("metadata", MembershipCall::Roster { newer_than: 0 }),
        ("metadata", learn(&roster([entry(1)]))),
    ];
    for client in ["bus", "metadata", "console"] {
        let connection = connect(&service.door, client);
        for (may, body) in &calls {
            let shared = matches!(body, MembershipCall::Roster { .. }) && client != "console";
            let answer = call(&connection, body.clone(), &[udp.as_fd()]);
            let refused = answer == MembershipAnswer::Refused;
            assert_eq!(refused, client != *may && !shared, "{client} {body:?}");
        }
    }
    service.stop().unwrap();
}

#[test]
fn the_roster_is_kept_over_a_restart_and_the_newer_one_counts() {
    let kept: OwnedFd = tempfile::tempfile().unwrap().into();
    let ask = |service: &Service, newer_than| {
        let bus = connect(&service.door, "bus");
        call(&bus, MembershipCall::Roster { newer_than }, &[])
    };
    let service = Service::start_as(1, &kept, "");
    assert_eq!(ask(&service, 0), MembershipAnswer::Roster(None));
    let metadata = connect(&service.door, "metadata");
    let mut newest = roster([entry(1), entry(2)]);
    newest.version = 5;
    let older = roster([entry(1)]);
    let mut other = newest.clone();
    (other.version, other.cluster) = (9, ClusterId([8; 16]));
    let mut broken = newest.clone();
    (broken.version, broken.nodes[1].key) = (9, entry(1).key);
    for (roster, expected) in [
        (&newest, MembershipAnswer::Learned),
        (&older, MembershipAnswer::Learned),
        (&other, MembershipAnswer::Refused),
        (&broken, MembershipAnswer::Refused),
    ] {
        assert_eq!(call(&metadata, learn(roster), &[]), expected);
    }
    let told = MembershipAnswer::Roster(Some(newest.clone()));
    assert_eq!(ask(&service, 4), told);
    assert_eq!(ask(&service, 5), MembershipAnswer::Roster(None));
    service.stop().unwrap();
    let service = Service::start_as(1, &kept, "");
    assert_eq!(ask(&service, 0), told);
    let states: Vec<_> = members(&connect(&service.door, "console"))
        .into_iter()
        .map(|member| (member.name, member.state))
        .collect();
    let expected = [("node1", MemberState::Alive), ("node2", MemberState::Gone)];
    assert_eq!(states, expected.map(|(name, state)| (name.into(), state)));
    service.stop().unwrap();
}

#[test]
fn metadata_is_told_this_node_s_entry_once_it_can_be_reached() {
    let service = Service::start();
    let metadata = connect(&service.door, "metadata");
    let early = call(&metadata, MembershipCall::Own, &[]);
    assert_eq!(early, MembershipAnswer::Refused);
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let bus = connect(&service.door, "bus");
    let body = MembershipCall::Use {
        address: udp.local_addr().unwrap().to_string(),
        mesh: "127.0.0.1:4101".into(),
    };
    call(&bus, body, &[udp.as_fd()]);
    let expected = NodeEntry {
        gossip: udp.local_addr().unwrap().to_string(),
        mesh: "127.0.0.1:4101".into(),
        ..entry(1)
    };
    let own = call(&metadata, MembershipCall::Own, &[]);
    assert_eq!(own, MembershipAnswer::Own(expected));
    service.stop().unwrap();
}

/// What the newcomer says over the stream, and the answer that it gets.
fn admit(mut stream: UnixStream, answer: Result<Roster, AdmissionError>) -> AdmissionCall {
    let mut frames = Frames::default();
    let Numbered { id, body } = loop {
        if let Some(message) = frames.next().unwrap() {
            break wire::decode::<Admission, Numbered<AdmissionCall>>(message).unwrap();
        }
        let mut bytes = [0; 64];
        let count = stream.read(&mut bytes).unwrap();
        frames.push(&bytes[..count]);
    };
    let answer = wire::encode::<Admission>(&Numbered { id, body: answer }).unwrap();
    // In pieces, as a network brings it.
    for piece in frame(&answer).unwrap().chunks(11) {
        stream.write_all(piece).unwrap();
    }
    body
}

#[test]
fn a_node_with_an_invitation_asks_to_be_admitted_and_keeps_what_it_is_told() {
    let kept: OwnedFd = tempfile::tempfile().unwrap().into();
    let service = Service::start_as(2, &kept, &invitation().to_text());
    let bus = connect(&service.door, "bus");
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    call(&bus, use_udp(&udp), &[udp.as_fd()]);
    let ask = || call(&bus, MembershipCall::Roster { newer_than: 0 }, &[]);
    let wanting = MembershipAnswer::Wanting {
        mesh: "127.0.0.1:4100".into(),
        key: entry(1).key,
    };
    assert_eq!(ask(), wanting);
    assert_eq!(ask(), MembershipAnswer::Roster(None), "one try at a time");

    // The first stream ends at once, as a node does that is killed.
    let (gone, theirs) = UnixStream::pair().unwrap();
    drop(gone);
    let brought = call(&bus, MembershipCall::Join, &[theirs.as_fd()]);
    assert_eq!(brought, MembershipAnswer::Using);
    drop(theirs);
    until("it tries again", || ask() == wanting);

    let (ours, theirs) = UnixStream::pair().unwrap();
    call(&bus, MembershipCall::Join, &[theirs.as_fd()]);
    drop(theirs);
    let own = NodeEntry {
        gossip: udp.local_addr().unwrap().to_string(),
        ..entry(2)
    };
    let now = roster([entry(1), own.clone()]);
    let AdmissionCall::Join {
        cluster,
        secret,
        node,
    } = admit(ours, Ok(now.clone()));
    assert_eq!((cluster, secret, node), (now.cluster, [9; 32], own));
    until("it belongs", || {
        ask() == MembershipAnswer::Roster(Some(now.clone()))
    });
    service.stop().unwrap();

    // A node that belongs has no use for the invitation.
    let service = Service::start_as(2, &kept, &invitation().to_text());
    let bus = connect(&service.door, "bus");
    let told = call(&bus, MembershipCall::Roster { newer_than: 0 }, &[]);
    assert_eq!(told, MembershipAnswer::Roster(Some(now)));
    let (_, theirs) = UnixStream::pair().unwrap();
    let brought = call(&bus, MembershipCall::Join, &[theirs.as_fd()]);
    assert_eq!(brought, MembershipAnswer::Refused);
    service.stop().unwrap();
}

#[test]
fn a_node_that_is_refused_or_lied_to_stays_outside_and_waits() {
    let mut elsewhere = roster([entry(1), entry(2)]);
    elsewhere.cluster = ClusterId([1; 16]);
    let mut stranger = entry(2);
    stranger.gossip_key = entry(3).gossip_key;
    for answer in [
        Err(AdmissionError::UsedToken),
        Err(AdmissionError::NameTaken("node2".into())),
        Ok(elsewhere),
        Ok(roster([entry(1)])),
        Ok(roster([entry(1), stranger])),
    ] {
        let kept: OwnedFd = tempfile::tempfile().unwrap().into();
        let service = Service::start_as(2, &kept, &invitation().to_text());
        let bus = connect(&service.door, "bus");
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        call(&bus, use_udp(&udp), &[udp.as_fd()]);
        let ask = || call(&bus, MembershipCall::Roster { newer_than: 0 }, &[]);
        assert!(matches!(ask(), MembershipAnswer::Wanting { .. }));
        let (ours, theirs) = UnixStream::pair().unwrap();
        call(&bus, MembershipCall::Join, &[theirs.as_fd()]);
        drop(theirs);
        let mut end = ours.try_clone().unwrap();
        admit(ours, answer.clone());
        // It hangs up when it has read the answer.
        assert_eq!(end.read(&mut [0; 8]).unwrap(), 0, "{answer:?}");
        assert_eq!(ask(), MembershipAnswer::Roster(None), "{answer:?}");
        service.stop().unwrap();
    }
}

/// A service that gossips on a socket of its own on the loopback.
struct Neighbour {
    service: Service,
    console: Channel,
    metadata: Channel,
    udp: UdpSocket,
}

impl Neighbour {
    fn start(number: u8) -> Self {
        let service = Service::start_as(number, &tempfile::tempfile().unwrap().into(), "");
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let bus = connect(&service.door, "bus");
        call(&bus, use_udp(&udp), &[udp.as_fd()]);
        Self {
            console: connect(&service.door, "console"),
            metadata: connect(&service.door, "metadata"),
            service,
            udp,
        }
    }

    fn entry(&self, number: u8) -> NodeEntry {
        NodeEntry {
            gossip: self.udp.local_addr().unwrap().to_string(),
            ..entry(number)
        }
    }

    fn states(&self) -> Vec<MemberState> {
        let members = members(&self.console).into_iter();
        members.map(|member| member.state).collect()
    }
}

#[test]
fn who_is_not_in_the_roster_learns_nothing_and_who_is_put_out_falls_out() {
    use MemberState::{Alive, Left};
    let nodes = [1, 2, 3, 4].map(Neighbour::start);
    let entries: Vec<NodeEntry> = nodes
        .iter()
        .zip(1..)
        .map(|(node, number)| node.entry(number))
        .collect();
    let three = roster(entries[..3].to_vec());
    for node in &nodes[..3] {
        assert_eq!(
            call(&node.metadata, learn(&three), &[]),
            MembershipAnswer::Learned
        );
    }
    // The fourth believes that it belongs, and speaks to all of them.
    let four = roster(entries.clone());
    call(&nodes[3].metadata, learn(&four), &[]);
    for node in &nodes[..3] {
        until("three see each other", || node.states() == [Alive; 3]);
    }
    // By now it has spoken more than once.
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(nodes[3].states()[1..], [MemberState::Gone; 3]);
    for node in &nodes[..3] {
        assert_eq!(node.states(), [Alive; 3], "it disturbs nobody");
    }

    let mut two = three.clone();
    two.version += 1;
    two.nodes[2].standing = Standing::Revoked;
    for node in &nodes[..2] {
        call(&node.metadata, learn(&two), &[]);
        assert_eq!(node.states(), [Alive, Alive, Left]);
    }
    std::thread::sleep(Duration::from_millis(1_500));
    for node in &nodes[..2] {
        assert_eq!(node.states(), [Alive, Alive, Left]);
    }
    for node in nodes {
        node.service.stop().unwrap();
    }
}

#[test]
fn a_new_bus_is_served_by_the_door_that_init_attaches() {
    let mut service = Service::start();
    let client = connect(&service.door, "bus");
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    call(&client, use_udp(&udp), &[udp.as_fd()]);
    drop(udp);
    let (door, theirs) = Channel::pair().unwrap();
    drop(std::mem::replace(&mut service.door, door));
    // It goes on living without a bus, and leaves the address to the next one.
    while !matches!(service.hear(), Say::Alive) {}
    until("the address is free", || UdpSocket::bind(address).is_ok());
    let attach = Order::Attach {
        name: "door".into(),
    };
    service.order(&attach, &[theirs.as_fd()]);
    drop(theirs);
    let client = connect(&service.door, "bus");
    call(&client, MembershipCall::Members, &[]);
    service.stop().unwrap();
}

#[test]
fn it_ends_when_its_supervisor_has_gone() {
    let service = Service::start();
    drop(service.supervisor);
    assert!(service.thread.join().unwrap().is_err());
}

#[test]
fn a_flood_of_datagrams_keeps_neither_calls_nor_heartbeats_waiting() {
    let service = Service::start();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let bus = connect(&service.door, "bus");
    call(&bus, use_udp(&udp), &[udp.as_fd()]);
    let to = udp.local_addr().unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let seen = ended.clone();
    let flood = std::thread::spawn(move || {
        let from = UdpSocket::bind("127.0.0.1:0").unwrap();
        while !seen.load(Ordering::Relaxed) {
            let _ = from.send_to(&[0xff; 300], to);
        }
    });
    // Both keep coming while the flood goes on.
    let (mut calls, mut beats) = (0, 0);
    let limit = Instant::now() + Duration::from_secs(60);
    while calls < 100 || beats < 3 {
        assert!(Instant::now() < limit, "{calls} calls, {beats} beats");
        call(&bus, MembershipCall::Members, &[]);
        calls += 1;
        let mut buffer = ReceiveBuffer::new();
        while let Ok(Some(_)) = service
            .supervisor
            .receive_message::<Start, Say>(&mut buffer, RecvFlags::DONTWAIT)
        {
            beats += 1;
        }
    }
    ended.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    service.stop().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_client_that_talks_nonsense_is_hung_up_and_harms_nobody_else(
        packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..60), 1..8),
        header: bool,
    ) {
        let service = Service::start();
        let other = connect(&service.door, "console");
        let liar = connect(&service.door, "console");
        for mut packet in packets {
            if header {
                packet.splice(0..0, [Membership::NUMBER, Membership::VERSION]);
            }
            let _ = liar.send(&packet, &[], SendFlags::DONTWAIT);
        }
        let members = call(&other, MembershipCall::Members, &[]);
        prop_assert!(matches!(members, MembershipAnswer::Members(_)));
        service.stop().unwrap();
    }
}
