//! Manifests: any text is a manifest or an error with a line of it; a policy answers any question about any manifest.

use manifests::{BUILT_IN, Manifest, Policy};

pub(crate) fn run(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let manifest = match Manifest::parse("fuzz", text) {
        Ok(manifest) => manifest,
        Err(error) => {
            let lines = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
            assert!(error.line <= lines, "{error}, of {lines} lines");
            return false;
        }
    };
    if let Ok(policy) = Policy::parse([("fuzz", text)]) {
        for (from, to) in [(&*manifest.name, "network"), ("fuzz", &*manifest.name)] {
            let _ = policy.can(from, to);
        }
    }
    let own = [("service:fuzz".to_owned(), text.to_owned())];
    if let Ok(policy) = Policy::with_extra(&own) {
        let _ = policy.can(&manifest.name, "metadata");
        assert!(policy.get(&manifest.name).is_some());
    }
    true
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let own = include_str!("../../../services/hostile/example.toml");
    let built_in = BUILT_IN.iter().map(|(_, text)| *text);
    built_in.chain([own]).map(|text| text.into()).collect()
}
