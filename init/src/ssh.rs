//! What debug-ssh is given: the keys that open the door, and the key by which the node proves that it is itself.
//!
//! Both lie in the data directory's part `ssh`, which is the node owner's only, and reach debug-ssh as sealed memory files. They are read at
//! each of its starts, so `restart debug-ssh` takes changed keys.

use crate::files::{self, sealed};
use crate::{DataDir, Error};
use rustix::fs::Mode;
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// The part of the data directory.
pub(crate) const PART: &str = "ssh";
/// A line for each key: `ROLE KEYTYPE BASE64 [COMMENT]`; see debug-ssh.
const AUTHORIZED: &str = "authorized_keys";
/// 32 random bytes in hexadecimal digits: the seed of the host's ed25519 key.
const HOST_KEY: &str = "host_key";

/// How people come in by ssh.
#[derive(Debug, Clone)]
pub struct Ssh {
    /// `ip:port` of the listener.
    pub address: String,
    /// The authorised keys, a line `ROLE KEYTYPE BASE64 [COMMENT]` for each; `None`: what is in `ssh/authorized_keys` of the data directory.
    pub keys: Option<String>,
}

impl Ssh {
    /// The two memory files: `authorized-keys` and `host-key`. No file of keys is no key: nobody gets in until the operator writes one.
    pub(crate) fn files(&self, part: &OwnedFd) -> Result<[(&'static str, OwnedFd); 2], Errno> {
        let keys = match &self.keys {
            Some(keys) => keys.clone().into_bytes(),
            None => match files::read(part.as_fd(), AUTHORIZED) {
                Err(Errno::NOENT) => Vec::new(),
                other => other?,
            },
        };
        let host = host_key(part)?;
        Ok([
            ("authorized-keys", sealed("authorized-keys", &keys)?),
            ("host-key", sealed("host-key", &host)?),
        ])
    }
}

/// Opens the part, making it if it is not there.
pub(crate) fn part(data: &DataDir) -> Result<OwnedFd, Error> {
    let fails = |errno| Error::Data(PART.into(), errno);
    match rustix::fs::mkdirat(data, PART, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => data.part(PART),
        Err(errno) => Err(fails(errno)),
    }
}

/// Reads the host key; the first time makes it.
fn host_key(part: &OwnedFd) -> Result<Vec<u8>, Errno> {
    match files::read(part.as_fd(), HOST_KEY) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let mut seed = [0; 32];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
    let text: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
    files::replace(part.as_fd(), HOST_KEY, text.as_bytes())?;
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    fn content(file: &OwnedFd) -> Vec<u8> {
        let mut bytes = vec![0; 200];
        let count = rustix::io::pread(file, &mut bytes, 0).unwrap();
        bytes.truncate(count);
        bytes
    }

    #[test]
    fn the_host_key_is_made_once_and_no_file_of_keys_is_no_key() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::open(directory.path()).unwrap();
        let part = part(&data).unwrap();
        let ssh = Ssh {
            address: String::new(),
            keys: None,
        };
        let [(_, keys), (_, host)] = ssh.files(&part).unwrap();
        assert_eq!((content(&keys), content(&host).len()), (Vec::new(), 64));
        std::fs::write(directory.path().join("ssh/authorized_keys"), "admin x").unwrap();
        let [(_, keys), (_, again)] = ssh.files(&part).unwrap();
        assert_eq!(
            (content(&keys), content(&again)),
            (b"admin x".into(), content(&host))
        );
        assert_eq!(rustix::io::write(&keys, b"more"), Err(Errno::PERM));
        let told = Ssh {
            keys: Some("inspect y".into()),
            ..ssh
        };
        assert_eq!(content(&told.files(&part).unwrap()[0].1), b"inspect y");
    }

    #[test]
    fn a_file_that_is_too_long_or_a_link_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::open(directory.path()).unwrap();
        let part = part(&data).unwrap();
        let file = directory.path().join("ssh/authorized_keys");
        std::fs::write(&file, vec![b'x'; files::FILE_BYTES_MAX + 1]).unwrap();
        assert_eq!(files::read(part.as_fd(), AUTHORIZED), Err(Errno::FBIG));
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
        assert_eq!(files::read(part.as_fd(), AUTHORIZED), Err(Errno::LOOP));
    }
}
