//! Objects over HTTP: what the services that give objects to HTTP clients share, each with operations of its own.
//!
//! The threads and their connections ([`crew`], [`server`], [`connections`]), who may do what ([`admission`]), the line to metadata and what is remembered
//! of its answers ([`metadata`], [`credentials`]), and the way of an object's bytes from its blocks to a socket ([`blocks`], [`body`],
//! [`reading`]). Absent: any operation; any path, any address, any file opened by name; the bytes of large objects on their way out.

#![deny(unsafe_code)]

pub mod access;
pub mod activity;
pub mod admission;
pub mod answer;
pub mod blocks;
pub mod body;
pub mod budget;
pub mod connections;
pub mod cors;
pub mod credentials;
pub mod crew;
pub mod encryption;
pub mod facts;
pub mod find_object;
pub mod limits;
pub mod metadata;
pub mod reading;
mod relay;
pub mod server;
mod sys;
pub mod version_id;
pub mod worker;

use std::fmt;
use std::io;

/// Why such a service ended.
#[derive(Debug)]
pub enum Error {
    /// What was given is not what is needed, or the supervisor has gone.
    Runtime(runtime::Error),
    /// A thread or its event loop could not be made, or the listener failed.
    System(&'static str, io::Error),
    /// The bus has gone: no service can be reached any more.
    BusGone,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => error.fmt(f),
            Self::System(what, error) => write!(f, "{what}: {error}"),
            Self::BusGone => write!(f, "the bus has hung up"),
        }
    }
}

impl std::error::Error for Error {}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Self {
        Self::Runtime(error)
    }
}
