//! Random operations, with crashes in between, against a model that is a map.

use super::*;
use crate::disk::blocking::Blocking;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Step {
    Put {
        seed: u64,
        length: usize,
        file: bool,
    },
    Get {
        which: usize,
    },
    Unpin {
        which: usize,
    },
    Sweep {
        which: usize,
        again: bool,
    },
    Reconnect,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u64, 1..9_000_usize, any::<bool>())
            .prop_map(|(seed, length, file)| Step::Put { seed, length, file }),
        4 => any::<usize>().prop_map(|which| Step::Get { which }),
        3 => any::<usize>().prop_map(|which| Step::Unpin { which }),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, again)| Step::Sweep { which, again }),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Crash),
    ]
}

/// What a block should be: its bytes, and how often it is pinned.
struct Expected {
    bytes: Vec<u8>,
    pins: u32,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn acknowledged_blocks_stay_until_they_are_swept(steps in proptest::collection::vec(step(), 1..60)) {
        run(async move {
            let home = tempfile::tempdir().unwrap();
            let mut node = Node::start(home.path(), Blocking::default()).await;
            let mut client = node.connect();
            let mut model: BTreeMap<BlockRef, Expected> = BTreeMap::new();
            let mut gone: Vec<BlockRef> = Vec::new();
            for step in steps {
                let pick = |which: usize| model.keys().nth(which % model.len().max(1)).copied();
                match step {
                    Step::Put { seed, length, file } => {
                        let bytes = bytes_of(seed, length);
                        let put = if file {
                            put_file(&client, &bytes).await
                        } else {
                            put_small(&client, &bytes).await
                        };
                        let block = put.unwrap();
                        gone.retain(|old| *old != block);
                        model.entry(block).or_insert(Expected { bytes, pins: 0 }).pins += 1;
                    }
                    Step::Get { which } => {
                        if let Some(block) = pick(which) {
                            assert_eq!(get(&client, block).await.unwrap(), model[&block].bytes);
                        }
                        if let Some(block) = gone.get(which % gone.len().max(1)) {
                            assert_eq!(get(&client, *block).await, Err(BlockError::NoSuchBlock));
                        }
                    }
                    Step::Unpin { which } => {
                        if let Some(block) = pick(which) {
                            unpin(&client, &[block]).await;
                            let expected = model.get_mut(&block).unwrap();
                            expected.pins = expected.pins.saturating_sub(1);
                        }
                    }
                    Step::Sweep { which, again } => {
                        let Some(block) = pick(which) else { continue };
                        let marked = condemn(&client, &[block]).await;
                        assert_eq!(marked.is_empty(), model[&block].pins > 0);
                        if again && block.place == protocol::block::Place::File {
                            put_file(&client, &model[&block].bytes).await.unwrap();
                            model.get_mut(&block).unwrap().pins += 1;
                        }
                        let removed = delete(&client, &[block]).await;
                        assert_eq!(removed.is_empty(), model[&block].pins > 0);
                        if !removed.is_empty() {
                            model.remove(&block);
                            gone.push(block);
                        }
                    }
                    Step::Reconnect => {
                        drop(client);
                        // The old connection's pins go when the store sees its end.
                        for _ in 0..100 {
                            tokio::task::yield_now().await;
                        }
                        client = node.connect();
                        model.values_mut().for_each(|expected| expected.pins = 0);
                    }
                    Step::Crash => {
                        node.crash().await;
                        node = Node::start(home.path(), Blocking::default()).await;
                        client = node.connect();
                        model.values_mut().for_each(|expected| expected.pins = 0);
                    }
                }
            }
            for (block, expected) in &model {
                assert_eq!(get(&client, *block).await.unwrap(), expected.bytes);
            }
        });
    }

    #[test]
    fn arbitrary_damage_gives_an_error_or_the_right_bytes(
        wounds in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1..5_000_usize, any::<u64>()), 1..12),
        cut: bool,
    ) {
        run(async move {
            use std::os::unix::fs::FileExt;
            let home = tempfile::tempdir().unwrap();
            let node = Node::start(home.path(), Blocking::default()).await;
            let client = node.connect();
            let mut blocks = Vec::new();
            for seed in 0..8 {
                let (large, small) = (bytes_of(seed, 9_000), bytes_of(seed, 5_000));
                blocks.push((put_file(&client, &large).await.unwrap(), large));
                blocks.push((put_small(&client, &small).await.unwrap(), small));
            }
            node.crash().await;
            let mut paths = files_below(&home.path().join("files"));
            // The pack is hit as often as all files together, and near its beginning, where its records are.
            let pack = only_file(home.path(), "packs");
            paths.extend(vec![pack; 8]);
            for (which, at, length, seed) in wounds {
                let path = &paths[which.index(paths.len())];
                let size = path.metadata().unwrap().len().min(80_000);
                let file = File::options().write(true).open(path).unwrap();
                let at = at.index(size as usize + 1) as u64;
                file.write_all_at(&bytes_of(seed, length), at).unwrap();
                if cut {
                    file.set_len(at).unwrap();
                }
            }
            let node = Node::start(home.path(), Blocking::default()).await;
            let client = node.connect();
            crate::scrub::round(&node.store, 0, &crate::check::Yielding).await.unwrap();
            for (block, bytes) in &blocks {
                match get(&client, *block).await {
                    Ok(found) => assert_eq!(found, *bytes),
                    Err(BlockError::Damaged | BlockError::NoSuchBlock) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            let all: Vec<BlockRef> = blocks.iter().map(|(block, _)| *block).collect();
            let marked = condemn(&client, &all).await;
            assert_eq!(delete(&client, &marked).await, marked);
            let next = BlockCall::CondemnNext { after: None, limit: 1_000 };
            call(&client, next).await.unwrap();
            let again = put_small(&client, b"it goes on").await.unwrap();
            assert_eq!(get(&client, again).await.unwrap(), b"it goes on");
        });
    }
}
