//! Barriers between sweeps and writes, where several nodes lead shards.

use super::*;
use crate::state::AnyChange;
use protocol::block::{BlockId, BlockRef, Epoch, Place};

fn block(number: u8) -> BlockRef {
    BlockRef {
        id: BlockId([number; 32]),
        length: 1 << 20,
        place: Place::File,
    }
}

fn brought(bucket: BucketId, key: &str, blocks: &[BlockRef], witness: &[Epoch]) -> AnyChange {
    let Operation::Change(Change::PutObject { object, event, .. }) =
        put(bucket, key, 1, Precondition::None)
    else {
        unreachable!("a put")
    };
    let object = NewObject {
        size: 1 << 20,
        content: Content::Blocks(blocks.to_vec()),
        ..object
    };
    let change = Change::PutObject {
        bucket,
        key: key.into(),
        object,
        precondition: Precondition::None,
        copied: false,
        event,
    };
    let witness = witness.to_vec();
    AnyChange::Brought { change, witness }
}

async fn propose(
    world: &World,
    node: &str,
    bucket: BucketId,
    change: AnyChange,
) -> Result<Reply, MetadataError> {
    let node = world.node(node);
    let proposer = node.parts.service.proposer.clone();
    let proposed = async move { proposer.propose(proposer.shard(bucket), change).await };
    node.set.spawn_local(proposed).await.unwrap()
}

async fn raise(world: &World, node: &str, since: Epoch) -> Result<(), MetadataError> {
    let node = world.node(node);
    let sweep = node.parts.sweep.clone();
    let raised = async move { sweep.raise_barriers(since).await };
    node.set.spawn_local(raised).await.unwrap()
}

async fn unreferenced(
    world: &World,
    node: &str,
    blocks: Vec<BlockRef>,
    since: Epoch,
) -> Result<Vec<BlockRef>, MetadataError> {
    let node = world.node(node);
    let sweep = node.parts.sweep.clone();
    let looked = async move { sweep.unreferenced(blocks, Some(since)).await };
    node.set.spawn_local(looked).await.unwrap()
}

const STORE: u64 = 77;

fn epoch(number: u64) -> Epoch {
    let store = STORE;
    Epoch { store, number }
}

#[test]
fn behind_a_barrier_no_shard_takes_what_was_seen_before_it_whoever_leads() {
    World::run(31, 4, |world| async move {
        world.of(3).await;
        let bucket = world.bucket("n1", "home").await;
        let early = brought(bucket, "a", &[block(1)], &[epoch(1)]);
        propose(&world, "n2", bucket, early.clone()).await.unwrap();
        raise(&world, "n3", epoch(2)).await.unwrap();
        let all = vec![block(1), block(2)];
        for node in ["n1", "n2", "n3"] {
            let found = unreferenced(&world, node, all.clone(), epoch(2)).await;
            assert_eq!(found, Ok(vec![block(2)]), "{node}");
        }
        let late = brought(bucket, "b", &[block(2)], &[epoch(1)]);
        // Also after another node has come to lead every shard.
        for round in 0..2 {
            for node in world.names() {
                let refused = propose(&world, &node, bucket, late.clone()).await;
                let begun = vec![epoch(2)];
                assert_eq!(
                    refused,
                    Err(MetadataError::BlocksStale(begun)),
                    "{node} {round}"
                );
            }
            if round == 0 {
                let leader = world.leader(0).unwrap();
                world.kill(&leader);
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
        }
        let node = world.names().pop().unwrap();
        let again = brought(bucket, "b", &[block(2)], &[epoch(2)]);
        propose(&world, &node, bucket, again).await.unwrap();
    });
}

#[test]
fn nobody_looks_before_every_shard_has_the_barrier() {
    World::run(32, 4, |world| async move {
        world.of(3).await;
        world.bucket("n1", "home").await;
        let early = unreferenced(&world, "n1", vec![block(1)], epoch(5)).await;
        assert!(
            matches!(early, Err(MetadataError::Unavailable(_))),
            "{early:?}"
        );
        world.isolate("n2");
        tokio::time::sleep(Duration::from_secs(3)).await;
        let raised = raise(&world, "n2", epoch(5)).await.unwrap_err().to_string();
        assert!(raised.contains("no block is removed now"), "{raised}");
        world.heal();
        tokio::time::sleep(Duration::from_secs(10)).await;
        raise(&world, "n2", epoch(5)).await.unwrap();
        let found = unreferenced(&world, "n2", vec![block(1)], epoch(5)).await;
        assert_eq!(found, Ok(vec![block(1)]));
        // A disk that was put back: it would remove by what was known of an earlier time.
        let late = raise(&world, "n2", epoch(4)).await.unwrap_err().to_string();
        assert!(
            late.contains("no block is removed now") && late.contains("disk is older"),
            "{late}"
        );
        let on_older_disk = |node: &str| world.node(node).parts.sweep.is_on_older_disk();
        assert!(on_older_disk("n2") && !on_older_disk("n1"));
    });
}

#[test]
fn a_write_with_blocks_is_not_taken_from_a_node_that_does_not_say_when_it_saw_them() {
    World::run(33, 2, |world| async move {
        world.of(3).await;
        let bucket = world.bucket("n1", "home").await;
        let AnyChange::Brought { change, .. } = brought(bucket, "k", &[block(1)], &[]) else {
            unreachable!("a write with blocks")
        };
        let node = world.node("n1");
        let service = node.parts.service.clone();
        let asked = async move {
            let mut answers = Vec::new();
            for group in service.proposer.groups() {
                if group.leads() {
                    let call = Call {
                        revision: 0,
                        operation: change.clone().into(),
                    };
                    let guard = crate::service::Guard::Unwitnessed;
                    answers.push(service.asked(2, "s3-frontend", call, guard).await);
                }
            }
            answers
        };
        for answer in node.set.spawn_local(asked).await.unwrap() {
            let taken = matches!(&answer, PeersAnswer::Asked(answer) if answer.result.is_ok());
            assert!(!taken, "{answer:?}");
        }
        assert!(matches!(
            world.call("n1", get(bucket, "k")).await,
            Err(MetadataError::NoSuchKey)
        ));
    });
}
