//! Whether a process has reason to hold what it holds, by the manifests alone: what nobody declared is an alarm.

use manifests::{Kind, Manifest, Outside, Policy};
use protocol::inspect::{Process, SocketEnd};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// The addresses outside of the node that its operator has named, by the kind under which manifests speak of them.
#[derive(Debug, Default)]
pub(crate) struct Named {
    webhooks: BTreeMap<String, SocketAddr>,
}

impl Named {
    /// Of the node's setting; of one that is not understood nothing, so that every connection outside is an alarm.
    pub(crate) fn new(webhooks: &str) -> Self {
        Self {
            webhooks: Outside::addresses(webhooks).unwrap_or_default(),
        }
    }

    /// Those that a process with `manifest` may be connected to: name and address.
    pub(crate) fn of<'a>(
        &'a self,
        manifest: &'a Manifest,
    ) -> impl Iterator<Item = (&'a String, &'a SocketAddr)> {
        let dials = manifest.dials.iter();
        dials.flat_map(|dial| match dial.kind {
            Outside::Webhook => &self.webhooks,
        })
    }
}

/// Where a connection out of the node may lead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) named: &'a Named,
    /// The addresses of the other nodes of the cluster.
    pub(crate) nodes: &'a [IpAddr],
}

/// The descriptor on which the supervisor speaks (sandbox-profiles places it).
const START_CHANNEL: u32 = 3;

/// Whether the descriptor `number` of `process`, which the kernel calls `what`, follows from the manifests.
pub(crate) fn is_explained(
    policy: &Policy,
    known: Known<'_>,
    process: &Process,
    number: u32,
    what: &str,
) -> bool {
    let Some(manifest) = policy.get(&process.name) else {
        return false;
    };
    // Init makes everything that it hands out, and the orchestrator holds what it packs from.
    if matches!(manifest.name.as_str(), "init" | "orchestrator") {
        return true;
    }
    let profile = sandbox_profiles::profile(&manifest.profile);
    match (number, what) {
        (0 | 1, "/dev/null") => true,
        (2, pipe) => pipe.starts_with("pipe:"),
        (_, socket) if socket.starts_with("socket:") => {
            let end = process.sockets.iter().find(|(at, _)| *at == number);
            end.is_some_and(|(_, end)| leads_where_it_may(policy, known, manifest, number, end))
        }
        (_, "anon_inode:[eventpoll]" | "anon_inode:[eventfd]") => true,
        (_, "anon_inode:[io_uring]") => profile.is_some_and(|profile| profile.ring.is_some()),
        (_, path) => {
            path.starts_with('/')
                && !path.starts_with("/memfd:")
                && !path.starts_with("/dev/")
                && handles_files(manifest)
        }
    }
}

/// A service with a directory of its own, one that is handed descriptors of single blocks by the block-store, or a daemon with a record.
fn handles_files(manifest: &Manifest) -> bool {
    let mut calls = manifest.calls.iter();
    let mut grants = manifest.grants.iter();
    manifest.root.is_some()
        || calls.any(|call| call.conversation == "blocks")
        || grants.any(|grant| grant.kind == Kind::Record)
}

/// Whether the manifests let a process with `manifest` talk to whoever is at the other end.
fn leads_where_it_may(
    policy: &Policy,
    known: Known<'_>,
    manifest: &Manifest,
    number: u32,
    end: &SocketEnd,
) -> bool {
    let name = manifest.name.as_str();
    match end {
        // It leads nowhere, or the host's kernel does not tell (which the node says of itself).
        SocketEnd::EmptyNetwork | SocketEnd::Untold => true,
        // The bus opens every socket in the network; membership is brought the one for gossip.
        SocketEnd::Inet { .. } if matches!(name, "bus" | "membership") => true,
        SocketEnd::Inet { peer, .. } => {
            let mut grants = manifest.grants.iter();
            let peer: Option<SocketAddr> = peer.as_ref().and_then(|peer| peer.parse().ok());
            // The relay carries what the kernel does not, between the services of two nodes; where the kernel does, they hold the connection themselves.
            let may_cross = name == RELAY || crosses(manifest);
            if may_cross && peer.is_some_and(|peer| known.nodes.contains(&peer.ip())) {
                return true;
            }
            grants.any(|grant| grant.kind == Kind::Datagram)
                || listens(manifest, |address| address != "control")
                || known.named.of(manifest).any(|(_, at)| Some(*at) == peer)
        }
        SocketEnd::Unix(peers) => peers.iter().all(|peer| {
            let peer = peer.as_str();
            // The bus keeps a duplicate of each server's end, and holds the other end of each door.
            peer == "bus"
                || name == "bus"
                || peer == name
                || (name == RELAY && policy.get(peer).is_some_and(crosses))
                || (peer == RELAY && crosses(manifest))
                || (number == START_CHANNEL && matches!(peer, "init" | "orchestrator"))
                || may_talk(policy, name, peer)
                || may_talk(policy, peer, name)
        }),
    }
}

/// Whether it may talk to other nodes, by its manifest.
fn crosses(manifest: &Manifest) -> bool {
    let mut serves = manifest.serves.iter();
    let (mut calls, newcomer) = (manifest.calls.iter(), manifest.name == "membership");
    // Membership is brought the connection by which this node asks to belong.
    newcomer || calls.any(|call| call.across) || serves.any(|one| one.across || one.strangers)
}

