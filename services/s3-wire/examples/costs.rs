//! costs: what signing, routing, listing and decoding cost, in nanoseconds of one core.
//!
//! `cargo run --release -p s3-wire --example costs`

#![allow(
    clippy::print_stdout,
    reason = "a program that prints its measurements"
)]
#![allow(clippy::unwrap_used, reason = "its input is its own")]

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use s3_wire::aws_chunked::{Decoder, encode};
use s3_wire::checksum::{Algorithm, Hasher, of};
use s3_wire::headers::{RequestView, unsupported};
use s3_wire::names::split_path;
use s3_wire::query::Query;
use s3_wire::routing::route;
use s3_wire::sigv4::client::{Credentials, presign, sign_request};
use s3_wire::sigv4::{PayloadHash, SigningKey, Verified, parse_authorization, verify};
use s3_wire::xml::{EncodingType, ListObjectsV2Result, ListedObject};
use std::hint::black_box;
use std::time::Instant;

const KEYS: Credentials<'_> = Credentials {
    access_key: "TRAKIAIOSFODNN7EXAMPLE",
    secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    region: "us-east-1",
};
const NOW_S: u64 = 1_369_353_600;

fn main() {
    let headers = get_headers();
    let view = RequestView {
        method: "GET",
        path: "/bucket/some/key.bin",
        query: "",
        headers: &headers,
    };
    let key = SigningKey::derive(KEYS.secret_key, "20130524", KEYS.region);
    measure("derive a signing key", 20_000, || {
        SigningKey::derive(KEYS.secret_key, "20130524", "r")
    });
    measure("verify a signed GET, key cached", 200_000, || {
        check(&view, &key)
    });
    let query = presign(&KEYS, &view, 3600, NOW_S).unwrap();
    let host = headers_of(&[("host", "127.0.0.1:3900")]);
    let query_only = presign(
        &KEYS,
        &RequestView {
            headers: &host,
            ..view
        },
        3600,
        NOW_S,
    )
    .unwrap();
    let presigned = RequestView {
        query: &query_only,
        headers: &host,
        ..view
    };
    measure("verify a presigned GET, key cached", 200_000, || {
        check(&presigned, &key)
    });
    measure("path, query, routing, refused headers", 200_000, || {
        let resource = split_path(view.path, None).unwrap();
        let query = Query::parse("x-id=GetObject").unwrap();
        let refusal = unsupported(view.headers);
        (
            route("GET", &resource, &query, view.headers).unwrap(),
            refusal,
        )
    });
    black_box(query);
    listing();
    chunks();
    for algorithm in Algorithm::ALL {
        let data = vec![7_u8; 1 << 20];
        measure(&format!("{} of 1 MiB", algorithm.name()), 200, || {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(&data);
            hasher.finish()
        });
    }
}

/// The headers of a GET by botocore, signed.
fn get_headers() -> HeaderMap {
    let mut headers = headers_of(&[
        ("host", "127.0.0.1:3900"),
        ("x-amz-checksum-mode", "ENABLED"),
        ("accept-encoding", "identity"),
        (
            "amz-sdk-invocation-id",
            "0a1b2c3d-0000-1111-2222-333344445555",
        ),
        ("amz-sdk-request", "attempt=1"),
    ]);
    let signed = {
        let view = RequestView {
            method: "GET",
            path: "/bucket/some/key.bin",
            query: "",
            headers: &headers,
        };
        let empty = of(Algorithm::Sha256, b"").bytes().try_into().unwrap();
        sign_request(&KEYS, &view, PayloadHash::Signed(empty), NOW_S).unwrap()
    };
    for (name, value) in signed.headers {
        headers.insert(name, HeaderValue::from_str(&value).unwrap());
    }
    headers.insert(
        "user-agent",
        HeaderValue::from_static("Boto3/1.40 md/Botocore#1.40"),
    );
    headers
}

fn headers_of(list: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &'static str)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    };
    list.iter().map(pair).collect()
}

fn check(view: &RequestView<'_>, key: &SigningKey) -> Verified {
    let authorization = parse_authorization(view).unwrap();
    verify(
        authorization.signed().unwrap(),
        view,
        key,
        KEYS.region,
        NOW_S,
    )
    .unwrap()
}

/// A page of 1000 keys.
fn listing() {
    let keys: Vec<String> = (0..1000)
        .map(|n| format!("photos/2024/album-{n:06}.jpeg"))
        .collect();
    let object = |key| ListedObject {
        key,
        modified_ms: 1_700_000_000_123,
        etag: "d41d8cd98f00b204e9800998ecf8427e",
        size: 123_456,
        checksum: None,
        owner: None,
    };
    measure("XML of a list of 1000 keys", 2000, || {
        let list = ListObjectsV2Result {
            name: "bucket",
            prefix: "photos/",
            start_after: None,
            continuation_token: None,
            next_continuation_token: Some("token"),
            max_keys: 1000,
            delimiter: None,
            encoding: EncodingType::Url,
            is_truncated: true,
            objects: keys.iter().map(|key| object(key)).collect(),
            common_prefixes: Vec::new(),
        };
        list.to_xml()
    });
}

/// 1 MiB in chunks of 64 KiB, unsigned and signed.
fn chunks() {
    let data = vec![7_u8; 1 << 20];
    let sum = of(Algorithm::Crc32, &data);
    let payload = PayloadHash::Streaming {
        signed: true,
        trailer: true,
    };
    let headers = headers_of(&[("host", "h")]);
    let view = RequestView {
        method: "PUT",
        path: "/b/k",
        query: "",
        headers: &headers,
    };
    let seed = sign_request(&KEYS, &view, payload, NOW_S).unwrap().chunks;
    for (name, seed) in [("unsigned", None), ("signed", Some(seed))] {
        let body = Bytes::from(encode(&data, 65_536, seed.clone(), Some(&sum)));
        measure(&format!("decode 1 MiB of {name} chunks"), 300, || {
            let mut decoder = Decoder::new(seed.clone(), Some(Some(Algorithm::Crc32)), 1 << 20);
            let mut input = body.clone();
            while let Some(part) = decoder.decode(&mut input).unwrap() {
                black_box(part);
            }
            decoder.finish().unwrap()
        });
    }
}

/// Prints the fastest of five passes: the others were disturbed.
fn measure<T>(name: &str, times: u32, mut work: impl FnMut() -> T) {
    let mut pass = || {
        let begin = Instant::now();
        for _ in 0..times {
            black_box(work());
        }
        begin.elapsed().as_nanos() / u128::from(times)
    };
    let best = (0..5).map(|_| pass()).min().unwrap();
    println!("{best:>10} ns  {name}");
}
