//! Clients at all nodes at once, while nodes are killed and started, cut off from each other and slowed down: what they saw could have been, and nothing
//! that was acknowledged is lost. `SEED=n` runs one seed.

use super::linear::{Operation, Seen, is_linearizable};
use super::*;
use std::collections::HashMap;

/// How long clients go on, in virtual time.
const STORM: Duration = Duration::from_secs(40);
const CLIENTS: u64 = 6;
const KEYS: u64 = 5;

/// What all clients saw, by key.
#[derive(Default)]
struct History {
    by_key: RefCell<HashMap<u64, Vec<Operation>>>,
    moment: Cell<u64>,
    value: Cell<u64>,
    acknowledged: Cell<u64>,
    unanswered: Cell<u64>,
}

impl History {
    fn moment(&self) -> u64 {
        self.moment.set(self.moment.get() + 1);
        self.moment.get()
    }

    fn saw(&self, key: u64, from: u64, seen: Seen) {
        let to = self.moment();
        let counter = match seen {
            Seen::MayHaveWritten(_) | Seen::MayHaveWrittenFirst(_) | Seen::MayHaveRemoved => {
                &self.unanswered
            }
            _ => &self.acknowledged,
        };
        counter.set(counter.get() + 1);
        let operation = Operation { seen, from, to };
        self.by_key
            .borrow_mut()
            .entry(key)
            .or_default()
            .push(operation);
    }
}

/// One operation at a node.
async fn act(world: &World, history: &History, bucket: BucketId, node: &str) {
    let number = world.net.roll(KEYS);
    let key = format!("key-{number}");
    history.value.set(history.value.get() + 1);
    let value = history.value.get();
    let from = history.moment();
    let seen = match world.net.roll(10) {
        0..=4 => match world.call(node, get(bucket, &key)).await {
            Ok(reply) => Seen::Read(Some(value_of(&reply))),
            Err(MetadataError::NoSuchKey) => Seen::Read(None),
            // A read that was not answered says nothing.
            Err(MetadataError::Unavailable(_)) => return,
            Err(error) => panic!("{error:?}"),
        },
        5 | 6 => match world
            .call(node, put(bucket, &key, value, Precondition::None))
            .await
        {
            Ok(_) => Seen::Wrote(value),
            Err(MetadataError::Unavailable(_)) => Seen::MayHaveWritten(value),
            Err(error) => panic!("{error:?}"),
        },
        7 | 8 => match world
            .call(node, put(bucket, &key, value, Precondition::Absent))
            .await
        {
            Ok(_) => Seen::WroteFirst(value),
            Err(MetadataError::PreconditionFailed) => Seen::NotFirst,
            Err(MetadataError::Unavailable(_)) => Seen::MayHaveWrittenFirst(value),
            Err(error) => panic!("{error:?}"),
        },
        _ => match world.call(node, delete(bucket, &key)).await {
            Ok(_) => Seen::Removed,
            Err(MetadataError::Unavailable(_)) => Seen::MayHaveRemoved,
            Err(error) => panic!("{error:?}"),
        },
    };
    history.saw(number, from, seen);
}

/// Something goes wrong, or right again.
async fn disturb(world: &World, nodes: u64) {
    let name = |number: u64| format!("n{}", number + 1);
    let (one, other) = (name(world.net.roll(nodes)), name(world.net.roll(nodes)));
    let running = world.names();
    match world.net.roll(9) {
        0 | 1 if running.len() as u64 == nodes => world.kill(&one),
        0..=3 => {
            for number in 0..nodes {
                if !running.contains(&name(number)) {
                    world.start(&name(number)).await;
                }
            }
        }
        4 => world.isolate(&one),
        5 if one != other => world.cut(&one, &other),
        6 => {
            let slow = world.net.roll(120);
            world.net.to_ms.set(1 + slow);
        }
        _ => world.heal(),
    }
}

async fn storm(world: Rc<World>, nodes: u8) {
    world.of(nodes).await;
    let bucket = world.bucket("n1", "home").await;
    world.net.lost.set(10);
    world.net.doubled.set(30);
    let history = Rc::new(History::default());
    let over = Instant::now() + STORM;
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let (world, history) = (world.clone(), history.clone());
        clients.push(tokio::task::spawn_local(async move {
            let node = format!("n{}", client % u64::from(nodes) + 1);
            while Instant::now() < over {
                act(&world, &history, bucket, &node).await;
                let pause = 100 + world.net.roll(900);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }));
    }
    while Instant::now() < over {
        tokio::time::sleep(Duration::from_millis(500 + world.net.roll(2_500))).await;
        disturb(&world, u64::from(nodes)).await;
    }
    world.heal();
    world.net.lost.set(0);
    for number in 1..=nodes {
        let name = format!("n{number}");
        if !world.names().contains(&name) {
            world.start(&name).await;
        }
    }
    for client in clients {
        client.await.unwrap();
    }
    // In peace everything is answered again, and belongs to the same history.
    for key in 0..KEYS {
        for number in 1..=nodes {
            let from = history.moment();
            let read = world
                .call(&format!("n{number}"), get(bucket, &format!("key-{key}")))
                .await;
            let seen = match read {
                Ok(reply) => Some(value_of(&reply)),
                Err(MetadataError::NoSuchKey) => None,
                Err(error) => panic!("in peace: {error:?}"),
            };
            history.saw(key, from, Seen::Read(seen));
        }
    }
    for (key, operations) in history.by_key.borrow().iter() {
        assert!(is_linearizable(operations), "key {key}: {operations:#?}");
    }
    let (known, unknown) = (history.acknowledged.get(), history.unanswered.get());
    println!("{known} operations answered, {unknown} writes not");
    assert!(known > 50, "only {known} operations came through");
}

fn delete(bucket: BucketId, key: &str) -> protocol::metadata::Operation {
    Change::DeleteObject {
        bucket,
        key: key.into(),
        version: None,
        precondition: Precondition::None,
        bypass: false,
    }
    .into()
}

fn storms(nodes: u8, seeds: std::ops::Range<u64>) {
    let one = std::env::var("SEED").ok().map(|seed| seed.parse().unwrap());
    let seeds = one.map_or(seeds, |seed: u64| seed..seed + 1);
    for seed in seeds {
        println!("SEED={seed}");
        World::run(seed, 2, |world| storm(world, nodes));
    }
}

#[test]
fn three_nodes_in_a_storm_are_linearizable_and_lose_nothing() {
    storms(3, 0..2);
}

#[test]
fn five_nodes_in_a_storm_are_linearizable_and_lose_nothing() {
    storms(5, 100..101);
}
