//! What the headers of an upload say about checksums of its body.

use super::{Algorithm, Checksum, decode_base64};
use crate::error::{ErrorCode, S3Error};
use crate::headers::{Headers, single};

/// What the headers of an upload say about the digests of its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// `Content-MD5`.
    pub content_md5: Option<[u8; 16]>,
    /// `x-amz-checksum-*` with its value.
    pub checksum: Option<Checksum>,
    /// `x-amz-trailer`: the value comes behind the body.
    pub trailer: Option<Algorithm>,
}

impl Expected {
    /// Reads `Content-MD5`, `x-amz-checksum-*`, `x-amz-trailer` and `x-amz-sdk-checksum-algorithm`.
    ///
    /// # Errors
    /// `InvalidDigest` for a bad MD5; `InvalidRequest` for a bad value, two checksums, or an
    /// algorithm that is announced but does not come; `NotImplemented` naming the header for an
    /// algorithm that we do not know.
    pub fn from_headers(headers: &dyn Headers) -> Result<Expected, S3Error> {
        let content_md5 = match single(headers, "content-md5")? {
            Some(text) => Some(content_md5(text)?),
            None => None,
        };
        let checksum = match checksum_header(headers)? {
            Some((algorithm, text)) => {
                Some(Checksum::from_base64(algorithm, text).ok_or_else(|| invalid(algorithm))?)
            }
            None => None,
        };
        let trailer = match single(headers, "x-amz-trailer")? {
            Some(name) => Some(Algorithm::from_header(name).ok_or_else(|| {
                let message = "The value specified in the x-amz-trailer header is not supported";
                S3Error::with(ErrorCode::InvalidRequest, message)
            })?),
            None => None,
        };
        let given = checksum.map(|checksum| checksum.algorithm).or(trailer);
        if checksum.is_some() && trailer.is_some() {
            return Err(several());
        }
        if let Some(name) = single(headers, "x-amz-sdk-checksum-algorithm")? {
            let announced = Algorithm::from_name(name).ok_or_else(|| {
                let message = "Value for x-amz-sdk-checksum-algorithm header is invalid.";
                S3Error::with(ErrorCode::InvalidRequest, message)
            })?;
            // Old SDKs announce an algorithm and send Content-MD5 instead, so MD5 counts as well.
            if given.map_or(content_md5.is_none(), |given| given != announced) {
                let message = "x-amz-sdk-checksum-algorithm specified, but no corresponding \
                               x-amz-checksum-* or \
                               x-amz-trailer headers were found.";
                return Err(S3Error::with(ErrorCode::InvalidRequest, message));
            }
        }
        Ok(Expected {
            content_md5,
            checksum,
            trailer,
        })
    }

    /// The algorithm that the client chose, if it chose one.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.checksum
            .map(|checksum| checksum.algorithm)
            .or(self.trailer)
    }
}

/// The one `x-amz-checksum-*` header that carries a value, undecoded (for CompleteMultipartUpload
/// it may end in `-N`).
///
/// # Errors
/// `InvalidRequest` for more than one; `NotImplemented` naming the header for an algorithm that we
/// do not know.
pub fn checksum_header(headers: &dyn Headers) -> Result<Option<(Algorithm, &str)>, S3Error> {
    let mut found: Option<(Algorithm, &[u8])> = None;
    let mut refusal = None;
    headers.each(&mut |name, value| {
        // These three choose something and carry no value.
        let choice = matches!(
            name,
            "x-amz-checksum-algorithm" | "x-amz-checksum-type" | "x-amz-checksum-mode"
        );
        if refusal.is_some() || choice || !name.starts_with("x-amz-checksum-") {
            return;
        }
        match Algorithm::from_header(name) {
            None => refusal = Some(S3Error::not_implemented("Header", name)),
            Some(_) if found.is_some() => refusal = Some(several()),
            Some(algorithm) => found = Some((algorithm, value)),
        }
    });
    match (refusal, found) {
        (Some(refusal), _) => Err(refusal),
        (None, None) => Ok(None),
        (None, Some((algorithm, value))) => match std::str::from_utf8(value) {
            Ok(text) => Ok(Some((algorithm, text.trim()))),
            Err(_) => Err(invalid(algorithm)),
        },
    }
}

