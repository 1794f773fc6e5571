//! Tests of consensus over the real database: openraft's own suite for stores, restarts, kills, snapshots.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests: a panic is the failure"
)]

use super::disk::Disk;
use super::log::Log;
use super::machine::Machine;
use super::shard::Shard;
use super::types::{Entry, LogId, Types};
use super::*;
use crate::state::tests::model::check_invariants;
use crate::state::{self, AnyChange, MemoryStore};
use openraft::entry::RaftEntry;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::vote::RaftLeaderId;
use protocol::metadata::{
    Attributes, BucketId, Change, Content, EventKind, NewObject, Operation, Precondition, Reply,
};
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn on_one_thread<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

struct Builder;

impl StoreBuilder<Types, Log, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, Log, Machine), openraft::StorageError<Types>> {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::open(directory.path()).unwrap();
        let shard = Rc::new(Shard::open(&disk, 3).unwrap());
        Ok((
            directory,
            Log {
                shard: shard.clone(),
            },
            Machine { shard },
        ))
    }
}

#[test]
fn openrafts_own_suite_for_stores_passes() {
    on_one_thread(Suite::test_all(Builder)).unwrap();
}

const BUCKET: BucketId = BucketId(5);

fn put(number: u64, precondition: Precondition) -> Command {
    // Short and long, in the row and apart from it.
    let bytes = vec![number as u8; if number.is_multiple_of(3) { 3_000 } else { 30 }];
    let object = NewObject {
        size: bytes.len() as u64,
        etag: format!("etag-{number}"),
        headers: Vec::new(),
        checksum: None,
        attributes: Attributes::default(),
        encryption: None,
        content: Content::Inline(bytes),
    };
    let change = Change::PutObject {
        bucket: BUCKET,
        key: format!("key-{number:06}"),
        object,
        precondition,
        copied: false,
        event: EventKind::Put,
    };
    Command {
        at_ms: number,
        change: change.into(),
    }
}

fn open_bucket() -> Command {
    Command {
        at_ms: 1,
        change: AnyChange::OpenBucket {
            id: BUCKET,
            name: "home".into(),
            locked: false,
        },
    }
}

