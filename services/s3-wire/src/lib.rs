//! s3-wire: the bytes of S3. Signatures, chunked bodies, checksums, XML, names, ranges, conditions,
//! routing.
//!
//! Pure functions of their arguments: no I/O, no clock, no randomness, no async. What comes from
//! outside is parsed into a type here, within named bounds, and everything that goes wrong is an
//! [`error::S3Error`] in AWS's words.

#![forbid(unsafe_code)]

pub mod aws_chunked;
pub mod body;
pub mod checksum;
pub mod conditions;
pub mod dates;
pub mod encryption;
pub mod error;
pub mod form;
pub mod headers;
pub mod names;
pub mod policy;
pub mod query;
pub mod range;
pub mod routing;
pub mod settings;
pub mod sigv2;
pub mod sigv4;
pub mod tags;
pub mod xml;
