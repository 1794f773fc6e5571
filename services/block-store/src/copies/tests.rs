//! Several stores in one process, each on a directory of its own, with a network between them that a test may cut and slow down.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod full;
mod garbage;
mod moves;
mod random;

use super::*;
use crate::disk::blocking::Blocking;
use crate::store::Store;
use crate::tests::{Node, bytes_of, files_below, flip, get, put_file, put_small, usage};
use protocol::block::{BLOCK_BYTES_MAX, BlockCall, Blocks, Epoch};
use protocol::copies::{NAMES_MAX, PARTITIONS, PlacedNode};
use runtime::Client;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// In memory where the host has a file system there: these tests are about what is told to whom, and a disk would be most of their time.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// The wire between the stores.
#[derive(Default)]
struct Network {
    stores: RefCell<BTreeMap<String, Rc<Store<Blocking>>>>,
    /// From whom to whom nothing goes.
    cut: RefCell<BTreeSet<(String, String)>>,
    /// How long a node takes to answer.
    delays: RefCell<BTreeMap<String, Duration>>,
    /// How many bytes of an answer that is still to come each node sends in a second, since …
    rates: RefCell<BTreeMap<String, u64>>,
    /// … this time.
    begun: Cell<Option<Instant>>,
    /// How often a block was sent …
    puts: Cell<u64>,
    /// … and asked for.
    gets: Cell<u64>,
}

struct Wire {
    from: String,
    network: Rc<Network>,
}

impl Peers for Wire {
    fn call<'a>(&'a self, node: &'a str, call: CopyCall) -> PeerAnswer<'a> {
        Box::pin(async move {
            let network = &self.network;
            if matches!(call, CopyCall::Get { .. }) {
                network.gets.set(network.gets.get() + 1);
            }
            let delay = network
                .delays
                .borrow()
                .get(node)
                .copied()
                .unwrap_or_default();
            tokio::time::sleep(delay).await;
            let gone = |from: &str, to: &str| {
                let cut = network.cut.borrow();
                cut.contains(&(from.to_owned(), to.to_owned()))
            };
            let store = network.stores.borrow().get(node).cloned();
            let lost = || PeerError::Unreachable("cut".into());
            let Some(store) = store.filter(|_| !gone(&self.from, node)) else {
                return Err(lost());
            };
            if matches!(call, CopyCall::Put { .. }) {
                network.puts.set(network.puts.get() + 1);
            }
            let answer = store.copies.answer_peer(call).await;
            // The answer may be lost as well as the question.
            if gone(node, &self.from) {
                return Err(lost());
            }
            answer.map_err(PeerError::Refused)
        })
    }

    fn heard(&self, node: &str) -> u64 {
        let rate = self.network.rates.borrow().get(node).copied();
        rate.unwrap_or(0)
            * self
                .network
                .begun
                .get()
                .map_or(0, |begun| begun.elapsed().as_secs())
    }
}

/// Nodes `n0`, `n1`, … each in a zone of its own.
struct World {
    network: Rc<Network>,
    homes: Vec<tempfile::TempDir>,
    nodes: Vec<Option<Node>>,
}

fn name(node: usize) -> String {
    format!("n{node}")
}

impl World {
    async fn of(nodes: usize) -> Self {
        let mut world = Self {
            network: Rc::default(),
            homes: (0..nodes).map(|_| directory()).collect(),
            nodes: (0..nodes).map(|_| None).collect(),
        };
        for node in 0..nodes {
            world.start(node).await;
        }
        world
    }

    async fn start(&mut self, node: usize) {
        let wire = Wire {
            from: name(node),
            network: self.network.clone(),
        };
        let home = self.homes[node].path();
        let started = Node::start_among(home, Blocking::default(), Rc::new(wire)).await;
        let stores = &self.network.stores;
        stores
            .borrow_mut()
            .insert(name(node), started.store.clone());
        self.nodes[node] = Some(started);
    }

    async fn crash(&mut self, node: usize) {
        self.network.stores.borrow_mut().remove(&name(node));
        if let Some(node) = self.nodes[node].take() {
            node.crash().await;
        }
    }

    fn copies(&self, node: usize) -> Rc<Copies<Blocking>> {
        self.nodes[node].as_ref().unwrap().store.copies.clone()
    }

    fn client(&self, node: usize) -> Client<Blocks> {
        self.nodes[node].as_ref().unwrap().connect()
    }

