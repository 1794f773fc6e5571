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
use protocol::membership::{Member, MemberState};
use protocol::start::{Packed, Say, Start};
use protocol::wire::{Conversation, Numbered};
use std::net::UdpSocket;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

struct Service {
    supervisor: Channel,
    door: Channel,
    thread: JoinHandle<Result<(), Error>>,
}

impl Service {
    fn start() -> Self {
        let (supervisor, start) = Channel::pair().unwrap();
        let (door, theirs) = Channel::pair().unwrap();
        let packed = Order::Packed(Packed {
            service: "membership".into(),
            grants: vec!["door".into()],
            settings: vec![("node".into(), "n1".into()), ("zone".into(), "z1".into())],
        });
        supervisor
            .send_message::<Start>(&packed, &[theirs.as_fd()], SendFlags::empty())
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
    MembershipCall::Use {
        address,
        mesh: String::new(),
    }
}

#[test]
fn it_answers_members_and_takes_its_descriptor_from_the_bus_only() {
    let service = Service::start();
    let own = |address: String| {
        MembershipAnswer::Members(vec![Member {
            name: "n1".into(),
            zone: "z1".into(),
            address,
            state: MemberState::Alive,
            incarnation: 0,
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
fn a_new_bus_is_served_by_the_door_that_init_attaches() {
    let mut service = Service::start();
    let client = connect(&service.door, "bus");
    call(&client, MembershipCall::Members, &[]);
    let (door, theirs) = Channel::pair().unwrap();
    drop(std::mem::replace(&mut service.door, door));
    // It goes on living without a bus.
    while !matches!(service.hear(), Say::Alive) {}
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
