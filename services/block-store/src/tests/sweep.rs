//! The three steps of a sweep, and what must not come between them.

use super::*;
use crate::disk::blocking::Blocking;
use protocol::block::{LIST_MAX, Place};
use std::os::unix::fs::MetadataExt;

async fn condemn_all(client: &Client<Blocks>, limit: u32) -> Vec<BlockRef> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let next = BlockCall::CondemnNext { after, limit };
        let (answer, _) = call(client, next).await.unwrap();
        let BlockAnswer::Condemned { blocks, next, .. } = answer else {
            panic!("{answer:?}")
        };
        assert!(blocks.len() <= limit as usize);
        all.extend(blocks);
        match next {
            None => return all,
            Some(_) => after = next,
        }
    }
}

#[test]
fn a_walk_finds_every_unpinned_block_once_and_in_order_whatever_the_page() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let (writer, sweep) = (node.connect(), node.connect());
        let mut blocks = Vec::new();
        for seed in 0..40 {
            blocks.push(put_file(&writer, &bytes_of(seed, 100)).await.unwrap());
            blocks.push(put_small(&writer, &bytes_of(seed, 5_000)).await.unwrap());
        }
        assert_eq!(condemn_all(&sweep, 7).await, [], "all pinned");
        let pinned = blocks.split_off(70);
        unpin(&writer, &blocks).await;
        blocks.sort_by_key(|block| match block.place {
            Place::File => (None, block.id),
            place => (Some(place), block.id),
        });
        for limit in [1, 3, 35, 1_000] {
            assert_eq!(condemn_all(&sweep, limit).await, blocks, "{limit}");
        }
        assert_eq!(delete(&sweep, &blocks).await, blocks);
        assert_eq!(delete(&sweep, &pinned).await, []);
        for block in blocks {
            assert_eq!(get(&writer, block).await, Err(BlockError::NoSuchBlock));
        }
        for block in pinned {
            get(&writer, block).await.unwrap();
        }
    });
}

#[test]
fn a_block_that_is_committed_between_condemn_and_delete_stays() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let (writer, sweep) = (node.connect(), node.connect());
        let bytes = bytes_of(1, 100_000);
        let block = put_file(&writer, &bytes).await.unwrap();
        unpin(&writer, &[block]).await;
        assert_eq!(condemn(&sweep, &[block]).await, [block]);
        put_file(&writer, &bytes).await.unwrap();
        assert_eq!(delete(&sweep, &[block]).await, []);
        // Not even when the pin has gone by then.
        unpin(&writer, &[block]).await;
        assert_eq!(delete(&sweep, &[block]).await, []);
        assert_eq!(get(&writer, block).await.unwrap(), bytes);
        assert_eq!(condemn(&sweep, &[block]).await, [block]);
        assert_eq!(delete(&sweep, &[block]).await, [block]);
        assert_eq!(
            delete(&sweep, &[block]).await,
            [],
            "repeating it is harmless"
        );
    });
}

#[test]
fn deletes_that_run_while_commits_run_never_take_an_acknowledged_block() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let sweep = node.connect();
        let bytes = bytes_of(1, 3_000);
        let sweeping = tokio::task::spawn_local({
            let sweep = sweep.clone();
            async move {
                loop {
                    let all = condemn_all(&sweep, 10).await;
                    delete(&sweep, &all).await;
                }
            }
        });
        for _ in 0..100 {
            let writer = node.connect();
            let block = put_file(&writer, &bytes).await.unwrap();
            for _ in 0..5 {
                assert_eq!(get(&writer, block).await.unwrap(), bytes);
            }
        }
        sweeping.abort();
    });
}

#[test]
fn only_the_connection_that_condemned_last_may_delete() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let (writer, one, two) = (node.connect(), node.connect(), node.connect());
        let block = put_small(&writer, b"small").await.unwrap();
        unpin(&writer, &[block]).await;
        condemn(&one, &[block]).await;
        condemn(&two, &[block]).await;
        assert_eq!(delete(&one, &[block]).await, []);
        assert_eq!(delete(&writer, &[block]).await, []);
        assert_eq!(delete(&two, &[block]).await, [block]);
    });
}

