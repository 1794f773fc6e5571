//! Webhooks are told everything, in order, whatever happens to them, to metadata and to the notifier.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod world;

use crate::telling::Pace;
use protocol::metadata::EventId;
use std::collections::BTreeSet;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::LocalSet;
use world::{Receiver, Way, World, pace};

/// Runs a test on a thread as the notifier has it. What hangs fails.
fn check<F: Future<Output = ()>>(test: impl FnOnce(Rc<World>) -> F) {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&tokio, async {
        let test = test(Rc::default());
        tokio::time::timeout(Duration::from_secs(300), test)
            .await
            .expect("it has an end");
    });
}

/// `0/0`, `0/1`, … of one shard.
fn keys(shard: u32, count: u64) -> Vec<String> {
    (0..count)
        .map(|number| format!("{shard}/{number}"))
        .collect()
}

async fn nothing_waits(world: &World, name: &str) {
    while world.waits(name) > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn events_are_posted_in_order_over_one_connection_and_then_forgotten() {
    check(async |world| {
        let hook = Receiver::start(|_| Way::Status(204)).await;
        world.expect("hook", hook.address, 3, 90);
        let telling = world.start("hook", "dTpw", pace());
        hook.has_taken(270).await;
        nothing_waits(&world, "hook").await;
        for shard in 0..3 {
            let of_shard = |key: &String| key.starts_with(&format!("{shard}/"));
            let told: Vec<String> = hook.keys().into_iter().filter(of_shard).collect();
            assert_eq!(told, keys(shard, 90));
        }
        assert_eq!((hook.asked.get(), hook.connections.get()), (270, 1));
        assert!(
            world.forgotten.get() < 100,
            "not one by one: {}",
            world.forgotten.get()
        );
        let head = hook.taken.borrow()[0].head.to_lowercase();
        let agent = format!("user-agent: trousseau/{}\r\n", env!("CARGO_PKG_VERSION"));
        for expected in [
            "post /events?a=b http/1.1\r\n",
            "\r\nhost: hook.example:81\r\n",
            "\r\ncontent-type: application/json\r\n",
            "\r\nauthorization: basic dtpw\r\n",
            &agent,
        ] {
            assert!(head.contains(expected), "{expected}: {head}");
        }
        // What happens later is told by the same task.
        world.happens(
            "hook",
            EventId {
                shard: 0,
                number: 90,
            },
        );
        hook.has_taken(271).await;
        assert!(!telling.is_finished());
    });
}

#[test]
fn what_is_not_taken_is_tried_again_and_nothing_overtakes_it() {
    check(async |world| {
        let ways = [500, 302, 404, 429, 200, 503, 200];
        let hook = Receiver::start(move |number| {
            ways.get(number)
                .map_or(Way::Status(200), |status| Way::Status(*status))
        })
        .await;
        world.expect("hook", hook.address, 1, 20);
        world.start("hook", "-", pace());
        nothing_waits(&world, "hook").await;
        assert_eq!(hook.keys(), keys(0, 20));
        assert_eq!(hook.asked.get(), 20 + 5);
        assert!(
            !hook.taken.borrow()[0]
                .head
                .to_lowercase()
                .contains("authorization")
        );
    });
}

#[test]
fn a_webhook_that_is_down_gets_everything_when_it_is_back() {
    check(async |world| {
        // A port at which nobody listens; then somebody does.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        drop(port);
        world.expect("hook", address, 1, 5);
        world.start("hook", "-", pace());
        while world.dialled.get() < 3 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(world.waits("hook"), 5);
        let hook = Receiver::start(|_| Way::Status(200)).await;
        world.expect("hook", hook.address, 0, 0);
        nothing_waits(&world, "hook").await;
        assert_eq!(hook.keys(), keys(0, 5));
    });
}

#[test]
fn one_that_hangs_keeps_its_events_and_delays_no_other() {
    check(async |world| {
        let hanging = Receiver::start(|_| Way::Never).await;
        let prompt = Receiver::start(|_| Way::Status(200)).await;
        world.expect("hanging", hanging.address, 1, 3);
        world.expect("prompt", prompt.address, 2, 100);
        world.start(
            "hanging",
            "-",
            Pace {
                answer_within: Duration::from_millis(50),
                ..pace()
            },
        );
        world.start("prompt", "-", pace());
        nothing_waits(&world, "prompt").await;
        // It was given up, and tried again, on a connection that knows nothing of the first question.
        while hanging.asked.get() < 3 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(hanging.connections.get() >= 3);
        assert_eq!(world.waits("hanging"), 3);
    });
}

#[test]
fn a_late_answer_is_waited_for_and_counts() {
    check(async |world| {
        let hook = Receiver::start(|_| Way::Late(Duration::from_millis(100))).await;
        world.expect("hook", hook.address, 1, 4);
        world.start(
            "hook",
            "-",
            Pace {
                forget_every: Duration::ZERO,
                ..pace()
            },
        );
        nothing_waits(&world, "hook").await;
        assert_eq!(hook.keys(), keys(0, 4));
        assert!(
            world.forgotten.get() >= 4,
            "each as soon as it is taken, when that is rare"
        );
    });
}

#[test]
fn a_connection_that_ended_between_events_costs_none() {
    check(async |world| {
        let hook = Receiver::start(|_| Way::HangUp).await;
        world.expect("hook", hook.address, 1, 50);
        world.start("hook", "-", pace());
        nothing_waits(&world, "hook").await;
        assert_eq!(hook.keys(), keys(0, 50));
        assert_eq!(hook.connections.get(), 50);
    });
}

#[test]
fn one_that_hangs_up_instead_of_answering_is_asked_again() {
    check(async |world| {
        let way = |number| {
            if number % 3 == 2 {
                Way::Status(200)
            } else {
                Way::NoAnswer
            }
        };
        let hook = Receiver::start(way).await;
        world.expect("hook", hook.address, 1, 10);
        world.start("hook", "-", pace());
        nothing_waits(&world, "hook").await;
        assert_eq!(hook.keys(), keys(0, 10));
    });
}

#[test]
fn an_answer_without_end_is_an_answer() {
    check(async |world| {
        let hook = Receiver::start(|_| Way::Endless).await;
        world.expect("hook", hook.address, 1, 5);
        world.start("hook", "-", pace());
        nothing_waits(&world, "hook").await;
        assert_eq!(hook.keys(), keys(0, 5));
        assert_eq!(
            hook.connections.get(),
            5,
            "each is given up after so many bytes"
        );
    });
}

#[test]
fn a_new_notifier_repeats_what_the_old_one_had_not_had_forgotten_and_misses_nothing() {
    check(async |world| {
        let hook = Receiver::start(|_| Way::Late(Duration::from_millis(1))).await;
        world.expect("hook", hook.address, 2, 60);
        for round in 1..=5 {
            let telling = world.start("hook", "-", pace());
            hook.has_taken(round * 23).await;
            telling.abort();
        }
        world.start("hook", "-", pace());
        nothing_waits(&world, "hook").await;
        for shard in 0..2 {
            // As a receiver sees it that leaves out what it has had: nothing is missing, and nothing comes before its time.
            let mut seen = BTreeSet::new();
            let of_shard = |key: &String| key.starts_with(&format!("{shard}/"));
            let told = hook.keys().into_iter().filter(of_shard);
            let first: Vec<String> = told.filter(|key| seen.insert(key.clone())).collect();
            assert_eq!(first, keys(shard, 60));
        }
    });
}

#[test]
fn metadata_that_ends_between_question_and_answer_is_asked_again() {
    check(async |world| {
        let hook = Receiver::start(|_| Way::Status(200)).await;
        world.expect("hook", hook.address, 1, 150);
        world.hangs_up.set(3);
        world.start("hook", "-", pace());
        hook.has_taken(100).await;
        world.hangs_up.set(20);
        nothing_waits(&world, "hook").await;
        assert_eq!(
            hook.keys(),
            keys(0, 150),
            "nothing was told again that was forgotten"
        );
    });
}
