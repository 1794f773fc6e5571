//! Bytes in and out: the client's socket, what it uploads, and files on their way to it.

pub(crate) mod file_range;
pub(crate) mod form;
pub(crate) mod incoming;
pub(crate) mod socket;
