//! The console among services that are the test's own: a bus that connects to them, people who say anything.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod nodes;
mod people;
mod world;

use crate::explain::Named;
use crate::verbs::Verbs;
use manifests::{BUILT_IN, Policy};
use proptest::prelude::*;
use protocol::inspect::{
    LIST_MAX, Machine, Power, TEXT_BYTES_MAX, Verb, WORD_BYTES_MAX, WORDS_MAX,
};
use protocol::metadata::{BucketId, Change, MetadataError, Operation, Quota};
use protocol::settings::SettingKind;
use protocol::verbs::Role;
use serde_json::Value;
use std::rc::Rc;
use world::World;

/// Runs a test in a runtime of one thread, as the service does.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

/// A console whose bus leads into `world`.
fn console(world: &Rc<World>) -> Rc<Verbs> {
    let policy = Policy::parse(BUILT_IN.iter().copied()).unwrap();
    Rc::new(Verbs::new(world.bus(), policy, Named::default()))
}

async fn say(console: &Verbs, words: &[&str], json: bool) -> (u8, String) {
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    let role = Role::Admin;
    console
        .obey(&Verb {
            words,
            json,
            input: None,
            role,
        })
        .await
}

async fn text(console: &Verbs, words: &[&str]) -> String {
    let (status, text) = say(console, words, false).await;
    assert_eq!(status, 0, "{text}");
    text
}

