//! What multipart makes of checksums: composite and full-object values, and entity tags.

use super::{Algorithm, Checksum, Hasher};
use crate::error::{ErrorCode, S3Error};
use md5::{Digest, Md5};

/// What a checksum of a multipart object covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumType {
    /// The checksums of the parts, one after the other; written with `-N`.
    Composite,
    /// The bytes of the object.
    FullObject,
}

impl ChecksumType {
    /// `COMPOSITE` or `FULL_OBJECT`.
    pub fn name(self) -> &'static str {
        match self {
            ChecksumType::Composite => "COMPOSITE",
            ChecksumType::FullObject => "FULL_OBJECT",
        }
    }

    /// The type of a multipart upload: `asked` is the value of `x-amz-checksum-type`.
    ///
    /// # Errors
    /// `InvalidRequest` for combinations that AWS does not offer: CRC64NVME is always of the full
    /// object, what is no CRC always composite.
    pub fn of_upload(algorithm: Algorithm, asked: Option<&str>) -> Result<ChecksumType, S3Error> {
        let wanted = match asked {
            None => None,
            Some(name) if name.eq_ignore_ascii_case("COMPOSITE") => Some(ChecksumType::Composite),
            Some(name) if name.eq_ignore_ascii_case("FULL_OBJECT") => {
                Some(ChecksumType::FullObject)
            }
            Some(_) => {
                let message = "Value for x-amz-checksum-type header is invalid.";
                return Err(S3Error::with(ErrorCode::InvalidRequest, message));
            }
        };
        match (algorithm, wanted) {
            (Algorithm::Crc64Nvme, None | Some(ChecksumType::FullObject)) => {
                Ok(ChecksumType::FullObject)
            }
            (Algorithm::Crc32 | Algorithm::Crc32c, wanted) => {
                Ok(wanted.unwrap_or(ChecksumType::Composite))
            }
            (Algorithm::Crc64Nvme, Some(wanted)) | (_, Some(wanted @ ChecksumType::FullObject)) => {
                let message = format!(
                    "The {} checksum type cannot be used with the {} checksum algorithm.",
                    wanted.name(),
                    algorithm.name().to_lowercase()
                );
                Err(S3Error::with(ErrorCode::InvalidRequest, message))
            }
            (_, None | Some(ChecksumType::Composite)) => Ok(ChecksumType::Composite),
        }
    }
}

/// The checksum of checksums: what a multipart object of type [`ChecksumType::Composite`] carries.
///
/// Returns the text with its `-N`. `None` without parts or when a part's algorithm is another.
pub fn composite<'a>(
    algorithm: Algorithm,
    parts: impl IntoIterator<Item = &'a Checksum>,
) -> Option<String> {
    let mut hasher = Hasher::new(algorithm);
    let mut count = 0_u32;
    for part in parts {
        if part.algorithm != algorithm {
            return None;
        }
        hasher.update(part.bytes());
        count += 1;
    }
    (count > 0).then(|| format!("{}-{count}", hasher.finish().to_base64()))
}

/// The checksum of the whole object from those of its parts and their lengths. `None` without
/// parts, for what is no CRC, or when a part's algorithm is another.
pub fn full_object<'a>(parts: impl IntoIterator<Item = (&'a Checksum, u64)>) -> Option<Checksum> {
    let mut parts = parts.into_iter();
    let (first, _) = parts.next()?;
    if !first.algorithm.can_combine() {
        return None;
    }
    parts.try_fold(*first, |whole, (part, bytes)| whole.combine(part, bytes))
}

/// The entity tag of an object that came in one piece: the MD5 in hexadecimal digits. No quotes.
pub fn etag(md5: &[u8; 16]) -> String {
    hex::encode(md5)
}

/// The entity tag of a multipart object: the MD5 of the MD5s of its parts, and their number. No
/// quotes.
pub fn multipart_etag<'a>(parts: impl IntoIterator<Item = &'a [u8; 16]>) -> String {
    let mut hasher = Md5::new();
    let mut count = 0_u32;
    for part in parts {
        hasher.update(part);
        count += 1;
    }
    format!("{}-{count}", hex::encode(hasher.finalize()))
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
    fn multipart_tags_are_those_of_aws() {
        let empty: [u8; 16] = Md5::digest(b"").into();
        assert_eq!(etag(&empty), "d41d8cd98f00b204e9800998ecf8427e");
        // printf 'd41d8cd98f00b204e9800998ecf8427e%.0s' 1 2 | xxd -r -p | md5sum
        assert_eq!(
            multipart_etag([&empty, &empty]),
            "5873dd45edd01f09c1ef2e7819369e8e-2"
        );
    }

    #[test]
    fn checksum_types_are_those_that_aws_offers() {
        let check = |algorithm, asked| ChecksumType::of_upload(algorithm, asked).ok();
        assert_eq!(
            check(Algorithm::Crc64Nvme, None),
            Some(ChecksumType::FullObject)
        );
        assert_eq!(check(Algorithm::Crc64Nvme, Some("COMPOSITE")), None);
        assert_eq!(
            check(Algorithm::Sha256, None),
            Some(ChecksumType::Composite)
        );
        assert_eq!(check(Algorithm::Sha256, Some("FULL_OBJECT")), None);
        assert_eq!(
            check(Algorithm::Xxhash128, None),
            Some(ChecksumType::Composite)
        );
        assert_eq!(check(Algorithm::Md5, Some("FULL_OBJECT")), None);
        assert_eq!(check(Algorithm::Crc32, None), Some(ChecksumType::Composite));
        assert_eq!(
            check(Algorithm::Crc32c, Some("FULL_OBJECT")),
            Some(ChecksumType::FullObject)
        );
        assert_eq!(check(Algorithm::Crc32c, Some("OTHER")), None);
    }

    proptest! {
        #[test]
        fn parts_combine_to_the_whole(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6)) {
            for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
                let sums: Vec<Checksum> = pieces.iter().map(|piece| of(algorithm, piece)).collect();
                let lengths = pieces.iter().map(|piece| u64::try_from(piece.len()).unwrap());
                let whole = full_object(sums.iter().zip(lengths)).unwrap();
                prop_assert_eq!(whole, of(algorithm, &pieces.concat()));
                prop_assert_eq!(Checksum::from_base64(algorithm, &whole.to_base64()), Some(whole));
            }
        }

        #[test]
        fn a_composite_is_the_sum_of_sums(pieces in prop::collection::vec(any::<Vec<u8>>(), 1..5)) {
            for algorithm in Algorithm::ALL {
                let sums: Vec<Checksum> = pieces.iter().map(|piece| of(algorithm, piece)).collect();
                let joined: Vec<u8> = sums.iter().flat_map(|sum| sum.bytes().to_vec()).collect();
                let expected = format!("{}-{}", of(algorithm, &joined).to_base64(), pieces.len());
                prop_assert_eq!(composite(algorithm, &sums), Some(expected));
            }
        }
    }
}
