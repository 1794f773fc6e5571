//! The libFuzzer binary: `TARGET=name fuzz CORPUS… [-flags]`; with `SEEDS=directory` it writes the target's seeds there and ends.
//!
//! The choice is in the environment because the words of the command line are libFuzzer's.
#![no_main]

use fuzz::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::OnceLock;

static CHOSEN: OnceLock<Target> = OnceLock::new();

fuzz_target!(init: choose(), |bytes: &[u8]| {
    if let Some(target) = CHOSEN.get() {
        (target.run)(bytes);
    }
});

/// Before the first input: which target it is. Ends the process if there is none, or when the seeds are written.
fn choose() {
    let name = std::env::var("TARGET").unwrap_or_default();
    let Some(target) = TARGETS.into_iter().find(|target| target.name == name) else {
        let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("TARGET must be one of {}", known.join(", "));
        std::process::exit(2);
    };
    if let Some(directory) = std::env::var_os("SEEDS") {
        let seeds = (target.seeds)();
        for (number, seed) in seeds.iter().enumerate() {
            if let Err(error) = std::fs::write(Path::new(&directory).join(number.to_string()), seed)
            {
                eprintln!("{}: {error}", directory.display());
                std::process::exit(1);
            }
        }
        std::process::exit(0);
    }
    // The hook that libfuzzer-sys has set aborts at a panic; this only remembers the target.
    let _ = CHOSEN.set(target);
}
