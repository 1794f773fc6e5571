//! Everything that is computed over the body of an upload while it passes by, and compared at its
//! end.

use crate::checksum::{Algorithm, Checksum, Expected, Hasher};
use crate::error::{ErrorCode, S3Error};
use crate::sigv4::PayloadHash;
use md5::Md5;
use sha2::{Digest, Sha256};

/// The running digests of one body. Feed it decoded data in order, then call
/// [`BodyChecks::finish`].
///
/// MD5 costs most by far (about 1.5 µs per KiB); it is computed because entity tags are MD5s and
/// clients compare them.
#[derive(Clone, Debug)]
pub struct BodyChecks {
    expected: Expected,
    /// The hash that the signature covers, if it does.
    signed_sha256: Option<[u8; 32]>,
    bytes: u64,
    md5: Md5,
    /// The checksum to store. Its SHA-256 also serves the signature.
    checksum: Option<Hasher>,
    /// For the signature, where `checksum` is of another algorithm.
    sha256: Option<Sha256>,
}

/// What was found over a whole body that is as its sender said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodySummary {
    /// How many bytes.
    pub bytes: u64,
    /// For the entity tag.
    pub md5: [u8; 16],
    /// The checksum to store with the object or part.
    pub checksum: Option<Checksum>,
}

impl BodyChecks {
    /// Begins. `default` is the algorithm that is computed when the client chose none (AWS takes
    /// CRC64NVME).
    pub fn new(expected: Expected, payload: PayloadHash, default: Option<Algorithm>) -> BodyChecks {
        let signed_sha256 = match payload {
            PayloadHash::Signed(hash) => Some(hash),
            PayloadHash::Unsigned | PayloadHash::Streaming { .. } => None,
        };
        let algorithm = expected.algorithm().or(default);
        let own_sha256 = signed_sha256.is_some() && algorithm != Some(Algorithm::Sha256);
        BodyChecks {
            expected,
            signed_sha256,
            bytes: 0,
            md5: Md5::new(),
            checksum: algorithm.map(Hasher::new),
            sha256: own_sha256.then(Sha256::new),
        }
    }

    /// Adds data.
    pub fn update(&mut self, data: &[u8]) {
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        self.md5.update(data);
        if let Some(checksum) = &mut self.checksum {
            checksum.update(data);
        }
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(data);
        }
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Compares everything. `trailer` is what [`crate::aws_chunked::Decoder::finish`] found behind
    /// the body.
    ///
    /// # Errors
    /// `XAmzContentSHA256Mismatch` with both hashes, `BadDigest` naming what differs,
    /// `MalformedTrailerError` for a checksum that was announced for the trailer and did not come.
    pub fn finish(self, trailer: Option<Checksum>) -> Result<BodySummary, S3Error> {
        let computed = self.checksum.map(Hasher::finish);
        if let Some(client) = self.signed_sha256 {
            let server: Option<[u8; 32]> = match self.sha256 {
                Some(sha256) => Some(sha256.finalize().into()),
                None => computed.and_then(|checksum| checksum.bytes().try_into().ok()),
            };
            if server != Some(client) {
                return Err(S3Error::new(ErrorCode::XAmzContentSHA256Mismatch)
                    .and("ClientComputedContentSHA256", hex::encode(client))
                    .and(
                        "S3ComputedContentSHA256",
                        hex::encode(server.unwrap_or_default()),
                    ));
            }
        }
        let md5: [u8; 16] = self.md5.finalize().into();
        if self
            .expected
            .content_md5
            .is_some_and(|expected| expected != md5)
        {
            let message = "The Content-MD5 you specified did not match what we received.";
            return Err(S3Error::with(ErrorCode::BadDigest, message)
                .and("CalculatedDigest", hex::encode(md5)));
        }
        let expected = match self.expected.trailer {
            Some(algorithm) => match trailer {
                Some(trailer) if trailer.algorithm() == algorithm => Some(trailer),
                _ => return Err(ErrorCode::MalformedTrailerError.into()),
            },
            None => self.expected.checksum,
        };
        match (expected, computed) {
            (Some(expected), Some(computed)) if expected != computed => {
                let name = computed.algorithm().name();
                let message =
                    format!("The {name} you specified did not match the calculated checksum.");
                Err(S3Error::with(ErrorCode::BadDigest, message))
            }
            _ => Ok(BodySummary {
                bytes: self.bytes,
                md5,
                checksum: computed,
            }),
        }
    }
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

    const DATA: &[u8] = b"the body";

    fn check(
        expected: Expected,
        payload: PayloadHash,
        trailer: Option<Checksum>,
    ) -> Result<BodySummary, ErrorCode> {
        let mut checks = BodyChecks::new(expected, payload, Some(Algorithm::Crc64Nvme));
        checks.update(&DATA[..3]);
        checks.update(&DATA[3..]);
        checks.finish(trailer).map_err(|error| error.code)
    }

    #[test]
    fn a_right_body_passes_every_check() {
        let sha256: [u8; 32] = Sha256::digest(DATA).into();
        let md5: [u8; 16] = Md5::digest(DATA).into();
        for algorithm in Algorithm::ALL {
            let sum = of(algorithm, DATA);
            let expected = Expected {
                content_md5: Some(md5),
                checksum: Some(sum),
                trailer: None,
            };
            let summary = check(expected, PayloadHash::Signed(sha256), None).unwrap();
            assert_eq!(
                summary,
                BodySummary {
                    bytes: 8,
                    md5,
                    checksum: Some(sum)
                }
            );
            let expected = Expected {
                trailer: Some(algorithm),
                ..Expected::default()
            };
            let streaming = PayloadHash::Streaming {
                signed: false,
                trailer: true,
            };
            assert_eq!(
                check(expected, streaming, Some(sum)).unwrap().checksum,
                Some(sum)
            );
        }
        let summary = check(Expected::default(), PayloadHash::Unsigned, None).unwrap();
        assert_eq!(summary.checksum, Some(of(Algorithm::Crc64Nvme, DATA)));
    }

    #[test]
    fn a_wrong_body_fails_with_the_code_of_aws() {
        let wrong = of(Algorithm::Sha256, b"other");
        let refused = |expected, payload, trailer, code| {
            assert_eq!(check(expected, payload, trailer), Err(code));
        };
        let none = Expected::default();
        let hash: [u8; 32] = wrong.bytes().try_into().unwrap();
        refused(
            none,
            PayloadHash::Signed(hash),
            None,
            ErrorCode::XAmzContentSHA256Mismatch,
        );
        let expected = Expected {
            checksum: Some(wrong),
            ..none
        };
        refused(expected, PayloadHash::Unsigned, None, ErrorCode::BadDigest);
        let expected = Expected {
            content_md5: Some([0; 16]),
            ..none
        };
        refused(expected, PayloadHash::Unsigned, None, ErrorCode::BadDigest);
        let expected = Expected {
            trailer: Some(Algorithm::Sha256),
            ..none
        };
        refused(
            expected,
            PayloadHash::Unsigned,
            Some(wrong),
            ErrorCode::BadDigest,
        );
        refused(
            expected,
            PayloadHash::Unsigned,
            None,
            ErrorCode::MalformedTrailerError,
        );
        let other = of(Algorithm::Crc32, DATA);
        refused(
            expected,
            PayloadHash::Unsigned,
            Some(other),
            ErrorCode::MalformedTrailerError,
        );
    }
}
