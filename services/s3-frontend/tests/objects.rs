//! Objects through the whole front end: what is put is got, byte for byte, in every way of asking
//! for it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails may panic"
)]

mod house;

use house::House;
use house::client::noise;
use s3_wire::checksum::{self, Algorithm};

const MIB: usize = 1024 * 1024;

#[test]
fn what_is_put_is_got_at_every_size() {
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    for size in [
        0,
        1,
        8191,
        8192,
        8193,
        65_535,
        65_536,
        65_537,
        MIB,
        4 * MIB - 1,
        4 * MIB,
        4 * MIB + 1,
        4 * MIB + 70_000,
        9 * MIB + 12_345,
    ] {
        let body = noise(size, size as u64);
        let put = client.put("/bucket/key", &body).expect(200);
        let got = client.get("/bucket/key").expect(200);
        assert_eq!(got.header("etag"), put.header("etag"), "{size}");
        assert_eq!(
            got.header("content-length"),
            Some(size.to_string().as_str())
        );
        assert_eq!(got.header("content-type"), Some("binary/octet-stream"));
        assert_eq!(got.header("accept-ranges"), Some("bytes"));
        assert!(got.body == body, "{size} bytes came back different");
        let head = client.call("HEAD", "/bucket/key", &[], b"").expect(200);
        assert_eq!(
            head.header("content-length"),
            Some(size.to_string().as_str())
        );
        assert!(head.body.is_empty());
        for response in [put, got, head] {
            for name in ["x-amz-request-id", "x-amz-id-2", "date"] {
                assert!(response.header(name).is_some(), "{name}");
            }
            assert_eq!(response.header("server"), Some("Trousseau"));
        }
    }
    house.eventually("all pins are given up", |house| {
        let blocks = house.blocks.lock().unwrap();
        blocks.pinned.is_empty() && blocks.writers.is_empty()
    });
    client.call("DELETE", "/bucket/key", &[], b"").expect(204);
    client.get("/bucket/key").refused(404, "NoSuchKey");
    client.call("DELETE", "/bucket", &[], b"").expect(204);
    client.get("/bucket/key").refused(404, "NoSuchBucket");
    house.stop().unwrap();
}

#[test]
fn ranges_are_exact_within_and_across_blocks_and_parts() {
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    let body = noise(9 * MIB + 100, 7);
    client.put("/bucket/file", &body).expect(200);
    client.put("/bucket/packed", &body[..20_000]).expect(200);
    client.put("/bucket/inline", &body[..100]).expect(200);
    client.put("/bucket/empty", b"").expect(200);
    let mut check = |key: &str, range: &str, expected: std::ops::Range<usize>| {
        let size = match key {
            "file" => body.len(),
            "packed" => 20_000,
            _ => 100,
        };
        let got = client.call("GET", &format!("/bucket/{key}"), &[("range", range)], b"");
        let got = got.expect(206);
        assert!(got.body == body[expected.clone()], "{key} {range}");
        let shown = format!("bytes {}-{}/{size}", expected.start, expected.end - 1);
        assert_eq!(got.header("content-range"), Some(shown.as_str()));
        let head = client.call("HEAD", &format!("/bucket/{key}"), &[("range", range)], b"");
        assert_eq!(
            head.expect(206).header("content-range"),
            Some(shown.as_str())
        );
    };
    let block = 4 * MIB;
    check("file", "bytes=0-0", 0..1);
    check("file", "bytes=1-4194302", 1..block - 1);
    check("file", "bytes=4194303-4194304", block - 1..block + 1);
    check("file", "bytes=100-8388700", 100..2 * block + 93);
    check("file", "bytes=8388608-", 2 * block..body.len());
    check("file", "bytes=-1", body.len() - 1..body.len());
    check("file", "bytes=-99999999", 0..body.len());
    check("packed", "bytes=19999-30000", 19_999..20_000);
    check("packed", "bytes=5-6", 5..7);
    check("inline", "bytes=50-", 50..100);

    let refused = client.call("GET", "/bucket/inline", &[("range", "bytes=100-")], b"");
    assert_eq!(
        refused.refused(416, "InvalidRange").header("content-range"),
        Some("bytes */100")
    );
    client
        .call("GET", "/bucket/empty", &[("range", "bytes=0-")], b"")
        .refused(416, "InvalidRange");
    let head = client
        .call("HEAD", "/bucket/inline", &[("range", "bytes=100-")], b"")
        .expect(416);
    assert!(head.body.is_empty());
    // Several ranges, or nonsense: the whole object.
    let whole = client
        .call("GET", "/bucket/inline", &[("range", "bytes=0-1,3-4")], b"")
        .expect(200);
    assert_eq!(whole.body.len(), 100);
}

