//! Sweeps of blocks that several nodes share: the barrier, and a whole cluster of models around the real state, whose messages are delayed, doubled and lost as a
//! seed says. `SEED=n` runs one seed, `SEEDS=n` so many.

use super::*;
use crate::tests::Dice;
use std::collections::{BTreeMap, BTreeSet};

fn epoch(store: u64, number: u64) -> Epoch {
    Epoch { store, number }
}

fn brought(change: Change, witness: &[Epoch]) -> AnyChange {
    let witness = witness.to_vec();
    AnyChange::Brought { change, witness }
}

#[test]
fn a_write_that_saw_its_blocks_before_the_barrier_is_refused_and_leaves_no_trace() {
    let mut store = opened();
    let write = |witness: &[Epoch]| brought(put("k", Content::Blocks(blocks(&[1]))), witness);
    run(&mut store, AnyChange::Barrier { since: epoch(7, 5) }).unwrap();
    let before = store.clone();
    for stale in [
        vec![epoch(7, 4)],
        vec![epoch(6, 9), epoch(7, 4)],
        vec![epoch(7, 0), epoch(8, 1)],
    ] {
        let refused = run(&mut store, write(&stale));
        let begun = vec![epoch(7, 5)];
        assert_eq!(refused, Err(MetadataError::BlocksStale(begun)));
        assert_eq!(store, before);
    }
    run(&mut store, write(&[epoch(6, 0), epoch(7, 5)])).unwrap();
    assert_eq!(counts(&store), [(1, 1)]);
}

#[test]
fn a_barrier_never_falls_and_a_store_that_comes_with_a_lower_one_is_told_what_happened() {
    let mut store = opened();
    for number in [5, 3, 5] {
        let since = epoch(7, number);
        let raised = run(&mut store, AnyChange::Barrier { since });
        match number {
            5 => assert_eq!(raised, Ok(Reply::Done)),
            _ => {
                let why = raised.unwrap_err().to_string();
                assert!(
                    why.contains("disk is older") && why.contains("node revoke"),
                    "{why}"
                );
            }
        }
        assert!(has_barrier(&store, &epoch(7, 5)).unwrap());
        assert!(!has_barrier(&store, &epoch(7, 6)).unwrap());
        assert!(!has_barrier(&store, &epoch(8, 1)).unwrap());
    }
}

#[test]
fn what_is_brought_and_refused_for_another_reason_is_garbage() {
    let mut store = opened();
    run(&mut store, put("k", inline("x"))).unwrap();
    let write = put_if("k", Content::Blocks(blocks(&[1])), Precondition::Absent);
    let refused = run(&mut store, brought(write, &[epoch(7, 1)]));
    assert_eq!(refused, Err(MetadataError::PreconditionFailed));
    assert_eq!(garbage_numbers(&store), [1]);
}

#[test]
fn a_record_of_one_node_keeps_its_copies_on_the_others() {
    let mut store = opened();
    let record = BlockRef {
        place: Place::Packed { pack: 3, page: 9 },
        ..block(1)
    };
    run(&mut store, put("k", Content::Blocks(vec![record]))).unwrap();
    assert!(is_referenced(&store, &record).unwrap());
    assert!(is_referenced(&store, &block(1)).unwrap());
    assert!(!is_referenced(&store, &block(2)).unwrap());
    run(&mut store, put("l", Content::Blocks(blocks(&[2])))).unwrap();
    let another = BlockRef {
        id: block(2).id,
        ..record
    };
    assert!(
        !is_referenced(&store, &another).unwrap(),
        "a record is found by its place only"
    );
}

const NODES: usize = 4;
const SHARDS: usize = 2;
const BLOCKS: u64 = 9;
const KEYS: u64 = 5;
const EVENTS: usize = 800;
/// Sweeps under way at a time.
const SWEEPS_MAX: usize = 4;
const SEEDS: u64 = 600;

/// One node's store of blocks.
#[derive(Default)]
struct Disk {
    life: u64,
    condemns: u64,
    blocks: BTreeSet<u8>,
    /// And by which sweep.
    marks: BTreeMap<u8, u64>,
}

impl Disk {
    fn now(&self, node: usize) -> Epoch {
        epoch(node as u64, (self.life << 32) + self.condemns)
    }

    /// Says that it has a block.
    fn touch(&mut self, node: usize, block: u8) -> Epoch {
        self.marks.remove(&block);
        self.now(node)
    }
}

