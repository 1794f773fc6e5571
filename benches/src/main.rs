//! benches: what an S3 operation costs, measured from outside: CPU time and memory of the whole
//! node.
//!
//! Starts `trousseau up` on a directory of its own (or attaches to a running server), drives it
//! over loopback with signed requests, and counts the CPU time of every process of the node. See
//! `--help`.

#![deny(unsafe_code)]
#![allow(
    clippy::print_stdout,
    reason = "a program that prints its measurements"
)]

mod client;
mod crowd;
mod error;
mod floors;
mod geo;
mod load;
mod nginx;
mod node;
mod objects;
mod options;
mod report;
mod tree;
mod visitors;

use error::Error;
use options::{Mode, Options, Subject};
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("benches: {error}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benches: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts or finds the node, drives it, prints the report, stops what was started.
fn run(options: &Options) -> Result<(), Error> {
    if let (Mode::Geo, Subject::Binary(binary)) = (options.mode, &options.subject) {
        println!("{}", geo::run(options, binary)?);
        return Ok(());
    }
    let mut node = node::Node::start_or_attach(options)?;
    let special = match options.mode {
        // The zones were measured above.
        Mode::Operations | Mode::Geo => None,
        Mode::Objects(count) => Some(objects::run(options, &mut node, count)),
        Mode::Crowd { idle, slow } => Some(crowd::run(&node, idle, slow)),
        Mode::Floors => Some(floors::run(options, &node)),
        Mode::Visitors(count) => Some(visitors::run(options, &node, count)),
    };
    if let Some(report) = special {
        let stopped = node.stop();
        println!("{}", report?);
        return stopped;
    }
    let measured = load::run(options, node.target(), node.root_pid());
    let stopped = node.stop();
    let measured = measured?;
    if options.json {
        println!("{}", report::json(options, &measured));
    } else {
        println!("{}", report::markdown(options, &measured));
    }
    // What was measured is worth showing even when the node then does not stop.
    stopped
}
