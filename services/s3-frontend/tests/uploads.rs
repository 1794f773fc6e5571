//! Uploads: every digest is checked, nothing half is ever visible, and a body is asked for only
//! when it is wanted.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails may panic"
)]

mod house;

use house::House;
use house::client::{Client, Response, noise, sha256};
use s3_wire::aws_chunked;
use s3_wire::checksum::{self, Algorithm, Checksum};
use s3_wire::sigv4::PayloadHash;
use std::time::Duration;

const MIB: usize = 1024 * 1024;

/// A house with `/bucket`.
fn start() -> (House, Client) {
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    (house, client)
}

/// Nothing is visible, and once pins are given up a sweep leaves no block.
fn nothing_remains(house: &House, client: &mut Client) {
    client.get("/bucket/k").refused(404, "NoSuchKey");
    house.eventually("pins and writers are given up", |house| {
        let blocks = house.blocks.lock().unwrap();
        blocks.pinned.is_empty() && blocks.writers.is_empty()
    });
    let referenced = house.metadata.lock().unwrap().referenced();
    assert_eq!(house.blocks.lock().unwrap().sweep(&referenced), 0);
}

#[test]
fn a_wrong_digest_of_any_kind_stores_nothing() {
    let (house, mut client) = start();
    for size in [10, 50_000, 5 * MIB] {
        let body = noise(size, 1);
        let wrong = |algorithm| checksum::of(algorithm, b"other").to_base64();
        let md5 = [("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")];
        client
            .call("PUT", "/bucket/k", &md5, &body)
            .refused(400, "BadDigest");
        client
            .call("PUT", "/bucket/k", &[("content-md5", "short")], &body)
            .refused(400, "InvalidDigest");
        for algorithm in Algorithm::ALL {
            let sum = wrong(algorithm);
            let headers = [(algorithm.header(), sum.as_str())];
            client
                .call("PUT", "/bucket/k", &headers, &body)
                .refused(400, "BadDigest");
            client
                .call("PUT", "/bucket/k", &[(algorithm.header(), "@")], &body)
                .refused(400, "InvalidRequest");
        }
        // The body is not the one that was signed.
        let (mut headers, _) = client.sign(
            "PUT",
            "/bucket/k",
            &[],
            PayloadHash::Signed(sha256(b"other")),
        );
        headers.push(("content-length".into(), body.len().to_string()));
        let mut request = Client::head("PUT", "/bucket/k", &headers);
        request.extend_from_slice(&body);
        client.send(&request);
        client
            .receive(false)
            .refused(400, "XAmzContentSHA256Mismatch");
    }
    nothing_remains(&house, &mut client);
}

/// Sends `data` in chunks; `spoil` may change the encoded body.
fn put_chunked(
    client: &mut Client,
    data: &[u8],
    signed: bool,
    trailer: Option<Checksum>,
    spoil: impl Fn(&mut Vec<u8>),
) -> Response {
    let payload = PayloadHash::Streaming {
        signed,
        trailer: trailer.is_some(),
    };
    let length = data.len().to_string();
    let mut headers = vec![
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", length.as_str()),
    ];
    if let Some(trailer) = &trailer {
        headers.push(("x-amz-trailer", trailer.algorithm().header()));
    }
    let (mut headers, signature) = client.sign("PUT", "/bucket/k", &headers, payload);
    let chunks = signed.then_some(signature.chunks);
    let mut body = aws_chunked::encode(data, 64 * 1024, chunks, trailer.as_ref());
    spoil(&mut body);
    headers.push(("content-length".into(), body.len().to_string()));
    let mut request = Client::head("PUT", "/bucket/k", &headers);
    request.extend_from_slice(&body);
    client.send(&request);
    client.receive(false)
}

