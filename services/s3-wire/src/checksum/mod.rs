//! Checksums of bodies and objects: the ten algorithms of S3, entity tags, and what multipart
//! makes of them.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>

mod multipart;
mod upload;

pub use multipart::{ChecksumType, composite, etag, full_object, multipart_etag};
pub use upload::{Expected, checksum_header, chosen_algorithm, content_md5};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::CrcAlgorithm;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use xxhash_rust::xxh3::Xxh3;
use xxhash_rust::xxh64::Xxh64;

/// An algorithm of `x-amz-checksum-*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// The CRC-32 of zip and Ethernet.
    Crc32,
    /// CRC-32 with Castagnoli's polynomial.
    Crc32c,
    /// The CRC-64 of NVMe; what today's SDKs and AWS itself take when nobody asks for another.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// MD5, as a checksum of its own beside `Content-MD5` and the entity tag.
    Md5,
    /// xxHash of 64 bits, without a seed, as are the following two.
    Xxhash64,
    /// XXH3 of 64 bits.
    Xxhash3,
    /// XXH3 of 128 bits.
    Xxhash128,
}

/// The longest value in bytes.
const VALUE_BYTES_MAX: usize = 64;

impl Algorithm {
    /// All of them, in the order in which AWS lists their elements.
    pub const ALL: [Algorithm; 10] = [
        Algorithm::Crc32,
        Algorithm::Crc32c,
        Algorithm::Crc64Nvme,
        Algorithm::Sha1,
        Algorithm::Sha256,
        Algorithm::Sha512,
        Algorithm::Md5,
        Algorithm::Xxhash64,
        Algorithm::Xxhash3,
        Algorithm::Xxhash128,
    ];

    /// The name in headers and XML: `CRC32C`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "CRC32",
            Algorithm::Crc32c => "CRC32C",
            Algorithm::Crc64Nvme => "CRC64NVME",
            Algorithm::Sha1 => "SHA1",
            Algorithm::Sha256 => "SHA256",
            Algorithm::Sha512 => "SHA512",
            Algorithm::Md5 => "MD5",
            Algorithm::Xxhash64 => "XXHASH64",
            Algorithm::Xxhash3 => "XXHASH3",
            Algorithm::Xxhash128 => "XXHASH128",
        }
    }

    /// The header or trailer that carries a value: `x-amz-checksum-crc32c`.
    pub fn header(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "x-amz-checksum-crc32",
            Algorithm::Crc32c => "x-amz-checksum-crc32c",
            Algorithm::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Algorithm::Sha1 => "x-amz-checksum-sha1",
            Algorithm::Sha256 => "x-amz-checksum-sha256",
            Algorithm::Sha512 => "x-amz-checksum-sha512",
            Algorithm::Md5 => "x-amz-checksum-md5",
            Algorithm::Xxhash64 => "x-amz-checksum-xxhash64",
            Algorithm::Xxhash3 => "x-amz-checksum-xxhash3",
            Algorithm::Xxhash128 => "x-amz-checksum-xxhash128",
        }
    }

    /// The XML element that carries a value: `ChecksumCRC32C`.
    pub fn element(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "ChecksumCRC32",
            Algorithm::Crc32c => "ChecksumCRC32C",
            Algorithm::Crc64Nvme => "ChecksumCRC64NVME",
            Algorithm::Sha1 => "ChecksumSHA1",
            Algorithm::Sha256 => "ChecksumSHA256",
            Algorithm::Sha512 => "ChecksumSHA512",
            Algorithm::Md5 => "ChecksumMD5",
            Algorithm::Xxhash64 => "ChecksumXXHASH64",
            Algorithm::Xxhash3 => "ChecksumXXHASH3",
            Algorithm::Xxhash128 => "ChecksumXXHASH128",
        }
    }

    /// Bytes of a value.
    pub fn value_bytes(self) -> usize {
        match self {
            Algorithm::Crc32 | Algorithm::Crc32c => 4,
            Algorithm::Crc64Nvme | Algorithm::Xxhash64 | Algorithm::Xxhash3 => 8,
            Algorithm::Md5 | Algorithm::Xxhash128 => 16,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => VALUE_BYTES_MAX,
        }
    }

    /// Reads a name, in either case.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL
            .into_iter()
            .find(|known| known.name().eq_ignore_ascii_case(name))
    }

    /// Reads the name of a header or trailer, in either case.
    pub fn from_header(name: &str) -> Option<Algorithm> {
        Algorithm::ALL
            .into_iter()
            .find(|known| known.header().eq_ignore_ascii_case(name))
    }

    /// Whether parts can be combined to a checksum of the whole object.
    pub fn can_combine(self) -> bool {
        self.crc().is_some()
    }

    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Algorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Algorithm::Sha1
            | Algorithm::Sha256
            | Algorithm::Sha512
            | Algorithm::Md5
            | Algorithm::Xxhash64
            | Algorithm::Xxhash3
            | Algorithm::Xxhash128 => None,
        }
    }
}

