//! Who may do what, and that nothing is ever done on a right that is no longer there.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails may panic"
)]

mod house;

use house::client::{Client, now_s};
use house::{House, REGION, ROOT_KEY, ROOT_SECRET};
use protocol::metadata::Rights;
use s3_wire::headers::RequestView;
use s3_wire::sigv4::PayloadHash;
use s3_wire::sigv4::client::{Credentials, presign};

const READ: Rights = Rights {
    read: true,
    write: false,
    owner: false,
};
const WRITE: Rights = Rights {
    read: false,
    write: true,
    owner: false,
};

fn start() -> (House, Client) {
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    client.put("/bucket/k", b"data").expect(200);
    (house, client)
}

#[test]
fn nobody_gets_in_without_a_right_signature() {
    let (house, mut client) = start();
    client.send(b"GET /bucket/k HTTP/1.1\r\nhost: x\r\n\r\n");
    client.receive(false).refused(403, "AccessDenied");
    let check = |access_key: &str, secret: &str, code: &str| {
        let mut other = Client::new(house.address, access_key, secret);
        other.get("/bucket/k").refused(403, code);
        other.get("/nowhere/k").refused(403, code);
        other
            .call("PUT", "/bucket/k", &[], b"mine")
            .refused(403, code);
        other.get("/bucket?acl").refused(403, code);
        assert!(
            other
                .call("HEAD", "/bucket/k", &[], b"")
                .expect(403)
                .body
                .is_empty()
        );
    };
    check("AKNOBODY", ROOT_SECRET, "InvalidAccessKeyId");
    check(ROOT_KEY, "wrong", "SignatureDoesNotMatch");
    assert_eq!(client.get("/bucket/k").expect(200).body, b"data");
}

#[test]
fn a_key_may_do_what_it_was_allowed_and_nothing_else() {
    let (house, mut root) = start();
    root.put("/other", b"").expect(200);
    house
        .metadata
        .lock()
        .unwrap()
        .add_key("AKGUEST", "guest", false);
    let mut guest = Client::new(house.address, "AKGUEST", "guest");
    guest.get("/bucket/k").refused(403, "AccessDenied");
    guest.put("/mine", b"").refused(403, "AccessDenied");
    assert!(!guest.get("/").expect(200).text().contains("<Bucket>"));
    guest.call("HEAD", "/bucket", &[], b"").expect(403);

    house
        .metadata
        .lock()
        .unwrap()
        .allow("AKGUEST", "bucket", READ);
    guest.get("/bucket/k").expect(200);
    guest.get("/bucket?list-type=2").expect(200);
    guest.call("HEAD", "/bucket", &[], b"").expect(200);
    guest.put("/bucket/k", b"x").refused(403, "AccessDenied");
    guest
        .call("DELETE", "/bucket/k", &[], b"")
        .refused(403, "AccessDenied");
    guest
        .call("POST", "/bucket/k?uploads", &[], b"")
        .refused(403, "AccessDenied");
    assert!(
        guest
            .get("/")
            .expect(200)
            .text()
            .contains("<Name>bucket</Name>")
    );

    house
        .metadata
        .lock()
        .unwrap()
        .allow("AKGUEST", "bucket", WRITE);
    guest.get("/bucket/k").refused(403, "AccessDenied");
    guest.put("/bucket/k", b"x").expect(200);
    let copy = [("x-amz-copy-source", "bucket/k")];
    guest
        .call("PUT", "/bucket/copy", &copy, b"")
        .refused(403, "AccessDenied");
    guest
        .call("DELETE", "/bucket", &[], b"")
        .refused(403, "AccessDenied");
    guest.put("/other/k", b"x").refused(403, "AccessDenied");
}

#[test]
fn a_withdrawn_right_is_refused_at_once_and_a_granted_one_is_used_at_once() {
    let (house, _root) = start();
    house
        .metadata
        .lock()
        .unwrap()
        .add_key("AKGUEST", "guest", false);
    let mut guest = Client::new(house.address, "AKGUEST", "guest");
    for _ in 0..20 {
        house
            .metadata
            .lock()
            .unwrap()
            .allow("AKGUEST", "bucket", READ);
        for _ in 0..3 {
            guest.get("/bucket/k").expect(200);
        }
        house
            .metadata
            .lock()
            .unwrap()
            .allow("AKGUEST", "bucket", WRITE);
        guest.get("/bucket/k").refused(403, "AccessDenied");
        guest.put("/bucket/k", b"data").expect(200);
    }
    house.metadata.lock().unwrap().keys.remove("AKGUEST");
    house
        .metadata
        .lock()
        .unwrap()
        .add_key("AKGUEST", "another secret", false);
    guest
        .put("/bucket/k", b"data")
        .refused(403, "SignatureDoesNotMatch");
}