/// One shard: its log applied by the leader, and a copy of the rows that lags behind.
struct Shard {
    log: Vec<AnyChange>,
    rows: MemoryStore,
    copy: MemoryStore,
    copied: usize,
}

impl Shard {
    fn apply(&mut self, change: AnyChange) -> Outcome {
        self.log.push(change.clone());
        run(&mut self.rows, change)
    }

    fn catch_up(&mut self, entries: usize) {
        let upto = (self.copied + entries).min(self.log.len());
        for change in &self.log[self.copied..upto] {
            let _ = run(&mut self.copy, change.clone());
        }
        self.copied = upto;
    }
}

/// A write of a client, until it is applied or given up.
#[derive(Clone)]
struct Write {
    shard: usize,
    key: String,
    blocks: Vec<u8>,
    seen: BTreeMap<u8, BTreeMap<usize, Epoch>>,
    is_proposed: bool,
}

struct Sweep {
    node: usize,
    life: u64,
    since: Epoch,
    blocks: BTreeSet<u8>,
    looked: BTreeSet<usize>,
}

/// On its way for as long as the seed wants.
#[derive(Clone)]
enum Message {
    Put {
        write: u64,
        block: u8,
        to: usize,
    },
    Kept {
        write: u64,
        block: u8,
        from: usize,
        epoch: Epoch,
    },
    Propose {
        shard: usize,
        write: u64,
        change: Box<AnyChange>,
    },
    Stale {
        write: u64,
    },
    Copy {
        block: u8,
        to: usize,
    },
    Barrier {
        sweep: u64,
        shard: usize,
    },
    Delete {
        sweep: u64,
        blocks: BTreeSet<u8>,
    },
}

struct Cluster {
    dice: Dice,
    disks: Vec<Disk>,
    shards: Vec<Shard>,
    writes: BTreeMap<u64, Write>,
    sweeps: BTreeMap<u64, Sweep>,
    net: Vec<Message>,
    next: u64,
    applied: u64,
    stale: u64,
    removed: u64,
}

fn homes(block: u8) -> [usize; 3] {
    [0, 1, 2].map(|place| (usize::from(block) + place) % NODES)
}

