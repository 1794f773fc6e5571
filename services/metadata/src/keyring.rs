//! The node's master keys, under which the data keys of encrypted objects lie in rows and logs (SSE-S3).
//!
//! They are the lines of the file `encryption-keys` in metadata's own directory, which no other process can open: a number, a space, 64 hexadecimal
//! digits. The last line wraps what is new, every line unwraps what is there. So the owner changes the key by adding a line while the node is
//! stopped; a line may be removed when no object needs it. The file is made at the first start. Before a node gets rows of a cluster, a node that has them
//! sends it its keys ([`Keyring::take`]), so that each that may lead a shard reads what the others have wrapped; otherwise it is never written again. Without it, and without a
//! copy of it, no object that the node encrypted by itself can be read again; blocks and backups of blocks alone say nothing.

use crate::Error;
use object_encryption::{KEY_BYTES, Secret};
use protocol::metadata::{BucketId, Change, DataKey, Encryption, KeySource, MetadataError, Reply};
use protocol::peers::MasterKeys;
use rustix::fs::{CWD, Mode, OFlags, openat, renameat};
use rustix::io::Errno;
use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The file's name.
const FILE: &str = "encryption-keys";
/// The name under which it is written before it is whole.
const UNFINISHED: &str = "encryption-keys.new";
/// The longest such file, in bytes: some 800 keys.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// The master keys, and the directory that they lie in.
pub(crate) struct Keyring {
    home: PathBuf,
    keys: RefCell<Keys>,
}

/// The keys of a file, oldest first; at least one.
struct Keys {
    older: Vec<(u32, Secret)>,
    newest: (u32, Secret),
}

