//! What a crash leaves, and what the next start makes of it.

use super::*;
use crate::disk::blocking::Blocking;
use crate::record::{HEAD_PAGES, PAGE_BYTES};
use protocol::block::Place;
use std::os::unix::fs::{FileExt, MetadataExt};

fn page_of(block: BlockRef) -> u64 {
    match block.place {
        Place::Packed { page, .. } => u64::from(page) * PAGE_BYTES as u64,
        Place::File => panic!("not packed"),
    }
}

fn allocated_bytes(home: &Path) -> u64 {
    files_below(&home.join("packs"))
        .iter()
        .map(|pack| pack.metadata().unwrap().blocks() * 512)
        .sum()
}

#[test]
fn everything_acknowledged_is_there_after_a_crash_and_nothing_half_written() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        let large = bytes_of(1, 150_000);
        let file = put_file(&client, &large).await.unwrap();
        let small = put_small(&client, b"small").await.unwrap();
        let (_, mut half) = create(&client, 1_000).await.unwrap();
        half.write_all(b"half").unwrap();
        node.crash().await;
        // A crash of the machine leaves the file behind, too.
        std::fs::write(home.path().join("writing/77"), b"left over").unwrap();

        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        assert_eq!(files_below(&home.path().join("writing")).len(), 0);
        assert_eq!(get(&client, file).await.unwrap(), large);
        assert_eq!(get(&client, small).await.unwrap(), b"small");
    });
}

#[test]
fn a_restart_goes_on_in_the_same_pack_and_leaks_no_tail() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let mut blocks = Vec::new();
        let mut allocated = Vec::new();
        for seed in 0..5 {
            let node = Node::start(home.path(), Blocking::default()).await;
            let client = node.connect();
            blocks.push(put_small(&client, &bytes_of(seed, 10_000)).await.unwrap());
            for (seed, block) in blocks.iter().enumerate() {
                let bytes = get(&client, *block).await.unwrap();
                assert_eq!(bytes, bytes_of(seed as u64, 10_000));
            }
            node.crash().await;
            allocated.push(allocated_bytes(home.path()));
        }
        only_file(home.path(), "packs");
        let pages: Vec<u64> = blocks.iter().map(|block| page_of(*block)).collect();
        let expected: Vec<u64> = (0..5).map(|n| (2 + 3 * n) * PAGE_BYTES as u64).collect();
        assert_eq!(pages, expected);
        // A tail that leaked would be a pack's; the file system's own blocks (ext4's for extents) come and go.
        let grown = allocated[4].saturating_sub(allocated[0]);
        assert!(grown < 1 << 20, "{allocated:?}");
    });
}

#[test]
fn torn_records_of_the_last_group_are_discarded_and_their_space_comes_back() {
    // Which page of which of the last group's records did not reach the disk.
    for lost in [
        [true, false, false],
        [false, true, false],
        [false, false, true],
        [true, true, true],
    ] {
        for whole_record in [false, true] {
            run(async {
                let home = tempfile::tempdir().unwrap();
                let disk = Blocking::default();
                let node = Node::start(home.path(), disk.clone()).await;
                let client = node.connect();
                let kept = put_small(&client, &bytes_of(9, 10_000)).await.unwrap();
                // One group of three: they wait while a fourth is being synced.
                disk.0.held.set(true);
                let mut answers = Vec::new();
                for seed in [8, 0, 1, 2] {
                    let client = client.clone();
                    answers.push(tokio::task::spawn_local(async move {
                        put_small(&client, &bytes_of(seed, 10_000)).await.unwrap()
                    }));
                    for _ in 0..20 {
                        tokio::task::yield_now().await;
                    }
                }
                disk.release();
                let mut blocks = Vec::new();
                for answer in answers {
                    blocks.push(answer.await.unwrap());
                }
                let also_kept = blocks.remove(0);
                node.crash().await;
                let path = only_file(home.path(), "packs");
                let pack = File::options().write(true).open(&path).unwrap();
                for (block, lost) in blocks.iter().zip(lost) {
                    if lost {
                        let (page, bytes) = match whole_record {
                            true => (page_of(*block), 3 * PAGE_BYTES),
                            false => (page_of(*block) + PAGE_BYTES as u64, PAGE_BYTES),
                        };
                        pack.write_all_at(&vec![0; bytes], page).unwrap();
                    }
                }

                let node = Node::start(home.path(), Blocking::default()).await;
                let client = node.connect();
                assert_eq!(get(&client, kept).await.unwrap(), bytes_of(9, 10_000));
                assert_eq!(get(&client, also_kept).await.unwrap(), bytes_of(8, 10_000));
                let mut all = vec![kept, also_kept];
                for (seed, (block, lost)) in blocks.iter().zip(lost).enumerate() {
                    let expected = if lost {
                        Err(BlockError::NoSuchBlock)
                    } else {
                        all.push(*block);
                        Ok(bytes_of(seed as u64, 10_000))
                    };
                    assert_eq!(
                        get(&client, *block).await,
                        expected,
                        "{lost} {whole_record}"
                    );
                }
                assert_eq!(usage(&client).await.damaged, 0, "torn is not damaged");
                // A new block goes behind the last whole one, never over it.
                let new = put_small(&client, &bytes_of(7, 10_000)).await.unwrap();
                all.push(new);
                let last = all.iter().rev().nth(1).unwrap();
                assert_eq!(page_of(new), page_of(*last) + 3 * PAGE_BYTES as u64);
                for block in &all {
                    get(&client, *block).await.unwrap();
                }
                // The sweep sees exactly the whole ones.
                unpin(&client, &[new]).await;
                let next = BlockCall::CondemnNext {
                    after: None,
                    limit: 100,
                };
                let (answer, _) = call(&client, next).await.unwrap();
                let BlockAnswer::Condemned {
                    blocks, next: None, ..
                } = answer
                else {
                    panic!("{answer:?}")
                };
                assert_eq!(blocks, all);
            });
        }
    }
}

