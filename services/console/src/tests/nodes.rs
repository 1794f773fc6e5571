//! The operator's verbs about nodes: who is there, who is invited, who is put out.

use super::*;
use protocol::cluster::{NodeKey, Standing};
use protocol::schedule::{RollingReport, ScheduleReport};

#[test]
fn members_shows_where_each_is_reached_what_it_gives_and_what_it_runs() {
    run(async {
        let world = World::new();
        let console = console(&world);
        let members = json(&console, &["members"]).await;
        let first = &members[0];
        assert_eq!(first["name"], "n1");
        assert_eq!(first["state"], "alive");
        assert_eq!(first["capacity_bytes"], 5_u64 << 30);
        assert_eq!(first["address"], "127.0.0.1:3901");
        let shown = text(&console, &["members"]).await;
        for word in ["5.0 GiB", "0.1.0", "metadata console"] {
            assert!(shown.contains(word), "{shown}");
        }
    });
}

#[test]
fn an_invitation_shows_the_token_and_the_words_for_the_new_node() {
    run(async {
        let world = World::new();
        let console = console(&world);
        let made = json(&console, &["invite"]).await;
        assert_eq!(made["token"], "TOKEN");
        let shown = text(&console, &["invite", "--for", "90m"]).await;
        assert!(shown.starts_with("TOKEN\n") && shown.contains("up --join TOKEN --mesh"));
        assert!(shown.contains("within 90 min"), "{shown}");
        let expected = [86_400_000, 5_400_000].map(|for_ms| Operation::Invite { for_ms });
        assert_eq!(world.changes.take(), expected);
        let inspector = Verb {
            words: vec!["invite".into()],
            json: false,
            input: None,
            role: Role::Inspect,
        };
        let (status, why) = console.obey(&inspector).await;
        assert_eq!(status, 1, "{why}");
        assert_eq!(world.changes.take(), []);
    });
}

#[test]
fn a_node_is_drained_by_its_name_and_members_and_services_show_what_follows() {
    run(async {
        let world = World::new();
        let console = console(&world);
        for (verb, draining) in [("drain", true), ("undrain", false)] {
            json(&console, &["node", verb, "cellar"]).await;
            let key = NodeKey([3; 32]);
            let expected = Operation::Drain { key, draining };
            assert_eq!(world.changes.take(), [expected]);
        }
        *world.schedule.borrow_mut() = ScheduleReport {
            services: vec![("bus".into(), vec!["n2".into(), "n3".into()])],
            draining: vec!["n1".into()],
            ..ScheduleReport::default()
        };
        assert_eq!(json(&console, &["members"]).await[0]["draining"], true);
        let services = json(&console, &["services"]).await;
        let bus = services.as_array().unwrap().iter();
        let bus = bus.clone().find(|one| one["name"] == "bus").unwrap();
        assert_eq!(bus["runs_on"], serde_json::json!(["n2", "n3"]));
    });
}

#[test]
fn a_rolling_restart_says_how_far_it_is_and_why_it_stopped() {
    run(async {
        let world = World::new();
        let console = console(&world);
        *world.schedule.borrow_mut() = ScheduleReport {
            rolling: Some(RollingReport {
                done: vec!["n1".into()],
                now: Some("n2".into()),
                next: vec!["n3".into()],
                waits: "n2 is not heard".into(),
            }),
            ..ScheduleReport::default()
        };
        let said = text(&console, &["restart", "--rolling"]).await;
        let expected = "1 of 3 nodes are back, now n2 (n2 is not heard)";
        assert!(said.contains(expected), "{said}");
        assert_eq!(world.changes.take(), [Operation::RestartRolling]);
        assert_eq!(world.restarts.get(), 0, "no service is named --rolling");
        assert!(text(&console, &["status"]).await.contains(expected));
        *world.schedule.borrow_mut() = ScheduleReport {
            stopped: Some("the rolling restart has stopped: why".into()),
            ..ScheduleReport::default()
        };
        assert!(
            text(&console, &["status"])
                .await
                .contains("has stopped: why")
        );
    });
}

#[test]
fn a_node_is_put_out_by_its_name_and_the_one_that_belongs_is_meant() {
    run(async {
        let world = World::new();
        let console = console(&world);
        for (words, key, standing) in [
            (["node", "revoke", "attic"], 2, Standing::Revoked),
            (["node", "leave", "cellar"], 3, Standing::Left),
            (["node", "revoke", "gone"], 4, Standing::Revoked),
        ] {
            let said = json(&console, &words).await;
            assert_eq!(said["name"], words[2]);
            let key = NodeKey([key; 32]);
            let expected = Operation::SetStanding { key, standing };
            assert_eq!(world.changes.take(), [expected]);
        }
        let (status, why) = say(&console, &["node", "revoke", "nobody"], false).await;
        assert_eq!(status, 1);
        assert!(why.contains("there are attic, cellar"), "{why}");
        assert_eq!(world.changes.take(), []);
    });
}