/// All rows of a shard's state.
fn rows(shard: &Shard) -> MemoryStore {
    let mut store = MemoryStore::default();
    shard
        .scan(&[], &[255], &mut |key, value| {
            store.rows.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    store
}

fn has(rows: &impl Rows, number: u64) -> bool {
    let get = Operation::GetObject {
        bucket: BUCKET,
        key: format!("key-{number:06}"),
        version: None,
    };
    matches!(state::read(rows, &get).unwrap(), Some(Ok(Reply::Object(_))))
}

async fn open(directory: &Path) -> Store {
    Store::open(directory, 4, me(Some(77))).await.unwrap()
}

fn me(number: Option<u64>) -> Me {
    Me {
        number,
        ..Me::alone("n1")
    }
}

#[test]
fn what_was_answered_is_read_at_once_and_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let before = on_one_thread(async {
        let store = open(directory.path()).await;
        let group = store.groups()[2].clone();
        group.propose(open_bucket()).await.unwrap().unwrap();
        for number in 0..700 {
            group
                .propose(put(number, Precondition::None))
                .await
                .unwrap()
                .unwrap();
            assert!(has(group.read().await.unwrap(), number));
        }
        let before = rows(group.read().await.unwrap());
        store.close().await;
        before
    });
    on_one_thread(async {
        let store = open(directory.path()).await;
        let group = &store.groups()[2];
        assert_eq!(rows(group.read().await.unwrap()), before);
        assert!(
            rows(store.groups()[1].read().await.unwrap())
                .rows
                .is_empty()
        );
        check_invariants(&before);
        let status = group.status();
        assert_eq!(
            (status.number, status.leader, status.voters),
            (2, true, vec!["n1".into()])
        );
        store.close().await;
    });
}

#[test]
fn the_log_of_a_lone_voter_stays_short() {
    let directory = tempfile::tempdir().unwrap();
    on_one_thread(async {
        let store = open(directory.path()).await;
        let group = store.groups()[0].clone();
        group.propose(open_bucket()).await.unwrap().unwrap();
        for number in 0..1_500 {
            group
                .propose(put(number, Precondition::None))
                .await
                .unwrap()
                .unwrap();
        }
        // The log is cut behind the answers.
        let limit = Instant::now() + Duration::from_secs(60);
        loop {
            let read: &Shard = group.read().await.unwrap();
            let entries = read.disk.spaces().log.prefix(0_u16.to_be_bytes()).count();
            let in_memory = read.facts().tail.len();
            if entries < 520 && in_memory < 8 {
                break;
            }
            assert!(
                Instant::now() < limit,
                "{entries} entries of 1,500 are left, {in_memory} of them in memory"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        store.close().await;
    });
}

#[test]
fn many_proposals_at_once_share_their_syncs_and_all_arrive() {
    let directory = tempfile::tempdir().unwrap();
    on_one_thread(async {
        let store = open(directory.path()).await;
        for group in store.groups() {
            group.propose(open_bucket()).await.unwrap().unwrap();
        }
        let all = (0..800).map(|number| {
            let group = store.groups()[number as usize % 4].clone();
            async move {
                group
                    .propose(put(number, Precondition::Absent))
                    .await
                    .unwrap()
            }
        });
        let outcomes = futures_util::future::join_all(all).await;
        assert!(outcomes.iter().all(Result::is_ok));
        for number in 0..800 {
            assert!(has(
                store.groups()[number as usize % 4].read().await.unwrap(),
                number
            ));
        }
        store.close().await;
    });
}

#[test]
fn another_number_of_shards_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    on_one_thread(async { open(directory.path()).await.close().await });
    on_one_thread(async {
        let refused = Store::open(directory.path(), 8, me(Some(77))).await;
        assert!(matches!(refused, Err(Error::Shards { set: 8, found: 4 })));
    });
}

#[test]
fn a_snapshot_brings_another_store_to_the_same_rows() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    on_one_thread(async {
        let (one, other) = (open(one.path()).await, open(other.path()).await);
        let (from, to) = (&one.groups()[1], &other.groups()[1]);
        from.propose(open_bucket()).await.unwrap().unwrap();
        for number in 0..300 {
            from.propose(put(number, Precondition::None))
                .await
                .unwrap()
                .unwrap();
        }
        // What is there before, and what an earlier attempt left, must not show.
        to.propose(open_bucket()).await.unwrap().unwrap();
        to.propose(put(9_999, Precondition::None))
            .await
            .unwrap()
            .unwrap();
        let mut abandoned = to.receive_snapshot().await.unwrap();
        let mut view = from.snapshot().await.unwrap();
        let first = view.chunk().unwrap().unwrap();
        abandoned.push(&first).await.unwrap();
        drop(abandoned);

        let (mut chunks, mut view) = (0, from.snapshot().await.unwrap());
        from.propose(put(300, Precondition::None))
            .await
            .unwrap()
            .unwrap(); // behind the moment
        let mut staged = to.receive_snapshot().await.unwrap();
        while let Some(chunk) = view.chunk().unwrap() {
            assert!(chunk.len() < CHUNK_BYTES_MAX + 1_024);
            staged.push(&chunk).await.unwrap();
            chunks += 1;
        }
        let (last_log_id, last_membership) = view.position().unwrap();
        let meta = super::types::SnapshotMeta {
            last_log_id,
            last_membership,
        };
        let shard: &Shard = to.read().await.unwrap();
        let receiver = Rc::new(Shard::open(&shard.disk, 1).unwrap());
        snapshot::install(&receiver, &meta, Snapshot::Staged(staged))
            .await
            .unwrap();
        let mut expected = rows(from.read().await.unwrap());
        // Its head, and its content with the order of its version behind the key.
        let name = b"key-000300";
        expected
            .rows
            .retain(|key, _| !key.windows(name.len()).any(|part| part == name));
        let mut received = rows(&receiver);
        // The usage counts the object behind the moment.
        for store in [&mut expected, &mut received] {
            store.rows.retain(|key, _| key.first() != Some(&b'b'));
        }
        assert!(chunks > 3);
        assert_eq!(received, expected);
        let stored = receiver
            .disk
            .spaces()
            .state
            .prefix(1_u16.to_be_bytes())
            .count();
        assert_eq!(
            stored,
            received.rows.len() + 1,
            "nothing of other generations is left"
        );
        one.close().await;
        other.close().await;
    });
}

#[test]
fn a_directory_from_before_nodes_had_keys_goes_on_under_the_keys_number() {
    let directory = tempfile::tempdir().unwrap();
    for (round, number) in [None, Some(u64::MAX), Some(3), Some(3)]
        .into_iter()
        .enumerate()
    {
        on_one_thread(async {
            let store = Store::open(directory.path(), 4, me(number)).await.unwrap();
            assert!(number.is_none_or(|number| store.number() == number));
            assert!(store.is_alone());
            let group = store.groups()[1].clone();
            if round == 0 {
                group.propose(open_bucket()).await.unwrap().unwrap();
            }
            let first = round as u64 * 100;
            for number in first..first + 100 {
                let put = group.propose(put(number, Precondition::Absent)).await;
                put.unwrap().unwrap();
            }
            let rows = group.read().await.unwrap();
            assert!((0..first + 100).all(|number| has(rows, number)));
            assert_eq!(group.status().voters, ["n1"]);
            store.close().await;
        });
    }
}

fn log_id(index: u64) -> LogId {
    let leader = openraft::alias::LeaderIdOf::<Types>::new(1, 0);
    LogId::new(leader.to_committed(), index)
}

fn indexes(shard: &Shard, from: u64, to: u64) -> Vec<u64> {
    let entries = shard.entries(from, to, usize::MAX).unwrap();
    entries.iter().map(RaftEntry::index).collect()
}

#[test]
fn entries_can_be_read_before_and_after_they_are_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    on_one_thread(async {
        let disk = Disk::open(directory.path()).unwrap();
        let shard = Rc::new(Shard::open(&disk, 0).unwrap());
        let blank = |index| Entry::new_blank(log_id(index));
        shard.append((0..10).map(blank), || {}).unwrap();
        assert_eq!(indexes(&shard, 2, 5), [2, 3, 4]);
        shard.applied(Vec::new(), log_id(6), None).unwrap();
        let all_written = shard.disk.snapshot().await.unwrap();
        drop(all_written);
        assert_eq!(shard.facts().tail.len(), 3);
        assert_eq!(indexes(&shard, 5, 9), [5, 6, 7, 8]);
        shard.truncate_after(Some(log_id(7)));
        assert_eq!(indexes(&shard, 5, 99), [5, 6, 7]);
        shard.append((8..12).map(blank), || {}).unwrap();
        assert_eq!(indexes(&shard, 0, 99), (0..12).collect::<Vec<u64>>());
        shard.purge(log_id(3)).unwrap();
        drop(shard.disk.snapshot().await.unwrap());
        assert_eq!(indexes(&shard, 0, 99), (4..12).collect::<Vec<u64>>());
        assert_eq!(shard.entries(4, 99, 1).unwrap().len(), 1, "at least one");
        let again = Shard::open(&disk, 0).unwrap();
        assert_eq!(
            (again.facts().last, again.facts().purged),
            (Some(log_id(11)), Some(log_id(3)))
        );
        assert_eq!(indexes(&again, 0, 99), (4..12).collect::<Vec<u64>>());
        disk.close();
    });
}