#[test]
fn a_store_that_restarted_has_forgotten_every_mark() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        let file = put_file(&client, b"file").await.unwrap();
        let small = put_small(&client, b"small").await.unwrap();
        unpin(&client, &[file, small]).await;
        assert_eq!(condemn(&client, &[file, small]).await.len(), 2);
        node.crash().await;
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        assert_eq!(delete(&client, &[file, small]).await, []);
        get(&client, file).await.unwrap();
        get(&client, small).await.unwrap();
    });
}

#[test]
fn the_pins_of_a_connection_end_with_it() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let (writer, sweep) = (node.connect(), node.connect());
        let file = put_file(&writer, b"file").await.unwrap();
        let small = put_small(&writer, b"small").await.unwrap();
        assert_eq!(condemn(&sweep, &[file, small]).await, []);
        drop(writer);
        while condemn(&sweep, &[file, small]).await.len() < 2 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn deleting_gives_space_back_and_an_empty_pack_goes() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        let mut blocks = Vec::new();
        loop {
            let bytes = bytes_of(blocks.len() as u64, 60_000);
            let block = put_small(&client, &bytes).await.unwrap();
            blocks.push(block);
            if matches!(block.place, Place::Packed { pack: 1, .. }) {
                break;
            }
        }
        let last = blocks.pop().unwrap();
        for list in blocks.chunks(LIST_MAX) {
            unpin(&client, list).await;
        }
        unpin(&client, &[last]).await;
        let first_pack = files_below(&home.path().join("packs"))[0].clone();
        let allocated = || first_pack.metadata().unwrap().blocks() * 512;
        let before = allocated();
        let (half, rest) = blocks.split_at(blocks.len() / 2);
        assert_eq!(condemn(&client, half).await, half);
        assert_eq!(delete(&client, half).await, half, "{} blocks", half.len());
        assert!(allocated() < before * 6 / 10, "{} of {before}", allocated());
        for (seed, block) in blocks.iter().enumerate() {
            let found = get(&client, *block).await;
            match seed < half.len() {
                true => assert_eq!(found, Err(BlockError::NoSuchBlock)),
                false => assert_eq!(found.unwrap(), bytes_of(seed as u64, 60_000)),
            }
        }
        for list in rest.chunks(LIST_MAX) {
            assert_eq!(condemn(&client, list).await, list);
            assert_eq!(delete(&client, list).await, list);
        }
        assert!(!first_pack.exists());
        assert_eq!(usage(&client).await.packs, 1);
        assert_eq!(get(&client, blocks[0]).await, Err(BlockError::NoSuchBlock));
        // The one that is written to stays, so that its number is never used again.
        assert_eq!(condemn(&client, &[last]).await, [last]);
        assert_eq!(delete(&client, &[last]).await, [last]);
        assert_eq!(usage(&client).await.packs, 1);
    });
}

#[test]
fn lists_that_are_too_long_are_refused() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let node = Node::start(home.path(), Blocking::default()).await;
        let client = node.connect();
        let block = put_small(&client, b"small").await.unwrap();
        let blocks = vec![block; LIST_MAX + 1];
        let calls = [
            BlockCall::Unpin {
                blocks: blocks.clone(),
            },
            BlockCall::Condemn {
                blocks: blocks.clone(),
            },
            BlockCall::Delete { blocks },
            BlockCall::CondemnNext {
                after: None,
                limit: LIST_MAX as u32 + 1,
            },
            BlockCall::CondemnNext {
                after: None,
                limit: 0,
            },
        ];
        for refused in calls {
            let error = call(&client, refused).await.unwrap_err();
            assert!(matches!(error, BlockError::Refused(_)), "{error:?}");
        }
    });
}
