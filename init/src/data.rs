//! The node's data directory: who holds it, what is in it, and whose each part is.

use crate::{Error, files};
use manifests::Policy;
use protocol::token::Token;
use rustix::fs::{
    AtFlags, FlockOperation, Gid, Mode, OFlags, Uid, chownat, fchmod, flock, mkdirat, open, openat,
    statat,
};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Services run as this user id plus their rank where the node has root's power over user ids.
pub(crate) const FIRST_USER: u32 = 770_000;
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);
/// How long the end of a killed node may take.
const ENDING: Duration = Duration::from_secs(2);
/// How often its lock is tried meanwhile.
const AGAIN: Duration = Duration::from_millis(10);
/// Who the node is called, and where it stands: a line `NAME=VALUE` for each.
const IDENTITY: &str = "node";
/// What membership keeps: the roster.
const ROSTER: &str = "roster";

/// The opened data directory, locked for as long as any process of the node lives.
pub struct DataDir {
    path: PathBuf,
    directory: OwnedFd,
    /// An open file description with the lock; the kernel ends the lock with its last holder.
    _lock: OwnedFd,
}

/// Who this node is. Made at first start and kept in the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The node's name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// What it gives to a cluster, in bytes; `None`: nobody has said, and it is as much as the disk has.
    pub capacity_bytes: Option<u64>,
    /// It was not told at its first start to join a cluster, and so makes one.
    pub founder: bool,
}

/// What the owner wants the node to be called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// Counts at the first start only; `None`: a name is made up.
    pub name: Option<String>,
    /// Counts at every start; `None`: `home`, or what it was.
    pub zone: Option<String>,
    /// Counts at every start; `None`: all of the disk, or what it was.
    pub capacity_bytes: Option<u64>,
    /// The invitation to a cluster. Whether there is one counts at the first start: without it the node makes a cluster of its own.
    pub join: Option<Token>,
    /// How many copies of blocks and shards there are to be in a cluster that the node makes. Counts until its layout is begun.
    pub copies: Option<u8>,
}

/// Why a data directory cannot be used.
#[derive(Debug)]
pub enum OpenError {
    /// Another node runs on it.
    InUse,
    /// It cannot be made or opened.
    System(Errno),
}

/// Takes the lock. Whoever starts a node again right after it was killed meets processes of the old one that are still ending: they are
/// waited for.
fn take(lock: &OwnedFd) -> Result<(), OpenError> {
    let begin = Instant::now();
    loop {
        match flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if begin.elapsed() < ENDING => std::thread::sleep(AGAIN),
            Err(Errno::WOULDBLOCK) => return Err(OpenError::InUse),
            Err(errno) => return Err(OpenError::System(errno)),
        }
    }
}

