//! What several nodes promise, one promise each.

use super::rights::new_key;
use super::*;
use crate::raft::Consensus;
use crate::service::Guard;
use protocol::block::{BlockId, BlockRef, Place};

fn padded(bucket: BucketId, key: &str, bytes: usize) -> Operation {
    let Operation::Change(Change::PutObject {
        object,
        precondition,
        event,
        ..
    }) = put(bucket, key, 1, Precondition::None)
    else {
        unreachable!()
    };
    Operation::Change(Change::PutObject {
        bucket,
        key: key.into(),
        object: NewObject {
            size: bytes as u64,
            content: Content::Inline(vec![7; bytes]),
            ..object
        },
        precondition,
        copied: false,
        event,
    })
}

/// Puts until one is answered; how long that took.
async fn service_is_back(world: &World, node: &str, bucket: BucketId) -> Duration {
    let began = Instant::now();
    for attempt in 0.. {
        let put = put(bucket, &format!("after-{attempt}"), 1, Precondition::None);
        if world.call(node, put).await.is_ok() {
            break;
        }
        if began.elapsed() > Duration::from_secs(60) {
            for name in world.names() {
                for group in world.node(&name).parts.store.groups() {
                    println!("{name}: {}", group.debug());
                }
            }
            panic!("nobody serves");
        }
    }
    began.elapsed()
}

#[test]
fn a_node_alone_asks_nobody_and_waits_for_nobody() {
    World::run(1, 4, |world| async move {
        world.join("n1", "zone-1", 1).await;
        let bucket = world.bucket("n1", "home").await;
        let began = Instant::now();
        for number in 0..100 {
            let key = format!("key-{number}");
            world
                .call("n1", put(bucket, &key, number, Precondition::Absent))
                .await
                .unwrap();
            world.call("n1", new_key(&key)).await.unwrap();
            let read = world.call("n1", get(bucket, &key)).await.unwrap();
            assert_eq!(value_of(&read), number);
        }
        assert!(world.node("n1").parts.store.is_alone());
        assert!(began.elapsed() < Duration::from_secs(10));
        assert_eq!(world.net.calls.get(), 0);
    });
}

#[test]
fn only_members_of_the_cluster_are_answered() {
    use protocol::bus::{Accept, Origin};
    use runtime::Serve;
    World::run(17, 1, |world| async move {
        world.join("n1", "zone-1", 1).await;
        let key = key_of("n2");
        for (origin, answered) in [
            (Origin::Here, false),
            (Origin::Stranger { key }, false),
            (
                Origin::Member {
                    name: "n2".into(),
                    key,
                },
                true,
            ),
        ] {
            let peering = world.node("n1").peering.clone();
            let session = peering.connected(Accept {
                client: "metadata".into(),
                conversation: "peers".into(),
                origin,
            });
            let call = PeersCall::Renew { revision: 1 };
            let (answer, _) = peering.answer(&session, call, Vec::new()).await;
            assert_eq!(
                !matches!(answer, PeersAnswer::Refused(_)),
                answered,
                "{answer:?}"
            );
        }
    });
}

#[test]
fn what_a_node_without_rows_asks_for_itself_does_not_draw_the_lead_to_it() {
    World::run(34, 1, |world| async move {
        world.join("n1", "zone-1", 1).await;
        let gateway = number_of(&key_of("n4"));
        let node = world.node("n1");
        let service = node.parts.service.clone();
        let bucket = BucketId(1);
        let check = async |operation: Operation, counted: u64| {
            let call = Call {
                revision: 0,
                operation: operation.clone(),
            };
            service.proposer.registry().take_demand();
            let _ = service
                .asked(gateway, "console", call, Guard::Unwitnessed)
                .await;
            let demand = service.proposer.registry().take_demand();
            let found = demand.get(&gateway).copied().unwrap_or(0);
            assert_eq!(found, counted, "{operation:?}");
        };
        check(Operation::Roster, 0).await;
        check(Operation::PlacementOf { key: key_of("n4") }, 0).await;
        check(get(bucket, "k"), 1).await;
        check(put(bucket, "k", 1, Precondition::None), 1).await;
    });
}

