//! Bytes in: what a client uploads.

pub(crate) mod form;
pub(crate) mod incoming;
