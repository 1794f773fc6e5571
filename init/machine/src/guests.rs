//! The services that are not built in and came with the image: `/services/NAME/manifest.toml` and `/services/NAME/program` of the initramfs.
//!
//! The first stage takes the directory along into the new root; the second one reads it and gives its memory back, so that no file which could
//! be executed is left when the node runs.

use crate::error::Error;
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use std::fs::{self, File};
use std::io::{Error as IoError, Read};
use std::path::Path;

const DIRECTORY: &str = "/services";
/// The longest manifest in bytes.
const MANIFEST_BYTES_MAX: u64 = 64 * 1024;

/// One such service. Its program's file has no name any more; its memory is freed when this is dropped.
#[derive(Debug)]
pub struct Guest {
    /// The name of its directory.
    pub name: String,
    /// The text of its manifest.
    pub manifest: String,
    /// Its program, opened for reading.
    pub program: File,
}

/// In the first stage: makes the services reachable from `new_root`, if there are any.
pub(crate) fn carry_over(new_root: &Path) -> Result<(), Error> {
    if !Path::new(DIRECTORY).is_dir() {
        return Ok(());
    }
    let place = new_root.join("services");
    fs::create_dir(&place).map_err(fails)?;
    mount_bind(DIRECTORY, &place).map_err(|errno| Error::Mount("the services".into(), errno))
}

/// In the second stage, once: the services, removed from where they were.
pub fn take() -> Result<Vec<Guest>, Error> {
    let mut guests = Vec::new();
    let Ok(entries) = fs::read_dir(DIRECTORY) else {
        return Ok(guests);
    };
    for entry in entries {
        let entry = entry.map_err(fails)?;
        let directory = entry.path();
        let mut manifest = String::new();
        let path = directory.join("manifest.toml");
        let mut file = File::open(&path).map_err(fails)?.take(MANIFEST_BYTES_MAX);
        file.read_to_string(&mut manifest).map_err(fails)?;
        let program = File::open(directory.join("program")).map_err(fails)?;
        fs::remove_dir_all(&directory).map_err(fails)?;
        guests.push(Guest {
            name: entry.file_name().to_string_lossy().into_owned(),
            manifest,
            program,
        });
    }
    // In the order of their names, whatever the directory's was.
    guests.sort_by(|one, other| one.name.cmp(&other.name));
    match unmount(DIRECTORY, UnmountFlags::DETACH) {
        Ok(()) | Err(Errno::INVAL) => Ok(guests),
        Err(errno) => Err(Error::Mount("the services".into(), errno)),
    }
}

fn fails(error: IoError) -> Error {
    Error::Disk("the services of the image".into(), error)
}
