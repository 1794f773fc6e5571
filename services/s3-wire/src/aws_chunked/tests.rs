//! Tests of chunked bodies: real clients' forms, broken ones, any split, any bytes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails may panic"
)]
use super::*;
use crate::checksum::of;
use crate::headers::RequestView;
use crate::sigv4::client::{Credentials, sign_request};
use proptest::prelude::*;

fn chain() -> ChunkContext {
    let credentials = Credentials {
        access_key: "a",
        secret_key: "s",
        region: "r",
    };
    let headers = vec![("host", "h")];
    let view = RequestView {
        method: "PUT",
        path: "/b/k",
        query: "",
        headers: &headers,
    };
    let payload = PayloadHash::Streaming {
        signed: true,
        trailer: true,
    };
    sign_request(&credentials, &view, payload, 0)
        .unwrap()
        .chunks
}

/// Decodes `body` in pieces of `piece_bytes`.
fn decode(
    mut decoder: Decoder,
    body: &[u8],
    piece_bytes: usize,
) -> Result<(Vec<u8>, Option<Checksum>), ErrorCode> {
    let mut data = Vec::new();
    for piece in body.chunks(piece_bytes.max(1)) {
        let mut input = Bytes::copy_from_slice(piece);
        while let Some(part) = decoder.decode(&mut input).map_err(|error| error.code)? {
            assert!(!part.is_empty());
            data.extend_from_slice(&part);
        }
        assert!(input.is_empty());
    }
    decoder
        .finish()
        .map(|trailer| (data, trailer))
        .map_err(|error| error.code)
}

fn unsigned(bytes: u64) -> Decoder {
    Decoder::new(None, Some(Some(Algorithm::Crc32)), bytes)
}

#[test]
fn bodies_of_botocore_and_of_minio_go_are_read() {
    let check = |body: &str, decoder: Decoder| decode(decoder, body.as_bytes(), 7).unwrap();
    let sum = of(Algorithm::Crc32, b"123456789");
    let expected = (b"123456789".to_vec(), Some(sum));
    let trailer = "x-amz-checksum-crc32:y/Q5Jg==";
    // botocore
    let body = format!("9\r\n123456789\r\n0\r\n{trailer}\r\n\r\n");
    assert_eq!(check(&body, unsigned(9)), expected);
    // minio-go ends the trailer's line without carriage return and the body with a line too
    // many.
    let body = format!("5\r\n12345\r\n4\r\n6789\r\n0\r\n{trailer}\n\r\n\r\n");
    assert_eq!(check(&body, unsigned(9)), expected);
    // minio-go, signed: an empty line before the signature of the trailer.
    let mut chunks = chain();
    let sha256 = |data: &[u8]| -> [u8; 32] { Sha256::digest(data).into() };
    let first = hex::encode(chunks.sign_chunk(&sha256(b"123456789")));
    let last = hex::encode(chunks.sign_chunk(&sha256(b"")));
    let end = hex::encode(chunks.sign_trailers(&sha256(format!("{trailer}\n").as_bytes())));
    let body = format!(
        "9;chunk-signature={first}\r\n123456789\r\n0;chunk-signature={last}\r\n{trailer}\n\r\n\
         x-amz-trailer-signature:{end}\r\n\r\n"
    );
    let decoder = Decoder::new(Some(chain()), Some(Some(Algorithm::Crc32)), 9);
    assert_eq!(check(&body, decoder), expected);
    // An empty object.
    let body = "0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
    assert_eq!(check(body, unsigned(0)).0, b"");
}

#[test]
fn broken_bodies_get_the_error_of_aws() {
    use ErrorCode as C;
    let check = |body: &str, code: ErrorCode| {
        for piece_bytes in [1, 5, 1000] {
            let result = decode(unsigned(9), body.as_bytes(), piece_bytes);
            assert_eq!(result.unwrap_err(), code, "{body:?}");
        }
    };
    let end = "0\r\nx-amz-checksum-crc32:y/Q5Jg==\r\n\r\n";
    check("", C::IncompleteBody);
    check("9\r\n1234", C::IncompleteBody);
    check("9\r\n123456789\r\n", C::IncompleteBody);
    check("9\r\n123456789\r\n0\r\n", C::IncompleteBody);
    check(&format!("8\r\n12345678\r\n{end}"), C::IncompleteBody);
    check(&format!("a\r\n1234567890\r\n{end}"), C::IncompleteBody);
    check("ffffffffffffffff\r\n", C::IncompleteBody);
    check("10000000000000000\r\n", C::InvalidRequest);
    check("-1\r\n", C::InvalidRequest);
    check("\r\n", C::InvalidRequest);
    check("9\n123456789\r\n", C::InvalidRequest);
    check("9\r\n1234567890\r\n", C::InvalidRequest);
    check("9;chunk-signature=00\r\n", C::InvalidRequest);
    check("9;other=1\r\n", C::InvalidRequest);
    check(
        &format!("9\r\n123456789\r\n{end}GET / HTTP/1.1\r\n"),
        C::InvalidRequest,
    );
    check(
        &format!("9\r\n123456789\r\n{end}\r\n\r\n\r\n"),
        C::InvalidRequest,
    );
    check(&"1".repeat(LINE_BYTES_MAX + 1), C::InvalidRequest);
    let with_trailer = |trailer: &str| format!("9\r\n123456789\r\n0\r\n{trailer}\r\n");
    check(&with_trailer(""), C::MalformedTrailerError);
    check(
        &with_trailer("x-amz-checksum-crc32=y/Q5Jg==\r\n"),
        C::MalformedTrailerError,
    );
    check(
        &with_trailer("x-amz-checksum-crc32:y/Q5\r\n"),
        C::MalformedTrailerError,
    );
    check(
        &with_trailer("x-amz-checksum-sha1:y/Q5Jg==\r\n"),
        C::MalformedTrailerError,
    );
    check(
        &with_trailer("x-amz-meta-a:b\r\n"),
        C::MalformedTrailerError,
    );
    check(
        &with_trailer("x-amz-checksum-crc32:y/Q5Jg==\r\nx-amz-checksum-crc32:y/Q5Jg==\r\n"),
        C::MalformedTrailerError,
    );
    let signature = format!("x-amz-trailer-signature:{}\r\n", "0".repeat(64));
    check(&with_trailer(&signature), C::MalformedTrailerError);
}

