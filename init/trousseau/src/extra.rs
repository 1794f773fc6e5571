//! The services of `--service`: their manifests, judged together with those that are built in before anything is started or written.

use manifests::{BUILT_IN, Manifest, Policy};
use std::path::{Path, PathBuf};

/// A service that is not built in.
pub(crate) struct Service {
    pub(crate) name: String,
    /// Where its manifest was read.
    pub(crate) file: String,
    /// The manifest's text.
    pub(crate) manifest: String,
    /// Its program.
    pub(crate) program: PathBuf,
}

/// Reads the manifests; gives them, and the policy that they are part of.
pub(crate) fn read(paths: &[PathBuf]) -> Result<(Vec<Service>, Policy), String> {
    if paths.len() > init::EXTRA_SERVICES_MAX {
        return Err(format!(
            "{} manifests by --service: at most {} fit",
            paths.len(),
            init::EXTRA_SERVICES_MAX
        ));
    }
    let services: Result<Vec<Service>, String> = paths.iter().map(|path| one(path)).collect();
    let services = services?;
    let texts = services
        .iter()
        .map(|service| service.file.len() + service.manifest.len());
    let bytes: usize = texts.sum();
    if bytes > init::EXTRA_MANIFESTS_BYTES_MAX {
        return Err(format!(
            "the manifests given by --service have {bytes} bytes: at most {} fit",
            init::EXTRA_MANIFESTS_BYTES_MAX
        ));
    }
    let extra = services
        .iter()
        .map(|service| (service.file.as_str(), service.manifest.as_str()));
    let policy = Policy::parse(BUILT_IN.iter().copied().chain(extra));
    let policy = policy.map_err(|error| error.to_string())?;
    Ok((services, policy))
}

fn one(path: &Path) -> Result<Service, String> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{file}: {error}"))?;
    let manifest = Manifest::parse(&file, &text).map_err(|error| error.to_string())?;
    let program = manifest
        .program
        .ok_or_else(|| format!("{file}: `program` is missing"))?;
    if sandbox_profiles::profile(&manifest.profile).is_none() {
        let known: Vec<&str> = sandbox_profiles::profiles()
            .map(|profile| profile.name)
            .collect();
        return Err(format!(
            "{file}: no profile {:?}; there are {}",
            manifest.profile,
            known.join(", ")
        ));
    }
    Ok(Service {
        name: manifest.name,
        program: path.parent().unwrap_or(Path::new(".")).join(program),
        file,
        manifest: text,
    })
}