/// The algorithm in a header that chooses one: `x-amz-checksum-algorithm`.
///
/// # Errors
/// `InvalidRequest` for an unknown name.
pub fn chosen_algorithm(headers: &dyn Headers) -> Result<Option<Algorithm>, S3Error> {
    let Some(name) = single(headers, "x-amz-checksum-algorithm")? else {
        return Ok(None);
    };
    match Algorithm::from_name(name) {
        Some(algorithm) => Ok(Some(algorithm)),
        None => {
            let message = "Checksum algorithm provided is unsupported. Please try again with any of \
                           the valid types: \
                           [CRC32, CRC32C, CRC64NVME, SHA1, SHA256, SHA512, MD5, XXHASH64, \
                           XXHASH3, XXHASH128]";
            Err(S3Error::with(ErrorCode::InvalidRequest, message))
        }
    }
}

/// Reads `Content-MD5`: the base64 of 16 bytes.
///
/// # Errors
/// `InvalidDigest`.
pub fn content_md5(text: &str) -> Result<[u8; 16], S3Error> {
    decode_base64::<16>(text)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| {
            S3Error::with(
                ErrorCode::InvalidDigest,
                "The Content-MD5 you specified was invalid.",
            )
            .and("Content-MD5", text)
        })
}

/// The header's value is not a value of its algorithm.
fn invalid(algorithm: Algorithm) -> S3Error {
    let message = format!("Value for {} header is invalid.", algorithm.header());
    S3Error::with(ErrorCode::InvalidRequest, message)
}

/// Two checksums of one body.
fn several() -> S3Error {
    let message =
        "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.";
    S3Error::with(ErrorCode::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test that fails may panic"
    )]
    use super::*;
    use crate::checksum::of;
    use proptest::prelude::*;

    #[test]
    fn upload_headers_are_read_or_refused() {
        let check =
            |pairs: &[(&'static str, &'static str)]| Expected::from_headers(&pairs.to_vec());
        let md5 = ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==");
        let crc = ("x-amz-checksum-crc32", "y/Q5Jg==");
        let expected = check(&[md5, crc, ("x-amz-sdk-checksum-algorithm", "CRC32")]).unwrap();
        assert_eq!(
            hex::encode(expected.content_md5.unwrap()),
            "d41d8cd98f00b204e9800998ecf8427e"
        );
        assert_eq!(expected.algorithm(), Some(Algorithm::Crc32));
        assert_eq!(
            expected.checksum.unwrap(),
            of(Algorithm::Crc32, b"123456789")
        );
        let expected = check(&[("x-amz-trailer", "x-amz-checksum-crc64nvme")]).unwrap();
        assert_eq!(expected.trailer, Some(Algorithm::Crc64Nvme));
        assert_eq!(
            check(&[("x-amz-checksum-mode", "ENABLED")]).unwrap(),
            Expected::default()
        );

        let refused = |pairs: &[(&'static str, &'static str)], code| {
            assert_eq!(check(pairs).unwrap_err().code, code, "{pairs:?}");
        };
        refused(
            &[("content-md5", "1B2M2Y8AsgTpgAmY7PhC")],
            ErrorCode::InvalidDigest,
        );
        refused(&[("content-md5", "")], ErrorCode::InvalidDigest);
        refused(
            &[("x-amz-checksum-crc32", "y/Q5")],
            ErrorCode::InvalidRequest,
        );
        refused(&[("x-amz-checksum-crc32", "!")], ErrorCode::InvalidRequest);
        refused(
            &[crc, ("x-amz-checksum-sha1", "x")],
            ErrorCode::InvalidRequest,
        );
        refused(
            &[crc, ("x-amz-trailer", "x-amz-checksum-crc32")],
            ErrorCode::InvalidRequest,
        );
        refused(
            &[("x-amz-trailer", "x-amz-meta-a")],
            ErrorCode::InvalidRequest,
        );
        refused(
            &[crc, ("x-amz-sdk-checksum-algorithm", "SHA1")],
            ErrorCode::InvalidRequest,
        );
        refused(
            &[("x-amz-sdk-checksum-algorithm", "SHA1")],
            ErrorCode::InvalidRequest,
        );
        refused(
            &[("x-amz-checksum-blake3", "AAAA")],
            ErrorCode::NotImplemented,
        );
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(text in any::<String>()) {
            let _ = content_md5(&text);
            let _ = Expected::from_headers(&vec![("x-amz-checksum-sha256", text.clone()), ("x-amz-trailer", text)]);
        }
    }
}