#[test]
fn chunked_bodies_are_decoded_and_their_signatures_and_trailers_checked() {
    let (house, mut client) = start();
    for size in [0, 10, 50_000, 65_536, 5 * MIB] {
        let data = noise(size, 2);
        for algorithm in Algorithm::ALL {
            let sum = checksum::of(algorithm, &data);
            for signed in [true, false] {
                let put = put_chunked(&mut client, &data, signed, Some(sum), |_| {}).expect(200);
                assert_eq!(
                    put.header(algorithm.header()),
                    Some(sum.to_base64().as_str())
                );
                let got = client.get("/bucket/k").expect(200);
                assert!(got.body == data);
                assert_eq!(got.header("content-encoding"), None);
            }
        }
        put_chunked(&mut client, &data, true, None, |_| {}).expect(200);
        assert!(client.get("/bucket/k").expect(200).body == data);
        client.call("DELETE", "/bucket/k", &[], b"").expect(204);
    }
    let data = noise(200_000, 3);
    let sum = checksum::of(Algorithm::Crc32c, &data);
    let wrong = checksum::of(Algorithm::Crc32c, b"other");
    let flip = |body: &mut Vec<u8>| body[100_000] ^= 1;
    put_chunked(&mut client, &data, true, Some(sum), flip).refused(403, "SignatureDoesNotMatch");
    put_chunked(&mut client, &data, false, Some(sum), flip).refused(400, "BadDigest");
    put_chunked(&mut client, &data, false, Some(wrong), |_| {}).refused(400, "BadDigest");
    let cut = |body: &mut Vec<u8>| body.truncate(body.len() - 30);
    put_chunked(&mut client, &data, false, Some(sum), cut).refused(400, "IncompleteBody");
    nothing_remains(&house, &mut client);
}

#[test]
fn an_interrupted_put_leaves_nothing() {
    let (house, mut client) = start();
    for size in [100, 50_000, 6 * MIB, 21 * MIB] {
        let body = noise(size, 4);
        let request = client.request("PUT", "/bucket/k", &[], &body);
        let mut leaver = house.client();
        leaver.send(&request[..request.len() - 1]);
        std::thread::sleep(Duration::from_millis(100));
        leaver.hang_up();
    }
    nothing_remains(&house, &mut client);
}

#[test]
fn a_client_that_hangs_up_behind_its_last_byte_does_not_tear_the_object() {
    use std::sync::atomic::Ordering;
    let (house, mut client) = start();
    let body = noise(5 * MIB, 5);
    house.faults.hold_puts.store(true, Ordering::SeqCst);
    let request = client.request("PUT", "/bucket/k", &[], &body);
    let mut leaver = house.client();
    leaver.send(&request);
    house.until_held(1);
    leaver.hang_up();
    std::thread::sleep(Duration::from_millis(200));
    // The command is on its way: its blocks must stay pinned although nobody waits for it any more.
    assert_eq!(house.blocks.lock().unwrap().pinned.len(), 2);
    house.faults.hold_puts.store(false, Ordering::SeqCst);
    house.eventually("pins are given up", |house| {
        house.blocks.lock().unwrap().pinned.is_empty()
    });
    assert!(client.get("/bucket/k").expect(200).body == body);
}

#[test]
fn lengths_that_are_missing_or_wrong_are_refused() {
    let (house, mut client) = start();
    let (headers, _) = client.sign("PUT", "/bucket/k", &[], PayloadHash::Unsigned);
    client.send(&Client::head("PUT", "/bucket/k", &headers));
    client.receive(false).refused(411, "MissingContentLength");
    let (mut headers, _) = client.sign("PUT", "/bucket/k", &[], PayloadHash::Unsigned);
    headers.push(("transfer-encoding".into(), "chunked".into()));
    let mut request = Client::head("PUT", "/bucket/k", &headers);
    request.extend_from_slice(b"3\r\nabc\r\n0\r\n\r\n");
    client.hang_up();
    client.send(&request);
    client.receive(false).refused(411, "MissingContentLength");
    let (mut headers, _) = client.sign("PUT", "/bucket/k", &[], PayloadHash::Unsigned);
    headers.push((
        "content-length".into(),
        (5_u64 * 1024 * 1024 * 1024 + 1).to_string(),
    ));
    client.hang_up();
    client.send(&Client::head("PUT", "/bucket/k", &headers));
    client.receive(false).refused(400, "EntityTooLarge");
    client.hang_up();
    // More data than announced, and less, behind a transfer encoding that hides its length.
    for announced in ["2", "4"] {
        let sent = [
            ("x-amz-decoded-content-length", announced),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
        ];
        let payload = PayloadHash::Streaming {
            signed: false,
            trailer: true,
        };
        let (mut headers, _) = client.sign("PUT", "/bucket/k", &sent, payload);
        headers.push(("transfer-encoding".into(), "chunked".into()));
        let mut request = Client::head("PUT", "/bucket/k", &headers);
        let inner = "3\r\nabc\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\r\n\r\n";
        request.extend_from_slice(format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()).as_bytes());
        client.send(&request);
        client.receive(false).refused(400, "IncompleteBody");
        client.hang_up();
    }
    nothing_remains(&house, &mut client);
    let sent = [
        ("x-amz-decoded-content-length", "3"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ];
    let payload = PayloadHash::Streaming {
        signed: false,
        trailer: true,
    };
    let (mut headers, _) = client.sign("PUT", "/bucket/k", &sent, payload);
    headers.push(("transfer-encoding".into(), "chunked".into()));
    let mut request = Client::head("PUT", "/bucket/k", &headers);
    let inner = "3\r\nabc\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\r\n\r\n";
    request.extend_from_slice(format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()).as_bytes());
    client.send(&request);
    client.receive(false).expect(200);
    assert_eq!(client.get("/bucket/k").expect(200).body, b"abc");
}