/// Where the child of the next test works; set only by that test.
const CHILD: &str = "TROUSSEAU_TEST_CRASH_DIRECTORY";

/// Not a test of its own: what the killed process does.
#[test]
fn child_that_is_killed() {
    let Ok(directory) = std::env::var(CHILD) else {
        return;
    };
    on_one_thread(async {
        let store = open(Path::new(&directory)).await;
        let group = store.groups()[1].clone();
        group.propose(open_bucket()).await.unwrap().ok();
        let first = (0..u64::MAX)
            .find(|number| !has(group.rows(), *number))
            .unwrap();
        // Eight writers, each with numbers of its own, so that acknowledgements come out of order.
        let writers = (0..8).map(|writer| {
            let group = group.clone();
            async move {
                for round in 0..u64::MAX {
                    let number = first + round * 8 + writer;
                    group
                        .propose(put(number, Precondition::None))
                        .await
                        .unwrap()
                        .unwrap();
                    println!("acknowledged {number}");
                }
            }
        });
        futures_util::future::join_all(writers).await;
    });
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..8_u64 {
        let mut child = Process::new(std::env::current_exe().unwrap())
            .args([
                "raft::tests::child_that_is_killed",
                "--exact",
                "--nocapture",
            ])
            .env(CHILD, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines {
            // What was written before the kill may still come; all of it counts.
            if let Some(number) = line.unwrap().strip_prefix("acknowledged ") {
                acknowledged.push(number.parse::<u64>().unwrap());
                seen += 1;
                if seen == 20 + round * 37 {
                    child.kill().unwrap(); // SIGKILL
                }
            }
        }
        child.wait().unwrap();
        assert!(seen > 0, "the child acknowledged something");
        on_one_thread(async {
            let store = open(directory.path()).await;
            let group = &store.groups()[1];
            let read = group.read().await.unwrap();
            for number in &acknowledged {
                assert!(has(read, *number), "{number} was acknowledged");
            }
            check_invariants(&rows(read));
            store.close().await;
        });
    }
}