impl Keyring {
    /// Reads the keys out of `home`, or makes the first one there.
    ///
    /// # Errors
    /// [`Error::Keys`] for a file that does not hold keys: it is never replaced. [`Error::System`].
    pub(crate) fn open(home: &Path) -> Result<Self, Error> {
        let directory = open(CWD, home, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        let file = match open(&directory, Path::new(FILE), OFlags::RDONLY, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => {
                Self::make(&directory)?;
                open(&directory, Path::new(FILE), OFlags::RDONLY, Mode::empty())?
            }
            Err(errno) => return Err(Error::from(errno)),
        };
        let mut text = vec![0; FILE_BYTES_MAX + 1];
        let mut length = 0;
        loop {
            match rustix::io::read(&file, text.get_mut(length..).unwrap_or_default()) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::from(errno)),
            }
        }
        text.truncate(length);
        Ok(Self {
            home: home.to_owned(),
            keys: RefCell::new(Keys::parse(&text)?),
        })
    }

    /// All keys, in the form of the file: for a node that is about to get rows.
    pub(crate) fn lines(&self) -> MasterKeys {
        MasterKeys(self.keys.borrow().lines().into_bytes())
    }

    /// Takes the keys of the cluster, of a node that has rows to this one, which is about to get them: the last of `lines` wraps what is new here, too, and what was
    /// here before stays in front. On the disk when this comes back. Harmless to repeat.
    ///
    /// # Errors
    /// [`Error::Keys`] for lines that hold no keys, or another key under a number that is here; [`Error::System`]. Then nothing has changed.
    pub(crate) fn take(&self, lines: &[u8]) -> Result<(), Error> {
        let theirs = Keys::parse(lines)?;
        let own = self.keys.borrow().all();
        for (number, key) in theirs.all() {
            if own
                .iter()
                .any(|(known, old)| *known == number && *old != key)
            {
                return Err(Error::Keys(format!(
                    "another node has another key of the number {number}"
                )));
            }
        }
        let known = |number: u32| theirs.all().iter().any(|(known, _)| *known == number);
        let mut older: Vec<(u32, Secret)> = own;
        older.retain(|(number, _)| !known(*number));
        older.extend(theirs.older);
        let merged = Keys {
            older,
            newest: theirs.newest,
        };
        if merged.all() != self.keys.borrow().all() {
            let directory = OFlags::RDONLY | OFlags::DIRECTORY;
            let directory = open(CWD, &self.home, directory, Mode::empty())?;
            write(&directory, &merged.lines())?;
            *self.keys.borrow_mut() = merged;
        }
        Ok(())
    }

    /// Writes a file with one random key. Named only when it is whole: a power cut leaves none, or this one.
    fn make(directory: &OwnedFd) -> Result<(), Error> {
        let mut random = [0; KEY_BYTES + 4];
        getrandom::fill(&mut random)
            .map_err(|error| Error::System(std::io::Error::other(error.to_string())))?;
        // A random number, so that a key that is made because a file was lost is not taken for the lost one.
        let (number, key) = random.split_at(4);
        let number = number.iter().fold(0, |all, one| all << 8 | u32::from(*one));
        write(directory, &format!("{number} {}\n", hex::encode(key)))
    }

    /// Wraps the data key that a change brings, so that it enters the log wrapped.
    ///
    /// # Errors
    /// None in practice: the lengths are right.
    pub(crate) fn wrap(&self, change: &mut Change) -> Result<(), MetadataError> {
        let (bucket, encryption) = match change {
            Change::PutObject { bucket, object, .. } => (*bucket, &mut object.encryption),
            Change::CreateUpload { bucket, upload } => (*bucket, &mut upload.encryption),
            _ => return Ok(()),
        };
        let Some(Encryption { salt, source }) = encryption else {
            return Ok(());
        };
        if let KeySource::Managed(DataKey(key)) = source {
            let keys = self.keys.borrow();
            let (number, master) = &keys.newest;
            let key = Secret(*key);
            let wrapped = object_encryption::wrap(master, &salt.0, bucket.0, &key).ok();
            let split = wrapped.as_deref().and_then(|wrapped| {
                let (key, tag) = wrapped.split_first_chunk()?;
                Some((*key, <[u8; 16]>::try_from(tag).ok()?))
            });
            let key = split.ok_or_else(|| MetadataError::Refused("data key".into()))?;
            *source = KeySource::Wrapped {
                master: *number,
                key,
            };
        }
        Ok(())
    }

    /// Unwraps the data key in the reply to a read of `bucket` that needs it.
    ///
    /// # Errors
    /// `Refused`, if it was wrapped by a key that is not here or is damaged: asking again does not help.
    pub(crate) fn unwrap(&self, bucket: BucketId, reply: &mut Reply) -> Result<(), MetadataError> {
        let encryption = match reply {
            Reply::Object(object) => &mut object.encryption,
            Reply::Upload(upload) => &mut upload.encryption,
            _ => return Ok(()),
        };
        let Some(Encryption { salt, source }) = encryption else {
            return Ok(());
        };
        if let KeySource::Wrapped { master, key } = source {
            let refused = |why: String| {
                runtime::error!("an object cannot be decrypted: {why}");
                MetadataError::Refused(why)
            };
            let keys = self.keys.borrow();
            let mut all = keys.older.iter().chain([&keys.newest]);
            let known = all.find(|(number, _)| number == master);
            let (_, secret) = known.ok_or_else(|| {
                refused(format!(
                    "its data key needs the master key {master}, which is not in {FILE}"
                ))
            })?;
            let wrapped = [&key.0[..], &key.1[..]].concat();
            let opened = object_encryption::unwrap(secret, &salt.0, bucket.0, &wrapped);
            let opened = opened.map_err(|_| {
                refused(format!(
                    "the master key {master} in {FILE} is not the one of its data key"
                ))
            })?;
            *source = KeySource::Managed(DataKey(opened.0));
        }
        Ok(())
    }
}