impl DataDir {
    /// Opens `path`, making it if it is not there, and locks it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        std::fs::create_dir_all(path).map_err(|error| {
            OpenError::System(Errno::from_io_error(&error).unwrap_or(Errno::IO))
        })?;
        let path = path.canonicalize();
        let path = path.map_err(|error| {
            OpenError::System(Errno::from_io_error(&error).unwrap_or(Errno::IO))
        })?;
        let directory = open(&path, DIRECTORY, Mode::empty()).map_err(OpenError::System)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let lock = openat(&directory, "lock", flags, Mode::RUSR | Mode::WUSR)
            .map_err(OpenError::System)?;
        take(&lock)?;
        Ok(Self {
            path,
            directory,
            _lock: lock,
        })
    }

    /// Makes what is missing, gives each part to its service's user, and reads (at first start: makes) the identity.
    pub(crate) fn prepare(
        &mut self,
        policy: &Policy,
        wish: &Wish,
        root: bool,
    ) -> Result<Identity, Error> {
        let fails = |path: &str| {
            let path = path.to_owned();
            move |errno| Error::Data(path, errno)
        };
        self.enter_our_mounts().map_err(fails("."))?;
        // Searchable by the services' users, each of whom owns its own part; listed and written by the node's owner only.
        fchmod(&self.directory, Mode::from_raw_mode(0o711)).map_err(fails("."))?;
        self.make("empty", 0o555, None).map_err(fails("empty"))?;
        for manifest in policy.all() {
            if let Some(part) = &manifest.root {
                let user = root.then(|| FIRST_USER + u32::from(manifest.rank));
                self.make(part, 0o700, user).map_err(fails(part))?;
            }
        }
        self.identity(wish).map_err(fails(IDENTITY))
    }

    /// The file in which membership keeps the roster, to be read and written in place; made if it is not there.
    pub(crate) fn roster(directory: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match openat(directory, ROSTER, flags, Mode::empty()) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let file = openat(
            directory,
            ROSTER,
            flags | OFlags::CREATE,
            Mode::RUSR | Mode::WUSR,
        )?;
        // What is written into it is worth nothing if its name is lost.
        rustix::fs::fsync(directory)?;
        Ok(file)
    }

    /// How much the disk has, in bytes: what a node gives whose operator has not said.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let disk = rustix::fs::fstatvfs(&self.directory);
        disk.map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize))
    }

    /// Opens the directory again. It was opened before init had a mount namespace of its own, and the kernel lets a process make a private
    /// root (open_tree(2)) only of what belongs to its own mounts.
    fn enter_our_mounts(&mut self) -> Result<(), Errno> {
        let again = open(&self.path, DIRECTORY, Mode::empty())?;
        let (then, now) = (
            rustix::fs::fstat(&self.directory)?,
            rustix::fs::fstat(&again)?,
        );
        if (then.st_dev, then.st_ino) != (now.st_dev, now.st_ino) {
            return Err(Errno::STALE); // somebody put another directory in its place: the lock would be of the wrong one
        }
        self.directory = again;
        Ok(())
    }

    /// A part of the data directory, opened.
    pub(crate) fn part(&self, name: &str) -> Result<OwnedFd, Error> {
        openat(
            &self.directory,
            name,
            DIRECTORY | OFlags::NOFOLLOW,
            Mode::empty(),
        )
        .map_err(|errno| Error::Data(name.into(), errno))
    }

    fn make(&self, name: &str, mode: u32, user: Option<u32>) -> Result<(), Errno> {
        match mkdirat(&self.directory, name, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let owner = user.unwrap_or_else(|| rustix::process::geteuid().as_raw());
        if statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_uid != owner {
            // Also what an earlier start as another user has left in it.
            give(self.directory.as_fd(), name, owner)?;
        }
        Ok(())
    }

    /// The identity that was kept, in the zone that is wished for; at the first start a new one.
    fn identity(&self, wish: &Wish) -> Result<Identity, Errno> {
        let kept = self.kept_identity()?;
        let name = match (&kept, &wish.name) {
            (Some(kept), _) => kept.name.clone(),
            (None, Some(name)) => name.clone(),
            (None, None) => {
                let mut random = [0; 3];
                rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
                let [a, b, c] = random;
                format!("node-{a:02x}{b:02x}{c:02x}")
            }
        };
        let old = kept.as_ref();
        let zone = wish.zone.clone().or(old.map(|old| old.zone.clone()));
        let identity = Identity {
            name,
            zone: zone.unwrap_or_else(|| "home".into()),
            capacity_bytes: wish
                .capacity_bytes
                .or(old.and_then(|old| old.capacity_bytes)),
            founder: old.map_or(wish.join.is_none(), |old| old.founder),
        };
        if kept.as_ref() != Some(&identity) {
            self.keep_identity(&identity)?;
        }
        Ok(identity)
    }

    fn kept_identity(&self) -> Result<Option<Identity>, Errno> {
        let text = match files::read(self.directory.as_fd(), IDENTITY) {
            Ok(text) => text,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let text = String::from_utf8_lossy(&text);
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .map(str::to_owned)
        };
        let capacity_bytes = value("capacity").map(|bytes| bytes.parse()).transpose();
        match (value("name"), value("zone"), capacity_bytes) {
            (Some(name), Some(zone), Ok(capacity_bytes)) => Ok(Some(Identity {
                name,
                zone,
                capacity_bytes,
                founder: value("founder").is_none_or(|founder| founder == "yes"),
            })),
            _ => Err(Errno::BADMSG),
        }
    }

    /// Whole or not at all, whenever the power goes.
    fn keep_identity(&self, identity: &Identity) -> Result<(), Errno> {
        let Identity {
            name,
            zone,
            capacity_bytes,
            founder,
        } = identity;
        let founder = if *founder { "yes" } else { "no" };
        let mut text = format!("name={name}\nzone={zone}\nfounder={founder}\n");
        if let Some(bytes) = capacity_bytes {
            text.push_str(&format!("capacity={bytes}\n"));
        }
        files::replace(self.directory.as_fd(), IDENTITY, text.as_bytes())
    }
}