#[test]
fn there_is_room_elsewhere_only_where_another_voter_can_lead() {
    World::run(35, 1, |world| async move {
        let room = || {
            let node = world.node("n1");
            let service = &node.parts.service;
            service
                .health
                .is_room_elsewhere(service.proposer.registry())
        };
        world.join("n1", "zone-1", 1).await;
        assert!(!room(), "nobody else");
        // In one zone one voter suffices, and whoever has none cannot lead, for all its room.
        world.join("n2", "zone-1", 1).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(world.voters_are(1));
        assert!(!room(), "one voter");
        world.join("n3", "zone-3", 1).await;
        world.join("n4", "zone-4", 1).await;
        world.until("three voters", || world.voters_are(3)).await;
        let led_here = || world.leader(0).as_deref() == Some("n1");
        world.until("n1 leads", led_here).await;
        world.until("room elsewhere", room).await;
    });
}

#[test]
fn a_node_that_is_renamed_is_still_found() {
    World::run(18, 2, |world| async move {
        world.of(3).await;
        let bucket = world.bucket("n2", "home").await;
        let leader = world.leader(1).unwrap();
        // The network of this test knows nodes by their old names, so who is asked by the new one is not found there.
        world.edit(&leader, |node| node.name = "attic".into());
        tokio::time::sleep(Duration::from_secs(2)).await;
        for name in world.names() {
            let group = world.node(&name).parts.store.groups()[1].clone();
            assert!(
                group.status().voters.contains(&"attic".to_owned()),
                "{name}"
            );
        }
        world.edit("attic", |node| node.name = leader.clone());
        tokio::time::sleep(Duration::from_secs(8)).await;
        world
            .call("n1", put(bucket, "k", 1, Precondition::None))
            .await
            .unwrap();
    });
}

#[test]
fn a_snapshot_that_is_cut_off_is_sent_again_and_a_part_twice_is_taken_once() {
    World::run(19, 1, |world| async move {
        world.join("n1", "zone-1", 1).await;
        world.between_homes();
        let bucket = world.bucket("n1", "home").await;
        for number in 0..300 {
            world
                .call("n1", padded(bucket, &format!("key-{number:03}"), 8_000))
                .await
                .unwrap();
        }
        world.net.doubled.set(300);
        world.join("n2", "zone-2", 1).await;
        world.join("n3", "zone-3", 1).await;
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(1_700)).await;
            world.isolate("n2");
            tokio::time::sleep(Duration::from_millis(900)).await;
            world.heal();
        }
        world.kill("n3");
        world.start("n3").await;
        world.until("three voters", || world.voters_are(3)).await;
        world.kill("n1");
        service_is_back(&world, "n2", bucket).await;
        for number in 0..300 {
            let read = world
                .call("n3", get(bucket, &format!("key-{number:03}")))
                .await;
            assert!(matches!(read, Ok(Reply::Object(object)) if object.size == 8_000));
        }
    });
}

