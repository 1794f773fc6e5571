//! Blocks that are files.

use super::*;
use crate::disk::Sync;
use crate::disk::blocking::{Blocking, Event};
use crate::footer::FOOTER_BYTES;
use protocol::block::{BLOCK_BYTES_MAX, Place, WRITERS_MAX};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::os::unix::fs::MetadataExt;

#[test]
fn a_committed_block_reads_back_through_a_read_only_descriptor_of_its_own() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        let bytes = bytes_of(1, 1_000_000);
        let block = put_file(&client, &bytes).await.unwrap();
        assert_eq!(
            block,
            BlockRef {
                id: id_of(&bytes),
                length: 1_000_000,
                place: Place::File
            }
        );
        assert_eq!(get(&client, block).await.unwrap(), bytes);

        let (_, first) = call(&client, BlockCall::Open { block, next: None })
            .await
            .unwrap();
        let (_, second) = call(&client, BlockCall::Open { block, next: None })
            .await
            .unwrap();
        for descriptor in first.iter().chain(&second) {
            let access = rustix::fs::fcntl_getfl(descriptor).unwrap() & OFlags::ACCMODE;
            assert_eq!(access, OFlags::RDONLY);
            assert_eq!(rustix::fs::tell(descriptor).unwrap(), 0);
        }
        rustix::io::read(&first[0], &mut [0; 10]).unwrap();
        assert_eq!(
            rustix::fs::tell(&second[0]).unwrap(),
            0,
            "an offset of its own"
        );
    });
}

#[test]
fn a_writers_descriptor_cannot_read_and_the_file_is_empty() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        let (_, file) = create(&client, 100).await.unwrap();
        let read = rustix::io::pread(&file, &mut [0; 1], 0);
        assert_eq!(read, Err(Errno::BADF));
        assert_eq!(file.metadata().unwrap().size(), 0);
    });
}

#[test]
fn no_commit_is_answered_before_bytes_and_name_are_synced() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let disk = Blocking::default();
        let node = Node::start(home.path(), disk.clone()).await;
        let client = node.connect();
        let bytes = bytes_of(1, 200_000);
        let (writer, mut file) = create(&client, 200_000).await.unwrap();
        let inode = file.metadata().unwrap().ino();
        file.write_all(&bytes).unwrap();
        drop(file);
        disk.0.events.borrow_mut().clear();

        let fan_out = home
            .path()
            .join(format!("files/{:02x}", id_of(&bytes).0[0]));
        disk.0.held.set(true);
        let answer = tokio::task::spawn_local({
            let client = client.clone();
            async move { commit(&client, writer, id_of(&bytes), 200_000).await }
        });
        let turns = async |turns: u32| {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        };
        turns(200).await;
        assert_eq!(disk.0.waiting.get(), 1);
        assert!(!answer.is_finished());
        let no_name = files_below(&fan_out).is_empty();
        assert!(no_name, "no name before the bytes are on disk");
        disk.release_one(); // the next sync, that of the directory, waits again
        turns(200).await;
        assert_eq!(files_below(&fan_out).len(), 1);
        assert!(!answer.is_finished(), "not before the name is on disk");
        disk.release();
        answer.await.unwrap().unwrap();

        let directory = std::fs::metadata(&fan_out).unwrap().ino();
        let expected = [
            Event::Wrote {
                inode,
                bytes: FOOTER_BYTES,
            },
            Event::Synced {
                inode,
                sync: Sync::Data,
            },
            Event::Synced {
                inode: directory,
                sync: Sync::All,
            },
        ];
        assert_eq!(*disk.0.events.borrow(), expected);
    });
}

