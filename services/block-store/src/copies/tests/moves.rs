//! The placement changes while blocks are there.

use super::*;

/// Every partition of four on three of four nodes.
const ROUND: &[&[u8]] = &[&[0, 1, 2], &[1, 2, 3], &[2, 3, 0], &[3, 0, 1]];

async fn fill(world: &World, blocks: u64) -> Vec<(BlockRef, Vec<u8>)> {
    let mut all = Vec::new();
    for seed in 0..blocks {
        let bytes = bytes_of(seed, 70_000);
        let block = put_file(&world.client(0), &bytes).await.unwrap();
        all.push((block, bytes));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    all
}

fn homes_by(lists: &[&[u8]], block: &BlockRef) -> Vec<usize> {
    let list = lists[usize::from(block.id.0[0]) % lists.len()];
    let mut nodes: Vec<usize> = list.iter().map(|node| usize::from(*node)).collect();
    nodes.sort_unstable();
    nodes
}

#[test]
fn a_newcomer_gets_its_share_and_what_has_moved_goes_only_then() {
    run(async {
        let world = World::of(4).await;
        world.place(1, THREE, None).await;
        let blocks = fill(&world, 24).await;
        world.place(2, THREE, Some(ROUND)).await;
        // In the middle of it: written to both, read from either.
        let bytes = bytes_of(99, 70_000);
        let new = put_file(&world.client(3), &bytes).await.unwrap();
        for node in 0..4 {
            assert_eq!(get(&world.client(node), new).await.unwrap(), bytes);
        }
        for node in 0..4 {
            assert_eq!(world.copies(node).audit().await, Ok(0));
        }
        world.place(3, ROUND, None).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        for node in 0..4 {
            world.copies(node).make_up_once().await;
            assert_eq!(world.copies(node).audit().await, Ok(0));
            world.copies(node).let_strays_go_beyond(0).await;
        }
        for (block, bytes) in &blocks {
            assert_eq!(world.holders(block), homes_by(ROUND, block));
            for node in 0..4 {
                assert_eq!(get(&world.client(node), *block).await.unwrap(), *bytes);
            }
        }
    });
}

#[test]
fn a_disk_that_was_lost_is_filled_by_the_others_and_nothing_is_sent_twice() {
    run(async {
        let mut world = World::of(3).await;
        world.place(1, THREE, None).await;
        let blocks = fill(&world, 12).await;
        world.crash(1).await;
        world.homes[1] = directory();
        world.start(1).await;
        world.place(2, THREE, None).await;
        world.network.puts.set(0);
        assert_eq!(world.copies(0).audit().await, Ok(0));
        assert_eq!(world.copies(2).audit().await, Ok(0));
        assert_eq!(world.network.puts.get(), 12);
        assert!(
            blocks
                .iter()
                .all(|(block, _)| world.holders(block) == [0, 1, 2])
        );
    });
}

#[test]
fn a_store_says_when_it_has_settled() {
    run(async {
        let world = World::of(3).await;
        world.place(7, THREE, None).await;
        fill(&world, 3).await;
        world.isolate(2);
        let store = world.nodes[0].as_ref().unwrap().store.clone();
        let working = tokio::task::spawn_local(store.replicate());
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(world.copies(0).settled(), 0);
        world.heal();
        while world.copies(0).settled() != 7 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        working.abort();
    });
}
