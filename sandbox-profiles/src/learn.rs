//! Learning: every call of a program is reported, so that its profile can be completed and
//! shortened. Exists only with the feature `learn`, which a release build refuses.
//!
//! What is learned goes to standard error, a line for each rule used and each call without a rule,
//! once per process and phase. The example `learn` sums such lines up.
//!
//! A profile without a listener (the orchestrator's) is not learned but left unfiltered: `strace
//! -f` of the whole node shows what that process calls.

use crate::profile::{Profile, Rule, syscall_name};
use crate::sys::seccomp::Notification;
use std::collections::BTreeSet;

/// Arguments that tell what a call does: `ioctl`'s number, `mmap`'s protection.
const TELLING: &[(&str, &[usize])] = &[
    ("clone", &[0]),
    ("epoll_ctl", &[1]),
    ("fallocate", &[1]),
    ("fcntl", &[1]),
    ("futex", &[1]),
    ("getsockopt", &[1, 2]),
    ("ioctl", &[1]),
    ("lseek", &[2]),
    ("madvise", &[2]),
    ("mmap", &[2]),
    ("mprotect", &[2]),
    ("openat", &[2]),
    ("prctl", &[0]),
    ("setsockopt", &[1, 2]),
    ("socket", &[0, 1, 2]),
    ("socketpair", &[0, 1, 2]),
    ("tgkill", &[2]),
    ("unlinkat", &[2]),
];

/// What has been seen of one process.
#[derive(Debug)]
pub(crate) struct Lesson {
    profile: &'static Profile,
    told: BTreeSet<String>,
}

impl Lesson {
    pub(crate) fn new(profile: &'static Profile) -> Self {
        Self {
            profile,
            told: BTreeSet::new(),
        }
    }

    /// Notes the call, and says how it fails if it is a tolerated one.
    pub(crate) fn record(&mut self, call: &Notification, sealed: bool) -> Option<u16> {
        let phase = if sealed { "steady" } else { "start" };
        let find = |rules: &'static [Rule]| {
            rules
                .iter()
                .position(|rule| rule.matches(call.number, &call.args))
        };
        let profile = self.profile;
        let (list, rule) = if let Some(rule) = find(profile.tolerate) {
            ("tolerate", rule)
        } else if let Some(rule) = find(profile.allow) {
            ("allow", rule)
        } else if let (Some(rule), false) = (find(profile.start), sealed) {
            ("start", rule)
        } else {
            ("none", 0)
        };
        let name = syscall_name(call.number);
        let mut line = format!(
            "learned profile={} phase={phase} list={list} ",
            profile.name
        );
        line += &format!("rule={rule} syscall={name}");
        if list == "none" {
            let telling = TELLING.iter().find(|(known, _)| *known == name);
            for index in telling.map_or(&[][..], |(_, indices)| indices) {
                line += &format!(" arg{index}={:#x}", call.args.get(*index).unwrap_or(&0));
            }
        }
        if self.told.insert(line.clone()) {
            eprintln!("{line}");
        }
        if list != "tolerate" {
            return None;
        }
        profile.tolerate.get(rule).and_then(|rule| rule.errno)
    }
}