async fn json(console: &Verbs, words: &[&str]) -> Value {
    let (status, text) = say(console, words, true).await;
    assert_eq!(status, 0, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Every verb that asks and changes nothing.
const QUESTIONS: &[&[&str]] = &[
    &["status"],
    &["members"],
    &["services"],
    &["caps"],
    &["fds"],
    &["fds", "bus"],
    &["layout"],
    &["layout", "show"],
    &["shards"],
    &["key", "list"],
    &["bucket", "list"],
    &["logs"],
    &["logs", "--service", "bus", "--lines", "3"],
    &["logs", "bus", "--lines", "3"],
    &["metrics"],
    &["caps", "--can", "debug-ssh", "metadata"],
    &["caps", "--can", "block-store", "network"],
];

#[test]
fn every_question_has_an_answer_for_people_and_one_for_programs() {
    run(async {
        let world = World::new();
        let console = console(&world);
        for words in QUESTIONS {
            let shown = text(&console, words).await;
            assert!(shown.ends_with('\n') && !shown.contains('\t'), "{shown}");
            json(&console, words).await;
        }
        assert_eq!(world.changes.borrow().len(), 0);
    });
}

#[test]
fn status_has_what_scripts_rely_on() {
    run(async {
        let world = World::new();
        let status = json(&console(&world), &["status"]).await;
        assert_eq!(status["node"], "n1");
        assert_eq!(status["zone"], "z1");
        assert_eq!(status["s3"], "http://127.0.0.1:3900");
        assert_eq!(status["ready"], true);
        assert_eq!(status["limits_missing"][0], "no io.weight here");
        let services = status["services"].as_array().unwrap();
        let bus = services.iter().find(|row| row["name"] == "bus").unwrap();
        assert_eq!(bus["pid"], 4_002, "as the host sees it");
        let stopped = services.iter().find(|row| row["name"] == "metadata");
        assert_eq!(stopped, None);

        world.add_service("metadata", 0, "waiting");
        let console = console(&world);
        let status = json(&console, &["status"]).await;
        assert_eq!(status["ready"], false);
        assert_eq!(status["not_ready"], serde_json::json!(["metadata"]));
        let services = json(&console, &["services"]).await;
        let row = &services.as_array().unwrap().last().unwrap().clone();
        assert_eq!(row["pid"], Value::Null);
        assert_eq!(row["state"], "waiting");
    });
}

#[test]
fn status_of_a_machine_tells_its_addresses_and_its_memory() {
    run(async {
        let world = World::new();
        let console = console(&world);
        let status = json(&console, &["status"]).await;
        assert_eq!(status.get("machine"), None, "the host is not the node's");
        *world.machine.borrow_mut() = Some(Machine {
            addresses: vec!["192.168.1.20".into(), "fd00::1".into()],
            memory_bytes: 500 << 20,
            memory_available_bytes: 420 << 20,
        });
        let status = json(&console, &["status"]).await;
        assert_eq!(status["machine"]["memory_used_kb"], 80 << 10);
        assert_eq!(
            status["addresses"],
            serde_json::json!(["192.168.1.20", "fd00::1"])
        );
        let shown = text(&console, &["status"]).await;
        assert!(shown.contains("addresses:\n  192.168.1.20\n"), "{shown}");
    });
}

#[test]
fn a_fresh_key_is_shown_once_and_has_the_shape_of_aws() {
    run(async {
        let world = World::new();
        let console = console(&world);
        let key = json(&console, &["key", "create", "laptop", "--create-buckets"]).await;
        let (id, secret) = (key["access_key"].as_str(), key["secret_key"].as_str());
        let (id, secret) = (id.unwrap(), secret.unwrap());
        assert_eq!((id.len(), secret.len()), (20, 40));
        assert_eq!(key["create_buckets"], true);
        let second = text(&console, &["key", "create", "phone"]).await;
        let keys = world.keys.borrow().clone();
        assert!(second.contains(&keys[1].secret_key));
        assert_ne!(keys[0].secret_key, keys[1].secret_key);
        assert!(keys[0].create_buckets && !keys[1].create_buckets && !keys[1].root);
        for json in [false, true] {
            let (_, list) = say(&console, &["key", "list"], json).await;
            assert!(list.contains(id) && list.contains("laptop"));
            assert!(keys.iter().all(|key| !list.contains(&key.secret_key)));
        }
    });
}

#[test]
fn the_first_key_is_the_same_however_often_it_is_asked_for() {
    run(async {
        let world = World::new();
        let console = console(&world);
        let first = json(&console, &["first-key"]).await;
        assert_eq!(first["region"], "us-east-1");
        assert_eq!(json(&console, &["first-key"]).await, first);
        let keys = world.keys.borrow();
        assert!(keys[0].root);
        assert_eq!(first["secret_key"], keys[0].secret_key.as_str());
    });
}

#[test]
fn allow_adds_to_the_rights_and_deny_takes_from_them() {
    run(async {
        let world = World::new();
        let console = console(&world);
        let key = json(&console, &["key", "create", "laptop"]).await;
        let key = key["access_key"].as_str().unwrap();
        let steps: [(&[&str], &str); 4] = [
            (&["allow", key, "--bucket", "b", "--read"], "r--"),
            (
                &["allow", key, "--owner", "--write", "--bucket", "b"],
                "rwo",
            ),
            (&["deny", key, "--bucket", "b", "--owner"], "rw-"),
            (&["deny", key, "--bucket", "b", "--read", "--write"], "---"),
        ];
        for (words, expected) in steps {
            let said = text(&console, &[&["key"], words].concat()).await;
            assert_eq!(said, format!("{key} may now b:{expected}\n"));
            let rights = world.rights_of(key, "b");
            let held = [(rights.read, 'r'), (rights.write, 'w'), (rights.owner, 'o')];
            let held: String = held
                .map(|(has, letter)| if has { letter } else { '-' })
                .iter()
                .collect();
            assert_eq!(held, expected, "{words:?}");
        }
        let (status, why) = say(
            &console,
            &["key", "allow", "TRNONE", "--bucket", "b", "--read"],
            false,
        )
        .await;
        assert_eq!(status, 1, "{why}");
    });
}

#[test]
fn two_changes_of_one_keys_rights_at_a_time_both_count() {
    run(async {
        let world = World::new();
        let console = console(&world);
        let key = json(&console, &["key", "create", "laptop"]).await;
        let key = key["access_key"].as_str().unwrap();
        let read = ["key", "allow", key, "--bucket", "b", "--read"];
        let write = ["key", "allow", key, "--bucket", "b", "--write"];
        tokio::join!(text(&console, &read), text(&console, &write));
        let rights = world.rights_of(key, "b");
        assert!(rights.read && rights.write, "{rights:?}");
    });
}

#[test]
fn lists_go_on_to_their_last_page() {
    run(async {
        let world = World::new();
        let console = console(&world);
        for number in 0..23 {
            let name = format!("name{number:02}");
            text(&console, &["key", "create", &name]).await;
            text(&console, &["bucket", "create", &name]).await;
        }
        for list in [["key", "list"], ["bucket", "list"]] {
            let rows = json(&console, &list).await;
            let mut names: Vec<&str> = rows
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row["name"].as_str().unwrap())
                .collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), 23);
        }
    });
}