#[test]
fn commits_that_arrive_during_a_sync_share_the_next_one() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let disk = Blocking::default();
        let node = Node::start(home.path(), disk.clone()).await;
        let client = node.connect();
        // Twenty blocks of one directory.
        let first = id_of(&bytes_of(0, 70_000)).0[0];
        let blocks: Vec<Vec<u8>> = (0..)
            .map(|seed| bytes_of(seed, 70_000))
            .filter(|bytes| id_of(bytes).0[0] == first)
            .take(20)
            .collect();
        disk.0.events.borrow_mut().clear();
        let mut commits = Vec::new();
        for bytes in blocks {
            let client = client.clone();
            commits.push(tokio::task::spawn_local(async move {
                put_file(&client, &bytes).await.unwrap();
            }));
        }
        for commit in commits {
            commit.await.unwrap();
        }
        let events = disk.0.events.borrow();
        let names = |event: &&Event| {
            matches!(
                event,
                Event::Synced {
                    sync: Sync::All,
                    ..
                }
            )
        };
        let syncs = events.iter().filter(names).count();
        assert!((1..=10).contains(&syncs), "{syncs} syncs for 20 names");
    });
}

#[test]
fn a_file_that_somebody_can_still_write_to_is_refused() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        let bytes = bytes_of(1, 100_000);
        let (writer, mut file) = create(&client, 100_000).await.unwrap();
        file.write_all(&bytes).unwrap();
        let try_commit = async || commit(&client, writer, id_of(&bytes), 100_000).await;

        assert_eq!(try_commit().await, Err(BlockError::StillOpen), "open");
        let copy = file.try_clone().unwrap();
        drop(file);
        assert_eq!(
            try_commit().await,
            Err(BlockError::StillOpen),
            "a duplicate"
        );
        let (one, other) = Channel::pair().unwrap();
        one.send(b"x", &[copy.as_fd()], SendFlags::empty()).unwrap();
        drop(copy);
        assert_eq!(try_commit().await, Err(BlockError::StillOpen), "in flight");
        drop((one, other));
        let block = try_commit().await.unwrap();
        assert_eq!(get(&client, block).await.unwrap(), bytes);
        assert_eq!(
            try_commit().await,
            Err(BlockError::NoSuchWriter),
            "once only"
        );
    });
}

#[test]
fn a_wrong_length_is_refused_and_leaves_nothing() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        for written in [0, 99_999, 100_001, 300_000] {
            let bytes = bytes_of(1, written);
            let (writer, mut file) = create(&client, 100_000).await.unwrap();
            file.write_all(&bytes).unwrap();
            drop(file);
            let result = commit(&client, writer, id_of(&bytes), 100_000).await;
            assert_eq!(result, Err(BlockError::Damaged), "{written}");
            for left in ["files", "writing", "damaged"] {
                assert_eq!(files_below(&home.path().join(left)), Vec::<PathBuf>::new());
            }
        }
    });
}

#[test]
fn lengths_and_writers_out_of_bounds_are_refused() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        for length in [0, BLOCK_BYTES_MAX as u32 + 1, u32::MAX] {
            let refused = create(&client, length).await;
            assert!(matches!(refused, Err(BlockError::Refused(_))), "{length}");
        }
        let mut files = Vec::new();
        for _ in 0..WRITERS_MAX {
            files.push(create(&client, 1).await.unwrap());
        }
        let one_more = create(&client, 1).await.map(|_| ());
        assert_eq!(one_more, Err(BlockError::TooManyWriters));
        // Another connection has writers of its own, and cannot touch these.
        let other = node.connect();
        let (writer, _) = files.pop().unwrap();
        let stolen = commit(&other, writer, BlockId([0; 32]), 1).await;
        assert_eq!(stolen, Err(BlockError::NoSuchWriter));
        create(&other, 1).await.unwrap();
        call(&client, BlockCall::Abandon { writer }).await.unwrap();
        create(&client, 1).await.unwrap();
    });
}

