//! More connections than there is room for: who gives way, and who does not. In a process of its own, because the room follows from
//! the open files that a process may have.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails may panic"
)]

mod house;

use house::House;
use house::client::{Client, noise};
use object_http::limits::Room;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::TcpStream;
use std::sync::Mutex;

/// What the front end finds when it starts; its clients, in this same process, need more.
const FILES: u64 = 600;

/// The limit is the process's, so one test at a time.
static ONE: Mutex<()> = Mutex::new(());

fn start() -> (House, Room) {
    let all = getrlimit(Resource::Nofile);
    let few = Rlimit {
        current: Some(FILES),
        maximum: all.maximum,
    };
    setrlimit(Resource::Nofile, few).unwrap();
    let house = House::start();
    let enough = Rlimit {
        current: all.maximum.or(Some(20_000)),
        maximum: all.maximum,
    };
    setrlimit(Resource::Nofile, enough).unwrap();
    (house, Room::within(FILES))
}

/// Whether the front end has closed it.
fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let closed = match stream.peek(&mut [0]) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    };
    stream.set_nonblocking(false).unwrap();
    closed
}

#[test]
fn idle_connections_give_way_to_new_ones_and_slow_ones_stay() {
    let _one = ONE.lock();
    let (house, room) = start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    let body = noise(100_000, 1);
    let mut slow: Vec<(Client, Vec<u8>)> = (0..10)
        .map(|number| {
            let mut one = house.client();
            let mut request = one.request("PUT", &format!("/bucket/{number}"), &[], &body);
            let rest = request.split_off(request.len() - 1_000);
            one.send(&request);
            (one, rest)
        })
        .collect();
    let visit = || {
        let mut one = house.client();
        one.get("/bucket?location").expect(200);
        one
    };
    let mut early: Vec<Client> = (0..room.connections - 11).map(|_| visit()).collect();
    let mut late: Vec<Client> = (0..60).map(|_| visit()).collect();
    house.eventually("as many are closed as came too many", |_| {
        let closed = |one: &mut Client| usize::from(is_closed(one.stream()));
        early.iter_mut().map(closed).sum::<usize>() >= 60
    });
    for one in late.iter_mut().rev().take(20) {
        one.get("/bucket?location").expect(200);
    }
    for (one, rest) in &mut slow {
        one.send(rest);
        one.receive(false).expect(200);
    }
    assert!(house.alive());
}

#[test]
fn more_requests_at_once_than_places_are_all_answered() {
    let _one = ONE.lock();
    let (house, room) = start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    client.put("/bucket/k", &noise(20_000, 2)).expect(200);
    let mut clients: Vec<Client> = (0..room.working * 2).map(|_| house.client()).collect();
    for _ in 0..3 {
        for one in &mut clients {
            let request = one.request("GET", "/bucket/k", &[], b"");
            one.send(&request);
        }
        for one in &mut clients {
            assert_eq!(one.receive(false).expect(200).body.len(), 20_000);
        }
    }
    assert!(house.alive());
}
