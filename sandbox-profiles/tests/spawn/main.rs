//! Starts real processes under real profiles, as root and as an ordinary user.
//!
//! Has a main of its own: started under a payload's name it is that payload (`payload.rs`);
//! otherwise it runs the cases, and when it is root, once more inside the user namespace of an
//! ordinary user, which is how `trousseau up` looks to somebody who is not root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test"
)]
#![allow(clippy::indexing_slicing, reason = "a failed test may panic")]

mod cases;
mod payload;
mod supervisor;

use std::path::Path;
use std::process::{Command, ExitCode};

/// The user and group of the second run.
const NOBODY: u32 = 65534;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(run) = payload::find(&arguments[0]) {
        run();
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--supervise") {
        cases::supervise_until_killed();
    }
    let only = arguments
        .iter()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let mut failed = run_cases(only);
    let inside = arguments.iter().any(|argument| argument == "--inside");
    if rustix::process::getuid().is_root() && !inside {
        failed |= !run_as_ordinary_user(only);
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn run_cases(only: Option<&String>) -> bool {
    let mut failed = false;
    for (name, case) in cases::ALL {
        if only.is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        // The panic message has been printed by then.
        let passed = std::panic::catch_unwind(case).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed |= !passed;
    }
    failed
}

/// Runs this program again as the launcher's child of an ordinary user: uid 0 of a user namespace
/// in which there is no other user, with PID and mount namespaces.
fn run_as_ordinary_user(only: Option<&String>) -> bool {
    for tool in ["/usr/bin/setpriv", "/usr/bin/unshare"] {
        if !Path::new(tool).exists() {
            println!("test as an ordinary user ... left out: there is no {tool}");
            return true;
        }
    }
    // The build directory need not be open to other users.
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("spawn");
    std::fs::copy("/proc/self/exe", &program).unwrap();
    for path in [directory.path(), &program] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    println!("as an ordinary user:");
    let mut command = Command::new("setpriv");
    command.args([
        &format!("--reuid={NOBODY}"),
        &format!("--regid={NOBODY}"),
        "--clear-groups",
    ]);
    command.args([
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "--pid",
        "--fork",
    ]);
    command
        .args(["--mount-proc", "--kill-child"])
        .arg(&program)
        .arg("--inside")
        .args(only);
    command.current_dir("/").status().unwrap().success()
}
