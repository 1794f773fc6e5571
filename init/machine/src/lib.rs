//! What init does where it is PID 1 of a machine: its configuration, disk, mounts, power button, watchdog and console.
#![deny(unsafe_code)]

pub mod boot;
mod console;
mod disk;
mod error;
mod ext4;
pub mod guests;
pub mod layout;
pub mod node_toml;
mod power;
mod sys;
mod table;
mod watchdog;
pub mod webhooks;

pub use boot::{End, Machine, since_boot};
pub use console::Console;
pub use error::Error;
pub use power::Buttons;
pub use watchdog::Watchdog;
pub use webhooks::Webhooks;