#[test]
fn the_files_of_a_connection_that_ends_are_removed() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        let _file = create(&client, 1_000).await.unwrap();
        assert_eq!(files_below(&home.path().join("writing")).len(), 1);
        drop(client);
        while !files_below(&home.path().join("writing")).is_empty() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_flipped_bit_anywhere_in_a_file_is_never_handed_out() {
    for byte in [0, 77_777, 99_999, 100_000, 100_010, 100_063] {
        run(async {
            let home = tempfile::tempdir().unwrap();
            let node = Node::start(home.path(), Blocking::default()).await;
            let client = node.connect();
            let bytes = bytes_of(1, 100_000);
            let block = put_file(&client, &bytes).await.unwrap();
            flip(&only_file(home.path(), "files"), byte);
            assert_eq!(
                get(&client, block).await,
                Err(BlockError::Damaged),
                "{byte}"
            );
            assert_eq!(get(&client, block).await, Err(BlockError::Damaged), "again");
            assert_eq!(usage(&client).await.damaged, 1);
            only_file(home.path(), "damaged");
            assert_eq!(files_below(&home.path().join("files")).len(), 0);
            // Sent again, it is sound again.
            let again = put_file(&client, &bytes).await.unwrap();
            assert_eq!(get(&client, again).await.unwrap(), bytes);
        });
    }
}

#[test]
fn a_damaged_block_does_not_swallow_the_same_block_sent_again() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        let bytes = bytes_of(1, 100_000);
        put_file(&client, &bytes).await.unwrap();
        flip(&only_file(home.path(), "files"), 5);
        // Nobody has opened it, so nobody knows; the commit finds out.
        let block = put_file(&client, &bytes).await.unwrap();
        assert_eq!(get(&client, block).await.unwrap(), bytes);
        only_file(home.path(), "damaged");
        assert_eq!(files_below(&home.path().join("writing")).len(), 0);
    });
}

#[test]
fn bytes_under_a_false_name_are_found_at_the_first_touch() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        let (writer, mut file) = create(&client, 5).await.unwrap();
        file.write_all(b"wrong").unwrap();
        drop(file);
        let id = id_of(b"right");
        let block = commit(&client, writer, id, 5).await.unwrap();
        assert_eq!(get(&client, block).await, Err(BlockError::Damaged));
        let block = put_file(&client, b"right").await.unwrap();
        assert_eq!(get(&client, block).await.unwrap(), b"right");
    });
}

#[test]
fn an_existing_block_is_kept_and_the_second_file_goes() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        let bytes = bytes_of(1, 100_000);
        let block = put_file(&client, &bytes).await.unwrap();
        let inode = only_file(home.path(), "files").metadata().unwrap().ino();
        assert_eq!(put_file(&client, &bytes).await.unwrap(), block);
        let still = only_file(home.path(), "files").metadata().unwrap().ino();
        assert_eq!(still, inode);
        assert_eq!(files_below(&home.path().join("writing")).len(), 0);
    });
}

#[test]
fn a_reference_with_another_length_is_refused_without_blame_for_the_block() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        let block = put_file(&client, b"hello").await.unwrap();
        for length in [4, 6, BLOCK_BYTES_MAX as u32] {
            let result = get(&client, BlockRef { length, ..block }).await;
            assert!(matches!(result, Err(BlockError::Refused(_))), "{result:?}");
        }
        assert_eq!(get(&client, block).await.unwrap(), b"hello");
        assert_eq!(usage(&client).await.damaged, 0);
        let unknown = BlockRef {
            id: id_of(b"unknown"),
            ..block
        };
        assert_eq!(get(&client, unknown).await, Err(BlockError::NoSuchBlock));
    });
}

#[test]
fn a_failed_sync_is_answered_and_ends_the_store() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let disk = Blocking::default();
        let node = Node::start(home.path(), disk.clone()).await;
        let client = node.connect();
        disk.0.broken.set(true);
        let failed = put_file(&client, b"hello").await;
        assert!(matches!(failed, Err(BlockError::Disk(_))), "{failed:?}");
        assert!(node.store.failed().await.contains("fdatasync"));
        disk.0.broken.set(false);
        let after = put_file(&client, b"other").await.map(|_| ());
        assert!(matches!(after, Err(BlockError::Disk(_))), "nothing goes on");
    });
}
