//! Multipart uploads and copies.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails may panic"
)]

mod house;

use house::House;
use house::client::{Client, Response, noise};
use protocol::metadata::PART_BYTES_MIN;
use s3_wire::checksum::{self, Algorithm};

const MIB: usize = 1024 * 1024;
const PART: usize = PART_BYTES_MIN as usize;

fn begin(client: &mut Client, key: &str, headers: &[(&str, &str)]) -> String {
    let begun = client
        .call("POST", &format!("{key}?uploads"), headers, b"")
        .expect(200);
    begun.element("UploadId").unwrap()
}

fn part(client: &mut Client, key: &str, upload: &str, number: u16, body: &[u8]) -> String {
    let target = format!("{key}?partNumber={number}&uploadId={upload}");
    client
        .put(&target, body)
        .expect(200)
        .header("etag")
        .unwrap()
        .to_owned()
}

fn complete(client: &mut Client, key: &str, upload: &str, parts: &[(u16, String)]) -> Response {
    let mut document = String::from("<CompleteMultipartUpload>");
    for (number, etag) in parts {
        document.push_str(&format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        ));
    }
    document.push_str("</CompleteMultipartUpload>");
    client.call(
        "POST",
        &format!("{key}?uploadId={upload}"),
        &[],
        document.as_bytes(),
    )
}

#[test]
fn an_upload_in_parts_is_one_object() {
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    let upload = begin(&mut client, "/bucket/k", &[("content-type", "video/x")]);
    let bodies = [noise(PART, 1), noise(PART + 1, 2), noise(10, 3)];
    let numbers = [2_u16, 5, 9];
    let mut parts = Vec::new();
    for (number, body) in numbers.iter().zip(&bodies) {
        // Sent twice: the later one counts.
        part(&mut client, "/bucket/k", &upload, *number, b"first try");
        parts.push((
            *number,
            part(&mut client, "/bucket/k", &upload, *number, body),
        ));
    }
    part(&mut client, "/bucket/k", &upload, 7, b"not wanted");
    client.get("/bucket/k").refused(404, "NoSuchKey");
    let listed = client
        .get(&format!("/bucket/k?uploadId={upload}&max-parts=2"))
        .expect(200);
    assert_eq!(listed.element("NextPartNumberMarker").unwrap(), "5");
    let uploads = client.get("/bucket?uploads").expect(200);
    assert_eq!(uploads.element("UploadId").unwrap(), upload);

    let done = complete(&mut client, "/bucket/k", &upload, &parts).expect(200);
    let md5s = bodies.each_ref().map(|body| md5_of(body));
    let etag = format!("\"{}\"", checksum::multipart_etag(&md5s));
    assert_eq!(done.element("ETag").unwrap(), etag.replace('"', "&quot;"));
    let whole = bodies.concat();
    let sum = checksum::of(Algorithm::Crc64Nvme, &whole).to_base64();
    assert_eq!(done.element("ChecksumCRC64NVME").unwrap(), sum);
    house.blocks.lock().unwrap().opened.clear();
    let got = client.get("/bucket/k").expect(200);
    assert!(got.body == whole);
    // Each opening names the block after it, also the first one of the next part.
    let opened = house.blocks.lock().unwrap().opened.clone();
    assert!(opened.len() >= 5, "{opened:?}");
    let after = opened.iter().skip(1).map(|(block, _)| Some(*block));
    let after: Vec<_> = after.chain([None]).collect();
    assert_eq!(
        opened.iter().map(|(_, next)| *next).collect::<Vec<_>>(),
        after
    );
    assert_eq!(got.header("etag"), Some(etag.as_str()));
    assert_eq!(got.header("content-type"), Some("video/x"));
    // Across the border of two parts.
    let range = format!("bytes={}-{}", PART - 3, PART + 5);
    let got = client
        .call("GET", "/bucket/k", &[("range", &range)], b"")
        .expect(206);
    assert!(got.body == whole[PART - 3..PART + 6]);
    let second = client.get("/bucket/k?partNumber=5").expect(206);
    assert!(second.body == bodies[1]);
    assert_eq!(second.header("x-amz-mp-parts-count"), Some("3"));
    client
        .get("/bucket/k?partNumber=3")
        .refused(416, "InvalidPartNumber");
    // A client whose connection broke asks again.
    complete(&mut client, "/bucket/k", &upload, &parts).expect(200);
    client.put("/bucket/k", b"other").expect(200);
    complete(&mut client, "/bucket/k", &upload, &parts).refused(404, "NoSuchUpload");
}