#[test]
fn a_body_is_asked_for_only_when_it_is_wanted() {
    let (house, mut client) = start();
    let body = noise(5 * MIB, 6);
    let ask = |client: &mut Client, headers: &[(&str, &str)]| {
        let mut headers = headers.to_vec();
        headers.push(("expect", "100-continue"));
        let (mut headers, _) = client.sign("PUT", "/bucket/k", &headers, PayloadHash::Unsigned);
        headers.push(("content-length".into(), body.len().to_string()));
        client.send(&Client::head("PUT", "/bucket/k", &headers));
        client.receive(false)
    };
    ask(&mut client, &[]).expect(100);
    client.send(&body);
    client.receive(false).expect(200);
    // It exists now, so the client is told before it has sent a byte, and its connection ends.
    let refused = ask(&mut client, &[("if-none-match", "*")]).refused(412, "PreconditionFailed");
    assert_eq!(refused.header("connection"), Some("close"));
    let mut stranger = Client::new(house.address, "AKNOBODY", "x");
    ask(&mut stranger, &[]).refused(403, "InvalidAccessKeyId");
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let (_house, mut client) = start();
    client.put("/bucket/k", b"x").expect(200);
    let body = noise(8 * MIB, 6);
    for _ in 0..10 {
        // Sent as a whole before the answer is read; the connection would be reset without
        // lingering.
        client
            .call("PUT", "/bucket/k", &[("if-none-match", "*")], &body)
            .refused(412, "PreconditionFailed");
        // A small rest is read away, and the connection goes on.
        let refused = client.call("PUT", "/bucket/k", &[("if-none-match", "*")], &body[..9000]);
        assert_eq!(
            refused
                .refused(412, "PreconditionFailed")
                .header("connection"),
            None
        );
    }
}

#[test]
fn conditional_writes_are_judged_by_metadata() {
    let (house, mut client) = start();
    let absent = [("if-none-match", "*")];
    let put = client.call("PUT", "/bucket/k", &absent, b"one").expect(200);
    let etag = put.header("etag").unwrap().to_owned();
    client
        .call("PUT", "/bucket/k", &absent, b"two")
        .refused(412, "PreconditionFailed");
    client
        .call("PUT", "/bucket/k", &[("if-match", "\"x\"")], b"two")
        .refused(412, "PreconditionFailed");
    client
        .call("PUT", "/bucket/none", &[("if-match", &etag)], b"two")
        .refused(404, "NoSuchKey");
    client
        .call("PUT", "/bucket/k", &[("if-match", &etag)], b"two")
        .expect(200);
    client
        .call("PUT", "/bucket/k", &[("if-none-match", &etag)], b"x")
        .refused(501, "NotImplemented");
    // Both pass the early look; one of them wins.
    use std::sync::atomic::Ordering;
    house.faults.hold_puts.store(true, Ordering::SeqCst);
    let mut rivals = [house.client(), house.client()];
    for (number, rival) in rivals.iter_mut().enumerate() {
        let request = rival.request("PUT", "/bucket/new", &absent, &[number as u8]);
        rival.send(&request);
    }
    house.until_held(2);
    house.faults.hold_puts.store(false, Ordering::SeqCst);
    let mut statuses = rivals.map(|mut rival| rival.receive(false).status);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
    client
        .call("DELETE", "/bucket/k", &[("if-match", &etag)], b"")
        .refused(412, "PreconditionFailed");
}
