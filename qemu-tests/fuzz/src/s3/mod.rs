//! The bytes of S3: requests, `aws-chunked` bodies, XML, and the small texts of headers.

mod documents;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use s3_wire::aws_chunked::{self, Decoder};
use s3_wire::checksum::{self, Algorithm, Checksum, ChecksumType, Expected};
use s3_wire::conditions::{ReadConditions, WriteCondition};
use s3_wire::error::ErrorCode;
use s3_wire::headers::{self, RequestView};
use s3_wire::query::{self, Query};
use s3_wire::range::{self, RangeSpec};
use s3_wire::sigv2::PresignedV2;
use s3_wire::sigv4::client::{self, Credentials};
use s3_wire::sigv4::{self, ChunkContext, PayloadHash, SigningKey};
use s3_wire::{dates, names, routing, xml};

const CREDENTIALS: Credentials<'static> = Credentials {
    access_key: "TRKEY",
    secret_key: "secret",
    region: "us-east-1",
};
/// 2013-05-24, noon.
const NOW_S: u64 = 1_369_396_800;
/// Of an object or a body, where one is needed: no fuzzer makes longer ones.
const SIZE: u64 = 1 << 20;

/// The first byte says what the others are.
pub(crate) fn run(bytes: &[u8]) -> bool {
    match bytes {
        [b'r', head_and_body @ ..] => request(head_and_body),
        [b'c', chunked @ ..] => chunks(chunked),
        [b'x', body @ ..] => documents::xml(body),
        [b'p', body @ ..] => documents::policy(body),
        [b'f', body @ ..] => documents::form(body),
        [b't', text @ ..] => std::str::from_utf8(text).is_ok_and(texts),
        _ => false,
    }
}

/// `METHOD target`, lines of headers, an empty line, the body. What hyper would refuse, never reaches S3.
fn request(bytes: &[u8]) -> bool {
    let Some((method, uri, headers, body)) = parse_head(bytes) else {
        return false;
    };
    let view = RequestView {
        method: method.as_str(),
        path: uri.path(),
        query: uri.query().unwrap_or_default(),
        headers: &headers,
    };
    let host = headers.get("host").and_then(|host| host.to_str().ok());
    let host_bucket = host.and_then(|host| names::split_host(host, &["s3.home"]));
    let _ = headers::unsupported(&headers);
    let _ = ReadConditions::of_read(&headers)
        .map(|conditions| conditions.evaluate("900150983cd24fb0d6963f7d28e17f72", NOW_S));
    let _ = ReadConditions::of_copy_source(&headers)
        .map(|conditions| conditions.evaluate_copy("900150983cd24fb0d6963f7d28e17f72", NOW_S));
    let _ = WriteCondition::from_headers(&headers);
    let _ = (
        Expected::from_headers(&headers),
        checksum::checksum_header(&headers),
        checksum::chosen_algorithm(&headers),
    );
    let query = Query::parse(view.query);
    let resource = names::split_path(view.path, host_bucket.as_deref());
    let mut routed = false;
    if let (Ok(query), Ok(resource)) = (&query, &resource) {
        routed = routing::route(view.method, resource, query, &headers).is_ok();
        let _ = headers::user_metadata(&headers, query);
        let _ = xml::EncodingType::from_query(query);
        let _ = (query.number("max-keys", 1_000, 1_000), query.get("prefix"));
        if PresignedV2::is_in(query)
            && let Ok(signed) = PresignedV2::parse(query)
        {
            let secret = CREDENTIALS.secret_key;
            let _ = signed.verify(&view, host_bucket.as_deref(), secret, NOW_S);
        }
    }
    let Ok(authorization) = sigv4::parse_authorization(&view) else {
        return false;
    };
    let (mut context, mut verified) = (None, true);
    if let Some(signed) = authorization.signed() {
        let (secret, region) = (CREDENTIALS.secret_key, CREDENTIALS.region);
        let key = SigningKey::derive(secret, signed.scope_date(), region);
        let found = sigv4::verify(signed, &view, &key, region, NOW_S);
        verified = found.is_ok();
        context = found.ok().and_then(|found| found.chunks);
    }
    let announced = checksum::chosen_algorithm(&headers).ok().flatten();
    let payload = authorization.payload();
    if let Ok(Some(decoder)) = Decoder::for_request(payload, context, announced, &headers) {
        let _ = decode(decoder, body, body.len());
    }
    routed && verified
}

