//! The Landlock ruleset around a root: a second wall, should something reach past the mount.

use crate::error::{Error, Missing, MissingSet};
use crate::spawn::Root;
use crate::sys;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope,
};
use std::os::fd::OwnedFd;

/// The newest Landlock whose rights have been tried with this code.
const TRIED: ABI = ABI::V6;
const NETWORK_SINCE: u32 = 4;
const SCOPE_SINCE: u32 = 6;

/// The ruleset for a process with this root, and what this kernel's Landlock cannot do.
///
/// `confined_network`: the process has the empty network namespace, so TCP is refused too.
/// None for an inherited root, around which there is no wall to draw.
pub(crate) fn ruleset(
    root: &Root<'_>,
    confined_network: bool,
    missing: &mut MissingSet,
) -> Result<Option<OwnedFd>, Error> {
    if matches!(root, Root::Inherit) {
        return Ok(None);
    }
    let version = sys::landlock::version();
    if version == 0 {
        missing.insert(Missing::Landlock);
        return Ok(None);
    }
    if version < NETWORK_SINCE && confined_network {
        missing.insert(Missing::LandlockNetwork);
    }
    if version < SCOPE_SINCE {
        missing.insert(Missing::LandlockScope);
    }

    let wrong = |error: landlock::RulesetError| Error::Ruleset(error.to_string());
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(TRIED))
        .map_err(wrong)?
        .scope(Scope::from_all(TRIED))
        .map_err(wrong)?;
    if confined_network {
        ruleset = ruleset
            .handle_access(AccessNet::from_all(TRIED))
            .map_err(wrong)?;
    }
    let mut ruleset = ruleset.create().map_err(wrong)?;
    if let Root::Directory(directory) = root {
        let mut rights = files_and_directories();
        if !confined_network {
            // Whoever makes the node's sockets also makes the one that has a name.
            rights |= AccessFs::MakeSock;
        }
        ruleset = ruleset
            .add_rule(PathBeneath::new(directory, rights))
            .map_err(wrong)?;
    }
    Ok(ruleset.into())
}

/// What a service does in its data directory. Not among it: programs, devices, sockets, pipes and
/// symbolic links.
fn files_and_directories() -> BitFlags<AccessFs> {
    AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}