#[test]
fn a_bucket_gets_names_a_quota_and_a_web_site() {
    run(async {
        let world = World::new();
        let console = console(&world);
        text(&console, &["bucket", "create", "photos"]).await;
        text(
            &console,
            &["bucket", "alias", "add", "photos", "www.photos.org"],
        )
        .await;
        text(
            &console,
            &["bucket", "quota", "photos", "--max-size", "2KiB"],
        )
        .await;
        text(&console, &["bucket", "website", "photos", "--public"]).await;
        let changes = world.changes.take();
        let quota = Quota {
            objects_max: None,
            bytes_max: Some(2048),
        };
        let website = |change: &Operation| {
            matches!(
                change,
                Operation::Change(Change::SetBucketSetting {
                    kind: SettingKind::Website,
                    ..
                })
            )
        };
        let public = |change: &Operation| {
            matches!(
                change,
                Operation::Change(Change::SetBucketSetting {
                    kind: SettingKind::Policy,
                    ..
                })
            )
        };
        assert!(
            matches!(&changes[1], Operation::Change(Change::AddAlias { alias, .. }) if alias == "www.photos.org"),
            "{changes:?}"
        );
        assert_eq!(
            changes[2],
            Operation::Change(Change::SetQuota {
                bucket: BucketId(1),
                quota
            })
        );
        // First who may read, so that a site that is there can be read.
        assert!(
            public(&changes[3]) && website(&changes[4]) && changes.len() == 5,
            "{changes:?}"
        );
        let (status, why) = say(&console, &["bucket", "quota", "nowhere", "--none"], false).await;
        assert!(status == 1 && why.contains("no bucket nowhere"), "{why}");
    });
}

#[test]
fn a_refusal_is_status_1_with_its_reason() {
    run(async {
        let world = World::new();
        let console = console(&world);
        *world.refuse.borrow_mut() = Some(MetadataError::BucketNotEmpty);
        let (status, why) = say(&console, &["bucket", "delete", "b"], true).await;
        assert_eq!(
            (status, why.as_str()),
            (1, "trousseau: the bucket is not empty\n")
        );
        let (status, why) = say(&console, &["restart", "nobody"], false).await;
        assert_eq!(
            (status, why.as_str()),
            (1, "trousseau: no service nobody\n")
        );
        let (status, why) = say(&console, &["fds", "nobody"], false).await;
        assert_eq!(status, 1, "{why}");
    });
}

#[test]
fn a_change_whose_answer_is_lost_is_not_repeated() {
    run(async {
        let world = World::new();
        let console = console(&world);
        world.hang_up_on_changes.set(true);
        let (status, why) = say(&console, &["key", "create", "laptop"], false).await;
        assert_eq!(status, 1);
        assert!(why.contains("may have happened"), "{why}");
        assert_eq!(world.changes.borrow().len(), 1);
        let (status, _) = say(&console, &["restart", "metadata"], false).await;
        assert_eq!((status, world.restarts.get()), (1, 1));
    });
}

#[test]
fn a_key_that_may_only_look_changes_nothing_and_is_told_why() {
    run(async {
        let world = World::new();
        let console = console(&world);
        let role = Role::Inspect;
        for words in [
            &["restart", "bus"][..],
            &["poweroff"],
            &["reboot"],
            &["key", "list"],
            &["key", "create", "x"],
            &["bucket", "create", "b"],
            &["sweep"],
            &["first-key"],
        ] {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let json = false;
            let (status, why) = console
                .obey(&Verb {
                    words,
                    json,
                    input: None,
                    role,
                })
                .await;
            assert_eq!(status, 1);
            assert!(why.contains("needs a key of the role admin"), "{why}");
        }
        assert_eq!((world.asked.get(), world.powers.borrow().len()), (0, 0));
        let (words, json) = (vec!["status".to_owned()], false);
        assert_eq!(
            console
                .obey(&Verb {
                    words,
                    json,
                    input: None,
                    role
                })
                .await
                .0,
            0
        );
    });
}