impl AsFd for DataDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Gives `name` and everything in it to `owner`.
fn give(parent: BorrowedFd<'_>, name: &str, owner: u32) -> Result<(), Errno> {
    let (user, group) = (Uid::from_raw(owner), Gid::from_raw(owner));
    chownat(
        parent,
        name,
        Some(user),
        Some(group),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    let directory = match openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    for entry in rustix::fs::Dir::read_from(&directory)? {
        let entry = entry?;
        match entry.file_name().to_str() {
            Ok("." | "..") => {}
            Ok(name) => give(directory.as_fd(), name, owner)?,
            Err(_) => return Err(Errno::ILSEQ),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;
    use protocol::cluster::{ClusterId, NodeKey};

    fn token() -> Token {
        Token {
            cluster: ClusterId([1; 16]),
            secret: [2; 32],
            key: NodeKey([3; 32]),
            mesh: "127.0.0.1:4100".parse().unwrap(),
        }
    }

    #[test]
    fn the_first_start_says_what_the_node_is_and_later_ones_what_may_change() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::open(directory.path()).unwrap();
        let first = data
            .identity(&Wish {
                name: Some("attic".into()),
                zone: None,
                capacity_bytes: Some(5),
                join: Some(token()),
                copies: None,
            })
            .unwrap();
        let expected = Identity {
            name: "attic".into(),
            zone: "home".into(),
            capacity_bytes: Some(5),
            founder: false,
        };
        assert_eq!(first, expected);
        assert_eq!(data.identity(&Wish::default()).unwrap(), expected);
        let later = data.identity(&Wish {
            name: Some("cellar".into()),
            zone: Some("lille".into()),
            capacity_bytes: Some(0),
            join: None,
            copies: None,
        });
        let moved = Identity {
            zone: "lille".into(),
            capacity_bytes: Some(0),
            ..expected
        };
        assert_eq!(later.unwrap(), moved);
    }

    #[test]
    fn a_node_of_before_clusters_is_a_founder_and_stays_one() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(IDENTITY), "name=old\nzone=home\n").unwrap();
        let data = DataDir::open(directory.path()).unwrap();
        let wish = Wish {
            join: Some(token()),
            ..Wish::default()
        };
        for wish in [wish, Wish::default()] {
            let identity = data.identity(&wish).unwrap();
            assert_eq!((identity.name.as_str(), identity.founder), ("old", true));
        }
        std::fs::write(directory.path().join(IDENTITY), "name=old\ncapacity=1\n").unwrap();
        assert_eq!(data.identity(&Wish::default()), Err(Errno::BADMSG));
    }

    #[test]
    fn the_roster_s_file_is_made_once_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::open(directory.path()).unwrap();
        let file = DataDir::roster(data.as_fd()).unwrap();
        rustix::io::pwrite(&file, b"kept", 0).unwrap();
        let again = DataDir::roster(data.as_fd()).unwrap();
        let mut bytes = [0; 8];
        assert_eq!(rustix::io::pread(&again, &mut bytes, 0), Ok(4));
        assert_eq!(&bytes[..4], b"kept");
    }
}
