//! Compiles `*.json`, the profiles beside this file, to BPF and to the tables that the crate reads.
//!
//! A profile that is not well formed stops the build, with the file and the rule in the message.

#[path = "build/compile.rs"]
mod compile;
#[path = "build/emit.rs"]
mod emit;
#[path = "build/format.rs"]
mod format;

use format::{Names, Profile};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    if let Err(message) = generate() {
        // Cargo shows what a build script writes to standard error when it fails.
        eprintln!("sandbox-profiles: {message}");
        std::process::exit(1);
    }
}

fn generate() -> Result<(), String> {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let target = PathBuf::from(variable("OUT_DIR")?);
    if variable("CARGO_CFG_TARGET_ARCH")? != "x86_64" {
        return Err("profiles exist for x86_64 only: system calls have other numbers".into());
    }

    let calls = Names::read(&here.join("syscalls/x86_64.txt"))?;
    let operations = Names::read(&here.join("syscalls/io_uring.txt"))?;
    let mut profiles = BTreeMap::new();
    for path in json_files(&here)? {
        let profile = Profile::read(&path, &here.join("includes"), &calls, &operations)?;
        profiles.insert(profile.name.clone(), profile);
    }
    let mut source = emit::call_table(&calls);
    source += &emit::profiles(&profiles, &calls, &operations)?;
    fs::write(target.join("profiles.rs"), source).map_err(|error| error.to_string())
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}

fn json_files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(directory).map_err(|error| error.to_string())?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