    /// Tells every node that is up where blocks belong.
    async fn place(&self, version: u64, now: &[&[u8]], next: Option<&[&[u8]]>) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_some() {
                let placement = placement(self.nodes.len(), version, node, now, next);
                self.copies(node).place(placement).await.unwrap();
            }
        }
    }

    fn cut(&self, from: usize, to: usize) {
        self.network.cut.borrow_mut().insert((name(from), name(to)));
    }

    fn isolate(&self, node: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.cut(node, other);
            self.cut(other, node);
        }
    }

    fn heal(&self) {
        self.network.cut.borrow_mut().clear();
    }

    fn file(&self, node: usize, block: &BlockRef) -> PathBuf {
        let hex = format!("{:?}", block.id);
        let (first, rest) = hex.split_at(2);
        self.homes[node]
            .path()
            .join(format!("files/{first}/{rest}"))
    }

    /// Which nodes have the block's file.
    fn holders(&self, block: &BlockRef) -> Vec<usize> {
        let all = 0..self.nodes.len();
        all.filter(|node| self.file(*node, block).exists())
            .collect()
    }
}

impl Copies<Blocking> {
    /// All steps at once, where no write is under way.
    async fn let_strays_go_beyond(&self, bytes_max: u64) {
        let condemned = self.condemn_strays_beyond(bytes_max, self.own);
        self.let_go(self.own, condemned).await;
    }
}

/// Partition p belongs to `now[p modulo its length]`. A node that stands in no list is a gateway.
fn placement(
    nodes: usize,
    version: u64,
    own: usize,
    now: &[&[u8]],
    next: Option<&[&[u8]]>,
) -> Placement {
    let lists = |lists: &[&[u8]]| {
        (0..PARTITIONS)
            .map(|p| lists[p % lists.len()].to_vec())
            .collect()
    };
    let all: BTreeSet<u8> = now
        .iter()
        .chain(next.iter().copied().flatten())
        .flat_map(|list| list.iter().copied())
        .collect();
    let own = own as u8;
    Placement {
        version,
        copies: now[0].len() as u8,
        nodes: (0..nodes)
            .map(|node| PlacedNode {
                name: name(node),
                zone: format!("z{node}"),
            })
            .collect(),
        own: all.contains(&own).then_some(own),
        partitions: lists(now),
        next: next.map(lists),
    }
}

/// Runs a test in a runtime whose clock stands still but for sleeps.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

const THREE: &[&[u8]] = &[&[0, 1, 2]];

#[test]
fn a_block_is_on_all_of_its_nodes_and_nothing_is_owed() {
    run(async {
        let world = World::of(3).await;
        world.place(1, THREE, None).await;
        for (seed, bytes) in [(1, bytes_of(1, 300_000)), (2, bytes_of(2, 20_000))] {
            let client = world.client(seed);
            let block = match bytes.len() > 65_536 {
                true => put_file(&client, &bytes).await.unwrap(),
                false => put_small(&client, &bytes).await.unwrap(),
            };
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert_eq!(
                (block.place, world.holders(&block)),
                (Place::File, vec![0, 1, 2])
            );
            for node in 0..3 {
                assert_eq!(get(&world.client(node), block).await.unwrap(), bytes);
            }
            assert_eq!(usage(&client).await.behind, 0);
        }
        assert_eq!((world.network.puts.get(), world.network.gets.get()), (4, 0));
    });
}

#[test]
fn a_majority_suffices_and_the_rest_comes_when_it_can() {
    run(async {
        let world = World::of(3).await;
        world.place(1, THREE, None).await;
        world.isolate(2);
        let bytes = bytes_of(1, 100_000);
        let client = world.client(0);
        let block = put_file(&client, &bytes).await.unwrap();
        assert_eq!(world.holders(&block), [0, 1]);
        assert_eq!(usage(&client).await.behind, 1);
        // Pinned: whoever wrote it has yet to make it an object.
        world.heal();
        world.copies(0).make_up_once().await;
        assert_eq!(usage(&client).await.behind, 1);
        drop(client);
        tokio::time::sleep(Duration::from_millis(1)).await;
        world.copies(0).make_up_once().await;
        assert_eq!(world.holders(&block), [0, 1, 2]);
        assert_eq!(usage(&world.client(0)).await.behind, 0);
        assert_eq!(
            files_below(&world.homes[0].path().join("owed")),
            Vec::<PathBuf>::new()
        );
    });
}