fn md5_of(body: &[u8]) -> [u8; 16] {
    use s3_wire::body::BodyChecks;
    use s3_wire::checksum::Expected;
    use s3_wire::sigv4::PayloadHash;
    let mut checks = BodyChecks::new(Expected::default(), PayloadHash::Unsigned, None);
    checks.update(body);
    checks.finish(None).unwrap().md5
}

#[test]
fn wrong_completions_get_the_error_of_aws_and_change_nothing() {
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    let upload = begin(&mut client, "/bucket/k", &[]);
    let one = (
        1,
        part(&mut client, "/bucket/k", &upload, 1, &noise(PART, 1)),
    );
    let small = (2, part(&mut client, "/bucket/k", &upload, 2, b"small"));
    let last = (3, part(&mut client, "/bucket/k", &upload, 3, b"last"));
    let mut check = |parts: &[&(u16, String)], status, code: &str| {
        let parts: Vec<_> = parts.iter().map(|part| (*part).clone()).collect();
        complete(&mut client, "/bucket/k", &upload, &parts).refused(status, code);
    };
    check(&[&small, &one], 400, "InvalidPartOrder");
    check(&[&one, &one], 400, "InvalidPartOrder");
    check(&[&one, &small, &last], 400, "EntityTooSmall");
    check(&[&one, &(4, last.1.clone())], 400, "InvalidPart");
    check(&[&one, &(3, one.1.clone())], 400, "InvalidPart");
    check(&[], 400, "MalformedXML");
    complete(
        &mut client,
        "/bucket/k",
        "nonsense",
        std::slice::from_ref(&one),
    )
    .refused(404, "NoSuchUpload");
    let target = format!("/bucket/k?uploadId={upload}");
    let size = [("x-amz-mp-object-size", "1")];
    let document = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part>\
         </CompleteMultipartUpload>",
        one.1
    );
    client
        .call("POST", &target, &size, document.as_bytes())
        .refused(400, "InvalidRequest");
    let sum = [("x-amz-checksum-crc64nvme", "AAAAAAAAAAA=")];
    client
        .call("POST", &target, &sum, document.as_bytes())
        .refused(400, "BadDigest");
    client.get("/bucket/k").refused(404, "NoSuchKey");
    complete(&mut client, "/bucket/k", &upload, &[one, last]).expect(200);
}

#[test]
fn composite_and_full_checksums_are_put_together() {
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    let bodies = [noise(PART, 1), noise(100, 2)];
    for (algorithm, kind) in [
        (Algorithm::Crc32, "COMPOSITE"),
        (Algorithm::Crc32, "FULL_OBJECT"),
        (Algorithm::Crc32c, "COMPOSITE"),
        (Algorithm::Crc64Nvme, "FULL_OBJECT"),
        (Algorithm::Sha1, "COMPOSITE"),
        (Algorithm::Sha256, "COMPOSITE"),
    ] {
        let headers = [
            ("x-amz-checksum-algorithm", algorithm.name()),
            ("x-amz-checksum-type", kind),
        ];
        let upload = begin(&mut client, "/bucket/k", &headers);
        let mut parts = Vec::new();
        for (number, body) in (1..).zip(&bodies) {
            let sum = checksum::of(algorithm, body).to_base64();
            let target = format!("/bucket/k?partNumber={number}&uploadId={upload}");
            let put = client
                .call("PUT", &target, &[(algorithm.header(), &sum)], body)
                .expect(200);
            assert_eq!(put.header(algorithm.header()), Some(sum.as_str()));
            parts.push((number, put.header("etag").unwrap().to_owned()));
        }
        let other = if algorithm == Algorithm::Sha1 {
            Algorithm::Crc32
        } else {
            Algorithm::Sha1
        };
        let sum = checksum::of(other, b"x").to_base64();
        let target = format!("/bucket/k?partNumber=3&uploadId={upload}");
        let refused = client.call("PUT", &target, &[(other.header(), &sum)], b"x");
        refused.refused(400, "InvalidRequest");
        let done = complete(&mut client, "/bucket/k", &upload, &parts).expect(200);
        let sums = bodies.each_ref().map(|body| checksum::of(algorithm, body));
        let expected = match kind {
            "COMPOSITE" => checksum::composite(algorithm, &sums).unwrap(),
            _ => checksum::of(algorithm, &bodies.concat()).to_base64(),
        };
        assert_eq!(
            done.element(algorithm.element()).unwrap(),
            expected,
            "{algorithm:?} {kind}"
        );
        assert_eq!(done.element("ChecksumType").unwrap(), kind);
        let got = client.call(
            "HEAD",
            "/bucket/k",
            &[("x-amz-checksum-mode", "ENABLED")],
            b"",
        );
        assert_eq!(got.header(algorithm.header()), Some(expected.as_str()));
        assert_eq!(got.header("x-amz-checksum-type"), Some(kind));
    }
}

