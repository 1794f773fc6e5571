//! Every attempt, under every profile, is denied or ends the process, with the call's name.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed test may panic"
)]
#![allow(clippy::indexing_slicing, reason = "a failed test may panic")]

mod supervisor;

use hostile::{Attempt, all};
use sandbox_profiles::{Otherwise, Profile, profile, profiles};
use supervisor::{Ended, Settings};

/// Attempts that are no crime for these: it is what the process is for.
const RIGHTS: &[(&str, &str)] = &[
    ("bus", "socketpair"),
    ("bus", "socket-inet"),
    ("bus", "socket-inet6"),
];

/// Services, which have a supervisor to ask. The other profile is the supervisor's own.
fn watched() -> impl Iterator<Item = &'static Profile> {
    profiles().filter(|profile| profile.otherwise == Otherwise::Notify)
}

/// Attempts that come down to one refused call.
fn with_a_call() -> Vec<&'static Attempt> {
    all()
        .filter(|attempt| !attempt.call.is_empty() && !attempt.needs_ring())
        .collect()
}

/// Runs the attempts one after the other, in a new process after each violation.
fn check(profile: &'static Profile, attempts: &[&Attempt], settings: &Settings) {
    let mut rest = attempts;
    while let Some(first) = rest.first() {
        let names: Vec<&str> = rest.iter().map(|attempt| attempt.name).collect();
        let ended = supervisor::run(profile, &names.join(","), settings);
        let survived = ended.results.len();
        for (attempt, (name, result)) in rest.iter().zip(&ended.results) {
            assert_eq!(attempt.name, name);
            check_result(profile, attempt, result);
        }
        rest = &rest[survived..];
        let Some(attempt) = rest.first() else { return };
        let place = format!("{} under {} ({})", attempt.name, profile.name, first.name);
        assert_eq!(ended.violation, Some(attempt.call), "{place}: {ended:?}");
        rest = &rest[1..];
    }
}

/// An attempt came back: that is right only if the profile knows the call, and the kernel refused.
fn check_result(profile: &'static Profile, attempt: &Attempt, result: &str) {
    let place = format!("{} under {}", attempt.name, profile.name);
    if RIGHTS.contains(&(profile.name, attempt.name)) {
        assert_eq!(result, "SUCCEEDED", "{place}");
        return;
    }
    assert_ne!(result, "SUCCEEDED", "{place}");
    let rules = profile.allow.iter().chain(profile.tolerate);
    let known = rules.into_iter().any(|rule| rule.syscall == attempt.call);
    assert!(
        known,
        "{place}: {result}, but the profile has no {}",
        attempt.call
    );
}

#[test]
fn every_attempt_after_ready_is_denied_or_deadly() {
    for profile in watched() {
        check(profile, &with_a_call(), &Settings::default());
    }
}

/// Start-up calls are the loosest moment: still nothing of this works.
#[test]
fn no_attempt_before_ready_succeeds() {
    let at_start = Settings {
        when: "start",
        ..Settings::default()
    };
    for profile in watched() {
        let mut rest = with_a_call();
        while !rest.is_empty() {
            let names: Vec<&str> = rest.iter().map(|attempt| attempt.name).collect();
            let ended = supervisor::run(profile, &names.join(","), &at_start);
            for (name, result) in &ended.results {
                let place = format!("{name} under {} at start", profile.name);
                let is_start = |attempt: &&&Attempt| {
                    attempt.name == name
                        && profile
                            .start
                            .iter()
                            .any(|rule| rule.syscall == attempt.call)
                };
                // What the start list lets through is the kernel's to refuse, or is harmless.
                let right = RIGHTS.contains(&(profile.name, name))
                    || (profile.ring.is_some() && name == "another-ring");
                if !rest.iter().any(|attempt| is_start(&attempt)) && !right {
                    assert_ne!(result, "SUCCEEDED", "{place}");
                }
            }
            rest.drain(..ended.results.len());
            if let Some(attempt) = rest.first() {
                assert_eq!(ended.violation, Some(attempt.call), "{}", profile.name);
                rest.remove(0);
            }
        }
    }
}

#[test]
fn the_ring_takes_no_other_operation() {
    let attempts: Vec<_> = all().filter(|attempt| attempt.needs_ring()).collect();
    let names: Vec<&str> = attempts.iter().map(|attempt| attempt.name).collect();
    for profile in watched() {
        let ended = supervisor::run(profile, &names.join(","), &Settings::default());
        if profile.ring.is_none() {
            assert_eq!(ended.violation, Some("io_uring_setup"), "{}", profile.name);
            continue;
        }
        assert_eq!(ended.violation, None, "{ended:?}");
        assert_eq!(ended.results.len(), attempts.len(), "{ended:?}");
        for (name, result) in &ended.results {
            assert_eq!(result, "EACCES", "{name} on the ring of {}", profile.name);
        }
    }
}

/// A supervisor's own profile refuses without asking, and has nothing of a service's freedoms.
#[test]
fn the_supervisors_profile_refuses_by_enosys() {
    let orchestrator = profile("orchestrator").unwrap();
    let attempts: Vec<&Attempt> = with_a_call()
        .into_iter()
        .filter(|attempt| {
            !orchestrator
                .allowed()
                .any(|rule| rule.syscall == attempt.call)
        })
        .collect();
    assert!(
        attempts.len() > 80,
        "it allows too much: {}",
        attempts.len()
    );
    let names: Vec<&str> = attempts.iter().map(|attempt| attempt.name).collect();
    let ended = supervisor::run(orchestrator, &names.join(","), &Settings::default());
    assert_eq!(ended.results.len(), attempts.len(), "{ended:?}");
    for (name, result) in &ended.results {
        assert_eq!(result, "ENOSYS", "{name}");
    }
}

#[test]
fn floods_end_at_the_limits() {
    let metadata = profile("metadata").unwrap();
    let settings = Settings {
        data_bytes: Some(64 << 20),
        threads: Some(6),
        // glibc sets itself up at the first thread, which services make before Ready.
        when: "start",
    };
    for (attempt, result) in [("memory-flood", "ENOMEM"), ("thread-flood", "EAGAIN")] {
        let ended = supervisor::run(metadata, attempt, &settings);
        assert_eq!(
            ended.results,
            [(attempt.into(), result.into())],
            "{ended:?}"
        );
    }
}

/// What is wrong on the start channel ends the conversation; nothing is made of it.
#[test]
fn a_broken_protocol_is_noticed_by_the_supervisor() {
    let console = profile("console").unwrap();
    for attempt in [
        "garbage-to-supervisor",
        "version-of-the-future",
        "descriptor-flood",
        "give-an-order",
        "packet-too-long",
    ] {
        let ended = supervisor::run(console, attempt, &Settings::default());
        let refused = ended.results == [(attempt.into(), "EMSGSIZE".into())];
        assert!(ended.garbled || refused, "{attempt}: {ended:?}");
    }
}

#[test]
fn an_end_is_seen_as_what_it_was() {
    let console = profile("console").unwrap();
    let status = |attempt| supervisor::run(console, attempt, &Settings::default()).status;
    assert_eq!(status("exit"), Some(Ended::Exit(7)));
    assert_eq!(status("crash"), Some(Ended::Signal(libc::SIGSEGV)));
}