#[test]
fn what_is_owed_is_remembered_by_a_store_that_was_killed() {
    run(async {
        let mut world = World::of(3).await;
        world.place(1, THREE, None).await;
        world.isolate(2);
        let block = put_file(&world.client(0), &bytes_of(1, 100_000))
            .await
            .unwrap();
        world.crash(0).await;
        world.start(0).await;
        world.heal();
        assert_eq!(usage(&world.client(0)).await.behind, 1);
        let store = world.nodes[0].as_ref().unwrap().store.clone();
        let working = tokio::task::spawn_local(store.replicate());
        while world.holders(&block) != [0, 1, 2] || usage(&world.client(0)).await.behind > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        working.abort();
    });
}

#[test]
fn without_a_majority_nothing_is_acknowledged_and_the_error_says_who_did_not_take_it() {
    run(async {
        let world = World::of(3).await;
        world.place(1, THREE, None).await;
        world.cut(0, 1);
        world.cut(2, 0); // its answers are lost: it may have the block
        let bytes = bytes_of(1, 100_000);
        let refused = put_file(&world.client(0), &bytes).await.unwrap_err();
        let text = refused.to_string();
        assert!(matches!(refused, BlockError::TooFewCopies(_)), "{text}");
        assert!(
            text.contains("only n0 of 3 nodes")
                && text.contains("n1 does not answer")
                && text.contains("n2 does"),
            "{text}"
        );
        world.heal();
        put_file(&world.client(0), &bytes).await.unwrap();
    });
}

#[test]
fn a_node_that_does_not_answer_at_all_delays_nothing_but_its_own_copy() {
    run(async {
        let world = World::of(3).await;
        world.place(1, THREE, None).await;
        let hours = Duration::from_secs(36_000);
        world.network.delays.borrow_mut().insert(name(2), hours);
        let begun = Instant::now();
        put_file(&world.client(0), &bytes_of(1, 100_000))
            .await
            .unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "{:?}",
            begun.elapsed()
        );
        world.network.delays.borrow_mut().insert(name(1), hours);
        let refused = put_file(&world.client(0), &bytes_of(2, 100_000)).await;
        assert!(matches!(refused, Err(BlockError::TooFewCopies(_))));
        assert!(begun.elapsed() < SPREAD_WITHIN * 2);
    });
}

#[test]
fn a_full_or_lying_node_counts_as_one_that_has_nothing() {
    run(async {
        let world = World::of(1).await;
        let copies = world.copies(0);
        let (id, key) = (BlockId([1; 32]), HashKey([2; 32]));
        let bytes = vec![3; 100];
        let repair = false;
        let put = CopyCall::Put {
            id,
            key,
            bytes,
            repair,
        };
        let put = copies.answer_peer(put).await;
        assert_eq!(put, Err(BlockError::Damaged));
        let empty = CopyCall::Put {
            id,
            key,
            bytes: vec![],
            repair,
        };
        assert!(copies.answer_peer(empty).await.is_err());
        let block = file(id, 100);
        let found = copies.answer_peer(CopyCall::Get { block }).await;
        assert_eq!(found, Err(BlockError::NoSuchBlock));
        let blocks = vec![id; NAMES_MAX + 1];
        let many = copies.answer_peer(CopyCall::Lacking { blocks }).await;
        assert!(matches!(many, Err(BlockError::Refused(_))));
        let blocks = vec![id];
        let lacking = copies
            .answer_peer(CopyCall::Lacking {
                blocks: blocks.clone(),
            })
            .await;
        let epoch = copies.shared.epochs.now();
        assert_eq!(lacking, Ok(CopyAnswer::Lacking { blocks, epoch }));
    });
}

#[test]
fn a_block_that_is_elsewhere_is_read_through_any_node_and_kept_for_a_while() {
    run(async {
        let world = World::of(4).await;
        world.place(1, THREE, None).await;
        let bytes = bytes_of(1, 3_000_000);
        let block = put_file(&world.client(1), &bytes).await.unwrap();
        let client = world.client(3);
        let both = tokio::join!(get(&client, block), get(&client, block));
        assert_eq!(both, (Ok(bytes.clone()), Ok(bytes.clone())));
        assert_eq!(get(&client, block).await.unwrap(), bytes);
        assert_eq!(
            world.network.gets.get(),
            1,
            "who asks for the same waits for the same"
        );
        assert_eq!(world.holders(&block), [0, 1, 2, 3]);
        world.copies(3).let_strays_go_beyond(0).await;
        assert_eq!(world.holders(&block), [0, 1, 2]);
        assert_eq!(get(&client, block).await.unwrap(), bytes);
    });
}