#[test]
fn newcomers_get_everything_become_voters_and_share_the_lead() {
    World::run(2, 4, |world| async move {
        world.join("n1", "zone-1", 1).await;
        let bucket = world.bucket("n1", "home").await;
        // More than the log of a lone node keeps, and more than one part of a snapshot.
        for number in 0..400 {
            let key = format!("key-{number:03}");
            world.call("n1", padded(bucket, &key, 3_000)).await.unwrap();
        }
        let known = world
            .ask("n1", 0, get(bucket, "key-000"))
            .await
            .unwrap()
            .revision;
        let began = Instant::now();
        world.join("n2", "zone-2", 1).await;
        world.join("n3", "zone-3", 1).await;
        // The clients of the founder notice nothing.
        for number in 0_u64.. {
            if world.voters_are(3) {
                break;
            }
            let write = put(
                bucket,
                &format!("meanwhile-{number}"),
                number,
                Precondition::Absent,
            );
            let written = world.ask("n1", known, write).await.unwrap().result;
            assert!(written.is_ok(), "{number}: {written:?}");
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
        let joined = began.elapsed();
        // The shard of the bucket stays where it is used, out of turn; the others go round.
        let spread = || {
            let leaders = (0..4).filter_map(|shard| world.leader(shard));
            leaders.eq(["n1", "n2", "n1", "n1"])
        };
        let shared = world.until("the lead is shared", spread).await;
        println!("three voters after {joined:?}, the lead shared after {shared:?} more");
        let own = world.node("n1").parts.service.keyring.lines();
        for node in ["n1", "n2", "n3"] {
            for number in 0..400 {
                let read = world
                    .call(node, get(bucket, &format!("key-{number:03}")))
                    .await;
                assert!(
                    matches!(read, Ok(Reply::Object(_))),
                    "{node} {number} {read:?}"
                );
            }
            let keys = world.node(node).parts.service.keyring.lines();
            assert!(
                keys.0.ends_with(&own.0),
                "{node} cannot read what n1 encrypted"
            );
        }
    });
}

#[test]
fn of_racing_puts_that_want_to_be_first_exactly_one_is() {
    World::run(3, 4, |world| async move {
        world.of(3).await;
        world.between_homes();
        let bucket = world.bucket("n2", "home").await;
        for round in 0..5 {
            let racing = (0..32_u64).map(|number| {
                let (world, key) = (world.clone(), format!("race-{round}"));
                async move {
                    let node = format!("n{}", number % 3 + 1);
                    world
                        .call(&node, put(bucket, &key, number, Precondition::Absent))
                        .await
                }
            });
            let outcomes = futures_util::future::join_all(racing).await;
            let winners: Vec<usize> = (0..32).filter(|one| outcomes[*one].is_ok()).collect();
            assert_eq!(winners.len(), 1, "{outcomes:?}");
            let lost = outcomes
                .iter()
                .filter(|one| **one == Err(MetadataError::PreconditionFailed));
            assert_eq!(lost.count(), 31);
            for node in ["n1", "n2", "n3"] {
                let read = world
                    .call(node, get(bucket, &format!("race-{round}")))
                    .await
                    .unwrap();
                assert_eq!(value_of(&read), winners[0] as u64);
            }
        }
    });
}

#[test]
fn a_killed_leader_is_replaced_within_five_seconds() {
    World::run(4, 2, |world| async move {
        world.of(3).await;
        world.between_homes();
        let bucket = world.bucket("n1", "home").await;
        let mut taken = Vec::new();
        for round in 0..4 {
            world.until("all voters", || world.voters_are(3)).await;
            tokio::time::sleep(Duration::from_secs(10)).await;
            let shard = world
                .node("n1")
                .parts
                .service
                .proposer
                .shard(bucket)
                .number();
            let leader = world.leader(usize::from(shard)).unwrap();
            let other = world
                .names()
                .into_iter()
                .find(|name| *name != leader)
                .unwrap();
            let key = format!("key-{round}");
            world
                .call(&leader, put(bucket, &key, round, Precondition::None))
                .await
                .unwrap();
            world.kill(&leader);
            taken.push(service_is_back(&world, &other, bucket).await);
            let read = world.call(&other, get(bucket, &key)).await.unwrap();
            assert_eq!(value_of(&read), round, "acknowledged, and lost");
            world.start(&leader).await;
        }
        println!("service back after {taken:?}");
        assert!(
            taken.iter().all(|taken| *taken < Duration::from_secs(5)),
            "{taken:?}"
        );
    });
}

#[test]
fn nobody_waits_for_a_leader_that_is_cut_off_and_replaced() {
    World::run(12, 2, |world| async move {
        world.of(3).await;
        world.between_homes();
        let bucket = world.bucket("n1", "home").await;
        world.until("all voters", || world.voters_are(3)).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let node = world.node("n1");
        let shard = usize::from(node.parts.service.proposer.shard(bucket).number());
        drop(node);
        let leader = world.leader(shard).unwrap();
        let names = world.names();
        let other = names.into_iter().find(|name| *name != leader).unwrap();
        // Nothing says that it is gone; what is asked of it just stays without an answer.
        world.isolate(&leader);
        let taken = service_is_back(&world, &other, bucket).await;
        println!("service back after {taken:?}");
        assert!(taken < Duration::from_secs(6), "{taken:?}");
    });
}

#[test]
fn all_nodes_may_be_killed_at_once_and_come_back_with_everything() {
    World::run(5, 2, |world| async move {
        world.of(3).await;
        let bucket = world.bucket("n3", "home").await;
        for number in 0..50 {
            let key = format!("key-{number}");
            world
                .call("n2", put(bucket, &key, number, Precondition::None))
                .await
                .unwrap();
        }
        for name in ["n1", "n2", "n3"] {
            world.kill(name);
        }
        for name in ["n3", "n1", "n2"] {
            world.start(name).await;
        }
        println!(
            "service back after {:?}",
            service_is_back(&world, "n1", bucket).await
        );
        for number in 0..50 {
            let read = world
                .call("n1", get(bucket, &format!("key-{number}")))
                .await
                .unwrap();
            assert_eq!(value_of(&read), number);
        }
    });
}

#[test]
fn who_is_cut_off_neither_writes_nor_reads_what_may_be_old() {
    World::run(6, 2, |world| async move {
        world.of(3).await;
        let bucket = world.bucket("n1", "home").await;
        world
            .call("n1", put(bucket, "k", 1, Precondition::None))
            .await
            .unwrap();
        let shard = world
            .node("n1")
            .parts
            .service
            .proposer
            .shard(bucket)
            .number();
        let leader = world.leader(usize::from(shard)).unwrap();
        let other = world
            .names()
            .into_iter()
            .find(|name| *name != leader)
            .unwrap();
        world.isolate(&leader);
        service_is_back(&world, &other, bucket).await;
        world
            .call(&other, put(bucket, "k", 2, Precondition::None))
            .await
            .unwrap();
        let read = world.call(&leader, get(bucket, "k")).await;
        assert!(
            matches!(read, Err(MetadataError::Unavailable(_))),
            "{read:?}"
        );
        let written = world
            .call(&leader, put(bucket, "k", 3, Precondition::None))
            .await;
        assert!(
            matches!(written, Err(MetadataError::Unavailable(_))),
            "{written:?}"
        );
        world.heal();
        let is_back = || world.voters_are(3);
        world.until("everybody agrees", is_back).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let read = world.call(&leader, get(bucket, "k")).await.unwrap();
        assert_eq!(value_of(&read), 2);
    });
}

#[test]
fn a_voter_is_replaced_while_everything_is_served() {
    World::run(7, 2, |world| async move {
        world.of(3).await;
        world.join("n4", "zone-3", 1).await;
        let bucket = world.bucket("n1", "home").await;
        let done = Rc::new(Cell::new(false));
        let clients = ["n1", "n2", "n4"].map(|node| {
            let (world, done) = (world.clone(), done.clone());
            tokio::task::spawn_local(async move {
                let (mut written, mut failed) = (Vec::new(), 0);
                for number in 0_u64.. {
                    if done.get() {
                        break;
                    }
                    let key = format!("{node}-{number}");
                    match world
                        .call(node, put(bucket, &key, number, Precondition::Absent))
                        .await
                    {
                        Ok(_) => written.push((key, number)),
                        Err(MetadataError::Unavailable(_)) => failed += 1,
                        Err(error) => panic!("{error:?}"),
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                (written, failed)
            })
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.edit("n3", |node| node.standing = Standing::Revoked);
        world.isolate("n3");
        let replaced = || {
            (0..2).all(|shard| {
                world.voters(shard).is_some_and(|(_, voters)| {
                    voters.len() == 3
                        && voters.contains(&"n4".into())
                        && !voters.contains(&"n3".into())
                })
            })
        };
        println!(
            "replaced after {:?}",
            world.until("n4 in the place of n3", replaced).await
        );
        done.set(true);
        for client in clients {
            let (written, failed) = client.await.unwrap();
            assert!(
                written.len() > 20,
                "{} written, {failed} failed",
                written.len()
            );
            for (key, number) in written {
                let read = world.call("n4", get(bucket, &key)).await.unwrap();
                assert_eq!(value_of(&read), number);
            }
        }
    });
}

#[test]
fn a_node_without_capacity_loses_its_votes_and_serves_on() {
    World::run(8, 2, |world| async move {
        world.of(3).await;
        world.join("n4", "zone-3", 1).await;
        world.join("n5", "zone-1", 0).await;
        let bucket = world.bucket("n5", "home").await;
        world.edit("n3", |node| node.capacity_bytes = 0);
        let drained = || {
            (0..2).all(|shard| {
                let voters = world.voters(shard);
                voters.is_some_and(|(_, voters)| voters == ["n1", "n2", "n4"])
            }) && world
                .node("n3")
                .parts
                .store
                .groups()
                .iter()
                .all(|group| !group.leads())
        };
        world.until("n4 has the votes of n3", drained).await;
        for (number, node) in (0..).zip(["n3", "n5"]) {
            let key = format!("key-{number}");
            world
                .call(node, put(bucket, &key, number, Precondition::Absent))
                .await
                .unwrap();
            let read = world.call("n1", get(bucket, &key)).await.unwrap();
            assert_eq!(value_of(&read), number);
            let list = Operation::ListBuckets {
                access_key: None,
                after: None,
                limit: 10,
            };
            let listed = world.call(node, list).await;
            assert!(matches!(listed, Ok(Reply::Buckets { buckets, .. }) if buckets.len() == 1));
        }
    });
}

#[test]
fn nothing_is_known_to_be_unreferenced_while_a_shard_does_not_say_so() {
    World::run(16, 4, |world| async move {
        world.of(3).await;
        let bucket = world.bucket("n1", "home").await;
        let block = |number| BlockRef {
            id: BlockId([number; 32]),
            length: 1 << 20,
            place: Place::File,
        };
        let Operation::Change(Change::PutObject { object, event, .. }) =
            put(bucket, "k", 1, Precondition::None)
        else {
            unreachable!()
        };
        let change = Change::PutObject {
            bucket,
            key: "k".into(),
            object: NewObject {
                size: 1 << 20,
                content: Content::Blocks(vec![block(1)]),
                ..object
            },
            precondition: Precondition::None,
            copied: false,
            event,
        };
        let proposer = world.node("n2").parts.service.proposer.clone();
        let witness = Vec::new();
        let brought = crate::state::AnyChange::Brought { change, witness };
        let shard = proposer.shard(bucket);
        proposer.propose(shard, brought).await.unwrap();
        let ask = |node: &str| {
            let node = world.node(node);
            let sweep = node.parts.sweep.clone();
            let asked = async move { sweep.unreferenced(vec![block(1), block(2)], None).await };
            node.set.spawn_local(asked)
        };
        for node in ["n1", "n2", "n3"] {
            assert_eq!(ask(node).await.unwrap(), Ok(vec![block(2)]), "{node}");
        }
        world.isolate("n2");
        tokio::time::sleep(Duration::from_secs(3)).await;
        let asked = ask("n2").await.unwrap();
        assert!(
            matches!(asked, Err(MetadataError::Unavailable(_))),
            "{asked:?}"
        );
    });
}

#[test]
fn a_bucket_that_was_cut_off_is_cleared_away_by_the_next_leader() {
    World::run(20, 4, |world| async move {
        world.of(3).await;
        // In each shard one that has a place and got no name, as when a leader died in the middle of making it.
        let store = world.node("n1").parts.store.clone();
        for (number, group) in (1_000..).zip(store.groups()) {
            let change = crate::state::AnyChange::OpenBucket {
                id: BucketId(number),
                name: "half".into(),
                locked: false,
            };
            let proposer = world.node("n1").parts.service.proposer.clone();
            let group = group.clone();
            let done = async move { proposer.propose(&group, change).await };
            world
                .node("n1")
                .set
                .spawn_local(done)
                .await
                .unwrap()
                .unwrap();
        }
        let bucket = world.bucket("n2", "whole").await;
        let leader = world.leader(0).unwrap();
        drop(store);
        world.kill(&leader);
        let other = world.names()[0].clone();
        service_is_back(&world, &other, bucket).await;
        let left = || {
            let places = world.names().into_iter().flat_map(|name| {
                let store = world.node(&name).parts.store.clone();
                let mut places = Vec::new();
                for group in store.groups() {
                    crate::state::rowed(group.rows(), |row| places.push(row.name)).unwrap();
                }
                places
            });
            places.filter(|name| name == "half").count()
        };
        world.until("nothing is left", || left() == 0).await;
        world
            .call(&other, put(bucket, "k", 1, Precondition::None))
            .await
            .unwrap();
    });
}
