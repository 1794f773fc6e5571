//! Sandbox profiles as data, and the spawner that puts a process into its sandbox.
//!
//! A profile is a JSON file in this crate's directory; `build.rs` compiles it to BPF. [`spawn`]
//! starts a program under one: namespaces, root, user, Landlock, capabilities, limits and filter
//! stand before the first instruction of the program. [`Watch`] is the supervisor's side of the
//! filter: it lets start-up calls through until the program is ready, makes its io_uring ring, and
//! names the call of a violation.
//!
//! Invariants: no descriptor of the supervisor reaches a child but the four it was given; a child
//! executes one program, once; whatever the host could not give is in [`Child::missing`]; no
//! profile is read at run time.

#![deny(unsafe_code)] // Except in `sys`.

mod child;
mod error;
#[cfg(test)]
mod evaluate;
#[cfg(feature = "learn")]
mod learn;
mod profile;
mod program;
mod report;
mod ring;
mod spawn;
mod sys;
mod walls;
mod watch;

#[cfg(all(feature = "learn", not(debug_assertions)))]
compile_error!("the feature `learn` lets every call through: it has no place in a release build");

pub use error::{Error, Missing, Step};
pub use profile::{
    Capability, Comparison, Condition, Operation, Otherwise, Profile, Ring, Rule, profile,
    profiles, syscall_name,
};
pub use program::program;
pub use spawn::{Child, Limits, Root, Spawn, empty_network, spawn};
pub use watch::{Verdict, Watch};
