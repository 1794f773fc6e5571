//! The file format of a profile: what may stand in it, and what makes it wrong.
//!
//! A rule is written as seccompiler writes it (`syscall`, `args`, `comment`), only that here the
//! comment is not optional.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Shorter than this, a comment cannot name the caller and what breaks without the rule.
const COMMENT_BYTES_MIN: usize = 15;

/// MSG_NOSIGNAL: the flags with which the spawner reports before exec.
const REPORT_FLAGS: u64 = 0x4000;

/// What happens to a call that no rule names.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Otherwise {
    /// The supervisor is asked (USER_NOTIF).
    Notify,
    /// The call fails with ENOSYS (TRACE without a tracer).
    Refuse,
}

#[derive(Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Condition {
    pub(crate) index: u8,
    #[serde(rename = "type")]
    pub(crate) width: Width,
    pub(crate) op: Op,
    pub(crate) val: u64,
    /// The value's name, for the reader.
    pub(crate) comment: String,
}

impl Condition {
    /// Whether it is one on the flags of a sendmsg(2), and the spawner's own report before exec fulfils it.
    fn lets_report(&self) -> bool {
        let holds = match self.op {
            Op::MaskedEq(mask) => REPORT_FLAGS & mask == self.val,
            _ => false,
        };
        self.index == 2 && holds
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Width {
    Dword,
    Qword,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Op {
    Eq,
    Ne,
    Ge,
    Gt,
    Le,
    Lt,
    MaskedEq(u64),
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) syscall: String,
    #[serde(default)]
    pub(crate) args: Vec<Condition>,
    /// Only in `tolerate`: the answer that the caller gets, EPERM when absent.
    pub(crate) errno: Option<String>,
    /// Needed on other machines or in other builds: a learner does not miss it.
    #[serde(default)]
    pub(crate) elsewhere: bool,
    /// The include that it came from; empty for a rule of the profile's own.
    #[serde(skip)]
    pub(crate) include: String,
    pub(crate) comment: String,
}

impl Rule {
    /// Its call, if any arguments will do.
    fn any_call(&self) -> Option<String> {
        self.args.is_empty().then(|| self.syscall.clone())
    }
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Operation {
    pub(crate) operation: String,
    pub(crate) comment: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ring {
    pub(crate) rings_max: u32,
    pub(crate) entries_max: u32,
    pub(crate) operations: Vec<Operation>,
    pub(crate) comment: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Capability {
    pub(crate) capability: String,
    pub(crate) comment: String,
}

/// A file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    about: String,
    default: Otherwise,
    #[serde(default)]
    includes: Vec<String>,
    #[serde(default)]
    children: Vec<String>,
    #[serde(default)]
    capabilities: Vec<Capability>,
    #[serde(default)]
    allow: Vec<Rule>,
    #[serde(default)]
    tolerate: Vec<Rule>,
    #[serde(default)]
    start: Vec<Rule>,
    ring: Option<Ring>,
}

/// Rules that several profiles share because the same code makes the calls.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Include {
    #[serde(rename = "about")]
    _about: String,
    #[serde(default)]
    allow: Vec<Rule>,
    #[serde(default)]
    tolerate: Vec<Rule>,
    #[serde(default)]
    start: Vec<Rule>,
}

/// A profile with its includes merged and every rule checked.
pub(crate) struct Profile {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) default: Otherwise,
    pub(crate) children: Vec<String>,
    pub(crate) capabilities: Vec<Capability>,
    pub(crate) allow: Vec<Rule>,
    pub(crate) tolerate: Vec<Rule>,
    pub(crate) start: Vec<Rule>,
    pub(crate) ring: Option<Ring>,
}

impl Profile {
    /// Reads and checks one profile; the error names the file.
    pub(crate) fn read(
        path: &Path,
        includes: &Path,
        calls: &Names,
        operations: &Names,
    ) -> Result<Self, String> {
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let file: File = parse(path)?;
        let mut profile = Self {
            name,
            about: file.about,
            default: file.default,
            children: file.children,
            capabilities: file.capabilities,
            allow: file.allow,
            tolerate: file.tolerate,
            start: file.start,
            ring: file.ring,
        };
        for include in file.includes {
            let mut shared: Include = parse(&includes.join(&include).with_extension("json"))?;
            for rules in [&mut shared.allow, &mut shared.tolerate, &mut shared.start] {
                rules
                    .iter_mut()
                    .for_each(|rule| rule.include.clone_from(&include));
            }
            profile.allow.extend(shared.allow);
            profile.tolerate.extend(shared.tolerate);
            profile.start.extend(shared.start);
        }
        // What is allowed at any time needs no leave at start.
        let allowed: BTreeSet<String> = profile.allow.iter().filter_map(Rule::any_call).collect();
        profile
            .start
            .retain(|rule| !allowed.contains(&rule.syscall));
        if profile.default == Otherwise::Refuse {
            // Nobody watches it, so nobody knows when its start is over.
            let start = std::mem::take(&mut profile.start);
            let bare: BTreeSet<String> = start.iter().filter_map(Rule::any_call).collect();
            profile.allow.retain(|rule| !bare.contains(&rule.syscall));
            profile.allow.extend(start);
        }
        profile
            .check(calls, operations)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(profile)
    }

    fn check(&self, calls: &Names, operations: &Names) -> Result<(), String> {
        check_comment("the profile", &self.about)?;
        for (list, rules) in [
            ("allow", &self.allow),
            ("tolerate", &self.tolerate),
            ("start", &self.start),
        ] {
            check_list(list, rules, calls)?;
        }
        for rule in self.allow.iter().chain(&self.start) {
            if rule.errno.is_some() {
                return Err(format!("{}: errno belongs to tolerate only", rule.syscall));
            }
        }
        for rule in &self.tolerate {
            // A tolerated call is answered before anything else is looked at.
            let elsewhere = self
                .allow
                .iter()
                .chain(&self.start)
                .any(|other| other.syscall == rule.syscall);
            if rule.args.is_empty() && elsewhere {
                return Err(format!(
                    "{}: tolerated, so the other rule is void",
                    rule.syscall
                ));
            }
        }
        for capability in &self.capabilities {
            check_comment(&capability.capability, &capability.comment)?;
        }
        if let Some(ring) = &self.ring {
            check_comment("the ring", &ring.comment)?;
            for operation in &ring.operations {
                check_comment(&operation.operation, &operation.comment)?;
                operations.number(&operation.operation)?;
            }
        }
        self.check_spawner()
    }

    /// The spawner itself makes a few calls below the filter, between its installation and exec.
    fn check_spawner(&self) -> Result<(), String> {
        let mut needed = vec!["sendmsg", "exit_group"];
        match self.default {
            Otherwise::Notify => {
                let execs =
                    |rule: &Rule| ["execve", "execveat", "seccomp"].contains(&&*rule.syscall);
                if self.allow.iter().chain(&self.start).any(execs) {
                    return Err("execveat is answered by the spawner, once, and never again".into());
                }
            }
            Otherwise::Refuse => {
                needed.push("execveat");
                if self.ring.is_some() {
                    return Err("a ring needs a supervisor: default notify".into());
                }
            }
        }
        for call in needed {
            if !self
                .allow
                .iter()
                .any(|rule| rule.syscall == call && rule.args.iter().all(Condition::lets_report))
            {
                return Err(format!(
                    "{call} must be allowed: the spawner uses it before exec"
                ));
            }
        }
        Ok(())
    }
}

fn parse<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn check_comment(what: &str, comment: &str) -> Result<(), String> {
    if comment.len() < COMMENT_BYTES_MIN {
        return Err(format!(
            "{what}: the comment must say who needs it, when, and why"
        ));
    }
    Ok(())
}

fn check_list(list: &str, rules: &[Rule], calls: &Names) -> Result<(), String> {
    let mut unconditional = BTreeSet::new();
    let mut conditional: BTreeMap<&str, Vec<&[Condition]>> = BTreeMap::new();
    for rule in rules {
        calls.number(&rule.syscall)?;
        check_comment(&format!("{list}: {}", rule.syscall), &rule.comment)?;
        for condition in &rule.args {
            if condition.index > 5 || condition.comment.is_empty() {
                return Err(format!("{list}: {}: a condition is wrong", rule.syscall));
            }
        }
        if rule.args.is_empty() {
            if !unconditional.insert(rule.syscall.as_str()) {
                return Err(format!("{list}: {} stands twice", rule.syscall));
            }
        } else {
            let others = conditional.entry(&rule.syscall).or_default();
            if others.contains(&rule.args.as_slice()) {
                return Err(format!("{list}: {} stands twice", rule.syscall));
            }
            others.push(&rule.args);
        }
    }
    // seccompiler drops the unconditional one of such a pair, silently.
    match conditional
        .keys()
        .find(|call| unconditional.contains(*call))
    {
        Some(call) => Err(format!("{list}: {call} stands with and without arguments")),
        None => Ok(()),
    }
}

/// Numbers and names, as the kernel's headers give them.
pub(crate) struct Names {
    by_name: BTreeMap<String, u32>,
}

impl Names {
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text =
            fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut by_name = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let wrong = || format!("{}: {line}", path.display());
            let (number, name) = line.split_once(' ').ok_or_else(wrong)?;
            by_name.insert(name.to_owned(), number.parse().map_err(|_| wrong())?);
        }
        Ok(Self { by_name })
    }

    pub(crate) fn number(&self, name: &str) -> Result<u32, String> {
        self.by_name
            .get(name)
            .copied()
            .ok_or_else(|| format!("{name}: no such name"))
    }

    /// Names in the order of their numbers, with an empty one where a number has none.
    pub(crate) fn ordered(&self) -> Vec<&str> {
        let count = self
            .by_name
            .values()
            .max()
            .map_or(0, |number| *number as usize + 1);
        let mut names = vec![""; count];
        for (name, number) in &self.by_name {
            if let Some(place) = names.get_mut(*number as usize) {
                *place = name;
            }
        }
        names
    }
}
