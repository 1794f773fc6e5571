//! Blocks in packs.

use super::*;
use crate::disk::Sync;
use crate::disk::blocking::{Blocking, Event};
use crate::record::{HEAD_PAGES, HEADER_BYTES, PAGE_BYTES};
use protocol::block::Place;
use std::os::unix::fs::{FileExt, MetadataExt};

fn place_of(block: BlockRef) -> (u32, u32) {
    match block.place {
        Place::Packed { pack, page } => (pack, page),
        Place::File => panic!("not packed"),
    }
}

#[test]
fn small_blocks_of_every_size_read_back() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        let mut next = HEAD_PAGES;
        for length in [1, 2, 3_983, 3_984, 3_985, 4_096, 16_384, 65_535, 65_536] {
            let bytes = bytes_of(length as u64, length);
            let block = put_small(&client, &bytes).await.unwrap();
            assert_eq!(place_of(block), (0, next));
            next += (HEADER_BYTES + length).div_ceil(PAGE_BYTES) as u32;
            assert_eq!(get(&client, block).await.unwrap(), bytes);
        }
    });
}

#[test]
fn no_small_block_is_answered_before_its_group_is_synced() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let disk = Blocking::default();
        let node = Node::start(home.path(), disk.clone()).await;
        let client = node.connect();
        put_small(&client, b"makes the pack").await.unwrap();
        let inode = only_file(home.path(), "packs").metadata().unwrap().ino();
        disk.0.events.borrow_mut().clear();

        disk.0.held.set(true);
        let mut answers = Vec::new();
        for seed in 0..20 {
            let client = client.clone();
            answers.push(tokio::task::spawn_local(async move {
                put_small(&client, &bytes_of(seed, 5_000)).await.unwrap()
            }));
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        assert!(answers.iter().all(|answer| !answer.is_finished()));
        disk.release();
        for (seed, answer) in answers.into_iter().enumerate() {
            let block = answer.await.unwrap();
            let bytes = get(&client, block).await.unwrap();
            assert_eq!(bytes, bytes_of(seed as u64, 5_000));
        }
        // The first went alone, the nineteen that came meanwhile together: one write and one sync each.
        let synced = Event::Synced {
            inode,
            sync: Sync::Data,
        };
        let wrote = |records: usize| Event::Wrote {
            inode,
            bytes: records * 2 * PAGE_BYTES,
        };
        let expected = [wrote(1), synced, wrote(19), synced];
        assert_eq!(*disk.0.events.borrow(), expected);
    });
}

#[test]
fn a_wrong_name_or_size_is_refused_at_once() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        let store = async |id, bytes: Vec<u8>| {
            let store = BlockCall::Store {
                id,
                key: KEY,
                bytes,
            };
            call(&client, store).await.unwrap_err()
        };
        let error = store(id_of(b"right"), b"wrong".to_vec()).await;
        assert_eq!(error, BlockError::Damaged);
        for length in [0, PACKED_BYTES_MAX + 1] {
            let bytes = bytes_of(0, length);
            let error = store(id_of(&bytes), bytes).await;
            assert!(matches!(error, BlockError::Refused(_)));
        }
    });
}

#[test]
fn a_flipped_bit_anywhere_in_a_record_is_never_handed_out() {
    for byte in [0, 5, 9, 13, 20, 26, 31, 33, 70, 100, 111, 112, 2_000, 5_111] {
        run(async {
            let home = tempfile::tempdir().unwrap();
            let node = Node::start(home.path(), Blocking::default()).await;
            let client = node.connect();
            let block = put_small(&client, &bytes_of(1, 5_000)).await.unwrap();
            let (_, page) = place_of(block);
            let pack = only_file(home.path(), "packs");
            flip(&pack, u64::from(page) * PAGE_BYTES as u64 + byte);
            assert_eq!(
                get(&client, block).await,
                Err(BlockError::Damaged),
                "{byte}"
            );
            assert_eq!(
                get(&client, block).await,
                Err(BlockError::Damaged),
                "each time"
            );
            assert_eq!(usage(&client).await.damaged, 1, "counted once");
        });
    }
}

#[test]
fn a_reference_to_another_place_finds_nothing() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        let block = put_small(&client, &bytes_of(1, 5_000)).await.unwrap();
        let other = put_small(&client, &bytes_of(2, 5_000)).await.unwrap();
        let (pack, page) = place_of(block);
        let wrong = [
            Place::Packed { pack: 1, page },
            Place::Packed {
                pack,
                page: page + 1,
            },
            Place::Packed { pack, page: 0 },
            Place::Packed {
                pack,
                page: u32::MAX,
            },
            Place::Packed {
                pack: u32::MAX,
                page: u32::MAX,
            },
            other.place,
            Place::File,
        ];
        for place in wrong {
            let result = get(&client, BlockRef { place, ..block }).await;
            assert_eq!(result, Err(BlockError::NoSuchBlock), "{place:?}");
        }
        for length in [4_999, 5_001, 65_536, 65_537] {
            let result = get(&client, BlockRef { length, ..block }).await;
            assert_eq!(result, Err(BlockError::NoSuchBlock), "{length}");
        }
        assert_eq!(usage(&client).await.damaged, 0);
    });
}

