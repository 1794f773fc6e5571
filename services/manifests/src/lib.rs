//! The manifests: what each process is given, calls and serves; and the policy that they are together.
//!
//! Pure: text in, a checked [`Policy`] out. The bus asks it before it connects two processes, the orchestrator before it packs one,
//! and `trousseau caps --can A B` answers from it without running anything.
#![forbid(unsafe_code)]

mod manifest;
mod policy;

pub use manifest::{
    Call, Dial, Grant, Kind, Limits, Manifest, ManifestError, Outside, Placement, Serve,
};
pub use policy::{BUILT_IN, ELSEWHERE, Policy, Reach, SERVICE_RANK_MIN, SETTING_PREFIX, STRANGER};
