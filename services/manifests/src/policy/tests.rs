//! The built-in manifests together, and those that do not fit.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
use super::*;

fn built_in() -> Policy {
    Policy::parse(BUILT_IN.iter().copied()).unwrap()
}

#[test]
fn the_built_in_manifests_fit_together_and_order_the_calls() {
    let policy = built_in();
    assert_eq!(policy.services().len(), 7);
    assert!(policy.allows("s3-frontend", "metadata", "metadata"));
    assert!(!policy.allows("metadata", "s3-frontend", "metadata"));
    assert!(!policy.allows("s3-frontend", "metadata", "blocks"));
    assert!(!policy.allows("nobody", "metadata", "metadata"));
}

#[test]
fn reach_is_proved_or_its_absence_is() {
    let policy = built_in();
    let Reach::Path(path) = policy.can("s3-frontend", "directory:metadata") else {
        panic!("the frontend reaches metadata's disk through metadata");
    };
    assert_eq!(path.len(), 2, "{path:?}");
    let Reach::Never(all) = policy.can("block-store", "network") else {
        panic!("the block-store must never reach the network");
    };
    assert!(!all.contains("metadata"));
    for service in ["s3-frontend", "metadata"] {
        let Reach::Never(all) = policy.can(service, "spawn") else {
            panic!("{service} must never start a process");
        };
        assert!(!all.contains("orchestrator"));
        assert!(all.contains("orchestrator:schedule"), "what it does reach");
    }
    assert!(matches!(policy.can("console", "spawn"), Reach::Path(_)));
    assert_eq!(
        policy.can("s3-frontend", "nowhere"),
        Reach::Unknown("nowhere".into())
    );
}

#[test]
fn nobody_but_the_notifier_can_ever_reach_an_address_outside() {
    let policy = built_in();
    for manifest in policy.all() {
        let name = manifest.name.as_str();
        match policy.can(name, "outside:webhook") {
            Reach::Path(path) => assert_eq!((name, path.len()), ("notifier", 1), "{path:?}"),
            Reach::Never(all) => {
                assert!(name != "notifier" && !all.contains("outside:webhook"))
            }
            Reach::Unknown(what) => panic!("no manifest mentions {what}"),
        }
        assert_eq!(manifest.dials("webhook").is_some(), name == "notifier");
        assert_eq!(manifest.dials("listener"), None);
    }
    let Reach::Never(all) = policy.can("notifier", "network") else {
        panic!("the notifier must never make a socket of its own");
    };
    assert!(!all.contains("s3-frontend") && !all.contains("interfaces"));
}

#[test]
fn across_nodes_only_that_is_allowed_which_both_manifests_say_so() {
    let policy = built_in();
    assert!(policy.allows_across("metadata", "metadata", "peers"));
    assert!(!policy.allows("metadata", "metadata", "peers"), "not here");
    for (client, service, conversation) in [
        ("s3-frontend", "metadata", "metadata"),
        ("s3-frontend", "metadata", "peers"),
        ("metadata", "metadata", "admission"),
        ("metadata", "metadata", "metadata"),
        ("metadata", "membership", "members"),
        ("nobody", "metadata", "peers"),
    ] {
        let allowed = policy.allows_across(client, service, conversation);
        assert!(!allowed, "{client} {service} {conversation}");
    }
    let Reach::Path(path) = policy.can("metadata", "elsewhere:metadata") else {
        panic!("metadata talks to itself on other nodes");
    };
    assert_eq!(path.len(), 1, "{path:?}");
    let Reach::Never(all) = policy.can("block-store", "elsewhere:metadata") else {
        panic!("the block-store reaches no other node's metadata");
    };
    let elsewhere = all.iter().filter(|reached| reached.starts_with(ELSEWHERE));
    assert_eq!(elsewhere.collect::<Vec<_>>(), ["elsewhere:block-store"]);
}