#[test]
fn a_stale_revision_is_renewed_without_the_client_noticing() {
    let (house, mut client) = start();
    let count = |house: &House| house.metadata.lock().unwrap().calls["authorize"];
    client.get("/bucket/k").expect(200);
    let before = count(&house);
    for _ in 0..10 {
        client.get("/bucket/k").expect(200);
    }
    // Answers are remembered by each thread; all of these came in on one connection.
    assert_eq!(count(&house), before);
    house
        .metadata
        .lock()
        .unwrap()
        .add_key("AKGUEST", "guest", false);
    client.put("/bucket/k", b"more").expect(200);
    assert_eq!(count(&house), before + 1);
}

#[test]
fn a_bucket_made_anew_is_not_taken_for_the_old_one() {
    let (house, mut client) = start();
    client.call("DELETE", "/bucket/k", &[], b"").expect(204);
    let mut other = house.client();
    other.get("/bucket/k").refused(404, "NoSuchKey");
    client.call("DELETE", "/bucket", &[], b"").expect(204);
    other.put("/bucket/k", b"x").refused(404, "NoSuchBucket");
    client.put("/bucket", b"").expect(200);
    other.put("/bucket/k", b"x").expect(200);
    assert_eq!(client.get("/bucket/k").expect(200).body, b"x");
}

#[test]
fn presigned_urls_work_until_they_expire() {
    let (house, mut client) = start();
    let host = vec![("host", "127.0.0.1")];
    let credentials = Credentials {
        access_key: ROOT_KEY,
        secret_key: ROOT_SECRET,
        region: REGION,
    };
    let url = |method, path, signed_s| {
        let view = RequestView {
            method,
            path,
            query: "",
            headers: &host,
        };
        format!(
            "{path}?{}",
            presign(&credentials, &view, 60, signed_s).unwrap()
        )
    };
    let mut plain = |method: &str, target: &str, body: &[u8]| {
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {length}\r\n\r\n"
        );
        client.send(head.as_bytes());
        client.send(body);
        client.receive(false)
    };
    assert_eq!(
        plain("GET", &url("GET", "/bucket/k", now_s()), b"")
            .expect(200)
            .body,
        b"data"
    );
    plain("PUT", &url("PUT", "/bucket/new", now_s()), b"by url").expect(200);
    plain("PUT", &url("GET", "/bucket/new", now_s()), b"x").refused(403, "SignatureDoesNotMatch");
    plain("GET", &url("GET", "/bucket/k", now_s() - 61), b"").refused(403, "AccessDenied");
    assert_eq!(
        house.client().get("/bucket/new").expect(200).body,
        b"by url"
    );
}

#[test]
fn a_bucket_may_stand_in_the_host() {
    let (_house, mut client) = start();
    for host in [
        "bucket.localhost",
        "bucket.s3.localhost:3900",
        "BUCKET.localhost",
    ] {
        assert_eq!(
            client
                .call("GET", "/k", &[("host", host)], b"")
                .expect(200)
                .body,
            b"data"
        );
    }
    client
        .call("GET", "/k", &[("host", "other.localhost")], b"")
        .refused(404, "NoSuchBucket");
    client
        .call("GET", "/bucket/k", &[("host", "s3.localhost")], b"")
        .expect(200);
}

#[test]
fn what_is_not_implemented_is_named_and_never_ignored() {
    let (_house, mut client) = start();
    let mut check = |method: &str, target: &str, headers: &[(&str, &str)], name: &str| {
        let refused = client
            .call(method, target, headers, b"")
            .refused(501, "NotImplemented");
        assert!(refused.text().contains(name), "{}", refused.text());
    };
    check("GET", "/bucket/k?torrent", &[], "GetObjectTorrent");
    check("POST", "/bucket/k?restore", &[], "RestoreObject");
    check(
        "GET",
        "/bucket?inventory",
        &[],
        "ListBucketInventoryConfigurations",
    );
    check("PUT", "/bucket/k?frobnicate", &[], "frobnicate");
    check(
        "PUT",
        "/bucket/k",
        &[("x-amz-server-side-encryption", "aws:kms")],
        "x-amz-server-side-encryption",
    );
    check("PUT", "/bucket/k", &[("x-amz-mfa", "1 2")], "x-amz-mfa");
    check(
        "GET",
        "/bucket/k",
        &[("x-amz-expected-bucket-owner", "1")],
        "x-amz-expected-bucket-owner",
    );
    client
        .call("PATCH", "/bucket/k", &[], b"")
        .refused(405, "MethodNotAllowed");
    client
        .get("/bucket/k?versionId=abc")
        .refused(400, "InvalidArgument");
    client.get("/bucket/k?versionId=null").expect(200);
    // A signature for another region, and for another moment.
    let (mut headers, _) = client.sign("GET", "/bucket/k", &[], PayloadHash::Unsigned);
    for (_, value) in &mut headers {
        *value = value.replace("us-east-1", "eu-west-1");
    }
    client.send(&Client::head("GET", "/bucket/k", &headers));
    let refused = client
        .receive(false)
        .refused(400, "AuthorizationHeaderMalformed");
    assert_eq!(refused.element("Region").unwrap(), "us-east-1");
}
