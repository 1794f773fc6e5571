//! A profile as data: what a service may call, and why.

use rustix::thread::CapabilitySet;

/// A sandbox profile, compiled from `<name>.json` at build time.
#[derive(Debug)]
pub struct Profile {
    /// The file's name without `.json`; a manifest names it.
    pub name: &'static str,
    /// What the profile is for, in a sentence.
    pub about: &'static str,
    /// What happens to a call that no rule names.
    pub otherwise: Otherwise,
    /// Profiles of the processes that this one starts: a filter is inherited, so whatever they
    /// may call, this one must let through.
    pub children: &'static [&'static str],
    /// Capabilities that survive exec when the process runs as uid 0 of its user namespace.
    pub capabilities: &'static [Capability],
    /// Calls that the kernel lets through without asking.
    pub allow: &'static [Rule],
    /// Calls that fail with their `errno` and do no harm to anyone.
    pub tolerate: &'static [Rule],
    /// Calls that the supervisor lets through until the service has said that it is ready.
    pub start: &'static [Rule],
    /// The io_uring rings that the supervisor makes for the service.
    pub ring: Option<Ring>,
    /// BPF, in the order of installation; the last may have a listener.
    #[cfg_attr(
        feature = "learn",
        allow(dead_code, reason = "a learner has one of its own")
    )]
    pub(crate) filters: &'static [&'static [libc::sock_filter]],
}

/// What happens to a call that no rule of a profile names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// The supervisor is asked; it allows `start` calls before `Ready` and nothing afterwards.
    Notify,
    /// The call fails with ENOSYS. For a process whose children have supervisors of their own:
    /// only one filter of a chain can have a listener, and an action stricter than USER_NOTIF
    /// would kill those children without telling which call it was.
    Refuse,
}

/// One rule of a profile.
#[derive(Debug)]
pub struct Rule {
    /// The system call's name.
    pub syscall: &'static str,
    /// Its number.
    pub number: u32,
    /// All of these must hold; none means any arguments.
    pub args: &'static [Condition],
    /// The answer to a tolerated call.
    pub errno: Option<u16>,
    /// The list of shared rules that it came from (`includes/<name>.json`); empty for its own.
    pub include: &'static str,
    /// Needed on other machines or in other builds, so that nobody may miss it on this one.
    pub elsewhere: bool,
    /// The caller, the moment, and what breaks without the rule.
    pub reason: &'static str,
}

/// A comparison of one argument, as the kernel's filter makes it.
#[derive(Debug)]
pub struct Condition {
    /// 0 to 5.
    pub argument: u8,
    /// The bits of the argument that are compared.
    pub mask: u64,
    /// How they are compared.
    pub comparison: Comparison,
    /// With what.
    pub value: u64,
    /// The value's name.
    pub meaning: &'static str,
}

/// How a condition compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>=`
    AtLeast,
    /// `>`
    Above,
    /// `<=`
    AtMost,
    /// `<`
    Below,
}

/// The rings that a service may have.
#[derive(Debug)]
pub struct Ring {
    /// How many `io_uring_setup` calls are answered, all before `Ready`.
    pub rings_max: u32,
    /// Submission queue entries; a service that asks for more gets this many.
    pub entries_max: u32,
    /// The only operations that the ring takes.
    pub operations: &'static [Operation],
    /// Who uses the ring, and for what.
    pub reason: &'static str,
}

/// One operation of a ring.
#[derive(Debug)]
pub struct Operation {
    /// Its name without `IORING_OP_`.
    pub name: &'static str,
    /// Its number.
    pub code: u8,
    /// The caller, the moment, and what breaks without it.
    pub reason: &'static str,
}

/// A capability that is kept.
#[derive(Debug)]
pub struct Capability {
    /// Which one.
    pub set: CapabilitySet,
    /// What it is used for.
    pub reason: &'static str,
}

impl Profile {
    /// The allow rules in force: its own and, because a filter is inherited, its children's.
    pub fn allowed(&self) -> impl Iterator<Item = &'static Rule> {
        let children = self.children.iter().filter_map(|name| profile(name));
        self.allow
            .iter()
            .chain(children.flat_map(|child| child.allow))
    }
}

impl Rule {
    /// Whether a call with these registers falls under the rule.
    pub fn matches(&self, number: u32, args: &[u64; 6]) -> bool {
        self.number == number && self.args.iter().all(|condition| condition.holds(args))
    }
}

impl Condition {
    fn holds(&self, args: &[u64; 6]) -> bool {
        let Some(argument) = args.get(usize::from(self.argument)) else {
            return false;
        };
        let argument = argument & self.mask;
        match self.comparison {
            Comparison::Equal => argument == self.value,
            Comparison::NotEqual => argument != self.value,
            Comparison::AtLeast => argument >= self.value,
            Comparison::Above => argument > self.value,
            Comparison::AtMost => argument <= self.value,
            Comparison::Below => argument < self.value,
        }
    }
}

/// The profile of this name.
pub fn profile(name: &str) -> Option<&'static Profile> {
    profiles().find(|profile| profile.name == name)
}

/// All profiles, sorted by name.
pub fn profiles() -> impl Iterator<Item = &'static Profile> {
    generated::PROFILES.iter()
}

/// The name of a system call of this architecture, or `unknown`.
pub fn syscall_name(number: u32) -> &'static str {
    let known = usize::try_from(number)
        .ok()
        .and_then(|n| generated::SYSCALL_NAMES.get(n));
    known
        .copied()
        .filter(|name| !name.is_empty())
        .unwrap_or("unknown")
}

/// Written by `build.rs`.
pub(crate) mod generated {
    use super::{Capability, Comparison, Condition, Operation, Otherwise, Profile, Ring, Rule};
    include!(concat!(env!("OUT_DIR"), "/profiles.rs"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_kernel_headers() {
        for (number, name) in [
            (libc::SYS_read, "read"),
            (libc::SYS_io_uring_setup, "io_uring_setup"),
            (libc::SYS_clone3, "clone3"),
            (libc::SYS_mseal, "mseal"),
        ] {
            assert_eq!(u32::try_from(number).map(syscall_name), Ok(name));
        }
        assert_eq!(syscall_name(0x4000_0000), "unknown");
    }

    #[test]
    fn conditions_compare_as_the_kernel_does() {
        let holds = |comparison, mask, value, argument| {
            let condition = Condition {
                argument: 1,
                mask,
                comparison,
                value,
                meaning: "",
            };
            condition.holds(&[0, argument, 0, 0, 0, 0])
        };
        assert!(
            holds(Comparison::Equal, 0xffff_ffff, 4, 0x1_0000_0004),
            "a dword is 32 bits"
        );
        assert!(!holds(Comparison::Equal, u64::MAX, 4, 0x1_0000_0004));
        assert!(
            holds(Comparison::Equal, 4, 0, 3),
            "PROT_READ | PROT_WRITE has no PROT_EXEC"
        );
        assert!(!holds(Comparison::Equal, 4, 0, 7));
        assert!(holds(Comparison::NotEqual, u64::MAX, 1, 2));
        assert!(holds(Comparison::AtLeast, u64::MAX, 2, 2));
        assert!(!holds(Comparison::Above, u64::MAX, 2, 2));
        assert!(holds(Comparison::AtMost, u64::MAX, 2, 2));
        assert!(!holds(Comparison::Below, u64::MAX, 2, 2));
    }
}