impl Keys {
    /// The keys of a file. The error says which line is wrong, and nothing of what it holds.
    fn parse(text: &[u8]) -> Result<Self, Error> {
        if text.len() > FILE_BYTES_MAX {
            return Err(Error::Keys("it is longer than 64 KiB".into()));
        }
        let text = std::str::from_utf8(text).map_err(|_| Error::Keys("it is no text".into()))?;
        let mut keys: Vec<(u32, Secret)> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let wrong = |why| Error::Keys(format!("line {}: {why}", index + 1));
            if line.trim().is_empty() {
                continue;
            }
            let (number, digits) = line
                .split_once(' ')
                .ok_or_else(|| wrong("not a number, a space and 64 hexadecimal digits"))?;
            let number = number.parse().map_err(|_| wrong("not a number in front"))?;
            let mut key = [0; KEY_BYTES];
            hex::decode_to_slice(digits.trim_end(), &mut key)
                .map_err(|_| wrong("not 64 hexadecimal digits behind the number"))?;
            if keys.iter().any(|(known, _)| *known == number) {
                return Err(wrong("a number that is there already"));
            }
            keys.push((number, Secret(key)));
        }
        let newest = keys.pop();
        let newest = newest.ok_or_else(|| Error::Keys("it holds no key".into()))?;
        Ok(Self {
            older: keys,
            newest,
        })
    }

    fn all(&self) -> Vec<(u32, Secret)> {
        let all = self.older.iter().chain([&self.newest]);
        all.map(|(number, key)| (*number, Secret(key.0))).collect()
    }

    fn lines(&self) -> String {
        let line = |(number, key): (u32, Secret)| format!("{number} {}\n", hex::encode(key.0));
        self.all().into_iter().map(line).collect()
    }
}

/// Writes the file. It has its name only when it is whole: a power cut leaves the one before, or this one.
fn write(directory: &OwnedFd, text: &str) -> Result<(), Error> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = open(directory, Path::new(UNFINISHED), flags, mode)?;
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(&file, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::from(errno)),
        }
    }
    rustix::fs::fsync(&file)?;
    renameat(directory, UNFINISHED, directory, FILE)?;
    rustix::fs::fsync(directory)?;
    Ok(())
}

