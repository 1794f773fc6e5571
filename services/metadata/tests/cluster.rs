//! Who belongs, through the service's door: a founder makes its cluster once, and tells membership of every change.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "tests: a panic is the failure"
)]

#[allow(dead_code, reason = "the harness serves other tests, too")]
mod harness;

use harness::membership::{FakeMembership, key, node};
use harness::{FakeBlocks, Home};
use protocol::cluster::{ClusterId, NodeEntry, Roster, Standing};
use protocol::metadata::{MetadataError, Operation, Reply};
use protocol::token::Token;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn start(directory: &Path, members: &Arc<FakeMembership>, founder: bool) -> Home {
    let blocks = Arc::new(FakeBlocks::default());
    Home::start_as(directory, blocks, members.clone(), founder)
}

fn roster(home: &Home) -> Option<Roster> {
    match home.connect_as("console").call(Operation::Roster) {
        Ok(Reply::Roster(roster)) => roster,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_founder_makes_its_cluster_once_and_keeps_its_entry_true() {
    let directory = tempfile::tempdir().unwrap();
    let members = FakeMembership::of(node(1), None);
    let home = start(directory.path(), &members, true);
    let first = members.until(|roster| roster.version == 1);
    assert_eq!(first.nodes, [node(1)]);
    assert_eq!(roster(&home), Some(first.clone()));
    home.stop();

    // It is the same cluster after a restart, and membership is told again even if its disk has forgotten.
    let members = FakeMembership::of(node(1), None);
    let home = start(directory.path(), &members, true);
    assert_eq!(members.until(|_| true), first);
    home.stop();

    let moved = NodeEntry {
        zone: "lille".into(),
        mesh: "[2001:db8::1]:4100".into(),
        ..node(1)
    };
    let members = FakeMembership::of(moved.clone(), Some(first.clone()));
    let home = start(directory.path(), &members, true);
    let now = members.until(|roster| roster.version == 2);
    assert_eq!((now.cluster, &now.nodes[..]), (first.cluster, &[moved][..]));
    home.stop();
}

#[test]
fn a_joiner_makes_no_cluster_and_a_lost_one_of_several_is_not_made_again() {
    let remembered = Roster {
        cluster: ClusterId([7; 16]),
        version: 4,
        nodes: vec![node(1), node(2)],
    };
    let alone = Roster {
        nodes: vec![node(1)],
        ..remembered.clone()
    };
    for (founder, kept, expected) in [
        (false, None, None),
        (true, Some(remembered.clone()), Some(remembered)),
        (false, Some(alone.clone()), Some(alone.clone())),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let members = FakeMembership::of(node(1), kept);
        let home = start(directory.path(), &members, founder);
        std::thread::sleep(Duration::from_millis(1_500));
        let answer = home.connect_as("console").call(Operation::Roster);
        assert!(
            matches!(
                answer,
                Ok(Reply::Roster(None)) | Err(MetadataError::Unavailable(_))
            ),
            "there is no cluster here: {answer:?}"
        );
        assert_eq!(members.roster(), expected);
        home.stop();
    }
    // A cluster of this node alone goes on under its name.
    let directory = tempfile::tempdir().unwrap();
    let members = FakeMembership::of(node(1), Some(alone.clone()));
    let home = start(directory.path(), &members, true);
    let now = members.until(|roster| roster.version == 5);
    assert_eq!((now.cluster, now.nodes), (alone.cluster, alone.nodes));
    home.stop();
}

#[test]
fn an_invitation_leads_to_this_node_and_only_the_operator_makes_one() {
    let directory = tempfile::tempdir().unwrap();
    let members = FakeMembership::of(node(1), None);
    let home = start(directory.path(), &members, true);
    let cluster = members.until(|_| true).cluster;
    let invite = |for_ms| Operation::Invite { for_ms };
    let hour_ms = 3_600_000;
    let made = home.connect_as("console").call(invite(hour_ms));
    let Ok(Reply::Invited { token, expires_ms }) = made else {
        panic!("{made:?}");
    };
    let token: Token = token.parse().unwrap();
    assert_eq!((token.cluster, token.key), (cluster, key(1)));
    assert_eq!(token.mesh.to_string(), node(1).mesh);
    assert_eq!(expires_ms, 1_800_000_000_000 + hour_ms);
    for (client, for_ms) in [
        ("s3-frontend", hour_ms),
        ("console", 1),
        ("console", u64::MAX),
    ] {
        let refused = home.connect_as(client).call(invite(for_ms));
        assert!(
            matches!(refused, Err(MetadataError::Refused(_))),
            "{client}"
        );
    }
    let last = home.connect_as("console").call(Operation::SetStanding {
        key: key(1),
        standing: Standing::Revoked,
    });
    assert!(matches!(last, Err(MetadataError::Refused(_))), "{last:?}");
    home.stop();
}

#[test]
fn a_node_that_others_cannot_reach_invites_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let alone = NodeEntry {
        mesh: String::new(),
        ..node(1)
    };
    let members = FakeMembership::of(alone, None);
    let home = start(directory.path(), &members, true);
    members.until(|_| true);
    let invite = Operation::Invite { for_ms: 3_600_000 };
    match home.connect_as("console").call(invite) {
        Err(MetadataError::Refused(why)) => assert!(why.contains("--mesh"), "{why}"),
        other => panic!("{other:?}"),
    }
    home.stop();
}