/// A value of one algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Checksum {
    algorithm: Algorithm,
    /// The first `algorithm.value_bytes()` count, the rest is zero.
    bytes: [u8; VALUE_BYTES_MAX],
}

impl Checksum {
    /// A value from its bytes; `None` when there are too many or too few.
    pub fn from_bytes(algorithm: Algorithm, value: &[u8]) -> Option<Checksum> {
        let mut bytes = [0; VALUE_BYTES_MAX];
        bytes
            .get_mut(..algorithm.value_bytes())?
            .copy_from_slice(exactly(value, algorithm)?);
        Some(Checksum { algorithm, bytes })
    }

    /// A value from its base64 text; `None` when it is not one of this algorithm.
    pub fn from_base64(algorithm: Algorithm, text: &str) -> Option<Checksum> {
        Checksum::from_bytes(algorithm, &decode_base64::<VALUE_BYTES_MAX>(text)?)
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The value, most significant byte first.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
            .get(..self.algorithm.value_bytes())
            .unwrap_or_default()
    }

    /// The value as headers and XML carry it.
    pub fn to_base64(&self) -> String {
        BASE64.encode(self.bytes())
    }

    /// Joins the CRCs of two adjoining pieces; `following_bytes` is the length of the second.
    /// `None` for all but CRCs and for different algorithms.
    pub fn combine(&self, following: &Checksum, following_bytes: u64) -> Option<Checksum> {
        let crc = self
            .algorithm
            .crc()
            .filter(|_| self.algorithm == following.algorithm)?;
        let joined =
            crc_fast::checksum_combine(crc, self.number(), following.number(), following_bytes);
        Some(Checksum::from_number(self.algorithm, joined))
    }

    /// A value whose bytes the algorithm has just made.
    fn of_digest(algorithm: Algorithm, digest: &[u8]) -> Checksum {
        let mut bytes = [0; VALUE_BYTES_MAX];
        for (to, from) in bytes.iter_mut().zip(digest) {
            *to = *from;
        }
        Checksum { algorithm, bytes }
    }

    /// A CRC as a number.
    fn number(&self) -> u64 {
        self.bytes()
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// The value of at most 64 bits that is this number.
    fn from_number(algorithm: Algorithm, number: u64) -> Checksum {
        let all = number.to_be_bytes();
        let mut bytes = [0; VALUE_BYTES_MAX];
        for (to, from) in bytes
            .iter_mut()
            .zip(all.iter().skip(8 - algorithm.value_bytes().min(8)))
        {
            *to = *from;
        }
        Checksum { algorithm, bytes }
    }
}

impl std::fmt::Debug for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.to_base64())
    }
}

/// `value` when it has the length of the algorithm.
fn exactly(value: &[u8], algorithm: Algorithm) -> Option<&[u8]> {
    (value.len() == algorithm.value_bytes()).then_some(value)
}

/// At most `N` bytes of base64.
fn decode_base64<const N: usize>(text: &str) -> Option<Vec<u8>> {
    // Refuse long texts before decoding them.
    if text.len() > N.div_ceil(3) * 4 {
        return None;
    }
    BASE64.decode(text).ok()
}

