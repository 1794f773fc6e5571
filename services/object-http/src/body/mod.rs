//! Bytes out: files on their way to the client's socket, and that socket.

pub mod file_range;
pub mod socket;