/// A placed service and its client; `across` on either side as it is given.
fn placed(calls: &str, serves: &str) -> Result<Policy, String> {
    let text = |name: &str, rank: u8, more: &str| {
        format!(
            "name = {name:?}\nabout = \"x\"\nrank = {rank}\nprofile = \"console\"\n{more}\n\
             [limits]\nmemory_mb = 1\nprocesses = 1\nopen_files = 16\n"
        )
    };
    let grant =
        |kind: &str| format!("grant = [{{ name = {kind:?}, kind = {kind:?}, why = \"x\" }}]");
    let server = format!(
        "program = \"x\"\nplacement = {{ count = 1, zones = \"any\" }}\n{}\n\
         serves = [{{ conversation = \"greeting\", to = [\"caller\"], why = \"x\", {serves} }}]",
        grant("door")
    );
    let client = format!(
        "{}\ncalls = [{{ service = \"greeter\", conversation = \"greeting\", why = \"x\", {calls} }}]",
        grant("bus")
    );
    let (server, client) = (text("greeter", 90, &server), text("caller", 91, &client));
    let own = [("greeter.toml", &*server), ("caller.toml", &*client)];
    Policy::parse(BUILT_IN.iter().copied().chain(own)).map_err(|error| error.to_string())
}

#[test]
fn a_placed_service_is_called_across_nodes_or_not_at_all() {
    let policy = placed("across = true", "across = true").unwrap();
    assert!(policy.allows("caller", "greeter", "greeting"));
    assert!(policy.allows_across("caller", "greeter", "greeting"));
    let Reach::Path(path) = policy.can("caller", "elsewhere:greeter") else {
        panic!("it runs on some node, and is reached there");
    };
    assert_eq!(path.len(), 1, "{path:?}");
    let told = |step: &String| step.contains("on whichever nodes it runs");
    assert!(path.iter().all(told), "{path:?}");
    assert!(matches!(
        policy.can("greeter", "elsewhere:greeter"),
        Reach::Never(_)
    ));

    for (calls, serves, expected) in [
        (
            "across = false",
            "across = false",
            "caller.toml: calls \"greeter\" for \"greeting\" on its own node only, but greeter has a `placement` and may run on another: write `across = true` into this call",
        ),
        (
            "across = true",
            "across = false",
            "which greeter serves to it on its own node only",
        ),
        ("across = false", "across = true", "on its own node only"),
    ] {
        let error = placed(calls, serves).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_stranger_may_ask_to_be_admitted_and_nothing_else() {
    let policy = built_in();
    let may: Vec<_> = policy
        .for_strangers()
        .map(|(service, serve)| (service, serve.conversation.as_str()))
        .collect();
    assert_eq!(may, [("metadata", "admission")]);
    assert!(matches!(policy.can(STRANGER, "metadata"), Reach::Path(path) if path.len() == 1));
    let Reach::Never(_) = policy.can(STRANGER, "spawn") else {
        panic!("a stranger never starts a process");
    };
}

#[test]
fn manifests_that_contradict_each_other_are_refused() {
    let front = r#"
name = "front"
about = "x"
rank = 20
profile = "console"
limits = { memory_mb = 1, processes = 1, open_files = 16 }
grant = [{ name = "bus", kind = "bus", why = "x" }]
calls = [{ service = "metadata", conversation = "metadata", why = "x" }]
"#;
    check_peers();
    let check = |text: &str, expected: &str| {
        let all = BUILT_IN.iter().copied().chain([("front.toml", text)]);
        let error = Policy::parse(all).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(front, "which metadata does not serve to it");
    check(
        &front.replace("\"metadata\"", "\"nobody\""),
        "\"nobody\", which has no manifest",
    );
    check(
        &front.replace("rank = 20", "rank = 5"),
        "rank 5 is metadata's already",
    );
    check(&front.replace("\"front\"", "\"console\""), "is the name of");
}

/// The two sides of a call across nodes have to agree.
fn check_peers() {
    let text = |calls: &str, serves: &str| {
        format!(
            r#"
name = "twin"
about = "x"
rank = 21
profile = "console"
limits = {{ memory_mb = 1, processes = 1, open_files = 16 }}
grant = [
{{ name = "bus", kind = "bus", why = "x" }},
{{ name = "door", kind = "door", why = "x" }},
]
calls = [{{ service = "twin", conversation = "twins", why = "x", {calls} }}]
serves = [{{ conversation = "twins", to = ["twin"], why = "x", {serves} }}]
"#
        )
    };
    let parse = |calls: &str, serves: &str| {
        let text = text(calls, serves);
        let all = BUILT_IN
            .iter()
            .copied()
            .chain([("twin.toml", text.as_str())]);
        Policy::parse(all).map_err(|error| error.to_string())
    };
    assert!(parse("across = true", "across = true").is_ok());
    let error = parse("across = true", "across = false").unwrap_err();
    assert!(error.contains("on its own node only"), "{error}");
    let error = parse("across = false", "across = true").unwrap_err();
    assert!(error.contains("only on other nodes"), "{error}");
}