#[test]
fn daemons_are_restarted_by_init_and_the_machine_obeys_once() {
    run(async {
        let world = World::new();
        let console = console(&world);
        text(&console, &["restart", "bus"]).await;
        text(&console, &["reboot"]).await;
        text(&console, &["poweroff"]).await;
        assert_eq!(world.restarts.get(), 1);
        assert_eq!(*world.powers.borrow(), [Power::Reboot, Power::Off]);
    });
}

#[test]
fn a_trace_tells_calls_descriptors_and_denied_system_calls() {
    run(async {
        let world = World::new();
        let console = console(&world);
        let words = ["trace", "bus", "--seconds", "1"];
        let shown = text(&console, &words).await;
        for part in [
            "asked",
            "connect",
            "Open",
            "denied system call socket: 1",
            "ended: filter",
        ] {
            assert!(shown.contains(part), "{shown}");
        }
        let document = json(&console, &words).await;
        assert_eq!(document["calls"][0]["descriptors_received"], 2);
        assert_eq!(document["denied"][0]["system_call"], "socket");
        for (words, status) in [
            (&["trace", "bus", "--seconds", "0"][..], 2),
            (&["trace", "bus", "--seconds", "61"], 2),
            (&["trace", "bus", "--seconds"], 2),
            (&["trace"], 2),
            (&["trace", "init"], 1),
            (&["trace", "nobody"], 1),
        ] {
            assert_eq!(say(&console, words, false).await.0, status, "{words:?}");
        }
    });
}

#[test]
fn a_service_that_is_gone_is_named() {
    run(async {
        let world = World::new();
        world.alone.set(true);
        for service in [
            "metadata",
            "block-store",
            "membership",
            "orchestrator",
            "init",
        ] {
            *world.missing.borrow_mut() = Some(service);
            let words: &[&str] = match service {
                "metadata" => &["bucket", "list"],
                "membership" => &["members"],
                "block-store" => &["layout"],
                _ => &["services"],
            };
            let (status, why) = say(&console(&world), words, false).await;
            assert_eq!(status, 1);
            assert!(
                why.contains(service) && why.contains("not running"),
                "{why}"
            );
        }
        // The rest of the status is worth seeing without the store.
        *world.missing.borrow_mut() = Some("block-store");
        let status = json(&console(&world), &["status"]).await;
        assert_eq!(status["node"], "n1");
    });
}

#[test]
fn what_is_not_a_verb_is_status_2_and_asks_nobody() {
    let too_long = "x".repeat(WORD_BYTES_MAX + 1);
    let too_many = vec!["status"; WORDS_MAX + 1];
    let cases: &[&[&str]] = &[
        &[],
        &["dance"],
        &["status", "now"],
        &["key"],
        &["key", "create"],
        &["key", "create", ""],
        &["key", "create", "--create-buckets"],
        &["key", "create", "a", "b"],
        &["key", "create", "line\nbreak"],
        &["key", "allow", "K", "--bucket", "b"],
        &["key", "allow", "K", "--read"],
        &["key", "allow", "K", "--bucket"],
        &["key", "allow", "K", "--bucket", "b", "--admin"],
        &["bucket", "create"],
        &["bucket", "alias", "add", "b"],
        &["bucket", "alias", "b", "c"],
        &["bucket", "quota", "b", "--max-size"],
        &["bucket", "quota", "b", "--max-size", "much"],
        &["bucket", "quota", "b", "--max-objects", "-1"],
        &["bucket", "website", "b", "--index"],
        &["bucket", "website", "b", "--none", "--public"],
        &["invite", "now"],
        &["invite", "--for"],
        &["invite", "--for", "31d"],
        &["node"],
        &["node", "revoke"],
        &["node", "revoke", "a", "b"],
        &["node", "forgive", "a"],
        &["logs", "--lines", "0"],
        &["logs", "--lines", "-1"],
        &["logs", "--lines", "1001"],
        &["logs", "--lines"],
        &["logs", "bus", "5"],
        &[&too_long],
        &too_many,
    ];
    run(async {
        let world = World::new();
        let console = console(&world);
        for words in cases {
            let (status, why) = say(&console, words, false).await;
            assert_eq!(status, 2, "{words:?}: {why}");
            assert!(why.starts_with("trousseau: ") && why.ends_with('\n'));
        }
        let (_, why) = say(&console, &["dance"], false).await;
        assert!(why.contains("status") && why.contains("bucket"));
        assert_eq!(world.asked.get(), 0);
    });
}