fn listens(manifest: &Manifest, is_there: impl Fn(&str) -> bool) -> bool {
    let mut listeners = manifest
        .grants
        .iter()
        .filter(|grant| grant.kind == Kind::Listener);
    listeners.any(|grant| grant.listen.as_deref().is_some_and(&is_there))
}

/// The service that does the records of TLS between nodes.
const RELAY: &str = "relay";

/// Whether any conversation is allowed from `client` to `service`.
fn may_talk(policy: &Policy, client: &str, service: &str) -> bool {
    policy.get(client).is_some_and(|client| {
        let mut calls = client.calls.iter();
        calls.any(|call| {
            call.service == service && policy.allows(&client.name, service, &call.conversation)
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use manifests::BUILT_IN;

    fn explained(name: &str, number: u32, what: &str, end: Option<SocketEnd>) -> bool {
        let policy = Policy::parse(BUILT_IN.iter().copied()).unwrap();
        let process = Process {
            name: name.into(),
            sockets: end.map(|end| (number, end)).into_iter().collect(),
            ..Process::default()
        };
        let named = Named::new("a=10.0.0.5:80 b=[2001:db8::5]:8080");
        let known = Known {
            named: &named,
            nodes: &["10.0.0.9".parse().unwrap()],
        };
        is_explained(&policy, known, &process, number, what)
    }

    fn unix(peers: &[&str]) -> Option<SocketEnd> {
        Some(SocketEnd::Unix(
            peers.iter().map(ToString::to_string).collect(),
        ))
    }

    #[test]
    fn a_socket_to_whom_the_manifests_name_is_explained() {
        for (name, number, peers) in [
            ("s3-frontend", 9, vec!["bus"]),
            ("s3-frontend", 9, vec!["bus", "metadata"]),
            ("metadata", 9, vec!["s3-frontend"]),
            ("metadata", 3, vec!["orchestrator"]),
            ("bus", 7, vec!["console"]),
            ("console", 12, vec![]),
            ("relay", 5, vec!["bus", "metadata"]),
            ("metadata", 9, vec!["bus", "relay"]),
            ("metadata", 9, vec!["orchestrator"]),
        ] {
            assert!(
                explained(name, number, "socket:[1]", unix(&peers)),
                "{name} {peers:?}"
            );
        }
    }

    #[test]
    fn a_socket_that_nobody_declared_is_an_alarm() {
        for (name, number, peers) in [
            ("block-store", 9, vec!["membership"]),
            ("s3-frontend", 9, vec!["orchestrator"]),
            ("s3-frontend", 3, vec!["metadata", "hostile"]),
            ("block-store", 9, vec!["bus", "init"]),
        ] {
            assert!(
                !explained(name, number, "socket:[1]", unix(&peers)),
                "{name} {peers:?}"
            );
        }
        assert!(
            !explained("metadata", 9, "socket:[1]", None),
            "it says nothing of where it leads"
        );
    }

    #[test]
    fn only_those_with_an_address_meet_the_network() {
        let inet = || {
            let own = "127.0.0.1:3900".into();
            Some(SocketEnd::Inet { own, peer: None })
        };
        for name in ["s3-frontend", "bus", "membership", "network", "clock"] {
            assert!(explained(name, 9, "socket:[1]", inet()), "{name}");
        }
        for name in ["metadata", "block-store", "console", "notifier"] {
            assert!(!explained(name, 9, "socket:[1]", inet()), "{name}");
        }
    }

    #[test]
    fn only_who_dials_is_connected_outside_and_only_where_the_operator_said() {
        let check = |name: &str, peer: &str| {
            let own = "10.0.0.1:40000".into();
            let peer = Some(peer.to_owned());
            explained(name, 9, "socket:[1]", Some(SocketEnd::Inet { own, peer }))
        };
        assert!(check("notifier", "10.0.0.5:80") && check("notifier", "[2001:db8::5]:8080"));
        for peer in ["10.0.0.5:81", "10.0.0.6:80", "[2001:db8::5]:80", "nonsense"] {
            assert!(!check("notifier", peer), "{peer}");
        }
        for name in ["metadata", "block-store", "console"] {
            assert!(!check(name, "10.0.0.5:80"), "{name}");
        }
        // To another node only who may call across, or carries for those that do.
        for name in ["metadata", "block-store", "relay", "membership"] {
            assert!(check(name, "10.0.0.9:4000"), "{name}");
        }
        for name in ["console", "notifier"] {
            assert!(!check(name, "10.0.0.9:4000"), "{name}");
        }
    }

    #[test]
    fn other_things_are_an_alarm() {
        for what in [
            "/memfd:x",
            "/dev/mem",
            "pipe:[1]",
            "anon_inode:[io_uring]",
            "anon_inode:[pidfd]",
        ] {
            assert!(!explained("metadata", 9, what, None), "{what}");
        }
        assert!(explained("membership", 9, "/data/roster", None));
        assert!(!explained("debug-ssh", 9, "/data/roster", None));
        assert!(
            !explained("nobody", 0, "/dev/null", None),
            "no manifest, no reason"
        );
    }
}
