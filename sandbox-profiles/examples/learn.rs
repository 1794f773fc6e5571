//! Sums up what a node built with the feature `learn` has reported: which rules no program needs,
//! and which are missing.
//!
//! ```sh
//! cargo build -p trousseau -p sandbox-profiles --features sandbox-profiles/learn
//! target/x86_64-unknown-linux-gnu/debug/trousseau up --json 2>node.log   # drive it, end it
//! strace -f -b execve -e raw=all -o calls -p $ORCHESTRATOR               # meanwhile, for a profile without a listener
//! cargo run -p sandbox-profiles --example learn orchestrator=calls <node.log
//! ```
//!
//! The name of a profile alone, `learn clock`, says that no such process ran there: its rules may be unused.
//!
//! Exit status 1 if a rule of any profile is missing or unused, so that a test run can end with it.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use sandbox_profiles::{Profile, Rule, profile, profiles};
use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
use std::process::ExitCode;

/// What the lines say of one profile.
#[derive(Default)]
struct Learned {
    /// List and number of each rule that matched a call.
    used: BTreeSet<(String, usize)>,
    /// Calls without a rule: name with telling arguments, and the phases in which they came.
    missing: BTreeMap<String, BTreeSet<String>>,
    /// Calls before Ready that steady rules allow are no reason to keep those rules.
    steady: BTreeSet<usize>,
}

fn main() -> ExitCode {
    let mut learned: BTreeMap<String, Learned> = BTreeMap::new();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        // A supervisor puts the time and the service's name before it.
        if let Some((_, facts)) = line.split_once("learned profile=") {
            note(&mut learned, facts);
        }
    }
    let mut absent = BTreeSet::new();
    for word in std::env::args().skip(1) {
        if profile(&word).is_some() {
            absent.insert(word);
        } else if let Err(why) = read_trace(&mut learned, &word) {
            eprintln!("{word}: {why}");
            return ExitCode::FAILURE;
        }
    }
    let mut complete = true;
    for profile in profiles().filter(|profile| !absent.contains(profile.name)) {
        let nothing = Learned::default();
        let one = learned.get(profile.name).unwrap_or(&nothing);
        complete &= sum_up(profile, one, &learned);
    }
    if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// `NAME phase=P list=L rule=N syscall=S argI=X…`
fn note(learned: &mut BTreeMap<String, Learned>, facts: &str) {
    let mut words = facts.split_whitespace();
    let Some(profile) = words.next() else { return };
    let learned = learned.entry(profile.to_owned()).or_default();
    let fields: BTreeMap<&str, &str> = words.clone().filter_map(|w| w.split_once('=')).collect();
    let field = |name: &str| fields.get(name).copied().unwrap_or_default();
    if field("list") == "none" {
        let call: Vec<&str> = words.skip(3).collect();
        let phases = learned.missing.entry(call.join(" ")).or_default();
        phases.insert(field("phase").to_owned());
    } else if let Ok(rule) = field("rule").parse() {
        learned.used.insert((field("list").to_owned(), rule));
        if field("phase") == "steady" && field("list") == "allow" {
            learned.steady.insert(rule);
        }
    }
}

/// `PROFILE=FILE`: what strace has seen of the process, and of its children before their exec.
fn read_trace(learned: &mut BTreeMap<String, Learned>, word: &str) -> Result<(), String> {
    let (name, file) = word.split_once('=').ok_or("not PROFILE=FILE")?;
    let profile = profile(name).ok_or("no such profile")?;
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let learned = learned.entry(name.to_owned()).or_default();
    for line in text.lines() {
        // `PID name(0x1, 0x2) = 0x3`; what is resumed, was seen when it began.
        let call = line.split_once(' ').map_or(line, |(_, call)| call.trim());
        let Some((name, rest)) = call.split_once('(') else {
            continue;
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            continue;
        }
        let end = rest.find([')', '<']).unwrap_or(rest.len());
        let words = rest
            .get(..end)
            .unwrap_or_default()
            .split(',')
            .map(str::trim);
        let mut args = [0; 6];
        for (arg, word) in args.iter_mut().zip(words) {
            let digits = word.strip_prefix("0x").unwrap_or(word);
            *arg = u64::from_str_radix(digits, 16).unwrap_or_default();
        }
        let find = |rules: &[Rule]| {
            rules
                .iter()
                .position(|rule| rule.syscall == name && rule.matches(rule.number, &args))
        };
        if let Some(rule) = find(profile.tolerate) {
            learned.used.insert(("tolerate".to_owned(), rule));
        } else if let Some(rule) = find(profile.allow) {
            learned.used.insert(("allow".to_owned(), rule));
            learned.steady.insert(rule);
        } else {
            let [a, b, c, ..] = args;
            let call = format!("syscall={name} arg0={a:#x} arg1={b:#x} arg2={c:#x}");
            let phases = learned.missing.entry(call).or_default();
            phases.insert("steady".to_owned());
        }
    }
    Ok(())
}

/// Prints the difference between a profile and what was learned; false if there is one.
fn sum_up(profile: &Profile, learned: &Learned, all: &BTreeMap<String, Learned>) -> bool {
    println!("{}:", profile.name);
    let mut complete = learned.missing.is_empty();
    for (call, phases) in &learned.missing {
        let list = if phases.contains("steady") {
            "allow"
        } else {
            "start"
        };
        println!("  missing in {list}: {call}");
    }
    for (list, rules) in lists(profile) {
        for (index, rule) in rules.iter().enumerate() {
            if !learned.used.contains(&(list.to_owned(), index)) {
                if !rule.elsewhere && !needed_by_another(rule, all) {
                    println!("  nothing needs in {list}: {}", describe(rule));
                    complete = false;
                }
            } else if list == "allow" && rule.include.is_empty() && !learned.steady.contains(&index)
            {
                println!(
                    "  only before Ready, could move to start: {}",
                    describe(rule)
                );
            }
        }
    }
    println!("  {} rules used\n", learned.used.len());
    complete
}

fn lists(profile: &Profile) -> [(&'static str, &'static [Rule]); 3] {
    [
        ("allow", profile.allow),
        ("start", profile.start),
        ("tolerate", profile.tolerate),
    ]
}

/// A rule that several profiles include is needed if one of them needs it, in whichever list it stands there.
fn needed_by_another(rule: &Rule, all: &BTreeMap<String, Learned>) -> bool {
    let uses = |profile: &Profile| {
        let Some(learned) = all.get(profile.name) else {
            return false;
        };
        lists(profile).into_iter().any(|(list, rules)| {
            rules.iter().enumerate().any(|(index, other)| {
                other.include == rule.include
                    && describe(other) == describe(rule)
                    && learned.used.contains(&(list.to_owned(), index))
            })
        })
    };
    !rule.include.is_empty() && profiles().any(uses)
}

fn describe(rule: &Rule) -> String {
    let arguments: Vec<&str> = rule.args.iter().map(|one| one.meaning).collect();
    format!("{} ({})", rule.syscall, arguments.join("; "))
}
