//! The filters run on paper: a BPF machine of the few instructions that seccomp filters use, and
//! the promises that hold for every rule of every profile.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use crate::profile::{
    Comparison, Condition, Otherwise, Profile, Rule, generated, profile, profiles,
};

const ARCH_X86_64: u32 = 0xc000_003e;
const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
const USER_NOTIF: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const ALLOW: u32 = 0x7fff_0000;

/// What one filter returns for a call (`struct seccomp_data`; seccomp(2)).
fn run(filter: &[libc::sock_filter], arch: u32, number: u32, args: &[u64; 6]) -> u32 {
    let load = |offset: u32| match offset {
        0 => number,
        4 => arch,
        16..64 => {
            let argument = args[(offset as usize - 16) / 8];
            (if offset.is_multiple_of(8) {
                argument
            } else {
                argument >> 32
            }) as u32
        }
        other => panic!("load from {other}"),
    };
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let one = filter[at];
        let jump = |taken: bool| usize::from(if taken { one.jt } else { one.jf });
        at += 1;
        match one.code {
            0x20 => accumulator = load(one.k),
            0x54 => accumulator &= one.k,
            0x05 => at += one.k as usize,
            0x15 => at += jump(accumulator == one.k),
            0x25 => at += jump(accumulator > one.k),
            0x35 => at += jump(accumulator >= one.k),
            0x06 => return one.k,
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// What the kernel does with a call: the strictest answer of all filters.
fn decide(profile: &Profile, number: u32, args: &[u64; 6]) -> u32 {
    let strictness = |action: &u32| match action & 0xffff_0000 {
        KILL_PROCESS => 0,
        ERRNO => 1,
        USER_NOTIF => 2,
        TRACE => 3,
        ALLOW => 4,
        other => panic!("action {other:#x}"),
    };
    let answers = profile
        .filters
        .iter()
        .map(|filter| run(filter, ARCH_X86_64, number, args));
    answers.min_by_key(strictness).unwrap()
}

fn otherwise(profile: &Profile) -> u32 {
    match profile.otherwise {
        Otherwise::Notify => USER_NOTIF,
        Otherwise::Refuse => TRACE,
    }
}

/// Registers that fit a rule.
fn fitting(rule: &Rule) -> [u64; 6] {
    let mut args = [0; 6];
    for condition in rule.args {
        args[usize::from(condition.argument)] = match condition.comparison {
            Comparison::Equal | Comparison::AtLeast | Comparison::AtMost => condition.value,
            Comparison::NotEqual | Comparison::Above => condition.value + 1,
            Comparison::Below => condition.value - 1,
        };
    }
    assert!(
        rule.matches(rule.number, &args),
        "{}: its conditions exclude each other",
        rule.syscall
    );
    args
}

/// The same with one argument that does not fit.
fn changed(mut args: [u64; 6], condition: &Condition) -> [u64; 6] {
    let lowest = condition.mask & condition.mask.wrapping_neg();
    args[usize::from(condition.argument)] = match condition.comparison {
        Comparison::Equal => condition.value ^ lowest,
        Comparison::NotEqual | Comparison::Above | Comparison::Below => condition.value,
        Comparison::AtLeast => condition.value - 1,
        Comparison::AtMost => condition.value + 1,
    };
    args
}

fn allowed(profile: &Profile, number: u32, args: &[u64; 6]) -> bool {
    profile.allowed().any(|rule| rule.matches(number, args))
}

fn tolerated(profile: &Profile, number: u32, args: &[u64; 6]) -> bool {
    profile
        .tolerate
        .iter()
        .any(|rule| rule.matches(number, args))
}

#[test]
fn every_allowed_call_passes() {
    for profile in profiles() {
        for rule in profile.allow {
            let args = fitting(rule);
            assert_eq!(
                decide(profile, rule.number, &args),
                ALLOW,
                "{}: {rule:?}",
                profile.name
            );
        }
    }
}

#[test]
fn a_changed_argument_does_not_pass() {
    for profile in profiles() {
        for rule in profile.allowed() {
            for condition in rule.args {
                let args = changed(fitting(rule), condition);
                if !allowed(profile, rule.number, &args) && !tolerated(profile, rule.number, &args)
                {
                    let decision = decide(profile, rule.number, &args);
                    assert_eq!(decision, otherwise(profile), "{}: {rule:?}", profile.name);
                }
            }
        }
    }
}

#[test]
fn the_filters_and_the_tables_agree_on_every_call() {
    for profile in profiles() {
        for number in 0..generated::SYSCALL_NAMES.len() as u32 + 10 {
            for args in [[0; 6], [1; 6], [7; 6], [u64::MAX; 6]] {
                let expected = if tolerated(profile, number, &args) {
                    ERRNO
                } else if allowed(profile, number, &args) {
                    ALLOW
                } else {
                    otherwise(profile)
                };
                let decision = decide(profile, number, &args) & 0xffff_0000;
                assert_eq!(decision, expected, "{}: {number} {args:?}", profile.name);
            }
        }
    }
}

#[test]
fn a_tolerated_call_gets_its_errno() {
    for profile in profiles() {
        for rule in profile.tolerate {
            let answer = decide(profile, rule.number, &fitting(rule));
            assert_eq!(
                answer,
                ERRNO | u32::from(rule.errno.unwrap()),
                "{}",
                rule.syscall
            );
        }
    }
}

#[test]
fn a_start_call_is_asked_for() {
    for profile in profiles() {
        for rule in profile.start {
            let args = fitting(rule);
            let expected = if allowed(profile, rule.number, &args) {
                ALLOW
            } else {
                USER_NOTIF
            };
            assert_eq!(
                decide(profile, rule.number, &args),
                expected,
                "{}",
                rule.syscall
            );
        }
    }
}

#[test]
fn other_architectures_are_killed_and_other_abis_denied() {
    const ARCH_I386: u32 = 0x4000_0003;
    const X32_BIT: u32 = 0x4000_0000;
    for profile in profiles() {
        let filter = profile.filters.last().unwrap();
        assert_eq!(
            run(filter, ARCH_I386, 1, &[0; 6]),
            KILL_PROCESS,
            "{}",
            profile.name
        );
        assert_eq!(
            decide(profile, X32_BIT | 1, &[0; 6]),
            otherwise(profile),
            "{}",
            profile.name
        );
    }
}

/// A filter is inherited: whatever a child is allowed, its parent's filter must let through.
#[test]
fn the_filter_of_a_parent_lets_its_children_work() {
    for parent in profiles() {
        for name in parent.children {
            let child = profile(name).unwrap();
            assert_eq!(
                parent.otherwise,
                Otherwise::Refuse,
                "two listeners cannot be nested"
            );
            for rule in child.allow {
                let passes = decide(parent, rule.number, &fitting(rule)) == ALLOW;
                assert!(passes, "{name} under {}: {}", parent.name, rule.syscall);
            }
        }
    }
}

/// What no service may have, whoever edits its profile.
#[test]
fn no_service_has_the_calls_of_its_supervisor() {
    let forbidden = [
        "bind",
        "bpf",
        "clone3",
        "connect",
        "execve",
        "execveat",
        "fork",
        "init_module",
        "kill",
        "listen",
        "mount",
        "open_by_handle_at",
        "perf_event_open",
        "pidfd_getfd",
        "pivot_root",
        "process_vm_readv",
        "process_vm_writev",
        "ptrace",
        "reboot",
        "seccomp",
        "setns",
        "socket",
        "socketpair",
        "symlink",
        "tgkill",
        "umount2",
        "unshare",
        "userfaultfd",
        "vfork",
    ];
    for profile in profiles().filter(|profile| profile.name != "orchestrator") {
        for rule in profile.allow.iter().chain(profile.start) {
            let bus = profile.name == "bus"
                && ["bind", "connect", "listen", "socket", "socketpair"].contains(&rule.syscall);
            // Between its own threads, before Ready.
            let frontend =
                ["s3-frontend", "web"].contains(&profile.name) && rule.syscall == "socketpair";
            assert!(
                bus || frontend || !forbidden.contains(&rule.syscall),
                "{}: {}",
                profile.name,
                rule.syscall
            );
        }
    }
}

/// Calls whose power is in an argument are never allowed with any argument.
#[test]
fn calls_with_power_in_an_argument_are_filtered() {
    let filtered = [
        "clone",
        "fcntl",
        "ioctl",
        "mmap",
        "mprotect",
        "prctl",
        "sendmsg",
        "sendto",
        "setsockopt",
        "socket",
    ];
    for profile in profiles() {
        for rule in profile.allow.iter().chain(profile.start) {
            if filtered.contains(&rule.syscall) {
                assert!(!rule.args.is_empty(), "{}: {}", profile.name, rule.syscall);
            }
            if ["mmap", "mprotect"].contains(&rule.syscall) {
                let executable = [0, 0, 4, 0, 0, 0];
                assert!(!rule.matches(rule.number, &executable), "{}", profile.name);
            }
            // MSG_FASTOPEN connects a socket that has been shut down, or could not connect, to any address.
            let connecting = match rule.syscall {
                "sendmsg" => [0, 0, 0x2000_0000, 0, 0, 0],
                "sendto" => [0, 0, 0, 0x2000_0000, 0, 0],
                _ => continue,
            };
            assert!(!rule.matches(rule.number, &connecting), "{}", profile.name);
        }
    }
}