#[test]
fn bytes_that_look_like_a_record_are_not_taken_for_one() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        let victim = put_small(&client, b"victim").await.unwrap();
        // A forger who has seen a record's page stores it inside a block of his own, where it would lie on a page boundary.
        let pack = only_file(home.path(), "packs");
        let mut page = vec![0; PAGE_BYTES];
        let at = u64::from(place_of(victim).1) * PAGE_BYTES as u64;
        std::fs::File::open(&pack)
            .unwrap()
            .read_exact_at(&mut page, at)
            .unwrap();
        let mut bytes = vec![7; PAGE_BYTES - HEADER_BYTES];
        bytes.extend_from_slice(&page);
        let forged = put_small(&client, &bytes).await.unwrap();
        unpin(&client, &[victim, forged]).await;
        let next = BlockCall::CondemnNext {
            after: None,
            limit: 10,
        };
        let (answer, _) = call(&client, next).await.unwrap();
        let BlockAnswer::Condemned {
            blocks, next: None, ..
        } = answer
        else {
            panic!("{answer:?}")
        };
        assert_eq!(blocks, [victim, forged]);
        let (pack, page) = place_of(forged);
        let inside = BlockRef {
            place: Place::Packed {
                pack,
                page: page + 1,
            },
            ..victim
        };
        assert!(get(&client, inside).await.is_err());
        // Also when the block around it has gone.
        assert_eq!(delete(&client, &[forged]).await, [forged]);
        assert_eq!(condemn(&client, &[inside]).await, []);
        assert_eq!(get(&client, victim).await.unwrap(), b"victim");
    });
}

#[test]
fn a_failed_sync_of_a_pack_is_answered_to_all_and_ends_the_store() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let disk = Blocking::default();
        let node = Node::start(home.path(), disk.clone()).await;
        let client = node.connect();
        put_small(&client, b"makes the pack").await.unwrap();
        disk.0.broken.set(true);
        let mut answers = Vec::new();
        for seed in 0..5 {
            let client = client.clone();
            answers.push(tokio::task::spawn_local(async move {
                put_small(&client, &bytes_of(seed, 5_000)).await
            }));
        }
        for answer in answers {
            let answer = answer.await.unwrap();
            assert!(matches!(answer, Err(BlockError::Disk(_))), "{answer:?}");
        }
        node.store.failed().await;
    });
}

#[test]
fn a_full_pack_is_cut_to_size_and_the_next_begins() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        let mut blocks = vec![put_small(&client, b"first").await.unwrap()];
        let pages = only_file(home.path(), "packs").metadata().unwrap().len() / PAGE_BYTES as u64;
        while place_of(*blocks.last().unwrap()).0 == 0 {
            assert!((blocks.len() as u64) < pages);
            let bytes = bytes_of(blocks.len() as u64, 61_000);
            blocks.push(put_small(&client, &bytes).await.unwrap());
        }
        let last_of_first = blocks[blocks.len() - 2];
        let end = place_of(last_of_first).1 + 15;
        let first = &files_below(&home.path().join("packs"))[0];
        let size = first.metadata().unwrap().len();
        assert_eq!(size, u64::from(end) * PAGE_BYTES as u64);
        for (seed, block) in blocks.iter().enumerate().skip(1) {
            let bytes = get(&client, *block).await.unwrap();
            assert_eq!(bytes, bytes_of(seed as u64, 61_000));
        }
        assert_eq!(usage(&client).await.packs, 2);
    });
}

#[test]
fn the_web_service_opens_blocks_and_does_nothing_else() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let bytes = bytes_of(1, 1_000);
        let block = put_small(&node.connect(), &bytes).await.unwrap();
        let web = node.connect_as("web");
        assert_eq!(get(&web, block).await.unwrap(), bytes);
        let blocks = vec![block];
        for may_not in [
            BlockCall::Create { length: 1 },
            BlockCall::Condemn {
                blocks: blocks.clone(),
            },
            BlockCall::Delete {
                blocks: blocks.clone(),
            },
            BlockCall::Unpin { blocks },
        ] {
            let refused = call(&web, may_not).await;
            assert!(matches!(refused, Err(BlockError::Refused(_))));
        }
    });
}