#[test]
fn rubbish_behind_the_last_record_is_cleared() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        let block = put_small(&client, b"small").await.unwrap();
        node.crash().await;
        let path = only_file(home.path(), "packs");
        let pack = File::options().read(true).write(true).open(&path).unwrap();
        let size = path.metadata().unwrap().len();
        let behind = page_of(block) + PAGE_BYTES as u64;
        pack.write_all_at(&bytes_of(0, 300_000), behind).unwrap();

        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        assert_eq!(get(&client, block).await.unwrap(), b"small");
        let mut found = vec![1; 300_000];
        pack.read_exact_at(&mut found, behind).unwrap();
        assert!(found.iter().all(|byte| *byte == 0));
        assert_eq!(path.metadata().unwrap().len(), size, "still reserved");
        let next = put_small(&client, b"next").await.unwrap();
        assert_eq!(page_of(next), behind);
    });
}

#[test]
fn a_pack_without_a_head_is_removed_if_empty_and_left_alone_if_not() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("packs")).unwrap();
        let path = home.path().join("packs/00000005");
        File::create(&path).unwrap().set_len(1 << 20).unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        assert!(!path.exists());
        let client = node.connect();
        let block = put_small(&client, b"small").await.unwrap();
        node.crash().await;

        // Both copies of the head decay: the pack's blocks are damaged, the store goes on in a new pack.
        let path = only_file(home.path(), "packs");
        for copy in 0..u64::from(HEAD_PAGES) {
            flip(&path, copy * PAGE_BYTES as u64 + 20);
        }
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        assert_eq!(get(&client, block).await, Err(BlockError::Damaged));
        let next = put_small(&client, b"next").await.unwrap();
        assert!(matches!(next.place, Place::Packed { pack: 1, .. }));
        assert_eq!(get(&client, next).await.unwrap(), b"next");
        assert!(path.exists());
    });
}

#[test]
fn a_scrub_finds_damaged_blocks_and_torn_ones_are_none() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        for seed in 0..10 {
            put_file(&client, &bytes_of(seed, 70_000)).await.unwrap();
            put_small(&client, &bytes_of(seed, 7_000)).await.unwrap();
        }
        let scrub = async || {
            let pace = crate::check::Yielding;
            crate::scrub::round(&node.store, 200, &pace).await.unwrap()
        };
        assert_eq!(scrub().await, 20);
        assert_eq!(usage(&client).await.damaged, 0);
        flip(&files_below(&home.path().join("files"))[3], 69_999);
        flip(
            &only_file(home.path(), "packs"),
            5 * PAGE_BYTES as u64 - 2_000,
        );
        scrub().await;
        assert_eq!(usage(&client).await.damaged, 2);
        scrub().await;
        assert_eq!(usage(&client).await.damaged, 2);
    });
}

#[test]
fn the_time_of_the_last_scrub_is_known_after_a_restart_and_a_torn_one_is_none() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        assert_eq!(node.store.copies.inventory().scrubbed_ms, 0);
        node.store.scrubbed(1_700_000_000_000).await;
        node.store.scrubbed(1_800_000_000_000).await;
        assert_eq!(node.store.copies.inventory().scrubbed_ms, 1_800_000_000_000);
        drop(node);
        let node = Node::start(home.path(), Blocking::default()).await;
        assert_eq!(node.store.copies.inventory().scrubbed_ms, 1_800_000_000_000);
        drop(node);
        std::fs::write(home.path().join("scrubbed"), [1, 2, 3]).unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        assert_eq!(node.store.copies.inventory().scrubbed_ms, 0);
    });
}

#[test]
fn a_time_of_the_last_scrub_that_cannot_be_read_keeps_no_store_from_starting() {
    run(async {
        // One that cannot be read though it opens, and one that does not open.
        let directory = |path: &Path| std::fs::create_dir(path).unwrap();
        let link = |path: &Path| std::os::unix::fs::symlink("placement", path).unwrap();
        for make in [&directory as &dyn Fn(&Path), &link] {
            let home = tempfile::tempdir().unwrap();
            make(&home.path().join("scrubbed"));
            let node = Node::start(home.path(), Blocking::default()).await;
            assert_eq!(node.store.copies.inventory().scrubbed_ms, 0);
            put_small(&node.connect(), b"small").await.unwrap();
        }
    });
}
