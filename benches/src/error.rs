//! What can go wrong while measuring.

use std::fmt;

/// Every failure ends the run: a measurement of something that does not work is worth nothing.
#[derive(Debug)]
pub(crate) enum Error {
    /// The command line.
    Usage(String),
    /// A file, process or socket: what was tried, and the reason.
    World(String, std::io::Error),
    /// The node did not start or stop as agreed.
    Node(String),
    /// An answer that is not the one that was expected.
    Answer(String),
}

impl Error {
    /// For `map_err` on anything that does I/O.
    pub(crate) fn world(tried: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let tried = tried.into();
        move |error| Error::World(tried, error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(reason) => write!(f, "{reason}"),
            Error::World(tried, error) => write!(f, "{tried}: {error}"),
            Error::Node(reason) => write!(f, "the node: {reason}"),
            Error::Answer(reason) => write!(f, "unexpected answer: {reason}"),
        }
    }
}

impl std::error::Error for Error {}