#[test]
fn uploads_are_listed_with_prefixes_and_pages_and_aborted() {
    let house = House::start();
    house.metadata.lock().unwrap().page_max = 2;
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    for key in ["a", "b/1", "b/2", "b/3", "c"] {
        begin(&mut client, &format!("/bucket/{key}"), &[]);
    }
    let mut found = Vec::new();
    let mut marker = String::new();
    loop {
        let page = client
            .get(&format!(
                "/bucket?uploads&delimiter=/&max-uploads=1{marker}"
            ))
            .expect(200);
        found.extend(page.element("Key"));
        found.extend(page.element("CommonPrefixes><Prefix"));
        let Some(key) = page.element("NextKeyMarker") else {
            break;
        };
        let upload = page.element("NextUploadIdMarker").unwrap();
        marker = format!("&key-marker={key}&upload-id-marker={upload}");
    }
    assert_eq!(found, ["a", "b/", "c"]);
    let upload = begin(&mut client, "/bucket/z", &[]);
    part(&mut client, "/bucket/z", &upload, 1, &noise(100_000, 1));
    client
        .call("DELETE", &format!("/bucket/z?uploadId={upload}"), &[], b"")
        .expect(204);
    client
        .get(&format!("/bucket/z?uploadId={upload}"))
        .refused(404, "NoSuchUpload");
    let target = format!("/bucket/z?partNumber=1&uploadId={upload}");
    client.put(&target, b"late").refused(404, "NoSuchUpload");
    client
        .put(&format!("/bucket/z?partNumber=0&uploadId={upload}"), b"")
        .refused(400, "InvalidArgument");
}

#[test]
fn a_copy_has_the_same_bytes_everywhere() {
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    client.put("/other", b"").expect(200);
    let upload = begin(&mut client, "/bucket/parts", &[("x-amz-meta-a", "1")]);
    let bodies = [noise(PART, 4), noise(70_000, 5)];
    let parts: Vec<_> = (1..)
        .zip(&bodies)
        .map(|(number, body)| {
            (
                number,
                part(&mut client, "/bucket/parts", &upload, number, body),
            )
        })
        .collect();
    complete(&mut client, "/bucket/parts", &upload, &parts).expect(200);
    let meta = [("x-amz-meta-a", "1")];
    let sources = [
        ("inline", noise(100, 1)),
        ("packed", noise(30_000, 2)),
        ("file", noise(5 * MIB, 3)),
        ("parts", bodies.concat()),
    ];
    for (key, body) in &sources {
        if *key != "parts" {
            client
                .call("PUT", &format!("/bucket/{key}"), &meta, body)
                .expect(200);
        }
        let source = format!("/bucket/{key}");
        for bucket in ["bucket", "other"] {
            let target = format!("/{bucket}/copy-{key}");
            let copied = client.call("PUT", &target, &[("x-amz-copy-source", &source)], b"");
            assert!(copied.expect(200).element("ETag").is_some());
            let got = client.get(&target).expect(200);
            assert!(got.body == *body, "{target}");
            assert_eq!(got.header("x-amz-meta-a"), Some("1"));
        }
        let headers = [
            ("x-amz-copy-source", source.as_str()),
            ("x-amz-metadata-directive", "REPLACE"),
            ("x-amz-meta-b", "2"),
            ("x-amz-checksum-algorithm", "SHA256"),
        ];
        let copied = client.call("PUT", &source, &headers, b"").expect(200);
        let sum = checksum::of(Algorithm::Sha256, body).to_base64();
        assert_eq!(copied.element("ChecksumSHA256").unwrap(), sum);
        let got = client.get(&source).expect(200);
        assert!(got.body == *body);
        assert_eq!(
            (got.header("x-amz-meta-a"), got.header("x-amz-meta-b")),
            (None, Some("2"))
        );
        client
            .call("PUT", &source, &[("x-amz-copy-source", &source)], b"")
            .refused(400, "InvalidRequest");
    }
    // Nothing of the originals is needed by the copies in the same bucket once the sweep has run.
    for (key, _) in &sources {
        client
            .call("DELETE", &format!("/bucket/{key}"), &[], b"")
            .expect(204);
    }
    house.eventually("pins are given up", |house| {
        house.blocks.lock().unwrap().pinned.is_empty()
    });
    let referenced = house.metadata.lock().unwrap().referenced();
    house.blocks.lock().unwrap().sweep(&referenced);
    for (key, body) in &sources {
        assert!(
            client.get(&format!("/bucket/copy-{key}")).expect(200).body == *body,
            "{key}"
        );
    }
}

