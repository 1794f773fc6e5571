//! Everything at once, by a seed: writes and reads at any node, cuts, crashes, decay, a lost disk.

use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const NODES: usize = 5;
const STEPS: usize = 60;
const SEEDS: u64 = 12;
/// Each partition on three of five nodes.
const LISTS: &[&[u8]] = &[&[0, 1, 2], &[1, 2, 3], &[2, 3, 4], &[3, 4, 0], &[4, 0, 1]];

#[test]
fn what_was_acknowledged_is_read_byte_for_byte_whatever_happens_to_two_nodes() {
    let first = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seeds = first.map_or(0..SEEDS, |seed: u64| seed..seed + 1);
    for seed in seeds {
        eprintln!("seed {seed} (SEED={seed} repeats it)");
        run(one_life(StdRng::seed_from_u64(seed)));
    }
}

async fn one_life(mut random: StdRng) {
    let mut world = World::of(NODES).await;
    world.place(1, LISTS, None).await;
    let mut acknowledged = Vec::new();
    // At most one copy of a block is ever hurt for good, and a majority keeps two.
    let mut hurt = None;
    for step in 0..STEPS {
        let node = random.random_range(0..NODES);
        let up = world.nodes[node].is_some();
        match random.random_range(0..12) {
            0..=3 if up => {
                let bytes = bytes_of(random.random(), random.random_range(1..90_000));
                if let Ok(block) = put_file(&world.client(node), &bytes).await {
                    acknowledged.push((block, bytes));
                }
            }
            4..=6 if up && !acknowledged.is_empty() => {
                let (block, bytes) = &acknowledged[random.random_range(0..acknowledged.len())];
                match get(&world.client(node), *block).await {
                    Ok(found) => assert_eq!(found, *bytes, "step {step}"),
                    Err(BlockError::TooFewCopies(_)) => {} // nobody who has it can be asked just now
                    Err(error) => panic!("step {step}: {error}"),
                }
            }
            7 => world.cut(node, random.random_range(0..NODES)),
            8 => world.heal(),
            9 if up => world.crash(node).await,
            10 if !up => world.start(node).await,
            11 if up && hurt.is_none_or(|hurt| hurt == node) && !acknowledged.is_empty() => {
                hurt = Some(node);
                let (block, _) = &acknowledged[random.random_range(0..acknowledged.len())];
                let path = world.file(node, block);
                if path.exists() {
                    flip(&path, random.random_range(0..u64::from(block.length)));
                    // What was checked before is not read again at once.
                    world
                        .copies(node)
                        .shared
                        .checked
                        .borrow_mut()
                        .remove(&block.id);
                }
            }
            _ => tokio::time::sleep(Duration::from_secs(random.random_range(0..60))).await,
        }
    }
    // Peace: after an audit everything is everywhere that it belongs, and reads back anywhere.
    world.heal();
    for node in 0..NODES {
        if world.nodes[node].is_none() {
            world.start(node).await;
        }
    }
    for node in 0..NODES {
        let store = world.nodes[node].as_ref().unwrap().store.clone();
        crate::scrub::round(&store, 0, &crate::check::Yielding)
            .await
            .unwrap();
    }
    for node in 0..NODES {
        world.copies(node).make_up_once().await;
        assert_eq!(world.copies(node).audit().await, Ok(0));
        assert_eq!(world.copies(node).behind(), 0);
    }
    for node in 0..NODES {
        world.copies(node).let_strays_go_beyond(0).await;
    }
    for (block, bytes) in &acknowledged {
        let list = LISTS[usize::from(block.id.0[0]) % LISTS.len()];
        let mut homes: Vec<usize> = list.iter().map(|node| usize::from(*node)).collect();
        homes.sort_unstable();
        assert_eq!(world.holders(block), homes);
        for node in 0..NODES {
            assert_eq!(get(&world.client(node), *block).await.unwrap(), *bytes);
        }
    }
}