impl Cluster {
    fn new(seed: u64) -> Self {
        let shard = |number| {
            let mut rows = opened();
            if number == 1 {
                set_versioning(&mut rows, Versioning::Enabled);
            }
            Shard {
                log: Vec::new(),
                copy: rows.clone(),
                rows,
                copied: 0,
            }
        };
        Self {
            dice: Dice(seed),
            disks: (0..NODES).map(|_| Disk::default()).collect(),
            shards: (0..SHARDS).map(shard).collect(),
            writes: BTreeMap::new(),
            sweeps: BTreeMap::new(),
            net: Vec::new(),
            next: 0,
            applied: 0,
            stale: 0,
            removed: 0,
        }
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.dice.roll(sides as u64) as usize
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn begin_write(&mut self) {
        let count = 1 + self.roll(2);
        let blocks = (0..count).map(|_| self.dice.roll(BLOCKS) as u8).collect();
        let shard = self.roll(SHARDS);
        let key = self.dice.roll(KEYS).to_string();
        let write = Write {
            shard,
            key,
            blocks,
            seen: BTreeMap::new(),
            is_proposed: false,
        };
        let number = self.number();
        self.writes.insert(number, write);
        self.spread(number);
    }

    /// Every node that its blocks belong to is sent them, again if need be.
    fn spread(&mut self, write: u64) {
        let Some(one) = self.writes.get_mut(&write) else {
            return;
        };
        one.seen.clear();
        one.is_proposed = false;
        for block in one.blocks.clone() {
            for to in homes(block) {
                self.net.push(Message::Put { write, block, to });
            }
        }
    }

    /// Proposes a write when a majority has each of its blocks; sometimes one more is waited for.
    fn kept(&mut self, write: u64, block: u8, from: usize, at: Epoch) {
        let waits = self.roll(3) == 0;
        let Some(one) = self.writes.get_mut(&write) else {
            return;
        };
        one.seen.entry(block).or_default().insert(from, at);
        let enough = |block: &u8| one.seen.get(block).is_some_and(|seen| seen.len() >= 2);
        if waits || one.is_proposed || !one.blocks.iter().all(enough) {
            return;
        }
        one.is_proposed = true;
        let mut witness: BTreeMap<u64, u64> = BTreeMap::new();
        for seen in one.seen.values().flat_map(BTreeMap::values) {
            let known = witness.entry(seen.store).or_insert(seen.number);
            *known = seen.number.min(*known);
        }
        let witness = witness
            .into_iter()
            .map(|(store, number)| epoch(store, number));
        let change = put(&one.key, Content::Blocks(blocks(&one.blocks)));
        let change = AnyChange::Brought {
            change,
            witness: witness.collect(),
        };
        let shard = one.shard;
        self.net.push(Message::Propose {
            shard,
            write,
            change: Box::new(change),
        });
    }

    /// What names blocks that are referenced already, or removes references.
    fn change(&mut self) {
        let (shard, key) = (self.roll(SHARDS), self.dice.roll(KEYS).to_string());
        let found = get(&self.shards[shard].rows, &key);
        let change = match (self.roll(3), found) {
            (0, Ok(Reply::Object(object))) => {
                let Change::PutObject {
                    bucket,
                    object,
                    precondition,
                    event,
                    ..
                } = put("", object.content)
                else {
                    unreachable!("a put")
                };
                let key = self.dice.roll(KEYS).to_string();
                let copied = true;
                Change::PutObject {
                    bucket,
                    key,
                    object,
                    precondition,
                    copied,
                    event,
                }
            }
            (1, Ok(Reply::Object(object))) => delete_version(&key, Some(object.version)),
            _ => delete(&key),
        };
        let change = AnyChange::Asked(change);
        self.net.push(Message::Propose {
            shard,
            write: 0,
            change: Box::new(change),
        });
    }

    fn begin_sweep(&mut self) {
        let (node, sweep) = (self.roll(NODES), self.number());
        let subset = self.roll(3) > 0;
        let disk = &mut self.disks[node];
        let mut marked = disk.blocks.clone();
        if subset {
            let dice = &mut self.dice;
            marked.retain(|_| dice.roll(2) == 0);
        }
        for block in &marked {
            disk.marks.insert(*block, sweep);
        }
        disk.condemns += 1;
        let begun = Sweep {
            node,
            life: disk.life,
            since: disk.now(node),
            blocks: marked,
            looked: BTreeSet::new(),
        };
        self.sweeps.insert(sweep, begun);
        for shard in 0..SHARDS {
            self.net.push(Message::Barrier { sweep, shard });
        }
    }

    /// Looks in the rows of one shard, at the leader or in the copy that lags, if they hold the barrier.
    fn look(&mut self, sweep: u64) {
        let (shard, lags) = (self.roll(SHARDS), self.roll(2) == 0);
        let Some(one) = self.sweeps.get_mut(&sweep) else {
            return;
        };
        let shown = &self.shards[shard];
        let rows = if lags { &shown.copy } else { &shown.rows };
        // Whether the shard has answered is not asked: what counts are the rows.
        if !has_barrier(rows, &one.since).unwrap() || !one.looked.insert(shard) {
            return;
        }
        one.blocks
            .retain(|number| !is_referenced(rows, &block(*number)).unwrap());
        if one.looked.len() == SHARDS {
            let blocks = one.blocks.clone();
            self.net.push(Message::Delete { sweep, blocks });
        }
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Put { write, block, to } => {
                self.disks[to].blocks.insert(block);
                let epoch = self.disks[to].touch(to, block);
                self.net.push(Message::Kept {
                    write,
                    block,
                    from: to,
                    epoch,
                });
            }
            Message::Kept {
                write,
                block,
                from,
                epoch,
            } => self.kept(write, block, from, epoch),
            Message::Propose {
                shard,
                write,
                change,
            } => {
                let brings = matches!(*change, AnyChange::Brought { .. });
                match self.shards[shard].apply(*change) {
                    Err(MetadataError::BlocksStale(_)) => {
                        self.stale += 1;
                        self.net.push(Message::Stale { write });
                    }
                    Ok(_) if brings => {
                        self.applied += 1;
                        self.writes.remove(&write);
                    }
                    _ => {}
                }
            }
            Message::Stale { write } => self.spread(write),
            Message::Copy { block, to } => {
                self.disks[to].blocks.insert(block);
                self.disks[to].touch(to, block);
            }
            Message::Barrier { sweep, shard } => {
                if let Some(since) = self.sweeps.get(&sweep).map(|sweep| sweep.since) {
                    // Refused where a later one of the same node has overtaken it, which is as good.
                    let _ = self.shards[shard].apply(AnyChange::Barrier { since });
                }
            }
            Message::Delete { sweep, blocks } => {
                let Some(Sweep { node, life, .. }) = self.sweeps.remove(&sweep) else {
                    return;
                };
                let disk = &mut self.disks[node];
                for block in blocks {
                    if disk.life == life && disk.marks.get(&block) == Some(&sweep) {
                        disk.marks.remove(&block);
                        self.removed += u64::from(disk.blocks.remove(&block));
                    }
                }
            }
        }
    }