#[test]
fn a_trailer_where_none_may_be_is_refused() {
    let decoder = Decoder::new(None, None, 1);
    let body = b"1\r\na\r\n0\r\nx-amz-checksum-crc32:y/Q5Jg==\r\n\r\n";
    assert_eq!(
        decode(decoder, body, 100).unwrap_err(),
        ErrorCode::MalformedTrailerError
    );
}

#[test]
fn a_decoder_that_failed_stays_failed() {
    let mut decoder = unsigned(9);
    assert!(decoder.decode(&mut Bytes::from_static(b"x\r\n")).is_err());
    assert!(
        decoder
            .decode(&mut Bytes::from_static(b"9\r\n123456789\r\n"))
            .is_err()
    );
    assert!(decoder.finish().is_err());
}

#[test]
fn the_length_of_the_data_must_be_told() {
    let streaming = PayloadHash::Streaming {
        signed: false,
        trailer: true,
    };
    let check = |headers: Vec<(&'static str, &'static str)>| {
        Decoder::for_request(streaming, None, None, &headers).map(|decoder| decoder.is_some())
    };
    assert_eq!(
        check(vec![]).unwrap_err().code,
        ErrorCode::MissingContentLength
    );
    let length = "x-amz-decoded-content-length";
    assert_eq!(
        check(vec![(length, "-1")]).unwrap_err().code,
        ErrorCode::InvalidArgument
    );
    assert_eq!(
        check(vec![(length, "+1")]).unwrap_err().code,
        ErrorCode::InvalidArgument
    );
    assert!(check(vec![(length, "1")]).unwrap());
    assert!(
        Decoder::for_request(
            PayloadHash::Unsigned,
            None,
            None,
            &Vec::<(&str, &str)>::new()
        )
        .unwrap()
        .is_none()
    );
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_under_any_split(data in prop::collection::vec(any::<u8>(), 0..2000), chunk_bytes in 1_usize..700,
            piece_bytes in 1_usize..300, signed in any::<bool>(), with_trailer in any::<bool>()) {
        let trailer = (with_trailer || !signed).then(|| of(Algorithm::Sha256, &data));
        let body = encode(&data, chunk_bytes, signed.then(chain), trailer.as_ref());
        let bytes = u64::try_from(data.len()).unwrap();
        let decoder = || Decoder::new(signed.then(chain), trailer.map(|sum| Some(sum.algorithm())), bytes);
        prop_assert_eq!(decode(decoder(), &body, piece_bytes), Ok((data, trailer)));
        // No part of it is a whole body.
        prop_assert!(decode(decoder(), &body[..body.len() - 1], piece_bytes).is_err());
    }

    #[test]
    fn no_changed_bit_of_a_signed_body_is_accepted(data in prop::collection::vec(any::<u8>(), 1..200), at in any::<prop::sample::Index>(), bit in 0_u32..8) {
        let sum = of(Algorithm::Crc32, &data);
        let mut body = encode(&data, 64, Some(chain()), Some(&sum));
        let index = at.index(body.len());
        body[index] ^= 1 << bit;
        let bytes = u64::try_from(data.len()).unwrap();
        let decoder = Decoder::new(Some(chain()), Some(Some(Algorithm::Crc32)), bytes);
        // Where only the spelling changed (the case of a digit or a name), the data is still
        // what was signed.
        if let Ok(decoded) = decode(decoder, &body, 50) {
            prop_assert_eq!(decoded, (data, Some(sum)));
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(body in prop::collection::vec(any::<u8>(), 0..300), piece_bytes in 1_usize..50, signed in any::<bool>(), bytes in 0_u64..100) {
        let _ = decode(Decoder::new(signed.then(chain), Some(Some(Algorithm::Crc32)), bytes), &body, piece_bytes);
    }

    #[test]
    fn no_almost_right_bytes_make_the_decoder_panic(body in "([0-9a-f]{0,2}(;chunk-signature=[0-9a-f]{64})?\r\n|[a-z]{0,9}\r\n|x-amz-(checksum-crc32|trailer-signature):[a-zA-Z=]{0,9}\r?\n){0,8}", piece_bytes in 1_usize..50, signed in any::<bool>(), bytes in 0_u64..100) {
        let _ = decode(Decoder::new(signed.then(chain), Some(Some(Algorithm::Crc32)), bytes), body.as_bytes(), piece_bytes);
    }
}