fn open(
    directory: impl std::os::fd::AsFd,
    name: &Path,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    openat(directory, name, flags | OFlags::CLOEXEC, mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::metadata::{Salt, Upload};

    fn upload(source: KeySource) -> Change {
        let upload = Upload {
            upload: "u".into(),
            key: "k".into(),
            headers: Vec::new(),
            checksum: None,
            attributes: Default::default(),
            encryption: Some(Encryption {
                salt: Salt([5; 32]),
                source,
            }),
            initiated_ms: 0,
        };
        Change::CreateUpload {
            bucket: BucketId(1),
            upload,
        }
    }

    fn parsed(text: &[u8]) -> Result<Keyring, Error> {
        Ok(Keyring {
            home: PathBuf::new(),
            keys: RefCell::new(Keys::parse(text)?),
        })
    }

    #[test]
    fn the_keys_of_the_cluster_wrap_from_then_on_and_the_own_ones_stay() {
        let (home, founder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let founder = Keyring::open(founder.path()).unwrap();
        let newcomer = Keyring::open(home.path()).unwrap();
        let own = newcomer.lines();
        for _ in 0..2 {
            newcomer.take(&founder.lines().0).unwrap();
            let expected = [own.0.clone(), founder.lines().0].concat();
            assert_eq!(newcomer.lines().0, expected);
            let read = Keyring::open(home.path()).unwrap();
            assert_eq!(read.lines().0, expected);
        }
        let mut stored = upload(KeySource::Managed(DataKey([9; 32])));
        newcomer.wrap(&mut stored).unwrap();
        let mut shown = reply_of(stored);
        founder.unwrap(BucketId(1), &mut shown).unwrap();
        assert_eq!(*source_of(&shown), KeySource::Managed(DataKey([9; 32])));
    }

    #[test]
    fn another_key_under_a_known_number_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let keys = Keyring::open(home.path()).unwrap();
        let before = keys.lines();
        let text = String::from_utf8(before.0.clone()).unwrap();
        let number = text.split(' ').next().unwrap();
        let other = format!("{number} {}\n", hex::encode([7; 32]));
        assert!(keys.take(other.as_bytes()).is_err() && keys.take(b"").is_err());
        assert_eq!(Keyring::open(home.path()).unwrap().lines(), before);
    }

    fn reply_of(change: Change) -> Reply {
        match change {
            Change::CreateUpload { upload, .. } => Reply::Upload(upload),
            other => panic!("{other:?}"),
        }
    }

    fn source_of(reply: &Reply) -> &KeySource {
        match reply {
            Reply::Upload(upload) => &upload.encryption.as_ref().unwrap().source,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_key_is_made_once_and_read_ever_after() {
        let home = tempfile::tempdir().unwrap();
        let first = Keyring::open(home.path()).unwrap();
        let text = std::fs::read(home.path().join(FILE)).unwrap();
        let again = Keyring::open(home.path()).unwrap();
        assert_eq!(first.lines(), again.lines());
        assert_eq!(text, std::fs::read(home.path().join(FILE)).unwrap());
        assert!(!home.path().join(UNFINISHED).exists());
    }

    #[test]
    fn a_new_line_wraps_what_is_new_and_older_ones_unwrap_what_is_there() {
        let line = |number: u32, byte: u8| format!("{number} {}\n", hex::encode([byte; 32]));
        let old = parsed(line(7, 1).as_bytes()).unwrap();
        let both = parsed((line(7, 1) + &line(3, 2)).as_bytes()).unwrap();
        let new = parsed(line(3, 2).as_bytes()).unwrap();
        let mut stored = upload(KeySource::Managed(DataKey([9; 32])));
        old.wrap(&mut stored).unwrap();
        let stored = reply_of(stored);
        assert!(matches!(
            source_of(&stored),
            KeySource::Wrapped { master: 7, .. }
        ));
        let mut shown = stored.clone();
        both.unwrap(BucketId(1), &mut shown).unwrap();
        assert_eq!(*source_of(&shown), KeySource::Managed(DataKey([9; 32])));
        assert!(both.unwrap(BucketId(2), &mut stored.clone()).is_err());
        assert!(new.unwrap(BucketId(1), &mut stored.clone()).is_err());
        let mut fresh = upload(KeySource::Managed(DataKey([9; 32])));
        both.wrap(&mut fresh).unwrap();
        assert!(matches!(
            source_of(&reply_of(fresh)),
            KeySource::Wrapped { master: 3, .. }
        ));
    }

    #[test]
    fn a_customers_proof_passes_as_it_is() {
        let keys = parsed(format!("1 {}", hex::encode([1; 32])).as_bytes()).unwrap();
        let mut kept = upload(KeySource::Customer { proof: [4; 32] });
        keys.wrap(&mut kept).unwrap();
        let mut kept = reply_of(kept);
        keys.unwrap(BucketId(1), &mut kept).unwrap();
        assert_eq!(*source_of(&kept), KeySource::Customer { proof: [4; 32] });
    }

    #[test]
    fn a_file_that_holds_no_keys_is_told_by_line_and_never_shown() {
        let digits = hex::encode([0xab; 32]);
        for (text, told) in [
            (String::new(), "no key"),
            ("nonsense".into(), "line 1"),
            (format!("x {digits}"), "line 1"),
            (format!("1 {digits}\n2 {}", &digits[2..]), "line 2"),
            (format!("1 {digits}\n\n1 {digits}"), "line 3"),
            ("\n".repeat(FILE_BYTES_MAX + 1), "longer"),
        ] {
            let error = parsed(text.as_bytes()).err().unwrap().to_string();
            assert!(error.contains(told) && !error.contains("abab"), "{error}");
        }
        assert!(parsed(&[0xff]).is_err());
    }
}
