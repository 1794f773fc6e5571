//! The operator's verbs about nodes: who is there, who is invited, who is put out.

use super::*;
use crate::safety::tests::cluster;
use protocol::cluster::{NodeKey, Standing};
use protocol::membership::{Member, MemberState};
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
        // Blocks are on attic: it may not go before they are elsewhere.
        let (status, why) = say(&console, &["node", "leave", "attic"], false).await;
        assert_eq!(status, 1, "{why}");
        assert!(why.contains("trousseau layout remove attic"), "{why}");
        assert_eq!(world.changes.take(), []);
        let forced = json(&console, &["node", "leave", "attic", "--force"]).await;
        assert_eq!(forced["standing"], "left");
        assert_eq!(world.changes.take().len(), 1);
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

/// Two more that membership knows of, one of which it has lost.
fn two_more(world: &World) {
    let member = |number: u8, state| Member {
        key: NodeKey([number; 32]),
        name: format!("n{number}"),
        zone: "z".into(),
        address: "192.0.2.1:3900".into(),
        mesh: "192.0.2.1:3900".into(),
        capacity_bytes: 1 << 40,
        state,
        incarnation: 0,
        version: "0.1.0".into(),
        services: String::new(),
    };
    let others = [member(2, MemberState::Alive), member(3, MemberState::Gone)];
    world.others.replace(others.into());
}

#[test]
fn the_status_of_a_cluster_tells_people_first_what_is_unsafe_and_what_to_do() {
    run(async {
        let world = World::new();
        let console = console(&world);
        two_more(&world);
        let mut health = cluster(&["lille", "nantes", "brest"]);
        health.nodes[2].silent = Some("no answer".into());
        health.nodes[2].lacking_blocks = None;
        for complete in &mut health.layout.as_mut().unwrap().complete {
            *complete = vec![0];
        }
        world.health.replace(Some(health));
        let shown = text(&console, &["status"]).await;
        let first = shown.lines().next().unwrap();
        let expected = "The cluster is at risk. One more loss in lille loses data.";
        assert_eq!(first, expected, "{shown}");
        let at = |words: &str| {
            shown
                .find(words)
                .unwrap_or_else(|| panic!("{words}: {shown}"))
        };
        assert!(at("ZONE") < at("n3 in zone brest does not answer"));
        assert!(at("-> Start it again") < at("This node:"));
        assert!(shown.contains("-> Do not stop or restart that node"));
        let facts = json(&console, &["status"]).await;
        assert_eq!(facts["node"], "n1", "as of a node that is alone");
        let cluster = &facts["cluster"];
        assert_eq!(
            (&cluster["safe"], &cluster["done"]),
            (&false.into(), &false.into())
        );
        let states: Vec<&str> = cluster["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| node["state"].as_str().unwrap())
            .collect();
        assert_eq!(states, ["gone", "alive", "alive"], "brest, lille, nantes");
        assert_eq!(cluster["shards"][0]["leader"], "n1");
    });
}

#[test]
fn a_cluster_whose_metadata_is_silent_is_told_of_as_far_as_it_is_known() {
    run(async {
        let world = World::new();
        let console = console(&world);
        two_more(&world);
        world.missing.replace(Some("metadata"));
        let shown = text(&console, &["status"]).await;
        assert!(
            shown.starts_with("How the cluster is cannot be told: metadata"),
            "{shown}"
        );
        assert!(shown.contains("This node:"), "{shown}");
    });
}

#[test]
fn what_moves_is_shown_with_what_is_left_of_it() {
    let mut health = cluster(&["lille", "nantes", "brest"]);
    health.nodes[1].lacking_blocks = Some(9);
    let roster = health.roster.clone().unwrap();
    let found = crate::progress::progress(&health, &roster);
    let blocks: Vec<(&str, Option<u64>)> = found
        .iter()
        .map(|one| (one.node.as_str(), one.blocks))
        .collect();
    assert_eq!(blocks, [("n1", Some(0)), ("n2", Some(9)), ("n3", Some(0))]);
    health.layout.as_mut().unwrap().placed.holders[1].stays = false;
    assert_eq!(crate::progress::progress(&health, &roster).len(), 2);
}
