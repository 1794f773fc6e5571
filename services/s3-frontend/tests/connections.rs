//! Connections: thousands that do nothing, some that do ill, and an orderly end.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails may panic"
)]

mod house;

use house::House;
use house::client::{Client, noise};
use object_http::limits;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[test]
fn a_thousand_idle_connections_are_no_burden() {
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    let mut idle: Vec<Client> = (0..1000).map(|_| house.client()).collect();
    for one in &mut idle {
        one.stream();
    }
    client.put("/bucket/k", &noise(100_000, 1)).expect(200);
    for one in idle.iter_mut().step_by(50) {
        assert_eq!(one.get("/bucket/k").expect(200).body.len(), 100_000);
    }
    assert!(house.alive());
}

#[test]
fn whoever_drips_a_head_is_cut_off() {
    let house = House::start();
    let mut slow = TcpStream::connect(house.address).unwrap();
    slow.set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let began = Instant::now();
    for byte in b"GET / HTTP/1.1\r\nx-slow: ".iter().cycle() {
        let mut answer = [0; 100];
        let gone = slow.write_all(&[*byte]).is_err()
            || matches!(slow.read(&mut answer), Ok(0))
            || slow.take_error().unwrap().is_some();
        if gone {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "still there");
    }
    assert!(began.elapsed() > Duration::from_secs(10), "cut too early");
    assert!(house.alive());
}

#[test]
fn a_body_that_does_not_come_is_a_request_timeout() {
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    let request = client.request("PUT", "/bucket/k", &[], &noise(200_000, 1));
    client.send(&request[..request.len() - 100_000]);
    client.receive(false).refused(400, "RequestTimeout");
    house.eventually("nothing is held", |house| {
        let blocks = house.blocks.lock().unwrap();
        blocks.writers.is_empty() && blocks.pinned.is_empty()
    });
}

#[test]
fn a_connection_that_rested_goes_on_even_in_the_middle_of_a_request() {
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    let rest = Duration::from_secs(limits::REST_S + 3);
    std::thread::sleep(rest);
    client.put("/bucket/k", b"here").expect(200);
    // The beginning of the second comes along with the first, so that nothing more comes before the connection is told to rest.
    let mut both = client.request("GET", "/bucket/k", &[], b"");
    let mut second = client.request("GET", "/bucket/k", &[], b"");
    let remainder = second.split_off(20);
    both.extend_from_slice(&second);
    client.send(&both);
    assert_eq!(client.receive(false).expect(200).body, b"here");
    std::thread::sleep(rest);
    client.send(&remainder);
    assert_eq!(client.receive(false).expect(200).body, b"here");
}

#[test]
fn what_is_not_http_is_answered_and_closed() {
    let house = House::start();
    for (sent, status) in [
        (b"nonsense\r\n\r\n".to_vec(), 400),
        (b"GET / HTTP/1.1\r\nbroken header\r\n\r\n".to_vec(), 400),
        (
            format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(100_000)).into_bytes(),
            431,
        ),
        (
            format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(1000)).into_bytes(),
            431,
        ),
    ] {
        let mut client = house.client();
        client.send(&sent);
        let answer = client.receive(false).expect(status);
        assert_eq!(answer.header("connection"), Some("close"));
    }
    let mut client = house.client();
    client.send(b"GET /%ZZ HTTP/1.1\r\nhost: x\r\n\r\n");
    client.receive(false).refused(400, "InvalidURI");
    assert!(house.alive());
}

#[test]
fn a_stop_lets_requests_end() {
    let house = House::start();
    let mut client = house.client();
    let mut idle = house.client();
    client.put("/bucket", b"").expect(200);
    idle.get("/bucket?location").expect(200);
    house.faults.hold_puts.store(true, Ordering::SeqCst);
    let request = client.request("PUT", "/bucket/k", &[], &noise(100_000, 1));
    client.send(&request);
    house.until_held(1);
    let (faults, metadata) = (house.faults.clone(), house.metadata.clone());
    let stopping = std::thread::spawn(move || house.stop());
    assert!(
        matches!(idle.stream().read(&mut [0; 10]), Ok(0)),
        "idle connections are closed"
    );
    faults.hold_puts.store(false, Ordering::SeqCst);
    client.receive(false).expect(200);
    stopping.join().unwrap().unwrap();
    assert_eq!(metadata.lock().unwrap().objects.len(), 1);
}
