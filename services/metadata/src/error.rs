//! Why metadata cannot go on.

use std::fmt;

/// Why the service cannot start or has to end. It is restarted, and comes back from the disk.
#[derive(Debug)]
pub enum Error {
    /// What it was given is not what it needs, or the supervisor has gone.
    Given(runtime::Error),
    /// The database could not be opened, read or written. After a failed write nothing more is written: what the disk holds is
    /// found out by the next start.
    Database(fjall::Error),
    /// A row is not what this program writes: the disk is damaged, or another version wrote it. Names the kind of row.
    Damaged(&'static str),
    /// The data directory is of another version of this program.
    Format {
        /// The form that was found.
        found: u32,
    },
    /// The data directory is divided into another number of shards than the setting says.
    Shards {
        /// As the setting says.
        set: u32,
        /// As the directory has it.
        found: u32,
    },
    /// The file of master keys cannot be used; why.
    Keys(String),
    /// The data directory is another node's: its groups have members, and this node's number is not the one it had there.
    Node,
    /// Consensus ended, or did not begin, or did not come about; its own words.
    Raft(String),
    /// Nothing happened, because another node leads.
    NotLeader {
        /// Its name, if it is known.
        leader: Option<String>,
    },
    /// A thread or a descriptor could not be made.
    System(std::io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(error) => error.fmt(f),
            Self::Database(error) if is_damage(error) => write!(
                f,
                "metadata/db in the data directory is damaged, and nothing of it is served ({error}). If other nodes have the same rows: let this one go \
                 (`trousseau node revoke NAME` on another), and start it anew on an empty directory with an invitation; if there are none, start it on a backup"
            ),
            Self::Database(error) => write!(f, "database: {error}"),
            Self::Damaged(what) => write!(f, "damaged row: {what}"),
            Self::Format { found } => write!(
                f,
                "the data directory is of form {found}, this program writes form {}",
                crate::state::FORMAT
            ),
            Self::Shards { set, found } => write!(
                f,
                "the data directory has {found} shards, the setting says {set}: the number cannot be changed"
            ),
            Self::Keys(why) => write!(
                f,
                "metadata/encryption-keys in the data directory: {why}; put a copy of the right file there (a new one cannot read what was encrypted)"
            ),
            Self::Node => write!(
                f,
                "the data directory belongs to a node with another key: give this node its own key file back, or an empty directory"
            ),
            Self::NotLeader { leader } => match leader {
                Some(leader) => write!(f, "node {leader} leads"),
                None => write!(f, "no node is known to lead"),
            },
            Self::Raft(why) => write!(f, "consensus: {why}"),
            Self::System(error) => write!(f, "system: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// The disk gave other bytes than were written, instead of none.
fn is_damage(error: &fjall::Error) -> bool {
    use fjall::{Error, LsmError};
    match error {
        Error::Storage(LsmError::Io(_)) | Error::Io(_) => false,
        Error::Poisoned | Error::KeyspaceDeleted | Error::Locked => false,
        Error::InvalidVersion(_) | Error::Storage(LsmError::InvalidVersion(_)) => false,
        // Sums, marks and structure.
        _ => true,
    }
}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Self {
        Self::Given(error)
    }
}

impl From<fjall::Error> for Error {
    fn from(error: fjall::Error) -> Self {
        Self::Database(error)
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::System(errno.into())
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::System(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_damaged_database_is_told_what_to_do() {
        let damaged = Error::Database(fjall::Error::InvalidTrailer).to_string();
        assert!(damaged.contains("is damaged") && damaged.contains("trousseau node revoke"));
        for other in [
            fjall::Error::Locked,
            fjall::Error::Poisoned,
            fjall::Error::Io(std::io::ErrorKind::StorageFull.into()),
        ] {
            let told = Error::Database(other).to_string();
            assert!(!told.contains("damaged"), "{told}");
        }
    }
}
