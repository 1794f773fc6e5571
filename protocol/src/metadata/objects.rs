//! Objects, their bytes, and the uploads that become objects.

use super::{Attributes, Encryption, Salt, VersionId};
use crate::block::BlockRef;
use serde::{Deserialize, Serialize};

/// A checksum that the client sent or asked for, kept and given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// In AWS's spelling: `CRC32`, `CRC64NVME`, `SHA256`, …
    pub algorithm: String,
    /// Over the parts' checksums (`COMPOSITE`) instead of over the bytes (`FULL_OBJECT`).
    pub composite: bool,
    /// In base64, with `-N` behind a composite one, as the header has it.
    pub value: String,
}

/// An object as a caller writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewObject {
    /// Bytes.
    pub size: u64,
    /// Without quotes: hex of MD5, or `hex-N` of a multipart upload.
    pub etag: String,
    /// Lowercase names: `content-type`, `cache-control`, …, `x-amz-meta-*`. At most [`HEADERS_BYTES_MAX`](super::HEADERS_BYTES_MAX).
    pub headers: Vec<(String, String)>,
    /// If the client sent one.
    pub checksum: Option<Checksum>,
    /// Tags and protection. The bucket's default retention is added where there is none.
    pub attributes: Attributes,
    /// If its bytes are encrypted: then the content is longer than `size`, and a [`DataKey`](super::DataKey) is given in clear.
    pub encryption: Option<Encryption>,
    /// The bytes, or where they are; never [`Content::Parts`].
    pub content: Content,
}

/// An object as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Bytes.
    pub size: u64,
    /// Without quotes.
    pub etag: String,
    /// Lowercase names.
    pub headers: Vec<(String, String)>,
    /// If the client sent one.
    pub checksum: Option<Checksum>,
    /// Milliseconds since 1970.
    pub modified_ms: u64,
    /// Which version this is.
    pub version: VersionId,
    /// Tags and protection.
    pub attributes: Attributes,
    /// If its bytes are encrypted, with the [`DataKey`](super::DataKey) in clear.
    pub encryption: Option<Encryption>,
    /// The bytes, or where they are.
    pub content: Content,
}

/// Where an object's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Here; at most [`INLINE_BYTES_MAX`](super::INLINE_BYTES_MAX).
    Inline(#[serde(with = "crate::block::serde_bytes_vec")] Vec<u8>),
    /// In these blocks, in order; at most [`BLOCKS_MAX`](super::BLOCKS_MAX).
    Blocks(Vec<BlockRef>),
    /// In the parts of a completed upload, in order, at most [`PARTS_MAX`](super::PARTS_MAX): ask for each part's blocks with [`Operation::GetPart`](super::Operation::GetPart).
    Parts {
        /// The upload that made them.
        upload: String,
        /// Number and bytes of each.
        parts: Vec<(u16, u64)>,
    },
}

/// One part of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Bytes.
    pub size: u64,
    /// Hex of MD5.
    pub etag: String,
    /// If the client sent one.
    pub checksum: Option<Checksum>,
    /// Milliseconds since 1970; set by the service, ignored in a call.
    pub modified_ms: u64,
    /// If the upload is encrypted: of this part's bytes, which are longer in the blocks than `size`.
    pub salt: Option<Salt>,
    /// In order; at most [`BLOCKS_MAX`](super::BLOCKS_MAX), empty only for a part of no bytes.
    pub blocks: Vec<BlockRef>,
}

/// An upload under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Its name; unique.
    pub upload: String,
    /// The object's key.
    pub key: String,
    /// The object's headers.
    pub headers: Vec<(String, String)>,
    /// The checksum algorithm asked for at creation, in AWS's spelling, and whether it is composite.
    pub checksum: Option<(String, bool)>,
    /// The object's tags and protection.
    pub attributes: Attributes,
    /// If the object is to be encrypted. Lists and [`Reply::Parts`](super::Reply::Parts) show it without the key.
    pub encryption: Option<Encryption>,
    /// Milliseconds since 1970.
    pub initiated_ms: u64,
}

/// What must be true of the present object for a write to happen, judged at the instant of the write.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Precondition {
    /// Nothing.
    #[default]
    None,
    /// `If-None-Match: *`.
    Absent,
    /// `If-Match: *`.
    Present,
    /// `If-Match: "etag"`, without quotes. An absent object is [`MetadataError::NoSuchKey`](super::MetadataError::NoSuchKey).
    Etag(String),
}
