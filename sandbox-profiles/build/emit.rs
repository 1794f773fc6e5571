//! Profiles to the Rust source that the crate includes: constant tables, nothing computed later.

use crate::compile;
use crate::format::{Capability, Condition, Names, Op, Otherwise, Profile, Ring, Rule, Width};
use seccompiler::BpfProgram;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The names of all system calls, by number.
pub(crate) fn call_table(calls: &Names) -> String {
    format!(
        "pub(crate) static SYSCALL_NAMES: &[&str] = &{:?};\n",
        calls.ordered()
    )
}

/// All profiles, sorted by name.
pub(crate) fn profiles(
    all: &BTreeMap<String, Profile>,
    calls: &Names,
    operations: &Names,
) -> Result<String, String> {
    let mut list = String::new();
    for profile in all.values() {
        let filters = compile::filters(profile, all)?;
        let mut programs = String::new();
        for program in &filters {
            let _ = write!(programs, "{}, ", instructions(program));
        }
        let _ = writeln!(
            list,
            "Profile {{ name: {:?}, about: {:?}, otherwise: Otherwise::{}, children: &{:?}, \
             capabilities: {}, allow: {}, tolerate: {}, start: {}, ring: {}, \
             filters: &[{programs}] }},",
            profile.name,
            profile.about,
            match profile.default {
                Otherwise::Notify => "Notify",
                Otherwise::Refuse => "Refuse",
            },
            profile.children,
            capabilities(&profile.capabilities),
            rules(&profile.allow, false, calls)?,
            rules(&profile.tolerate, true, calls)?,
            rules(&profile.start, false, calls)?,
            ring(profile.ring.as_ref(), operations)?,
        );
    }
    let learner = instructions(&compile::learner(REPORT_WHEN_LEARNING)?);
    Ok(format!(
        "pub(crate) static PROFILES: &[Profile] = &[\n{list}];\n\
         #[cfg(feature = \"learn\")]\n\
         pub(crate) static LEARNER: &[libc::sock_filter] = {learner};\n\
         #[cfg(feature = \"learn\")]\n\
         pub(crate) const REPORT_WHEN_LEARNING: i32 = {REPORT_WHEN_LEARNING};\n"
    ))
}

/// A number that no service reaches, so that its own `sendmsg` calls are all seen.
const REPORT_WHEN_LEARNING: u64 = 900;

fn instructions(program: &BpfProgram) -> String {
    let mut list = String::from("&[");
    for one in program {
        let _ = write!(
            list,
            "libc::sock_filter {{ code: {:#x}, jt: {}, jf: {}, k: {:#x} }}, ",
            one.code, one.jt, one.jf, one.k
        );
    }
    list + "]"
}

fn rules(rules: &[Rule], tolerated: bool, calls: &Names) -> Result<String, String> {
    let mut list = String::from("&[");
    for rule in rules {
        let errno = if tolerated {
            Some(compile::errno(rule)?)
        } else {
            None
        };
        let _ = write!(
            list,
            "Rule {{ syscall: {:?}, number: {}, args: {}, errno: {errno:?}, include: {:?}, \
             elsewhere: {}, reason: {:?} }}, ",
            rule.syscall,
            calls.number(&rule.syscall)?,
            conditions(&rule.args),
            rule.include,
            rule.elsewhere,
            rule.comment,
        );
    }
    Ok(list + "]")
}

fn conditions(conditions: &[Condition]) -> String {
    let mut list = String::from("&[");
    for condition in conditions {
        let mask = match condition.width {
            Width::Dword => u64::from(u32::MAX),
            Width::Qword => u64::MAX,
        };
        let (comparison, mask) = match condition.op {
            Op::Eq => ("Equal", mask),
            Op::Ne => ("NotEqual", mask),
            Op::Ge => ("AtLeast", mask),
            Op::Gt => ("Above", mask),
            Op::Le => ("AtMost", mask),
            Op::Lt => ("Below", mask),
            Op::MaskedEq(bits) => ("Equal", mask & bits),
        };
        let _ = write!(
            list,
            "Condition {{ argument: {}, mask: {mask:#x}, comparison: Comparison::{comparison}, \
             value: {:#x}, meaning: {:?} }}, ",
            condition.index,
            condition.val & mask,
            condition.comment,
        );
    }
    list + "]"
}

fn ring(ring: Option<&Ring>, names: &Names) -> Result<String, String> {
    let Some(ring) = ring else {
        return Ok("None".into());
    };
    let mut list = String::new();
    for one in &ring.operations {
        let _ = write!(
            list,
            "Operation {{ name: {:?}, code: {}, reason: {:?} }}, ",
            one.operation,
            names.number(&one.operation)?,
            one.comment
        );
    }
    Ok(format!(
        "Some(Ring {{ rings_max: {}, entries_max: {}, operations: &[{list}], reason: {:?} }})",
        ring.rings_max, ring.entries_max, ring.comment
    ))
}

fn capabilities(capabilities: &[Capability]) -> String {
    let mut list = String::from("&[");
    for one in capabilities {
        let _ = write!(
            list,
            "Capability {{ set: rustix::thread::CapabilitySet::{}, reason: {:?} }}, ",
            one.capability, one.comment
        );
    }
    list + "]"
}