#[test]
fn the_next_block_is_on_its_way_while_one_is_opened() {
    run(async {
        let world = World::of(4).await;
        world.place(1, THREE, None).await;
        let mut blocks = Vec::new();
        for seed in 1..=3 {
            let block = put_file(&world.client(1), &bytes_of(seed, 100_000)).await;
            blocks.push(block.unwrap());
        }
        let [block, next, other] = blocks[..] else {
            panic!("three blocks");
        };
        let client = world.client(3);
        let open = async |block, next| {
            let next = Some(next);
            client.call(&BlockCall::Open { block, next }, &[]).await
        };
        open(block, next).await.unwrap().0.unwrap();
        while world.holders(&next) != [0, 1, 2, 3] {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // What is here is not asked for, and nothing but the hint is brought.
        open(next, block).await.unwrap().0.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(world.network.gets.get(), 2);
        assert_eq!(world.holders(&other), [0, 1, 2]);
    });
}

#[test]
fn a_stray_stays_until_all_of_its_nodes_have_it() {
    run(async {
        let world = World::of(4).await;
        world.place(1, THREE, None).await;
        world.isolate(2);
        let client = world.client(3);
        let block = put_file(&client, &bytes_of(1, 100_000)).await.unwrap();
        assert_eq!(world.holders(&block), [0, 1, 3]);
        drop(client);
        tokio::time::sleep(Duration::from_millis(1)).await;
        world.copies(3).make_up_once().await;
        world.copies(3).let_strays_go_beyond(0).await;
        assert_eq!(world.holders(&block), [0, 1, 3]);
        world.heal();
        world.copies(3).make_up_once().await;
        world.copies(3).let_strays_go_beyond(0).await;
        assert_eq!(world.holders(&block), [0, 1, 2]);
    });
}

#[test]
fn a_slow_node_is_not_waited_for_when_another_has_the_block() {
    run(async {
        let world = World::of(4).await;
        world.place(1, THREE, None).await;
        let bytes = bytes_of(1, 100_000);
        let block = put_file(&world.client(1), &bytes).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        for slow in [0, 1] {
            let seconds = Duration::from_secs(50);
            world
                .network
                .delays
                .borrow_mut()
                .insert(name(slow), seconds);
        }
        let begun = Instant::now();
        assert_eq!(get(&world.client(3), block).await.unwrap(), bytes);
        assert!(
            begun.elapsed() < Duration::from_secs(7),
            "{:?}",
            begun.elapsed()
        );
    });
}

#[test]
fn a_node_whose_bytes_keep_coming_is_waited_for_and_nobody_else_sends_them_too() {
    run(async {
        for (rate, asked) in [(100_000, 1), (10, 4)] {
            let world = World::of(4).await;
            world.place(1, THREE, None).await;
            let bytes = bytes_of(1, 100_000);
            let block = put_file(&world.client(1), &bytes).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            let network = &world.network;
            for slow in 0..3 {
                let seconds = Duration::from_secs(5);
                network.delays.borrow_mut().insert(name(slow), seconds);
                network.rates.borrow_mut().insert(name(slow), rate);
            }
            network.begun.set(Some(Instant::now()));
            // Answers are late, and so nobody is asked before the first look.
            world
                .copies(3)
                .courier(&name(0))
                .answered_after(Duration::from_secs(1));
            assert_eq!(get(&world.client(3), block).await.unwrap(), bytes);
            tokio::time::sleep(Duration::from_secs(20)).await;
            assert_eq!(network.gets.get(), asked, "at {rate} bytes a second");
        }
    });
}

#[test]
fn who_only_reads_learns_who_is_near_and_lets_those_that_are_equally_near_take_turns() {
    run(async {
        let world = World::of(4).await;
        let put_away = |node: usize, ms: u64| {
            let delay = Duration::from_millis(ms);
            world.network.delays.borrow_mut().insert(name(node), delay);
        };
        let (nearest, far) = (100, 200);
        for (node, ms) in [(0, far), (1, nearest), (2, nearest + 20)] {
            put_away(node, ms);
        }
        let gateway = world.copies(3);
        assert!(!gateway.measure().await, "there is nobody to measure");
        world.place(1, THREE, None).await;
        world.isolate(2);
        assert!(!gateway.measure().await, "one does not answer");
        world.heal();
        assert!(gateway.measure().await);
        let known = |node: usize| gateway.courier(&name(node)).round_trip();
        let known: Vec<_> = (0..3)
            .map(|node| known(node).unwrap().as_millis())
            .collect();
        assert!(
            known[0] >= 200 && known[1] >= 100 && known[2] >= 120,
            "{known:?}"
        );
        assert!(
            known[0] < 210 && known[1] < 110 && known[2] < 130,
            "{known:?}"
        );

        let mut first = BTreeMap::<u8, u32>::new();
        for seed in 0..200 {
            let id = BlockId(*blake3::hash(&[seed]).as_bytes());
            let homes = gateway.homes(&id).unwrap();
            let nodes = gateway.nearest_first(&homes, &id);
            assert_eq!(nodes[2], 0, "the farther one comes behind both");
            *first.entry(nodes[0]).or_default() += 1;
        }
        assert!(first[&1] > 50 && first[&2] > 50, "{first:?}");
    });
}

#[test]
fn a_large_block_is_asked_for_twice_only_after_the_time_that_its_bytes_take() {
    run(async {
        // Answers take as long as they do where a home's line is busy.
        for (bytes, asked) in [(1 << 16, 2), (BLOCK_BYTES_MAX as usize, 1)] {
            let world = World::of(4).await;
            world.place(1, THREE, None).await;
            let bytes = bytes_of(1, bytes);
            let block = put_file(&world.client(1), &bytes).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            for node in 0..3 {
                let delay = Duration::from_millis(500);
                world.network.delays.borrow_mut().insert(name(node), delay);
            }
            assert_eq!(get(&world.client(3), block).await.unwrap(), bytes);
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert_eq!(world.network.gets.get(), asked, "{} bytes", bytes.len());
        }
    });
}

#[test]
fn a_copy_that_is_on_its_way_is_not_sent_again() {
    run(async {
        let world = World::of(3).await;
        world.place(1, THREE, None).await;
        let seconds = Duration::from_secs(5);
        world.network.delays.borrow_mut().insert(name(2), seconds);
        let client = world.client(0);
        let block = put_file(&client, &bytes_of(1, 100_000)).await.unwrap();
        assert_eq!(world.holders(&block), [0, 1]);
        drop(client);
        tokio::time::sleep(Duration::from_millis(1)).await;
        world.copies(0).make_up_once().await;
        assert_eq!(world.holders(&block), [0, 1, 2]);
        assert_eq!(world.copies(0).behind(), 0);
        assert_eq!(world.network.puts.get(), 2);
    });
}

#[test]
fn missing_and_unreachable_are_told_apart() {
    run(async {
        let world = World::of(3).await;
        world.place(1, THREE, None).await;
        let block = file(BlockId([7; 32]), 100);
        let client = world.client(0);
        assert_eq!(get(&client, block).await, Err(BlockError::NoSuchBlock));
        world.cut(0, 2);
        let unsure = get(&client, block).await.unwrap_err().to_string();
        assert!(unsure.contains("n2 does not answer"), "{unsure}");
    });
}

#[test]
fn a_damaged_copy_is_made_good_by_a_read_and_by_the_scrub() {
    run(async {
        let world = World::of(3).await;
        world.place(1, THREE, None).await;
        let bytes = bytes_of(1, 100_000);
        let block = put_file(&world.client(0), &bytes).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        flip(&world.file(1, &block), 50_000);
        assert_eq!(get(&world.client(1), block).await.unwrap(), bytes);
        flip(&world.file(2, &block), 60_000);
        let store = world.nodes[2].as_ref().unwrap().store.clone();
        crate::scrub::round(&store, 0, &crate::check::Yielding)
            .await
            .unwrap();
        for node in [1, 2] {
            world.isolate(node);
            assert_eq!(get(&world.client(node), block).await.unwrap(), bytes);
        }
    });
}

#[test]
fn what_was_garbage_here_is_not_brought_back_at_once_but_written_again_by_whoever_wants_it() {
    run(async {
        let world = World::of(3).await;
        world.place(1, THREE, None).await;
        let bytes = bytes_of(1, 100_000);
        let block = put_file(&world.client(0), &bytes).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let there = world.copies(1);
        let removed_as_garbage = || {
            assert!(there.files.remove(&block.id));
            there.bury(&block.id);
        };
        removed_as_garbage();
        assert_eq!(world.copies(0).audit().await, Ok(1), "it is refused");
        assert!(!there.has(&block.id).unwrap());
        put_file(&world.client(0), &bytes).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(there.has(&block.id).unwrap(), "a write brings it");
        removed_as_garbage();
        tokio::time::sleep(Duration::from_secs(11 * 60)).await;
        assert_eq!(world.copies(0).audit().await, Ok(0));
        assert!(there.has(&block.id).unwrap(), "so does a repair, later");
    });
}

#[test]
fn what_one_node_alone_had_packed_comes_to_the_others_and_is_read_everywhere() {
    run(async {
        let world = World::of(3).await;
        let bytes = bytes_of(1, 20_000);
        let block = put_small(&world.client(0), &bytes).await.unwrap();
        assert!(matches!(block.place, Place::Packed { .. }));
        world.place(1, THREE, None).await;
        // Before any audit: from the node that has the record.
        assert_eq!(get(&world.client(1), block).await.unwrap(), bytes);
        assert_eq!(world.copies(0).audit().await, Ok(0));
        world.isolate(0);
        for node in 0..3 {
            assert_eq!(get(&world.client(node), block).await.unwrap(), bytes);
        }
    });
}

#[test]
fn only_metadata_says_where_blocks_belong_and_only_sound_and_newer_placements_count() {
    run(async {
        let mut world = World::of(3).await;
        let placement = placement(3, 5, 0, THREE, None);
        let told = || BlockCall::Place {
            placement: placement.clone(),
        };
        let answer = crate::tests::call(&world.client(0), told()).await;
        assert!(matches!(answer, Err(BlockError::Refused(_))));
        let metadata = world.nodes[0].as_ref().unwrap().connect_as("metadata");
        crate::tests::call(&metadata, told()).await.unwrap();
        let older = Placement {
            version: 4,
            partitions: vec![vec![1]; PARTITIONS],
            ..placement.clone()
        };
        world.copies(0).place(older).await.unwrap();
        let unsound = Placement {
            version: 6,
            partitions: vec![],
            ..placement.clone()
        };
        assert!(world.copies(0).place(unsound).await.is_err());
        assert_eq!(*world.copies(0).placement().unwrap(), placement);
        world.crash(0).await;
        world.start(0).await;
        assert_eq!(*world.copies(0).placement().unwrap(), placement);
        // A file that has decayed is not taken for "alone": nothing is stored until it is said again.
        world.crash(0).await;
        flip(&world.homes[0].path().join("placement"), 20);
        world.start(0).await;
        let refused = put_small(&world.client(0), b"x").await;
        assert!(matches!(refused, Err(BlockError::Refused(_))));
        world.copies(0).place(placement).await.unwrap();
    });
}

#[test]
fn two_nodes_with_the_same_blocks_have_the_same_tallies_though_one_packed_them() {
    run(async {
        let world = World::of(2).await;
        for seed in 0..5 {
            put_small(&world.client(0), &bytes_of(seed, 9_000))
                .await
                .unwrap();
        }
        world.place(1, &[&[0, 1]], None).await;
        let store = |node: usize| world.nodes[node].as_ref().unwrap().store.clone();
        for node in [0, 1] {
            let store = store(node);
            for first in 0..=u8::MAX {
                store.files.take_census(first);
            }
        }
        assert!(store(0).copies.inventory().tallies.is_empty());
        store(0).copies.clone().remembers_packed().await;
        let tallies = |node: usize| store(node).copies.inventory().tallies;
        let count = |node: usize| tallies(node).iter().map(|one| one.blocks).sum::<u64>();
        assert_eq!((count(0), count(1)), (5, 0), "nothing has been brought yet");
        assert_eq!(store(0).copies.audit().await, Ok(0));
        assert_eq!(tallies(0), tallies(1));
        assert_eq!(count(1), 5);
        let received = store(1).copies.inventory().received;
        assert_eq!((received.blocks, received.bytes), (5, 45_000));
        put_file(&world.client(1), &bytes_of(9, 70_000))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((tallies(0), count(0)), (tallies(1), 6));
    });
}