fn parse_head(bytes: &[u8]) -> Option<(Method, Uri, HeaderMap, &[u8])> {
    let (line, mut rest) = split_line(bytes)?;
    let mut words = line.splitn(2, |byte| *byte == b' ');
    let method = Method::from_bytes(words.next()?).ok()?;
    let uri: Uri = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let mut headers = HeaderMap::new();
    while let Some((line, after)) = split_line(rest) {
        rest = after;
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        let name = HeaderName::from_bytes(name).ok()?;
        let value = value.get(1..)?.trim_ascii();
        headers.append(name, HeaderValue::from_bytes(value).ok()?);
    }
    Some((method, uri, headers, rest))
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (line, rest) = bytes.split_at_checked(end)?;
    Some((line, rest.get(1..)?))
}

/// Flags, the length of the data (two bytes), the length of a piece, the body: the pieces must give what the whole gives.
fn chunks(bytes: &[u8]) -> bool {
    let [flags, low, high, piece, body @ ..] = bytes else {
        return false;
    };
    let trailer = (flags & 2 != 0).then(|| ALGORITHMS.get(usize::from(flags >> 2)).copied());
    let length = u64::from(u16::from_le_bytes([*low, *high]));
    let decoder = || Decoder::new((flags & 1 != 0).then(chunk_context), trailer, length);
    let whole = decode(decoder(), body, body.len());
    let pieces = decode(decoder(), body, usize::from(*piece));
    assert_eq!(whole, pieces, "in pieces of {piece}");
    if let Ok((data, _)) = &whole {
        assert_eq!(data.len() as u64, length);
    }
    whole.is_ok()
}

const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::Crc32,
    Algorithm::Crc32c,
    Algorithm::Crc64Nvme,
    Algorithm::Sha1,
    Algorithm::Sha256,
];

type Decoded = Result<(Vec<u8>, Option<Checksum>), ErrorCode>;

fn decode(mut decoder: Decoder, body: &[u8], piece: usize) -> Decoded {
    let mut data = Vec::new();
    for piece in body.chunks(piece.max(1)) {
        let mut input = Bytes::copy_from_slice(piece);
        while let Some(some) = decoder.decode(&mut input).map_err(|error| error.code)? {
            data.extend_from_slice(&some);
        }
    }
    let checksum = decoder.finish().map_err(|error| error.code)?;
    Ok((data, checksum))
}

/// The chain of signatures of a fixed request.
fn chunk_context() -> ChunkContext {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("s3.home"));
    let view = RequestView {
        method: "PUT",
        path: "/home/k",
        query: "",
        headers: &headers,
    };
    let payload = PayloadHash::Streaming {
        signed: true,
        trailer: true,
    };
    match client::sign_request(&CREDENTIALS, &view, payload, NOW_S) {
        Ok(signature) => signature.chunks,
        Err(error) => panic!("a fixed request is signed: {error:?}"),
    }
}

