//! The program `trousseau`: the table of roles, and the command line.
//!
//! A supervisor executes it with the role as its only argument (`block-store`, `bus`, …); the kernel of a machine as `/init`; a person with words
//! behind its name.

mod ask;
mod boot;
mod extra;
mod image;
mod nodes;
mod sys;
mod up;
mod words;

use runtime::Given;
use std::process::ExitCode;

/// A role: everything that it may do comes in [`Given`].
type Role = fn(Given) -> Result<(), Box<dyn std::error::Error>>;

/// The name by which a supervisor executes each role.
const ROLES: &[(&str, Role)] = &[
    ("membership", |given| Ok(membership::run(given)?)),
    ("bus", |given| Ok(bus::run(given)?)),
    ("orchestrator", |given| Ok(orchestrator::run(given)?)),
    ("block-store", |given| Ok(block_store::run(given)?)),
    ("metadata", |given| Ok(metadata::run(given)?)),
    ("s3-frontend", |given| Ok(s3_frontend::run(given)?)),
    ("web", |given| Ok(web::run(given)?)),
    ("notifier", |given| Ok(notifier::run(given)?)),
    ("relay", |given| Ok(relay::run(given)?)),
    ("console", |given| Ok(console::run(given)?)),
    ("debug-ssh", |given| Ok(debug_ssh::run(given)?)),
    ("network", |given| Ok(network::run(given)?)),
    ("clock", |given| Ok(clock::run(given)?)),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    // The name is looked at first: a role may not even ask for its number.
    match name.as_str() {
        machine::boot::FIRST_STAGE if is_first_process() => boot::first_stage(),
        machine::boot::SECOND_STAGE if is_first_process() => {
            boot::second_stage(arguments.next().as_deref())
        }
        _ => {}
    }
    match ROLES.iter().find(|(role, _)| *role == name) {
        Some((role, run)) => play(role, *run),
        None => words::obey(arguments.collect()),
    }
}

fn is_first_process() -> bool {
    rustix::process::getpid().is_init()
}

/// Plays a role until its supervisor ends it. What goes wrong is the log's last line; the supervisor decides what comes next.
fn play(role: &str, run: Role) -> ExitCode {
    runtime::log::end_on_panic();
    // exec names a process after its file, which is a memory file here.
    let _ = rustix::thread::set_name(&std::ffi::CString::new(role).unwrap_or_default());
    match Given::receive().map_err(Into::into).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            runtime::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
