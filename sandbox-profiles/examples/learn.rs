//! Sums up what a node built with the feature `learn` has reported: which rules no program needs,
//! and which are missing.
//!
//! ```sh
//! cargo build -p trousseau -p sandbox-profiles --features sandbox-profiles/learn
//! target/x86_64-unknown-linux-gnu/debug/trousseau up --json 2>node.log   # drive it, end it
//! cargo run -p sandbox-profiles --example learn <node.log
//! ```
//!
//! Exit status 1 if a rule is missing or unused, so that a test run can end with it.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use sandbox_profiles::{Profile, Rule, profiles};
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
    let mut complete = true;
    for profile in profiles() {
        match learned.get(profile.name) {
            Some(one) => complete &= sum_up(profile, one, &learned),
            None => println!("{}: nothing learned\n", profile.name),
        }
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
                if !rule.elsewhere && !needed_by_another(list, rule, all) {
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

/// A rule that several profiles include is needed if one of them needs it.
fn needed_by_another(list: &str, rule: &Rule, all: &BTreeMap<String, Learned>) -> bool {
    let uses = |profile: &Profile| {
        let Some(learned) = all.get(profile.name) else {
            return false;
        };
        let rules = lists(profile).into_iter().filter(|(name, _)| *name == list);
        rules
            .flat_map(|(_, rules)| rules.iter().enumerate())
            .any(|(index, other)| {
                other.include == rule.include
                    && describe(other) == describe(rule)
                    && learned.used.contains(&(list.to_owned(), index))
            })
    };
    !rule.include.is_empty() && profiles().any(uses)
}

fn describe(rule: &Rule) -> String {
    let arguments: Vec<&str> = rule.args.iter().map(|one| one.meaning).collect();
    format!("{} ({})", rule.syscall, arguments.join("; "))
}
