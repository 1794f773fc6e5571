//! A profile that is not well formed stops the build: one tiny wrong file for each rule.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic")]

// The build script's own module.
#[allow(dead_code, reason = "the test needs the checks only")]
#[path = "../build/format.rs"]
mod format;

use format::{Names, Profile};
use std::fs;
use std::path::Path;

/// What the spawner needs in every profile.
const NEEDED: &str = r#"
    { "syscall": "sendmsg", "comment": "the spawner's report" },
    { "syscall": "exit_group", "comment": "the end of a child" }"#;

fn read(json: &str) -> Result<Profile, String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let calls = Names::read(&here.join("syscalls/x86_64.txt")).unwrap();
    let operations = Names::read(&here.join("syscalls/io_uring.txt")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wrong.json");
    fs::write(&path, json).unwrap();
    Profile::read(&path, &here.join("includes"), &calls, &operations)
}

/// A profile with these rules behind the needed ones, and these further fields.
fn with(rules: &str, fields: &str) -> String {
    format!(
        r#"{{ "about": "a profile for a test", "default": "notify",
             "allow": [{NEEDED}{rules}]{fields} }}"#
    )
}

#[track_caller]
fn check(json: &str, expected: &str) {
    match read(json) {
        Ok(_) => panic!("accepted: {json}"),
        Err(error) => assert!(error.contains(expected), "{error}"),
    }
}

#[test]
fn the_smallest_profile_is_accepted() {
    let profile = read(&with("", "")).unwrap();
    assert_eq!((profile.name.as_str(), profile.allow.len()), ("wrong", 2));
}

#[test]
fn every_rule_has_a_comment_that_says_something() {
    check(
        &with(r#", { "syscall": "read" }"#, ""),
        "missing field `comment`",
    );
    check(
        &with(r#", { "syscall": "read", "comment": "needed" }"#, ""),
        "the comment must say",
    );
    let condition = r#"{ "index": 0, "type": "dword", "op": "eq", "val": 1, "comment": "" }"#;
    let rule = format!(
        r#", {{ "syscall": "read", "args": [{condition}], "comment": "somebody reads it" }}"#
    );
    check(&with(&rule, ""), "a condition is wrong");
}

#[test]
fn names_are_known() {
    let rule = r#", { "syscall": "raed", "comment": "somebody reads it" }"#;
    check(&with(rule, ""), "raed: no such name");
    check(&with("", r#", "alow": []"#), "unknown field `alow`");
    let ring = r#", "ring": { "rings_max": 1, "entries_max": 8, "comment": "for everything it does",
        "operations": [{ "operation": "RAED", "comment": "somebody reads it" }] }"#;
    check(&with("", ring), "RAED: no such name");
}

#[test]
fn rules_do_not_repeat_or_hide_each_other() {
    let read = r#"{ "syscall": "read", "comment": "somebody reads it" }"#;
    let narrow = r#"{ "syscall": "read", "comment": "somebody reads it",
        "args": [{ "index": 0, "type": "dword", "op": "eq", "val": 3, "comment": "the channel" }] }"#;
    check(&with(&format!(", {read}, {read}"), ""), "read stands twice");
    check(
        &with(&format!(", {narrow}, {narrow}"), ""),
        "read stands twice",
    );
    check(
        &with(&format!(", {read}, {narrow}"), ""),
        "with and without arguments",
    );
    let tolerate = format!(r#", "tolerate": [{read}]"#);
    check(
        &with(&format!(", {read}"), &tolerate),
        "tolerated, so the other rule is void",
    );
}

#[test]
fn an_argument_has_one_of_six_places() {
    let rule = r#", { "syscall": "read", "comment": "somebody reads it",
        "args": [{ "index": 6, "type": "dword", "op": "eq", "val": 3, "comment": "the channel" }] }"#;
    check(&with(rule, ""), "a condition is wrong");
}

#[test]
fn errno_belongs_to_tolerate() {
    let rule = r#", { "syscall": "read", "errno": "EPERM", "comment": "somebody reads it" }"#;
    check(&with(rule, ""), "errno belongs to tolerate only");
}

#[test]
fn exec_is_the_spawners() {
    let rule = r#", { "syscall": "execveat", "comment": "it wants to be another program" }"#;
    check(&with(rule, ""), "execveat is answered by the spawner");
    let empty = r#"{ "about": "a profile for a test", "default": "notify" }"#;
    check(empty, "sendmsg must be allowed");
    let refuse = with("", "").replace("notify", "refuse");
    check(&refuse, "execveat must be allowed");
}