#[test]
fn nothing_that_a_service_says_moves_the_operators_cursor() {
    run(async {
        let world = World::new();
        let console = console(&world);
        let hostile = "evil \u{1b}[2J\r\u{7}\u{9b}31m end";
        world.log.borrow_mut().push(hostile.into());
        world.add_service(hostile, 0, hostile);
        for words in QUESTIONS {
            let shown = text(&console, words).await;
            let moves = |c: char| c.is_control() && c != '\n';
            assert!(!shown.contains(moves), "{words:?}: {shown:?}");
        }
        let (_, why) = say(&console, &[hostile], false).await;
        assert!(!why.contains('\u{1b}'), "{why:?}");
        // A program gets the text as it was.
        assert_eq!(json(&console, &["logs"]).await[1], hostile);
    });
}

/// Words that mean something, and others.
fn word() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "status",
        "members",
        "services",
        "caps",
        "--can",
        "fds",
        "key",
        "bucket",
        "create",
        "list",
        "delete",
        "allow",
        "deny",
        "layout",
        "show",
        "assign",
        "apply",
        "attic",
        "shards",
        "logs",
        "restart",
        "first-key",
        "bus",
        "--create-buckets",
        "--bucket",
        "--read",
        "--write",
        "--owner",
        "--service",
        "--lines",
        "3",
        "",
        "metrics",
        "sweep",
        "alias",
        "add",
        "quota",
        "website",
        "info",
        "--public",
        "--none",
        "--max-size",
        "home",
        "invite",
        "--for",
        "1h",
        "node",
        "revoke",
        "leave",
    ];
    prop_oneof![
        8 => proptest::sample::select(KNOWN).prop_map(str::to_owned),
        1 => any::<String>(),
        1 => "[a-z]{1,70}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_words_get_an_answer_and_only_these_change_anything(words in proptest::collection::vec(word(), 0..8), json: bool) {
        run(async move {
            let world = World::new();
            let console = console(&world);
            let (status, text) = console.obey(&Verb { words: words.clone(), json, input: None, role: Role::Admin }).await;
            assert!(status <= 2);
            assert!(!text.is_empty() || status == 0);
            if json && status == 0 {
                serde_json::from_str::<Value>(&text).unwrap();
            }
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let may_change = matches!(
                words[..],
                ["key", "create" | "delete" | "allow" | "deny", ..] | ["bucket", "create" | "delete", _] | ["first-key"]
                    | ["bucket", "alias" | "quota" | "website", ..]
                    | ["invite", ..] | ["node", "revoke" | "leave", _] | ["layout", "assign" | "remove" | "copies" | "apply" | "revert", ..]
            );
            assert!(may_change || world.changes.borrow().is_empty(), "{words:?}");
            assert!(matches!(words[..], ["restart", _]) || world.restarts.get() == 0, "{words:?}");
            let before = (world.changes.borrow().len(), world.restarts.get());
            let looks = Verb { words: words.iter().map(|word| (*word).to_owned()).collect(), json, input: None, role: Role::Inspect };
            console.obey(&looks).await;
            assert_eq!(before, (world.changes.borrow().len(), world.restarts.get()), "{words:?}");
        });
    }
}
