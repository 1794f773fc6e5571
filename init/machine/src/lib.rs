//! What init does where it is PID 1 of a machine: its configuration, disk, mounts, power button, watchdog and console.
#![forbid(unsafe_code)]

pub mod layout;
pub mod node_toml;
