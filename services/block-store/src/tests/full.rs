//! A disk that fills up: a small file system of its own, which only root can mount.

use super::*;
use crate::disk::blocking::Blocking;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, with the reason on the error output, where it may not be mounted.
    fn mount(bytes: u64) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(format!("size={bytes}")).unwrap();
        let mounted = mount(
            "tmpfs",
            directory.path(),
            "tmpfs",
            MountFlags::empty(),
            options.as_c_str(),
        );
        match mounted {
            Ok(()) => Some(Self(directory)),
            Err(errno) => {
                eprintln!("skipped: a tmpfs cannot be mounted here: {errno}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_refuses_writes_and_goes_on_reading_and_deleting() {
    let Some(disk) = SmallDisk::mount(32 << 20) else {
        return;
    };
    run(async {
        let home = disk.0.path();
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