    fn event(&mut self) {
        match self.roll(40) {
            0..=1 => self.begin_write(),
            2 | 3 => self.change(),
            4 if self.sweeps.len() < SWEEPS_MAX => self.begin_sweep(),
            5..=8 => {
                let sweeps: Vec<u64> = self.sweeps.keys().copied().collect();
                if !sweeps.is_empty() {
                    let at = self.roll(sweeps.len());
                    self.look(sweeps[at]);
                }
            }
            9 if self.roll(4) == 0 => {
                let node = self.roll(NODES);
                let disk = &mut self.disks[node];
                (disk.life, disk.condemns) = (disk.life + 1, 0);
                disk.marks.clear();
            }
            10 => {
                // The repair of copies brings what one node has to another that it belongs to, garbage or not.
                let block = self.dice.roll(BLOCKS) as u8;
                let to = homes(block)[self.roll(3)];
                if self.disks.iter().any(|disk| disk.blocks.contains(&block)) {
                    self.net.push(Message::Copy { block, to });
                }
            }
            11 => {
                let (shard, entries) = (self.roll(SHARDS), self.roll(8));
                self.shards[shard].catch_up(entries);
            }
            12 if self.roll(3) == 0 => {
                // A client goes away; what it has sent may come all the same.
                self.writes.pop_first();
            }
            _ if !self.net.is_empty() => {
                let at = self.roll(self.net.len());
                let message = match self.roll(12) {
                    // Doubled: the other one comes at any later time.
                    0 => self.net[at].clone(),
                    1 => return drop(self.net.swap_remove(at)),
                    _ => self.net.swap_remove(at),
                };
                self.deliver(message);
            }
            _ => {}
        }
    }

    fn referenced(&self, number: u8) -> bool {
        let refers = |shard: &Shard| is_referenced(&shard.rows, &block(number)).unwrap();
        self.shards.iter().any(refers)
    }

    fn judge(&self, event: usize) {
        for number in (0..BLOCKS as u8).filter(|number| self.referenced(*number)) {
            let has = |node: &usize| self.disks[*node].blocks.contains(&number);
            let holders = homes(number).into_iter().filter(has).count();
            assert!(
                holders >= 2,
                "event {event}: block {number} is on {holders} disks"
            );
        }
    }

    /// Nothing is under way any more, and one sweep of each node removes all that is garbage.
    fn end(&mut self) {
        self.net.clear();
        self.writes.clear();
        self.sweeps.clear();
        for node in 0..NODES {
            let sweep = self.number();
            let disk = &mut self.disks[node];
            disk.marks = disk.blocks.iter().map(|block| (*block, sweep)).collect();
            disk.condemns += 1;
            let since = disk.now(node);
            let mut blocks = disk.blocks.clone();
            for shard in &mut self.shards {
                shard.apply(AnyChange::Barrier { since }).unwrap();
                blocks.retain(|number| !is_referenced(&shard.rows, &block(*number)).unwrap());
            }
            disk.blocks.retain(|block| !blocks.contains(block));
        }
        for disk in &self.disks {
            assert!(disk.blocks.iter().all(|block| self.referenced(*block)));
        }
        for shard in &mut self.shards {
            shard.catch_up(usize::MAX / 2);
            assert_eq!(shard.copy, shard.rows);
        }
    }
}

#[test]
fn no_block_is_removed_that_a_write_relies_on_however_late_messages_come() {
    let from_environment = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let one: Option<u64> = from_environment("SEED");
    let many = from_environment("SEEDS").unwrap_or(SEEDS);
    let (mut applied, mut stale, mut removed) = (0, 0, 0);
    for seed in one.map_or(0..many, |seed| seed..seed + 1) {
        let played = std::panic::catch_unwind(|| {
            let mut cluster = Cluster::new(seed);
            for event in 0..EVENTS {
                cluster.event();
                cluster.judge(event);
            }
            cluster.end();
            (cluster.applied, cluster.stale, cluster.removed)
        });
        let Ok(counts) = played else {
            panic!("SEED={seed} repeats it");
        };
        applied += counts.0;
        stale += counts.1;
        removed += counts.2;
    }
    eprintln!("{applied} writes took effect, {stale} came too late, {removed} copies were removed");
    assert!(one.is_some() || (applied > 0 && stale > 0 && removed > 0));
}
