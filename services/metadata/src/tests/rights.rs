//! A withdrawn right is withdrawn on every node once that is confirmed.

use super::*;
use protocol::metadata::AccessKey;

pub(super) fn new_key(id: &str) -> Operation {
    Operation::Change(Change::CreateKey {
        key: AccessKey {
            access_key: id.into(),
            secret_key: "secret".into(),
            name: format!("name of {id}"),
            root: false,
            create_buckets: true,
            created_ms: 0,
        },
    })
}

fn drop_key(id: &str) -> Operation {
    Operation::Change(Change::DeleteKey {
        access_key: id.into(),
    })
}

fn authorize(id: &str) -> Operation {
    Operation::Authorize {
        access_key: Some(id.into()),
        bucket: None,
    }
}

#[test]
fn a_withdrawn_key_is_withdrawn_on_every_node_once_that_is_confirmed() {
    World::run(9, 2, |world| async move {
        world.of(3).await;
        world.between_homes();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let mut longest = Duration::ZERO;
        for round in 0..10 {
            let id = format!("key-{round}");
            let node = format!("n{}", round % 3 + 1);
            world.call(&node, new_key(&id)).await.unwrap();
            for name in world.names() {
                world.call(&name, authorize(&id)).await.unwrap();
            }
            let began = Instant::now();
            world.call(&node, drop_key(&id)).await.unwrap();
            longest = longest.max(began.elapsed());
            for name in world.names() {
                let calls = world.net.calls.get();
                let asked = world.call(&name, authorize(&id)).await;
                assert_eq!(asked, Err(MetadataError::NoSuchAccessKey), "{name}");
                let is_leader = world.leader(0).as_deref() == Some(&name);
                let renewals = 4; // May fall into the same moment.
                assert!(is_leader || world.net.calls.get() < calls + renewals);
            }
        }
        println!("confirmed within {longest:?}");
        assert!(longest < Duration::from_secs(1));
    });
}

#[test]
fn a_right_is_withdrawn_from_a_node_out_of_reach_when_its_lease_has_ended() {
    World::run(10, 2, |world| async move {
        world.of(3).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let leader = world.leader(0).unwrap();
        let bucket = world.bucket(&leader, "home").await;
        world.call(&leader, new_key("k")).await.unwrap();
        let away = world
            .names()
            .into_iter()
            .find(|name| *name != leader)
            .unwrap();
        let known = world.ask(&away, 0, authorize("k")).await.unwrap();
        known.result.unwrap();
        world.isolate(&away);
        // It holds its lease yet, and may answer by its copy.
        world.call(&away, authorize("k")).await.unwrap();
        let began = Instant::now();
        let withdrawn = {
            let (world, leader) = (world.clone(), leader.clone());
            tokio::task::spawn_local(async move { world.call(&leader, drop_key("k")).await })
        };
        // Whoever may still act by the old right does so before the withdrawal is confirmed.
        let mut last_use = began;
        while !withdrawn.is_finished() {
            if world.node(&away).parts.service.rights.hold() {
                last_use = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        withdrawn.await.unwrap().unwrap();
        let (confirmed, used) = (began.elapsed(), last_use - began);
        println!("the last use was possible after {used:?}, confirmed after {confirmed:?}");
        assert!(used > Duration::from_millis(500) && used < confirmed);
        let asked = world.call(&away, authorize("k")).await;
        assert!(
            matches!(asked, Err(MetadataError::Unavailable(_))),
            "{asked:?}"
        );
        let write = put(bucket, "x", 1, Precondition::None);
        let written = world
            .ask(&away, known.revision, write)
            .await
            .unwrap()
            .result;
        assert!(
            matches!(written, Err(MetadataError::Unavailable(_))),
            "{written:?}"
        );
        world.heal();
        let knows = async {
            while world.call(&away, authorize("k")).await != Err(MetadataError::NoSuchAccessKey) {}
        };
        tokio::time::timeout(Duration::from_secs(60), knows)
            .await
            .unwrap();
    });
}

#[test]
fn a_write_by_a_withdrawn_right_does_not_take_effect_behind_the_withdrawal() {
    for seed in 100..104 {
        World::run(seed, 4, |world| async move {
            world.of(3).await;
            world.between_homes();
            let bucket = world.bucket("n1", "home").await;
            world.call("n1", new_key("k")).await.unwrap();
            let shard = world
                .node("n1")
                .parts
                .service
                .proposer
                .shard(bucket)
                .number();
            let two_leaders = || {
                let (registry, data) = (world.leader(0), world.leader(usize::from(shard)));
                registry.is_some() && data.is_some() && registry != data
            };
            assert_ne!(shard, 0, "the test wants a bucket in a shard of its own");
            world.until("two nodes lead", two_leaders).await;
            tokio::time::sleep(Duration::from_secs(8)).await;
            let (registry, data) = (
                world.leader(0).unwrap(),
                world.leader(usize::from(shard)).unwrap(),
            );
            let known = world.ask(&data, 0, authorize("k")).await.unwrap();
            known.result.unwrap();
            // Admitted and on its way to the others when the node is cut off.
            let write = {
                let (world, data, revision) = (world.clone(), data.clone(), known.revision);
                tokio::task::spawn_local(async move {
                    world
                        .ask(&data, revision, put(bucket, "x", 1, Precondition::None))
                        .await
                })
            };
            tokio::time::sleep(Duration::from_millis(world.net.roll(120))).await;
            world.isolate(&data);
            let withdrawn = world.call(&registry, drop_key("k")).await;
            withdrawn.unwrap();
            // On any node: what has taken effect is there, wherever the others are behind.
            let took_effect = world.names().iter().any(|name| {
                let group = world.node(name).parts.store.groups()[usize::from(shard)].clone();
                let read = crate::state::read(group.rows(), &get(bucket, "x"));
                read.unwrap().unwrap().is_ok()
            });
            world.heal();
            let told = write.await.unwrap().unwrap().result;
            tokio::time::sleep(Duration::from_secs(15)).await;
            let later = world.call(&registry, get(bucket, "x")).await;
            assert!(took_effect || later.is_err(), "{told:?} {later:?}");
            assert!(told.is_err() || later.is_ok());
        });
    }
}
