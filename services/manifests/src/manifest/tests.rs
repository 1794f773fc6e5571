//! Each rule of one manifest, and the line that is named when it is broken.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
use super::*;

const GOOD: &str = r#"
name = "store"
about = "Keeps things."
rank = 4
profile = "store"
[limits]
memory_mb = 64
processes = 4
open_files = 64
[[grant]]
name = "door"
kind = "door"
why = "Calls come in here."
[[serves]]
conversation = "things"
to = ["front"]
why = "The front keeps its things here."
"#;

fn check(from: &str, to: &str, expected: &str) {
    assert!(GOOD.contains(from), "the case changes nothing: {from}");
    let error = Manifest::parse("store.toml", &GOOD.replace(from, to))
        .unwrap_err()
        .to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn each_broken_rule_is_named_with_its_line() {
    Manifest::parse("store.toml", GOOD).unwrap();
    check(
        "rank = 4",
        "rank = 4\ncolour = 1",
        "store.toml:5: unknown field `colour`",
    );
    check("rank = 4", "rank = 400", "store.toml:4: invalid value");
    check("rank = 4\n", "", "missing field `rank`");
    check(
        "name = \"store\"",
        "name = \"Store\"",
        "store.toml:2: \"Store\" is not a name",
    );
    check(
        "name = \"door\"",
        "name = \"the door\"",
        "store.toml:11: \"the door\" is not a name",
    );
    check(
        "kind = \"door\"",
        "kind = \"window\"",
        "store.toml:12: unknown variant `window`",
    );
    check(
        "kind = \"door\"",
        "kind = \"listener\"",
        "store.toml:11: a listener has `listen`",
    );
    check("kind = \"door\"", "kind = \"edge\"", "an edge has `peer`");
    check(
        "kind = \"door\"",
        "kind = \"door\"\npeer = \"x\"",
        "only a listener has",
    );
    check(
        "kind = \"door\"",
        "kind = \"program\"",
        "has a grant of kind \"door\"",
    );
    check("Calls come in here.", " ", "grant \"door\" has no reason");
    check(
        "[[serves]]",
        "[[grant]]\nname = \"door\"\nkind = \"door\"\nwhy = \"x\"\n[[serves]]",
        "two grants",
    );
    check(
        "[[serves]]",
        "[[calls]]\nservice = \"a\"\nconversation = \"b\"\nwhy = \"x\"\n[[serves]]",
        "kind \"bus\"",
    );
    let dial = "[[dials]]\nkind = \"webhook\"\nwhy = \"x\"\n";
    let bus = "[[grant]]\nname = \"bus\"\nkind = \"bus\"\nwhy = \"x\"\n";
    let dials = |all: &[&str]| format!("{}[[serves]]", all.concat());
    check(
        "[[serves]]",
        &dials(&[dial]),
        "calls or dials needs a grant of kind \"bus\"",
    );
    check(
        "[[serves]]",
        &dials(&[bus, dial, dial]),
        "store.toml:19: two dials are of the kind \"webhook\"",
    );
    check(
        "[[serves]]",
        &dials(&[bus, &dial.replace("\"x\"", "\" \"")]),
        "dial \"webhook\" has no reason",
    );
    check(
        "[[serves]]",
        &dials(&[bus, &dial.replace("webhook", "anywhere")]),
        "store.toml:19: unknown variant `anywhere`",
    );
    Manifest::parse(
        "store.toml",
        &GOOD.replace("[[serves]]", &dials(&[bus, dial])),
    )
    .unwrap();
    check(
        "to = [\"front\"]",
        "to = [\"front\"]\nstrangers = true",
        "store.toml:15: \"things\" is for strangers, so `to` is empty",
    );
    check(
        "to = [\"front\"]",
        "to = []\nacross = true\nstrangers = true",
        "store.toml:15: \"things\" is for members by `across`, or for strangers",
    );
    check(
        "to = [\"front\"]",
        "to = []",
        "store.toml:15: \"things\" is served to nobody",
    );
    check(
        "to = [\"front\"]",
        "to = [\"front\"]\nacross = 1",
        "store.toml:17: invalid type",
    );
    let own = "[[calls]]\nservice = \"store\"\nconversation = \"twin\"\nwhy = \"x\"\n";
    check(
        "[[serves]]",
        &dials(&[bus, own]),
        "store.toml:20: a service calls itself only on other nodes",
    );
    check(
        "rank = 4",
        "rank = 4\nneeds = [\"The mesh\"]",
        "store.toml:5: \"The mesh\" is not a name",
    );
    check(
        "memory_mb = 64",
        "memory_mb = 0",
        "memory_mb and processes of at least 1",
    );
    check(
        "open_files = 64",
        "open_files = 64\ncpu_weight = 0",
        "cpu_weight from 1",
    );
    check(
        "rank = 4",
        "rank = 4\ndaemon = true\nprogram = \"x\"",
        "init starts no other program",
    );
    check("rank = 4", "rank = ", "store.toml:4");
}

#[test]
fn a_placement_says_how_many_and_where_and_is_for_programs_that_keep_nothing() {
    let placed =
        |more: &str, placement: &str| format!("rank = 4\n{more}\nplacement = {{ {placement} }}");
    let own = "program = \"x\"";
    for zones in ["distinct", "any"] {
        let placement = format!("count = 16, zones = \"{zones}\"");
        let text = GOOD.replace("rank = 4", &placed(own, &placement));
        let manifest = Manifest::parse("store.toml", &text).unwrap();
        assert_eq!(manifest.placement.unwrap().count, 16);
    }
    let any = "count = 1, zones = \"any\"";
    for (more, placement, expected) in [
        (own, "count = 0, zones = \"any\"", "count from 1 to 16"),
        (own, "count = 17, zones = \"any\"", "count from 1 to 16"),
        (own, "count = 1", "missing field `zones`"),
        (own, "count = 1, zones = \"two\"", "unknown variant `two`"),
        (
            own,
            "count = 1, zones = \"any\", on = 1",
            "unknown field `on`",
        ),
        ("", any, "what is built in runs on every node"),
        ("daemon = true", any, "what is built in runs on every node"),
        (
            "program = \"x\"\nroot = \"store\"",
            any,
            "keeps nothing on a node",
        ),
    ] {
        check("rank = 4", &placed(more, placement), expected);
    }
}