#[test]
fn copies_need_their_source_and_its_conditions() {
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    let etag = client
        .put("/bucket/k", b"data")
        .expect(200)
        .header("etag")
        .unwrap()
        .to_owned();
    let mut check = |headers: &[(&str, &str)], status, code: &str| {
        client
            .call("PUT", "/bucket/copy", headers, b"")
            .refused(status, code);
    };
    let source = ("x-amz-copy-source", "bucket/k");
    check(&[("x-amz-copy-source", "bucket/none")], 404, "NoSuchKey");
    check(&[("x-amz-copy-source", "nowhere/k")], 404, "NoSuchBucket");
    check(&[("x-amz-copy-source", "bucket")], 400, "InvalidArgument");
    check(
        &[source, ("x-amz-copy-source-if-match", "\"x\"")],
        412,
        "PreconditionFailed",
    );
    check(
        &[source, ("x-amz-copy-source-if-none-match", &etag)],
        412,
        "PreconditionFailed",
    );
    check(
        &[source, ("x-amz-metadata-directive", "MOVE")],
        400,
        "InvalidArgument",
    );
    check(
        &[source, ("x-amz-tagging-directive", "MOVE")],
        400,
        "InvalidArgument",
    );
    check(&[source, ("if-match", "\"x\"")], 404, "NoSuchKey");
    let matching = [source, ("x-amz-copy-source-if-match", etag.as_str())];
    client
        .call("PUT", "/bucket/copy", &matching, b"")
        .expect(200);
    let absent = [source, ("if-none-match", "*")];
    client
        .call("PUT", "/bucket/copy", &absent, b"")
        .refused(412, "PreconditionFailed");
}

#[test]
fn parts_are_copied_whole_and_in_ranges() {
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    client.put("/other", b"").expect(200);
    let body = noise(11 * MIB, 8);
    client.put("/bucket/source", &body).expect(200);
    for bucket in ["bucket", "other"] {
        let key = format!("/{bucket}/k");
        let upload = begin(&mut client, &key, &[]);
        let ranges = [None, Some((100, 100 + PART - 1)), Some((5, 6))];
        let (mut parts, mut expected) = (Vec::new(), Vec::new());
        for (number, range) in (1..).zip(ranges) {
            let target = format!("{key}?partNumber={number}&uploadId={upload}");
            let text = range.map(|(first, last)| format!("bytes={first}-{last}"));
            let mut headers = vec![("x-amz-copy-source", "bucket/source")];
            headers.extend(
                text.as_deref()
                    .map(|text| ("x-amz-copy-source-range", text)),
            );
            let copied = client.call("PUT", &target, &headers, b"").expect(200);
            parts.push((
                number,
                copied.element("ETag").unwrap().replace("&quot;", "\""),
            ));
            let (first, last) = range.unwrap_or((0, body.len() - 1));
            expected.extend_from_slice(&body[first..=last]);
        }
        complete(&mut client, &key, &upload, &parts).expect(200);
        assert!(client.get(&key).expect(200).body == expected);
        let target = format!("{key}?partNumber=1&uploadId={upload}");
        let beyond = [
            ("x-amz-copy-source", "bucket/source"),
            ("x-amz-copy-source-range", "bytes=0-99999999"),
        ];
        client
            .call("PUT", &target, &beyond, b"")
            .refused(404, "NoSuchUpload");
        let upload = begin(&mut client, &key, &[]);
        let target = format!("{key}?partNumber=1&uploadId={upload}");
        client
            .call("PUT", &target, &beyond, b"")
            .refused(400, "InvalidArgument");
    }
}