#[test]
fn pipelined_requests_are_answered_in_order_on_one_connection() {
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    let bodies: Vec<Vec<u8>> = [10, 300_000, 5 * MIB, 20_000, 0]
        .iter()
        .map(|size| noise(*size, *size as u64))
        .collect();
    for (index, body) in bodies.iter().enumerate() {
        client.put(&format!("/bucket/{index}"), body).expect(200);
    }
    let mut requests = Vec::new();
    for round in 0..3 {
        for index in 0..bodies.len() {
            let index = (index + round) % bodies.len();
            requests.extend(client.request("GET", &format!("/bucket/{index}"), &[], b""));
        }
    }
    client.send(&requests);
    for round in 0..3 {
        for index in 0..bodies.len() {
            let index = (index + round) % bodies.len();
            assert!(
                client.receive(false).expect(200).body == bodies[index],
                "object {index}"
            );
        }
    }
}

#[test]
fn a_slow_reader_gets_every_byte_and_holds_up_nobody() {
    use std::io::Read;
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    let body = noise(13 * MIB + 5, 3);
    client.put("/bucket/large", &body).expect(200);
    let mut slow = house.client();
    let request = slow.request("GET", "/bucket/large", &[("connection", "close")], b"");
    slow.send(&request);
    // Nothing is taken for a while: the kernel's buffers fill and the front end must wait.
    std::thread::sleep(std::time::Duration::from_millis(300));
    for _ in 0..20 {
        assert!(client.get("/bucket/large").expect(200).body == body);
    }
    let mut got = Vec::new();
    let mut piece = vec![0; 70_001];
    loop {
        let read = slow.stream().read(&mut piece).unwrap();
        if read == 0 {
            break;
        }
        got.extend_from_slice(&piece[..read]);
        if got.len() < 2 * MIB {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
    let head_end = house::client::find(&got, b"\r\n\r\n").unwrap() + 4;
    assert!(got[head_end..] == body);
}

#[test]
fn a_reader_that_hangs_up_leaves_nothing_behind() {
    use std::io::Read;
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    client.put("/bucket/large", &noise(30 * MIB, 3)).expect(200);
    let open_before = open_files();
    for _ in 0..50 {
        let mut leaver = house.client();
        let request = leaver.request("GET", "/bucket/large", &[], b"");
        leaver.send(&request);
        let mut piece = [0; 1000];
        assert!(leaver.stream().read(&mut piece).unwrap() > 0);
    }
    house.eventually("descriptors are closed", |_| {
        open_files() <= open_before + 5
    });
    assert_eq!(client.get("/bucket/large").expect(200).body.len(), 30 * MIB);
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn conditions_of_reads_are_exact() {
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    let put = client.call(
        "PUT",
        "/bucket/k",
        &[("cache-control", "max-age=5")],
        b"data",
    );
    let etag = put.expect(200).header("etag").unwrap().to_owned();
    let modified = client
        .get("/bucket/k")
        .header("last-modified")
        .unwrap()
        .to_owned();
    let mut check = |name: &str, value: &str, status: u16| {
        for method in ["GET", "HEAD"] {
            let got = client
                .call(method, "/bucket/k", &[(name, value)], b"")
                .expect(status);
            match status {
                304 => {
                    assert_eq!(got.header("etag"), Some(etag.as_str()));
                    assert_eq!(got.header("cache-control"), Some("max-age=5"));
                    assert!(got.body.is_empty());
                }
                412 if method == "GET" => assert_eq!(got.code(), "PreconditionFailed"),
                _ => {}
            }
        }
    };
    check("if-match", &etag, 200);
    check("if-match", "\"other\"", 412);
    check("if-none-match", &etag, 304);
    check("if-none-match", "*", 304);
    check("if-none-match", "\"other\"", 200);
    check("if-modified-since", &modified, 304);
    check("if-unmodified-since", &modified, 200);
    check("if-unmodified-since", "Thu, 01 Jan 1970 00:00:10 GMT", 412);
}

#[test]
fn headers_and_metadata_come_back_and_can_be_overridden() {
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    let sent = [
        ("content-type", "text/plain"),
        ("content-encoding", "aws-chunked,gzip"),
        ("content-disposition", "attachment; filename=\"x\""),
        ("content-language", "de"),
        ("expires", "Thu, 01 Dec 2094 16:00:00 GMT"),
        ("x-amz-meta-one", "1"),
        ("x-amz-meta-two", "ü"),
    ];
    client.call("PUT", "/bucket/k", &sent, b"data").expect(200);
    let got = client.call("HEAD", "/bucket/k", &[], b"").expect(200);
    for (name, value) in sent {
        let value = if name == "content-encoding" {
            "gzip"
        } else {
            value
        };
        assert_eq!(got.header(name), Some(value), "{name}");
    }
    let target = "/bucket/k?response-content-type=a%2Fb&response-cache-control=no-store";
    let got = client.get(target).expect(200);
    assert_eq!(got.header("content-type"), Some("a/b"));
    assert_eq!(got.header("cache-control"), Some("no-store"));
    let large = "v".repeat(2048);
    let refused = client.call("PUT", "/bucket/k", &[("x-amz-meta-a", &large)], b"");
    refused.refused(400, "MetadataTooLarge");
}

#[test]
fn checksums_are_stored_and_given_back_when_asked_for() {
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    // Nobody chose one: CRC64NVME, as AWS. Values from the algorithms' own check vectors.
    let put = client.put("/bucket/k", b"123456789").expect(200);
    assert_eq!(put.header("x-amz-checksum-crc64nvme"), Some("rosUhgp5mIg="));
    assert_eq!(put.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
    assert_eq!(
        client
            .get("/bucket/k")
            .expect(200)
            .header("x-amz-checksum-crc64nvme"),
        None
    );
    let mode = [("x-amz-checksum-mode", "ENABLED")];
    let got = client.call("GET", "/bucket/k", &mode, b"").expect(200);
    assert_eq!(got.header("x-amz-checksum-crc64nvme"), Some("rosUhgp5mIg="));
    let part = client
        .call("GET", "/bucket/k", &[mode[0], ("range", "bytes=0-1")], b"")
        .expect(206);
    assert_eq!(part.header("x-amz-checksum-crc64nvme"), None);
    let own = [("x-amz-checksum-crc32", "y/Q5Jg==")];
    let put = client
        .call("PUT", "/bucket/k", &own, b"123456789")
        .expect(200);
    assert_eq!(put.header("x-amz-checksum-crc32"), Some("y/Q5Jg=="));
    let got = client.call("HEAD", "/bucket/k", &mode, b"").expect(200);
    assert_eq!(got.header("x-amz-checksum-crc32"), Some("y/Q5Jg=="));
}

#[test]
fn deletes_of_many_answer_for_each() {
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    for index in 0..5 {
        client.put(&format!("/bucket/k{index}"), b"x").expect(200);
    }
    let long = "l".repeat(1025);
    let document = format!(
        "<Delete><Object><Key>k0</Key></Object><Object><Key>none</Key></Object><Object>\
         <Key>{long}</Key></Object><Object><Key>k1</Key><ETag>wrong</ETag></Object></Delete>"
    );
    let mut delete = |document: &str| {
        let sum = checksum::of(Algorithm::Crc32, document.as_bytes()).to_base64();
        let headers = [("x-amz-checksum-crc32", sum.as_str())];
        client.call("POST", "/bucket?delete", &headers, document.as_bytes())
    };
    let answer = delete(&document).expect(200).text();
    for part in [
        "<Deleted><Key>k0</Key></Deleted><Deleted><Key>none</Key></Deleted>".to_owned(),
        format!("<Key>{long}</Key><Code>KeyTooLongError</Code>"),
        "<Key>k1</Key><Code>PreconditionFailed</Code>".to_owned(),
    ] {
        assert!(answer.contains(&part), "{part} is not in {answer}");
    }
    let quiet = "<Delete><Quiet>true</Quiet><Object><Key>k2</Key></Object></Delete>";
    let answer = delete(quiet).expect(200).text();
    assert!(!answer.contains("Deleted>"), "{answer}");
    delete("<Delete>").refused(400, "MalformedXML");
    client
        .call("POST", "/bucket?delete", &[], quiet.as_bytes())
        .refused(400, "InvalidRequest");
    let list = client.get("/bucket?list-type=2").expect(200);
    assert_eq!(list.element("KeyCount").unwrap(), "3");
}

#[test]
fn listings_page_through_everything_once() {
    let house = House::start();
    // Metadata's own pages are short, so that the front end must ask on.
    house.metadata.lock().unwrap().page_max = 3;
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    let keys = ["a", "b/1", "b/2", "c", "d/x/1", "d/y", "e%20f", "g/", "h"];
    for key in keys {
        client
            .put(&format!("/bucket/{}", s3_wire::query::encode(key)), b"x")
            .expect(200);
    }
    let names = |text: &str, element: &str| -> Vec<String> {
        text.split(&format!("<{element}>"))
            .skip(1)
            .map(|rest| rest.split("</").next().unwrap().to_owned())
            .collect()
    };
    for max in [1, 2, 4, 1000] {
        for delimiter in ["", "&delimiter=/"] {
            let (mut v2, mut v1) = (Vec::new(), Vec::new());
            let mut token = String::new();
            loop {
                let page = client
                    .get(&format!(
                        "/bucket?list-type=2&max-keys={max}{delimiter}{token}"
                    ))
                    .expect(200);
                v2.extend(names(&page.text(), "Key"));
                v2.extend(names(&page.text(), "CommonPrefixes><Prefix"));
                let Some(next) = page.element("NextContinuationToken") else {
                    break;
                };
                token = "&continuation-token=".to_owned();
                s3_wire::query::encode_into(&mut token, &next, false);
            }
            let mut marker = String::new();
            loop {
                let page = client
                    .get(&format!("/bucket?max-keys={max}{delimiter}{marker}"))
                    .expect(200);
                let keys = names(&page.text(), "Key");
                let last = keys.last().cloned();
                v1.extend(keys);
                v1.extend(names(&page.text(), "CommonPrefixes><Prefix"));
                if page.element("IsTruncated").unwrap() == "false" {
                    break;
                }
                let next = page.element("NextMarker").or(last).unwrap();
                marker = "&marker=".to_owned();
                s3_wire::query::encode_into(&mut marker, &next, false);
            }
            let mut expected: Vec<String> = match delimiter {
                "" => keys.iter().map(|key| key.to_string()).collect(),
                _ => ["a", "b/", "c", "d/", "e%20f", "g/", "h"]
                    .map(String::from)
                    .to_vec(),
            };
            expected.sort();
            for found in [&mut v2, &mut v1] {
                found.sort();
                assert_eq!(*found, expected, "max-keys={max}{delimiter}");
            }
        }
    }
    let encoded = client
        .get("/bucket?list-type=2&encoding-type=url&prefix=e")
        .expect(200);
    assert_eq!(encoded.element("Key").unwrap(), "e%2520f");
    let after = client
        .get("/bucket?list-type=2&start-after=d/y")
        .expect(200);
    assert_eq!(names(&after.text(), "Key"), ["e%20f", "g/", "h"]);
    let none = client.get("/bucket?list-type=2&max-keys=0").expect(200);
    assert_eq!(none.element("IsTruncated").unwrap(), "false");
    client
        .get("/bucket?list-type=2&max-keys=-1")
        .refused(400, "InvalidArgument");
    client
        .get("/bucket?list-type=2&continuation-token=zz")
        .refused(400, "InvalidArgument");
}

#[test]
fn buckets_are_made_listed_and_removed() {
    let house = House::start();
    house.metadata.lock().unwrap().page_max = 2;
    let mut client = house.client();
    for name in ["one", "two", "three", "four"] {
        let made = client.put(&format!("/{name}"), b"").expect(200);
        assert_eq!(made.header("location"), Some(format!("/{name}").as_str()));
    }
    client
        .put("/one", b"")
        .refused(409, "BucketAlreadyOwnedByYou");
    client.put("/no", b"").refused(400, "InvalidBucketName");
    let elsewhere = b"<CreateBucketConfiguration><LocationConstraint>eu-north-1\
        </LocationConstraint></CreateBucketConfiguration>";
    client
        .put("/five", elsewhere)
        .refused(400, "IllegalLocationConstraintException");
    let list = client.get("/").expect(200).text();
    for name in ["four", "one", "three", "two"] {
        assert!(list.contains(&format!("<Name>{name}</Name>")), "{list}");
    }
    let page = client.get("/?max-buckets=3").expect(200);
    assert_eq!(page.element("ContinuationToken").unwrap(), "three");
    let page = client
        .get("/?max-buckets=3&continuation-token=three")
        .expect(200);
    assert_eq!(page.element("Name").unwrap(), "two");
    assert_eq!(page.element("ContinuationToken"), None);
    let head = client.call("HEAD", "/one", &[], b"").expect(200);
    assert_eq!(head.header("x-amz-bucket-region"), Some("us-east-1"));
    client.call("HEAD", "/none", &[], b"").expect(404);
    assert!(
        client
            .get("/one?location")
            .expect(200)
            .text()
            .contains("LocationConstraint")
    );
    client.put("/one/k", b"x").expect(200);
    client
        .call("DELETE", "/one", &[], b"")
        .refused(409, "BucketNotEmpty");
}
