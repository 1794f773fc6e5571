//! A disk that fills up: a small file system of its own, which only root can mount.

use super::*;
use crate::disk::blocking::Blocking;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Goes with this; what lies in it, too.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, with the reason on the error output, where it may not be mounted.
    pub(crate) fn mount(directory: &Path, bytes: u64) -> Option<Self> {
        let options = std::ffi::CString::new(format!("size={bytes}")).unwrap();
        let mounted = mount(
            "tmpfs",
            directory,
            "tmpfs",
            MountFlags::empty(),
            options.as_c_str(),
        );
        match mounted {
            Ok(()) => Some(Self(directory.to_owned())),
            Err(errno) => {
                eprintln!("skipped: a tmpfs cannot be mounted here: {errno}");
                None
            }
        }
    }
}

impl SmallDisk {
    /// What is free of it, in bytes.
    pub(crate) fn free_bytes(&self) -> u64 {
        let system = rustix::fs::statvfs(&self.0).unwrap();
        system.f_bavail * system.f_bsize
    }

    /// Fills it until so many bytes are free.
    pub(crate) fn fill_up_to(&self, free_bytes: u64) {
        let filler = File::create(self.0.join("filler")).unwrap();
        let mode = rustix::fs::FallocateFlags::empty();
        let bytes = self.free_bytes().checked_sub(free_bytes).unwrap();
        rustix::fs::fallocate(filler, mode, 0, bytes).unwrap();
    }

    /// Undoes that.
    pub(crate) fn empty(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_refuses_writes_and_goes_on_reading_and_deleting() {
    let home = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(home.path(), 32 << 20) else {
        return;
    };
    run(async {
        let home = home.path();
        let node = Node::start(home, Blocking::default()).await;
        let client = node.connect();
        let mut files = Vec::new();
        let full = loop {
            match put_file(&client, &bytes_of(files.len() as u64, 1 << 20)).await {
                Ok(block) => files.push(block),
                Err(error) => break error,
            }
        };
        assert_eq!(full, BlockError::Full);
        assert!(files.len() >= 24, "{} files", files.len()); // an eighth is kept free
        assert!(usage(&client).await.free_bytes < 2 << 20);
        let mut smalls = Vec::new();
        let full = loop {
            match put_small(&client, &bytes_of(smalls.len() as u64, 60_000)).await {
                Ok(block) => smalls.push(block),
                Err(error) => break error,
            }
        };
        assert_eq!(full, BlockError::Full);
        for (seed, block) in files.iter().enumerate() {
            let bytes = get(&client, *block).await.unwrap();
            assert_eq!(bytes, bytes_of(seed as u64, 1 << 20));
        }
        for (seed, block) in smalls.iter().enumerate() {
            let bytes = get(&client, *block).await.unwrap();
            assert_eq!(bytes, bytes_of(seed as u64, 60_000));
        }
        assert_eq!(files_below(&home.join("writing")).len(), 0);
        unpin(&client, &files).await;
        assert_eq!(condemn(&client, &files).await, files);
        assert_eq!(delete(&client, &files).await, files);
        put_file(&client, &bytes_of(99, 1 << 20)).await.unwrap();
        put_small(&client, &bytes_of(99, 60_000)).await.unwrap();
        node.crash().await;

        let node = Node::start(home, Blocking::default()).await;
        let client = node.connect();
        for (seed, block) in smalls.iter().enumerate() {
            let bytes = get(&client, *block).await.unwrap();
            assert_eq!(bytes, bytes_of(seed as u64, 60_000));
        }
    });
}