/// The texts of single headers and parameters, each taken for everything.
fn texts(text: &str) -> bool {
    let range = RangeSpec::parse(text);
    for size in [0, 1, 10, SIZE, u64::MAX] {
        if let Some(Ok(found)) = range.map(|range| range.resolve(size)) {
            assert!(
                found.len() <= size && !found.is_empty(),
                "{found:?} of {size}"
            );
            let _ = found.content_range(size);
        }
        if let Ok(found) = range::copy_source_range(text, size) {
            assert!(found.len() <= size, "{found:?} of {size}");
        }
    }
    if let Some(at_s) = dates::parse_http_date(text) {
        assert_eq!(dates::parse_http_date(&dates::http_date(at_s)), Some(at_s));
    }
    if let Some(at_s) = dates::parse_amz_date(text) {
        assert_eq!(dates::amz_date(at_s), text);
    }
    let iso = dates::parse_iso8601(text);
    if let Ok(decoded) = query::decode(text, true) {
        let again = query::decode(&query::encode(&decoded), true).map(|again| again.into_owned());
        assert_eq!(again.ok().as_deref(), Some(&*decoded));
    }
    for algorithm in ALGORITHMS {
        if let Some(found) = Checksum::from_base64(algorithm, text) {
            assert_eq!(found.to_base64(), text);
        }
        let _ = ChecksumType::of_upload(algorithm, Some(text));
    }
    let _ = (checksum::content_md5(text), names::check_key(text));
    let _ = (names::check_bucket_name(text), names::copy_source(text));
    let _ = headers::stored_content_encoding(text);
    range.is_some() || iso.is_some() || dates::parse_http_date(text).is_some() || text.len() > 3
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        b"rGET /home/photos/cat.jpg?partNumber=1\nhost: s3.home\nrange: bytes=0-9\nif-none-match: \"x\"\n\n".to_vec(),
        b"rPUT /k\nhost: home.s3.home\nx-amz-copy-source: /home/a%20b\nx-amz-copy-source-if-match: x\n\n".to_vec(),
        b"rGET /home/k?AWSAccessKeyId=TRKEY&Expires=1369396900&Signature=AAAA\nhost: s3.home\n\n".to_vec(),
    ];
    let signed = [
        (
            "GET",
            "/home",
            "list-type=2&prefix=a%2Fb&max-keys=3",
            PayloadHash::Unsigned,
        ),
        (
            "PUT",
            "/home/k",
            "partNumber=1&uploadId=u",
            PayloadHash::Signed([7; 32]),
        ),
        (
            "PUT",
            "/home/k",
            "",
            PayloadHash::Streaming {
                signed: true,
                trailer: true,
            },
        ),
        (
            "PUT",
            "/home/k",
            "",
            PayloadHash::Streaming {
                signed: false,
                trailer: true,
            },
        ),
    ];
    seeds.extend(
        signed.map(|(method, path, query, payload)| signed_request(method, path, query, payload)),
    );
    for (flags, chunks, checksum) in [
        (0, None, None),
        (1, Some(chunk_context()), None),
        (2, None, Some(checksum::of(Algorithm::Crc32, DATA))),
        (
            2 | 4 << 2 | 1,
            Some(chunk_context()),
            Some(checksum::of(Algorithm::Sha256, DATA)),
        ),
    ] {
        let body = aws_chunked::encode(DATA, 9, chunks, checksum.as_ref());
        let length = u8::try_from(DATA.len()).unwrap_or(u8::MAX);
        seeds.push([&[b'c', flags, length, 0, 5], body.as_slice()].concat());
    }
    seeds.extend(documents::seeds());
    let texts = [
        "bytes=2-5",
        "bytes=-7",
        "Fri, 24 May 2013 12:00:00 GMT",
        "Friday, 24-May-13 12:00:00 GMT",
        "Fri May 24 12:00:00 2013",
        "20130524T120000Z",
        "2013-05-24T12:00:00.000Z",
        "/home/a%20b+c?versionId=null",
        "NSRBwg==",
        "kAFQmDzST7DWlj99KOF/cg==",
        "aws-chunked,gzip",
    ];
    seeds.extend(texts.map(|text| [b"t", text.as_bytes()].concat()));
    seeds
}

const DATA: &[u8] = b"what is stored, in three pieces";

fn signed_request(method: &str, path: &str, query: &str, payload: PayloadHash) -> Vec<u8> {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("s3.home"));
    let streaming = matches!(payload, PayloadHash::Streaming { .. });
    if streaming {
        headers.insert(
            "x-amz-decoded-content-length",
            HeaderValue::from(DATA.len()),
        );
        headers.insert(
            "x-amz-trailer",
            HeaderValue::from_static("x-amz-checksum-crc32"),
        );
    }
    let view = RequestView {
        method,
        path,
        query,
        headers: &headers,
    };
    let Ok(signature) = client::sign_request(&CREDENTIALS, &view, payload, NOW_S) else {
        return Vec::new();
    };
    let mut seed = format!("r{method} {path}?{query}\n");
    for (name, value) in &headers {
        seed += &format!("{name}: {}\n", value.to_str().unwrap_or_default());
    }
    for (name, value) in &signature.headers {
        seed += &format!("{name}: {value}\n");
    }
    seed.push('\n');
    let mut seed = seed.into_bytes();
    if streaming {
        let signed = matches!(payload, PayloadHash::Streaming { signed: true, .. });
        let sum = checksum::of(Algorithm::Crc32, DATA);
        let chunks = signed.then_some(signature.chunks);
        seed.extend(aws_chunked::encode(DATA, 9, chunks, Some(&sum)));
    }
    seed
}