/// Computes one checksum over pieces of data.
#[derive(Clone)]
pub struct Hasher {
    algorithm: Algorithm,
    state: State,
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hasher({})", self.algorithm.name())
    }
}

#[derive(Clone)]
enum State {
    Crc(crc_fast::Digest),
    Sha1(Sha1),
    Sha256(Sha256),
    Sha512(Sha512),
    Md5(Md5),
    Xxhash64(Xxh64),
    // More than half a kilobyte, and rare.
    Xxhash3(Box<Xxh3>),
    Xxhash128(Box<Xxh3>),
}

impl Hasher {
    /// Begins.
    pub fn new(algorithm: Algorithm) -> Hasher {
        let crc = |crc| State::Crc(crc_fast::Digest::new(crc));
        let state = match algorithm {
            Algorithm::Crc32 => crc(CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32c => crc(CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64Nvme => crc(CrcAlgorithm::Crc64Nvme),
            Algorithm::Sha1 => State::Sha1(Sha1::new()),
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
            Algorithm::Md5 => State::Md5(Md5::new()),
            Algorithm::Xxhash64 => State::Xxhash64(Xxh64::new(0)),
            Algorithm::Xxhash3 => State::Xxhash3(Box::new(Xxh3::new())),
            Algorithm::Xxhash128 => State::Xxhash128(Box::new(Xxh3::new())),
        };
        Hasher { algorithm, state }
    }

    /// Adds data.
    pub fn update(&mut self, data: &[u8]) {
        match &mut self.state {
            State::Crc(digest) => digest.update(data),
            State::Sha1(digest) => digest.update(data),
            State::Sha256(digest) => digest.update(data),
            State::Sha512(digest) => digest.update(data),
            State::Md5(digest) => digest.update(data),
            State::Xxhash64(hasher) => hasher.update(data),
            State::Xxhash3(hasher) | State::Xxhash128(hasher) => hasher.update(data),
        }
    }

    /// The value of all data so far.
    pub fn finish(self) -> Checksum {
        let algorithm = self.algorithm;
        match self.state {
            State::Crc(digest) => Checksum::from_number(algorithm, digest.finalize()),
            State::Sha1(digest) => Checksum::of_digest(algorithm, &digest.finalize()),
            State::Sha256(digest) => Checksum::of_digest(algorithm, &digest.finalize()),
            State::Sha512(digest) => Checksum::of_digest(algorithm, &digest.finalize()),
            State::Md5(digest) => Checksum::of_digest(algorithm, &digest.finalize()),
            // xxHash's canonical form is big-endian, too.
            State::Xxhash64(hasher) => Checksum::from_number(algorithm, hasher.digest()),
            State::Xxhash3(hasher) => Checksum::from_number(algorithm, hasher.digest()),
            State::Xxhash128(hasher) => {
                Checksum::of_digest(algorithm, &hasher.digest128().to_be_bytes())
            }
        }
    }
}

/// The checksum of data that lies in memory.
pub fn of(algorithm: Algorithm, data: &[u8]) -> Checksum {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(data);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_of_all_algorithms() {
        let check = |algorithm, expected: &str| {
            assert_eq!(hex::encode(of(algorithm, b"123456789").bytes()), expected);
        };
        check(Algorithm::Crc32, "cbf43926");
        check(Algorithm::Crc32c, "e3069283");
        check(Algorithm::Crc64Nvme, "ae8b14860a799888");
        check(Algorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441");
        check(
            Algorithm::Sha256,
            "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
        );
        // printf 123456789 | sha512sum, md5sum; the rest by AWS's C library.
        check(
            Algorithm::Sha512,
            "d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274a\
             d27fcd5811b313d681f7e55ec02d73d499c95455b6b5bb503acf574fba8ffe85",
        );
        check(Algorithm::Md5, "25f9e794323b453885f5181f1b624d0b");
        check(Algorithm::Xxhash64, "8cb841db40e6ae83");
        check(Algorithm::Xxhash3, "72dcb18b67a17dff");
        check(Algorithm::Xxhash128, "33119477ede5dcd5e9716427681d5860");
    }
}
