//! Rules to BPF, by seccompiler, with the one action patched in that seccompiler does not have.

use crate::format::{Condition, Otherwise, Profile, Rule};
use seccompiler::{BpfProgram, TargetArch};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_USER_NOTIF: u32 = 0x7fc0_0000;
/// The data of the placeholder that becomes USER_NOTIF: no rule can ask for this one.
const MARKER: u32 = 0x7e57;
/// The error numbers that a tolerated call may be answered with.
const ERRNOS: [(&str, u32); 3] = [("EPERM", 1), ("EACCES", 13), ("ENOSYS", 38)];

/// A seccompiler file: one filter, in its JSON form.
#[derive(Serialize)]
struct Filter<'a> {
    mismatch_action: Action,
    match_action: Action,
    filter: Vec<PlainRule<'a>>,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Allow,
    Errno(u32),
    Trace(u32),
}

#[derive(Serialize)]
struct PlainRule<'a> {
    syscall: &'a str,
    // seccompiler takes an absent list for "any arguments", and an empty one for a mistake.
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<&'a [Condition]>,
}

/// The number of a tolerated call's answer.
pub(crate) fn errno(rule: &Rule) -> Result<u32, String> {
    let name = rule.errno.as_deref().unwrap_or("EPERM");
    let known = ERRNOS.iter().find(|(known, _)| *known == name);
    known
        .map(|(_, number)| *number)
        .ok_or_else(|| format!("{}: errno {name}", rule.syscall))
}

/// The filters of a profile in the order in which they are installed.
///
/// The kernel runs all of them and takes the strictest answer (ERRNO before USER_NOTIF before
/// TRACE before ALLOW), so each error number of `tolerate` is a filter of its own that allows
/// everything else. The last one is the profile itself, and the one that may have a listener.
pub(crate) fn filters(
    profile: &Profile,
    all: &BTreeMap<String, Profile>,
) -> Result<Vec<BpfProgram>, String> {
    let mut filters = Vec::new();
    for (_, number) in ERRNOS {
        let mut rules = Vec::new();
        for rule in &profile.tolerate {
            if errno(rule)? == number {
                rules.push(rule);
            }
        }
        if !rules.is_empty() {
            filters.push(compile(&rules, Action::Errno(number), Action::Allow)?);
        }
    }
    let mut allowed: Vec<&Rule> = profile.allow.iter().collect();
    for name in &profile.children {
        let child = all
            .get(name)
            .ok_or_else(|| format!("{}: no {name}", profile.name))?;
        allowed.extend(&child.allow);
    }
    let allowed = union(&allowed);
    filters.push(match profile.default {
        Otherwise::Refuse => compile(&allowed, Action::Allow, Action::Trace(0))?,
        Otherwise::Notify => {
            let mut program = compile(&allowed, Action::Allow, Action::Trace(MARKER))?;
            patch(&mut program, distinct_calls(&allowed) + 1)?;
            program
        }
    });
    Ok(filters)
}

/// The learner's filter: everything is notified but the spawner's own report on its high
/// descriptor, which nobody could answer yet.
pub(crate) fn learner(report: u64) -> Result<BpfProgram, String> {
    let rule = Rule {
        syscall: "sendmsg".into(),
        args: vec![Condition {
            index: 0,
            width: crate::format::Width::Dword,
            op: crate::format::Op::Eq,
            val: report,
            comment: String::new(),
        }],
        errno: None,
        elsewhere: false,
        include: String::new(),
        comment: String::new(),
    };
    let mut program = compile(&[&rule], Action::Allow, Action::Trace(MARKER))?;
    patch(&mut program, 2)?;
    Ok(program)
}

fn compile(rules: &[&Rule], matched: Action, otherwise: Action) -> Result<BpfProgram, String> {
    let filter = rules
        .iter()
        .map(|rule| PlainRule {
            syscall: &rule.syscall,
            args: (!rule.args.is_empty()).then_some(&rule.args),
        })
        .collect();
    let file = BTreeMap::from([(
        "filter",
        Filter {
            mismatch_action: otherwise,
            match_action: matched,
            filter,
        },
    )]);
    let json = serde_json::to_string(&file).map_err(|error| error.to_string())?;
    let mut programs = seccompiler::compile_from_json(json.as_bytes(), TargetArch::x86_64)
        .map_err(|error| error.to_string())?;
    programs
        .remove("filter")
        .ok_or_else(|| "seccompiler gave no filter".into())
}

/// A rule without arguments covers those with: seccompiler would drop it from such a list.
fn union<'a>(rules: &[&'a Rule]) -> Vec<&'a Rule> {
    let bare: BTreeSet<&str> = rules
        .iter()
        .filter(|rule| rule.args.is_empty())
        .map(|rule| &*rule.syscall)
        .collect();
    let mut kept: Vec<&Rule> = Vec::new();
    for rule in rules {
        let covered = !rule.args.is_empty() && bare.contains(&*rule.syscall);
        let repeated = kept
            .iter()
            .any(|other| other.syscall == rule.syscall && other.args == rule.args);
        if !covered && !repeated {
            kept.push(rule);
        }
    }
    kept
}

fn distinct_calls(rules: &[&Rule]) -> usize {
    rules
        .iter()
        .map(|rule| &*rule.syscall)
        .collect::<BTreeSet<_>>()
        .len()
}

/// Turns the placeholder into USER_NOTIF: once behind each call's rules, and once at the end.
fn patch(program: &mut BpfProgram, expected: usize) -> Result<(), String> {
    let mut patched = 0;
    for instruction in program.iter_mut() {
        if instruction.code == RETURN && instruction.k == RET_TRACE | MARKER {
            instruction.k = RET_USER_NOTIF;
            patched += 1;
        }
    }
    if patched != expected {
        return Err(format!(
            "patched {patched} instructions instead of {expected}"
        ));
    }
    Ok(())
}
